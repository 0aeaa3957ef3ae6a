/* Threads that are blocked in system calls of every sort while they are taken over: each call ends as if nothing had
 * happened, none with EINTR. */
#include "victim.h"

#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/select.h>
#include <sys/un.h>

static int in_read[2], in_write[2], in_poll, in_select, in_epoll, in_epoll_pwait2, epoll, second_epoll, in_receive[2];
static int in_timed_receive[2], in_accept, in_flock, holder, in_packet[2];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER, held = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static sem_t semaphore;
static int signalled;
static int64_t until_ns;
static struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = ""};
static socklen_t address_size;

static int one_byte(int number) {
    char byte;
    return read(number, &byte, 1) == 1;
}

static int b_read(void) { return one_byte(in_read[0]); }

static int b_write(void) {
    /* A stop ends a write of which a part was done, as a signal handler would: the rest is the program's to write. */
    static char bulk[100000];
    size_t done = 0;
    while (done < sizeof bulk) {
        ssize_t part = write(in_write[1], bulk, sizeof bulk - done);
        if (part <= 0) return 0;
        done += part;
    }
    return 1;
}

static int b_poll(void) {
    struct pollfd one = {in_poll, POLLIN, 0};
    return poll(&one, 1, -1) == 1 && one.revents == POLLIN;
}

static int b_poll_timeout(void) {
    struct pollfd one = {in_poll, POLLPRI, 0};
    return poll(&one, 1, 1500) == 0;
}

static int b_select(void) {
    fd_set set;
    FD_ZERO(&set);
    FD_SET(in_select, &set);
    return select(in_select + 1, &set, NULL, NULL, NULL) == 1 && FD_ISSET(in_select, &set);
}

static int b_pselect_timeout(void) {
    struct timespec span = {1, 500000000};
    return pselect(0, NULL, NULL, NULL, &span, NULL) == 0;
}

static int b_epoll(void) {
    struct epoll_event event;
    return epoll_wait(epoll, &event, 1, -1) == 1 && event.data.u64 == 11;
}

static int b_epoll_timeout(void) {
    static int empty;
    struct epoll_event event;
    empty = epoll_create1(0);
    return epoll_wait(empty, &event, 1, 1500) == 0;
}

static int b_epoll_pwait2(void) {
    struct epoll_event event;
    struct timespec span = {60, 0};
    return syscall(SYS_epoll_pwait2, second_epoll, &event, 1, &span, NULL, 8) == 1 && event.data.u64 == 12;
}

static int b_receive(void) {
    char byte;
    return recv(in_receive[0], &byte, 1, 0) == 1;
}

static int b_timed_receive(void) {
    char byte;
    return recv(in_timed_receive[0], &byte, 1, 0) == 1;
}

static int b_packet(void) {
    char text[20];
    struct iovec vector = {text, sizeof text};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    return recvmsg(in_packet[0], &message, 0) == 6;
}

static int b_accept(void) { return accept(in_accept, NULL, NULL) >= 0; }

static int b_flock(void) { return flock(in_flock, LOCK_EX) == 0; }

static int b_mutex(void) { return pthread_mutex_lock(&held) == 0; }

static int b_condition(void) {
    pthread_mutex_lock(&mutex);
    while (!signalled) pthread_cond_wait(&condition, &mutex);
    return pthread_mutex_unlock(&mutex) == 0;
}

static int b_semaphore(void) { return sem_wait(&semaphore) == 0; }

static int b_nanosleep(void) {
    struct timespec span = {1, 500000000};
    return nanosleep(&span, NULL) == 0;
}

static int b_sleep_until(void) {
    struct timespec end = {until_ns / 1000000000, until_ns % 1000000000};
    return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL) == 0 && now_ns(CLOCK_MONOTONIC) >= until_ns;
}

static int b_sigwait(void) {
    sigset_t set;
    siginfo_t info;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    return sigwaitinfo(&set, &info) == SIGUSR2;
}

static int b_futex_timeout(void) {
    static int word;
    struct timespec span = {1, 500000000};
    return syscall(SYS_futex, &word, 0, 0, &span, NULL, 0) == -1 && errno == ETIMEDOUT;
}

