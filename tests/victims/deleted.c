/* Open files without a name: unlinked, O_TMPFILE, two descriptions of one, a read-only one, a hole. */
#include "victim.h"

enum { SIZE = 300000 };
static char content[SIZE], found[SIZE];

int main(int argc, char **argv) {
    begin(argc, argv);
    for (int i = 0; i < SIZE; i++) content[i] = i * 7 + i / 251;
    int gone = open(in_directory("gone"), O_RDWR | O_CREAT | O_APPEND, 0640);
    int second = open(in_directory("gone"), O_RDONLY | O_CLOEXEC);
    must(gone >= 0 && second >= 0 && write(gone, content, SIZE) == SIZE && unlink(in_directory("gone")) == 0);
    must(lseek(second, 1000, SEEK_SET) == 1000);
    int nameless = open(victim_directory, O_TMPFILE | O_RDWR, 0600);
    must(nameless >= 0 && ftruncate(nameless, 1 << 20) == 0 && pwrite(nameless, "end", 3, (1 << 20) - 3) == 3);
    ready();
    for (int round = 0; !told(); round++) {
        /* It changes between checkpoints, too. */
        must(pwrite(nameless, &round, sizeof round, 500000) == sizeof round);
        int seen;
        must(pread(nameless, &seen, sizeof seen, 500000) == sizeof seen && seen == round);
        nap(5);
    }
    must(read(second, found, SIZE) == SIZE - 1000 && memcmp(found, content + 1000, SIZE - 1000) == 0);
    must(pread(gone, found, SIZE, 0) == SIZE && memcmp(found, content, SIZE) == 0);
    must((flags_of(gone) & (O_APPEND | O_ACCMODE)) == (O_APPEND | O_RDWR) && is_cloexec(second));
    must(write(gone, "more", 4) == 4 && read(second, found, 10) == 4 && memcmp(found, "more", 4) == 0);
    struct stat status;
    must(fstat(gone, &status) == 0 && status.st_nlink == 0 && status.st_size == SIZE + 4);
    must(fstat(nameless, &status) == 0 && status.st_size == 1 << 20);
    must(pread(nameless, found, 3, (1 << 20) - 3) == 3 && memcmp(found, "end", 3) == 0);
    must(pread(nameless, found, 4096, 4096) == 4096 && found[0] == 0 && found[4095] == 0);
    pass();
}
