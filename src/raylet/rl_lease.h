/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lease server: who may use which worker process, and when that ends. Pure.
 *
 * One a raylet, in its main thread (and one a simulated node in sim). It owns the node's resources,
 * the queues of lease requests (counted, never listed), the leases, and through rl_pool the worker
 * processes. The raylet's I/O tells it what arrived and carries out the outs; it decodes, writes
 * control pages, spawns, kills and reaps. Rules and traces: docs/protocols/leases.md.
 *
 * Grants: fair over jobs; in a job actor creations and tasks take turns; among each the deepest
 * first, then in turns. A lease holds its resources from the decision on, also while
 * its process is being made. Failures of memory leave requests pending and are counted.
 *
 * Use: rl_lease_step, or a typed rl_lease_on_* followed by rl_lease_pump, which emits what follows
 * (grants, revocations, starts, ...). Every call needs RL_LEASE_OUTS_MIN free outs; when the pump
 * runs out of room it sets outs->more and wants to be called again with an emptied array.
 */
#ifndef RAY_RL_LEASE_H
#define RAY_RL_LEASE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/res.h"
#include "base/step.h"
#include "raylet/rl_pool.h"
#include "sched/sched_key.h"
#include "sched/sched_lease.h"
#include "sched/sched_node.h"

enum { RL_LEASE_OUTS_MIN = 8, RL_WHY_MAX = 2048 };

/* step_in.kind; step_in.peer is the process that it comes from or is about. */
enum rl_lease_in {
    RL_IN_TICK = 1,     /* the time given by RL_OUT_TIMER has come */
    RL_IN_DRIVER,       /* rl_in_driver: a driver has been let in */
    RL_IN_REQUEST,      /* sched_lease_request */
    RL_IN_CANCEL,       /* sched_lease_cancel */
    RL_IN_RETURN,       /* sched_lease_return */
    RL_IN_BLOCKED,      /* sched_lease_blocked, from the worker */
    RL_IN_TAKEN,        /* rl_in_taken: answer to RL_OUT_TAKE_BACK */
    RL_IN_OWNING,       /* rl_in_owning: the worker owns something still referenced, or no more */
    RL_IN_SPAWNED,      /* rl_in_spawned: the zygote told (token, pid) */
    RL_IN_HELLO,        /* worker's first message, token checked against pid by the I/O */
    RL_IN_START_FAILED, /* rl_in_evidence */
    RL_IN_DEAD,         /* rl_in_evidence: a driver or worker is reaped or gone for good */
    RL_IN_RECLAIMED,    /* its children are dead, its pins and memory reclaimed */
    RL_IN_JOB_END,      /* rl_in_job: everything of the job but detached actors ends */
};
struct rl_in_driver {
    uint32_t job;
    int32_t pid; /* for words */
};
struct rl_in_taken {
    uint64_t epoch; /* as in the out */
    bool running;   /* RUNNING held an older epoch after the new one was written */
};
struct rl_in_owning {
    bool owning; /* objects that others refer to, or tasks that have not ended */
};
struct rl_in_spawned {
    int32_t pid;
};
struct rl_in_evidence {
    const char *text;
};
struct rl_in_job {
    uint32_t job;
    bool goes_on; /* detached actors of it live, or may be started again */
};

/* step_out.kind, beside enum rl_pool_out; step_out.peer is the addressee. */
enum rl_lease_out {
    RL_OUT_TIMER = 1,  /* none: step with RL_IN_TICK at when_ns (a newer timer replaces it) */
    RL_OUT_GRANT,      /* sched_lease_grant to the owner. First write epoch, GPU ids and OMP value
                          into the worker's control page */
    RL_OUT_CANCELLED,  /* sched_lease_cancelled to the owner */
    RL_OUT_FAILED,     /* sched_lease_failed to the owner */
    RL_OUT_PENDING,    /* sched_lease_pending to the owner: infeasible, told once */
    RL_OUT_REVOKE,     /* sched_lease_note to the owner: stop pushing, recall, return */
    RL_OUT_WITHDRAW,   /* sched_lease_note to the owner: the revocation is off */
    RL_OUT_LEASE_DEAD, /* sched_lease_note to the owner: the lease's worker is dead; the I/O adds
                          windows and evidence */
    RL_OUT_TAKE_BACK,  /* rl_out_take_back to a worker's page: write the epoch, fence, read RUNNING,
                          answer RL_IN_TAKEN. Repeated for a worker that was still settling */
};
struct rl_out_take_back {
    uint64_t epoch;
};

