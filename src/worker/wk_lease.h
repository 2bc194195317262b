/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lease client: in each owner, decides how many leases to ask for, which lease the next ready
 * task is pushed to, what is recalled, and when a lease is given back. Pure.
 *
 * One a process that owns tasks, under the engine lock. The engine keeps the tasks: a FIFO a key of
 * those whose arguments are local, and a window a connection. This machine sees counts, leases and
 * durations. The loop of the engine:
 *
 *     wk_lease_on_ready(c, key, 1, depth);             a task has joined the key's FIFO
 *     while ((lease = wk_lease_pick(c, key, fn of the front, now)))  pop the front, push it
 *     ... done frame: wk_lease_on_done(c, lease, fn, now, duration); then pick again
 *     wk_lease_pump(c, now, outs) after each batch of events and when `deadline_ns` has come; what
 *         a RECALL brought back is picked again, then pumped again, until `dirty` is empty.
 *
 * A lease: ACTIVE -> (REVOKED <-> ACTIVE) -> returned; or dead at any time. BLOCKED is a flag: its
 * worker waits in get and bounced what was unstarted; nothing is pushed until it is unblocked.
 * A task is pushed behind another only when both have known short durations, about 1 ms in all.
 * No function here fails but for memory, when the request for leases is simply repeated later.
 */
#ifndef RAY_WK_LEASE_H
#define RAY_WK_LEASE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/step.h"
#include "sched/sched_lease.h"

enum {
    WK_LEASE_OUTS_MIN = 8,
    WK_LEASE_COOKIE_ACTOR = INT32_MAX, /* cookies above are the engine's own (actor creations) */
};

/* What is known of a function; the engine embeds one in each function descriptor. Zero to start. */
struct wk_lease_fn {
    uint32_t samples; /* 0: unknown, so nothing is queued behind it */
    uint32_t ewma_ns; /* moving average of durations, saturating at 4.2 s */
};

/* Rules that the simulator switches off one by one, to show that each is needed. */
enum wk_lease_rule {
    WK_RULE_OVERRUN = 1 << 0, /* what is behind a task that overran is recalled */
    WK_RULE_BLOCKED = 1 << 1, /* nothing is pushed to a worker that waits */
    WK_RULE_REVOKED = 1 << 2, /* a revoked lease gets no push, is recalled and returned */
    WK_RULE_UNKNOWN = 1 << 3, /* nothing is pushed behind a task of unknown length */
    WK_RULE_LINGER = 1 << 4,  /* an idle lease is returned in the end */
    WK_RULE_CANCEL = 1 << 5,  /* units that nobody needs are cancelled */
};

struct wk_lease_config {
    uint64_t window_ns;       /* 1 ms of predicted work in flight a lease */
    uint32_t window_tasks;    /* at most so many in flight a lease; 256 */
    uint64_t overrun_min_ns;  /* 2 ms */
    uint64_t linger_min_ns;   /* 10 ms; doubles while it pays, up to */
    uint64_t linger_max_ns;   /* 50 ms */
    uint64_t cancel_after_ns; /* 5 ms without ready tasks: unneeded requests are cancelled */
    uint32_t asking_max;      /* units asked for at once, a key; 256 */
    uint32_t rules_off;       /* enum wk_lease_rule; 0 but in the simulator */
};

enum wk_lease_state { WK_LEASE_ACTIVE, WK_LEASE_REVOKED };

/* Which of its key's lists a lease is in. */
enum wk_lease_place {
    WK_PLACE_IDLE, /* nothing in flight; used last first */
    WK_PLACE_BUSY, /* room for more; next in turn first */
    WK_PLACE_FULL, /* no room, or of no use now */
};

struct wk_lease {
    uint32_t magic;
    uint8_t state;     /* enum wk_lease_state */
    uint8_t place;     /* enum wk_lease_place */
    bool blocked;      /* its worker waits: nothing is pushed */
    bool alone;        /* what is in flight allows nothing behind it */
    bool retiring;     /* returned with RETIRE as soon as nothing is in flight */
    bool overrun;      /* the front task ran too long: closed until it ends */
    bool recall_due;   /* a RECALL is to be emitted */
    bool recall_asked; /* it was emitted for the task now in front */
    bool was_used;
    uint32_t inflight;    /* pushed and neither done, recalled nor bounced */
    uint32_t inflight_ns; /* their predictions */
    uint32_t front_predicted_ns;
    uint64_t front_ns; /* since when the front one may have been running */
    uint64_t idle_since_ns;
    struct wk_lease_key *key;
    struct list link; /* in its key's list of its place */
    struct map_link by_id;
    uint64_t id, worker, epoch, gpu_mask;
    uint32_t omp;
    uint64_t user; /* the engine's: its connection, set after the grant */
};

