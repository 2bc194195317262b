/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Actors from the callers' side: their records, the program's handles, and how both end.
 */
#include <stdlib.h>
#include <string.h>

#include "worker/wk_actor.h"
#include "worker/wk_task.h"

/* ---- records ---- */

static uint64_t
actor_hash(const struct id_actor *id)
{
    return id_hash(id->b, sizeof(id->b));
}

struct wk_actor *
wk_actor_find(const struct id_actor *id)
{
    struct map_link *l;
    MAP_FOR_HASH (l, &wk.actors, actor_hash(id)) {
        struct wk_actor *actor = CONTAINER_OF(l, struct wk_actor, link);
        if (ID_EQ(actor->id, *id)) {
            return actor;
        }
    }
    return NULL;
}

struct wk_actor *
wk_actor_make(const struct id_actor *id, const char *class_name)
{
    struct wk_actor *actor = calloc(1, sizeof(*actor));
    if (!actor) {
        return NULL;
    }
    actor->id = *id;
    actor->session = wk.session;
    wk_caller_init(&actor->calls, WK_WINDOW_WORDS);
    actor->class_name = strdup(class_name ? class_name : "");
    list_init(&actor->dirty_link);
    str_init(&actor->face_info, wk.mem);
    if (!actor->class_name || map_insert(&wk.actors, &actor->link, actor_hash(id)) != ST_OK) {
        free(actor->class_name);
        free(actor);
        return NULL;
    }
    return actor;
}

static void
leave_peer(struct wk_actor *actor, uint64_t process)
{
    struct wk_peer *peer = (struct wk_peer *)(uintptr_t)process;
    if (peer && peer->actor == actor) {
        peer->actor = NULL;
    }
}

void
wk_actor_free(struct wk_actor *actor)
{
    list_remove(&actor->dirty_link);
    map_remove(&wk.actors, &actor->link);
    leave_peer(actor, actor->calls.last_process);
    leave_peer(actor, actor->calls.process);
    ray_value_release(actor->death);
    ray_options_release(actor->options);
    wk_actor_free_memory(actor);
}

void
wk_actor_free_memory(struct wk_actor *actor)
{
    str_fini(&actor->face_info);
    free(actor->class_name);
    free(actor);
}

void
wk_actor_watch(struct wk_actor *actor)
{
    Ray__Gcs__WatchActor message = RAY__GCS__WATCH_ACTOR__INIT;
    message.actor_id.data = actor->id.b;
    message.actor_id.len = sizeof(actor->id.b);
    actor->watching = true;
    (void)!wk_gcs_send(GCS_WATCH_ACTOR, (const ProtobufCMessage *)&message);
}

void
wk_actors_rewatch(void)
{
    struct map_walk walk;
    map_walk_init(&walk);
    for (struct map_link *l; (l = map_walk_next(&wk.actors, &walk));) {
        struct wk_actor *actor = CONTAINER_OF(l, struct wk_actor, link);
        if (actor->watching && actor->calls.state != ACTOR_DEAD) {
            wk_actor_watch(actor);
        }
    }
}

/* The machine: the last handle anywhere is gone. */
void
wk_actor_out_of_scope(struct wk_actor *actor)
{
    Ray__Gcs__ActorOutOfScope message = RAY__GCS__ACTOR_OUT_OF_SCOPE__INIT;
    message.actor_id.data = actor->id.b;
    message.actor_id.len = sizeof(actor->id.b);
    if (actor->calls.state != ACTOR_DEAD && !actor->detached) {
        (void)!wk_gcs_request(GCS_ACTOR_OUT_OF_SCOPE, (const ProtobufCMessage *)&message, NULL,
                              NULL);
    }
    actor->ref = NULL;
    actor->owned = false;
    wk_actor_mark_dirty(
        actor); /* freed by the pump: its arguments can't be given up within the machine */
}

/* ---- handles ---- */

static bool
has_place(void *ctx)
{
    const struct wk_actor *actor = ctx;
    return actor->calls.state == ACTOR_ALIVE || actor->calls.state == ACTOR_DEAD;
}

