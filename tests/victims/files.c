/* Regular files with offsets, O_APPEND, shared and separate offsets, a directory, a device, close-on-exec, locks. */
#include "victim.h"

#include <dirent.h>
#include <sys/file.h>

static void must_read(int number, const char *expected) {
    char text[64] = "";
    must(read(number, text, strlen(expected)) == (ssize_t)strlen(expected));
    must(strcmp(text, expected) == 0);
}

int main(int argc, char **argv) {
    begin(argc, argv);
    int data = open(in_directory("data"), O_RDWR | O_CREAT | O_TRUNC, 0600);
    must(data >= 0 && write(data, "0123456789abcdef", 16) == 16 && lseek(data, 4, SEEK_SET) == 4);
    int shared = dup(data), separate = open(in_directory("data"), O_RDONLY | O_CLOEXEC);
    must(lseek(separate, 10, SEEK_SET) == 10);
    int alike = open(in_directory("data"), O_RDWR);
    must(lseek(alike, 4, SEEK_SET) == 4);
    int log = open(in_directory("log"), O_WRONLY | O_APPEND | O_CREAT | O_TRUNC | O_NONBLOCK, 0600);
    must(write(log, "before\n", 7) == 7);
    int directory = open(victim_directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int null = open("/dev/null", O_RDWR), path = open("/etc", O_PATH);
    int far = dup2(data, 700);
    must(directory >= 0 && null >= 0 && path >= 0 && far == 700);
    must(flock(separate, LOCK_SH) == 0);
    struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 3, .l_len = 5};
    must(fcntl(data, F_SETLK, &range) == 0);
    await_verdict();
    must_read(data, "456");
    must_read(shared, "789");
    must_read(far, "a");
    must_read(separate, "abc");
    must(offset_of(alike) == 4 && offset_of(data) == 11);
    must(!is_cloexec(data) && !is_cloexec(shared) && is_cloexec(separate) && is_cloexec(directory));
    must((flags_of(log) & (O_APPEND | O_NONBLOCK | O_ACCMODE)) == (O_APPEND | O_NONBLOCK | O_WRONLY));
    must(flags_of(path) & O_PATH);
    must(write(log, "after\n", 6) == 6);
    int again = open(in_directory("log"), O_RDONLY);
    must_read(again, "before\nafter\n");
    must(faccessat(directory, "data", R_OK, 0) == 0);
    must(write(null, "x", 1) == 1 && read(null, &range, 1) == 0);
    int other = open(in_directory("data"), O_RDWR);
    must(flock(other, LOCK_EX | LOCK_NB) == -1 && errno == EWOULDBLOCK);
    struct flock seen = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    must(fcntl(other, F_OFD_GETLK, &seen) == 0 && seen.l_type == F_WRLCK && seen.l_start == 3 && seen.l_len == 5);
    pass();
}
