/* Sixteen threads at a time, each living for a few milliseconds, each with memory, a stack and a variable of its own. */
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define THREADS 16

static __thread uint64_t own[512];

static void *live(void *argument) {
    uint64_t seed = (uintptr_t)argument * 2654435761u + 1;
    char *heap = malloc(100000);
    if (!heap) abort();
    for (int round = 0; round < 20; round++) {
        volatile char stack[20000];
        for (int i = 0; i < 50; i++) {
            seed = seed * 6364136223846793005ull + 1442695040888963407ull;
            heap[seed % 100000] = (char)seed;
            stack[(seed >> 20) % sizeof stack] = (char)seed;
            own[(seed >> 40) % 512] = seed;
        }
        usleep(100);
    }
    free(heap);
    return NULL;
}

int main(void) {
    pthread_t threads[THREADS];
    uintptr_t number = 0;
    for (int i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, live, (void *)number++);
    for (int i = 0;; i = (i + 1) % THREADS) {
        pthread_join(threads[i], NULL);
        while (pthread_create(&threads[i], NULL, live, (void *)number++)) usleep(100);
    }
}
