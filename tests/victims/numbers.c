/* Descriptor numbers in every order: duplicates below and above, holes, swapped pairs, close-on-exec for each number. */
#include "victim.h"

#include <sys/eventfd.h>

enum { COUNTERS = 40, FAR = 900 };

static uint64_t take(int number) {
    uint64_t value = 0;
    must(read(number, &value, sizeof value) == sizeof value);
    return value;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    int far[COUNTERS];
    for (int i = 0; i < COUNTERS; i++) {
        int made = eventfd(i + 1, EFD_NONBLOCK);
        /* 37 is coprime to COUNTERS: the order of the numbers is not that of their making. */
        far[i] = dup3(made, FAR - 2 * (i * 37 % COUNTERS), i % 3 ? 0 : O_CLOEXEC);
        must(made >= 0 && far[i] >= 0);
        if (i % 2) close(made);
    }
    int pair[2], spare;
    must(pipe(pair) == 0 && (spare = dup(pair[0])) >= 0);
    must(dup2(pair[1], pair[0]) == pair[0] && dup2(spare, pair[1]) == pair[1] && close(spare) == 0);
    int open_before[1024];
    for (int number = 0; number < 1024; number++) open_before[number] = !is_closed(number);
    await_verdict();
    for (int number = 0; number < 1024; number++) must(open_before[number] == !is_closed(number));
    for (int i = 0; i < COUNTERS; i++) {
        must(take(far[i]) == (uint64_t)i + 1);
        must(!is_cloexec(far[i]) == !!(i % 3));
        uint64_t none;
        must(read(far[i], &none, sizeof none) == -1 && errno == EAGAIN);
    }
    char byte = 0;
    must(write(pair[0], "s", 1) == 1 && read(pair[1], &byte, 1) == 1 && byte == 's');
    pass();
}
