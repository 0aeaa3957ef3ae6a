/* memfds: mapped shared and written, never mapped, half mapped, sealed, sealed and mapped, read-only reopened, with offsets;
 * POSIX shared memory. */
#include "victim.h"

enum { SIZE = 1 << 20, PAGE = 4096 };

static void fill(unsigned char *memory, size_t size, unsigned seed) {
    for (size_t i = 0; i < size; i++) memory[i] = (i * 31 + seed) >> (i % 5);
}

int main(int argc, char **argv) {
    begin(argc, argv);
    static unsigned char content[SIZE], found[SIZE];
    fill(content, SIZE, 9);
    int mapped = memfd_create("mapped", MFD_CLOEXEC);
    must(mapped >= 0 && ftruncate(mapped, SIZE) == 0);
    unsigned char *memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, mapped, 0);
    must(memory != MAP_FAILED);
    fill(memory, SIZE, 1);
    int plain = memfd_create("plain with a space", 0);
    must(write(plain, content, SIZE) == SIZE && lseek(plain, 12345, SEEK_SET) == 12345);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", plain);
    int readonly = open(path, O_RDONLY);
    must(readonly >= 0);
    int half = memfd_create("half", 0);
    must(write(half, content, SIZE) == SIZE);
    unsigned char *window = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, half, 8 * PAGE);
    must(window != MAP_FAILED);
    window[5] = 0xEE;
    int sealed = memfd_create("sealed", MFD_ALLOW_SEALING);
    int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;
    must(write(sealed, "seal", 4) == 4 && fcntl(sealed, F_ADD_SEALS, seals) == 0);
    int closed = memfd_create("closed", 0);
    must(ftruncate(closed, 4 * PAGE) == 0);
    unsigned char *left = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, closed, 0);
    unsigned char *twice = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, closed, 2 * PAGE);
    must(left != MAP_FAILED && twice != MAP_FAILED && close(closed) == 0);
    fill(left, 4 * PAGE, 4);
    int glass = memfd_create("glass", MFD_ALLOW_SEALING);
    must(write(glass, "behind glass", 13) == 13 && fcntl(glass, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK) == 0);
    char *pane = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, glass, 0);
    must(pane != MAP_FAILED);
    char name[64];
    snprintf(name, sizeof name, "/kgm-victim-%lld", (long long)now_ns(CLOCK_REALTIME));
    int posix = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
    must(posix >= 0 && ftruncate(posix, 2 * PAGE) == 0);
    char *posix_memory = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, posix, 0);
    must(posix_memory != MAP_FAILED && pwrite(posix, "second page", 11, PAGE) == 11 && shm_unlink(name) == 0);
    strcpy(posix_memory, "first page");
    ready();
    for (unsigned round = 0; !told(); round++) {
        memory[round * 4099 % SIZE] ^= 0; /* touched */
        *(unsigned *)(memory + 64) = round;
        unsigned seen;
        must(pread(mapped, &seen, sizeof seen, 64) == sizeof seen && seen == round);
        must(pwrite(plain, &round, sizeof round, 99999) == sizeof round);
        must(pread(readonly, &seen, sizeof seen, 99999) == sizeof seen && seen == round);
        nap(5);
    }
    fill(found, SIZE, 1);
    memcpy(found + 64, memory + 64, 4);
    must(memcmp(found, memory, SIZE) == 0);
    must(is_cloexec(mapped) && offset_of(plain) == 12345 && offset_of(readonly) == 0);
    must(pread(plain, found, SIZE, 0) == SIZE);
    memcpy(content + 99999, found + 99999, 4);
    must(memcmp(found, content, SIZE) == 0);
    fill(content, SIZE, 9);
    content[8 * PAGE + 5] = 0xEE;
    must(pread(half, found, SIZE, 0) == SIZE && memcmp(found, content, SIZE) == 0);
    must(pwrite(half, "Z", 1, 9 * PAGE) == 1 && window[PAGE] == 'Z');
    must(fcntl(sealed, F_GET_SEALS) == seals && pwrite(sealed, "x", 1, 0) == -1 && errno == EPERM);
    must(pread(sealed, found, 10, 0) == 4 && memcmp(found, "seal", 4) == 0);
    fill(found, 4 * PAGE, 4);
    must(memcmp(found, left, 4 * PAGE) == 0 && memcmp(found + 2 * PAGE, twice, PAGE) == 0);
    left[2 * PAGE] = 0xAB;
    must(twice[0] == 0xAB);
    must(strcmp(pane, "behind glass") == 0 && pwrite(glass, "x", 1, 0) == -1 && errno == EPERM);
    must(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, glass, 0) == MAP_FAILED);
    must(pread(posix, found, PAGE, PAGE) == PAGE && memcmp(found, "second page", 12) == 0);
    must(strcmp(posix_memory, "first page") == 0 && pwrite(posix, "F", 1, 0) == 1 && posix_memory[0] == 'F');
    must(write(readonly, "x", 1) == -1 && errno == EBADF);
    pass();
}
