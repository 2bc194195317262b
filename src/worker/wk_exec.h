/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tasks as the process that executes them has them, from a push until its reply, and the templates
 * that pushes name. Private to src/worker; the engine's lock guards everything but what the record
 * of the running task holds for the face.
 */
#ifndef RAY_WORKER_WK_EXEC_H
#define RAY_WORKER_WK_EXEC_H

#include <string.h>

#include "worker/wk_interrupt.h"
#include "worker/wk_priv.h"
#include "worker/wk_stream.h"

/* A function with its options, as a peer told it. */
struct wk_peer_template {
    uint32_t number;
    int32_t num_returns, max_calls, max_concurrency;
    uint32_t flags, kind, backpressure;
    int32_t exception_retries;
    uint64_t name_key; /* of the name shown in the control page */
    uint64_t runs;     /* towards max_calls */
    uint8_t hash[20];
    char *name, *function_name, *method; /* point into `text`, as `resources` does */
    char *resources;                     /* what it holds, as JSON */
    char *groups;                        /* as in struct peer_template */
    struct wk_group *group;              /* that `groups` names, once it is known */
    uint32_t owners;                     /* tasks that must free it: its connection is gone */
    uint8_t *metadata;
    uint32_t metadata_size;
    char *text;
    struct ray_value *definition;
};

/* Whether the end of the face's callback is the task's end. */
enum wk_deferral {
    WK_DEFER_NOT,
    WK_DEFERRED, /* ray_task_finish is to come */
    WK_FINISHED, /* it came */
};

struct wk_exec {
    struct list link;     /* engine.exec_queue, a group's queue, or engine.begun */
    struct wk_link *from; /* NULL once that connection is gone, and for creation tasks */
    uint32_t caller;      /* own's number of the pusher */
    struct id_worker caller_id;
    struct peer_push push;
    struct wk_peer_template *tmpl;
    struct own_frame *frame;
    struct ray_value *block;      /* holds this record, the arguments' and their bytes */
    struct ray_value *args;       /* [arg_count], in block, whose count keeps them */
    struct ray_value **views;     /* [arg_count], of hints; NULL until asked for */
    struct own_item *arg_refs;    /* [arg_count], of a creation: what they are; or NULL */
    struct ray_value **returns;   /* [num_returns]; NULL: none yet */
    struct ray_value *return_one; /* of a task with one: `returns` points here */
    struct own_ref **return_refs; /* references inside the returns, one handle each */
    uint32_t return_ref_count, return_ref_capacity;
    struct ray_value *failure;
    bool retry_allowed;
    bool args_lost; /* it isn't run: its owner must find the arguments again */
    bool delivered; /* a reply names the returns */
    struct id_source source;
    uint64_t started_ns;
    struct wk_group *group; /* that it runs in, NULL: one at a time */
    enum wk_deferral deferral;
    bool in_execute;      /* the face's callback has not returned */
    bool owns_template;   /* one of tmpl->owners */
    bool leaves;          /* it ends the process */
    struct list children; /* wk_task.sibling: what it has submitted and isn't answered */
    struct wk_interrupt interrupt;
    bool break_wait;    /* its wait in libray is to end, once */
    bool signalled;     /* the face's interrupt was called for it */
    bool cancel_queued; /* one of group->cancels */
    void *user;         /* the face's */
    struct wk_yield yield;
    struct ray_inbox *room_inbox; /* gets `room_token` when the generator may go on; or NULL */
    void *room_token;
    uint64_t yielded_ns; /* when it gave its last item */
};

/* ---- wk_exec.c ---- */

/* A failure ends the connection. */
static inline struct wk_exec *
wk_exec_of(const ray_task *task)
{
    struct wk_exec *e;
    memcpy(&e, &task, sizeof(e));
    return e;
}
/* Pins the arguments that are in the store. False: one isn't there, the task has failed with that.
 */
bool wk_exec_open_args(struct wk_exec *e);
/* Its connection is gone while it runs: nobody hears of it, and its template outlives it. */
void wk_exec_orphan(struct wk_exec *e);
/* It is in a queue, whose void frames may go now, this one among them. */
void wk_exec_queued(const struct wk_exec *e);
int wk_on_push(struct wk_link *link, const uint8_t *body, size_t size) MUST_USE;
/* Makes the record of a push whose body is `body`; its template is the caller's to set. */
int wk_exec_make(const uint8_t *body, size_t size, uint32_t caller, struct wk_exec **out) MUST_USE;
void wk_exec_free(struct wk_exec *e);
/* The task doesn't run here; no reply will tell what it kept. */
void wk_exec_discard(struct wk_exec *e);
/* Sends a task of a lease back unrun, unless its owner has taken it back already. */
void wk_exec_bounce(struct wk_exec *e);
void wk_bounce_all(void);
void wk_exec_link_gone(struct wk_link *link);
struct id_source *wk_id_source(void);
/* The task that `task` names, if a call of this thread is made by it: the thread's, or the main
 * thread's, which may have ended while the lock was given up. */
struct wk_exec *wk_submitter(const struct id_task *task);
uint32_t wk_depth(void);

/* ---- wk_cancel.c ---- */

/* Lock held. Whether the wait of the thread's task is to end; the mark is gone after. */
static inline bool
wk_wait_is_broken(void)
{
    if (!wk_current || !wk_current->break_wait) {
        return false;
    }
    wk_current->break_wait = false;
    return true;
}
/* Whether the thread works on a task that was cancelled. */
bool wk_current_is_cancelled(void);

/* ---- wk_exec_face.c ---- */

/* NULL: no memory. */
struct ray_value *wk_exec_failure(const struct wk_exec *e, int status, const char *text,
                                  const struct ray_payload *payload);

/* ---- wk_yield.c ---- */

/* Its reader tells how far it is. A failure ends the connection. */
int wk_on_told(struct wk_link *link, const uint8_t *body, size_t size) MUST_USE;
/* If it waits for room: it looks again. */
void wk_exec_room_changed(struct wk_exec *e);
void wk_yield_on_timer(void *ctx);
/* It ends while an event loop waits for its room. */
void wk_exec_room_end(struct wk_exec *e);

/* ---- wk_template.c ---- */

/* A failure ends the connection. */
int wk_on_template(struct wk_link *link, const uint8_t *body, size_t size) MUST_USE;
/* From the body of a TEMPLATE frame. */
int wk_peer_template_decode(const uint8_t *body, size_t size, struct wk_peer_template **out)
    MUST_USE;
void wk_peer_template_free(struct wk_peer_template *t);
void wk_link_templates_free(struct wk_link *link);

/* ---- wk_run.c ---- */

/* A task that returned without giving all its values has failed; `status` is the callback's. */
void wk_exec_complete(struct wk_exec *e, int status);
/* Answers a call that ran in a group. */
void wk_exec_reply(struct wk_exec *e, uint64_t duration_ns);
void wk_on_become_actor(const Ray__Node__BecomeActor *msg);

#endif
