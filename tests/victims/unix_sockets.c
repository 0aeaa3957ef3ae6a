/* Unix sockets: pairs of every type with queued data, half closed, widowed, listening by path and abstract, a connection
 * within the program, datagrams in a bound socket. */
#include "victim.h"

#include <stddef.h>
#include <sys/un.h>

static socklen_t named(struct sockaddr_un *address, const char *path) {
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    if (path[0] == '@') {
        memcpy(address->sun_path + 1, path + 1, strlen(path) - 1);
        return offsetof(struct sockaddr_un, sun_path) + strlen(path);
    }
    strcpy(address->sun_path, path);
    return sizeof *address;
}

static int bound(int kind, const char *path) {
    struct sockaddr_un address;
    socklen_t size = named(&address, path);
    int made = socket(AF_UNIX, kind | SOCK_CLOEXEC, 0);
    must(made >= 0 && bind(made, (struct sockaddr *)&address, size) == 0);
    return made;
}

static int connected(int kind, const char *path) {
    struct sockaddr_un address;
    socklen_t size = named(&address, path);
    int made = socket(AF_UNIX, kind, 0);
    must(made >= 0 && connect(made, (struct sockaddr *)&address, size) == 0);
    return made;
}

static void must_receive(int number, const char *expected) {
    char text[256] = "";
    must(recv(number, text, sizeof text - 1, MSG_DONTWAIT) == (ssize_t)strlen(expected));
    must(strcmp(text, expected) == 0);
}

static void must_be_empty(int number) {
    char byte;
    must(recv(number, &byte, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN);
}

int main(int argc, char **argv) {
    begin(argc, argv);
    int stream[2], datagram[2], packet[2], half[2], widowed[2];
    must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, stream) == 0);
    must(send(stream[0], "left to right", 13, 0) == 13 && send(stream[1], "right", 5, 0) == 5);
    must(socketpair(AF_UNIX, SOCK_DGRAM, 0, datagram) == 0);
    must(send(datagram[0], "one", 3, 0) == 3 && send(datagram[0], "", 0, 0) == 0 && send(datagram[0], "three", 5, 0) == 5);
    must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, packet) == 0);
    must(send(packet[1], "first", 5, 0) == 5 && send(packet[1], "second packet", 13, 0) == 13);
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, half) == 0);
    must(send(half[0], "bye", 3, 0) == 3 && shutdown(half[0], SHUT_WR) == 0);
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, widowed) == 0);
    must(send(widowed[1], "last words", 10, 0) == 10 && close(widowed[1]) == 0);
    char path[256], abstract[64], mailbox_path[256];
    snprintf(path, sizeof path, "%s", in_directory("listening"));
    snprintf(mailbox_path, sizeof mailbox_path, "%s", in_directory("mailbox"));
    snprintf(abstract, sizeof abstract, "@kgm-victim-%lld", (long long)now_ns(CLOCK_REALTIME));
    int listening = bound(SOCK_STREAM, path), hidden = bound(SOCK_SEQPACKET, abstract);
    must(chmod(path, 0610) == 0 && listen(listening, 9) == 0 && listen(hidden, 3) == 0);
    int client = connected(SOCK_STREAM, path), server = accept(listening, NULL, NULL);
    must(server >= 0 && send(client, "request", 7, 0) == 7);
    int mailbox = bound(SOCK_DGRAM, mailbox_path), sender = connected(SOCK_DGRAM, mailbox_path);
    must(send(sender, "letter", 6, 0) == 6);
    int size = 40000, on = 1;
    must(setsockopt(stream[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size) == 0);
    must(setsockopt(datagram[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0);
    await_verdict();
    must_receive(stream[1], "left to right");
    must_receive(stream[0], "right");
    must_be_empty(stream[0]);
    must(flags_of(stream[0]) & O_NONBLOCK);
    must(send(stream[0], "more", 4, 0) == 4);
    must_receive(stream[1], "more");
    must_receive(datagram[1], "one");
    must_receive(datagram[1], "");
    must_receive(datagram[1], "three");
    must_be_empty(datagram[1]);
    must_receive(packet[0], "first");
    must_receive(packet[0], "second packet");
    must(is_cloexec(packet[0]) && is_cloexec(packet[1]) && !is_cloexec(datagram[0]));
    must_receive(half[1], "bye");
    must_receive(half[1], "");
    must(send(half[1], "still", 5, 0) == 5);
    must_receive(half[0], "still");
    must_receive(widowed[0], "last words");
    must_receive(widowed[0], "");
    must_receive(server, "request");
    must(send(server, "reply", 5, 0) == 5);
    must_receive(client, "reply");
    socklen_t length = sizeof size;
    must(getsockopt(stream[0], SOL_SOCKET, SO_SNDBUF, &size, &length) == 0 && size == 80000);
    must(getsockopt(datagram[1], SOL_SOCKET, SO_PASSCRED, &on, &length) == 0 && on == 1);
    struct stat status;
    must(stat(path, &status) == 0 && (status.st_mode & 0777) == 0610);
    int second = connected(SOCK_STREAM, path), third = connected(SOCK_SEQPACKET, abstract);
    must(send(second, "new", 3, 0) == 3 && send(third, "newer", 5, 0) == 5);
    must_receive(accept(listening, NULL, NULL), "new");
    must_receive(accept(hidden, NULL, NULL), "newer");
    must_receive(mailbox, "letter");
    must(send(sender, "second letter", 13, 0) == 13);
    must_receive(mailbox, "second letter");
    pass();
}
