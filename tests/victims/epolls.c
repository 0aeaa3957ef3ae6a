/* epoll: level- and edge-triggered, one-shot, nested, data, an entry under a number that was closed or is used again,
 * a thread that waits. */
#include "victim.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>

static int waited;

static void *waiter(void *argument) {
    struct epoll_event event;
    (void)argument;
    must(epoll_wait(waited, &event, 1, -1) == 1 && event.data.u64 == 77);
    return NULL;
}

static void add(int epoll, int number, uint32_t events, uint64_t data) {
    struct epoll_event event = {.events = events, .data.u64 = data};
    must(epoll_ctl(epoll, EPOLL_CTL_ADD, number, &event) == 0);
}

/* How many events there are, and whether one of them carries `data`. */
static int look(int epoll, uint64_t data, int *found) {
    struct epoll_event events[16];
    int count = epoll_wait(epoll, events, 16, 0);
    *found = 0;
    for (int i = 0; i < count; i++) *found |= events[i].data.u64 == data;
    return count;
}

static void put(int number) {
    uint64_t one = 1;
    must(write(number, &one, sizeof one) == sizeof one);
}

static void take(int number) {
    uint64_t value;
    must(read(number, &value, sizeof value) == sizeof value);
}

int main(int argc, char **argv) {
    begin(argc, argv);
    int found, level = epoll_create1(EPOLL_CLOEXEC), edge = epoll_create1(0), once = epoll_create1(0);
    int outer = epoll_create1(0), odd = epoll_create1(0);
    int a = eventfd(1, 0), b = eventfd(0, 0), c = eventfd(1, EFD_NONBLOCK), d = eventfd(1, 0);
    add(level, a, EPOLLIN, 0x123456789abcdef0);
    add(level, b, EPOLLIN | EPOLLPRI, 2);
    add(edge, c, EPOLLIN | EPOLLET, 3);
    must(look(edge, 3, &found) == 1 && look(edge, 3, &found) == 0);
    add(once, d, EPOLLIN | EPOLLONESHOT, 4);
    must(look(once, 4, &found) == 1 && look(once, 4, &found) == 0);
    add(outer, level, EPOLLIN, 5);
    int pair[2];
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && write(pair[1], "x", 1) == 1);
    add(level, pair[0], EPOLLIN, 6);
    /* Registered as `old`, which is closed afterwards; as `reused`, which then is another file. */
    int lives = eventfd(1, 0), old = dup(lives), lives_too = eventfd(1, 0), reused = dup(lives_too);
    add(odd, old, EPOLLIN, 7);
    add(odd, reused, EPOLLIN, 8);
    int other = eventfd(0, EFD_CLOEXEC);
    must(dup3(other, reused, O_CLOEXEC) == reused);
    add(odd, reused, EPOLLIN, 9);
    int wake = eventfd(0, 0);
    must((waited = epoll_create1(0)) >= 0);
    add(waited, wake, EPOLLIN, 77);
    pthread_t thread;
    must(pthread_create(&thread, NULL, waiter, NULL) == 0);
    must(close(old) == 0);
    await_verdict();
    must(is_cloexec(level) && !is_cloexec(edge) && is_closed(old) && is_cloexec(reused));
    must(look(level, 0x123456789abcdef0, &found) == 2 && found);
    must(look(level, 6, &found) == 2 && found);
    must(look(outer, 5, &found) == 1 && found);
    char byte;
    must(read(pair[0], &byte, 1) == 1);
    take(a);
    must(look(level, 6, &found) == 0 && look(outer, 5, &found) == 0);
    put(b);
    must(look(level, 2, &found) == 1 && found && look(outer, 5, &found) == 1);
    look(edge, 3, &found); /* the edge may be seen a second time */
    must(look(edge, 3, &found) == 0);
    put(c);
    must(look(edge, 3, &found) == 1 && found && look(edge, 3, &found) == 0);
    must(look(once, 4, &found) == 0);
    struct epoll_event again = {.events = EPOLLIN | EPOLLONESHOT, .data.u64 = 44};
    must(epoll_ctl(once, EPOLL_CTL_MOD, d, &again) == 0 && look(once, 44, &found) == 1 && found);
    must(look(odd, 7, &found) == 2 && found && look(odd, 8, &found) == 2 && found);
    put(other);
    must(look(odd, 9, &found) == 3 && found);
    take(lives);
    take(lives_too);
    must(look(odd, 9, &found) == 1 && found);
    must(epoll_ctl(odd, EPOLL_CTL_DEL, reused, NULL) == 0 && look(odd, 9, &found) == 0);
    put(wake);
    must(pthread_join(thread, NULL) == 0);
    pass();
}