/* Rules that the simulator switches off one by one, to show that each is needed. */
enum rl_lease_rule {
    RL_RULE_FITS = 1 << 0,      /* a grant needs what it asks for to be available */
    RL_RULE_DEEPEST = 1 << 1,   /* deepest first */
    RL_RULE_FAIR = 1 << 2,      /* jobs by share */
    RL_RULE_TURNS = 1 << 3,     /* actor creations and tasks take turns */
    RL_RULE_WITHDRAW = 1 << 4,  /* a revocation is withdrawn when nobody waits */
    RL_RULE_HELD = 1 << 5,      /* a revoked lease is not available */
    RL_RULE_RESERVE = 1 << 6,   /* resources are kept for a large request */
    RL_RULE_TAKE_BACK = 1 << 7, /* RUNNING is read before a worker changes hands */
    RL_RULE_RECLAIM = 1 << 8,   /* resources of the dead are released last */
    RL_RULE_EPOCH = 1 << 9,     /* a notice of another epoch is ignored */
    RL_RULE_REVOKE = 1 << 10,   /* leases are revoked when others queue */
    RL_RULE_CAP = 1 << 11,      /* at the cap with all blocked, the deepest request fails */
    RL_RULE_ORPHANS = 1 << 12,  /* an owner's death ends its leases */
};

struct rl_lease_config {
    uint64_t quantum_ns;         /* 50 ms: a lease this old is revoked once others queue */
    uint64_t reserve_first_ns;   /* 100 ms: a request older than this has resources kept for it */
    uint64_t reserve_max_ns;     /* 5 s: longest single period of that */
    uint64_t cap_grace_ns;       /* 1 s: at the process cap with every process blocked */
    uint64_t cap_actor_grace_ns; /* 30 s: the same when actors might still make progress */
    uint32_t requests_max;       /* an owner's request records; beyond: ST_LIMIT. 4096 */
    uint32_t rules_off;          /* enum rl_lease_rule; 0 but in the simulator */
    struct rl_pool_config pool;
};
void rl_lease_config_default(struct rl_lease_config *config, uint32_t cpus);

struct rl_lease_stats {
    uint64_t granted, returned, revoked, withdrawn, cancelled, failed, taken_back, killed;
    uint64_t pending_units; /* requested and not yet granted; FORMING leases included */
    uint32_t pending_records, leases, forming, blocked, revoked_now;
};

enum rl_lease_state {
    RL_LEASE_FORMING, /* resources held, its process is being made */
    RL_LEASE_ACTIVE,
    RL_LEASE_REVOKED,
    RL_LEASE_ORPHAN, /* its owner is dead: its worker is being taken back */
    RL_LEASE_DEAD,   /* over; resources held until its worker is dead and reclaimed */
};
const char *rl_lease_state_text(enum rl_lease_state state);

/* One lease. Read by the I/O and state queries; written by rl_lease alone. */
struct rl_lease_record {
    uint32_t magic;
    enum rl_lease_state state;
    uint64_t id;
    struct map_link by_id;
    struct list of_owner;  /* in its owner's list, while that lives */
    struct list link;      /* in the machine's list of its state */
    struct rl_proc *owner; /* NULL once the owner is dead, or it is over */
    struct rl_job *job;
    struct rl_worker *worker; /* NULL while FORMING */
    struct rl_class *class_;
    const struct sched_key *key;
    struct sched_hold hold;
    uint64_t epoch;
    uint64_t granted_ns; /* ACTIVE: since the grant, or the withdrawal of a revocation */
    uint32_t key_number, cookie, depth, omp;
    enum sched_lease_kind kind;
    bool detached, taking;
    struct id_task first_task;
    char name[SCHED_NAME_MAX];
};

struct rl_lease {
    const struct mem *mem;
    struct rl_lease_config config;
    struct sched_node node;
    struct res_names *names; /* the raylet's */
    struct sched_keys *keys; /* the raylet's */
    struct rl_pool pool;
    struct map procs, leases, jobs, requests;
    struct slab proc_slab, lease_slab, request_slab, job_slab;
    struct list job_list;                 /* least recently granted first */
    struct list lists[RL_LEASE_DEAD + 1]; /* leases by state, oldest first */
    uint32_t in_state[RL_LEASE_DEAD + 1];
    int64_t actor_held[RES_SET_MAX]; /* by position in node.total */
    struct rl_request *capped;       /* deepest that lacks only a process, as of the last look */
    struct rl_request *reserved;     /* resources are kept for it until reserve_until_ns */
    uint64_t reserve_until_ns, reserve_pause_ns, reserve_length_ns;
    uint64_t scan_ns;        /* when to look at the queues again though nothing changed */
    uint64_t revoke_ns;      /* not to look for leases to revoke before */
    uint64_t stuck_since_ns; /* at the cap, nothing able to move; 0 when not */
    bool progress;           /* something happened since the last look at that */
    bool changed;            /* a request might be grantable now */
    uint64_t next_lease, next_serial;
    uint64_t timer_ns; /* last RL_OUT_TIMER emitted; UINT64_MAX none */
    struct rl_lease_stats stats;
};

