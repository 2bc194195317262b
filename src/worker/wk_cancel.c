/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cancelling, on all sides: the owner, who ends what has not begun and asks the worker of what has;
 * the worker, who interrupts the one task that was named; the borrower, who asks the owner.
 *
 * docs/protocols/cancellation.md tells the races. In short: the owner takes an unstarted task back
 * by the compare-and-swap of its window word; a started one is named to its worker by that word and
 * push number; the worker marks the record of that very task, under the engine's lock and only
 * while it runs, and whoever acts on the mark reads it in the record of the task that it works on.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "worker/wk_actor.h"
#include "worker/wk_exec.h"
#include "worker/wk_group.h"
#include "worker/wk_lineage.h"
#include "worker/wk_task.h"

/* ---- the owner ---- */

/* It waits for arguments no more. */
static void
unhang(struct wk_task *task)
{
    for (uint32_t i = 0; task->deps_pending > 0 && i < task->arg_count; i++) {
        struct own_ref *ref = task->args[i].ref;
        struct wk_waiter *waiter = NULL, *before = NULL;
        if (ref) {
            memcpy(&waiter, &ref->waiters, sizeof(waiter));
        }
        while (waiter) {
            struct wk_waiter *next = waiter->next;
            if (waiter->task != task) {
                before = waiter;
            } else {
                if (before) {
                    before->next = next;
                } else {
                    memcpy(&ref->waiters, &next, sizeof(next));
                }
                task->deps_pending--;
                free(waiter);
            }
            waiter = next;
        }
    }
}

void
wk_task_end_unrun(struct wk_task *task)
{
    const struct id_actor actor = id_task_actor(&task->id);
    const struct wk_failure failure = {
        .status = ST_TASK_CANCELLED,
        .text = "It was waiting to run.",
        .function = task->function->name,
        .node_ip = wk.node_ip,
        .task_id = task->id.b,
        .actor_id = actor.b,
    };
    wk_task_fail(task, wk_value_create_failure(&failure), OWN_SELF);
}

/* It waits for arguments or is queued. */
static void
cancel_queued(struct wk_task *task)
{
    unhang(task);
    if (task->key && task->state == WK_TASK_READY) {
        list_remove(&task->link);
        task->key->ready_count--;
        wk_lease_on_unready(&wk.leases, task->key->lease_key, 1, wk_now());
        wk_key_mark_dirty(task->key);
    }
    wk_task_end_unrun(task); /* the actor client takes a call out of its lists itself */
}

/* Its worker has begun to run it, and decides. */
static void
ask_worker(struct wk_task *task, uint32_t flags)
{
    struct wk_frame frame;
    task->cancelled = true;
    task->killed = task->killed || (flags & PEER_CANCEL_FORCE) != 0;
    task->retries_left = 0;
    if (wk_frame_begin(&frame, task->pushed_on, PEER_CANCEL, sizeof(struct peer_cancel)) != ST_OK) {
        return; /* the connection is broken: the worker's end is what comes */
    }
    const struct peer_cancel body = {
        .push_number = task->push.number,
        .word = task->push.word,
        .flags = flags,
    };
    memcpy(frame.body, &body, sizeof(body));
    wk_frame_end(&frame, NET_BELL_URGENT);
}

/* It is in a window: taken back from there, if it has not begun. */
static void
cancel_pushed(struct wk_task *task, uint32_t flags)
{
    enum net_window_state state;
    struct wk_link *link = task->pushed_on;
    struct wk_lease *lease = task->lease;
    if (net_window_recall(link->window, &task->push)) {
        (void)!net_window_free(link->window, &task->push);
        wk_task_forget_pushed(task);
        if (lease) {
            wk_lease_on_recalled(&wk.leases, lease, 1, false, wk_now());
            wk_key_mark_dirty(task->key);
        }
        wk_task_end_unrun(task);
    } else if (lease && net_window_look(link->window, &task->push, &state) == ST_OK &&
               state == NET_WINDOW_BOUNCED) { /* the frame that tells so will find it gone */
        (void)!net_window_free(link->window, &task->push);
        wk_task_take_back(task);
        wk_lease_on_bounced(&wk.leases, lease, 1, wk_now());
        cancel_queued(task);
    } else {
        ask_worker(task, flags);
    }
}

