/* The other static variable of that name; and the program: it shows a library's variable where it has one. */
#include <stdint.h>
#include <stdio.h>

static struct { uint16_t second[3]; } entries = {{1, 2, 3}};
uint32_t sum_first(void);

#ifdef WITH_LIBRARY
struct book { uint64_t version; uint32_t levels[100]; };
extern struct book lib_book;
void lib_step(void);
#endif

int main(void) {
    char line[64];
    puts("ready");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        entries.second[0]++;
#ifdef WITH_LIBRARY
        lib_step();
        printf("%llu %u\n", (unsigned long long)lib_book.version, lib_book.levels[3]);
#else
        printf("%u %u\n", entries.second[0], sum_first());
#endif
        fflush(stdout);
    }
    return 0;
}
