/* Ends in the way that its argument names, after a line on its standard input; two more threads are there, asleep. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile int *volatile nowhere = (int *)8;

static void *sleep_on(void *argument) {
    for (;;) pause();
    return argument;
}

static void *end_soon(void *argument) { return argument; }

static void *exec_from_here(void *argument) {
    execl("/bin/cat", "cat", NULL);
    return argument;
}

int main(int count, char **arguments) {
    pthread_t thread;
    if (count < 2) return 2;
    const char *way = arguments[1];
    if (!strcmp(way, "handled")) signal(SIGTRAP, SIG_IGN);
    for (int i = 0; i < 2; i++) pthread_create(&thread, NULL, sleep_on, NULL);
    puts("ready");
    fflush(stdout);
    if (getchar() != '\n') return 3;
    if (!strcmp(way, "crash")) *nowhere = 1;
    if (!strcmp(way, "abort")) abort();
    if (!strcmp(way, "term")) kill(getpid(), SIGTERM);
    if (!strcmp(way, "exec")) execl("/bin/cat", "cat", NULL);
    if (!strcmp(way, "exec_thread")) {
        pthread_create(&thread, NULL, exec_from_here, NULL);
        pause();
    }
    if (!strcmp(way, "thread")) {
        pthread_create(&thread, NULL, end_soon, NULL);
        pthread_join(thread, NULL);
        puts("joined");
        fflush(stdout);
        pause();
    }
    if (!strcmp(way, "leader")) {
        puts("leaving");
        fflush(stdout);
        pthread_exit(NULL);
    }
    if (!strcmp(way, "children")) {
        for (int i = 0; i < 20; i++) {
            pid_t child = i % 2 ? fork() : vfork();
            if (child == 0) _exit(7);
            int status;
            if (waitpid(child, &status, 0) != child || WEXITSTATUS(status) != 7) return 4;
        }
        puts("children done");
        fflush(stdout);
        pause();
    }
    if (!strcmp(way, "vfork")) {
        /* The parent can't be stopped until the child has ended, which the test decides. */
        pid_t child = vfork();
        if (child == 0) {
            char byte;
            _exit(read(0, &byte, 1) != 1);
        }
        puts("vfork done");
        fflush(stdout);
        pause();
    }
    if (!strcmp(way, "handled")) pause();
    return 3;
}