void
wk_task_cancel(struct wk_task *task, uint32_t flags)
{
    if (task->actor) {
        flags &= ~(uint32_t)PEER_CANCEL_FORCE; /* its process is the actor, not the call */
    }
    if (task->pushed_on) {
        cancel_pushed(task, flags);
    } else {
        wk_lineage_unschedule(task);
        cancel_queued(task);
    }
}

static struct wk_task *
task_of(const struct own_ref *ref)
{
    struct wk_task *task;
    memcpy(&task, &ref->task, sizeof(task));
    return task;
}

/* Asks the owner of a borrowed reference. */
static void
ask_owner(const struct own_ref *ref, uint32_t flags)
{
    struct wk_peer *peer = wk_peer_of_proc(ref->owner);
    struct wk_link *link = peer && !peer->announced ? wk_peer_any_link(peer) : NULL;
    struct wk_frame frame;
    if (!link ||
        wk_frame_begin(&frame, link, PEER_CANCEL_REF, sizeof(struct peer_cancel_ref)) != ST_OK) {
        return; /* its death is on the way, and ends its tasks */
    }
    const struct peer_cancel_ref body = { .object = ref->id, .flags = flags };
    memcpy(frame.body, &body, sizeof(body));
    wk_frame_end(&frame, NET_BELL_URGENT);
}

static bool
is_actor_task(const struct id_task *task)
{
    const struct id_actor actor = id_task_actor(task);
    const struct id_job job = id_actor_job(&actor);
    const struct id_actor none = id_actor_nil_of(&job);
    return !ID_EQ(actor, none);
}

RAY_API int
ray_cancel(ray_ref *handle, bool force, bool recursive)
{
    TRY(wk_enter());
    struct own_ref *ref = wk_ref_of(handle);
    int status = wk_refs_check(&handle, 1, true);
    const uint32_t flags = (force ? (uint32_t)PEER_CANCEL_FORCE : 0) |
                           (recursive ? (uint32_t)PEER_CANCEL_RECURSIVE : 0);
    if (status == ST_OK && id_object_index(&ref->id) < ID_PUT_INDEX) {
        const struct id_task id = id_object_task(&ref->id);
        if (force && is_actor_task(&id)) {
            status = st_fail(ST_INVALID_ARGUMENT, "force=True is not supported for actor tasks.");
        } else if (ref->kind == OWN_BORROWED) {
            if (ref->state == OWN_PENDING) {
                ask_owner(ref, flags);
            }
        } else if (ref->task) {
            wk_task_cancel(task_of(ref), flags);
            wk_pump();
        }
    }
    wk_unlock();
    return status;
}

int
wk_on_cancel_ref(const uint8_t *body, size_t size)
{
    struct peer_cancel_ref asked;
    if (size < sizeof(asked)) {
        return st_fail(ST_PROTOCOL, "a cancellation of %zu bytes", size);
    }
    memcpy(&asked, body, sizeof(asked));
    const struct own_ref *ref = own_find(&wk.own, &asked.object);
    if (wk.ready && ref && ref->kind == OWN_OWNED && ref->task) {
        wk_task_cancel(task_of(ref), asked.flags);
        wk_changed();
    }
    return ST_OK;
}

/* ---- the worker ---- */

static bool
is_named(const struct wk_exec *e, const struct wk_link *link, const struct peer_cancel *cancel)
{
    const struct net_window_push named = { cancel->word, cancel->push_number };
    const struct net_window_push pushed = { e->push.word, e->push.push_number };
    return e->from == link && wk_interrupt_names(&named, &pushed);
}

/* The named task, if it runs here now. */
static struct wk_exec *
find_running(const struct wk_link *link, const struct peer_cancel *cancel)
{
    if (wk.current && is_named(wk.current, link, cancel)) {
        return wk.current;
    }
    LIST_FOR (l, &wk.begun) {
        struct wk_exec *e = LIST_ENTRY(l, struct wk_exec, link);
        if (is_named(e, link, cancel)) {
            return e;
        }
    }
    return NULL;
}

