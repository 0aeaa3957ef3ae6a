/* Timers as descriptors: periodic, far in the future, on the wall clock, expired and unread, not armed, boot time. */
#include "victim.h"

#include <sys/timerfd.h>

static int64_t started_ns;

static int timer(clockid_t clock, int flags, int64_t value_ns, int64_t interval_ns) {
    int made = timerfd_create(clock, TFD_NONBLOCK);
    struct itimerspec spec = {
        {interval_ns / 1000000000, interval_ns % 1000000000}, {value_ns / 1000000000, value_ns % 1000000000}};
    must(made >= 0 && timerfd_settime(made, flags, &spec, NULL) == 0);
    return made;
}

static int64_t remaining_ns(int number) {
    struct itimerspec spec;
    must(timerfd_gettime(number, &spec) == 0);
    return spec.it_value.tv_sec * 1000000000ll + spec.it_value.tv_nsec;
}

static uint64_t ticks(int number) {
    uint64_t count = 0;
    if (read(number, &count, sizeof count) == -1) must(errno == EAGAIN);
    return count;
}

static void must_be_near(int64_t is_ns, int64_t expected_ns) {
    if (llabs(is_ns - expected_ns) > 100000000) fail("%lld ns, expected %lld", (long long)is_ns, (long long)expected_ns);
}

int main(int argc, char **argv) {
    begin(argc, argv);
    const int64_t hour_ns = 3600000000000ll;
    started_ns = now_ns(CLOCK_MONOTONIC);
    int64_t wall_ns = now_ns(CLOCK_REALTIME), boot_ns = now_ns(CLOCK_BOOTTIME);
    int far = timer(CLOCK_MONOTONIC, 0, hour_ns, 0);
    int absolute = timer(CLOCK_MONOTONIC, TFD_TIMER_ABSTIME, started_ns + 2 * hour_ns, hour_ns);
    int wall = timer(CLOCK_REALTIME, TFD_TIMER_ABSTIME, wall_ns + hour_ns, 0);
    int wall_relative = timer(CLOCK_REALTIME, 0, hour_ns, 0);
    int boot = timer(CLOCK_BOOTTIME, TFD_TIMER_ABSTIME, boot_ns + hour_ns, 0);
    int unarmed = timer(CLOCK_MONOTONIC, 0, 0, 0);
    int expired = timer(CLOCK_MONOTONIC, 0, 1, 0);
    int unread = timer(CLOCK_MONOTONIC, 0, 10000000, 10000000);
    int periodic = timer(CLOCK_MONOTONIC, 0, 7000000, 7000000);
    uint64_t counted = 0;
    ready();
    while (!told()) {
        counted += ticks(periodic);
        nap(3);
    }
    int64_t since_ns = now_ns(CLOCK_MONOTONIC) - started_ns;
    must_be_near(remaining_ns(far), hour_ns - since_ns);
    must_be_near(remaining_ns(absolute), 2 * hour_ns - since_ns);
    must_be_near(remaining_ns(wall), hour_ns - (now_ns(CLOCK_REALTIME) - wall_ns));
    must_be_near(remaining_ns(wall_relative), hour_ns - since_ns);
    must_be_near(remaining_ns(boot), hour_ns - (now_ns(CLOCK_BOOTTIME) - boot_ns));
    must(remaining_ns(unarmed) == 0 && ticks(unarmed) == 0);
    must(ticks(expired) == 1 && ticks(expired) == 0 && remaining_ns(expired) == 0);
    int64_t due = (now_ns(CLOCK_MONOTONIC) - started_ns) / 10000000, seen = ticks(unread);
    if (seen < due - 1 || seen > due + 1) fail("%lld expirations, expected %lld", (long long)seen, (long long)due);
    counted += ticks(periodic);
    due = (now_ns(CLOCK_MONOTONIC) - started_ns) / 7000000;
    if ((int64_t)counted < due - 2 || (int64_t)counted > due + 1)
        fail("%llu periods, expected %lld", (unsigned long long)counted, (long long)due);
    nap(20);
    must(ticks(periodic) >= 2);
    pass();
}
