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
    struct atom_u32 handles; /* of the program, that count */
    struct atom_u32 weak;    /* of the program, that don't: see wk_actor_of */
    uint64_t session;
    struct id_actor id;
    struct own_ref *ref; /* the pseudo-object, one local handle while `holding`; NULL: weak */
    struct own_item item;
    bool holding, owned, watching;
    bool registered;             /* ray-gcs was told of it before its arguments were here */
    bool requested;              /* ray-gcs was asked for it, with its arguments */
    bool detached;               /* created here; nothing depends on handles */
    bool asking;                 /* its creator waits for ray-gcs' answer */
    struct wk_caller calls;      /* its processes are struct wk_peer */
    struct list dirty_link;      /* engine.dirty_actors */
    struct ray_value *death;     /* DEAD: what every call gets */
    struct wk_task *creation;    /* holds the arguments, until no constructor runs any more */
    uint64_t constructed;        /* incarnations that are; 0 none */
    struct ray_options *options; /* creator's, for the request */
    char *class_name;
    struct str face_info; /* of one that was found by its name */
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

/* A weak handle is its record's address plus one: the two kinds differ in what they count. */
static inline struct wk_actor *
wk_actor_of(const ray_actor *handle)
{
    return (struct wk_actor *)((uintptr_t)handle & ~(uintptr_t)1);
}

static inline bool
wk_actor_handle_is_weak(const ray_actor *handle)
{
    return ((uintptr_t)handle & 1) != 0;
}

/* One more weak handle. */
static inline ray_actor *
wk_actor_weak(struct wk_actor *actor)
{
    (void)atom_u32_fetch_add(&actor->weak, 1, ATOM_RELAXED);
    return (ray_actor *)((uintptr_t)actor | 1);
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

/* Frees what it owns by itself, and it. */
void wk_actor_free_memory(struct wk_actor *actor);

/* Asks ray-gcs to kill it. */
int wk_actor_say_kill(struct wk_actor *actor, bool no_restart) MUST_USE;

/* ---- wk_actor_name.c ---- */

/* Registers the actor at ray-gcs, with its name, and waits for the answer. */
int wk_actor_register(const struct id_actor *id, const struct ray_options *options,
                      const char *class_name) MUST_USE;
/* Asks ray-gcs to make an actor, or to register it, and waits until that is stored. */
int wk_actor_ask_creation(const Ray__Gcs__CreateActor *message) MUST_USE;
/* By its name, a weak handle. The lock is held, and given up while waiting. */
int wk_actor_find_named(const char *name, const char *space, ray_actor **out) MUST_USE;
/* Takes the registration back: there will be no such actor. */
void wk_actor_unregister(const struct id_actor *id);
/* Who, where and how it is to be, but for what it is made of. Points into the arguments. */
void wk_actor_fill_spec(const struct id_actor *id, const struct ray_options *options,
                        const char *class_name, Ray__Gcs__CreateActor *out);

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
/* A call that is made again after its end, as if it were submitted now. */
void wk_actor_resubmit(struct wk_task *task);
/* What a call to a dead actor gets; the caller releases it. */
struct ray_value *wk_actor_death(const struct wk_actor *actor);

/* ---- wk_actor_state.c ---- */

/* It is dead, unless it was: every call fails. `update` may be NULL. */
void wk_actor_die(struct wk_actor *actor, int status, const char *reason,
                  const Ray__Gcs__ActorUpdate *update);

#endif