/* What ends is in no list any more, and what runs on is the task's child as before. */
static void
cancel_children(struct wk_exec *e, uint32_t flags)
{
    struct list all;
    list_init(&all);
    list_splice_back(&all, &e->children);
    while (!list_is_empty(&all)) {
        struct list *link = list_take_front(&all);
        list_push_back(&e->children, link);
        wk_task_cancel(LIST_ENTRY(link, struct wk_task, sibling), flags);
    }
}

/* The process of a task that was cancelled by force ends, but not before it has handed over the
 * replies of those that ran here earlier: they would count as lost with it. */
void
wk_end_doomed(void)
{
    const struct wk_link *link = wk.current ? wk.current->from : NULL;
    if (link && !link->broken &&
        (link->overflow.size > link->overflow_start || !net_conn_is_flushed(link->conn))) {
        return; /* its owner makes room, or connects again, and then this is called again */
    }
    Ray__Node__Leaving message = RAY__NODE__LEAVING__INIT;
    wk_set_text(&message.reason, "its task was cancelled with force=True");
    (void)!wk_node_send(NODE_LEAVING, (const ProtobufCMessage *)&message, 0);
    _exit(1);
}

/* The main thread's task of a lease: its waits end, and the face interrupts what it does else. */
static void
interrupt(struct wk_exec *e)
{
    e->break_wait = true;
    wk_nudge();
    if (wk.worker_options->interrupt) {
        e->signalled = true;
        wk.worker_options->interrupt(wk.worker_options->ctx);
    }
}

int
wk_on_cancel(struct wk_link *link, const uint8_t *body, size_t size)
{
    struct peer_cancel cancel;
    if (size < sizeof(cancel)) {
        return st_fail(ST_PROTOCOL, "a cancellation of %zu bytes", size);
    }
    memcpy(&cancel, body, sizeof(cancel));
    struct wk_exec *e = find_running(link, &cancel);
    if (!e) {
        return ST_OK; /* it has ended */
    }
    const bool leased = e->push.epoch != 0;
    wk_interrupt_ask(&e->interrupt);
    if (leased && !(cancel.flags & PEER_CANCEL_FORCE)) {
        interrupt(e);
    }
    if (cancel.flags & PEER_CANCEL_RECURSIVE) {
        cancel_children(e, cancel.flags);
    }
    if (leased && (cancel.flags & PEER_CANCEL_FORCE)) {
        wk.doomed = true;
        wk_end_doomed();
    }
    if (e->group && wk.groups->event_loop && !e->cancel_queued) {
        e->cancel_queued = true;
        e->group->cancels++;
        wk_nudge();
    }
    return ST_OK;
}

bool
wk_current_is_cancelled(void)
{
    return wk_current && ray_task_is_cancelled((const ray_task *)wk_current);
}

RAY_API bool
ray_task_is_cancelled(const ray_task *task)
{
    return wk_interrupt_is_cancelled(&wk_exec_of(task)->interrupt);
}

RAY_API bool
ray_task_take_interrupt(ray_task *task)
{
    return wk_interrupt_take(&wk_exec_of(task)->interrupt);
}

RAY_API ray_task *
ray_worker_next_cancelled(void)
{
    struct wk_group *g = wk_my_group;
    struct wk_exec *found = NULL;
    if (!g) {
        return NULL;
    }
    wk_lock();
    for (struct list *l = wk.begun.next; g->cancels > 0 && !found && l != &wk.begun; l = l->next) {
        struct wk_exec *e = LIST_ENTRY(l, struct wk_exec, link);
        found = e->group == g && e->cancel_queued ? e : NULL;
    }
    if (found) {
        found->cancel_queued = false;
        g->cancels--;
    }
    wk_unlock();
    return (ray_task *)found;
}

RAY_API void
ray_task_set_user(ray_task *task, void *user)
{
    wk_exec_of(task)->user = user;
}

RAY_API void *
ray_task_user(const ray_task *task)
{
    return wk_exec_of(task)->user;
}