static const struct {
    const char *name;
    int (*call)(void);
} calls[] = {
    {"read", b_read},
    {"write", b_write},
    {"poll", b_poll},
    {"poll with a timeout", b_poll_timeout},
    {"select", b_select},
    {"pselect with a timeout", b_pselect_timeout},
    {"epoll_wait", b_epoll},
    {"epoll_wait with a timeout", b_epoll_timeout},
    {"epoll_pwait2", b_epoll_pwait2},
    {"recv", b_receive},
    {"recv with SO_RCVTIMEO", b_timed_receive},
    {"recvmsg", b_packet},
    {"accept", b_accept},
    {"flock", b_flock},
    {"pthread_mutex_lock", b_mutex},
    {"pthread_cond_wait", b_condition},
    {"sem_wait", b_semaphore},
    {"nanosleep", b_nanosleep},
    {"clock_nanosleep", b_sleep_until},
    {"sigwaitinfo", b_sigwait},
    {"futex with a timeout", b_futex_timeout},
};
enum { CALLS = sizeof calls / sizeof calls[0] };

static void *run(void *argument) {
    errno = 0;
    int good = calls[(intptr_t)argument].call();
    if (!good) fail("%s", calls[(intptr_t)argument].name);
    return NULL;
}

static void put(int number) {
    uint64_t one = 1;
    must(write(number, &one, sizeof one) == sizeof one);
}

static void watch(int instance, int number, uint64_t data) {
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = data};
    must(epoll_ctl(instance, EPOLL_CTL_ADD, number, &event) == 0);
}

static void arrange(void) {
    must(pipe(in_read) == 0 && pipe(in_write) == 0);
    must((in_poll = eventfd(0, 0)) >= 0 && (in_select = eventfd(0, 0)) >= 0);
    must((in_epoll = eventfd(0, 0)) >= 0 && (in_epoll_pwait2 = eventfd(0, 0)) >= 0);
    must((epoll = epoll_create1(0)) >= 0 && (second_epoll = epoll_create1(0)) >= 0);
    watch(epoll, in_epoll, 11);
    watch(second_epoll, in_epoll_pwait2, 12);
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, in_receive) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, in_timed_receive) == 0);
    must(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, in_packet) == 0);
    struct timeval minute = {60, 0};
    must(setsockopt(in_timed_receive[0], SOL_SOCKET, SO_RCVTIMEO, &minute, sizeof minute) == 0);
    address_size = sizeof address.sun_family + 1 + snprintf(address.sun_path + 1, 60, "kgm-blocked-%lld", (long long)now_ns(0));
    must((in_accept = socket(AF_UNIX, SOCK_STREAM, 0)) >= 0);
    must(bind(in_accept, (struct sockaddr *)&address, address_size) == 0 && listen(in_accept, 5) == 0);
    holder = open(in_directory("lock"), O_RDWR | O_CREAT, 0600);
    in_flock = open(in_directory("lock"), O_RDWR);
    must(holder >= 0 && in_flock >= 0 && flock(holder, LOCK_EX) == 0);
    must(pthread_mutex_lock(&held) == 0 && sem_init(&semaphore, 0, 0) == 0);
    until_ns = now_ns(CLOCK_MONOTONIC) + 1500000000;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    must(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
}

static void end_all(void) {
    static char bulk[100000];
    must(write(in_read[1], "x", 1) == 1);
    for (size_t done = 0; done < sizeof bulk;) {
        ssize_t part = read(in_write[0], bulk, sizeof bulk - done);
        must(part > 0);
        done += part;
    }
    put(in_poll);
    put(in_select);
    put(in_epoll);
    put(in_epoll_pwait2);
    must(send(in_receive[1], "x", 1, 0) == 1 && send(in_timed_receive[1], "x", 1, 0) == 1);
    must(send(in_packet[1], "packet", 6, 0) == 6);
    int client = socket(AF_UNIX, SOCK_STREAM, 0);
    must(client >= 0 && connect(client, (struct sockaddr *)&address, address_size) == 0);
    must(flock(holder, LOCK_UN) == 0 && pthread_mutex_unlock(&held) == 0);
    pthread_mutex_lock(&mutex);
    signalled = 1;
    pthread_cond_signal(&condition);
    pthread_mutex_unlock(&mutex);
    must(sem_post(&semaphore) == 0 && kill(getpid(), SIGUSR2) == 0);
}

int main(int argc, char **argv) {
    begin(argc, argv);
    arrange();
    pthread_t threads[CALLS];
    for (intptr_t i = 0; i < CALLS; i++) must(pthread_create(&threads[i], NULL, run, (void *)i) == 0);
    nap(50);
    await_verdict();
    end_all();
    struct timespec limit = {now_ns(CLOCK_REALTIME) / 1000000000 + 15, 0};
    for (int i = 0; i < CALLS; i++)
        if (pthread_timedjoin_np(threads[i], NULL, &limit)) fail("%s does not end", calls[i].name);
    pass();
}
