/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the lease world share. sim_lease.c: the raylet's I/O around the lease server,
 * chaos, invariants. sim_lease_engine.c: owners (engines around the lease client) and workers.
 * sim_lease_cancel.c: cancelling tasks, on both sides.
 *
 * Shared memory is explicit: the word of a push, the epoch and the RUNNING word of a worker's page
 * are fields that both sides read and write in steps of their own.
 */
#ifndef RAY_SIM_SIM_LEASE_H
#define RAY_SIM_SIM_LEASE_H

#include "base/heap.h"
#include "base/list.h"
#include "base/step.h"
#include "raylet/rl_lease.h"
#include "sched/sched_key.h"
#include "sim.h"
#include "worker/wk_lease.h"

enum {
    SL_RAYLET = 1,
    SL_KEYS = 8,
    SL_OUTS = 16,
    SL_COOKIE_ACTOR = 0x80000000,
    SL_ACTOR_KINDS = 2,
    SL_ACTORS_MAX = 8,
};

/* Rules of the engine around the lease client, by their place among the world's mutations. */
enum sl_rule {
    SL_RULE_ASK_FIRST = 1 << 20,     /* requests go before the notice that their task waits */
    SL_RULE_UNBLOCK_FIRST = 1 << 21, /* the notice that it goes on goes before any return */
    SL_RULE_CANCEL_RECALL = 1 << 22, /* a posted task is taken back by its word */
    SL_RULE_CANCEL_COUNTS = 1 << 23, /* and the lease client is told */
    SL_RULE_CANCEL_NAMES = 1 << 24,  /* the worker interrupts the named task only */
    SL_RULE_CANCEL_RETRY = 1 << 25,  /* what was cancelled is not tried again */
};

enum sl_mode {
    SL_CHAOS,  /* everything at once, with deaths */
    SL_NEST,   /* one CPU, deep nesting: processes are bounded */
    SL_STREAM, /* an endless stream beside somebody who must be served */
    SL_MEET,   /* two tasks that wait for each other without the runtime's knowledge */
    SL_CAP,    /* nesting beyond the process cap */
    SL_FLAT,   /* short flat tasks: no more processes than CPUs */
    SL_MODES,
};

enum sl_key {
    SL_KEY_CPU1,
    SL_KEY_CPU2,
    SL_KEY_HALF,
    SL_KEY_CPU0,
    SL_KEY_GPU1,
    SL_KEY_GPU_HALF,
    SL_KEY_HUGE,  /* more than the node has */
    SL_KEY_ACTOR, /* placed with 1 CPU, holds none */
};

enum sl_fn { SL_FN_SHORT, SL_FN_MEDIUM, SL_FN_LONG, SL_FN_NEST, SL_FN_MEET, SL_FN_MIXED, SL_FNS };

enum sl_message {
    SL_MSG_REQUEST = 1,
    SL_MSG_CANCEL,
    SL_MSG_RETURN,
    SL_MSG_BLOCKED,
    SL_MSG_HELLO,
    SL_MSG_OWNING,
    SL_MSG_GRANT,
    SL_MSG_CANCELLED,
    SL_MSG_FAILED,
    SL_MSG_PENDING,
    SL_MSG_REVOKE,
    SL_MSG_WITHDRAW,
    SL_MSG_LEASE_DEAD,
    SL_MSG_GO,
    SL_MSG_EXIT,
    SL_MSG_PUSH,
    SL_MSG_DONE,
    SL_MSG_BOUNCED,
    SL_MSG_UNBLOCKED,
    SL_MSG_INTERRUPT,
};

enum sl_task_state {
    SL_TASK_READY,
    SL_TASK_PUSHED,
    SL_TASK_DONE,
    SL_TASK_FAILED,
    SL_TASK_LOST,
    SL_TASK_CANCELLED
};

struct sl_task {
    struct list link; /* its owner's FIFO */
    enum sl_task_state state;
    uint32_t index, owner, key, depth, levels, children_left, retries, successes, charged;
    struct sl_task *parent, *partner;
    enum sl_fn fn;
    uint64_t duration_ns, submitted_ns;
    bool watched, stream, met;
    bool cancelled;       /* by its owner */
    struct sl_push *push; /* the last one */
};

enum sl_word { SL_POSTED = 1, SL_STARTED, SL_RECALLED, SL_BOUNCED, SL_FINISHED };

struct sl_push {
    struct list of_lease; /* the owner's window */
    struct list of_inbox; /* the worker's */
    uint32_t index, owner, worker;
    struct sl_task *task;
    uint64_t lease, epoch, started_ns;
    enum sl_word word; /* shared memory */
    bool settled;      /* the owner has acted on it */
    bool interrupted;  /* it ended by that */
};

/* The owner's side of a lease: its window. */
struct sl_held {
    struct list pushes;
    uint64_t lease;
    uint32_t worker;
    bool told_dead, blocked;
};

enum sl_phase { SL_IDLE, SL_WROTE_RUNNING, SL_READ_EPOCH, SL_RUNNING, SL_WAITING, SL_REPLIED };

