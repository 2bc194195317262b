/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Concurrency groups: how an actor runs several calls at once. Private to src/worker; the engine's
 * lock guards everything.
 *
 * An actor with concurrency has groups, the default one ("") first. Each has a limit of calls in
 * progress and a queue of those that came and have not begun. A group of threads starts a thread
 * when a call may begin and none is free, up to its limit; a group of an event loop has one thread,
 * which the face runs (ray_worker_options.serve), and counts calls from their begin to
 * ray_task_finish. The main thread runs the default group's loop; with threads it only waits until
 * the process is to leave, so that no call can hold that up.
 *
 * Free threads: one in the whole process, the *receiver*, waits in the engine and so leads it when
 * nobody else does; it takes calls without a hand-over, and many short ones one after another. All
 * others are parked on their group's condition. While there is no receiver the background thread
 * reads what comes, within a tick, and wakes or adds threads.
 */
#ifndef RAY_WORKER_WK_GROUP_H
#define RAY_WORKER_WK_GROUP_H

#include "worker/wk_exec.h"

struct wk_group {
    char *name; /* own memory; "" the default group */
    uint32_t limit;
    uint32_t running; /* calls that have begun and are not answered */
    uint32_t threads; /* made, or being made */
    uint32_t parked;
    uint32_t cancels;        /* of an event loop: calls to cancel that it has not taken */
    struct list queue;       /* wk_exec.link, in the order in which they came */
    pthread_cond_t unparked; /* a parked thread should look */
};

struct wk_groups {
    bool event_loop;
    uint32_t count;
    struct wk_group *receiver; /* the receiver's, NULL: no thread is it */
    struct wk_exec *shown;     /* in the control page; NULL: none runs */
    struct wk_group group[];
};

/* ---- wk_group.c ---- */

/* The group whose thread this is, NULL elsewhere. */
extern _Thread_local struct wk_group *wk_my_group;
static inline bool
wk_group_may_begin(const struct wk_group *g)
{
    return g->running < g->limit && !list_is_empty(&g->queue);
}
/* Takes the first of the queue and runs it, or begins it. Lock held, given up meanwhile. */
void wk_group_run_first(struct wk_group *g);
/* Of a class's template: NULL when its actor runs one call at a time, or with ST_PROTOCOL. */
int wk_groups_make(const struct wk_peer_template *t, struct wk_groups **out) MUST_USE;
/* The constructor is through: what has come goes into the groups, and so does what comes. */
void wk_groups_begin(struct wk_groups *groups);
/* The main thread's part, until the process is to leave. Lock held, given up meanwhile. */
void wk_groups_serve(void);
/* One of the face's callbacks, which may be NULL. Lock not held. */
void wk_call_back(void (*callback)(void *ctx));
/* A call has come; it has a template. */
void wk_group_push(struct wk_exec *e);
/* A connection is gone: what came over it and has not begun is dropped. */
void wk_groups_link_gone(struct wk_link *link);
/* Whether the process is to leave, or one of the flags that say so was set: the main thread looks.
 */
bool wk_must_leave(void);
void wk_leave_changed(void);

#endif
