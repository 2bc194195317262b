/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Creating actors: the creation task, which ray-gcs gets instead of a worker, and its arguments,
 * which are held until no constructor runs any more. One whose arguments are still to come is
 * registered at once, so that whoever has a handle can watch and kill it, and it ends with its
 * creator; with the arguments it is asked for.
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

/* Bytes of an argument's value that travel with a detached actor instead of staying in the store,
 * where they would end with their owner. */
enum { DETACHED_ARG_MAX = 16 << 20 };

/* The value itself, copied. NULL: there is no memory, or no value any more. */
static struct ray_value *
copy_stored(const struct own_ref *ref)
{
    struct ray_value *view;
    if (wk_value_open(wk_ref_value(ref), NULL, &view) != ST_OK) {
        return NULL;
    }
    uint8_t *data;
    struct own_item *items;
    struct ray_value *copy =
        wk_value_create(WK_VALUE_INLINE, view->size, view->item_count, &data, &items);
    if (copy) {
        copy->format = view->format;
        memcpy(data, view->data, view->size);
        if (view->item_count > 0) {
            memcpy(items, view->items, view->item_count * sizeof(*items));
        }
    }
    ray_value_release(view);
    return copy;
}

static bool
travels_as_copy(const struct wk_task_arg *arg)
{
    return arg->ref && arg->ref->state == OWN_STORE &&
           wk_ref_value(arg->ref)->size <= DETACHED_ARG_MAX;
}

/* As wk_task_args_encode, with stored values by value. */
static int
encode_detached_args(struct wk_task *task, struct str *spec)
{
    size_t whole;
    TRY(wk_task_args_bytes(task, &whole)); /* what stands for those that are gone is made now */
    for (uint32_t i = 0; i < task->arg_count; i++) {
        struct wk_task_arg *arg = &task->args[i];
        struct ray_value *copy = travels_as_copy(arg) ? copy_stored(arg->ref) : NULL;
        struct wk_task one = *task;
        size_t size;
        one.args = arg;
        one.arg_count = 1;
        one.gone = task->gone ? task->gone + i : NULL;
        if (copy) {
            size = wk_value_piece_bytes(copy);
        } else {
            TRY(wk_task_args_bytes(&one, &size));
        }
        char *room = str_reserve(spec, size + 1);
        if (!room) {
            ray_value_release(copy);
            return st_fail(ST_OUT_OF_MEMORY, "no memory for an actor's creation");
        }
        if (copy) {
            struct peer_piece head;
            (void)wk_value_encode(copy, (uint8_t *)room);
            memcpy(&head, room, sizeof(head));
            head.flags = arg->ref->kind == OWN_BORROWED ? PEER_PIECE_BORROWED : 0;
            memcpy(room, &head, sizeof(head));
        } else {
            (void)wk_task_args_encode(&one, (uint8_t *)room);
        }
        spec->size += size;
        ray_value_release(copy);
    }
    return ST_OK;
}

/* So that the actor's process can ask the owner for an argument that is lost from the store. */
static uint32_t
count_spec_refs(const struct wk_task *task)
{
    bool stored = false;
    for (uint32_t i = 0; i < task->arg_count; i++) {
        stored = stored || (task->args[i].ref && task->args[i].ref->state == OWN_STORE);
    }
    return stored ? task->arg_count : 0;
}

static void
append_spec_refs(const struct wk_task *task, uint32_t count, struct str *spec)
{
    for (uint32_t i = 0; i < count; i++) {
        struct own_item item;
        memset(&item, 0, sizeof(item));
        ID_SET_NIL(&item.object);
        if (task->args[i].ref) {
            own_item_of(&wk.own, task->args[i].ref, &item);
        }
        str_append(spec, &item, sizeof(item));
    }
}

