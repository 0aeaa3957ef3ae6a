/* A signalfd with signals that wait in it, one of them queued with values. */
#include "victim.h"

#include <sys/signalfd.h>

int main(int argc, char **argv) {
    begin(argc, argv);
    sigset_t mask, watched;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR1);
    sigaddset(&mask, SIGRTMIN + 3);
    sigaddset(&mask, SIGUSR2);
    must(sigprocmask(SIG_BLOCK, &mask, NULL) == 0);
    watched = mask;
    sigdelset(&watched, SIGUSR2);
    int number = signalfd(-1, &watched, SFD_NONBLOCK | SFD_CLOEXEC);
    must(number >= 0 && kill(getpid(), SIGUSR1) == 0 && kill(getpid(), SIGUSR2) == 0);
    for (int i = 0; i < 3; i++) must(sigqueue(getpid(), SIGRTMIN + 3, (union sigval){.sival_int = 100 + i}) == 0);
    await_verdict();
    must(is_cloexec(number));
    struct signalfd_siginfo found;
    must(read(number, &found, sizeof found) == sizeof found && found.ssi_signo == SIGUSR1);
    must(found.ssi_pid == (uint32_t)getpid());
    for (int i = 0; i < 3; i++) {
        must(read(number, &found, sizeof found) == sizeof found && (int)found.ssi_signo == SIGRTMIN + 3);
        must(found.ssi_int == 100 + i);
    }
    must(read(number, &found, sizeof found) == -1 && errno == EAGAIN);
    sigset_t pending;
    must(sigpending(&pending) == 0 && sigismember(&pending, SIGUSR2) && !sigismember(&pending, SIGUSR1));
    must(kill(getpid(), SIGUSR1) == 0 && read(number, &found, sizeof found) == sizeof found);
    pass();
}
