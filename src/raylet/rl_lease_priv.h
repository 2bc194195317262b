/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the lease server share: rl_lease.c (events), rl_lease_grant.c (who gets what,
 * revocation), rl_lease_why.c (words).
 */
#ifndef RAY_RL_LEASE_PRIV_H
#define RAY_RL_LEASE_PRIV_H

#include "raylet/rl_lease.h"

enum {
    RL_LEASE_MAGIC = 0x6c656173,
    RL_PROC_MAGIC = 0x70726f63,
    RL_REQUEST_MAGIC = 0x72657175,
    RL_JOB_MAGIC = 0x6a6f6221,
    RL_LANES = 2, /* by enum sched_lease_kind */
    RL_DEPTH_MAX = 1000000,
    RL_COUNT_MAX = 1000000000,
};

struct rl_job {
    uint32_t magic;
    uint32_t number;
    struct map_link by_number;
    struct list link;            /* rl_lease.job_list */
    struct list lanes[RL_LANES]; /* requests, in the order of service */
    enum sched_lease_kind last_lane;
    uint32_t procs, leases, requests;
    bool ended;
    int64_t held[RES_SET_MAX]; /* by task leases, by position in node.total */
};

/* A process that may own leases: a driver or a worker. */
struct rl_proc {
    uint32_t magic;
    int32_t pid;
    uint64_t number;
    struct map_link by_number;
    struct rl_job *job;
    struct rl_worker *worker; /* NULL for a driver */
    struct list leases;       /* of_owner */
    struct list requests;     /* of_owner */
    uint32_t request_count;
};

/* All units that one owner waits for under one cookie. */
struct rl_request {
    uint32_t magic;
    uint32_t count;
    struct map_link by_cookie; /* rl_lease.requests */
    struct list of_owner;
    struct list of_lane;
    struct rl_proc *owner;
    struct rl_class *class_;
    const struct sched_key *key;
    uint32_t key_number, cookie, depth;
    enum sched_lease_kind kind;
    bool detached;
    bool placed_alike; /* key->placement equals key->resources */
    bool infeasible;   /* told once */
    uint64_t serial;   /* order of arrival, or of the last grant */
    uint64_t since_ns; /* since the last grant to it, or its arrival */
    struct id_task first_task;
    char name[SCHED_NAME_MAX];
};

/* Whether the simulator has switched the rule off; never in production. */
static inline bool
rl_rule_is_off(const struct rl_lease *m, uint32_t rule)
{
#ifdef RAY_MUTATIONS
    return (m->config.rules_off & rule) != 0;
#else
    (void)m;
    (void)rule;
    return false;
#endif
}

static inline bool
rl_has_room(struct step_outs *outs, uint32_t n)
{
    if (outs->capacity - outs->count >= n) {
        return true;
    }
    outs->more = true;
    return false;
}

static inline uint64_t
rl_sooner(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* --- rl_lease_table.c; the finders give NULL for what isn't there --- */
struct rl_proc *rl_lease_proc(const struct rl_lease *m, uint64_t number);
/* NULL without memory. */
struct rl_proc *rl_lease_add_proc(struct rl_lease *m, uint64_t number, uint32_t job_number,
                                  struct rl_worker *worker);
struct rl_lease_record *rl_lease_get(const struct rl_lease *m, uint64_t id);
struct rl_request *rl_lease_request(const struct rl_lease *m, uint64_t owner, uint32_t cookie);
uint64_t rl_lease_request_hash(uint64_t owner, uint32_t cookie);
struct rl_job *rl_lease_job(const struct rl_lease *m, uint32_t number);
void rl_lease_forget_job_if_over(struct rl_lease *m, struct rl_job *job);
/* Forgets the record; its units have been answered. */
void rl_lease_request_drop(struct rl_lease *m, struct rl_request *request);
/* Moves between the lists of states. */
void rl_lease_set_state(struct rl_lease *m, struct rl_lease_record *lease,
                        enum rl_lease_state state);
/* Releases the resources and forgets the lease. */
void rl_lease_free(struct rl_lease *m, struct rl_lease_record *lease);
/* Adds `sign` times what the lease holds to its job's (or the actors') account. */
void rl_lease_account(struct rl_lease *m, const struct rl_lease_record *lease, int64_t sign);

/* --- rl_lease.c --- */
/* The lease is over for its owner; its resources stay until the process is gone. */
void rl_lease_make_dead(struct rl_lease *m, struct rl_lease_record *lease);
/* The same, and the process is killed. */
void rl_lease_end(struct rl_lease *m, uint64_t now_ns, struct rl_lease_record *lease,
                  enum rl_pool_reason reason, struct step_outs *outs);
/* Puts the request where it belongs in its lane: deepest first, then the one least recently served
 * or come. */
void rl_lease_enqueue(struct rl_lease *m, struct rl_request *request);
void rl_lease_emit_take_back(struct rl_worker *worker, struct step_outs *outs);
void rl_lease_emit_failed(struct rl_lease *m, uint64_t owner, uint32_t cookie, uint32_t count,
                          int status, const char *text, struct step_outs *outs);

/* --- rl_lease_grant.c: what rl_lease_pump does, each returning when it wants to be called again
 * --- */
void rl_grant_form(struct rl_lease *m, uint64_t now_ns, struct step_outs *outs);
void rl_grant_broken(struct rl_lease *m, uint64_t now_ns, struct step_outs *outs);
uint64_t rl_grant_requests(struct rl_lease *m, uint64_t now_ns, struct step_outs *outs);
uint64_t rl_grant_revoke(struct rl_lease *m, uint64_t now_ns, struct step_outs *outs);
uint64_t rl_grant_stuck(struct rl_lease *m, uint64_t now_ns, struct step_outs *outs);
/* Dominant share of a job's task leases, of 10000. */
uint32_t rl_grant_share(const struct rl_lease *m, const struct rl_job *job);
/* Whether everything the request asks for is available; else the first shortage in words. */
bool rl_grant_fits(const struct rl_lease *m, const struct rl_request *request, char *why);
/* Whether resources that it asks for are kept for another request now. */
bool rl_grant_kept(const struct rl_lease *m, const struct rl_request *request, uint64_t now_ns);

/* --- rl_lease_why.c --- */
/* driver -> task (pid) -> ... -> name; as much as fits. */
void rl_why_chain(const struct rl_lease *m, const struct rl_request *request, char *text,
                  uint32_t size);

#endif
