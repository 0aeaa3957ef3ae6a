/* Robust mutexes: held over the takeover, by a thread that dies afterwards, and by one that died before; a priority-
 * inheriting one, whose owner the kernel knows by its tid. */
#include "victim.h"

static pthread_mutex_t by_main, by_thread, orphaned, inheriting;
static volatile int locked;

static void make(pthread_mutex_t *mutex, int robust, int protocol) {
    pthread_mutexattr_t attribute;
    must(pthread_mutexattr_init(&attribute) == 0 && pthread_mutexattr_setrobust(&attribute, robust) == 0);
    must(pthread_mutexattr_setprotocol(&attribute, protocol) == 0 && pthread_mutex_init(mutex, &attribute) == 0);
}

static void *dies_before(void *argument) {
    must(pthread_mutex_lock(&orphaned) == 0);
    return argument;
}

static void *dies_after(void *argument) {
    must(pthread_mutex_lock(&by_thread) == 0);
    locked = 1;
    while (!told()) nap(3);
    return argument;
}

static void *waits(void *argument) {
    must(pthread_mutex_lock(&inheriting) == 0 && pthread_mutex_unlock(&inheriting) == 0);
    must(pthread_mutex_lock(&by_main) == 0 && pthread_mutex_unlock(&by_main) == 0);
    return argument;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    make(&by_main, PTHREAD_MUTEX_ROBUST, PTHREAD_PRIO_NONE);
    make(&by_thread, PTHREAD_MUTEX_ROBUST, PTHREAD_PRIO_NONE);
    make(&orphaned, PTHREAD_MUTEX_ROBUST, PTHREAD_PRIO_NONE);
    make(&inheriting, PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_INHERIT);
    pthread_t first, second, third;
    must(pthread_create(&first, NULL, dies_before, NULL) == 0 && pthread_join(first, NULL) == 0);
    must(pthread_mutex_lock(&by_main) == 0 && pthread_mutex_lock(&inheriting) == 0);
    must(pthread_create(&second, NULL, dies_after, NULL) == 0);
    while (!locked) nap(1);
    await_verdict();
    must(pthread_join(second, NULL) == 0);
    must(pthread_mutex_lock(&by_thread) == EOWNERDEAD && pthread_mutex_consistent(&by_thread) == 0);
    must(pthread_mutex_lock(&orphaned) == EOWNERDEAD && pthread_mutex_consistent(&orphaned) == 0);
    must(pthread_create(&third, NULL, waits, NULL) == 0);
    nap(20);
    must(pthread_mutex_unlock(&inheriting) == 0 && pthread_mutex_unlock(&by_main) == 0);
    must(pthread_join(third, NULL) == 0);
    pass();
}
