/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tasks and actor calls as their owner has them, from submission until they are answered. Private
 * to src/worker; the engine's lock guards everything.
 */
#ifndef RAY_WORKER_WK_TASK_H
#define RAY_WORKER_WK_TASK_H

#include <string.h>

#include "worker/wk_caller.h"
#include "worker/wk_priv.h"

enum wk_task_state {
    WK_TASK_WAITING, /* for arguments */
    WK_TASK_READY,   /* in its key's or actor's queue */
    WK_TASK_PUSHED,  /* in a link's window */
};

struct wk_task_arg {
    struct own_ref *ref;    /* the value is taken from it when the task is pushed; or NULL */
    uint32_t offset, bytes; /* piece in `pieces` */
};

struct wk_lineage;

struct wk_task {
    union { /* of an actor's call, what the actor client has of it; a task's under the same names */
        struct wk_call call;
        struct {
            struct list link;
            uint64_t sequence; /* actor calls */
            uint32_t attempt;
            int32_t retries_left; /* -1 for ever */
        };
    };
    struct wk_lineage *lineage; /* it stays when it is answered; mostly NULL */
    struct wk_template *tmpl;
    struct ray_function *function; /* counted */
    struct wk_key *key;            /* NULL: an actor's call */
    struct wk_actor *actor;        /* NULL: a task */
    struct wk_link *pushed_on;
    struct wk_lease *lease; /* while PUSHED, NULL for actor calls */
    struct net_window_push push;
    uint64_t pushed_ns;
    struct id_task id;
    uint32_t depth;
    uint16_t state; /* enum wk_task_state */
    bool retry_exceptions;
    bool cancelled;      /* while it ran: no other try */
    bool killed;         /* the same, by force: its worker is to end */
    struct list sibling; /* wk_exec.children of the task that has submitted it */
    uint32_t deps_pending;
    uint32_t arg_count;
    uint32_t ref_count;
    uint32_t return_count;
    struct wk_task_arg *args; /* one block: args, refs, pieces */
    struct ray_value **gone;  /* [arg_count], failures in place of what is gone; mostly NULL */
    struct own_ref **refs;    /* everything held: arguments and what is inside of them */
    uint8_t *pieces;
    size_t args_bytes;          /* of that block */
    struct own_ref *return_one; /* return_count == 1 */
    struct own_ref **returns;   /* return_count > 1 */
    struct ray_stream *stream;  /* of a generator, or NULL */
};

_Static_assert(offsetof(struct wk_task, sequence) == offsetof(struct wk_task, call.sequence) &&
                   offsetof(struct wk_task, attempt) == offsetof(struct wk_task, call.attempt) &&
                   offsetof(struct wk_task, retries_left) ==
                       offsetof(struct wk_task, call.retries_left),
               "the same words under both names");

static inline struct wk_task *
wk_task_of_call(struct wk_call *call)
{
    return CONTAINER_OF(call, struct wk_task, call);
}

/* Somebody who waits for a reference's value: a linked list whose head is own_ref.waiters. */
struct wk_waiter {
    struct wk_waiter *next;
    struct wk_task *task;    /* a dependent task, or */
    struct own_ref *handle;  /* held, and */
    ray_ready_fn fn;         /* a callback, for the callback thread, or */
    struct ray_inbox *inbox; /* that gets `ctx` */
    void *ctx;
};

/* ---- wk_submit.c ---- */

void wk_on_ref_ready(struct own_ref *ref, uint64_t waiters);
/* Pushes what can be pushed and lets the lease client speak. Lock held. */
void wk_pump(void);
int wk_task_push(struct wk_task *task, struct wk_link *link, uint64_t epoch) MUST_USE;
/* There was no memory or descriptor for it: everything is tried again in a moment. */
void wk_push_later(void);
void wk_on_push_timer(void *ctx);
/* The task's arguments are all here. */
void wk_task_make_ready(struct wk_task *task);
/* A pushed task is the key's again, ahead of those that never were pushed. The lease client has
 * been told, or will be, by whoever calls. */
void wk_task_take_back(struct wk_task *task);
/* The pump looks at it. */
static inline void
wk_key_mark_dirty(struct wk_key *key)
{
    if (list_is_empty(&key->dirty_link)) {
        list_push_back(&wk.dirty_keys, &key->dirty_link);
    }
}
/* Shutdown: all tasks of a list, or in a link's window; then those that wait or are ready. */
void wk_tasks_destroy(struct list *tasks);
void wk_link_tasks_destroy(struct wk_link *link);
void wk_tasks_fini(void);
/* The raylet is dead: who was to be called back when a value came is called now. */
void wk_callbacks_end(void);

/* ray_task_submit and ray_actor_call; *stream is that of a streaming task, whose reader's it is. */
int wk_task_submit(struct ray_function *function, struct ray_options *options,
                   const struct ray_arg *args, size_t arg_count, ray_ref **refs,
                   struct ray_stream **stream) MUST_USE;
int wk_actor_submit(struct ray_actor *handle, struct ray_function *method,
                    struct ray_options *options, const struct ray_arg *args, size_t arg_count,
                    ray_ref **refs, struct ray_stream **stream) MUST_USE;

