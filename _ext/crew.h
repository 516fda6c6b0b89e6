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

typedef void (*CrewWork)(void *job, ptrdiff_t part);
typedef void (*CrewRun)(int threads, ptrdiff_t parts, CrewWork work, void *job);

/* Says something of the whole job from any part of it; whoever called crew_run reads it after. */
static inline void crew_raise(int *flag)
{
#if defined(__GNUC__)
    __atomic_store_n(flag, 1, __ATOMIC_RELAXED);
#else
    *(volatile int *)flag = 1;
#endif
}

#endif
