/* Work spread over threads that may come late.
 *
 * A kernel of a millisecond must not wait for a thread that sleeps: waking one takes tens of microseconds, and on a
 * machine with idle CPUs up to a millisecond until it runs. OpenMP ends every loop with a barrier that all threads must
 * reach, those too that had nothing left to do. Here the calling thread takes part after part until none is left, helpers
 * take parts as soon as they are awake, and the caller waits only for parts that a helper has begun.
 *
 * Parts are independent of each other, so which thread does which changes no bit.
 */
#ifndef OCTOBEV_CREW_H
#define OCTOBEV_CREW_H

#include <stddef.h>
#include <stdint.h>

typedef void (*CrewWork)(void *job, ptrdiff_t part);
typedef void (*CrewRun)(int threads, ptrdiff_t parts, CrewWork work, void *job);

/* Without POSIX threads the caller does all parts, in their order. */
#if defined(__GNUC__) && !defined(_WIN32)
#define CREW_HAS_THREADS 1
#include <sched.h>
#endif

/* Says something of the whole job from any part of it; whoever called crew_run reads it after. */
static inline void crew_raise(int *flag)
{
#ifdef CREW_HAS_THREADS
    __atomic_store_n(flag, 1, __ATOMIC_RELAXED);
#else
    *flag = 1;
#endif
}

/* Tells the next part a number that is not negative. */
static inline void crew_tell(int64_t *number, int64_t value)
{
#ifdef CREW_HAS_THREADS
    __atomic_store_n(number, value, __ATOMIC_RELEASE);
#else
    *number = value;
#endif
}

/* The number that the part before tells; below 0 until then. Parts are begun in their order, so somebody is at it. */
static inline int64_t crew_await(const int64_t *number)
{
#ifdef CREW_HAS_THREADS
    int64_t value;
    while ((value = __atomic_load_n(number, __ATOMIC_ACQUIRE)) < 0)
        sched_yield();
    return value;
#else
    return *number;
#endif
}

#endif
