/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An actor as its callers see it: the record that the files wk_actor*.c share. The engine's lock
 * guards it, but for `handles`.
 *
 * A handle is a reference to a pseudo-object that the creator owns (the creation task's first
 * return): ownership counts it like any other, and its end ends the actor. Which call goes when,
 * and what becomes of those in flight, wk_caller.h decides; here that is carried out.
 */
#ifndef RAY_WORKER_WK_ACTOR_H
#define RAY_WORKER_WK_ACTOR_H

#include <string.h>

#include "proto/gcs.pb-c.h"
#include "worker/wk_caller.h"
#include "worker/wk_priv.h"

struct wk_actor {
    struct map_link link;
    struct atom_u32 handles; /* of the program */
    uint64_t session;
    struct id_actor id;
    struct own_ref *ref; /* the pseudo-object, one local handle while `holding`; NULL: weak */
    struct own_item item;
    bool holding, owned, watching;
    struct wk_caller calls;      /* its processes are struct wk_peer */
    struct list dirty_link;      /* engine.dirty_actors */
    struct ray_value *death;     /* DEAD: what every call gets */
    struct wk_task *creation;    /* holds the arguments, until no constructor runs any more */
    uint64_t constructed;        /* incarnations that are; 0 none */
    struct ray_options *options; /* creator's, for the request */
    char *class_name;
};

/* As wk_caller knows a process. */
static inline uint64_t
wk_actor_process(const struct wk_peer *peer)
{
    return (uint64_t)(uintptr_t)peer;
}

/* Where the actor runs, or NULL. */
static inline struct wk_peer *
wk_actor_peer(const struct wk_actor *actor)
{
    return (struct wk_peer *)(uintptr_t)actor->calls.process;
}

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
/* Asks ray-gcs to tell what becomes of it. */
void wk_actor_watch(struct wk_actor *actor);

/* Asks ray-gcs to kill it. */
int wk_actor_say_kill(struct wk_actor *actor, bool no_restart) MUST_USE;

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
/* What a call to a dead actor gets; the caller releases it. */
struct ray_value *wk_actor_death(const struct wk_actor *actor);

/* ---- wk_actor_state.c ---- */

/* It is dead, unless it was: every call fails. `update` may be NULL. */
void wk_actor_die(struct wk_actor *actor, int status, const char *reason,
                  const Ray__Gcs__ActorUpdate *update);

#endif
