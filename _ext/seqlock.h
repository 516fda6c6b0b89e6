/* Ordered access to 64-bit words in memory that another process writes, and waiting for one of them to change.
 *
 * The ordering is that of C11 (section 7.17); the operations are those of a sequence lock (Boehm 2012, "Can seqlocks get
 * along with programming language memory models?"):
 *
 *     writer                                      reader
 *     store_before_writes(lock, odd)              before = load_acquire(lock)
 *     ... write the data ...                      ... read the data ...
 *     store_release(lock, even)                   after = load_after_reads(lock); whole if before == after, even
 *
 * GCC and Clang have the operations as builtins for plain memory. MSVC has none in C; there every x86-64 access is
 * already ordered but a store with a later load, which no seqlock needs, and Arm64 takes full barriers.
 */
#ifndef OCTOBEV_SEQLOCK_H
#define OCTOBEV_SEQLOCK_H

#include <stdint.h>

#if defined(_MSC_VER) && !defined(__clang__)

#include <intrin.h>
#if defined(_M_ARM64)
#define OCTOBEV_FENCE() (_ReadWriteBarrier(), __dmb(_ARM64_BARRIER_ISH), _ReadWriteBarrier())
#elif defined(_M_X64)
#define OCTOBEV_FENCE() _ReadWriteBarrier()
#else
#error "ordered access to 64-bit words is not known for this processor"
#endif

static uint64_t load_acquire(const uint64_t *word)
{
    uint64_t value = *(const volatile uint64_t *)word;
    OCTOBEV_FENCE();
    return value;
}

static uint64_t load_after_reads(const uint64_t *word)
{
    OCTOBEV_FENCE();
    return *(const volatile uint64_t *)word;
}

static void store_release(uint64_t *word, uint64_t value)
{
    OCTOBEV_FENCE();
    *(volatile uint64_t *)word = value;
}

static void store_before_writes(uint64_t *word, uint64_t value)
{
    *(volatile uint64_t *)word = value;
    OCTOBEV_FENCE();
}

#else

#if !defined(__GCC_ATOMIC_LLONG_LOCK_FREE) || __GCC_ATOMIC_LLONG_LOCK_FREE != 2
#error "64-bit words must be read and written in one piece: a lock of this process is none for another"
#endif

static uint64_t load_acquire(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }

/* No earlier read is done after this one. */
static uint64_t load_after_reads(const uint64_t *word)
{
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return __atomic_load_n(word, __ATOMIC_RELAXED);
}

static void store_release(uint64_t *word, uint64_t value) { __atomic_store_n(word, value, __ATOMIC_RELEASE); }

/* No later write is seen before this one. */
static void store_before_writes(uint64_t *word, uint64_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
}

#endif

/* What polls where the system cannot wait for a word of another process. */
#define OCTOBEV_POLL_NS 1000000

#if defined(_WIN32)

#include <windows.h>

static void wait_while(const uint64_t *word, uint64_t seen, int64_t timeout_ns)
{
    if (timeout_ns > 0 && load_acquire(word) == seen)
        Sleep(1);
}

static void wake(const uint64_t *word) { (void)word; }

#else

#include <time.h>

static void pause_for(int64_t nanoseconds)
{
    struct timespec pause = {(time_t)(nanoseconds / 1000000000), (long)(nanoseconds % 1000000000)};
    nanosleep(&pause, NULL);
}

#if defined(__linux__) && defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Returns when the lower half of the word is not `seen`, when somebody wakes it, after the timeout, on a signal, or for
   no reason. The memory may be mapped for reading only. */
static void wait_while(const uint64_t *word, uint64_t seen, int64_t timeout_ns)
{
    if (timeout_ns <= 0 || load_acquire(word) != seen)
        return;
    struct timespec timeout = {(time_t)(timeout_ns / 1000000000), (long)(timeout_ns % 1000000000)};
    if (syscall(SYS_futex, word, FUTEX_WAIT, (uint32_t)seen, &timeout, NULL, 0) == -1 && errno != EAGAIN &&
        errno != EINTR && errno != ETIMEDOUT)
        pause_for(timeout_ns < OCTOBEV_POLL_NS ? timeout_ns : OCTOBEV_POLL_NS);
}

/* Wakes everybody who waits for the word; nobody is waited for. */
static void wake(const uint64_t *word) { syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0); }

#else

static void wait_while(const uint64_t *word, uint64_t seen, int64_t timeout_ns)
{
    if (timeout_ns > 0 && load_acquire(word) == seen)
        pause_for(timeout_ns < OCTOBEV_POLL_NS ? timeout_ns : OCTOBEV_POLL_NS);
}

static void wake(const uint64_t *word) { (void)word; }

#endif
#endif
#endif