/* What the actor's process gets: see struct wk_spec. */
static int
encode_spec(const struct wk_actor *actor, struct wk_task *task, struct str *spec)
{
    const struct wk_spec head = { .template_size = (uint32_t)wk_pad8(task->tmpl->frame.size),
                                  .ref_count = count_spec_refs(task),
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
    append_spec_refs(task, head.ref_count, spec);
    str_append(spec, &push, sizeof(push));
    if (actor->detached) {
        return encode_detached_args(task, spec);
    }
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
on_answer(struct wk_actor *actor, uint16_t kind, const uint8_t *body, size_t size)
{
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

static void
on_created(void *ctx, uint16_t kind, const uint8_t *body, size_t size)
{
    struct id_actor *id = ctx;
    on_answer(wk_actor_find(id), kind, body, size);
    free(id);
}

/* Once it was asked for, the answer to that says what becomes of it. */
static void
on_registered(void *ctx, uint16_t kind, const uint8_t *body, size_t size)
{
    struct id_actor *id = ctx;
    struct wk_actor *actor = wk_actor_find(id);
    if (actor && !actor->requested) {
        on_answer(actor, kind, body, size);
    }
    free(id);
}

/* Sends what ray-gcs is to answer some time, with `on_done`. */
static int
request(const struct wk_actor *actor, const Ray__Gcs__CreateActor *message,
        wk_gcs_answer_fn on_done)
{
    struct id_actor *id = malloc(sizeof(*id));
    if (!id) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for an actor's creation");
    }
    *id = actor->id;
    const int status =
        wk_gcs_request(GCS_CREATE_ACTOR, (const ProtobufCMessage *)message, on_done, id);
    if (status != ST_OK) {
        free(id);
    }
    return status;
}

/* Asks ray-gcs for the actor; `wait`: until it is stored, else the answer comes later. */
static int
send_creation(struct wk_actor *actor, bool wait)
{
    struct wk_task *task = actor->creation;
    const struct ray_options *o = actor->options;
    Ray__Gcs__CreateActor message = RAY__GCS__CREATE_ACTOR__INIT;
    Ray__Node__Resource rows[2][RES_SET_MAX], *pointers[2][RES_SET_MAX];
    struct str spec;
    str_init(&spec, wk.mem);
    int status = encode_spec(actor, task, &spec);
    if (status != ST_OK) {
        str_fini(&spec);
        return status;
    }
    wk_actor_fill_spec(&actor->id, o, actor->class_name, &message);
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
    if (wait) {
        actor->asking = true;
        status = wk_actor_ask_creation(&message);
        actor->asking = false;
    } else {
        status = request(actor, &message, on_created);
    }
    actor->requested = status == ST_OK;
    str_fini(&spec);
    return status;
}

/* The constructor's arguments are here: ray-gcs is asked for the actor. */
void
wk_actor_request_creation(struct wk_actor *actor)
{
    if (send_creation(actor, false) != ST_OK) {
        if (actor->registered) {
            wk_actor_unregister(&actor->id);
        }
        wk_actor_die(actor, ST_OUT_OF_MEMORY, "no memory for its creation", NULL);
        return;
    }
    if (!actor->watching) {
        wk_actor_watch(actor);
    }
}

/* The constructor's arguments are still to come. What has a name is registered already; of all
 * others ray-gcs is told, and its answer isn't waited for. */
static void
announce(struct wk_actor *actor)
{
    if (!actor->registered) {
        Ray__Gcs__CreateActor message = RAY__GCS__CREATE_ACTOR__INIT;
        wk_actor_fill_spec(&actor->id, actor->options, actor->class_name, &message);
        message.register_only = true;
        if (request(actor, &message, on_registered) != ST_OK) {
            wk_actor_die(actor, ST_OUT_OF_MEMORY, "no memory for its creation", NULL);
            return;
        }
        actor->registered = true;
    }
    wk_actor_watch(actor);
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

/* Whether all arguments are here, so that the actor can be asked for at once. */
static bool
args_are_here(const struct ray_arg *args, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct own_ref *ref = (const struct own_ref *)args[i].ref;
        if (ref && ref->state == OWN_PENDING) {
            return false;
        }
    }
    return true;
}

static int
make_record(const struct id_actor *id, const struct ray_function *class_function,
            ray_options *options, struct wk_task *task, struct wk_actor **out)
{
    const struct id_object object = id_object_of_return(&task->id, 1);
    struct wk_actor *actor = wk_actor_make(id, class_function->name);
    uint64_t handle;
    memcpy(&handle, &actor, sizeof(handle));
    if (actor) {
        actor->ref = own_put(&wk.own, &object, OWN_INLINE, handle, true, NULL, 0);
    }
    if (!actor || !actor->ref) {
        if (actor) {
            wk_actor_free(actor);
        }
        return st_fail(ST_OUT_OF_MEMORY, "no memory for an actor");
    }
    actor->holding = actor->owned = true;
    own_item_of(&wk.own, actor->ref, &actor->item);
    actor->options = ray_options_retain(options);
    actor->calls.max_pending = options->max_pending_calls;
    actor->calls.unordered = options->unordered;
    actor->detached = wk_options_detached(options);
    actor->creation = task;
    task->actor = actor;
    task->depth = wk_depth();
    atom_u32_store(&actor->handles, 1, ATOM_RELAXED);
    wk.tasks_pending++;
    *out = actor;
    return ST_OK;
}

/* One with a name, or that outlives this process, exists when this returns: what it takes is
 * stored. Its arguments may still be on their way; then only its name is taken here. */
static int
create_locked(ray_function *class_function, ray_options *options, const struct ray_arg *args,
              size_t arg_count, struct wk_actor **out)
{
    const struct id_actor id = id_source_actor(wk_id_source(), &wk.job);
    const struct id_task creation = id_task_of_actor_creation(&id);
    const bool named = ray_options_wait(options);
    const bool at_once = args_are_here(args, arg_count);
    if (named && !at_once) {
        TRY(wk_actor_register(&id, options, class_function->name));
    }
    struct wk_task *task = NULL;
    struct wk_actor *actor = NULL;
    int status = wk_task_create(class_function, options->unnamed ? options->unnamed : options, args,
                                arg_count, &creation, &task);
    if (status == ST_OK) {
        status = make_record(&id, class_function, options, task, &actor);
        if (status != ST_OK) {
            wk_task_abandon(task);
        }
    }
    if (status == ST_OK && actor) {
        actor->registered = named && !at_once;
        status = wk_task_want_args(task);
        if (status == ST_OK && task->deps_pending > 0) {
            announce(actor);
        } else if (status == ST_OK) {
            task->state = WK_TASK_READY;
            if (named && at_once) {
                status = send_creation(actor, true);
                if (status == ST_OK) {
                    wk_actor_watch(actor);
                }
            } else {
                wk_actor_request_creation(actor);
            }
        }
        if (status != ST_OK) {
            undo_create(actor, task);
        }
    }
    if (status != ST_OK && named && !at_once) {
        wk_actor_unregister(&id);
    }
    *out = actor;
    return status;
}

/* As create_locked, unless the name is taken and the options say to get that actor then. */
static int
get_or_create(ray_function *class_function, ray_options *options, const struct ray_arg *args,
              size_t arg_count, ray_actor **out)
{
    for (;;) {
        if (options->get_if_exists && *options->actor_name) {
            const int found =
                wk_actor_find_named(options->actor_name, options->actor_namespace, out);
            if (found != ST_NOT_FOUND) {
                return found;
            }
        }
        struct wk_actor *actor = NULL;
        const int status = create_locked(class_function, options, args, arg_count, &actor);
        if (status == ST_OK) {
            *out = (ray_actor *)actor;
        }
        if (status != ST_EXISTS || !options->get_if_exists) {
            return status;
        }
        /* Somebody was faster. That actor may be gone again: then there is room for ours. */
    }
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
    status = get_or_create(class_function, options, args, arg_count, out);
    wk_unlock();
    ray_options_release(made);
    return status;
}
