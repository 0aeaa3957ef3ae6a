/* Signals: masks, handlers of both sorts, an ignored one, an alternate stack, pending ones of thread and process, queued
 * ones with values, and a thread that stands inside a handler. */
#include "victim.h"

#include <ucontext.h>

static volatile sig_atomic_t plain, counted, on_stack, in_handler, leave_handler;
static char stack[1 << 16];
static siginfo_t last;

static void handle(int number) {
    (void)number;
    plain++;
}

static void handle_info(int number, siginfo_t *info, void *context) {
    (void)number;
    (void)context;
    last = *info;
    counted += info->si_value.sival_int;
}

static void handle_on_stack(int number) {
    char here;
    (void)number;
    on_stack = &here >= stack && &here < stack + sizeof stack;
}

static void linger(int number) {
    (void)number;
    in_handler = 1;
    while (!leave_handler) {
        struct timespec span = {0, 2000000};
        syscall(SYS_nanosleep, &span, NULL);
    }
    in_handler = 2;
}

static void *lingerer(void *argument) {
    (void)argument;
    must(pthread_kill(pthread_self(), SIGTERM) == 0);
    must(in_handler == 2);
    return NULL;
}

static void set(int number, void *handler, int flags) {
    struct sigaction action = {.sa_flags = flags};
    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, SIGHUP);
    action.sa_sigaction = handler;
    must(sigaction(number, &action, NULL) == 0);
}

static void must_be_set(int number, void *handler, int flags) {
    struct sigaction action;
    must(sigaction(number, NULL, &action) == 0 && (void *)action.sa_sigaction == handler);
    must((action.sa_flags & ~0x04000000) == flags && sigismember(&action.sa_mask, SIGHUP));
}

int main(int argc, char **argv) {
    begin(argc, argv);
    const int queued = SIGRTMIN + 2;
    set(SIGUSR1, handle, SA_RESTART);
    set(queued, handle_info, SA_SIGINFO);
    set(SIGUSR2, handle_on_stack, SA_ONSTACK | SA_NODEFER);
    set(SIGTERM, linger, 0);
    signal(SIGPIPE, SIG_IGN);
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack}, found;
    must(sigaltstack(&alternate, NULL) == 0);
    sigset_t mask, now;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR1);
    sigaddset(&mask, queued);
    sigaddset(&mask, SIGWINCH);
    must(pthread_sigmask(SIG_BLOCK, &mask, NULL) == 0);
    pthread_t thread; /* blocks them, too, or they would be its own to handle */
    must(pthread_create(&thread, NULL, lingerer, NULL) == 0);
    while (!in_handler) nap(1);
    must(pthread_kill(pthread_self(), SIGUSR1) == 0 && kill(getpid(), SIGWINCH) == 0);
    for (int i = 1; i <= 5; i++) must(sigqueue(getpid(), queued, (union sigval){.sival_int = i * 10}) == 0);
    await_verdict();
    must_be_set(SIGUSR1, handle, SA_RESTART);
    must_be_set(queued, handle_info, SA_SIGINFO);
    must_be_set(SIGUSR2, handle_on_stack, SA_ONSTACK | SA_NODEFER);
    struct sigaction ignored;
    must(sigaction(SIGPIPE, NULL, &ignored) == 0 && ignored.sa_handler == SIG_IGN);
    must(sigaction(SIGHUP, NULL, &ignored) == 0 && ignored.sa_handler == SIG_DFL);
    must(pthread_sigmask(SIG_BLOCK, NULL, &now) == 0);
    for (int number = 1; number < NSIG; number++) must(sigismember(&now, number) == sigismember(&mask, number));
    must(sigpending(&now) == 0);
    must(sigismember(&now, SIGUSR1) && sigismember(&now, queued) && sigismember(&now, SIGWINCH));
    must(plain == 0 && counted == 0);
    must(sigaltstack(NULL, &found) == 0 && found.ss_sp == stack && found.ss_size == sizeof stack);
    must(pthread_sigmask(SIG_UNBLOCK, &mask, NULL) == 0);
    must(plain == 1 && counted == 150 && last.si_pid == getpid() && last.si_code == SI_QUEUE);
    must(raise(SIGUSR2) == 0 && on_stack);
    leave_handler = 1;
    must(pthread_join(thread, NULL) == 0);
    pass();
}