/* `names` and `keys` are borrowed. `total` is the node's. */
int rl_lease_init(struct rl_lease *m, const struct mem *mem, const struct rl_lease_config *config,
                  const struct res_set *total, struct res_names *names, struct sched_keys *keys)
    MUST_USE;
void rl_lease_fini(struct rl_lease *m);

/* The one entry for sim and for whoever likes it: dispatches, then pumps. 0, or ST_PROTOCOL with
 * the reason in st_last() when a peer's message makes no sense (end that connection). */
int rl_lease_step(struct rl_lease *m, const struct step_in *in, struct step_outs *outs);

/* Typed transitions. A number unknown or of the wrong kind gives ST_PROTOCOL and changes nothing;
 * what merely crossed with something else is ignored. */
int rl_lease_on_driver(struct rl_lease *m, uint64_t proc, uint32_t job, int32_t pid) MUST_USE;
/* A driver has come and will soon want processes of this environment: start up to `count` (not more
 * than there are CPUs) ahead of its first request. */
void rl_lease_prestart(struct rl_lease *m, uint32_t job, uint64_t env_hash, uint32_t count);
int rl_lease_on_request(struct rl_lease *m, uint64_t now_ns, uint64_t owner,
                        const struct sched_lease_request *msg, struct step_outs *outs) MUST_USE;
int rl_lease_on_cancel(struct rl_lease *m, uint64_t now_ns, uint64_t owner,
                       const struct sched_lease_cancel *msg, struct step_outs *outs) MUST_USE;
int rl_lease_on_return(struct rl_lease *m, uint64_t now_ns, uint64_t owner,
                       const struct sched_lease_return *msg, struct step_outs *outs) MUST_USE;
int rl_lease_on_blocked(struct rl_lease *m, uint64_t now_ns, uint64_t worker,
                        const struct sched_lease_blocked *msg) MUST_USE;
void rl_lease_on_taken(struct rl_lease *m, uint64_t now_ns, uint64_t worker, uint64_t epoch,
                       bool running, struct step_outs *outs);
void rl_lease_on_owning(struct rl_lease *m, uint64_t now_ns, uint64_t worker, bool owning);
void rl_lease_on_spawned(struct rl_lease *m, uint64_t now_ns, uint64_t worker, int32_t pid,
                         struct step_outs *outs);
/* ST_PROTOCOL when no such worker is awaited: it has been told to end. */
int rl_lease_on_hello(struct rl_lease *m, uint64_t now_ns, uint64_t worker, struct step_outs *outs)
    MUST_USE;
void rl_lease_on_start_failed(struct rl_lease *m, uint64_t now_ns, uint64_t worker,
                              const char *evidence);
/* Announces: the lease's owner is told; what the dead owned is taken back or killed. */
void rl_lease_on_dead(struct rl_lease *m, uint64_t now_ns, uint64_t proc, const char *evidence,
                      struct step_outs *outs);
/* Last step of a death: resources are released. For drivers too. */
void rl_lease_on_reclaimed(struct rl_lease *m, uint64_t now_ns, uint64_t proc);
void rl_lease_on_job_end(struct rl_lease *m, uint64_t now_ns, uint32_t job, bool goes_on);
/* The raylet's own wish (memory monitor, ray.kill of a detached actor): the worker of the lease is
 * killed; its owner is told by the death. Ignored when the lease is gone. */
void rl_lease_kill(struct rl_lease *m, uint64_t now_ns, uint64_t lease, struct step_outs *outs);

/* Emits all that follows from what was told. Ends with an RL_OUT_TIMER when the deadline changed.
 */
void rl_lease_pump(struct rl_lease *m, uint64_t now_ns, struct step_outs *outs);

/* Why the owner's request `cookie` is pending, in sentences; false (empty text) when it isn't.
 * `text` has room for RL_WHY_MAX. */
bool rl_lease_why(struct rl_lease *m, uint64_t now_ns, uint64_t owner, uint32_t cookie, char *text);
/* NULL when there is none; borrowed until the next call that changes anything. */
const struct rl_lease_record *rl_lease_find(const struct rl_lease *m, uint64_t lease);
/* The lease that a worker serves, NULL when none. */
const struct rl_lease_record *rl_lease_of_worker(const struct rl_lease *m, uint64_t worker);
void rl_lease_get_stats(const struct rl_lease *m, struct rl_lease_stats *out);

#endif
