/* Maps, unmaps, moves, grows, protects and gives back memory all the time, in two threads, and writes into what it has. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SLOTS 64
#define PAGE 4096ul

struct slot {
    char *at;
    size_t pages;
    int readable_only;
    int shared;
};

static uint64_t next(uint64_t *seed) {
    *seed ^= *seed << 13, *seed ^= *seed >> 7, *seed ^= *seed << 17;
    return *seed;
}

static void scribble(struct slot *slot, uint64_t *seed) {
    if (slot->readable_only) return;
    for (int i = 0; i < 4; i++) {
        size_t offset = next(seed) % (slot->pages * PAGE - 8);
        memcpy(slot->at + offset, seed, 8);
    }
}

static void change(struct slot *slot, uint64_t *seed) {
    uint64_t what = next(seed) % 8;
    if (!slot->at) {
        slot->pages = 1 + next(seed) % 200;
        slot->shared = next(seed) % 4 == 0;
        slot->at = mmap(NULL, slot->pages * PAGE, PROT_READ | PROT_WRITE,
                        (slot->shared ? MAP_SHARED : MAP_PRIVATE) | MAP_ANONYMOUS, -1, 0);
        slot->readable_only = 0;
        if (slot->at == MAP_FAILED) abort();
    } else if (what == 0) {
        munmap(slot->at, slot->pages * PAGE);
        slot->at = NULL;
        return;
    } else if (what == 1) {
        madvise(slot->at, slot->pages * PAGE / 2 / PAGE * PAGE, MADV_DONTNEED);
    } else if (what == 2) {
        slot->readable_only = !slot->readable_only;
        mprotect(slot->at, slot->pages * PAGE, slot->readable_only ? PROT_READ : PROT_READ | PROT_WRITE);
    } else if (what == 3) {
        /* A shared object does not grow with its mapping. */
        size_t pages = 1 + next(seed) % (slot->shared ? slot->pages : 300);
        char *moved = mremap(slot->at, slot->pages * PAGE, pages * PAGE, MREMAP_MAYMOVE);
        if (moved != MAP_FAILED) slot->at = moved, slot->pages = pages;
    } else if (what == 4) {
        /* The same place, the same size, another memory: nothing in /proc/PID/maps tells. */
        int protection = slot->readable_only ? PROT_READ : PROT_READ | PROT_WRITE;
        if (mmap(slot->at, slot->pages * PAGE, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
            abort();
        slot->shared = 0;
    }
    scribble(slot, seed);
}

static void *churn(void *argument) {
    uint64_t seed = 88172645463325252ull + (uintptr_t)argument;
    struct slot slots[SLOTS] = {0};
    for (;;) {
        change(&slots[next(&seed) % SLOTS], &seed);
        if (next(&seed) % 16 == 0) {
            char *block = malloc(1 + next(&seed) % 300000);
            if (block) memset(block, (int)seed, 64);
            free(block);
        }
        if (next(&seed) % 64 == 0) usleep(200);
    }
    return NULL;
}

int main(void) {
    pthread_t other;
    pthread_create(&other, NULL, churn, (void *)1);
    churn((void *)2);
    return 0;
}
