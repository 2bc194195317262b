/* SPDX-License-Identifier: Apache-2.0 */
/* Helper threads. See os_thread.h. */
#include "os/os_thread.h"

#include "base/assert.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>

struct helper {
    pthread_t thread;
    void (*fn)(void *);
    void *arg;
};

static void *
helper_main(void *arg)
{
    const struct helper *helper = arg;
    helper->fn(helper->arg);
    return NULL;
}

void *
os_thread_start(void (*fn)(void *), void *arg)
{
    sigset_t all;
    sigset_t before;
    struct helper *helper = malloc(sizeof(*helper));
    if (!helper) {
        return NULL;
    }
    helper->fn = fn;
    helper->arg = arg;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    const int error = pthread_create(&helper->thread, NULL, helper_main, helper);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error) {
        free(helper);
        return NULL;
    }
    return helper;
}

void
os_thread_join(void *handle)
{
    struct helper *helper = handle;
    const int error = pthread_join(helper->thread, NULL);
    ASSERT(!error);
    free(helper);
}

void
os_thread_take_signals(void)
{
    (void)sched_yield(); /* any system call does: signals are delivered at its end, if not before */
}
