/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls of actors: queued in the order of submission and pushed, in that order, over one connection
 * to the actor's process.
 */

#include "worker/wk_actor.h"
#include "worker/wk_exec.h"
#include "worker/wk_task.h"

/* ---- the pump ---- */

struct ray_value *
wk_actor_death(const struct wk_actor *actor)
{
    return actor->death ? ray_value_retain(actor->death)
                        : wk_failure_of_status(ST_ACTOR_DIED, NULL);
}

static struct ray_value *
failure_of(const struct wk_actor *actor, enum wk_call_verdict verdict)
{
    if (verdict == WK_CALL_ACTOR_DEAD) {
        return wk_actor_death(actor);
    }
    const struct wk_failure failure = {
        .status = ST_ACTOR_UNAVAILABLE,
        .actor_id = actor->id.b,
        .class_name = actor->class_name,
        .node_ip = wk.node_ip,
        .text = verdict == WK_CALL_PROCESS_DIED
                    ? "its process died while the call ran, and it is being restarted"
                    : "the connection with its process ended while the call ran",
    };
    return wk_value_create_failure(&failure);
}

static void
push_calls(struct wk_actor *actor)
{
    struct wk_caller *calls = &actor->calls;
    struct wk_call *call;
    while ((call = wk_caller_failed(calls)) != NULL) {
        wk_task_fail(wk_task_of_call(call), failure_of(actor, call->verdict), OWN_SELF);
    }
    while ((call = wk_caller_next(calls)) != NULL) {
        struct wk_link *link = wk_peer_link(wk_actor_peer(actor));
        if (!link) {
            return; /* its death is on the way */
        }
        const int status = wk_task_push(wk_task_of_call(call), link, 0);
        if (status == ST_LIMIT) { /* no connection ever takes it */
            wk_task_fail(wk_task_of_call(call), wk_failure_of_status(status, st_last()->text),
                         OWN_SELF);
        } else if (status != ST_OK) {
            if (status == ST_SYSTEM || status == ST_OUT_OF_MEMORY) {
                wk_push_later();
            }
            return; /* no room in the window: the next reply comes back here */
        } else {
            wk_caller_sent(calls, call);
        }
    }
}

/* When nothing in the program refers to it and no call is open, the reference to it is given up. */
void
wk_actor_settle(struct wk_actor *actor)
{
    const bool handles = atom_u32_load(&actor->handles, ATOM_RELAXED) > 0;
    const bool weak = atom_u32_load(&actor->weak, ATOM_RELAXED) > 0;
    if ((handles && !(wk.work_over && actor->owned)) || actor->calls.pending > 0 ||
        (actor->creation && actor->constructed == 0 && actor->calls.state != ACTOR_DEAD) ||
        (actor->creation && actor->creation->deps_pending > 0)) {
        return;
    }
    if (actor->holding) {
        const bool owned = actor->owned;
        struct wk_outs o;
        actor->holding = false;
        own_local_drop(&wk.own, actor->ref, wk_outs_begin(&o));
        wk_outs_end(&o); /* an owned actor may be gone now */
        if (!owned && weak) {
            actor->ref = NULL;
        } else if (!owned) {
            wk_actor_free(actor);
        }
    } else if (!actor->ref && !handles && !weak) {
        wk_actor_end_creation(actor, OWN_SELF);
        wk_actor_free(actor);
    }
}

/* Nothing of the program runs any more in this worker: its handles don't keep alive the actors that
 * it made. Else it would wait for those who borrow from it, and they for their handles. */
void
wk_actors_leave(void)
{
    struct map_walk walk;
    map_walk_init(&walk);
    wk.work_over = true;
    for (struct map_link *l; (l = map_walk_next(&wk.actors, &walk));) {
        wk_actor_mark_dirty(CONTAINER_OF(l, struct wk_actor, link));
    }
    wk_actors_pump();
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
        if (actor->creation && actor->calls.state == ACTOR_DEAD) {
            wk_actor_end_creation(actor, OWN_SELF);
        } else if (actor->creation && actor->creation->state == WK_TASK_READY &&
                   actor->creation->deps_pending == 0 && !actor->requested && !actor->asking) {
            wk_actor_request_creation(actor);
        }
        push_calls(actor);
        wk_actor_settle(actor);
    }
    busy = false;
}

/* A call, or the creation, has all its arguments. */
void
wk_actor_ready(struct wk_actor *actor, struct wk_task *task)
{
    if (task != actor->creation) {
        wk_caller_ready(&actor->calls, &task->call);
    }
    wk_actor_mark_dirty(actor);
}

void
wk_actor_queue_again(struct wk_task *task)
{
    task->state = WK_TASK_READY;
    task->call.waits = task->deps_pending > 0;
    wk_caller_again(&task->actor->calls, &task->call);
    wk_actor_mark_dirty(task->actor);
}

void
wk_actor_call_done(struct wk_task *task)
{
    wk_caller_answered(&task->actor->calls, &task->call);
    wk_actor_mark_dirty(task->actor);
}

/* ---- submission ---- */

void
wk_actor_resubmit(struct wk_task *task)
{
    task->state = WK_TASK_READY;
    wk_caller_submit(&task->actor->calls, &task->call, task->retries_left, task->deps_pending > 0);
    wk_actor_mark_dirty(task->actor);
}

int
wk_actor_submit(struct ray_actor *handle, struct ray_function *method, struct ray_options *options,
                const struct ray_arg *args, size_t arg_count, ray_ref **refs,
                struct ray_stream **stream)
{
    static uint32_t calls;
    struct wk_actor *actor = wk_actor_of(handle);
    if (!options) {
        options = wk_options_default();
    }
    TRY(wk_enter());
    const struct id_task by = wk_id_source()->task;
    int status = ST_OK;
    if (actor->session != wk.session) {
        status = st_fail(ST_NOT_FOUND, "ActorHandle objects are not valid across Ray sessions");
    } else if (!wk_caller_admits(&actor->calls)) {
        status =
            st_fail(ST_PENDING_CALLS_LIMIT,
                    "the actor's max_pending_calls is %lld, and %llu calls are pending",
                    (long long)actor->calls.max_pending, (unsigned long long)actor->calls.pending);
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
        status = wk_task_want_args(task);
        if (status != ST_OK) {
            wk_task_undo(task);
        }
    }
    if (status == ST_OK) {
        if (stream) {
            *stream = wk_stream_give(task);
        }
        task->actor = actor;
        task->depth = wk_depth();
        task->state = WK_TASK_READY;
        wk.tasks_pending++;
        struct wk_exec *parent = wk_submitter(&by);
        if (parent) {
            list_push_back(&parent->children, &task->sibling);
        }
        wk_caller_submit(&actor->calls, &task->call, options->max_task_retries,
                         task->deps_pending > 0);
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

RAY_API int
ray_actor_call(ray_actor *handle, ray_function *method, ray_options *options,
               const struct ray_arg *args, size_t arg_count, ray_ref **refs)
{
    if (options && options->generator == RAY_GENERATOR_STREAMING) {
        return st_fail(ST_INVALID_ARGUMENT, "a streaming call is made by ray_stream_call");
    }
    return wk_actor_submit(handle, method, options, args, arg_count, refs, NULL);
}
