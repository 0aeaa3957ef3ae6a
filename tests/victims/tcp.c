/* TCP over loopback, IPv4 and IPv6, both ends here: idle connections, queues full of data on either side, listening
 * sockets with options, sockets that are bound or nothing at all, duplicates, epoll. */
#include "victim.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>

static int listening[2];
static struct sockaddr_storage names[2];
static socklen_t lengths[2];

static unsigned char pattern(size_t place) { return (place * 2654435761u) >> 13; }

static int option(int number, int level, int name) {
    int value = -1;
    socklen_t size = sizeof value;
    must(getsockopt(number, level, name, &value, &size) == 0);
    return value;
}

static void set(int number, int level, int name, int value) {
    must(setsockopt(number, level, name, &value, sizeof value) == 0);
}

static void begin_listening(int which, int family) {
    int number = listening[which] = socket(family, SOCK_STREAM | SOCK_CLOEXEC | (which ? SOCK_NONBLOCK : 0), 0);
    must(number >= 0);
    set(number, SOL_SOCKET, SO_REUSEADDR, 1);
    set(number, SOL_SOCKET, SO_KEEPALIVE, 1);
    set(number, IPPROTO_TCP, TCP_NODELAY, 1);
    set(number, IPPROTO_TCP, TCP_KEEPIDLE, 77);
    set(number, IPPROTO_TCP, TCP_DEFER_ACCEPT, 1);
    if (family == AF_INET6) {
        struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
        set(number, IPPROTO_IPV6, IPV6_V6ONLY, 1);
        must(bind(number, (struct sockaddr *)&any, sizeof any) == 0);
    } else {
        struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        must(bind(number, (struct sockaddr *)&any, sizeof any) == 0);
    }
    must(listen(number, 7) == 0);
    lengths[which] = sizeof names[which];
    must(getsockname(number, (struct sockaddr *)&names[which], &lengths[which]) == 0);
}

/* A new connection: ends[0] is the client's, ends[1] the server's. */
static void join(int which, int ends[2]) {
    struct pollfd arrival = {listening[which], POLLIN, 0};
    must((ends[0] = socket(names[which].ss_family, SOCK_STREAM, 0)) >= 0);
    must(connect(ends[0], (struct sockaddr *)&names[which], lengths[which]) == 0);
    must(send(ends[0], "", 1, 0) == 1); /* TCP_DEFER_ACCEPT waits for data */
    must(poll(&arrival, 1, 10000) == 1);
    must((ends[1] = accept(listening[which], NULL, NULL)) >= 0);
    char byte;
    must(recv(ends[1], &byte, 1, MSG_WAITALL) == 1);
}

static void exchange(int ends[2]) {
    char text[8];
    must(send(ends[0], "request", 8, 0) == 8 && recv(ends[1], text, 8, MSG_WAITALL) == 8 && !strcmp(text, "request"));
    must(send(ends[1], "answers", 8, 0) == 8 && recv(ends[0], text, 8, MSG_WAITALL) == 8 && !strcmp(text, "answers"));
}

/* Write until nothing more fits; gives how much did. */
static size_t stuff(int number) {
    static unsigned char chunk[65536];
    size_t total = 0;
    for (;;) {
        for (size_t i = 0; i < sizeof chunk; i++) chunk[i] = pattern(total + i);
        ssize_t sent = send(number, chunk, sizeof chunk, MSG_DONTWAIT);
        if (sent < 0) {
            must(errno == EAGAIN);
            return total;
        }
        total += sent;
    }
}

