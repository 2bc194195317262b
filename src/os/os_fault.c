/* SPDX-License-Identifier: Apache-2.0 */
/* Hooks and environment of fault points. See os_fault.h. */
#include "os/os_fault.h"

#include "base/flt.h"
#include "base/status.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static const char *token; /* RAY_FAULT_TOKEN */

static void
delay(uint64_t ms)
{
    struct timespec left = {
        .tv_sec = (time_t)(ms / 1000),
        .tv_nsec = (long)(ms % 1000) * 1000000L,
    };
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
}

static void
crash(void)
{
    char taken[4096];
    if (token) {
        (void)snprintf(taken, sizeof(taken), "%s.%d", token, (int)getpid());
        if (rename(token, taken) != 0) {
            return;
        }
    }
    (void)kill(getpid(), SIGKILL);
    for (;;) {
        (void)pause(); /* the signal is on its way */
    }
}

static void
stop(void)
{
    (void)kill(getpid(), SIGSTOP);
}

int
os_fault_init(const char *role)
{
    static const struct flt_hooks hooks = { .delay = delay, .crash = crash, .stop = stop };
    flt_set_hooks(&hooks);
    token = getenv("RAY_FAULT_TOKEN");
    const char *text = getenv("RAY_FAULT");
    return text ? flt_arm(text, role, false) : ST_OK;
}
