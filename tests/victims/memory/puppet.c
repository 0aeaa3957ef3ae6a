/* Does what it is told, one line at a time: a letter and up to six numbers; answers each line with one number (an address,
 * 0, or a negative errno). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static long result(long value) { return value == -1 ? -errno : value; }

int main(void) {
    char line[200], what;
    long a, b, c, d, e, f;
    static char input[4096], output[4096]; /* no buffer from the heap, which the tests look at */
    setvbuf(stdin, input, _IOFBF, sizeof input);
    setvbuf(stdout, output, _IOLBF, sizeof output);
    puts("ready");
    while (fgets(line, sizeof line, stdin)) {
        long answer = 0;
        a = b = c = d = e = f = 0;
        if (sscanf(line, " %c %li %li %li %li %li %li", &what, &a, &b, &c, &d, &e, &f) < 1)
            continue;
        switch (what) {
        case 'm': /* address length protection flags descriptor offset */
            answer = result((long)mmap((void *)a, (size_t)b, (int)c, (int)d, (int)e, f));
            break;
        case 'u':
            answer = result(munmap((void *)a, (size_t)b));
            break;
        case 'p':
            answer = result(mprotect((void *)a, (size_t)b, (int)c));
            break;
        case 'a': /* address length advice */
            answer = result(madvise((void *)a, (size_t)b, (int)c));
            break;
        case 'r': /* address length new-length flags new-address */
            answer = result((long)mremap((void *)a, (size_t)b, (size_t)c, (int)d, (void *)e));
            break;
        case 'b':
            answer = result((long)sbrk(a));
            break;
        case 'w': /* address value */
            *(volatile long *)a = b;
            break;
        case 'f': /* address length value: fill */
            memset((void *)a, (int)c, (size_t)b);
            break;
        case 'o': /* length: a new memfd */
            answer = result(memfd_create("puppet", MFD_CLOEXEC));
            if (answer >= 0 && ftruncate((int)answer, a))
                answer = -errno;
            break;
        case 's': /* descriptor value offset */
            answer = result(pwrite((int)a, &b, 8, c));
            break;
        case 'c': /* a child that only waits */
            answer = result(fork());
            if (answer == 0)
                for (;;)
                    pause();
            break;
        case 'y': /* any system call: number and five arguments */
            answer = result(syscall(a, b, c, d, e, f));
            break;
        default:
            answer = -EINVAL;
        }
        printf("%ld\n", answer);
    }
    return 0;
}
