/* A session service that knows nothing of kagemusha: its table is mirrored by name, into a warm instance elsewhere.
 *
 *     gcc -g -O2 -pthread -o /opt/sessions/sessions sessions.c
 *     /opt/sessions/sessions 7000
 *
 * One line in, one line out, over TCP:
 *     OPEN user           OK 17               a new session
 *     PUT 17 some text    OK 3                its value; the answer counts its changes
 *     GET 17              OK ann 3 some text
 *     CLOSE 17            OK
 *     COUNT               OK 1
 *
 * All that matters is in one variable without pointers. Each entry has a lock, which belongs to its own process:
 *     [[structures]]
 *     symbol = "g_sessions"
 *     exclude = ["g_sessions.entries.lock", "g_sessions.lock"]
 * What can be worked out from the table (which entries are free) is looked up in it each time, and kept nowhere else:
 * the table may have changed under the program's hands when it begins to serve.
 */
#include <arpa/inet.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SESSIONS_MAX 4096
#define USER_BYTES 32
#define VALUE_BYTES 256

enum state { FREE, OPEN };

struct session {
    enum state state;
    uint32_t changes;
    char user[USER_BYTES];
    char value[VALUE_BYTES];
    pthread_mutex_t lock;
};

struct table {
    uint64_t opened;
    pthread_mutex_t lock; /* of `opened`, and of what is FREE */
    struct session entries[SESSIONS_MAX];
};

struct table g_sessions;

static struct session *session_at(long number) {
    return number >= 0 && number < SESSIONS_MAX ? &g_sessions.entries[number] : NULL;
}

static void open_session(const char *user, char *answer, size_t size) {
    pthread_mutex_lock(&g_sessions.lock);
    for (long number = 0; number < SESSIONS_MAX; number++) {
        struct session *one = &g_sessions.entries[number];
        if (one->state == FREE) {
            one->changes = 0;
            one->value[0] = '\0';
            snprintf(one->user, sizeof one->user, "%s", user);
            one->state = OPEN;
            g_sessions.opened++;
            snprintf(answer, size, "OK %ld", number);
            pthread_mutex_unlock(&g_sessions.lock);
            return;
        }
    }
    pthread_mutex_unlock(&g_sessions.lock);
    snprintf(answer, size, "FULL");
}

static void count_sessions(char *answer, size_t size) {
    long count = 0;
    pthread_mutex_lock(&g_sessions.lock);
    for (long number = 0; number < SESSIONS_MAX; number++)
        count += g_sessions.entries[number].state == OPEN;
    pthread_mutex_unlock(&g_sessions.lock);
    snprintf(answer, size, "OK %ld", count);
}

static void work_on(struct session *one, const char *verb, const char *value, char *answer, size_t size) {
    pthread_mutex_lock(&one->lock);
    if (one->state != OPEN) {
        snprintf(answer, size, "NONE");
    } else if (!strcmp(verb, "PUT")) {
        snprintf(one->value, sizeof one->value, "%s", value);
        snprintf(answer, size, "OK %u", ++one->changes);
    } else if (!strcmp(verb, "GET")) {
        snprintf(answer, size, "OK %s %u %s", one->user, one->changes, one->value);
    } else {
        pthread_mutex_lock(&g_sessions.lock);
        one->state = FREE;
        pthread_mutex_unlock(&g_sessions.lock);
        snprintf(answer, size, "OK");
    }
    pthread_mutex_unlock(&one->lock);
}

static void answer_line(char *line, char *answer, size_t size) {
    char verb[8] = "", user[USER_BYTES] = "";
    long number = -1;
    int read = 0;
    line[strcspn(line, "\r\n")] = '\0';
    if (sscanf(line, "OPEN %31s", user) == 1) {
        open_session(user, answer, size);
    } else if (!strcmp(line, "COUNT")) {
        count_sessions(answer, size);
    } else if (sscanf(line, "%7s %ld %n", verb, &number, &read) == 2 &&
               (!strcmp(verb, "PUT") || !strcmp(verb, "GET") || !strcmp(verb, "CLOSE"))) {
        struct session *one = session_at(number);
        if (one != NULL)
            work_on(one, verb, line + read, answer, size);
        else
            snprintf(answer, size, "NONE");
    } else {
        snprintf(answer, size, "WHAT");
    }
}

static void *serve(void *argument) {
    int peer = (int)(intptr_t)argument;
    FILE *in = fdopen(peer, "r"), *out = fdopen(dup(peer), "w");
    char line[512], answer[512];
    while (in && out && fgets(line, sizeof line, in)) {
        answer_line(line, answer, sizeof answer);
        if (fprintf(out, "%s\n", answer) < 0 || fflush(out))
            break;
    }
    if (in)
        fclose(in);
    if (out)
        fclose(out);
    return NULL;
}

int main(int count, char **arguments) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_ANY)};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
    if (count != 2) {
        fprintf(stderr, "usage: %s PORT\n", arguments[0]);
        return 2;
    }
    address.sin_port = htons((uint16_t)atoi(arguments[1]));
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    pthread_mutex_init(&g_sessions.lock, NULL);
    for (long number = 0; number < SESSIONS_MAX; number++)
        pthread_mutex_init(&g_sessions.entries[number].lock, NULL);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 128)) {
        perror("listen");
        return 1;
    }
    puts("ready");
    fflush(stdout);
    for (;;) {
        pthread_t thread;
        int peer = accept(listener, NULL, NULL);
        if (peer < 0)
            continue;
        if (pthread_create(&thread, NULL, serve, (void *)(intptr_t)peer))
            close(peer);
        else
            pthread_detach(thread);
    }
}
