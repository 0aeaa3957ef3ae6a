/* What every victim does: arrange a resource, say READY, go on until it is told, verify, say PASS or FAIL and why.
 *
 * It is told by a file that appears (argv[1]), which no takeover can carry by accident. It may be taken over any number
 * of times in between. argv[2] is a directory of its own. Its verdict is one line on standard output. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const char *victim_go, *victim_directory;

static void __attribute__((noreturn, format(printf, 1, 2))) fail(const char *format, ...) {
    int error = errno;
    char text[400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    dprintf(1, "FAIL %s (errno %d, %s)\n", text, error, strerror(error));
    _exit(1);
}

/* What must be so, while arranging and while verifying. */
#define must(condition) \
    do { \
        if (!(condition)) fail("line %d: %s", __LINE__, #condition); \
    } while (0)

static inline void __attribute__((noreturn)) pass(void) {
    dprintf(1, "PASS\n");
    _exit(0);
}

static inline void begin(int argc, char **argv) {
    if (argc != 3) {
        dprintf(2, "usage: %s GO-FILE DIRECTORY\n", argv[0]);
        _exit(2);
    }
    victim_go = argv[1];
    victim_directory = argv[2];
}

static inline int told(void) { return access(victim_go, F_OK) == 0; }

static inline void nap(long milliseconds) {
    struct timespec span = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    while (nanosleep(&span, &span)) must(errno == EINTR);
}

static inline void ready(void) { dprintf(1, "READY\n"); }

/* Say READY and wait until it is time to verify. */
static inline void await_verdict(void) {
    ready();
    while (!told()) nap(5);
}

static inline const char *in_directory(const char *name) {
    static char path[4][4096];
    static int next;
    next = (next + 1) % 4;
    snprintf(path[next], sizeof path[next], "%s/%s", victim_directory, name);
    return path[next];
}

static inline int64_t now_ns(clockid_t clock) {
    struct timespec now;
    must(clock_gettime(clock, &now) == 0);
    return now.tv_sec * 1000000000ll + now.tv_nsec;
}

static inline int flags_of(int number) { return fcntl(number, F_GETFL); }
static inline int is_cloexec(int number) { return fcntl(number, F_GETFD) & FD_CLOEXEC; }
static inline off_t offset_of(int number) { return lseek(number, 0, SEEK_CUR); }
static inline int is_closed(int number) { return fcntl(number, F_GETFD) == -1 && errno == EBADF; }
