/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Actors from the callers' side.
 *
 * A handle is a reference to a pseudo-object that the creator owns (the creation task's first
 * return): ownership counts it like any other, and its end ends the actor. Calls queue here in
 * the order of submission and go, in that order, over one connection to the actor's process as soon
 * as ray-gcs tells where that is. When the process dies, calls in flight wait for the word of
 * ray-gcs: restarted, those that had not begun are sent again; dead, all fail with the cause.
 *
 *   states here: UNKNOWN -> ALIVE <-> RESTARTING -> DEAD (and UNKNOWN -> DEAD)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/os_basic.h"
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
    struct list limbo;         /* in flight when the process died, in order */
    struct list dirty_link;    /* engine.dirty_actors */
    uint64_t sequence;
    uint64_t pending; /* calls not answered */
    int64_t max_pending;
    struct ray_value *death;     /* DEAD: what every call gets */
    struct wk_task *creation;    /* holds the arguments, until no constructor runs any more */
    uint64_t constructed;        /* incarnations that are; 0 none */
    struct ray_options *options; /* creator's, for the request */
    char *class_name;
};

static uint64_t
actor_hash(const struct id_actor *id)
{
    return id_hash(id->b, sizeof(id->b));
}

static struct wk_actor *
find_actor(const struct id_actor *id)
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

static struct wk_actor *
make_actor(const struct id_actor *id, const char *class_name)
{
    struct wk_actor *actor = calloc(1, sizeof(*actor));
    if (!actor) {
        return NULL;
    }
    actor->id = *id;
    actor->session = wk.session;
    actor->max_pending = -1;
    actor->class_name = strdup(class_name ? class_name : "");
    list_init(&actor->queue);
    list_init(&actor->limbo);
    list_init(&actor->dirty_link);
    if (!actor->class_name || map_insert(&wk.actors, &actor->link, actor_hash(id)) != ST_OK) {
        free(actor->class_name);
        free(actor);
        return NULL;
    }
    return actor;
}

static void
leave_last_peer(struct wk_actor *actor)
{
    if (actor->last_peer && actor->last_peer->actor == actor) {
        actor->last_peer->actor = NULL;
    }
    actor->last_peer = NULL;
}

static void
free_actor(struct wk_actor *actor)
{
    list_remove(&actor->dirty_link);
    map_remove(&wk.actors, &actor->link);
    leave_last_peer(actor);
    if (actor->peer && actor->peer->actor == actor) {
        actor->peer->actor = NULL;
    }
    ray_value_release(actor->death);
    ray_options_release(actor->options);
    free(actor->class_name);
    free(actor);
}

static void
watch(struct wk_actor *actor)
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
        if (actor->watching && actor->state != ACTOR_DEAD) {
            watch(actor);
        }
    }
}

static void
mark_dirty(struct wk_actor *actor)
{
    if (list_is_empty(&actor->dirty_link)) {
        list_push_back(&wk.dirty_actors, &actor->dirty_link);
    }
}

