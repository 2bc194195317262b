/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An actor as its callers see it: the record that the files wk_actor*.c share. The engine's lock
 * guards it, but for `handles`.
 *
 * A handle is a reference to a pseudo-object that the creator owns (the creation task's first
 * return): ownership counts it like any other, and its end ends the actor. Calls queue here in
 * the order of submission and go, in that order, over one connection to the actor's process as soon
 * as ray-gcs tells where that is. When the process dies, calls in flight wait for the word of
 * ray-gcs: restarted, those that had not begun, or have retries left, are sent again before any
 * later one; dead, all fail with the cause.
 *
 *   states here: UNKNOWN -> ALIVE <-> RESTARTING -> DEAD (and UNKNOWN -> DEAD)
 */
#ifndef RAY_WORKER_WK_ACTOR_H
#define RAY_WORKER_WK_ACTOR_H

#include <string.h>

#include "proto/gcs.pb-c.h"
#include "worker/wk_priv.h"

enum actor_state { ACTOR_UNKNOWN, ACTOR_ALIVE, ACTOR_RESTARTING, ACTOR_DEAD };

struct wk_actor {
    struct map_link link;
    struct atom_u32 handles; /* of the program */
    uint64_t session;
    struct id_actor id;
    struct own_ref *ref; /* the pseudo-object, one local handle while `holding`; NULL: weak */
    struct own_item item;
    bool holding, owned, watching;
    bool over;   /* its session has ended: only handles are left */
    bool killed; /* by this process, for good: its later calls wait for the end */
    enum actor_state state;
    uint64_t incarnation;
    struct wk_peer *peer;
    struct wk_peer *last_peer; /* of the incarnation before, its death not told yet; or NULL */
    struct list queue;         /* wk_task.link: to be pushed, in order */
    struct list late;          /* unordered: calls whose arguments are still to come */
    struct list limbo;         /* in flight when the process died, in order */
    struct list dirty_link;    /* engine.dirty_actors */
    bool unordered;            /* calls may overtake those whose arguments are late */
    uint64_t sequence;
    uint64_t pending;            /* calls not answered */
    int64_t max_pending;         /* no limit unless above 0 */
    struct ray_value *death;     /* DEAD: what every call gets */
    struct wk_task *creation;    /* holds the arguments, until no constructor runs any more */
    uint64_t constructed;        /* incarnations that are; 0 none */
    struct ray_options *options; /* creator's, for the request */
    char *class_name;
};

/* The pump looks at it. */
static inline void
wk_actor_mark_dirty(struct wk_actor *actor)
{
    if (list_is_empty(&actor->dirty_link)) {
        list_push_back(&wk.dirty_actors, &actor->dirty_link);
    }
}

/* A text of a message that is packed at once, and only read. */
static inline void
wk_set_text(char **field, const char *text)
{
    memcpy(field, &text, sizeof(text));
}

/* ---- wk_actor.c ---- */

struct wk_actor *wk_actor_find(const struct id_actor *id);
/* A new record, in the table. NULL: no memory. */
struct wk_actor *wk_actor_make(const struct id_actor *id, const char *class_name);
void wk_actor_free(struct wk_actor *actor);
/* The process of the incarnation before is its business no more. */
void wk_actor_leave_last_peer(struct wk_actor *actor);
/* Asks ray-gcs to tell what becomes of it. */
void wk_actor_watch(struct wk_actor *actor);

/* ---- wk_actor_create.c ---- */

/* The creation has its arguments: ray-gcs is asked for the actor. */
void wk_actor_request_creation(struct wk_actor *actor);
/* The constructor is through, and kept what `kept` says (own_task_replied). One that may run again,
 * in another process, needs the arguments as long as the actor lives. */
void wk_actor_creation_replied(struct wk_actor *actor, uint64_t kept);
/* No constructor runs any more: its arguments are given up. `executor` as in own_task_failed. */
void wk_actor_end_creation(struct wk_actor *actor, uint32_t executor);
/* The number of the actor's process in `own`. */
uint32_t wk_actor_proc(const struct wk_actor *actor);

/* ---- wk_actor_call.c ---- */

/* When nothing in the program refers to it and no call is open, the reference to it is given up. */
void wk_actor_settle(struct wk_actor *actor);
/* From now on its calls overtake those that wait for arguments. */
void wk_actor_unorder(struct wk_actor *actor);
/* What a call to a dead actor gets; the caller releases it. */
struct ray_value *wk_actor_death(const struct wk_actor *actor);

/* ---- wk_actor_state.c ---- */

/* An attempt of the call has failed. True: one of its retries is taken, it is to be sent again. */
bool wk_actor_call_again(struct wk_task *task);

/* It is dead, unless it was: every call fails. `update` may be NULL. */
void wk_actor_die(struct wk_actor *actor, int status, const char *reason,
                  const Ray__Gcs__ActorUpdate *update);

#endif
