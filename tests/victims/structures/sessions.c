/* A session table, as an unmodified service might have one. It does what its standard input says:
 *   w INDEX ID BALANCE   change one session          d INDEX   show one session
 *   f VALUE              change every session        s         the sum over all ids
 *   l VALUE, r VALUE     change one of two variables that lie side by side
 *   c MICROSECONDS       churn: a thread keeps count and entries[0].id equal, with so long a pause in between
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#ifndef COUNT
#define COUNT 1000
#endif

enum state { IDLE, ACTIVE = 5, CLOSED };

struct session {
    uint64_t id;
    char user[16];
    enum state state;
#ifdef OTHER_LAYOUT
    uint16_t note;
#endif
    unsigned urgent : 1, level : 3;
    double balance;
#ifndef NO_LOCK
    pthread_mutex_t lock;
#endif
};

struct table {
    uint64_t count;
    struct session entries[COUNT];
};

struct table g_sessions;
uint64_t g_left, g_right;
static uint64_t misalign[7] __attribute__((used)) = {1};

static void *churn(void *argument) {
    volatile struct table *table = &g_sessions;
    long pause_us = *(long *)argument;
    for (uint64_t n = 1;; n++) {
        table->count = n;
        if (pause_us)
            usleep(pause_us);
        table->entries[COUNT - 1].id = n;
        if (pause_us)
            usleep(pause_us);
    }
    return NULL;
}

int main(void) {
    char line[256];
    for (unsigned i = 0; i < COUNT; i++) {
#ifndef NO_LOCK
        pthread_mutex_init(&g_sessions.entries[i].lock, NULL);
#endif
    }
    puts("ready");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        unsigned index;
        unsigned long long id;
        double balance;
        static long pause_us;
        if (sscanf(line, "w %u %llu %lf", &index, &id, &balance) == 3) {
            struct session *one = &g_sessions.entries[index];
#ifndef NO_LOCK
            pthread_mutex_lock(&one->lock);
#endif
            one->id = id;
            snprintf(one->user, sizeof one->user, "user%llu", id);
            one->state = ACTIVE;
            one->urgent = 1;
            one->level = 5;
            one->balance = balance;
            g_sessions.count++;
#ifndef NO_LOCK
            pthread_mutex_unlock(&one->lock);
#endif
            puts("ok");
        } else if (sscanf(line, "f %llu", &id) == 1) {
            for (unsigned i = 0; i < COUNT; i++)
                g_sessions.entries[i].id = id;
            puts("ok");
        } else if (sscanf(line, "d %u", &index) == 1) {
            struct session *one = &g_sessions.entries[index];
            printf("%llu %s %d %u %u %.2f %llu\n", (unsigned long long)one->id, one->user, one->state, one->urgent,
                   one->level, one->balance, (unsigned long long)g_sessions.count);
        } else if (sscanf(line, "l %llu", &id) == 1) {
            g_left = id;
            puts("ok");
        } else if (sscanf(line, "r %llu", &id) == 1) {
            g_right = id;
            puts("ok");
        } else if (line[0] == 's') {
            unsigned long long sum = 0;
            for (unsigned i = 0; i < COUNT; i++)
                sum += g_sessions.entries[i].id;
            printf("%llu\n", sum);
        } else if (sscanf(line, "c %ld", &pause_us) == 1) {
            pthread_t thread;
            pthread_create(&thread, NULL, churn, &pause_us);
            puts("ok");
        } else {
            puts("?");
        }
        fflush(stdout);
    }
    return 0;
}