int
wk_actor_wait_peer(struct wk_actor *actor, struct wk_peer **out)
{
    *out = NULL;
    if (actor->session != wk.session) {
        return st_fail(ST_NOT_FOUND, "ActorHandle objects are not valid across Ray sessions");
    }
    TRY(wk_wait_on(has_place, actor, UINT64_MAX));
    if (actor->calls.state == ACTOR_DEAD || !actor->calls.process) {
        return st_fail(ST_OWNER_DIED, "the actor that is to own the value is dead");
    }
    *out = wk_actor_peer(actor);
    return ST_OK;
}

RAY_API ray_actor *
ray_actor_retain(ray_actor *handle)
{
    struct wk_actor *actor = wk_actor_of(handle);
    struct atom_u32 *count = wk_actor_handle_is_weak(handle) ? &actor->weak : &actor->handles;
    (void)atom_u32_fetch_add(count, 1, ATOM_RELAXED);
    return handle;
}

/* Whether the program has any handle to it. */
static bool
has_handles(const struct wk_actor *actor)
{
    return atom_u32_load(&actor->handles, ATOM_ACQUIRE) > 0 ||
           atom_u32_load(&actor->weak, ATOM_ACQUIRE) > 0;
}

RAY_API void
ray_actor_release(ray_actor *handle)
{
    struct wk_actor *actor = wk_actor_of(handle);
    if (!actor || wk.forked) {
        return;
    }
    struct atom_u32 *count = wk_actor_handle_is_weak(handle) ? &actor->weak : &actor->handles;
    uint32_t n = atom_u32_load(count, ATOM_RELAXED);
    while (n > 1) {
        if (atom_u32_cas(count, &n, n - 1)) {
            return;
        }
    }
    wk_lock();
    if (atom_u32_fetch_add(count, UINT32_MAX, ATOM_ACQ_REL) == 1) {
        if (actor->session == 0) { /* wk_actors_fini left it to us */
            if (!has_handles(actor)) {
                wk_actor_free_memory(actor);
            }
        } else if (wk.running) {
            wk_actor_settle(actor);
            wk_actors_pump();
        }
    }
    wk_unlock();
}

RAY_API const uint8_t *
ray_actor_id(const ray_actor *handle)
{
    return wk_actor_of(handle)->id.b;
}

RAY_API int
ray_actor_ref(ray_actor *handle, ray_ref **out)
{
    struct wk_actor *actor = wk_actor_of(handle);
    *out = NULL;
    TRY(wk_enter());
    int status = ST_OK;
    if (actor->session != wk.session) {
        status = st_fail(ST_NOT_FOUND, "ActorHandle objects are not valid across Ray sessions");
    } else if (wk_actor_handle_is_weak(handle)) {
        status = st_fail(ST_INVALID_ARGUMENT, "a weak handle has no reference: pass the actor's id "
                                              "on, or its name");
    } else if (actor->ref) {
        own_local_add(actor->ref);
        *out = (ray_ref *)actor->ref;
    } else {
        struct wk_outs o;
        *out = (ray_ref *)own_borrow(&wk.own, NULL, NULL, &actor->item, wk_outs_begin(&o));
        wk_outs_end(&o);
        status = *out ? ST_OK : st_fail(ST_OUT_OF_MEMORY, "no memory for a reference");
    }
    wk_unlock();
    return status;
}

static struct wk_actor *
actor_of_ref(struct own_ref *ref)
{
    const struct id_task task = id_object_task(&ref->id);
    const struct id_actor id = id_task_actor(&task);
    struct wk_actor *actor = wk_actor_find(&id);
    if (!actor) {
        actor = wk_actor_make(&id, "");
        if (!actor) {
            return NULL;
        }
        actor->ref = ref;
        own_item_of(&wk.own, ref, &actor->item);
        wk_actor_watch(actor);
    }
    if (!actor->ref) {
        actor->ref = ref; /* a weak handle becomes a counted one */
    }
    if (!actor->holding) {
        actor->holding = true;
        own_local_add(ref);
    }
    return actor;
}