struct sl_proc {
    bool used, is_driver, is_owner, alive;
    uint64_t token;
    uint32_t number, job;
    /* owner */
    struct wk_leases client;
    struct list fifo[SL_KEYS];
    struct wk_lease_fn fns[SL_FNS];
    uint64_t actors[SL_ACTORS_MAX];
    uint32_t actor_count, actors_asked;
    uint8_t saw_dead[SIM_PROCS_MAX + 1];
    /* worker */
    uint64_t page_epoch, page_running; /* shared memory */
    uint64_t last_epoch;
    uint64_t told_blocked_epoch; /* as of what reached the raylet; 0 none */
    struct list inbox;
    struct sl_push *current;
    enum sl_phase phase;
    bool owning, exit_asked, bounced;
};

struct sl_todo {
    struct heap_node node;
    uint32_t kind;
    uint64_t a, b;
};

struct sl_world {
    struct sim *sim;
    enum sl_mode mode;
    uint32_t cpus, gpus, cap, nest_max;
    bool kills, stops, owning, cancels;
    struct res_names names;
    struct sched_keys keys;
    struct rl_lease server;
    struct arena arena;
    struct heap todo;
    struct sl_proc procs[SIM_PROCS_MAX + 1];
    struct sl_task **tasks;
    struct sl_push **pushes;
    uint32_t task_count, task_capacity, push_count, push_capacity;
    uint32_t watched_open;
    uint64_t seen_lease;      /* leases below have been checked at their grant */
    uint64_t idle_revoked_ns; /* since when a lease is revoked and nobody waits */
    uint64_t watch_ns;        /* since when somebody must be served */
    uint32_t driver_count, acts;
    bool watch_due; /* the stream runs, that somebody is still to come */
};

enum { SL_TAG_SERVER = 0, SL_TAG_TODO = 1, SL_TAG_CLIENT = 2, SL_TAG_WORKER = 3 };

#define SL_US UINT64_C(1000)

/* --- sim_lease_check.c --- */
/* The process with this number of the server's; NULL when there never was one. */
struct sl_proc *sl_by_token(struct sl_world *w, uint64_t token);
/* The same for one that must be there. */
struct sl_proc *sl_get_token(struct sl_world *w, uint64_t token);
/* What was granted in this step was there. */
void sl_check_grants(struct sl_world *w);
/* After every step; and when nothing is under way any more. */
void sl_check(struct sim *sim, void *world);
void sl_quiet(struct sim *sim, void *world);

/* --- sim_lease_engine.c --- */
void sl_owner_init(struct sl_world *w, struct sl_proc *p);
void sl_owner_fini(struct sl_world *w, struct sl_proc *p);
/* Pushes what can be pushed and carries out what the client says. */
void sl_owner_run(struct sl_world *w, struct sl_proc *p);
struct sl_task *sl_submit(struct sl_world *w, struct sl_proc *p, enum sl_key key, enum sl_fn fn,
                          uint64_t duration_ns);
void sl_submit_done(struct sl_world *w, struct sl_proc *p, struct sl_task *task);
void sl_ask_actor(struct sl_world *w, struct sl_proc *p);
void sl_return_actor(struct sl_world *w, struct sl_proc *p, uint32_t i);
void sl_cancel_huge(struct sl_world *w, struct sl_proc *p);
void sl_owner_deliver(struct sl_world *w, struct sl_proc *p, uint32_t from, uint16_t kind,
                      uint64_t payload, const void *msg);
void sl_owner_saw_death(struct sl_world *w, struct sl_proc *p, uint32_t dead);
void sl_worker_deliver(struct sl_world *w, struct sl_proc *p, uint32_t from, uint16_t kind,
                       uint64_t payload);
void sl_worker_timer(struct sl_world *w, struct sl_proc *p);
/* Back to the front of the FIFO. */
void sl_requeue(struct sl_proc *p, struct sl_push *u);
/* The worker's task waits no more, if its children have all ended. */
void sl_unblock_parent(struct sl_world *w, struct sl_proc *p);
/* The worker's task waits no more, whatever has come. */
void sl_resume(struct sl_world *w, struct sl_proc *p);
/* The worker's next step. */
void sl_again_at(struct sl_world *w, const struct sl_proc *p, uint64_t delay_ns);
static inline struct sl_held *
sl_held_of(const struct wk_lease *lease)
{
    return (struct sl_held *)(uintptr_t)lease->user;
}
static inline bool
sl_is_off(const struct sl_world *w, uint32_t rule)
{
    return (sim_mutations(w->sim) & rule) != 0;
}
void sl_task_finished(struct sl_world *w, struct sl_task *task, enum sl_task_state state);

/* --- sim_lease_cancel.c --- */
/* The user cancels some task that hasn't ended. */
void sl_cancel_some(struct sl_world *w);
/* A cancellation has come, for the task of that push. */
void sl_worker_interrupt(struct sl_world *w, struct sl_proc *p, const struct sl_push *named,
                         bool force);

#endif
