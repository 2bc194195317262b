/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What becomes of actors: the word of ray-gcs, deaths of their processes, connections that failed,
 * and what each means for the calls that are under way.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/wk_actor.h"
#include "worker/wk_task.h"

/* ---- the word of ray-gcs ---- */

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

void
wk_actor_die(struct wk_actor *actor, int status, const char *reason,
             const Ray__Gcs__ActorUpdate *update)
{
    if (actor->calls.state == ACTOR_DEAD) {
        return;
    }
    wk_caller_on_dead(&actor->calls);
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
    wk_actor_end_creation(
        actor, actor->constructed > actor->calls.incarnation ? OWN_SELF : wk_actor_proc(actor));
    wk_actor_mark_dirty(actor);
}

static void
set_place(struct wk_actor *actor, const Ray__Gcs__ActorUpdate *update)
{
    struct own_addr addr = { .node = wk.self.node };
    struct wk_peer *peer = NULL;
    if (update->worker_id.len == sizeof(addr.worker.b)) {
        memcpy(addr.worker.b, update->worker_id.data, sizeof(addr.worker.b));
        peer = wk_peer_get(&addr);
    }
    const bool gone = !peer || peer->announced;
    if (!wk_caller_on_alive(&actor->calls, update->incarnation,
                            gone ? 0 : wk_actor_process(peer)) ||
        !peer) {
        return;
    }
    if (!*peer->socket) {
        (void)snprintf(peer->socket, sizeof(peer->socket), "%s", update->peer_socket);
    }
    peer->pid = update->pid;
    wk_peer_watch(peer); /* its death ends what it may have kept of the constructor's arguments */
    peer->actor = actor;
}

void
wk_actor_on_update(const uint8_t *body, size_t size)
{
    Ray__Gcs__ActorUpdate *update = ray__gcs__actor_update__unpack(NULL, size, body);
    struct id_actor id;
    struct wk_actor *actor = NULL;
    if (update && update->actor_id.len == sizeof(id.b)) {
        memcpy(id.b, update->actor_id.data, sizeof(id.b));
        actor = wk_actor_find(&id);
    }
    if (actor && actor->calls.state != ACTOR_DEAD) {
        if (!*actor->class_name && *update->class_name) {
            free(actor->class_name);
            actor->class_name = strdup(update->class_name);
        }
        if (!actor->owned) { /* its creator knows */
            actor->calls.max_pending = update->max_pending_calls;
            if (update->unordered && !actor->calls.unordered) {
                wk_caller_unorder(&actor->calls);
            }
        }
        switch (update->state) {
        case RAY__GCS__ACTOR_STATE__ALIVE:
            set_place(actor, update);
            if (update->constructed && update->incarnation == actor->calls.incarnation) {
                wk_actor_creation_replied(actor, update->kept_token);
            }
            break;
        case RAY__GCS__ACTOR_STATE__RESTARTING:
            wk_caller_on_restarting(&actor->calls);
            break;
        case RAY__GCS__ACTOR_STATE__DEAD:
            wk_actor_die(actor, update->status, update->reason, update);
            break;
        case RAY__GCS__ACTOR_STATE__DEPENDENCIES_UNREADY:
        case RAY__GCS__ACTOR_STATE__PENDING_CREATION:
        case _RAY__GCS__ACTOR_STATE_IS_INT_SIZE:
            break;
        }
        if (actor->calls.held && actor->calls.state != ACTOR_DEAD) {
            /* It had not been created when this process killed it: its calls wait for the end. */
            (void)!wk_actor_say_kill(actor, true);
        }
        wk_actor_mark_dirty(actor);
        wk_changed();
    }
    if (update) {
        ray__gcs__actor_update__free_unpacked(update, NULL);
    }
}

/* ---- deaths ---- */

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

void
wk_actor_on_link_failed(struct wk_actor *actor, struct wk_link *link)
{
    struct wk_caller *calls = &actor->calls;
    const uint64_t process = wk_actor_process(link->peer);
    if (wk_caller_is_with(calls, process)) {
        LIST_FOR (l, &calls->sent) {
            struct wk_task *task = LIST_ENTRY(l, struct wk_task, link);
            task->call.begun = !net_window_recall(link->window, &task->push);
            wk_task_forget_pushed(task);
            if (task->call.begun) {
                attempt_died(task, link->peer); /* its arguments stay as long as that process */
            }
        }
        wk_caller_on_broken(calls, process);
    }
    wk_actor_mark_dirty(actor);
}

/* The actor's process is dead; what it sent has been read. */
void
wk_actor_on_peer_death(struct wk_actor *actor, struct wk_peer *peer)
{
    struct wk_caller *calls = &actor->calls;
    const uint64_t process = wk_actor_process(peer);
    if (wk_caller_is_with(calls, process)) {
        LIST_FOR (l, &calls->sent) {
            struct wk_task *task = LIST_ENTRY(l, struct wk_task, link);
            enum net_window_state state = NET_WINDOW_STARTED;
            (void)!net_window_look(task->pushed_on->window, &task->push, &state);
            wk_task_forget_pushed(task);
            task->call.begun = state == NET_WINDOW_STARTED;
            if (task->call.begun) {
                attempt_died(task, peer);
            }
        }
    }
    if (actor->creation && actor->constructed <= calls->incarnation) {
        attempt_died(actor->creation, peer);
    }
    peer->actor = NULL;
    if (wk_caller_on_died(calls, process)) {
        wk_actor_watch(actor);
    }
    wk_actor_mark_dirty(actor);
}
