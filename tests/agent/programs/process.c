/* What belongs to the process as a whole, and mappings of every kind, judged after a takeover. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *go;
static int failed;
extern char **environ;

static void fail(const char *what) {
    dprintf(1, "FAIL %s errno %d\n", what, errno);
    failed = 1;
}
static void text(const char *path, char *into, size_t size) {
    int file = open(path, O_RDONLY);
    ssize_t got = file < 0 ? -1 : read(file, into, size - 1);
    into[got < 0 ? 0 : got] = 0;
    for (ssize_t i = 0; i < got; i++) if (!into[i]) into[i] = ' ';
    close(file);
}
static void capabilities(char *into, size_t size) {
    char status[8192], *at;
    text("/proc/self/status", status, sizeof status);
    if ((at = strstr(status, "CapInh"))) snprintf(into, size, "%.150s", at);
}
static void *pattern(void *memory, size_t size, unsigned seed) {
    for (size_t i = 0; i < size; i += 512) ((unsigned char *)memory)[i] = (i / 512 + seed) % 251;
    return memory;
}
static int same(const void *memory, size_t size, unsigned seed) {
    for (size_t i = 0; i < size; i += 512) if (((unsigned char *)memory)[i] != (i / 512 + seed) % 251) return 0;
    return 1;
}
static void *idle(void *argument) {
    while (access(go, F_OK)) usleep(1000);
    uid_t real, effective, saved;
    if (getresuid(&real, &effective, &saved) || real != *(uid_t *)argument) fail("user of a thread");
    return NULL;
}

int main(int argc, char **argv) {
    go = argv[1];
    uid_t user = getuid(), want = argc > 2 ? atoi(argv[2]) : 0;
    if (want && !user) {
        gid_t groups[] = {50, 51};
        if (setgroups(2, groups) || setresgid(want, want, want) || setresuid(want, want, want)) fail("become another");
        prctl(PR_SET_DUMPABLE, 1);
    }
    user = getuid();
    enum { SIZE = 1 << 20 };
    umask(027);
    if (chdir("/usr/share")) fail("chdir");
    struct rlimit limit = {100, 200}, stack = {4 << 20, RLIM_INFINITY}, cpu = {100000, 200000};
    setrlimit(RLIMIT_NOFILE, &limit);
    if (getrlimit(RLIMIT_STACK, &stack) == 0) stack.rlim_cur = 4 << 20, setrlimit(RLIMIT_STACK, &stack);
    setrlimit(RLIMIT_CPU, &cpu);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_NAME, "a name (x) ");
    char before[4096], after[4096], exe[PATH_MAX] = "", caps[200] = "", now[200] = "";
    text("/proc/self/cmdline", before, sizeof before);
    if (readlink("/proc/self/exe", exe, sizeof exe - 1) < 0) fail("exe");
    unsigned char *vector = (unsigned char *)getauxval(AT_RANDOM), bytes[16];
    memcpy(bytes, vector, 16);
    capabilities(caps, sizeof caps);

    char *plain = pattern(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), SIZE, 1);
    char *none = pattern(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), SIZE, 2);
    mprotect(none, SIZE, PROT_NONE);
    char *constant = pattern(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), SIZE, 3);
    mprotect(constant, SIZE, PROT_READ);
    char *shared = pattern(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), SIZE, 4);
    mprotect(shared + SIZE / 2, SIZE / 4, PROT_READ);
    int object = memfd_create("thing", 0);
    if (ftruncate(object, SIZE)) fail("ftruncate");
    char *one = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, object, 0);
    char *two = mmap(NULL, SIZE / 2, PROT_READ, MAP_SHARED, object, SIZE / 2);
    pattern(one, SIZE, 5);
    close(object);
    int self = open(exe, O_RDONLY);
    char *file = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, self, 0);
    file[4096] ^= 0x5a;
    char was = file[4096], head = file[1];
    close(self);
    char *advised = mmap(NULL, 4 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    madvise(advised, 4 << 20, MADV_DONTFORK);
    char *wiped = pattern(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), SIZE, 6);
    madvise(wiped, SIZE, MADV_WIPEONFORK);
    char *grows = mmap((void *)0x10000000000, 16384, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED_NOREPLACE, -1, 0);
    pattern(grows, 16384, 7);
    char *heap = pattern(sbrk(SIZE), SIZE, 8);
    pthread_t thread;
    pthread_create(&thread, NULL, idle, &user);

    sbrk(100);
    void *end = sbrk(0);
    dprintf(1, "ready\n");
    while (access(go, F_OK)) usleep(1000);

    if (sbrk(0) != end || (void *)syscall(SYS_brk, 0) != end) fail("break");
    mprotect(none, SIZE, PROT_READ);
    if (!same(plain, SIZE, 1) || !same(none, SIZE, 2) || !same(constant, SIZE, 3)) fail("private memory");
    if (!same(shared, SIZE, 4)) fail("shared memory");
    if (!same(one, SIZE, 5)) fail("memfd");
    one[SIZE / 2 + 100] = 77;
    if (two[100] != 77) fail("two mappings of one object");
    if (file[4096] != was || file[1] != head) fail("private file mapping");
    if (!same(heap, SIZE, 8) || !same(grows, 16384, 7)) fail("heap");
    grows[-4096] = 1;
    memset(pattern(sbrk(SIZE), SIZE, 9), 1, SIZE);
    pid_t child = fork();
    if (child == 0) _exit(wiped[512] == 0 && same(plain, SIZE, 1) && shared[0] ? 5 : 6);
    int status;
    if (waitpid(child, &status, 0) != child || WEXITSTATUS(status) != 5) fail("child");
    if (umask(0) != 027) fail("umask");
    char path[PATH_MAX];
    if (!getcwd(path, sizeof path) || strcmp(path, "/usr/share")) fail("directory");
    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur != 100 || limit.rlim_max != 200) fail("limit of descriptors");
    getrlimit(RLIMIT_STACK, &stack);
    if (stack.rlim_cur != 4 << 20) fail("limit of the stack");
    getrlimit(RLIMIT_CPU, &cpu);
    if (cpu.rlim_cur != 100000) fail("limit of CPU time");
    if (getuid() != user || geteuid() != user || getgid() != (want ? want : 0)) fail("user");
    gid_t groups[8];
    if (want && (getgroups(8, groups) != 2 || groups[0] != 50 || groups[1] != 51)) fail("groups");
    capabilities(now, sizeof now);
    if (strcmp(caps, now)) fail("capabilities");
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1 || prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 1) fail("prctl");
    char name[17] = "";
    prctl(PR_GET_NAME, name);
    if (strcmp(name, "a name (x) ")) fail("name");
    text("/proc/self/cmdline", after, sizeof after);
    if (strcmp(before, after)) fail("command line");
    char link[PATH_MAX] = "";
    if (readlink("/proc/self/exe", link, sizeof link - 1) < 0 || strcmp(link, exe)) fail("executable");
    if (memcmp(bytes, vector, 16) || getauxval(AT_PAGESZ) != 4096) fail("auxiliary vector");
    text("/proc/self/environ", after, sizeof after);
    if (!strstr(after, "PATH=")) fail("environment");
    pthread_join(thread, NULL);
    if (open("/dev/null", O_RDONLY) != 3) fail("descriptors left behind");
    if (personality(0xffffffff) & ~ADDR_NO_RANDOMIZE) fail("personality");
    dprintf(1, failed ? "FAIL\n" : "PASS\n");
    return failed ? 1 : 7;
}