struct wk_lease_key {
    uint32_t magic;
    uint32_t number;  /* in the engine's sched_keys; the cookie of the conversation */
    uint32_t ready;   /* in the engine's FIFO */
    uint32_t ewma_ns; /* over all functions of the key; 0 unknown */
    struct list places[WK_PLACE_FULL + 1]; /* leases */
    struct list link;                      /* all keys */
    struct list dirty_link;                /* those that the pump must look at */
    uint32_t asking;                       /* requested, not yet answered */
    uint32_t cancelling;                   /* of those, asked to be cancelled */
    uint32_t depth;                        /* of the deepest ready task since nothing was ready */
    bool warned; /* the engine's: the user was told that it can't be scheduled */
    uint32_t leases;
    uint32_t inflight;
    uint32_t failures; /* answers that nothing can be had, in a row */
    uint64_t asked_ns; /* last request */
    uint64_t retry_ns; /* no request before */
    uint64_t empty_ns; /* since when nothing waits; 0 when something does */
    uint64_t linger_ns;
    struct id_task first_task; /* words for the next request; set by the engine */
    char name[SCHED_NAME_MAX];
};

/* Outs. `peer` is a lease id where nothing else is said. */
enum wk_lease_out {
    WK_OUT_REQUEST = 1, /* sched_lease_request to the raylet; `key` is the engine's number */
    WK_OUT_CANCEL,      /* sched_lease_cancel to the raylet */
    WK_OUT_RETURN,      /* sched_lease_return to the raylet; the lease is gone from here */
    WK_OUT_RECALL,      /* none: take back by CAS all that is unstarted, newest first; tell by
                           wk_lease_on_recalled; put it at the front of the FIFO in its order */
    WK_OUT_TIMER,       /* step face only: step with WK_IN_TICK at when_ns */
    WK_OUT_FAIL,        /* sched_lease_failed, peer = key number: the ready tasks that wait fail */
    WK_OUT_WARN,        /* sched_lease_pending, peer = key number: tell the user (once a key) */
};

/* Ins of the step face; the typed functions are the same thing. step_in.peer names the lease
 * (or key, where the struct says so). */
enum wk_lease_in {
    WK_IN_TICK = 1,
    WK_IN_READY,     /* wk_in_ready */
    WK_IN_DONE,      /* wk_in_done */
    WK_IN_RECALLED,  /* wk_in_count */
    WK_IN_BOUNCED,   /* wk_in_count */
    WK_IN_UNBLOCKED, /* none */
    WK_IN_RETIRE,    /* none */
    WK_IN_GRANT,     /* sched_lease_grant */
    WK_IN_CANCELLED, /* sched_lease_cancelled */
    WK_IN_FAILED,    /* sched_lease_failed */
    WK_IN_PENDING,   /* sched_lease_pending */
    WK_IN_REVOKE,    /* sched_lease_note */
    WK_IN_WITHDRAW,  /* sched_lease_note */
    WK_IN_DEAD,      /* wk_in_dead, after the window was drained and read */
    WK_IN_UNREADY,   /* wk_in_ready: ready tasks left the FIFO unpushed (cancelled) */
};
struct wk_in_ready {
    uint32_t key, count, depth;
};
struct wk_in_done {
    struct wk_lease_fn *fn;
    uint64_t duration_ns;
};
struct wk_in_count {
    uint32_t count;
    bool requeued; /* they are ready again (false: cancelled) */
};
struct wk_in_dead {
    uint32_t unstarted; /* POSTED or BOUNCED words: ready again, uncharged */
};

struct wk_leases {
    const struct mem *mem;
    struct wk_lease_config config;
    struct map by_id;
    struct wk_lease_key **keys; /* by number */
    uint32_t keys_capacity;
    struct list all_keys, dirty;
    struct slab key_slab, lease_slab;
    uint64_t deadline_ns; /* call wk_lease_pump then, at the latest; UINT64_MAX never */
    uint64_t told_ns;     /* last WK_OUT_TIMER */
    uint32_t leases, inflight;
    struct {
        uint64_t requested, granted, returned, recalls, cancels;
    } stats;
};

void wk_lease_config_default(struct wk_lease_config *config);
void wk_leases_init(struct wk_leases *c, const struct mem *mem,
                    const struct wk_lease_config *config);
