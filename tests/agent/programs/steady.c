/* Two threads, one that computes a chain of numbers in registers and one that calls the kernel all the time; any disturbance of registers, memory or results makes them wrong. Prints "ROUNDS WRONG" after SIGUSR1. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { STEPS = 20000 };

static volatile int over;
static volatile long rounds, wrong;
static double scale = 1.0;

static unsigned long chain(unsigned long x, double *real) {
    double y = 0;
    for (int i = 0; i < STEPS; i++) {
        x = x * 6364136223846793005UL + 1442695040888963407UL;
        y += (x >> 40) * scale;
    }
    *real = y;
    return x;
}

static void *call(void *argument) {
    (void)argument;
    pid_t self = getpid();
    struct timespec moment = {0, 100000};
    while (!over) {
        if (syscall(SYS_getpid) != self) wrong++;
        if (syscall(SYS_nanosleep, &moment, NULL) != 0) wrong++;
    }
    return NULL;
}

int main(void) {
    pthread_t caller;
    sigset_t set;
    double real, expected_real;
    unsigned long expected = chain(1, &expected_real);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    pthread_create(&caller, NULL, call, NULL);
    puts("ready");
    fflush(stdout);
    struct timespec none = {0, 0};
    while (sigtimedwait(&set, NULL, &none) < 0) {
        if (chain(1, &real) != expected || real != expected_real) wrong++;
        rounds++;
    }
    over = 1;
    pthread_join(caller, NULL);
    printf("%ld %ld\n", rounds, wrong);
    return 0;
}
