/* Does to its memory whatever a program can do, for ever, in an order that its seed decides. argv: seed, seconds between
 * pauses in microseconds. Says "ready" once everything is set up. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096UL
#define FIXED_PLACES 8
#define FIXED_PAGES 64
#define LARGE_BYTES (64UL << 30)

static uint64_t state;
static useconds_t pause_us;

static uint64_t draw(uint64_t *s) {
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static char *map_at(void *at, size_t bytes, int prot, int flags, int fd, off_t offset) {
    char *p = mmap(at, bytes, prot, flags, fd, offset);
    if (p == MAP_FAILED)
        fail("mmap");
    return p;
}

static void scribble(char *base, size_t bytes, uint64_t *s) {
    *(uint64_t *)(base + draw(s) % bytes / 8 * 8) = draw(s);
}

/* A second thread writes to the heap and to its own stack all the time. */
static void *writer(void *unused) {
    uint64_t s = state + 77;
    (void)unused;
    for (;;) {
        size_t bytes = 100 + draw(&s) % 300000;
        char *p = malloc(bytes);
        for (size_t i = 0; i < bytes; i += 1000)
            p[i] = (char)draw(&s);
        volatile char local[20000];
        local[draw(&s) % sizeof local] = (char)draw(&s);
        usleep(pause_us);
        free(p);
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    state = strtoull(argv[1], 0, 10) * 2654435761u + 88172645463325252ull;
    pause_us = (useconds_t)atoi(argv[2]);
    char *place[FIXED_PLACES];
    for (int i = 0; i < FIXED_PLACES; i++)
        place[i] = map_at(0, FIXED_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *large = map_at(0, LARGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    char *huge = map_at(0, 16UL << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    madvise(huge, 16UL << 20, MADV_HUGEPAGE);
    memset(huge, 7, 16UL << 20);
    int memory = memfd_create("churn", MFD_CLOEXEC);
    if (memory < 0 || ftruncate(memory, 64 * PAGE))
        fail("memfd");
    char *first = map_at(0, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    char *second = map_at(0, 32 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 16 * PAGE);
    char *shared = map_at(0, 300 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    char *copied = map_at(0, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    size_t moving_pages = 100;
    char *moving = map_at(0, moving_pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_t thread;
    if (pthread_create(&thread, 0, writer, 0))
        fail("pthread_create");
    puts("ready");
    fflush(stdout);
    for (uint64_t step = 0;; step++) {
        char *p = place[draw(&state) % FIXED_PLACES];
        size_t at = draw(&state) % FIXED_PAGES, pages = 1 + draw(&state) % (FIXED_PAGES - at);
        switch (draw(&state) % 17) {
        case 0: /* the same place, the same look, other memory; never free meanwhile, or the writer's heap takes it */
            map_at(p, FIXED_PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
            map_at(p, FIXED_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
            break;
        case 1:
            map_at(p + at * PAGE, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
            break;
        case 2:
            madvise(p + at * PAGE, pages * PAGE, MADV_DONTNEED);
            break;
        case 3:
            mprotect(p + at * PAGE, pages * PAGE, draw(&state) % 2 ? PROT_READ : PROT_NONE);
            mprotect(p, FIXED_PAGES * PAGE, PROT_READ | PROT_WRITE);
            break;
        case 4: /* stays without permission for a while */
            *(uint64_t *)(p + 8) = draw(&state);
            mprotect(p, PAGE, PROT_NONE);
            usleep(pause_us);
            mprotect(p, PAGE, PROT_READ | PROT_WRITE);
            break;
        case 5: {
            size_t larger = 50 + draw(&state) % 200;
            char *moved = mremap(moving, moving_pages * PAGE, larger * PAGE, MREMAP_MAYMOVE);
            if (moved != MAP_FAILED) {
                moving = moved;
                moving_pages = larger;
            }
            break;
        }
        case 6: /* moved over another place */
        {
            char *fresh = map_at(0, FIXED_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            fresh[at * PAGE] = (char)draw(&state);
            if (mremap(fresh, FIXED_PAGES * PAGE, FIXED_PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, p) == MAP_FAILED)
                munmap(fresh, FIXED_PAGES * PAGE);
            break;
        }
        case 7:
            if (step % 8 == 0 && sbrk((intptr_t)(draw(&state) % 64 * PAGE)) != (void *)-1)
                break;
            break;
        case 8: {
            uint64_t word = draw(&state);
            if (pwrite(memory, &word, 8, (off_t)(draw(&state) % (64 * PAGE - 8))) != 8)
                fail("pwrite");
            break;
        }
        case 9:
            scribble(first, 64 * PAGE, &state);
            scribble(second, 32 * PAGE, &state);
            break;
        case 10:
            scribble(shared, 300 * PAGE, &state);
            if (draw(&state) % 4 == 0)
                madvise(shared + at * PAGE, pages * PAGE, MADV_REMOVE);
            break;
        case 11:
            scribble(copied, 4 * PAGE, &state);
            if (draw(&state) % 4 == 0)
                madvise(copied, 2 * PAGE, MADV_DONTNEED);
            break;
        case 12: /* 64 GiB, touched here and there, given back here and there */
            for (int i = 0; i < 20; i++)
                scribble(large + draw(&state) % 64 * (LARGE_BYTES / 64), 16 << 20, &state);
            if (draw(&state) % 8 == 0)
                madvise(large + draw(&state) % 64 * (LARGE_BYTES / 64), 16 << 20, MADV_DONTNEED);
            break;
        case 13:
            scribble(huge, 16UL << 20, &state);
            if (draw(&state) % 16 == 0)
                madvise(huge + draw(&state) % 8 * (2UL << 20), 2UL << 20, MADV_DONTNEED);
            break;
        default:
            for (int i = 0; i < 10; i++)
                scribble(p, FIXED_PAGES * PAGE, &state);
            scribble(moving, moving_pages * PAGE, &state);
        }
        if (step % 64 == 0)
            usleep(pause_us);
    }
}
