/* A shared library with an exported variable and one of its own. */
#include <stdint.h>

struct book { uint64_t version; uint32_t levels[100]; };
struct book lib_book = {1, {0}};
static struct book own_book = {5, {0}};

void lib_step(void) {
    lib_book.version++;
    lib_book.levels[3] = 30;
    own_book.version += 2;
    own_book.levels[1] = (uint32_t)own_book.version;
}
