/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Creating actors: the creation task, which ray-gcs gets instead of a worker, and its arguments,
 * which are held until no constructor runs any more.
 */
#include <stdlib.h>
#include <string.h>

#include "worker/wk_actor.h"
#include "worker/wk_exec.h"
#include "worker/wk_task.h"

/* ---- the arguments of the constructor ---- */

/* No constructor runs any more: its arguments are given up. `executor` as in own_task_failed. */
void
wk_actor_end_creation(struct wk_actor *actor, uint32_t executor)
{
    struct wk_task *task = actor->creation;
    if (!task || task->deps_pending > 0) { /* again when they have let go of it */
        return;
    }
    if (actor->constructed == 0) {
        wk.tasks_pending--;
    }
    actor->creation = NULL;
    struct wk_outs o;
    (void)!own_task_failed(&wk.own, task->refs, task->ref_count, executor, true, wk_outs_begin(&o));
    wk_outs_end(&o);
    wk_task_destroy(task);
}

uint32_t
wk_actor_proc(const struct wk_actor *actor)
{
    const struct wk_peer *peer = wk_actor_peer(actor);
    return peer && peer->proc != UINT32_MAX ? peer->proc : OWN_SELF;
}

/* The constructor is through, and kept what `kept` says (own_task_replied). One that may run again,
 * in another process, needs the arguments as long as the actor lives. */
void
wk_actor_creation_replied(struct wk_actor *actor, uint64_t kept)
{
    struct wk_task *task = actor->creation;
    if (!task || actor->constructed > actor->calls.incarnation) {
        return;
    }
    struct wk_outs o;
    struct step_outs *outs = wk_outs_begin(&o);
    own_task_submitted(task->refs, task->ref_count);
    if (wk_actor_proc(actor) == OWN_SELF) {
        (void)!own_task_failed(&wk.own, task->refs, task->ref_count, OWN_SELF, true, outs);
    } else {
        (void)!own_task_replied(&wk.own, task->refs, task->ref_count, wk_actor_proc(actor), kept,
                                outs);
    }
    wk_outs_end(&o);
    if (actor->constructed == 0) {
        wk.tasks_pending--;
    }
    actor->constructed = actor->calls.incarnation + 1;
    if (actor->options->max_restarts == 0) {
        wk_actor_end_creation(actor, OWN_SELF);
    }
}

/* ---- creation ---- */

/* What the actor's process gets: see struct wk_spec. */
static int
encode_spec(struct wk_task *task, struct str *spec)
{
    const struct wk_spec head = { .template_size = (uint32_t)wk_pad8(task->tmpl->frame.size),
                                  .creator = wk.self };
    const struct peer_push push = {
        .task = task->id,
        .arg_count = task->arg_count,
        .depth = task->depth,
    };
    static const char zeros[8] = { 0 };
    str_append(spec, &head, sizeof(head));
    str_append(spec, task->tmpl->frame.data, task->tmpl->frame.size);
    str_append(spec, zeros, head.template_size - task->tmpl->frame.size);
    str_append(spec, &push, sizeof(push));
    size_t args;
    TRY(wk_task_args_bytes(task, &args));
    char *room = str_reserve(spec, args + 1);
    if (!room) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for an actor's creation");
    }
    spec->size += (size_t)(wk_task_args_encode(task, (uint8_t *)room) - (uint8_t *)room);
    return ST_OK;
}

static size_t
fill_resources(const struct wk_resource *from, uint32_t count, Ray__Node__Resource *rows,
               Ray__Node__Resource **pointers)
{
    for (uint32_t i = 0; i < count; i++) {
        ray__node__resource__init(&rows[i]);
        const char *name = from[i].name;
        memcpy(&rows[i].name, &name, sizeof(name));
        rows[i].amount = from[i].amount.v;
        pointers[i] = &rows[i];
    }
    return count;
}

static void
on_created(void *ctx, uint16_t kind, const uint8_t *body, size_t size)
{
    struct id_actor *id = ctx;
    struct wk_actor *actor = wk_actor_find(id);
    free(id);
    if (kind != GCS_DONE || !actor) {
        return;
    }
    Ray__Gcs__Done *done = ray__gcs__done__unpack(NULL, size, body);
    if (done && done->status != 0) {
        wk_actor_die(actor, done->status, done->text, NULL);
    }
    if (done) {
        ray__gcs__done__free_unpacked(done, NULL);
    }
}

