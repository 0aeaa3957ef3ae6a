/* One variable for each thing that a type can be. It prints "ready" and waits for the end of its input. */
#include <complex.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/select.h>

typedef int32_t price_t;
enum side { BUY = -1, NONE, SELL };
enum color { RED, GREEN };

struct inner {
    short a;
    union {
        int as_int;
        float as_float;
    };
    struct {
        char low, high;
    };
};

struct plain {
    bool flag;
    signed char tiny;
    unsigned char raw[4];
    char text[8];
    const volatile price_t price;
    int64_t big;
    float ratio;
    long double precise;
    double _Complex pair;
    enum side side;
    enum color color;
    int grid[2][3];
    struct inner inner[2];
    int low : 3;
    unsigned high : 5;
    unsigned long wide : 40;
    __int128 huge;
};

struct plain g_plain = {
    true, -5, {1, 2, 3, 255}, "abc", 1234, -1234567890123, 0.5f, 1.25L, 1.0 + 2.0 * I, SELL, GREEN,
    {{1, 2, 3}, {4, 5, 6}}, {{7, {8}, {'x', 'y'}}, {9, {.as_float = 2.5f}, {'p', 'q'}}}, -3, 21, 1UL << 39, -7,
};

struct node { struct node *next; int value; };
struct handler { int number; void (*call)(int); };
struct locked { int before; pthread_mutex_t lock; pthread_cond_t cond; int after; };
struct several { pthread_spinlock_t spin; sem_t sem; pthread_rwlock_t rw; pthread_t thread; fd_set set; jmp_buf jump; };
union either { long number; char *text; };
struct choosing { int kind; union either either; };

struct node g_node;
struct node g_nodes[3];
struct handler g_handler;
struct { int outer; struct locked entries[4]; } g_locked;
struct several g_several;
struct choosing g_choosing;
char *g_pointer = "x";
const struct inner g_constant = {1, {2}, {3, 4}};
const char *const g_names[2] = {"a", "b"};
__thread int g_thread_local;
static int lonely = 42;
int g_lost_in_debug;

static int *count_calls(void) {
    static int calls = 3;
    return &calls;
}

int main(void) {
    g_thread_local = lonely + *count_calls();
    puts("ready");
    fflush(stdout);
    return getchar() != EOF && g_pointer[0] == g_names[0][0] && g_constant.a;
}
