/* Pipes with data inside, crossed numbers, one end closed, capacity, non-blocking, packets, a thread blocked in read. */
#include "victim.h"

static int blocked[2];

static void *reader(void *argument) {
    char byte;
    (void)argument;
    must(read(blocked[0], &byte, 1) == 1 && byte == '!');
    return NULL;
}

static void must_read(int number, const char *expected) {
    char text[256] = "";
    must(read(number, text, sizeof text - 1) == (ssize_t)strlen(expected));
    must(strcmp(text, expected) == 0);
}

int main(int argc, char **argv) {
    begin(argc, argv);
    int full[2], widowed[2], orphaned[2], packets[2], crossed[2], large[2];
    must(pipe2(full, O_NONBLOCK | O_CLOEXEC) == 0 && write(full[1], "hello ", 6) == 6 && write(full[1], "pipe", 4) == 4);
    must(pipe(widowed) == 0 && write(widowed[1], "last words", 10) == 10 && close(widowed[1]) == 0);
    must(pipe(orphaned) == 0 && close(orphaned[0]) == 0);
    must(pipe2(packets, O_DIRECT) == 0 && write(packets[1], "one", 3) == 3 && write(packets[1], "second", 6) == 6);
    must(pipe(crossed) == 0 && write(crossed[1], "x", 1) == 1);
    /* The read end gets the higher number, and both are somebody else's lowest free ones. */
    must(dup2(crossed[0], 60) == 60 && close(crossed[0]) == 0);
    must(pipe(large) == 0 && fcntl(large[1], F_SETPIPE_SZ, 1 << 18) == 1 << 18);
    static char bulk[200000], back[200000];
    for (size_t i = 0; i < sizeof bulk; i++) bulk[i] = i % 253;
    must(write(large[1], bulk, sizeof bulk) == sizeof bulk);
    must(pipe(blocked) == 0);
    pthread_t thread;
    must(pthread_create(&thread, NULL, reader, NULL) == 0);
    signal(SIGPIPE, SIG_IGN);
    await_verdict();
    must_read(full[0], "hello pipe");
    char byte;
    must(read(full[0], &byte, 1) == -1 && errno == EAGAIN && is_cloexec(full[0]) && is_cloexec(full[1]));
    must(write(full[1], "again", 5) == 5);
    must_read(full[0], "again");
    must_read(widowed[0], "last words");
    must(read(widowed[0], &byte, 1) == 0);
    must(write(orphaned[1], "x", 1) == -1 && errno == EPIPE);
    must_read(packets[0], "one");
    must_read(packets[0], "second");
    must_read(60, "x");
    must(!(flags_of(60) & O_NONBLOCK));
    must(fcntl(large[0], F_GETPIPE_SZ) == 1 << 18);
    must(read(large[0], back, sizeof back) == sizeof back && memcmp(bulk, back, sizeof bulk) == 0);
    must(write(blocked[1], "!", 1) == 1 && pthread_join(thread, NULL) == 0);
    pass();
}
