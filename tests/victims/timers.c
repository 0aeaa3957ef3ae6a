/* Timers that send signals: setitimer, timer_create to the process and to a thread, far ones, and one that is not armed. */
#include "victim.h"

#include <sys/time.h>

static volatile sig_atomic_t alarms, ticks, thread_ticks;
static pid_t ticking;

static void on_alarm(int number) {
    (void)number;
    alarms++;
}

static void on_tick(int number, siginfo_t *info, void *context) {
    (void)number;
    (void)context;
    if (info->si_value.sival_int == 42) ticks++;
    if (info->si_value.sival_int == 43 && gettid() == ticking) thread_ticks++;
}

static void *thread(void *argument) {
    (void)argument;
    ticking = gettid();
    while (!told()) nap(2);
    int before = thread_ticks;
    for (int i = 0; i < 500 && thread_ticks < before + 2; i++) nap(10);
    must(thread_ticks >= before + 2);
    return NULL;
}

static timer_t timer(clockid_t clock, int notify, int signal, int value, pid_t tid) {
    struct sigevent event = {.sigev_notify = notify, .sigev_signo = signal, .sigev_value.sival_int = value};
    event._sigev_un._tid = tid;
    timer_t made;
    must(timer_create(clock, &event, &made) == 0);
    return made;
}

static void arm(timer_t which, int64_t value_ns, int64_t interval_ns) {
    struct itimerspec spec = {
        {interval_ns / 1000000000, interval_ns % 1000000000}, {value_ns / 1000000000, value_ns % 1000000000}};
    must(timer_settime(which, 0, &spec, NULL) == 0);
}

int main(int argc, char **argv) {
    begin(argc, argv);
    const int64_t hour_ns = 3600000000000ll;
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    must(sigaction(SIGALRM, &action, NULL) == 0);
    action.sa_sigaction = on_tick;
    action.sa_flags = SA_RESTART | SA_SIGINFO;
    must(sigaction(SIGRTMIN + 1, &action, NULL) == 0);
    pthread_t other;
    must(pthread_create(&other, NULL, thread, NULL) == 0);
    while (!ticking) nap(1);
    timer_t gone = timer(CLOCK_MONOTONIC, SIGEV_NONE, 0, 0, 0);
    timer_t tick = timer(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 1, 42, 0);
    timer_t far = timer(CLOCK_REALTIME, SIGEV_NONE, 0, 0, 0);
    timer_t unarmed = timer(CLOCK_BOOTTIME, SIGEV_SIGNAL, SIGRTMIN + 1, 44, 0);
    timer_t own = timer(CLOCK_MONOTONIC, SIGEV_THREAD_ID, SIGRTMIN + 1, 43, ticking);
    must(timer_delete(gone) == 0);
    int64_t started_ns = now_ns(CLOCK_MONOTONIC);
    arm(tick, 8000000, 8000000);
    arm(own, 9000000, 9000000);
    arm(far, hour_ns, 0);
    struct itimerval period = {{0, 11000}, {0, 11000}}, found;
    must(setitimer(ITIMER_REAL, &period, NULL) == 0);
    await_verdict();
    struct itimerspec spec;
    must(timer_gettime(far, &spec) == 0);
    int64_t left_ns = spec.it_value.tv_sec * 1000000000ll + spec.it_value.tv_nsec;
    must(llabs(left_ns - (hour_ns - (now_ns(CLOCK_MONOTONIC) - started_ns))) < 200000000);
    must(timer_gettime(unarmed, &spec) == 0 && spec.it_value.tv_sec == 0 && spec.it_value.tv_nsec == 0);
    must(timer_gettime(gone, &spec) == -1 && errno == EINVAL);
    must(timer_gettime(tick, &spec) == 0 && spec.it_interval.tv_nsec == 8000000);
    must(getitimer(ITIMER_REAL, &found) == 0 && found.it_interval.tv_usec == 11000);
    int alarms_before = alarms, ticks_before = ticks;
    for (int i = 0; i < 500 && (alarms < alarms_before + 2 || ticks < ticks_before + 2); i++) nap(10);
    must(alarms >= alarms_before + 2 && ticks >= ticks_before + 2);
    must(pthread_join(other, NULL) == 0);
    must(timer_delete(tick) == 0 && timer_delete(own) == 0 && timer_delete(unarmed) == 0 && timer_delete(far) == 0);
    pass();
}
