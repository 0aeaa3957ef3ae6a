/* A large table. "p PAGES MICROSECONDS": a thread changes an entry in each of so many pages, others in each round, spread
 * evenly over so much time. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#ifndef MIB
#define MIB 64
#endif
#define PAGES (MIB * 256)

struct entry {
    uint64_t id, version;
    char name[32];
    double amount[2];
};

struct entry g_table[PAGES * 64];

static long pages, round_us;

static void *churn(void *argument) {
    uint64_t place = 1;
    for (uint64_t n = 1;; n++) {
        struct timespec pause = {0, round_us * 1000 / 10};
        for (int part = 0; part < 10; part++) {
            for (long i = 0; i < pages / 10 + 1; i++) {
                place = (place * 6364136223846793005u + 1442695040888963407u);
                struct entry *one = &g_table[(place >> 33) % (PAGES * 64)];
                one->version = n;
                one->amount[0] += 1.5;
            }
            nanosleep(&pause, NULL);
        }
    }
    return argument;
}

int main(void) {
    char line[100];
    for (long i = 0; i < PAGES * 64; i++) {
        g_table[i].id = i;
        snprintf(g_table[i].name, sizeof g_table[i].name, "entry %ld", i);
    }
    puts("ready");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        pthread_t thread;
        if (sscanf(line, "p %ld %ld", &pages, &round_us) == 2)
            pthread_create(&thread, NULL, churn, NULL);
        puts("ok");
        fflush(stdout);
    }
    return 0;
}
