/* Division of an operation among the threads of a context. Each output is computed by one of them, by the steps and in the
 * order of one thread alone.
 */

/* Arguments of an operation. */
typedef struct {
    const void *layer; /* its constants */
    surge_shape in;
    const float *x;
    const uint32_t *bits;  /* signs of the input in place of x, or NULL */
    const float *shortcut; /* or another second map; NULL for none */
    float *out;
    const float *out_shift;
    uint32_t *out_bits;
} surge_call;

/* A part of its outputs: so many channels of each group, from the first one on. */
typedef struct {
    int first_row, end_row, channel, outs;
} surge_part;

typedef void surge_compute(const surge_call *call, surge_part part, void *workspace);

#ifndef SURGE_THREADS
typedef struct surge_team surge_team;

/* Compute all outputs. by_channels: whether they may be divided by channels. */
static inline void surge_divide(
    surge_team *team, surge_compute *compute, const surge_call *call, surge_part all, int by_channels, void *workspace)
{
    (void)team, (void)by_channels;
    compute(call, all, workspace);
}
#else
#if defined(_WIN32) || defined(__wasm__) || !defined(__GNUC__) || !__STDC_HOSTED__
#error "SURGE_THREADS needs POSIX threads, and gcc or Clang. Compile without it, and use several contexts at once instead."
#endif
#include <pthread.h>
#include <sched.h>
#include <unistd.h>
#if !defined(_POSIX_THREADS) || _POSIX_THREADS < 1
#error "SURGE_THREADS needs POSIX threads. Compile without it."
#endif

#define SURGE_MOST_THREADS 64
#define SURGE_TEAM_BYTES 1024
#define SURGE_LOOKS 400 /* at a number, before a thread sleeps */

/* Threads that wait for layers. Thread 0 is the caller. */
typedef struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    pthread_t ids[SURGE_MOST_THREADS];
    int threads, sleeping;
    unsigned started; /* threads */
    unsigned turn;    /* number of layers that were begun */
    unsigned left;    /* threads that have not finished their part */
    surge_compute *compute; /* NULL: threads end */
    const surge_call *call;
    surge_part all;
    int by_channels;
    unsigned char *workspaces;
    size_t workspace_bytes;
} surge_team;

typedef char surge_team_fits[sizeof(surge_team) <= SURGE_TEAM_BYTES ? 1 : -1];

/* Wait until a number, which another thread changes, has a value. */
static void surge_await(surge_team *team, const unsigned *number, unsigned value)
{
    for (int i = 0; i < SURGE_LOOKS; i++) {
        if (__atomic_load_n(number, __ATOMIC_ACQUIRE) == value) return;
        if (i >= SURGE_LOOKS / 4) sched_yield(); /* to a thread of the same core */
#if defined(__x86_64__) || defined(__i386__)
        else __builtin_ia32_pause();
#endif
    }
    pthread_mutex_lock(&team->mutex);
    team->sleeping++;
    while (__atomic_load_n(number, __ATOMIC_ACQUIRE) != value) pthread_cond_wait(&team->changed, &team->mutex);
    team->sleeping--;
    pthread_mutex_unlock(&team->mutex);
}

/* Wake the threads that sleep, after a number was changed. */
static void surge_wake(surge_team *team)
{
    pthread_mutex_lock(&team->mutex);
    if (team->sleeping) pthread_cond_broadcast(&team->changed);
    pthread_mutex_unlock(&team->mutex);
}

/* Compute the part of a thread: of the rows, or of the words of 32 channels where there are few rows. */
static void surge_compute_part(const surge_team *team, int thread, void *workspace)
{
    const int n = team->threads, rows = team->all.end_row, words = (team->all.outs + 31) / 32;
    surge_part part = team->all;
    if (team->by_channels && words >= n && rows < 8 * n) {
        const int end = words * (thread + 1) / n * 32;
        part.channel = words * thread / n * 32;
        part.outs = (end < part.outs ? end : part.outs) - part.channel;
    } else {
        part.first_row = rows * thread / n;
        part.end_row = rows * (thread + 1) / n;
    }
    team->compute(team->call, part, workspace);
}

static void *surge_thread(void *of)
{
    surge_team *team = of;
    const unsigned thread = __atomic_add_fetch(&team->started, 1, __ATOMIC_RELAXED);
    for (unsigned turn = 1;; turn++) {
        surge_await(team, &team->turn, turn);
        if (!team->compute) return NULL;
        surge_compute_part(team, (int)thread, team->workspaces + (thread - 1) * team->workspace_bytes);
        if (!__atomic_sub_fetch(&team->left, 1, __ATOMIC_ACQ_REL)) surge_wake(team);
    }
}

static void surge_begin(surge_team *team, surge_compute *compute)
{
    team->compute = compute;
    __atomic_store_n(&team->left, (unsigned)team->threads - 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(&team->turn, 1, __ATOMIC_RELEASE);
    surge_wake(team);
}

static void surge_divide(
    surge_team *team, surge_compute *compute, const surge_call *call, surge_part all, int by_channels, void *workspace)
{
    if (!team) {
        compute(call, all, workspace);
        return;
    }
    team->call = call;
    team->all = all;
    team->by_channels = by_channels;
    surge_begin(team, compute);
    surge_compute_part(team, 0, workspace);
    surge_await(team, &team->left, 0);
}

static void surge_stop(surge_team *team)
{
    surge_begin(team, NULL);
    for (int i = 1; i < team->threads; i++) pthread_join(team->ids[i], NULL);
    pthread_cond_destroy(&team->changed);
    pthread_mutex_destroy(&team->mutex);
}

/* Start threads, whose workspaces follow the team in memory. Return NULL if the system has no more of them. */
static surge_team *surge_start(int threads, unsigned char *memory, size_t workspace_bytes)
{
    surge_team *team = (surge_team *)(void *)memory;
    memset(team, 0, sizeof *team);
    team->workspaces = memory + SURGE_TEAM_BYTES;
    team->workspace_bytes = workspace_bytes;
    if (pthread_mutex_init(&team->mutex, NULL)) return NULL;
    if (pthread_cond_init(&team->changed, NULL)) {
        pthread_mutex_destroy(&team->mutex);
        return NULL;
    }
    for (team->threads = 1; team->threads < threads; team->threads++)
        if (pthread_create(&team->ids[team->threads], NULL, surge_thread, team)) {
            surge_stop(team);
            return NULL;
        }
    return team;
}
#endif
