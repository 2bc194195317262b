/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker pool's decisions: which processes to start, keep, reuse and end. Pure.
 *
 * Lives in the raylet's main thread (and in sim), embedded beside rl_lease, which drives it: the
 * raylet's I/O calls rl_lease_* only and carries out the outs that both machines append. A worker's
 * number is its start token; drivers draw their numbers from the same counter.
 *
 *   STARTING --hello--> IDLE --take--> LEASED --settle--> SETTLING --idle--> IDLE
 *   LEASED --idle--> IDLE, LEASED --drain--> DRAINING --idle--> IDLE
 *   EXITING --owning, not killed--> DRAINING
 *   any live state --exit or kill--> EXITING; any live state --dead--> DEAD --reclaimed--> gone
 *
 * A process that never ran anything is unbound: its first lease fixes OMP value and device set,
 * and later leases must have the same. Failure to start is retried three times with a growing
 * pause, then reported with the evidence for everything that waits for that class of process.
 */
#ifndef RAY_RL_POOL_H
#define RAY_RL_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/step.h"

enum { RL_EVIDENCE_MAX = 512 };

/* Outs of the pool, in the number space of enum rl_lease_out. `peer` is the worker's number. */
enum rl_pool_out {
    RL_POOL_OUT_START = 100, /* rl_pool_start: make a process (zygote, or the program's binary) */
    RL_POOL_OUT_GO,          /* none: it is registered, tell the zygote's intermediate to go */
    RL_POOL_OUT_EXIT,        /* rl_pool_end: ask it to exit; an EOF of its connection is enough */
    RL_POOL_OUT_KILL,        /* rl_pool_end: SIGKILL it (and, when reaped, what it left behind) */
};

struct rl_pool_start {
    uint64_t worker; /* start token */
    uint32_t job;
    uint64_t env_hash;
};

enum rl_pool_reason {
    RL_END_IDLE,        /* not needed */
    RL_END_ROOM,        /* an idle process makes room for one of another class */
    RL_END_RETIRED,     /* max_calls */
    RL_END_RETURNED,    /* returned with KILL: an actor's end, forced cancellation */
    RL_END_OWNER_DIED,  /* it ran a task of a dead owner */
    RL_END_JOB,         /* its job is over */
    RL_END_START,       /* it did not say hello in time */
    RL_END_STUBBORN,    /* it was asked to exit and did not */
    RL_END_DRAINED_OUT, /* too many draining processes: the oldest goes */
    RL_END_ORPHAN,      /* spawned or hello for a token that nobody waits for */
    RL_END_RAYLET,      /* the raylet's own wish: memory monitor, ray.kill */
};
struct rl_pool_end {
    enum rl_pool_reason reason;
};
/* A phrase for logs and evidence. */
const char *rl_pool_reason_text(enum rl_pool_reason reason);

enum rl_worker_state {
    RL_WORKER_STARTING,
    RL_WORKER_IDLE,
    RL_WORKER_LEASED,
    RL_WORKER_SETTLING, /* given back, its RUNNING word not yet read as zero */
    RL_WORKER_DRAINING, /* owns what is still referenced: no lease, no resources */
    RL_WORKER_EXITING,  /* asked to exit or killed */
    RL_WORKER_DEAD,     /* reaped; children, pins and resources not yet reclaimed */
};
const char *rl_worker_state_text(enum rl_worker_state state);

struct rl_lease_record;

struct rl_worker {
    uint32_t magic;
    enum rl_worker_state state;
    uint64_t number;
    struct map_link by_number;
    struct list link; /* in the pool's list of its state */
    struct rl_class *class_;
    int32_t pid; /* 0 until spawned */
    bool spawned;
    bool bound; /* omp and gpu_mask are fixed: user code ran or may have run */
    bool actor;
    bool owning; /* says that it owns something still referenced */
    bool retire; /* exit once drained */
    bool kill_sent;
    bool blocked;  /* LEASED to a task that waits; kept by rl_lease */
    bool detached; /* outlives its job: a detached actor, or at work for one */
    bool doomed;   /* its job is over: to be killed */
    uint32_t omp;
    uint64_t gpu_mask;
    uint64_t epoch;                /* last epoch given */
    uint64_t since_ns;             /* entered its state */
    uint64_t look_ns;              /* SETTLING: when to read its RUNNING word again */
    struct rl_lease_record *lease; /* rl_lease's: the lease it serves or last served; may be NULL */
};

/* Processes of one (job, environment). */
struct rl_class {
    struct map_link link;
    uint32_t job;
    uint64_t env_hash;
    uint32_t waiting; /* leases of rl_lease that wait for a process of this class */
    uint32_t starting;
    uint32_t records;  /* workers, DEAD ones included */
    uint32_t prestart; /* starts ahead of need still to be made */
    uint32_t failures; /* starts failed in a row */
    uint64_t retry_ns; /* no start before */
    bool prestarted;
    bool ended;  /* its job is over: forgotten with its last worker */
    bool broken; /* given up: waiting leases are to be failed with the evidence */
    char evidence[RL_EVIDENCE_MAX];
};

