/* Makes one blocking call, named by its argument, with a timeout of 300 ms, and says what came of it:
 * "RESULT ERRNO MILLISECONDS". A call that is interrupted must not show it. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { TIMEOUT_MS = 300 };

static const struct timespec timeout = {0, TIMEOUT_MS * 1000000L};
static int pair[2], epoll_descriptor, listener, semaphore;

static double now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

static long do_epoll_wait(void) {
    struct epoll_event event;
    return syscall(SYS_epoll_wait, epoll_descriptor, &event, 1, TIMEOUT_MS);
}

static long do_epoll_pwait(void) {
    struct epoll_event event;
    return epoll_pwait(epoll_descriptor, &event, 1, TIMEOUT_MS, NULL);
}

static long do_epoll_pwait2(void) {
    struct epoll_event event;
    return syscall(SYS_epoll_pwait2, epoll_descriptor, &event, 1, &timeout, NULL, 8);
}

static long do_epoll_event(void) {
    /* A helper makes it readable after the timeout of the other calls: for ever is for ever. */
    struct epoll_event event = {.events = EPOLLIN};
    epoll_ctl(epoll_descriptor, EPOLL_CTL_ADD, pair[0], &event);
    if (fork() == 0) {
        nanosleep(&timeout, NULL);
        _exit(write(pair[1], "x", 1) != 1);
    }
    return epoll_wait(epoll_descriptor, &event, 1, -1);
}

static long do_poll(void) {
    struct pollfd entry = {pair[0], POLLIN, 0};
    return syscall(SYS_poll, &entry, 1, TIMEOUT_MS);
}

static long do_ppoll(void) {
    struct pollfd entry = {pair[0], POLLIN, 0};
    return ppoll(&entry, 1, &timeout, NULL);
}

static long do_select(void) {
    fd_set set;
    struct timeval left = {0, TIMEOUT_MS * 1000};
    FD_ZERO(&set);
    FD_SET(pair[0], &set);
    return syscall(SYS_select, pair[0] + 1, &set, NULL, NULL, &left);
}

static long do_nanosleep(void) { return syscall(SYS_nanosleep, &timeout, NULL); }

static long do_clock_nanosleep(void) { return syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &timeout, NULL); }

static long do_futex(void) {
    static unsigned word;
    return syscall(SYS_futex, &word, FUTEX_WAIT, 0, &timeout, NULL, 0);
}

static long do_recv(void) {
    char byte;
    return recv(pair[0], &byte, 1, 0);
}

static long do_read_socket(void) {
    char byte;
    return read(pair[0], &byte, 1);
}

static long do_accept(void) { return accept(listener, NULL, NULL); }

static long do_sigtimedwait(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return sigtimedwait(&set, NULL, &timeout);
}

static long do_semtimedop(void) {
    struct sembuf operation = {0, -1, 0};
    return semtimedop(semaphore, &operation, 1, &timeout);
}

static long do_semop(void) {
    struct sembuf operation = {0, -1, 0};
    if (fork() == 0) {
        struct sembuf release = {0, 1, 0};
        nanosleep(&timeout, NULL);
        _exit(semop(semaphore, &release, 1));
    }
    return semop(semaphore, &operation, 1);
}

static long do_io_getevents(void) {
    aio_context_t context = 0;
    struct io_event event;
    struct timespec left = timeout;
    if (syscall(SYS_io_setup, 4, &context)) return -2;
    return syscall(SYS_io_getevents, context, 1, 1, &event, &left);
}

static void on_signal(int number) { (void)number; }

static long do_epoll_handler(void) {
    /* A real handler: the program must get its EINTR, as without a tracer. */
    struct sigaction action = {.sa_handler = on_signal};
    struct epoll_event event;
    sigaction(SIGUSR1, &action, NULL);
    if (fork() == 0) {
        nanosleep(&timeout, NULL);
        _exit(kill(getppid(), SIGUSR1));
    }
    return epoll_wait(epoll_descriptor, &event, 1, -1);
}

static long do_epoll_ignored(void) {
    /* Without a tracer an ignored signal interrupts nothing. The child's end is one more. */
    struct epoll_event event;
    signal(SIGUSR1, SIG_IGN);
    if (fork() == 0) {
        struct timespec moment = {0, 20 * 1000000L};
        for (int i = 0; i < 10; i++) {
            kill(getppid(), SIGUSR1);
            nanosleep(&moment, NULL);
        }
        _exit(0);
    }
    return epoll_wait(epoll_descriptor, &event, 1, TIMEOUT_MS);
}

static const struct {
    const char *name;
    long (*function)(void);
} calls[] = {
    {"epoll_wait", do_epoll_wait},
    {"epoll_pwait", do_epoll_pwait},
    {"epoll_pwait2", do_epoll_pwait2},
    {"epoll_event", do_epoll_event},
    {"epoll_handler", do_epoll_handler},
    {"epoll_ignored", do_epoll_ignored},
    {"poll", do_poll},
    {"ppoll", do_ppoll},
    {"select", do_select},
    {"nanosleep", do_nanosleep},
    {"clock_nanosleep", do_clock_nanosleep},
    {"futex", do_futex},
    {"recv", do_recv},
    {"read_socket", do_read_socket},
    {"accept", do_accept},
    {"sigtimedwait", do_sigtimedwait},
    {"semtimedop", do_semtimedop},
    {"semop", do_semop},
    {"io_getevents", do_io_getevents},
};

int main(int count, char **arguments) {
    struct timeval socket_timeout = {0, TIMEOUT_MS * 1000};
    long result = -3;
    int error = 0;
    if (count < 2) return 2;
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &socket_timeout, sizeof socket_timeout);
    epoll_descriptor = epoll_create1(0);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &socket_timeout, sizeof socket_timeout);
    listen(listener, 1);
    semaphore = semget(IPC_PRIVATE, 1, 0600);
    puts("ready");
    fflush(stdout);
    if (getchar() != '\n') return 3;
    double start = now_ms();
    for (unsigned i = 0; i < sizeof calls / sizeof *calls; i++) {
        if (!strcmp(calls[i].name, arguments[1])) {
            errno = 0;
            result = calls[i].function();
            error = result < 0 ? errno : 0;
        }
    }
    double elapsed_ms = now_ms() - start;
    semctl(semaphore, 0, IPC_RMID);
    printf("%ld %d %.0f\n", result, error, elapsed_ms);
    return 0;
}