/* No constructor runs any more: its arguments are given up. `executor` as in own_task_failed. */
static void
end_creation(struct wk_actor *actor, uint32_t executor)
{
    struct wk_task *task = actor->creation;
    if (!task) {
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

static uint32_t
proc_of(const struct wk_actor *actor)
{
    return actor->peer && actor->peer->proc != UINT32_MAX ? actor->peer->proc : OWN_SELF;
}

/* The constructor is through, and kept what `kept` says (own_task_replied). One that may run again,
 * in another process, needs the arguments as long as the actor lives. */
static void
creation_replied(struct wk_actor *actor, uint64_t kept)
{
    struct wk_task *task = actor->creation;
    if (!task || actor->constructed > actor->incarnation) {
        return;
    }
    struct wk_outs o;
    struct step_outs *outs = wk_outs_begin(&o);
    own_task_submitted(task->refs, task->ref_count);
    if (proc_of(actor) == OWN_SELF) {
        (void)!own_task_failed(&wk.own, task->refs, task->ref_count, OWN_SELF, true, outs);
    } else {
        (void)!own_task_replied(&wk.own, task->refs, task->ref_count, proc_of(actor), kept, outs);
    }
    wk_outs_end(&o);
    if (actor->constructed == 0) {
        wk.tasks_pending--;
    }
    actor->constructed = actor->incarnation + 1;
    if (actor->options->max_restarts == 0) {
        end_creation(actor, OWN_SELF);
    }
}

/* Nothing in the program refers to it and no call is open: the reference to it is given up. */
static void
settle_handles(struct wk_actor *actor)
{
    if (atom_u32_load(&actor->handles, ATOM_RELAXED) > 0 || actor->pending > 0 ||
        (actor->creation && actor->constructed == 0 && actor->state != ACTOR_DEAD)) {
        return;
    }
    if (actor->holding) {
        const bool owned = actor->owned;
        struct wk_outs o;
        actor->holding = false;
        own_local_drop(&wk.own, actor->ref, wk_outs_begin(&o));
        wk_outs_end(&o); /* an owned actor may be gone now */
        if (!owned) {
            free_actor(actor);
        }
    } else if (!actor->ref) {
        end_creation(actor, OWN_SELF);
        free_actor(actor);
    }
}

/* The machine: the last handle anywhere is gone. */
void
wk_actor_out_of_scope(struct wk_actor *actor)
{
    Ray__Gcs__ActorOutOfScope message = RAY__GCS__ACTOR_OUT_OF_SCOPE__INIT;
    message.actor_id.data = actor->id.b;
    message.actor_id.len = sizeof(actor->id.b);
    if (actor->state != ACTOR_DEAD) {
        (void)!wk_gcs_request(GCS_ACTOR_OUT_OF_SCOPE, (const ProtobufCMessage *)&message, NULL,
                              NULL);
    }
    actor->ref = NULL;
    actor->owned = false;
    mark_dirty(actor); /* freed by the pump: its arguments can't be given up within the machine */
}

/* ---- creation ---- */

/* What the actor's process gets: see struct wk_spec. */
static int
encode_spec(const struct wk_task *task, struct str *spec)
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
    const size_t args = wk_task_args_bytes(task);
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

static void die(struct wk_actor *actor, int status, const char *reason,
                const Ray__Gcs__ActorUpdate *update);

static void
on_created(void *ctx, uint16_t kind, const uint8_t *body, size_t size)
{
    struct id_actor *id = ctx;
    struct wk_actor *actor = find_actor(id);
    free(id);
    if (kind != GCS_DONE || !actor) {
        return;
    }
    Ray__Gcs__Done *done = ray__gcs__done__unpack(NULL, size, body);
    if (done && done->status != 0) {
        die(actor, done->status, done->text, NULL);
    }
    if (done) {
        ray__gcs__done__free_unpacked(done, NULL);
    }
}

static void
set_text(char **field, const char *text)
{
    memcpy(field, &text, sizeof(text));
}

/* The constructor's arguments are here: ray-gcs is asked for the actor. */
static void
request_creation(struct wk_actor *actor)
{
    struct wk_task *task = actor->creation;
    const struct ray_options *o = actor->options;
    Ray__Gcs__CreateActor message = RAY__GCS__CREATE_ACTOR__INIT;
    Ray__Node__Resource rows[2][RES_SET_MAX], *pointers[2][RES_SET_MAX];
    struct str spec;
    str_init(&spec, wk.mem);
    if (encode_spec(task, &spec) != ST_OK) {
        die(actor, ST_OUT_OF_MEMORY, "no memory for its creation", NULL);
        str_fini(&spec);
        return;
    }
    message.actor_id.data = actor->id.b;
    message.actor_id.len = sizeof(actor->id.b);
    message.job_id.data = wk.job.b;
    message.job_id.len = sizeof(wk.job.b);
    message.owner_worker_id.data = wk.self.worker.b;
    message.owner_worker_id.len = sizeof(wk.self.worker.b);
    set_text(&message.owner_socket, wk.socket_name);
    set_text(&message.class_name, actor->class_name);
    set_text(&message.name, o->actor_name);
    set_text(&message.actor_namespace, *o->actor_namespace ? o->actor_namespace : wk.job_namespace);
    message.detached = o->detached;
    message.max_restarts = o->max_restarts;
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
        watch(actor);
    }
    str_fini(&spec);
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
    struct wk_actor *actor = make_actor(&id, class_function->name);
    uint64_t handle;
    memcpy(&handle, &actor, sizeof(handle));
    if (actor) {
        actor->ref = own_put(&wk.own, &object, OWN_INLINE, handle, true, NULL, 0);
    }
    if (!actor || !actor->ref) {
        if (actor) {
            free_actor(actor);
        }
        wk_task_abandon(task);
        return st_fail(ST_OUT_OF_MEMORY, "no memory for an actor");
    }
    actor->holding = actor->owned = true;
    own_item_of(&wk.own, actor->ref, &actor->item);
    actor->options = ray_options_retain(options);
    actor->max_pending = options->max_pending_calls;
    actor->creation = task;
    task->actor = actor;
    task->depth = wk_depth();
    atom_u32_store(&actor->handles, 1, ATOM_RELAXED);
    wk.tasks_pending++;
    TRY(wk_task_want_args(task));
    if (task->deps_pending == 0) {
        task->state = WK_TASK_READY;
        request_creation(actor);
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

/* ---- calls ---- */

static struct ray_value *
death_of(const struct wk_actor *actor)
{
    return actor->death ? ray_value_retain(actor->death)
                        : wk_failure_of_status(ST_ACTOR_DIED, NULL);
}

/* Calls whose arguments aren't here fail when those have let go of them. */
static void
fail_queue(struct wk_actor *actor)
{
    LIST_FOR_SAFE (l, next, &actor->queue) {
        struct wk_task *task = LIST_ENTRY(l, struct wk_task, link);
        if (task->deps_pending == 0) {
            list_remove(&task->link);
            wk_task_fail(task, death_of(actor), OWN_SELF);
        }
    }
}

static void
push_calls(struct wk_actor *actor)
{
    if (actor->state == ACTOR_DEAD) {
        fail_queue(actor);
        return;
    }
    while (!list_is_empty(&actor->queue)) {
        struct wk_task *task = LIST_ENTRY((&actor->queue)->next, struct wk_task, link);
        if (actor->state != ACTOR_ALIVE || actor->killed || task->deps_pending > 0) {
            return;
        }
        struct wk_link *link = wk_peer_link(actor->peer);
        if (!link) {
            return; /* its death is on the way */
        }
        list_remove(&task->link);
        task->sequence = ++actor->sequence;
        const int status = wk_task_push(task, link, 0);
        if (status == ST_LIMIT) { /* no connection ever takes it */
            wk_task_fail(task, wk_failure_of_status(status, st_last()->text), OWN_SELF);
        } else if (status != ST_OK) {
            actor->sequence--;
            list_push_front(&actor->queue, &task->link);
            return; /* no room in the window: the next reply comes back here */
        }
    }
}

void
wk_actors_pump(void)
{
    static bool busy;
    if (busy) {
        return;
    }
    busy = true;
    while (!list_is_empty(&wk.dirty_actors)) {
        struct wk_actor *actor =
            LIST_ENTRY(list_take_front(&wk.dirty_actors), struct wk_actor, dirty_link);
        if (actor->creation && actor->creation->state == WK_TASK_READY &&
            actor->creation->deps_pending == 0 && !actor->watching) {
            request_creation(actor);
        }
        push_calls(actor);
        settle_handles(actor);
    }
    busy = false;
}

/* A call, or the creation, has all its arguments. */
void
wk_actor_ready(struct wk_actor *actor)
{
    mark_dirty(actor);
}

void
wk_actor_call_done(struct wk_actor *actor)
{
    actor->pending--;
    mark_dirty(actor);
}

RAY_API int
ray_actor_call(ray_actor *handle, ray_function *method, ray_options *options,
               const struct ray_arg *args, size_t arg_count, ray_ref **refs)
{
    static uint32_t calls;
    struct wk_actor *actor = (struct wk_actor *)handle;
    if (!options) {
        options = wk_options_default();
    }
    TRY(wk_enter());
    int status = ST_OK;
    if (actor->session != wk.session) {
        status = st_fail(ST_NOT_FOUND, "ActorHandle objects are not valid across Ray sessions");
    } else if (actor->max_pending >= 0 && actor->pending >= (uint64_t)actor->max_pending) {
        status = st_fail(ST_PENDING_CALLS_LIMIT,
                         "the actor's max_pending_calls is %lld, and %llu calls are pending",
                         (long long)actor->max_pending, (unsigned long long)actor->pending);
    }
    struct wk_task *task = NULL;
    if (status == ST_OK) {
        const struct id_task id = id_source_child(wk_id_source(), &actor->id);
        status = wk_task_create(method, options, args, arg_count, &id, &task);
    }
    if (status == ST_OK) {
        status = wk_task_begin(task, refs);
        if (status != ST_OK) {
            wk_task_abandon(task);
        }
    }
    if (status == ST_OK) {
        task->actor = actor;
        task->depth = wk_depth();
        task->state = WK_TASK_READY;
        actor->pending++;
        wk.tasks_pending++;
        status = wk_task_want_args(task);
        list_push_back(&actor->queue, &task->link);
        push_calls(actor);
        if (wk.tasks_pending > 1) {
            wk_keep_ticking();
        }
        if (++calls % 16 == 0) {
            wk_poll();
        }
    }
    wk_unlock();
    return status;
}

/* ---- what ray-gcs tells ---- */

static void
fail_all(struct wk_actor *actor, struct list *calls)
{
    while (!list_is_empty(calls)) {
        struct wk_task *task = LIST_ENTRY(list_take_front(calls), struct wk_task, link);
        wk_task_fail(task, death_of(actor), OWN_SELF);
    }
}

/* The failure of a constructor, with the face's bytes, as every call gets it. */
static struct ray_value *
init_failure(const struct wk_actor *actor, const Ray__Gcs__ActorUpdate *update)
{
    struct wk_piece piece;
    struct wk_failure inner;
    const uint8_t *at = update->failure.data;
    struct ray_value *value = NULL;
    if (update->failure.len > 0 &&
        wk_piece_decode(&at, update->failure.data + update->failure.len, &piece) == ST_OK) {
        value = wk_value_of_piece(&piece);
    }
    if (!value || value->kind != WK_VALUE_ERROR) {
        ray_value_release(value);
        return NULL;
    }
    wk_value_read_failure(value, &inner);
    inner.status = ST_ACTOR_INIT_FAILED;
    inner.actor_init_failed = true;
    inner.actor_id = actor->id.b;
    inner.class_name = actor->class_name;
    struct ray_value *failure = wk_value_create_failure(&inner);
    ray_value_release(value);
    return failure;
}

static void
die(struct wk_actor *actor, int status, const char *reason, const Ray__Gcs__ActorUpdate *update)
{
    if (actor->state == ACTOR_DEAD) {
        return;
    }
    actor->state = ACTOR_DEAD;
    if (update) {
        actor->death = init_failure(actor, update);
    }
    if (!actor->death) {
        const struct wk_failure failure = {
            .status = status < 0 ? status : ST_ACTOR_DIED,
            .pid = update ? update->pid : 0,
            .never_started = update && update->never_started,
            .actor_id = actor->id.b,
            .class_name = actor->class_name,
            .node_ip = update && *update->node_ip ? update->node_ip : wk.node_ip,
            .text = reason && *reason ? reason : "The actor died unexpectedly.",
        };
        actor->death = wk_value_create_failure(&failure);
    }
    end_creation(actor, actor->constructed > actor->incarnation ? OWN_SELF : proc_of(actor));
    fail_all(actor, &actor->limbo);
    mark_dirty(actor);
}

/* False: that process is known to be dead, this is old news; the next update tells. */
static bool
set_place(struct wk_actor *actor, const Ray__Gcs__ActorUpdate *update)
{
    struct own_addr addr = { .node = wk.self.node };
    if (update->worker_id.len != sizeof(addr.worker.b)) {
        return false;
    }
    memcpy(addr.worker.b, update->worker_id.data, sizeof(addr.worker.b));
    struct wk_peer *peer = wk_peer_get(&addr);
    if (!peer || peer->announced) {
        return false;
    }
    if (actor->peer && actor->peer != peer) {
        /* Restarted before the first process's death was told: that one settles its calls. */
        leave_last_peer(actor);
        actor->last_peer = actor->peer;
    }
    if (!*peer->socket) {
        (void)snprintf(peer->socket, sizeof(peer->socket), "%s", update->peer_socket);
    }
    peer->pid = update->pid;
    peer->actor = actor;
    actor->peer = peer;
    actor->state = ACTOR_ALIVE;
    return true;
}

/* Calls that were in flight: what had not begun goes again, in order, before what is queued. */
static void
leave_limbo(struct wk_actor *actor)
{
    struct list again;
    list_init(&again);
    while (!list_is_empty(&actor->limbo)) {
        struct wk_task *task = LIST_ENTRY(list_take_front(&actor->limbo), struct wk_task, link);
        if (task->push.number == 0) { /* settled as unstarted */
            list_push_back(&again, &task->link);
            continue;
        }
        const struct wk_failure failure = {
            .status = ST_ACTOR_UNAVAILABLE,
            .actor_id = actor->id.b,
            .class_name = actor->class_name,
            .node_ip = wk.node_ip,
            .text = "its process died while the call ran, and it is being restarted; the call may "
                    "or may not have been executed",
        };
        wk_task_fail(task, wk_value_create_failure(&failure), OWN_SELF);
    }
    list_splice_back(&again, &actor->queue);
    list_splice_back(&actor->queue, &again);
}

void
wk_actor_on_update(const uint8_t *body, size_t size)
{
    Ray__Gcs__ActorUpdate *update = ray__gcs__actor_update__unpack(NULL, size, body);
    struct id_actor id;
    struct wk_actor *actor = NULL;
    if (update && update->actor_id.len == sizeof(id.b)) {
        memcpy(id.b, update->actor_id.data, sizeof(id.b));
        actor = find_actor(&id);
    }
    if (actor && actor->state != ACTOR_DEAD) {
        if (!*actor->class_name && *update->class_name) {
            free(actor->class_name);
            actor->class_name = strdup(update->class_name);
        }
        switch (update->state) {
        case RAY__GCS__ACTOR_STATE__ALIVE:
            if (update->incarnation < actor->incarnation) {
                break;
            }
            actor->incarnation = update->incarnation;
            if (set_place(actor, update)) {
                leave_limbo(actor);
            }
            if (update->constructed) {
                creation_replied(actor, update->kept_token);
            }
            break;
        case RAY__GCS__ACTOR_STATE__RESTARTING:
            actor->state = ACTOR_RESTARTING;
            leave_limbo(actor);
            break;
        case RAY__GCS__ACTOR_STATE__DEAD:
            die(actor, update->status, update->reason, update);
            break;
        case RAY__GCS__ACTOR_STATE__DEPENDENCIES_UNREADY:
        case RAY__GCS__ACTOR_STATE__PENDING_CREATION:
        case _RAY__GCS__ACTOR_STATE_IS_INT_SIZE:
            break;
        }
        mark_dirty(actor);
        wk_changed();
    }
    if (update) {
        ray__gcs__actor_update__free_unpacked(update, NULL);
    }
}

/* It may have begun there, and lent its arguments on; what becomes of it is known later. */
static void
attempt_died(struct wk_task *task, const struct wk_peer *peer)
{
    struct wk_outs o;
    (void)!own_task_failed(&wk.own, task->refs, task->ref_count,
                           peer->proc != UINT32_MAX ? peer->proc : OWN_SELF, false,
                           wk_outs_begin(&o));
    wk_outs_end(&o);
}

static int
by_sequence(const void *a, const void *b)
{
    struct wk_task *const *x = a;
    struct wk_task *const *y = b;
    return (*x)->sequence < (*y)->sequence ? -1 : 1;
}

void
wk_actor_on_link_failed(struct wk_actor *actor, struct wk_link *link)
{
    struct wk_task *found[WK_WINDOW_WORDS];
    size_t n = 0;
    for (uint32_t i = 0; link->inflight && i < WK_WINDOW_WORDS; i++) {
        if (link->inflight[i] && link->inflight[i]->actor == actor) {
            found[n++] = link->inflight[i];
        }
    }
    qsort(found, n, sizeof(found[0]), by_sequence);
    while (n-- > 0) { /* last first, so that the queue begins with the first */
        struct wk_task *task = found[n];
        const bool again = net_window_recall(link->window, &task->push);
        link->inflight[task->push.word] = NULL;
        link->inflight_count--;
        task->pushed_on = NULL;
        if (again) {
            list_push_front(&actor->queue, &task->link);
            continue;
        }
        const struct wk_failure failure = {
            .status = ST_ACTOR_UNAVAILABLE,
            .actor_id = actor->id.b,
            .class_name = actor->class_name,
            .node_ip = wk.node_ip,
            .text = "the connection with its process ended while the call ran; the call may or may "
                    "not have been executed",
        };
        wk_task_fail(task, wk_value_create_failure(&failure), OWN_SELF);
    }
    mark_dirty(actor);
}

/* The actor's process is dead; what it sent has been read. */
void
wk_actor_on_peer_death(struct wk_actor *actor, struct wk_peer *peer)
{
    struct wk_task *found[WK_WINDOW_WORDS];
    struct wk_link *link = peer->out;
    size_t n = 0;
    for (uint32_t i = 0; link && link->inflight && i < WK_WINDOW_WORDS; i++) {
        if (link->inflight[i] && link->inflight[i]->actor == actor) {
            found[n++] = link->inflight[i];
        }
    }
    qsort(found, n, sizeof(found[0]), by_sequence);
    for (size_t i = 0; i < n; i++) {
        enum net_window_state state = NET_WINDOW_STARTED;
        (void)!net_window_look(link->window, &found[i]->push, &state);
        link->inflight[found[i]->push.word] = NULL;
        link->inflight_count--;
        found[i]->pushed_on = NULL;
        if (state != NET_WINDOW_STARTED) {
            found[i]->push.number = 0;
        } else {
            attempt_died(found[i], peer);
        }
        list_push_back(&actor->limbo, &found[i]->link);
    }
    if (actor->creation && actor->constructed <= actor->incarnation) {
        attempt_died(actor->creation, peer);
    }
    peer->actor = NULL;
    if (actor->last_peer == peer) {
        actor->last_peer = NULL;
    }
    if (actor->peer == peer) {
        actor->peer = NULL;
        actor->state = actor->state == ACTOR_ALIVE ? ACTOR_UNKNOWN : actor->state;
    }
    if (actor->state == ACTOR_DEAD) {
        fail_all(actor, &actor->limbo);
    }
    watch(actor);
}

/* ---- handles ---- */

static bool
has_place(void *ctx)
{
    const struct wk_actor *actor = ctx;
    return actor->state == ACTOR_ALIVE || actor->state == ACTOR_DEAD;
}

int
wk_actor_wait_peer(struct wk_actor *actor, struct wk_peer **out)
{
    *out = NULL;
    if (actor->session != wk.session) {
        return st_fail(ST_NOT_FOUND, "ActorHandle objects are not valid across Ray sessions");
    }
    int status;
    do {
        status = wk_wait(has_place, actor, UINT64_MAX);
    } while (status == ST_INTERRUPTED);
    TRY(status);
    if (actor->state == ACTOR_DEAD || !actor->peer) {
        return st_fail(ST_OWNER_DIED, "the actor that is to own the value is dead");
    }
    *out = actor->peer;
    return ST_OK;
}

RAY_API ray_actor *
ray_actor_retain(ray_actor *handle)
{
    struct wk_actor *actor = (struct wk_actor *)handle;
    (void)atom_u32_fetch_add(&actor->handles, 1, ATOM_RELAXED);
    return handle;
}

RAY_API void
ray_actor_release(ray_actor *handle)
{
    struct wk_actor *actor = (struct wk_actor *)handle;
    if (!actor || wk.forked) {
        return;
    }
    uint32_t n = atom_u32_load(&actor->handles, ATOM_RELAXED);
    while (n > 1) {
        if (atom_u32_cas(&actor->handles, &n, n - 1)) {
            return;
        }
    }
    wk_lock();
    if (atom_u32_fetch_add(&actor->handles, UINT32_MAX, ATOM_ACQ_REL) == 1) {
        if (actor->session == 0) { /* wk_actors_fini left it to us */
            free(actor->class_name);
            free(actor);
        } else if (wk.running) {
            settle_handles(actor);
            wk_actors_pump();
        }
    }
    wk_unlock();
}

RAY_API const uint8_t *
ray_actor_id(const ray_actor *handle)
{
    return ((const struct wk_actor *)handle)->id.b;
}

RAY_API int
ray_actor_ref(ray_actor *handle, ray_ref **out)
{
    struct wk_actor *actor = (struct wk_actor *)handle;
    *out = NULL;
    TRY(wk_enter());
    int status = ST_OK;
    if (actor->session != wk.session) {
        status = st_fail(ST_NOT_FOUND, "ActorHandle objects are not valid across Ray sessions");
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
    struct wk_actor *actor = find_actor(&id);
    if (!actor) {
        actor = make_actor(&id, "");
        if (!actor) {
            return NULL;
        }
        actor->ref = ref;
        own_item_of(&wk.own, ref, &actor->item);
        watch(actor);
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
        struct wk_actor *actor = find_actor(&wk.self_actor_id);
        if (!actor) {
            actor = make_actor(&wk.self_actor_id, wk.self_actor_class);
            if (actor) {
                const struct id_task creation = id_task_of_actor_creation(&actor->id);
                actor->item.object = id_object_of_return(&creation, 1);
                actor->item.owner = wk.self_actor_owner;
                watch(actor);
            }
        }
        if (actor) {
            (void)atom_u32_fetch_add(&actor->handles, 1, ATOM_RELAXED);
            *out = (ray_actor *)actor;
        } else {
            status = st_fail(ST_OUT_OF_MEMORY, "no memory for an actor handle");
        }
    }
    wk_unlock();
    return status;
}

RAY_API int
ray_actor_kill(ray_actor *handle, bool no_restart)
{
    struct wk_actor *actor = (struct wk_actor *)handle;
    TRY(wk_enter());
    int status = ST_OK;
    if (actor->session != wk.session) {
        status = st_fail(ST_NOT_FOUND, "ActorHandle objects are not valid across Ray sessions");
    } else {
        Ray__Gcs__KillActor message = RAY__GCS__KILL_ACTOR__INIT;
        message.actor_id.data = actor->id.b;
        message.actor_id.len = sizeof(actor->id.b);
        message.no_restart = no_restart;
        set_text(&message.reason, "The actor is dead because it was killed by `ray.kill`.");
        status = wk_gcs_request(GCS_KILL_ACTOR, (const ProtobufCMessage *)&message, NULL, NULL);
        actor->killed = actor->killed || (status == ST_OK && no_restart);
    }
    wk_unlock();
    return status;
}

RAY_API int
ray_cancel(ray_ref *ref, bool force, bool recursive)
{
    (void)ref;
    (void)force;
    (void)recursive;
    return st_fail(ST_NOT_SUPPORTED, "cancelling tasks is not built yet");
}

/* Shutdown, after wk_tasks_fini: handles that the program still has stay as empty records. */
void
wk_actors_fini(void)
{
    struct map_walk walk;
    map_walk_init(&walk);
    for (struct map_link *l; (l = map_walk_next(&wk.actors, &walk));) {
        struct wk_actor *actor = CONTAINER_OF(l, struct wk_actor, link);
        map_remove(&wk.actors, l);
        wk_tasks_destroy(&actor->queue);
        wk_tasks_destroy(&actor->limbo);
        if (actor->creation) {
            wk_task_destroy(actor->creation);
            actor->creation = NULL;
        }
        ray_options_release(actor->options);
        actor->options = NULL;
        ray_value_release(actor->death);
        actor->death = NULL;
        actor->session = 0;
        if (atom_u32_load(&actor->handles, ATOM_RELAXED) == 0) {
            free(actor->class_name);
            free(actor);
        }
    }
    map_fini(&wk.actors);
}