struct rl_pool_config {
    uint32_t cpus;             /* soft limit: processes that run or idle */
    uint32_t cap;              /* hard limit of all worker processes */
    uint32_t start_tries;      /* 3 */
    uint32_t starting_max;     /* at once; 0 = max(cpus, 2) */
    uint32_t idle_keep;        /* idle processes kept for good; 0 = cpus */
    uint32_t draining_max;     /* 0 = 64 */
    uint64_t idle_timeout_ns;  /* 1 s: idle ones beyond idle_keep */
    uint64_t start_timeout_ns; /* 60 s */
    uint64_t exit_grace_ns;    /* 5 s from EXIT to KILL */
    bool prestart;             /* at the first demand of a class start up to `cpus` */
    bool no_settling;          /* for the simulator: a settling process is not waited for */
};

struct rl_pool {
    const struct mem *mem;
    struct rl_pool_config config;
    struct map workers, classes;
    struct slab worker_slab, class_slab;
    struct list by_state[RL_WORKER_DEAD + 1]; /* oldest first */
    uint32_t count[RL_WORKER_DEAD + 1];
    uint32_t actors;  /* live and LEASED to actors */
    uint32_t blocked; /* live and LEASED to tasks that wait */
    uint32_t waiting; /* sum over classes */
    uint32_t doomed;  /* workers to be killed */
    uint64_t next_number;
    uint64_t started_total, failed_total;
};

void rl_pool_config_default(struct rl_pool_config *config, uint32_t cpus);
void rl_pool_init(struct rl_pool *pool, const struct mem *mem, const struct rl_pool_config *config);
void rl_pool_fini(struct rl_pool *pool);

/* A process number never given before: for drivers; workers get theirs by START. */
uint64_t rl_pool_number(struct rl_pool *pool);
/* NULL when there is none. */
struct rl_worker *rl_pool_find(const struct rl_pool *pool, uint64_t number);
/* The class, made when new; NULL without memory. */
struct rl_class *rl_pool_class(struct rl_pool *pool, uint32_t job, uint64_t env_hash);
/* Processes that exist or are being made, dead ones excepted. */
uint32_t rl_pool_processes(const struct rl_pool *pool);

/* Events. All but take/wait need room for two outs. */
void rl_pool_on_spawned(struct rl_pool *pool, uint64_t now_ns, uint64_t number, int32_t pid,
                        struct step_outs *outs);
/* True: the worker is IDLE now. False: nobody waits for it, it is told to end. */
bool rl_pool_on_hello(struct rl_pool *pool, uint64_t now_ns, uint64_t number,
                      struct step_outs *outs);
/* The process could not be made at all (fork or exec failed, zygote died). */
void rl_pool_on_start_failed(struct rl_pool *pool, uint64_t now_ns, uint64_t number,
                             const char *evidence);
/* Reaped. Counts as a failed start when it had not said hello. The record stays, DEAD. */
void rl_pool_on_dead(struct rl_pool *pool, uint64_t now_ns, uint64_t number, const char *evidence);
/* Forgets a DEAD worker. */
void rl_pool_on_reclaimed(struct rl_pool *pool, uint64_t number);
void rl_pool_on_owning(struct rl_pool *pool, uint64_t now_ns, uint64_t number, bool owning);

/* An idle process for this class, value and devices, made LEASED and bound; NULL when none. For an
 * actor it is one that owns nothing, unless there can't be another: the actor's end, which may come
 * at any time, would take along what tasks before it had made. */
struct rl_worker *rl_pool_take(struct rl_pool *pool, uint64_t now_ns, struct rl_class *class_,
                               uint32_t omp, uint64_t gpu_mask, bool for_actor);
/* The worker just taken is an actor's for the rest of its life. */
void rl_pool_dedicate(struct rl_pool *pool, struct rl_worker *worker, bool detached);
/* LEASED to a task that has begun or ceased to wait. */
void rl_pool_set_blocked(struct rl_pool *pool, struct rl_worker *worker, bool blocked);
/* One more (1) or one fewer (-1) lease waits for a process of the class; rl_pool_pump acts. */
void rl_pool_wait(struct rl_pool *pool, struct rl_class *class_, int by);
/* After what waited for a broken class has been failed: later demand tries anew. */
void rl_pool_mend(struct rl_pool *pool, uint64_t now_ns, struct rl_class *class_);
/* Dooms all workers of a job but detached ones; rl_pool_pump kills them. */
void rl_pool_end_job(struct rl_pool *pool, uint32_t job, bool goes_on);
/* LEASED or SETTLING moves on. */
void rl_pool_settle(struct rl_pool *pool, uint64_t now_ns, struct rl_worker *worker);
void rl_pool_idle(struct rl_pool *pool, uint64_t now_ns, struct rl_worker *worker);
void rl_pool_drain(struct rl_pool *pool, uint64_t now_ns, struct rl_worker *worker);
/* Needs room for one out. */
void rl_pool_exit(struct rl_pool *pool, uint64_t now_ns, struct rl_worker *worker,
                  enum rl_pool_reason reason, struct step_outs *outs);
void rl_pool_kill(struct rl_pool *pool, uint64_t now_ns, struct rl_worker *worker,
                  enum rl_pool_reason reason, struct step_outs *outs);

/* Whether one more lease of the class can have a process: an idle or settling one of its own, or
 * one more below the cap, if need be in the place of an idle one. */
bool rl_pool_can_serve(const struct rl_pool *pool, const struct rl_class *class_);
/* Whether task processes exist that may make progress: not blocked, or on their way. */
bool rl_pool_can_move(const struct rl_pool *pool);

/* Starts, reaps idle ones, times out, as far as outs has room (else outs->more). Returns the time
 * at which it wants to be called again, UINT64_MAX for never. */
uint64_t rl_pool_pump(struct rl_pool *pool, uint64_t now_ns, struct step_outs *outs);

#endif
