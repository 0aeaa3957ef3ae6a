/* An address space that moves: brk up and down, mappings that come, go, grow and change protection, a deep stack,
 * PROT_NONE with content, a private file mapping that was written, fork afterwards. */
#include "victim.h"

#include <sys/wait.h>

enum { PAGE = 4096, SLOTS = 64 };

static unsigned char *slots[SLOTS];
static size_t sizes[SLOTS];
static unsigned seeds[SLOTS];
static unsigned random_state = 12345;

static unsigned next_random(void) { return random_state = random_state * 1103515245 + 12345; }

static void fill(int slot) {
    for (size_t at = 0; at < sizes[slot]; at += 64) *(unsigned *)(slots[slot] + at) = seeds[slot] + at;
}

static void check(int slot) {
    for (size_t at = 0; at < sizes[slot]; at += 64) must(*(unsigned *)(slots[slot] + at) == seeds[slot] + at);
}

static void churn(void) {
    int slot = next_random() / 7 % SLOTS;
    if (!slots[slot]) {
        sizes[slot] = (1 + next_random() / 7 % 32) * PAGE;
        seeds[slot] = next_random();
        slots[slot] = mmap(NULL, sizes[slot], PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        must(slots[slot] != MAP_FAILED);
        fill(slot);
    } else if (next_random() / 7 % 3 == 0) {
        size_t size = sizes[slot] + 5 * PAGE;
        void *moved = mremap(slots[slot], sizes[slot], size, MREMAP_MAYMOVE);
        must(moved != MAP_FAILED);
        slots[slot] = moved;
        sizes[slot] = size;
        fill(slot);
    } else if (next_random() / 7 % 3 == 1) {
        must(mprotect(slots[slot], sizes[slot], PROT_READ) == 0);
        check(slot);
        must(mprotect(slots[slot], sizes[slot], PROT_READ | PROT_WRITE) == 0);
    } else {
        check(slot);
        must(munmap(slots[slot], sizes[slot]) == 0);
        slots[slot] = NULL;
    }
}

static int deep(int depth) {
    volatile char frame[2000];
    memset((void *)frame, depth, sizeof frame);
    int result = depth ? deep(depth - 1) + 1 : 0;
    must(frame[0] == (char)depth && frame[1999] == (char)depth);
    return result;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    unsigned char *hidden = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(hidden != MAP_FAILED);
    memset(hidden, 0x5A, 4 * PAGE);
    must(mprotect(hidden, 4 * PAGE, PROT_NONE) == 0);
    int file = open(in_directory("mapped"), O_RDWR | O_CREAT, 0600);
    must(ftruncate(file, 3 * PAGE) == 0 && pwrite(file, "from the file", 13, PAGE) == 13);
    char *private = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    must(private != MAP_FAILED && close(file) == 0);
    strcpy(private, "written");
    unsigned char *shared = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    must(shared != MAP_FAILED);
    shared[5 * PAGE] = 77;
    void *volatile first = malloc(1); /* what the C library itself wants of the heap comes first */
    free(first);
    char *start = sbrk(0);
    must(sbrk(20 * PAGE) == start);
    memset(start, 0x33, 20 * PAGE);
    ready();
    long grown = 20;
    for (unsigned round = 0; !told(); round++) {
        for (int i = 0; i < 20; i++) churn();
        if (round % 10 == 0 && grown < 2000) {
            must(sbrk(PAGE) != (void *)-1);
            grown++;
        } else if (round % 10 == 5 && grown > 20) {
            must(sbrk(-PAGE) != (void *)-1);
            grown--;
        }
        must(deep(round % 100) == (int)(round % 100));
        nap(1);
    }
    for (int slot = 0; slot < SLOTS; slot++)
        if (slots[slot]) check(slot);
    for (int i = 0; i < 20 * PAGE; i++) must(start[i] == 0x33);
    must((char *)sbrk(0) == start + grown * PAGE && sbrk(PAGE) != (void *)-1);
    must(mprotect(hidden, 4 * PAGE, PROT_READ) == 0 && hidden[0] == 0x5A && hidden[4 * PAGE - 1] == 0x5A);
    must(strcmp(private, "written") == 0 && strcmp(private + PAGE, "from the file") == 0);
    pid_t child = fork();
    if (child == 0) {
        shared[6 * PAGE] = 78;
        private[0] = 'x';
        _exit(shared[5 * PAGE]);
    }
    int status;
    must(child > 0 && waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 77);
    must(shared[6 * PAGE] == 78 && private[0] == 'w');
    must(deep(1000) == 1000);
    pass();
}
