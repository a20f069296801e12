// Work in shares. The caller computes, and helpers join when they wake; it waits for shares that are being computed, never
// for a helper that the system has not let run: on a busy machine it does all alone. (OpenMP's regions end when all threads
// have come, and spin until then.) One call at a time has helpers.
#include <pthread.h>
#include <stdint.h>

typedef void Job(const void *call, int64_t first, int64_t last);

typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t begun, ended;
    int helpers, wanted, at_work;  // started; may still join; have joined
    Job *job;                      // NULL: nothing to do
    const void *call;
    int64_t next, share, end;
} Pool;
#define NEW_POOL {.lock = PTHREAD_MUTEX_INITIALIZER, .begun = PTHREAD_COND_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER}
static Pool pool = NEW_POOL;

// Threads do not survive a fork.
static void renew(void) { pool = (Pool)NEW_POOL; }
__attribute__((constructor)) static void watch_forks(void) { pthread_atfork(NULL, NULL, renew); }

static void work(void) {
    for (;;) {
        const int64_t first = __atomic_fetch_add(&pool.next, pool.share, __ATOMIC_RELAXED);
        if (first >= pool.end) return;
        pool.job(pool.call, first, first + pool.share < pool.end ? first + pool.share : pool.end);
    }
}

static void *help(void *nothing) {
    pthread_mutex_lock(&pool.lock);
    for (;;) {
        while (pool.wanted == 0) pthread_cond_wait(&pool.begun, &pool.lock);
        pool.wanted--;
        pool.at_work++;
        pthread_mutex_unlock(&pool.lock);
        work();
        pthread_mutex_lock(&pool.lock);
        if (--pool.at_work == 0) pthread_cond_signal(&pool.ended);
    }
    return nothing;
}

// The pool is the caller's, with the lock held; or another call has it.
static int taken(int threads) {
    pthread_mutex_lock(&pool.lock);
    if (pool.job) {
        pthread_mutex_unlock(&pool.lock);
        return 0;
    }
    pthread_t thread;
    while (pool.helpers < threads - 1 && !pthread_create(&thread, NULL, help, NULL)) {
        pthread_detach(thread);
        pool.helpers++;
    }
    return 1;
}

// job(call, first, last) over ranges of 0 .. end, some of them in up to threads - 1 others.
static void in_threads(Job *job, const void *call, int64_t end, int64_t share, int threads) {
    if (threads <= 1 || !taken(threads)) {
        job(call, 0, end);
        return;
    }
    pool.job = job, pool.call = call, pool.next = 0, pool.share = share, pool.end = end;
    pool.wanted = threads - 1 < pool.helpers ? threads - 1 : pool.helpers;
    pthread_cond_broadcast(&pool.begun);
    pthread_mutex_unlock(&pool.lock);
    work();
    pthread_mutex_lock(&pool.lock);
    pool.wanted = 0;
    while (pool.at_work) pthread_cond_wait(&pool.ended, &pool.lock);
    pool.job = NULL;
    pthread_mutex_unlock(&pool.lock);
}