/* Forgets all leases; the raylet takes them back when this process ends. */
void wk_leases_fini(struct wk_leases *c);

/* The engine's key, made when new; NULL without memory. Kept for the process's life. */
struct wk_lease_key *wk_lease_get_key(struct wk_leases *c, uint32_t number);
/* The same, NULL when it isn't there. */
struct wk_lease_key *wk_lease_find_key(const struct wk_leases *c, uint32_t number);
/* NULL when it has been returned or is dead. */
struct wk_lease *wk_lease_find(const struct wk_leases *c, uint64_t id);

/* Tasks joined the FIFO of ready ones (not those that came back by recall, bounce or death). */
void wk_lease_on_ready(struct wk_leases *c, struct wk_lease_key *key, uint32_t count,
                       uint32_t depth, uint64_t now_ns);
/* Ready tasks left the FIFO without being pushed: cancelled, failed. */
void wk_lease_on_unready(struct wk_leases *c, struct wk_lease_key *key, uint32_t count,
                         uint64_t now_ns);
/* Where to push the key's front task, whose function is `fn`, now: counted as pushed. NULL: not
 * now. `alone`: with nothing before or behind it (GPU, max_calls). ~20 ns. */
struct wk_lease *wk_lease_pick(struct wk_leases *c, struct wk_lease_key *key,
                               const struct wk_lease_fn *fn, bool alone, uint64_t now_ns);
/* A pushed task has its reply. `duration_ns` was measured by the worker. ~20 ns. */
void wk_lease_on_done(struct wk_leases *c, struct wk_lease *lease, struct wk_lease_fn *fn,
                      uint64_t now_ns, uint64_t duration_ns);
/* `count` unstarted ones were taken back (answer to RECALL, or a cancel: requeued = false). */
void wk_lease_on_recalled(struct wk_leases *c, struct wk_lease *lease, uint32_t count,
                          bool requeued, uint64_t now_ns);
/* The worker blocks (or can't be reached) and handed `count` back: they go to the front of the
 * FIFO, and the lease gets nothing until it is unblocked, dead, or returned for its uselessness. */
void wk_lease_on_bounced(struct wk_leases *c, struct wk_lease *lease, uint32_t count,
                         uint64_t now_ns);
/* The worker runs on (its own word; a done of its front task says the same). */
void wk_lease_on_unblocked(struct wk_leases *c, struct wk_lease *lease, uint64_t now_ns);
/* The process is used up: returned with RETIRE once nothing is in flight. */
void wk_lease_retire(struct wk_leases *c, struct wk_lease *lease, uint64_t now_ns);

/* From the raylet. on_grant gives NULL without memory or for an unknown cookie; then the engine
 * returns the lease at once. on_revoke and on_withdraw of a lease that is gone are ignored. */
struct wk_lease *wk_lease_on_grant(struct wk_leases *c, const struct sched_lease_grant *msg,
                                   uint64_t now_ns);
void wk_lease_on_cancelled(struct wk_leases *c, const struct sched_lease_cancelled *msg,
                           uint64_t now_ns);
/* True: nothing that could run the key's ready tasks is left or can be had. The engine fails them
 * all with the message's status and text, and tells by on_unready. False: it is asked again later.
 */
bool wk_lease_on_failed(struct wk_leases *c, const struct sched_lease_failed *msg, uint64_t now_ns)
    MUST_USE;
void wk_lease_on_revoke(struct wk_leases *c, uint64_t id, uint64_t now_ns);
void wk_lease_on_withdraw(struct wk_leases *c, uint64_t id, uint64_t now_ns);
/* Its worker is dead, the window has been drained and read; `unstarted` go back to the FIFO. The
 * STARTED one, if any, is the engine's to charge. The lease is gone after. */
void wk_lease_on_dead(struct wk_leases *c, struct wk_lease *lease, uint32_t unstarted,
                      uint64_t now_ns);

/* Emits requests, cancels, returns and recalls, and sets deadline_ns. */
void wk_lease_pump(struct wk_leases *c, uint64_t now_ns, struct step_outs *outs);

/* Ready tasks wait for leases that have been asked for. */
bool wk_leases_are_short(const struct wk_leases *c);

/* The step face: dispatches to the above, then pumps. */
int wk_lease_step(struct wk_leases *c, const struct step_in *in, struct step_outs *outs);

/* One sentence: leases held, tasks ready and in flight, units asked for. `text` has `size` bytes.
 */
void wk_lease_why(const struct wk_leases *c, const struct wk_lease_key *key, char *text,
                  uint32_t size);

#endif
