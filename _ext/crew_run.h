/* The one crew of the process, see crew.h; only crew.pyx includes this. */
#ifndef OCTOBEV_CREW_RUN_H
#define OCTOBEV_CREW_RUN_H

#include "crew.h"

#ifdef CREW_HAS_THREADS
#include <pthread.h>
#include <signal.h>

#define CREW_LARGEST 64
#define CREW_GLANCES 1000 /* at a helper that has begun a part: some ten microseconds, before the caller sleeps */

/* Lives on the caller's stack: nobody holds it once it is off the list and has no helpers. */
typedef struct CrewJob {
    CrewWork work;
    void *job;
    ptrdiff_t parts, next; /* next: the first part that nobody has taken, atomic */
    int wanted;            /* helpers that may still join */
    int helpers;           /* helpers at work, changed under the lock */
    struct CrewJob *after;
} CrewJob;

static struct {
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    CrewJob *jobs;
    int helpers; /* threads of the crew */
    int watches_forks;
} crew = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, PTHREAD_COND_INITIALIZER, NULL, 0, 0};

static void crew_take_parts(CrewJob *job)
{
    ptrdiff_t part;
    while ((part = __atomic_fetch_add(&job->next, 1, __ATOMIC_RELAXED)) < job->parts)
        job->work(job->job, part);
}

static CrewJob *crew_open_job(void)
{
    CrewJob *job = crew.jobs;
    while (job && !job->wanted)
        job = job->after;
    return job;
}

static void *crew_help(void *nothing)
{
    pthread_mutex_lock(&crew.lock);
    for (;;) {
        CrewJob *job = crew_open_job();
        if (!job) {
            pthread_cond_wait(&crew.wake, &crew.lock);
            continue;
        }
        job->wanted--;
        job->helpers++;
        pthread_mutex_unlock(&crew.lock);
        crew_take_parts(job);
        pthread_mutex_lock(&crew.lock);
        __atomic_sub_fetch(&job->helpers, 1, __ATOMIC_RELEASE);
        pthread_cond_broadcast(&crew.done);
    }
    return nothing;
}

/* A child of fork() has the caller's thread only. */
static void crew_begin_anew(void)
{
    pthread_mutex_init(&crew.lock, NULL);
    pthread_cond_init(&crew.wake, NULL);
    pthread_cond_init(&crew.done, NULL);
    crew.jobs = NULL;
    crew.helpers = 0;
}

/* Has so many helpers, or as many as the system gives. Signals are left to the threads of the program. */
static void crew_engage(int helpers)
{
    if (crew.helpers >= helpers)
        return;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (!crew.watches_forks)
        crew.watches_forks = pthread_atfork(NULL, NULL, crew_begin_anew) == 0;
    while (crew.helpers < helpers) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, crew_help, NULL) != 0)
            break;
        pthread_detach(thread);
        crew.helpers++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void crew_leave_list(CrewJob *job)
{
    CrewJob **link = &crew.jobs;
    while (*link != job)
        link = &(*link)->after;
    *link = job->after;
}

static void crew_wait_for_helpers(CrewJob *job)
{
    for (int glance = 0; glance < CREW_GLANCES && __atomic_load_n(&job->helpers, __ATOMIC_ACQUIRE); glance++) {
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#endif
    }
    pthread_mutex_lock(&crew.lock);
    while (job->helpers)
        pthread_cond_wait(&crew.done, &crew.lock);
    pthread_mutex_unlock(&crew.lock);
}

/* Calls work(job, part) for 0 <= part < parts, on the calling thread and up to threads - 1 helpers. */
static void crew_run(int threads, ptrdiff_t parts, CrewWork work, void *arguments)
{
    CrewJob job = {work, arguments, parts, 0, 0, 0, NULL};
    int helpers = threads < CREW_LARGEST ? threads - 1 : CREW_LARGEST - 1;
    if (helpers > parts - 1)
        helpers = (int)(parts - 1);
    if (helpers <= 0) {
        crew_take_parts(&job);
        return;
    }
    job.wanted = helpers;
    pthread_mutex_lock(&crew.lock);
    crew_engage(helpers);
    job.after = crew.jobs;
    crew.jobs = &job;
    for (int helper = 0; helper < helpers; helper++)
        pthread_cond_signal(&crew.wake);
    pthread_mutex_unlock(&crew.lock);
    crew_take_parts(&job);
    pthread_mutex_lock(&crew.lock);
    crew_leave_list(&job);
    pthread_mutex_unlock(&crew.lock);
    crew_wait_for_helpers(&job);
}

#else

static void crew_run(int threads, ptrdiff_t parts, CrewWork work, void *arguments)
{
    (void)threads;
    for (ptrdiff_t part = 0; part < parts; part++)
        work(arguments, part);
}

#endif

#endif