/* ---- wk_reply.c ---- */

void wk_on_done(struct wk_link *link, const uint8_t *body, size_t size);
void wk_on_bounced(struct wk_link *link, const uint8_t *body, size_t size);
/* The task ends without a reply. `executor` as in own_task_failed. */
/* It is in its link's window no more. */
void wk_task_forget_pushed(struct wk_task *task);
void wk_task_fail(struct wk_task *task, struct ray_value *failure, uint32_t executor);
/* The connection has ended, its peer lives: leases on it are given up with their worker. */
void wk_tasks_on_link_failed(struct wk_link *link);
/* Unpushed and failed tasks of a dead peer's link. */
void wk_tasks_on_death(struct wk_peer *peer);
/* For qsort, of pointers to pushed tasks: the newest first. */
int wk_task_by_number(const void *a, const void *b);

struct wk_task *wk_task_find_pushed(struct wk_link *link, uint32_t word, uint64_t number);
/* The reference, of the task, gets the value of a piece from `executor`, whose token covers what is
 * inside, or the failure to read it. NULL: there is no piece, for the reason of the thread's error.
 */
void wk_take_piece(struct wk_task *task, struct own_ref *ref, const struct wk_piece *piece,
                   struct own_frame *frame, uint64_t token, uint32_t executor);
/* The same for a piece that nobody wants. */
void wk_drop_piece(const struct wk_piece *piece, uint64_t token, uint32_t executor);
/* NULL: there is no need of one, or no memory, which wk_take_piece tells. */
struct own_frame *wk_piece_frame(uint64_t token, uint32_t executor);

/* ---- wk_cancel.c ---- */

/* `flags` are PEER_CANCEL_*. The task may be gone after it. */
void wk_task_cancel(struct wk_task *task, uint32_t flags);
/* Cancelled, it never ran, and is in no queue. */
void wk_task_end_unrun(struct wk_task *task);
/* A return of the task's; until its value is there, ray_cancel finds the task by it. */
static inline void
wk_return_set_task(struct own_ref *ref, const struct wk_task *task)
{
    memcpy(&ref->task, &task, sizeof(task));
}

/* ---- wk_generator.c ---- */

/* A stream for a task that is being made. NULL: no memory. */
struct ray_stream *wk_stream_make(struct wk_task *task, const struct ray_options *options);
/* The task's returns are there. */
void wk_stream_begin(struct wk_task *task);
/* The task is submitted: its stream has a reader from now on. */
struct ray_stream *wk_stream_give(struct wk_task *task);
/* It is being pushed: the number of items that its worker need not make. */
uint32_t wk_stream_push_items(struct wk_task *task);
void wk_stream_pushed(struct wk_task *task);
void wk_stream_unpushed(struct wk_task *task);
/* It is answered, its returns are settled; NULL: well. Borrows the failure. */
void wk_stream_answered(struct wk_task *task, struct ray_value *failure);
/* The task is gone. */
void wk_stream_task_gone(struct wk_task *task);
/* An item has come. A failure ends the connection. */
int wk_on_item(struct wk_link *link, const uint8_t *body, size_t size) MUST_USE;
void wk_stream_on_timer(void *ctx);
void wk_streams_fini(void);

/* ---- wk_grant.c ---- */

/* Tells the raylet what the lease client decided, or recalls tasks for it. */
void wk_lease_say(const struct step_out *out);
/* Gives a lease back and forgets its reference; `flags` are SCHED_RETURN_*. */
void wk_lease_send_return(uint64_t lease_id, uint32_t flags);
void wk_lease_granted(const Ray__Node__LeaseGrant *grant);
void wk_lease_trouble(const Ray__Node__LeaseTrouble *trouble);

/* ---- wk_task.c ---- */

/* What submissions of tasks and actor calls share. */
int wk_task_create(struct ray_function *function, struct ray_options *options,
                   const struct ray_arg *args, size_t arg_count, const struct id_task *id,
                   struct wk_task **out) MUST_USE;
void wk_task_destroy(struct wk_task *task);
/* One that was not submitted after all: gives its arguments up, and destroys it. */
void wk_task_abandon(struct wk_task *task);
/* Creates the references of the returns and holds the arguments. */
int wk_task_begin(struct wk_task *task, ray_ref **refs) MUST_USE;
/* After wk_task_begin: the returns end too. */
void wk_task_undo(struct wk_task *task);
/* Counts arguments that aren't here yet, and waits for them. */
int wk_task_want_args(struct wk_task *task) MUST_USE;
/* Also prepares what encoding needs: that takes no memory. */
int wk_task_args_bytes(struct wk_task *task, size_t *out) MUST_USE;
/* An inline piece of a payload, of wk_piece_bytes; the end of it. */
uint8_t *wk_payload_encode(const struct ray_payload *payload, uint8_t *at);
size_t wk_payload_size(const struct ray_payload *payload);
uint8_t *wk_task_args_encode(const struct wk_task *task, uint8_t *out);
/* NULL: one that isn't asked for, of a task that runs again. */
struct own_ref *wk_task_return(const struct wk_task *task, uint32_t index);

#endif
