/* Event counters: a count beyond 32 bits, a semaphore, a thread blocked in read, a duplicate. */
#include "victim.h"

#include <sys/eventfd.h>

static int blocked;

static void *reader(void *argument) {
    uint64_t value;
    (void)argument;
    must(read(blocked, &value, sizeof value) == sizeof value && value == 5);
    return NULL;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    uint64_t large = (1ull << 40) + 3, value;
    int counter = eventfd(0, EFD_NONBLOCK), semaphore = eventfd(2, EFD_SEMAPHORE | EFD_CLOEXEC), twin = dup(counter);
    must(write(counter, &large, sizeof large) == sizeof large);
    must((blocked = eventfd(0, 0)) >= 0);
    pthread_t thread;
    must(pthread_create(&thread, NULL, reader, NULL) == 0);
    await_verdict();
    must(read(twin, &value, sizeof value) == sizeof value && value == large);
    must(read(counter, &value, sizeof value) == -1 && errno == EAGAIN);
    must(read(semaphore, &value, sizeof value) == sizeof value && value == 1);
    must(read(semaphore, &value, sizeof value) == sizeof value && value == 1);
    must(is_cloexec(semaphore) && !(flags_of(semaphore) & O_NONBLOCK));
    value = 5;
    must(write(blocked, &value, sizeof value) == sizeof value && pthread_join(thread, NULL) == 0);
    pass();
}
