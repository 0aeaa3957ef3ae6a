/* Shared memory: maps the file that BOOK names, with its full size. "w INDEX VALUE" writes, "r INDEX" reads. "a" maps
 * other memory at its address, "b" the file again. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define COUNT 10001

int main(void) {
    char line[100];
    int file = open(getenv("BOOK"), O_RDWR | O_CREAT, 0600);
    if (file < 0 || ftruncate(file, COUNT * sizeof(uint64_t)))
        return 1;
    volatile uint64_t *book = mmap(NULL, COUNT * sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (book == MAP_FAILED)
        return 1;
    puts("ready");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        unsigned index;
        unsigned long long value;
        if (sscanf(line, "w %u %llu", &index, &value) == 2)
            book[index] = value;
        else if (line[0] == 'a' || line[0] == 'b') {
            int kind = line[0] == 'a' ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
            mmap((void *)book, COUNT * sizeof(uint64_t), PROT_READ | PROT_WRITE, kind | MAP_FIXED,
                 line[0] == 'a' ? -1 : file, 0);
            index = 0;
        } else if (sscanf(line, "r %u", &index) != 1)
            index = 0;
        printf("%llu\n", (unsigned long long)book[index]);
        fflush(stdout);
    }
    return 0;
}
