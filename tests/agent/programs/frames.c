/* Three functions deep, with handlers and descriptors of many kinds: what a person can be shown of a context. */
#pragma GCC optimize("no-omit-frame-pointer", "no-optimize-sibling-calls")
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <sys/mman.h>
#include <unistd.h>

static void handler(int number) { (void)number; }

static int listener(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int number = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(number, (struct sockaddr *)&address, sizeof address) || listen(number, 7))
        _exit(3);
    return number;
}

__attribute__((noinline)) static void innermost(void)
{
    puts("ready");
    fflush(stdout);
    volatile unsigned long spin = 0;
    for (;;)
        spin++;
}

__attribute__((noinline)) static void middle(void) { innermost(); __asm__ volatile(""); }
__attribute__((noinline)) static void outermost(void) { middle(); __asm__ volatile(""); }

int main(void)
{
    int ends[2], pair[2];
    signal(SIGUSR1, handler);
    signal(SIGPIPE, SIG_IGN);
    if (pipe(ends) || write(ends[1], "secret", 6) != 6 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
        return 3;
    int events = eventfd(5, 0), polled = epoll_create1(0), server = listener();
    struct epoll_event wanted = { .events = EPOLLIN };
    epoll_ctl(polled, EPOLL_CTL_ADD, server, &wanted);
    timerfd_create(CLOCK_MONOTONIC, 0);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signalfd(-1, &set, 0);
    memfd_create("shared", 0);
    socket(AF_INET, SOCK_DGRAM, 0);
    open("/etc/passwd", O_RDONLY);
    dup2(events, 100);
    outermost();
    return 0;
}