RAY_API int
ray_actor_from_ref(ray_ref *handle, ray_actor **out)
{
    *out = NULL;
    TRY(wk_enter());
    const struct own_ref *ref = (const struct own_ref *)handle;
    int status = wk_refs_check(&handle, 1, false);
    if (status == ST_OK && !wk_id_is_actor(&ref->id)) {
        status = st_fail(ST_INVALID_ARGUMENT, "the reference is no actor's");
    }
    struct wk_actor *actor = status == ST_OK ? actor_of_ref((struct own_ref *)handle) : NULL;
    if (status == ST_OK && !actor) {
        status = st_fail(ST_OUT_OF_MEMORY, "no memory for an actor handle");
    }
    if (actor) {
        (void)atom_u32_fetch_add(&actor->handles, 1, ATOM_RELAXED);
        *out = (ray_actor *)actor;
    }
    wk_unlock();
    return status;
}

RAY_API int
ray_actor_current(ray_actor **out)
{
    *out = NULL;
    TRY(wk_enter());
    int status = ST_OK;
    if (ID_IS_NIL(wk.self_actor_id)) {
        status = st_fail(ST_NOT_FOUND, "this process is no actor");
    } else {
        struct wk_actor *actor = wk_actor_find(&wk.self_actor_id);
        if (!actor) {
            actor = wk_actor_make(&wk.self_actor_id, wk.self_actor_class);
            if (actor) {
                wk_actor_watch(actor);
            }
        }
        if (actor) {
            if (!actor->ref) { /* its record may be of a weak handle */
                const struct id_task creation = id_task_of_actor_creation(&actor->id);
                actor->item.object = id_object_of_return(&creation, 1);
                actor->item.owner = wk.self_actor_owner;
                actor->detached = wk.self_actor_detached;
            }
            (void)atom_u32_fetch_add(&actor->handles, 1, ATOM_RELAXED);
            *out = (ray_actor *)actor;
        } else {
            status = st_fail(ST_OUT_OF_MEMORY, "no memory for an actor handle");
        }
    }
    wk_unlock();
    return status;
}

int
wk_actor_say_kill(struct wk_actor *actor, bool no_restart)
{
    Ray__Gcs__KillActor message = RAY__GCS__KILL_ACTOR__INIT;
    message.actor_id.data = actor->id.b;
    message.actor_id.len = sizeof(actor->id.b);
    message.no_restart = no_restart;
    wk_set_text(&message.reason, "The actor is dead because it was killed by `ray.kill`.");
    return wk_gcs_request(GCS_KILL_ACTOR, (const ProtobufCMessage *)&message, NULL, NULL);
}

RAY_API int
ray_actor_kill(ray_actor *handle, bool no_restart)
{
    struct wk_actor *actor = wk_actor_of(handle);
    TRY(wk_enter());
    int status = ST_OK;
    if (actor->session != wk.session) {
        status = st_fail(ST_NOT_FOUND, "ActorHandle objects are not valid across Ray sessions");
    } else {
        status = wk_actor_say_kill(actor, no_restart);
        actor->calls.held = actor->calls.held || (status == ST_OK && no_restart);
    }
    wk_unlock();
    return status;
}

/* ---- the end ---- */

/* Shutdown, after wk_tasks_fini: handles that the program still has stay as empty records. */
void
wk_actors_fini(void)
{
    struct map_walk walk;
    map_walk_init(&walk);
    for (struct map_link *l; (l = map_walk_next(&wk.actors, &walk));) {
        struct wk_actor *actor = CONTAINER_OF(l, struct wk_actor, link);
        map_remove(&wk.actors, l);
        wk_tasks_destroy(&actor->calls.queue);
        wk_tasks_destroy(&actor->calls.late);
        wk_tasks_destroy(&actor->calls.limbo);
        wk_tasks_destroy(&actor->calls.failed);
        while (list_pop_front(&actor->calls.sent)) {
            /* those are destroyed with their connection */
        }
        if (actor->creation) {
            wk_task_destroy(actor->creation);
            actor->creation = NULL;
        }
        ray_options_release(actor->options);
        actor->options = NULL;
        ray_value_release(actor->death);
        actor->death = NULL;
        actor->session = 0;
        if (!has_handles(actor)) {
            wk_actor_free_memory(actor);
        }
    }
    map_fini(&wk.actors);
}
