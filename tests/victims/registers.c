/* Registers: threads that keep values in all general and vector registers, the rounding mode and the segment base, and
 * compute without system calls. */
#include "victim.h"

#include <fenv.h>
#include <immintrin.h>
#include <math.h>

static volatile int stop;
static __thread uint64_t own = 5;

/* Holds values in registers until `stop`; gives whether all are still there. */
static int hold(uint64_t seed) {
    uint64_t good, vector[8], after[8] = {0};
    for (int i = 0; i < 8; i++) vector[i] = seed * (i + 1);
    __asm__ volatile(
        "movdqu (%[vector]), %%xmm8\n movdqu 16(%[vector]), %%xmm15\n"
        "mov %[seed], %%rbx\n mov %[seed], %%r12\n not %%r12\n mov %[seed], %%r13\n add $3, %%r13\n"
        "mov %[seed], %%r14\n xor $0x55, %%r14\n mov %[seed], %%r8\n neg %%r8\n mov %[seed], %%r9\n inc %%r9\n"
        "fldpi\n"
        "1: cmpl $0, %[stop]\n je 1b\n"
        "movdqu %%xmm8, (%[after])\n movdqu %%xmm15, 16(%[after])\n"
        "mov $0, %[good]\n"
        "cmp %[seed], %%rbx\n jne 2f\n not %%r12\n cmp %[seed], %%r12\n jne 2f\n sub $3, %%r13\n cmp %[seed], %%r13\n"
        "jne 2f\n xor $0x55, %%r14\n cmp %[seed], %%r14\n jne 2f\n neg %%r8\n cmp %[seed], %%r8\n jne 2f\n"
        "dec %%r9\n cmp %[seed], %%r9\n jne 2f\n"
        "fldpi\n fcomip %%st(1), %%st\n jne 2f\n mov $1, %[good]\n 2: fstp %%st(0)\n"
        : [good] "=&r"(good)
        : [seed] "r"(seed), [vector] "r"(vector), [after] "r"(after), [stop] "m"(stop)
        : "rbx", "r8", "r9", "r12", "r13", "r14", "xmm8", "xmm15", "st", "cc", "memory");
    return good && memcmp(vector, after, 32) == 0;
}

static void *holder(void *argument) {
    own = (uint64_t)argument * 1000;
    must(hold((uint64_t)argument * 0x9e3779b97f4a7c15));
    must(own == (uint64_t)argument * 1000);
    return NULL;
}

static void *rounder(void *argument) {
    volatile double one = 1, three = 3;
    must(fesetround((intptr_t)argument) == 0);
    unsigned control = _mm_getcsr();
    double expected = one / three;
    while (!stop) must(one / three == expected);
    must(fegetround() == (intptr_t)argument && (_mm_getcsr() & ~0x3Fu) == (control & ~0x3Fu));
    return NULL;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    pthread_t threads[4];
    must(pthread_create(&threads[0], NULL, holder, (void *)7) == 0);
    must(pthread_create(&threads[1], NULL, holder, (void *)8) == 0);
    must(pthread_create(&threads[2], NULL, rounder, (void *)(intptr_t)FE_UPWARD) == 0);
    must(pthread_create(&threads[3], NULL, rounder, (void *)(intptr_t)FE_TOWARDZERO) == 0);
    await_verdict();
    stop = 1;
    for (int i = 0; i < 4; i++) must(pthread_join(threads[i], NULL) == 0);
    must(own == 5 && fegetround() == FE_TONEAREST);
    pass();
}
