/* Preloaded into a victim: makes a userfaultfd and leaves it at a known descriptor, for a tracker without a tracer. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define AT 200
#define USER_MODE_ONLY 1

__attribute__((constructor)) static void lend(void) {
    int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | USER_MODE_ONLY);
    if (fd >= 0 && fd != AT) {
        dup3(fd, AT, O_CLOEXEC);
        close(fd);
    }
}
