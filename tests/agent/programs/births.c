/* Threads that are born and die all the time, 4 at once, each doing a little work whose sum is known: prints
 * "BORN WRONG" once its standard input has ended and a hundred were born. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static volatile int over;
static long born, wrong;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void *work(void *argument) {
    unsigned long sum = 0, seed = (unsigned long)argument;
    for (unsigned long i = 0; i < 2000; i++) sum += i ^ seed;
    return (void *)sum;
}

static unsigned long expected(unsigned long seed) {
    unsigned long sum = 0;
    for (unsigned long i = 0; i < 2000; i++) sum += i ^ seed;
    return sum;
}

static void *bear(void *argument) {
    unsigned long seed = (unsigned long)argument;
    for (int here = 0; !over || here < 34; here++) {
        pthread_t thread;
        void *sum;
        if (pthread_create(&thread, NULL, work, (void *)seed)) continue;
        pthread_join(thread, &sum);
        pthread_mutex_lock(&lock);
        born++;
        wrong += (unsigned long)sum != expected(seed);
        pthread_mutex_unlock(&lock);
        seed++;
    }
    return NULL;
}

int main(void) {
    pthread_t parents[3];
    for (long i = 0; i < 3; i++) pthread_create(&parents[i], NULL, bear, (void *)(i * 1000000));
    puts("ready");
    fflush(stdout);
    while (getchar() != EOF) {}
    over = 1;
    for (int i = 0; i < 3; i++) pthread_join(parents[i], NULL);
    printf("%ld %ld\n", born, wrong);
    return 0;
}
