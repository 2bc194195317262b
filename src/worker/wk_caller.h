/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The actor client: one caller's view of one actor. Decides which call is sent next and to which
 * process, what becomes of those in flight when that process dies or the connection breaks, and
 * which calls fail, why. Pure: no memory of its own (calls are linked through struct wk_call, which
 * the engine embeds), no time, no bytes.
 *
 * One an actor in each process that has a handle, under the engine lock. docs/protocols/actors.md
 * tells the protocol. A call gets its number (`sequence`) when it is submitted and keeps it:
 *
 *     submit -> QUEUED ---------> SENT -> answered
 *            -> LATE -> QUEUED     |  process dead: LIMBO -> QUEUED again, in its place, or FAILED
 *                                  |  connection broken: QUEUED again, in its place, or FAILED
 *
 * LATE is for actors whose calls may overtake one another; in others a call that waits for
 * arguments holds up those behind it. LIMBO lasts until ray-gcs has said whether the actor lives
 * on. The engine's loop:
 *
 *     while ((call = wk_caller_next(c)))    publish it to c->process; wk_caller_sent(c, call)
 *     while ((call = wk_caller_failed(c)))  answer it with call->verdict; wk_caller_answered
 *
 * All calls SENT are with one process, over one connection: `last_process` while its death isn't
 * told yet, else `process`. States: UNKNOWN -> ALIVE <-> RESTARTING -> DEAD (and UNKNOWN -> DEAD).
 * Nothing here fails.
 */
#ifndef RAY_WORKER_WK_CALLER_H
#define RAY_WORKER_WK_CALLER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/status.h"
#include "base/step.h"

/* Rules that the simulator switches off one by one (RAY_MUTATIONS), to show that each is needed. */
#define WK_CALLER_RULES(RULE)                                                                      \
    RULE(last_process, "a new process is used before the death of the last one is told")           \
    RULE(two_deaths, "a third process is taken while two deaths are to be told")                   \
    RULE(in_place, "calls that go again queue up behind those submitted later")                    \
    RULE(begun, "a call that had begun goes again as if it had not")                               \
    RULE(charge, "going again costs no retry")                                                     \
    RULE(ask_anew, "ray-gcs isn't asked what follows after a process has died")                    \
    RULE(dead_limbo, "calls that wait for the word of ray-gcs aren't failed by it")                \
    RULE(dead_queue, "queued calls aren't failed when the actor is dead")                          \
    RULE(dead_ready, "a call whose arguments come when the actor is dead isn't failed")            \
    RULE(dead_sent, "calls in flight aren't failed when the process of a dead actor ends")         \
    RULE(arguments, "calls overtake one that waits for its arguments")                             \
    RULE(broken, "calls in flight aren't looked at when their connection breaks")

#define WK_CALLER_RULE_ENUM(name, text) WK_CALLER_RULE_##name,
enum wk_caller_rule { WK_CALLER_RULES(WK_CALLER_RULE_ENUM) WK_CALLER_RULE_COUNT };
#undef WK_CALLER_RULE_ENUM

enum wk_caller_state { ACTOR_UNKNOWN, ACTOR_ALIVE, ACTOR_RESTARTING, ACTOR_DEAD };

/* Why a call fails. */
enum wk_call_verdict {
    WK_CALL_ACTOR_DEAD = 1,
    WK_CALL_PROCESS_DIED,      /* it had begun, may not run again, and the actor restarts */
    WK_CALL_CONNECTION_BROKEN, /* the same, with the process alive */
};

/* Those that lie in a list of the machine's say in which. */
enum wk_call_place {
    WK_CALL_NOWHERE,
    WK_CALL_QUEUED,
    WK_CALL_LATE,
    WK_CALL_SENT,
    WK_CALL_LIMBO,
    WK_CALL_FAILED
};

struct wk_call {
    struct list link;
    uint64_t sequence; /* order of submission, from 1 */
    uint32_t attempt;
    int32_t retries_left; /* -1 for ever */
    uint8_t place;        /* enum wk_call_place */
    uint8_t verdict;      /* enum wk_call_verdict */
    bool waits;           /* for arguments */
    bool begun;           /* the engine's word on calls SENT, before on_died and on_broken */
};

