/* So many MiB of memory as its argument says, all of it written, then some words of random pages all the time. */
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

int main(int count, char **arguments) {
    if (count < 2) return 2;
    size_t words = (strtoul(arguments[1], NULL, 10) << 20) / 8;
    uint64_t *memory = malloc(words * 8), seed = 1;
    if (!memory) return 1;
    for (size_t i = 0; i < words; i += 8) memory[i] = i * 2654435761u;
    for (;;) {
        for (int i = 0; i < 200; i++) {
            seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
            memory[seed % words] = seed;
        }
        usleep(1000);
    }
}
