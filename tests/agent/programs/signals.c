/* Handlers, masks, alternate stacks and pending signals, which judge themselves after a takeover. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *go;
static volatile int failed, ran_on_alternate, own_value = -1, shared_value = -1, interrupted_handler;
static char stacks[2][65536] __attribute__((aligned(64)));

static void fail(const char *what) {
    dprintf(1, "FAIL %s errno %d\n", what, errno);
    failed = 1;
}

static void on_usr1(int number, siginfo_t *information, void *context) {
    char here;
    for (int i = 0; i < 2; i++)
        if (&here >= stacks[i] && &here < stacks[i] + sizeof stacks[i]) ran_on_alternate |= 1 << i;
}
static void on_rt(int number, siginfo_t *information, void *context) {
    if (number == SIGRTMIN + 1) own_value = information->si_value.sival_int;
    if (number == SIGRTMIN + 2) shared_value = information->si_value.sival_int;
}
static void on_hup(int number) { interrupted_handler++; }

static void use_alternate(int which) {
    stack_t stack = {.ss_sp = stacks[which], .ss_size = sizeof stacks[which]};
    if (sigaltstack(&stack, NULL)) fail("sigaltstack");
}
static void check_alternate(int which) {
    stack_t stack;
    if (sigaltstack(NULL, &stack) || stack.ss_sp != stacks[which] || stack.ss_size != sizeof stacks[which])
        fail("alternate stack");
    pthread_kill(pthread_self(), SIGUSR1);
    if (!(ran_on_alternate & 1 << which)) fail("handler on the alternate stack");
}

static pthread_barrier_t barrier;

static void *work(void *argument) {
    sigset_t mask, now;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR2);
    sigaddset(&mask, SIGHUP);
    sigaddset(&mask, SIGRTMIN + 1);
    sigaddset(&mask, SIGRTMIN + 2);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    use_alternate(1);
    union sigval value = {.sival_int = 4711};
    pthread_sigqueue(pthread_self(), SIGRTMIN + 1, value); /* stays pending for this thread */
    pthread_barrier_wait(&barrier);
    while (access(go, F_OK)) usleep(1000);
    pthread_sigmask(SIG_SETMASK, NULL, &now);
    for (int number = 1; number < 64; number++)
        if (number != 32 && number != 33 && sigismember(&now, number) != sigismember(&mask, number)) fail("mask");
    sigset_t pending;
    sigpending(&pending);
    if (!sigismember(&pending, SIGRTMIN + 1)) fail("pending for a thread");
    check_alternate(1);
    sigemptyset(&mask);
    sigaddset(&mask, SIGHUP);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    if (own_value != 4711) fail("queued value of a thread");
    if (shared_value != 815) fail("queued value of the process");
    return NULL;
}

int main(int argc, char **argv) {
    go = argv[1];
    struct sigaction action = {.sa_sigaction = on_usr1, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaddset(&action.sa_mask, SIGTERM);
    sigaction(SIGUSR1, &action, NULL);
    struct sigaction queued = {.sa_sigaction = on_rt, .sa_flags = SA_SIGINFO};
    sigaction(SIGRTMIN + 1, &queued, NULL);
    sigaction(SIGRTMIN + 2, &queued, NULL);
    struct sigaction hup = {.sa_handler = on_hup};
    sigaction(SIGHUP, &hup, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGTRAP, SIG_IGN);
    struct sigaction child = {.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDWAIT};
    sigaction(SIGCHLD, &child, NULL);
    use_alternate(0);
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGRTMIN + 2);
    sigaddset(&mask, SIGHUP);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    pthread_barrier_init(&barrier, NULL, 2);
    pthread_t thread;
    pthread_create(&thread, NULL, work, NULL);
    union sigval value = {.sival_int = 815};
    sigqueue(getpid(), SIGRTMIN + 2, value); /* stays pending for the process */
    kill(getpid(), SIGHUP);
    pthread_barrier_wait(&barrier);
    dprintf(1, "ready\n");
    while (access(go, F_OK)) usleep(1000);
    struct sigaction now;
    sigaction(SIGUSR1, NULL, &now);
    if (now.sa_sigaction != on_usr1 || !(now.sa_flags & SA_ONSTACK) || !sigismember(&now.sa_mask, SIGTERM)) fail("action");
    sigaction(SIGPIPE, NULL, &now);
    if (now.sa_handler != SIG_IGN) fail("ignored signal");
    sigaction(SIGTRAP, NULL, &now);
    if (now.sa_handler != SIG_IGN) fail("ignored SIGTRAP");
    sigaction(SIGTERM, NULL, &now);
    if (now.sa_handler != SIG_DFL) fail("default signal");
    sigaction(SIGCHLD, NULL, &now);
    if (!(now.sa_flags & SA_NOCLDWAIT)) fail("flags of a default action");
    raise(SIGTRAP);
    if (interrupted_handler) fail("blocked signal was delivered");
    sigset_t hangup;
    sigemptyset(&hangup);
    sigaddset(&hangup, SIGHUP);
    pthread_sigmask(SIG_UNBLOCK, &hangup, NULL);
    if (interrupted_handler != 1) fail("pending signal");
    check_alternate(0);
    pthread_join(thread, NULL);
    pid_t pid = fork();
    if (pid == 0) _exit(0);
    if (waitpid(pid, NULL, 0) != -1 || errno != ECHILD) fail("no zombies");
    dprintf(1, failed ? "FAIL\n" : "PASS\n");
    return failed ? 1 : 7;
}