struct wk_caller {
    enum wk_caller_state state;
    bool unordered; /* calls may overtake those whose arguments are late */
    bool held;      /* killed by this process, for good: later calls wait for the end */
    uint32_t rules_off;
    uint64_t incarnation;
    uint64_t process;            /* the engine's number for it; 0 none */
    uint64_t last_process;       /* of the incarnation before, its death not told yet; 0 none */
    uint64_t sequence;           /* the last one given */
    uint64_t pending;            /* calls not answered */
    int64_t max_pending;         /* no limit unless above 0 */
    uint32_t sent_count, window; /* calls in flight; at most, when ordered */
    struct list queue, late, sent, limbo, failed;
};

void wk_caller_init(struct wk_caller *c, uint32_t window);

/* False: max_pending_calls is reached. */
static inline bool
wk_caller_admits(const struct wk_caller *c)
{
    return c->max_pending <= 0 || c->pending < (uint64_t)c->max_pending;
}

/* From now on calls overtake those that wait for arguments. */
void wk_caller_unorder(struct wk_caller *c);
/* A new call; `waits`: its arguments aren't here. ~10 ns. */
void wk_caller_submit(struct wk_caller *c, struct wk_call *call, int32_t retries, bool waits);
/* Its arguments are here. */
void wk_caller_ready(struct wk_caller *c, struct wk_call *call);

/* The call to be published to `process` now; NULL: none. */
struct wk_call *wk_caller_next(const struct wk_caller *c);
/* It was published. */
void wk_caller_sent(struct wk_caller *c, struct wk_call *call);
/* It is over, wherever it was: replied to, failed, or cancelled. Nobody waits for its number. */
void wk_caller_answered(struct wk_caller *c, struct wk_call *call);
/* A reply said that its method failed, or that an argument isn't there any more (`waits` is set
 * anew), and it is made again: at its place in the queue. */
void wk_caller_again(struct wk_caller *c, struct wk_call *call);
/* The next that is to be answered with its verdict; NULL: none. */
struct wk_call *wk_caller_failed(struct wk_caller *c);

/* Of ray-gcs. on_alive: false when it is old news, or to be asked for again: the process isn't
 * used. `process` 0: one that is known to be dead. */
bool wk_caller_on_alive(struct wk_caller *c, uint64_t incarnation, uint64_t process);
void wk_caller_on_restarting(struct wk_caller *c);
void wk_caller_on_dead(struct wk_caller *c);

/* True: calls in flight are with that process. The engine sets `begun` of each call in `sent`, then
 * tells what happened. */
bool wk_caller_is_with(const struct wk_caller *c, uint64_t process);
/* The process is dead, everything that it sent was read. True: ask ray-gcs what follows. */
bool wk_caller_on_died(struct wk_caller *c, uint64_t process) MUST_USE;
/* The connection with it ended, and it lives. */
void wk_caller_on_broken(struct wk_caller *c, uint64_t process);

/* The step face. step_in.payload and step_out.payload name a call: its address. */
enum wk_caller_in {
    WK_CALLER_IN_SUBMIT = 1, /* wk_caller_in_submit */
    WK_CALLER_IN_READY,
    WK_CALLER_IN_ANSWERED,
    WK_CALLER_IN_AGAIN,
    WK_CALLER_IN_ALIVE, /* wk_caller_in_alive; peer: the process, or 0 */
    WK_CALLER_IN_RESTARTING,
    WK_CALLER_IN_DEAD,
    WK_CALLER_IN_DIED,   /* peer: the process */
    WK_CALLER_IN_BROKEN, /* peer: the process */
    WK_CALLER_IN_HOLD,
};
struct wk_caller_in_submit {
    int32_t retries;
    bool waits;
};
struct wk_caller_in_alive {
    uint64_t incarnation;
};
enum wk_caller_out {
    WK_CALLER_OUT_SEND = 1, /* payload: the call; peer: the process. It counts as sent. */
    WK_CALLER_OUT_FAIL,     /* payload: the call, answered; peer: its verdict */
    WK_CALLER_OUT_ASK,      /* ray-gcs is to be asked what becomes of the actor */
};
enum { WK_CALLER_OUTS_MIN = 1 };

int wk_caller_step(struct wk_caller *c, const struct step_in *in, struct step_outs *outs);

#endif
