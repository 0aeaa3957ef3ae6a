/* Interval timers, POSIX timers with their ids, and clocks that go on, judged after a takeover. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static const char *go;
static volatile int failed;
static volatile sig_atomic_t alarms, beats, thread_beats, late, cpu;
static volatile int beat_value;

static void fail(const char *what) {
    dprintf(1, "FAIL %s errno %d\n", what, errno);
    failed = 1;
}
static double now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}
static void on_alarm(int number) { alarms++; }
static void on_cpu(int number) { cpu++; }
static void on_timer(int number, siginfo_t *information, void *context) {
    if (number == SIGRTMIN) beats++, beat_value = information->si_value.sival_int;
    if (number == SIGRTMIN + 1) thread_beats++;
    if (number == SIGRTMIN + 2) late++;
}
static int raw_timer(int clock, int notify, int number, int value) {
    struct sigevent event = {.sigev_notify = notify, .sigev_signo = number, .sigev_value.sival_int = value};
    if (notify & SIGEV_THREAD_ID) event.sigev_notify_thread_id = syscall(SYS_gettid);
    int id = -1;
    if (syscall(SYS_timer_create, clock, &event, &id)) fail("timer_create");
    return id;
}
static void set(int id, double first, double interval) {
    struct itimerspec value = {
        .it_value = {(time_t)first, (long)((first - (time_t)first) * 1e9)},
        .it_interval = {(time_t)interval, (long)((interval - (time_t)interval) * 1e9)}};
    if (syscall(SYS_timer_settime, id, 0, &value, NULL)) fail("timer_settime");
}
static double left(int id) {
    struct itimerspec value;
    if (syscall(SYS_timer_gettime, id, &value)) fail("timer_gettime");
    return value.it_value.tv_sec + value.it_value.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
    go = argv[1];
    signal(SIGALRM, on_alarm);
    signal(SIGPROF, on_cpu);
    struct sigaction action = {.sa_sigaction = on_timer, .sa_flags = SA_SIGINFO | SA_RESTART};
    for (int i = 0; i < 3; i++) sigaction(SIGRTMIN + i, &action, NULL);
    struct itimerval real = {{0, 20000}, {0, 20000}}, prof = {{0, 0}, {3600, 0}};
    setitimer(ITIMER_REAL, &real, NULL);
    setitimer(ITIMER_PROF, &prof, NULL);
    int first = raw_timer(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN, 99);
    int unused = raw_timer(CLOCK_MONOTONIC, SIGEV_NONE, 0, 0);
    int gap = raw_timer(CLOCK_MONOTONIC, SIGEV_NONE, 0, 0);
    int threaded = raw_timer(CLOCK_BOOTTIME, SIGEV_SIGNAL | SIGEV_THREAD_ID, SIGRTMIN + 1, 1);
    int far = raw_timer(CLOCK_REALTIME, SIGEV_SIGNAL, SIGRTMIN + 2, 2);
    int cpu_timer = raw_timer(CLOCK_PROCESS_CPUTIME_ID, SIGEV_NONE, 0, 0);
    syscall(SYS_timer_delete, gap);
    set(first, 0.01, 0.01);
    set(threaded, 0.015, 0.015);
    double began = now(CLOCK_MONOTONIC), boot = now(CLOCK_BOOTTIME), wall = now(CLOCK_REALTIME);
    set(far, 1000, 0);
    set(cpu_timer, 500, 0);
    dprintf(1, "ready\n");
    double last = 0, jump = 0;
    while (access(go, F_OK)) {
        double time = now(CLOCK_MONOTONIC);
        if (last && time < last) fail("monotonic clock went back");
        if (last && time - last > jump) jump = time - last;
        last = time;
        usleep(1000);
    }
    double gone = now(CLOCK_REALTIME) - wall;
    if (now(CLOCK_MONOTONIC) - began < gone - 0.05 || now(CLOCK_MONOTONIC) - began > gone + 0.05) fail("monotonic clock");
    if (now(CLOCK_BOOTTIME) - boot < gone - 0.05 || now(CLOCK_BOOTTIME) - boot > gone + 0.05) fail("boot clock");
    double rest = left(far);
    if (rest < 1000 - gone - 0.05 || rest > 1000 - gone + 0.05) fail("remaining time");
    if (left(unused) != 0) fail("idle timer");
    if (left(cpu_timer) < 490 || left(cpu_timer) > 500.1) fail("timer on CPU time");
    errno = 0;
    struct itimerspec value;
    if (!syscall(SYS_timer_gettime, gap, &value) || errno != EINVAL) fail("deleted timer exists");
    getitimer(ITIMER_PROF, &prof);
    if (prof.it_value.tv_sec < 3590) fail("profiling timer");
    getitimer(ITIMER_REAL, &real);
    if (real.it_interval.tv_usec != 20000) fail("interval");
    int had_alarms = alarms, had_beats = beats, had_thread = thread_beats;
    for (int i = 0; i < 10000 && (alarms < had_alarms + 3 || beats < had_beats + 3 || thread_beats < had_thread + 3); i++)
        usleep(1000);
    if (alarms < had_alarms + 3) fail("interval timer stopped");
    if (beats < had_beats + 3 || beat_value != 99) fail("timer stopped");
    if (thread_beats < had_thread + 3) fail("timer of a thread stopped");
    if (late || cpu) fail("early timer");
    int next = raw_timer(CLOCK_MONOTONIC, SIGEV_NONE, 0, 0);
    if (next == first || next == unused || next == threaded || next == far) fail("id given twice");
    dprintf(1, failed ? "FAIL\n" : "PASS\n");
    return failed ? 1 : 7;
}