/* The constructor's arguments are here: ray-gcs is asked for the actor. */
void
wk_actor_request_creation(struct wk_actor *actor)
{
    struct wk_task *task = actor->creation;
    const struct ray_options *o = actor->options;
    Ray__Gcs__CreateActor message = RAY__GCS__CREATE_ACTOR__INIT;
    Ray__Node__Resource rows[2][RES_SET_MAX], *pointers[2][RES_SET_MAX];
    struct str spec;
    str_init(&spec, wk.mem);
    if (encode_spec(task, &spec) != ST_OK) {
        wk_actor_die(actor, ST_OUT_OF_MEMORY, "no memory for its creation", NULL);
        str_fini(&spec);
        return;
    }
    message.actor_id.data = actor->id.b;
    message.actor_id.len = sizeof(actor->id.b);
    message.job_id.data = wk.job.b;
    message.job_id.len = sizeof(wk.job.b);
    message.owner_worker_id.data = wk.self.worker.b;
    message.owner_worker_id.len = sizeof(wk.self.worker.b);
    wk_set_text(&message.owner_socket, wk.socket_name);
    wk_set_text(&message.class_name, actor->class_name);
    wk_set_text(&message.name, o->actor_name);
    wk_set_text(&message.actor_namespace,
                *o->actor_namespace ? o->actor_namespace : wk.job_namespace);
    message.detached = o->detached;
    message.max_restarts = o->max_restarts;
    message.unordered = o->unordered;
    message.max_pending_calls = o->max_pending_calls;
    message.held = pointers[0];
    message.n_held = fill_resources(o->resources, o->resource_count, rows[0], pointers[0]);
    message.placement = pointers[1];
    message.n_placement =
        o->placement_count > 0
            ? fill_resources(o->placement, o->placement_count, rows[1], pointers[1])
            : fill_resources(o->resources, o->resource_count, rows[1], pointers[1]);
    message.omp_threads = 1;
    for (uint32_t i = 0; i < o->resource_count; i++) {
        if (strcmp(o->resources[i].name, "CPU") == 0 && o->resources[i].amount.v > RES_UNIT) {
            message.omp_threads = (uint32_t)(o->resources[i].amount.v / RES_UNIT);
        }
    }
    message.spec.data = (uint8_t *)spec.data;
    message.spec.len = spec.size;
    message.depth = task->depth;
    struct id_actor *id = malloc(sizeof(*id));
    if (id) {
        *id = actor->id;
        (void)!wk_gcs_request(GCS_CREATE_ACTOR, (const ProtobufCMessage *)&message, on_created, id);
        wk_actor_watch(actor);
    }
    str_fini(&spec);
}

/* It was not asked for: nobody hears of it. The pump frees it. */
static void
undo_create(struct wk_actor *actor, struct wk_task *task)
{
    actor->calls.state = ACTOR_DEAD;
    actor->creation = NULL;
    actor->holding = false;
    atom_u32_store(&actor->handles, 0, ATOM_RELAXED);
    wk.tasks_pending--;
    wk_task_abandon(task);
    struct wk_outs o;
    own_local_drop(&wk.own, actor->ref, wk_outs_begin(&o));
    wk_outs_end(&o);
    wk_pump();
}

static int
create_locked(ray_function *class_function, ray_options *options, const struct ray_arg *args,
              size_t arg_count, struct wk_actor **out)
{
    const struct id_actor id = id_source_actor(wk_id_source(), &wk.job);
    const struct id_task creation = id_task_of_actor_creation(&id);
    const struct id_object object = id_object_of_return(&creation, 1);
    struct wk_task *task;
    TRY(wk_task_create(class_function, options, args, arg_count, &creation, &task));
    struct wk_actor *actor = wk_actor_make(&id, class_function->name);
    uint64_t handle;
    memcpy(&handle, &actor, sizeof(handle));
    if (actor) {
        actor->ref = own_put(&wk.own, &object, OWN_INLINE, handle, true, NULL, 0);
    }
    if (!actor || !actor->ref) {
        if (actor) {
            wk_actor_free(actor);
        }
        wk_task_abandon(task);
        return st_fail(ST_OUT_OF_MEMORY, "no memory for an actor");
    }
    actor->holding = actor->owned = true;
    own_item_of(&wk.own, actor->ref, &actor->item);
    actor->options = ray_options_retain(options);
    actor->calls.max_pending = options->max_pending_calls;
    actor->calls.unordered = options->unordered;
    actor->creation = task;
    task->actor = actor;
    task->depth = wk_depth();
    atom_u32_store(&actor->handles, 1, ATOM_RELAXED);
    wk.tasks_pending++;
    const int status = wk_task_want_args(task);
    if (status != ST_OK) {
        undo_create(actor, task);
        return status;
    }
    if (task->deps_pending == 0) {
        task->state = WK_TASK_READY;
        wk_actor_request_creation(actor);
    }
    *out = actor;
    return ST_OK;
}

RAY_API int
ray_actor_create(ray_function *class_function, ray_options *options, const struct ray_arg *args,
                 size_t arg_count, ray_actor **out)
{
    *out = NULL;
    struct ray_task_options plain;
    ray_options *made = NULL;
    if (!options) {
        ray_task_options_default(&plain);
        TRY(ray_options_create(&plain, &made));
        options = made;
    }
    int status = wk_enter();
    if (status != ST_OK) {
        ray_options_release(made);
        return status;
    }
    struct wk_actor *actor = NULL;
    status = create_locked(class_function, options, args, arg_count, &actor);
    wk_unlock();
    ray_options_release(made);
    *out = (ray_actor *)actor;
    return status;
}
