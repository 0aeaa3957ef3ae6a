/* A parent of two children that a takeover leaves behind: it must be told that they died. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t told;
static int failed;

static void fail(const char *what) {
    dprintf(1, "FAIL %s errno %d\n", what, errno);
    failed = 1;
}
static void on_child(int number) { told++; }

int main(int argc, char **argv) {
    struct sigaction action = {.sa_handler = on_child, .sa_flags = SA_RESTART};
    sigaction(SIGCHLD, &action, NULL);
    pid_t children[2];
    for (int i = 0; i < 2; i++) {
        children[i] = fork();
        if (children[i] == 0) for (;;) pause();
    }
    dprintf(1, "ready\n");
    while (access(argv[1], F_OK)) usleep(1000);
    int status;
    for (int i = 0; i < 2; i++) {
        if (waitpid(children[i], &status, 0) != children[i]) fail("wait");
        if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) fail("status");
    }
    if (!told) fail("SIGCHLD");
    if (waitpid(-1, &status, 0) != -1 || errno != ECHILD) fail("more children");
    pid_t another = fork();
    if (another == 0) _exit(3);
    if (waitpid(another, &status, 0) != another || WEXITSTATUS(status) != 3) fail("another child");
    dprintf(1, failed ? "FAIL\n" : "PASS\n");
    return failed ? 1 : 7;
}
