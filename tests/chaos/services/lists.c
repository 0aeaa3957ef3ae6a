// Lists of numbers in one table in memory, one thread, epoll: RPUSH, LLEN and LRANGE as redis answers them (RESP2).
//
//     gcc -O1 -o lists lists.c && ./lists 6379
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LISTS = 64, NUMBERS = 65536, NAME = 32, WORDS = 4, CLIENTS = 1024, REQUEST = 512 };

static struct list {
    char name[NAME];
    unsigned length;
    unsigned numbers[NUMBERS];
} table[LISTS];

static struct client {
    unsigned have;
    char request[REQUEST];
} clients[CLIENTS];

static struct list *list_of(const char *name) {
    for (int i = 0; i < LISTS; i++) {
        if (!table[i].name[0])
            strncpy(table[i].name, name, NAME - 1);
        if (!strcmp(table[i].name, name))
            return &table[i];
    }
    abort();
}

static void send_all(int fd, const char *data, size_t size) {
    while (size) {
        ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
        if (sent <= 0)
            return;
        data += sent;
        size -= sent;
    }
}

static void answer(int fd, char words[WORDS][NAME]) {
    static char text[NUMBERS * 20];
    struct list *list = list_of(words[1]);
    char *end = text;
    if (!strcmp(words[0], "RPUSH")) {
        if (list->length == NUMBERS)
            abort();
        list->numbers[list->length++] = atoi(words[2]);
        end += sprintf(end, ":%u\r\n", list->length);
    } else if (!strcmp(words[0], "LLEN")) {
        end += sprintf(end, ":%u\r\n", list->length);
    } else {
        end += sprintf(end, "*%u\r\n", list->length);
        for (unsigned i = 0; i < list->length; i++) {
            char number[12];
            int size = sprintf(number, "%u", list->numbers[i]);
            end += sprintf(end, "$%d\r\n%s\r\n", size, number);
        }
    }
    send_all(fd, text, end - text);
}

// Take one whole command off the front of what the client has sent; gives its size, 0 while it is not whole.
static size_t parse(struct client *client, char words[WORDS][NAME]) {
    char *at = client->request, *stop = at + client->have, *line;
    memset(words, 0, WORDS * NAME);
    if (!(line = memchr(at, '\n', stop - at)))
        return 0;
    int count = atoi(at + 1);
    at = line + 1;
    for (int i = 0; i < count && i < WORDS; i++) {
        if (!(line = memchr(at, '\n', stop - at)))
            return 0;
        int size = atoi(at + 1);
        at = line + 1;
        if (stop - at < size + 2)
            return 0;
        memcpy(words[i], at, size < NAME ? size : NAME - 1);
        at += size + 2;
    }
    return at - client->request;
}

static void serve(int fd) {
    struct client *client = &clients[fd];
    ssize_t got = recv(fd, client->request + client->have, REQUEST - client->have, 0);
    if (got <= 0) {
        close(fd);
        return;
    }
    client->have += got;
    char words[WORDS][NAME];
    size_t taken;
    while ((taken = parse(client, words))) {
        client->have -= taken;
        memmove(client->request, client->request + taken, client->have);
        answer(fd, words);
    }
}

int main(int argc, char **argv) {
    int one = 1, listening = socket(AF_INET, SOCK_STREAM, 0), events = epoll_create1(0);
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listening, (struct sockaddr *)&any, sizeof any) || listen(listening, 128)) {
        perror("listen");
        return 1;
    }
    epoll_ctl(events, EPOLL_CTL_ADD, listening, &(struct epoll_event){.events = EPOLLIN, .data.fd = listening});
    for (;;) {
        struct epoll_event event;
        if (epoll_wait(events, &event, 1, -1) != 1)
            continue;
        if (event.data.fd != listening) {
            serve(event.data.fd);
            continue;
        }
        int fd = accept(listening, NULL, NULL);
        if (fd < 0)
            continue;
        if (fd >= CLIENTS) {
            close(fd);
            continue;
        }
        clients[fd].have = 0;
        epoll_ctl(events, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLIN, .data.fd = fd});
    }
}
