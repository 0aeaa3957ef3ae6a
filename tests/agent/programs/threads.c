/* Threads with TLS, FPU and AVX state, a robust mutex, names and clear_child_tid, that judge themselves after a takeover. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 6 };
static const char *go;
static __thread uint64_t own;
static volatile int failed;
static pthread_mutex_t robust;
static pthread_barrier_t ready;

static void fail(const char *what) {
    dprintf(1, "FAIL %s errno %d\n", what, errno);
    failed = 1;
}

static int taken_over(void) { return access(go, F_OK) == 0; }

static void *work(void *argument) {
    uint64_t number = (uint64_t)argument, seed = number * 0x9e3779b97f4a7c15u;
    pid_t tid = gettid();
    char name[16];
    snprintf(name, sizeof name, "worker-%d", (int)number);
    pthread_setname_np(pthread_self(), name);
    own = seed;
    double x = 1.0 + number, expected = x;
    /* values that live in vector registers over the takeover */
    uint64_t vector[4] = {seed, ~seed, seed ^ 0x5555, number}, after[4];
    if (__builtin_cpu_supports("avx"))
        __asm__ volatile("vmovdqu %0, %%ymm9" ::"m"(*(char(*)[32])vector) : "xmm9");
    pthread_barrier_wait(&ready);
    if (number == 1) {
        /* spins: no system call at all */
        while (!*(volatile int *)&failed) {
            static volatile int count;
            if (++count % 1000 == 0 && syscall(SYS_access, go, F_OK) == 0) break;
        }
    } else {
        while (syscall(SYS_access, go, F_OK)) {
            if (number % 2) { __asm__ volatile("pause"); continue; }
            struct timespec pause = {0, 2000000};
            syscall(SYS_nanosleep, &pause, NULL);
        }
    }
    if (__builtin_cpu_supports("avx")) {
        __asm__ volatile("vmovdqu %%ymm9, %0" : "=m"(*(char(*)[32])after));
        if (memcmp(vector, after, 32)) fail("vector registers");
    }
    for (int i = 0; i < 1000; i++) x = x * 1.0000001;
    for (int i = 0; i < 1000; i++) expected = expected * 1.0000001;
    if (x != expected) fail("floating point");
    if (own != seed) fail("thread-local storage");
    if (gettid() != tid || syscall(SYS_gettid) != tid) fail("tid");
    char now[16] = "";
    pthread_getname_np(pthread_self(), now, sizeof now);
    if (strcmp(now, name)) fail("name");
    if (sched_getcpu() < 0) fail("getcpu");
    if (number == 2 && pthread_mutex_lock(&robust)) fail("robust lock");
    return (void *)seed; /* number 2 dies with the mutex held */
}

int main(int argc, char **argv) {
    go = argv[1];
    pthread_mutexattr_t attribute;
    pthread_mutexattr_init(&attribute);
    pthread_mutexattr_setrobust(&attribute, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&robust, &attribute);
    pthread_barrier_init(&ready, NULL, THREADS + 1);
    pthread_t threads[THREADS];
    for (uint64_t i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, work, (void *)i)) fail("create");
    pthread_barrier_wait(&ready);
    dprintf(1, "ready %d\n", getpid());
    while (!taken_over()) usleep(2000);
    /* ids: pthread_kill uses the recorded tid */
    if (pthread_kill(threads[3], 0) && errno != ESRCH) fail("pthread_kill");
    for (uint64_t i = 0; i < THREADS; i++) {
        void *result; /* join waits for the kernel to clear the tid */
        if (pthread_join(threads[i], &result) || (uint64_t)result != i * 0x9e3779b97f4a7c15u) fail("join");
    }
    if (pthread_mutex_lock(&robust) != EOWNERDEAD) fail("robust mutex");
    if (pthread_mutex_consistent(&robust)) fail("consistent");
    pthread_barrier_destroy(&ready);
    pthread_barrier_init(&ready, NULL, 1);
    pthread_t more;
    void *result;
    if (pthread_create(&more, NULL, work, (void *)7) || pthread_join(more, &result)) fail("new thread");
    void *heap = malloc(50 << 20), *brk = sbrk(1 << 20);
    if (!heap || brk == (void *)-1) fail("memory");
    memset(heap, 1, 50 << 20);
    dprintf(1, failed ? "FAIL\n" : "PASS\n");
    return failed ? 1 : 7;
}
