/* UDP: sockets that are bound, connected, or neither, IPv4 and IPv6, with options. */
#include "victim.h"

#include <arpa/inet.h>
#include <netinet/in.h>

static int any_port(int family, struct sockaddr_storage *name, socklen_t *size) {
    int number = socket(family, SOCK_DGRAM, 0);
    must(number >= 0);
    if (family == AF_INET6) {
        struct sockaddr_in6 home = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
        must(bind(number, (struct sockaddr *)&home, sizeof home) == 0);
    } else {
        struct sockaddr_in home = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        must(bind(number, (struct sockaddr *)&home, sizeof home) == 0);
    }
    *size = sizeof *name;
    must(getsockname(number, (struct sockaddr *)name, size) == 0);
    return number;
}

static void exchange(int server, int client) {
    char text[16];
    struct sockaddr_storage from;
    socklen_t size = sizeof from;
    must(send(client, "question", 9, 0) == 9);
    must(recvfrom(server, text, sizeof text, 0, (struct sockaddr *)&from, &size) == 9 && !strcmp(text, "question"));
    must(sendto(server, "answer", 7, 0, (struct sockaddr *)&from, size) == 7);
    must(recv(client, text, sizeof text, 0) == 7 && !strcmp(text, "answer"));
}

int main(int argc, char **argv) {
    begin(argc, argv);
    int servers[2], clients[2], loose, on = 1, value;
    struct sockaddr_storage names[2], mine[2], now;
    socklen_t sizes[2], size;
    for (int i = 0; i < 2; i++) {
        servers[i] = any_port(i ? AF_INET6 : AF_INET, &names[i], &sizes[i]);
        must((clients[i] = socket(names[i].ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0)) >= 0);
        must(connect(clients[i], (struct sockaddr *)&names[i], sizes[i]) == 0);
        size = sizeof mine[i];
        must(getsockname(clients[i], (struct sockaddr *)&mine[i], &size) == 0);
        exchange(servers[i], clients[i]);
    }
    must((loose = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0)) >= 0);
    must(setsockopt(loose, SOL_SOCKET, SO_BROADCAST, &on, sizeof on) == 0);
    must(setsockopt(servers[0], IPPROTO_IP, IP_PKTINFO, &on, sizeof on) == 0);
    must(setsockopt(servers[1], IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on) == 0);
    await_verdict();
    for (int i = 0; i < 2; i++) {
        size = sizeof now;
        must(getsockname(clients[i], (struct sockaddr *)&now, &size) == 0 && !memcmp(&now, &mine[i], size));
        must(is_cloexec(clients[i]) && !is_cloexec(servers[i]));
        exchange(servers[i], clients[i]);
    }
    size = sizeof value;
    must(getsockopt(loose, SOL_SOCKET, SO_BROADCAST, &value, &size) == 0 && value == 1 && flags_of(loose) & O_NONBLOCK);
    must(getsockopt(servers[0], IPPROTO_IP, IP_PKTINFO, &value, &size) == 0 && value == 1);
    must(getsockopt(servers[1], IPPROTO_IPV6, IPV6_RECVPKTINFO, &value, &size) == 0 && value == 1);
    must(sendto(loose, "question", 9, 0, (struct sockaddr *)&names[0], sizes[0]) == 9);
    pass();
}