static void must_read_pattern(int number, size_t total) {
    static unsigned char chunk[65536];
    for (size_t place = 0; place < total;) {
        ssize_t got = recv(number, chunk, sizeof chunk, 0);
        must(got > 0);
        for (ssize_t i = 0; i < got; i++) must(chunk[i] == pattern(place + i));
        place += got;
    }
    must(recv(number, chunk, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN);
}

int main(int argc, char **argv) {
    begin(argc, argv);
    int idle[2][2], stuffed[2][2], both[2], bound, nothing, copy, epoll;
    size_t total[2], there, back;
    begin_listening(0, AF_INET);
    begin_listening(1, AF_INET6);
    for (int i = 0; i < 2; i++) {
        join(i, idle[i]);
        exchange(idle[i]);
        join(i, stuffed[i]);
        total[i] = stuff(stuffed[i][0]);
        must(total[i] > 1 << 20);
    }
    join(0, both);
    there = stuff(both[0]);
    back = stuff(both[1]);
    struct linger lingering = {1, 5};
    struct timeval patience = {7, 0};
    must(setsockopt(idle[0][1], SOL_SOCKET, SO_LINGER, &lingering, sizeof lingering) == 0);
    must(setsockopt(idle[0][1], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0);
    set(idle[0][1], IPPROTO_TCP, TCP_USER_TIMEOUT, 4321);
    set(idle[0][1], IPPROTO_IP, IP_TOS, 0x10);
    set(idle[1][0], SOL_SOCKET, SO_RCVBUF, 50000);
    int small = option(idle[1][0], SOL_SOCKET, SO_RCVBUF);
    must((copy = dup(idle[0][0])) >= 0 && fcntl(idle[0][0], F_SETFL, O_RDWR | O_NONBLOCK) == 0);
    must((bound = socket(AF_INET, SOCK_STREAM, 0)) >= 0 && (nothing = socket(AF_INET6, SOCK_STREAM, 0)) >= 0);
    struct sockaddr_in home = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, found;
    must(bind(bound, (struct sockaddr *)&home, sizeof home) == 0);
    socklen_t size = sizeof home;
    must(getsockname(bound, (struct sockaddr *)&home, &size) == 0);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 0x123456789abcdef};
    must((epoll = epoll_create1(0)) >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, idle[1][1], &event) == 0);
    await_verdict();
    must(epoll_wait(epoll, &event, 1, 0) == 0);
    must(send(idle[1][0], "x", 1, 0) == 1);
    must(epoll_wait(epoll, &event, 1, 10000) == 1 && event.events == EPOLLIN && event.data.u64 == 0x123456789abcdef);
    char byte;
    must(recv(idle[1][1], &byte, 1, 0) == 1 && byte == 'x');
    must(flags_of(copy) & O_NONBLOCK);
    must(fcntl(copy, F_SETFL, O_RDWR) == 0 && !(flags_of(idle[0][0]) & O_NONBLOCK));
    for (int i = 0; i < 2; i++) {
        int fresh[2];
        exchange(idle[i]);
        must_read_pattern(stuffed[i][1], total[i]);
        exchange(stuffed[i]);
        must(is_cloexec(listening[i]) && !!(flags_of(listening[i]) & O_NONBLOCK) == i);
        join(i, fresh);
        exchange(fresh);
        must(option(fresh[1], IPPROTO_TCP, TCP_NODELAY) == 1 && option(fresh[1], IPPROTO_TCP, TCP_KEEPIDLE) == 77);
        must(option(idle[i][1], SOL_SOCKET, SO_KEEPALIVE) == 1 && option(idle[i][0], SOL_SOCKET, SO_KEEPALIVE) == 0);
        must(option(listening[i], SOL_SOCKET, SO_REUSEADDR) == 1 && option(listening[i], SOL_SOCKET, SO_ACCEPTCONN));
    }
    must_read_pattern(both[1], there);
    must_read_pattern(both[0], back);
    exchange(both);
    must(option(idle[0][1], IPPROTO_TCP, TCP_USER_TIMEOUT) == 4321 && option(idle[0][1], IPPROTO_IP, IP_TOS) == 0x10);
    must(option(idle[1][0], SOL_SOCKET, SO_RCVBUF) == small);
    size = sizeof lingering;
    must(getsockopt(idle[0][1], SOL_SOCKET, SO_LINGER, &lingering, &size) == 0 && lingering.l_linger == 5);
    size = sizeof patience;
    must(getsockopt(idle[0][1], SOL_SOCKET, SO_RCVTIMEO, &patience, &size) == 0 && patience.tv_sec == 7);
    size = sizeof found;
    must(getsockname(bound, (struct sockaddr *)&found, &size) == 0 && found.sin_port == home.sin_port);
    must(connect(nothing, (struct sockaddr *)&names[1], lengths[1]) == 0);
    pass();
}
