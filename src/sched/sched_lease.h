/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The decoded messages of the lease conversation, between an owner (driver or worker) and its
 * raylet, and between a worker and its raylet about blocking. docs/protocols/leases.md tells the
 * conversation. Each unit that is requested is answered exactly once: by a grant, by a
 * cancellation, or by a failure. Connections are FIFO; nothing else about order is assumed.
 */
#ifndef RAY_SCHED_LEASE_H
#define RAY_SCHED_LEASE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/id.h"

enum { SCHED_NAME_MAX = 64, SCHED_REASON_MAX = 1024 };

enum sched_lease_kind {
    SCHED_LEASE_TASK,
    SCHED_LEASE_ACTOR, /* a dedicated process for the actor's life; ends by return with KILL */
};

/* Owner -> raylet. `key` is the raylet's own number of the key (its I/O interned the definition
 * that came along); `cookie` is the owner's name for it, echoed in every answer. */
struct sched_lease_request {
    uint32_t cookie;
    uint32_t key;
    uint32_t count; /* at least 1 */
    uint32_t depth; /* nesting depth of the deepest task waiting: 0 for a driver's own */
    enum sched_lease_kind kind;
    bool detached;             /* outlives its owner and its job */
    struct id_task first_task; /* first in the owner's queue; for words */
    char name[SCHED_NAME_MAX]; /* its function or class; for words; NUL terminated */
};

/* Owner -> raylet: up to `count` units are not needed any more. Answered by _cancelled. */
struct sched_lease_cancel {
    uint32_t cookie;
    uint32_t count;
};

enum sched_return_flags {
    SCHED_RETURN_RETIRE = 1, /* the process is used up (max_calls): let it exit, or drain */
    SCHED_RETURN_KILL = 2,   /* the process must end now: actors, forced cancellation */
};

/* Owner -> raylet: nothing is POSTED or STARTED under it, every reply was processed. */
struct sched_lease_return {
    uint64_t lease;
    uint32_t flags; /* enum sched_return_flags */
};

/* Worker -> raylet about the lease that it runs under. A stale epoch is ignored. A request that
 * came with the notice is to be processed before it. */
struct sched_lease_blocked {
    uint64_t epoch;
    bool blocked; /* false: it resumed */
};

/* Raylet -> owner. */
struct sched_lease_grant {
    uint32_t cookie;
    uint64_t lease;    /* never used again */
    uint64_t worker;   /* number of the worker process */
    uint64_t epoch;    /* every push carries it; grows for each worker */
    uint64_t gpu_mask; /* devices, bit i = index i */
    uint32_t omp;      /* OMP_NUM_THREADS */
};
struct sched_lease_cancelled {
    uint32_t cookie;
    uint32_t count;
};
struct sched_lease_failed {
    uint32_t cookie;
    uint32_t count;
    int status;                  /* ST_PROCESS_CAP, ST_WORKER_CRASHED, ST_LIMIT */
    char text[SCHED_REASON_MAX]; /* what, where, what to do */
};
/* Raylet -> owner: once for a request that can never be granted here. It stays pending. */
struct sched_lease_pending {
    uint32_t cookie;
    char text[SCHED_REASON_MAX];
};
/* Raylet -> owner: revoke and withdraw name the lease; dead says that its worker is dead (windows
 * and evidence travel beside it). */
struct sched_lease_note {
    uint64_t lease;
    uint64_t worker;
};

#endif
