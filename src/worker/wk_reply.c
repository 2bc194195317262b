/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What becomes of pushed tasks: replies, retries after failures, tasks that come back unrun, and
 * deaths of their workers.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/flt.h"
#include "os/os_basic.h"
#include "worker/wk_lineage.h"
#include "worker/wk_priv.h"
#include "worker/wk_task.h"

/* ---- replies ---- */

struct wk_task *
wk_task_find_pushed(struct wk_link *link, uint32_t word, uint64_t number)
{
    if (!link->window || word >= WK_CALLS_WORDS || !link->inflight[word] ||
        link->inflight[word]->push.number != number) {
        return NULL;
    }
    return link->inflight[word];
}

void
wk_task_forget_pushed(struct wk_task *task)
{
    struct wk_link *link = task->pushed_on;
    link->inflight[task->push.word] = NULL;
    link->inflight_count--;
    wk.tasks_pushed--;
    task->pushed_on = NULL;
    task->lease = NULL;
    if (task->stream) {
        wk_stream_unpushed(task);
    }
}

/* A failure that is to be told of if it goes before anybody has looked at it: of the task's own
 * code or of its worker, not what somebody asked for nor what befell its actor. */
static void
await_hearing(const struct wk_task *task, struct ray_value *failure)
{
    failure->unheard = !task->cancelled && !task->killed &&
                       (failure->status == ST_TASK_FAILED || failure->status == ST_WORKER_CRASHED);
}

/* A return value has come: handed to the machine with the references inside of it. */
static int
take_return(struct wk_task *task, struct own_ref *ref, const struct wk_piece *piece,
            struct own_frame *frame, struct step_outs *outs)
{
    struct ray_value *value = wk_value_of_piece(piece);
    if (!value) {
        return st_fail(ST_PROTOCOL, "a return value can't be read");
    }
    const int32_t forgotten = value->kind == WK_VALUE_HINT ? wk_lineage_attach(task, ref) : ST_OK;
    struct own_ref **inner = NULL;
    const uint32_t item_count = value->item_count;
    if (value->item_count > 0) {
        inner = calloc(value->item_count, sizeof(*inner));
        for (uint32_t i = 0; inner && i < value->item_count; i++) {
            inner[i] = frame ? own_frame_add(&wk.own, frame, &value->items[i])
                             : own_find(&wk.own, &value->items[i].object);
            if (!inner[i]) {
                free(inner);
                inner = NULL;
            }
        }
        if (!inner) {
            ray_value_release(value);
            return st_fail(ST_OUT_OF_MEMORY, "no memory for the references of a return value");
        }
    }
    uint64_t handle;
    memcpy(&handle, &value, sizeof(handle));
    if (value->kind == WK_VALUE_ERROR) {
        wk.error_count++;
        await_hearing(task, value);
    }
    const int status = own_return_done(&wk.own, ref, wk_state_of(value), handle, forgotten, inner,
                                       inner ? value->item_count : 0, outs);
    for (uint32_t i = 0; inner && !frame && i < item_count; i++) {
        struct wk_outs o; /* this process was the executor: its handles came with the reply */
        own_local_drop(&wk.own, inner[i], wk_outs_begin(&o));
        wk_outs_end(&o);
    }
    free(inner);
    if (status != ST_OK && ref->state == OWN_PENDING) {
        ray_value_release(value);
        return status;
    }
    return ST_OK; /* it is there; what follows from that is taken up at the machine's next step */
}

/* A return that can't be taken: nobody will free it in the store but us, who own it. */
static void
free_piece(const struct wk_piece *piece)
{
    struct ray_value value = { .size = piece->head.size };
    if (piece->head.kind == PEER_HINT && piece->head.size == sizeof(value.hint)) {
        memcpy(&value.hint, piece->data, sizeof(value.hint));
        value.size = value.hint.size;
        wk_value_free_stored(&value);
    }
}

/* Every return becomes the same failure. Consumes the caller's count of it. */
static void
fail_returns(struct wk_task *task, struct ray_value *failure)
{
    wk.error_count++;
    if (failure) {
        await_hearing(task, failure);
    }
    for (uint32_t i = 0; i < task->return_count; i++) {
        struct wk_outs o;
        uint64_t handle = 0;
        struct own_ref *ref = wk_task_return(task, i);
        if (!ref) {
            continue;
        }
        if (failure) {
            (void)ray_value_retain(failure);
            memcpy(&handle, &failure, sizeof(handle));
        }
        ref->task = 0;
        (void)!own_return_done(&wk.own, ref, failure ? OWN_ERROR : OWN_GONE, handle,
                               failure ? 0 : ST_OUT_OF_MEMORY, NULL, 0, wk_outs_begin(&o));
        wk_outs_end(&o);
    }
    if (task->stream) {
        wk_stream_answered(task, failure);
    }
    ray_value_release(failure);
}

static void
finish(struct wk_task *task)
{
    wk.tasks_pending--;
    if (task->actor) {
        wk_actor_call_done(task);
    }
    if (!wk_lineage_keep(task)) {
        wk_task_destroy(task);
    }
    wk_changed();
}

/* The task ends without a reply. `executor` as in own_task_failed. */
void
wk_task_fail(struct wk_task *task, struct ray_value *failure, uint32_t executor)
{
    fail_returns(task, failure);
    struct wk_outs o;
    (void)!own_task_failed(&wk.own, task->refs, task->ref_count, executor, true, wk_outs_begin(&o));
    wk_outs_end(&o);
    finish(task);
}

/* Whether a failed reply leads to another try. Then the task is READY again. WORKER_CRASHED: the
 * task ended its worker in good order, which counts as the worker's death. */
static bool
retry_after_failure(struct wk_task *task, const struct peer_done *done, uint32_t executor)
{
    const bool covered = (done->status == ST_TASK_FAILED && task->retry_exceptions) ||
                         (done->status == ST_WORKER_CRASHED && !task->actor);
    if (task->cancelled || !covered || !(done->flags & PEER_DONE_RETRY_ALLOWED) ||
        task->retries_left == 0) {
        return false;
    }
    struct wk_outs o;
    own_task_submitted(task->refs, task->ref_count); /* for the next try */
    (void)!own_task_replied(&wk.own, task->refs, task->ref_count, executor, done->kept_token,
                            wk_outs_begin(&o));
    wk_outs_end(&o);
    if (task->retries_left > 0) {
        task->retries_left--;
    }
    task->attempt++;
    wk_task_forget_pushed(task);
    if (task->actor) {
        wk_actor_queue_again(task);
    } else {
        wk_task_make_ready(task);
    }
    return true;
}

struct own_frame *
wk_piece_frame(uint64_t token, uint32_t executor)
{
    return token != 0 && executor != OWN_SELF && FAULT("worker.returns.frame") == ST_OK
               ? own_frame_open(&wk.own, executor, token)
               : NULL;
}

void
wk_take_piece(struct wk_task *task, struct own_ref *ref, const struct wk_piece *piece,
              struct own_frame *frame, uint64_t token, uint32_t executor)
{
    struct wk_outs o;
    struct step_outs *outs = wk_outs_begin(&o);
    int status = piece ? ST_OK : ST_PROTOCOL;
    if (piece && piece->head.item_count > 0 && !frame && executor != OWN_SELF) {
        status = token != 0 ? st_fail(ST_OUT_OF_MEMORY, "no memory for the references of a reply")
                            : st_fail(ST_PROTOCOL, "a reply with references but no token");
    }
    if (status == ST_OK) {
        status = take_return(task, ref, piece, frame, outs);
    }
    if (status != ST_OK) {
        struct ray_value *failure = wk_failure_of_status(status, st_last()->text);
        uint64_t handle;
        memcpy(&handle, &failure, sizeof(handle));
        wk.error_count++;
        (void)!own_return_done(&wk.own, ref, failure ? OWN_ERROR : OWN_GONE, handle, status, NULL,
                               0, outs);
        if (piece) {
            free_piece(piece);
        }
    }
    wk_outs_end(&o);
}

static void
end_frame(struct own_frame *frame)
{
    if (frame) {
        struct wk_outs o;
        own_frame_close_reply(&wk.own, frame, wk_outs_begin(&o));
        wk_outs_end(&o);
    }
}

void
wk_drop_piece(const struct wk_piece *piece, uint64_t token, uint32_t executor)
{
    free_piece(piece);
    for (uint32_t i = 0; executor == OWN_SELF && i < piece->head.item_count; i++) {
        struct own_item item; /* the executor's handles came with it */
        struct wk_outs o;
        memcpy(&item, piece->items + i * sizeof(item), sizeof(item));
        struct own_ref *ref = own_find(&wk.own, &item.object);
        if (ref) {
            own_local_drop(&wk.own, ref, wk_outs_begin(&o));
            wk_outs_end(&o);
        }
    }
    end_frame(wk_piece_frame(token, executor)); /* which lets its sender's pins go */
}

/* Reads the returns of a reply into their references. */
static void
take_returns(struct wk_task *task, const struct peer_done *done, const uint8_t *at,
             const uint8_t *end, uint32_t executor)
{
    struct own_frame *frame = wk_piece_frame(done->returns_token, executor);
    bool readable = true;
    for (uint32_t i = 0; i < task->return_count; i++) {
        struct wk_piece piece;
        struct own_ref *ref = wk_task_return(task, i);
        readable = readable && wk_piece_decode(&at, end, &piece) == ST_OK;
        if (ref) {
            ref->task = 0;
            wk_take_piece(task, ref, readable ? &piece : NULL, frame, done->returns_token,
                          executor);
        } else if (readable) { /* made again for the sake of others */
            free_piece(&piece);
        }
    }
    end_frame(frame);
    if (task->stream) {
        wk_stream_answered(task, NULL);
    }
}

void
wk_on_done(struct wk_link *link, const uint8_t *body, size_t size)
{
    struct peer_done done;
    if (size < sizeof(done)) {
        return;
    }
    memcpy(&done, body, sizeof(done));
    struct wk_task *task = wk_task_find_pushed(link, done.word, done.push_number);
    if (!task || net_window_free(link->window, &task->push) != ST_OK) {
        return; /* a reply to nothing: a stale attempt */
    }
    const uint32_t executor = link->peer->proc;
    const uint64_t now = wk_now();
    if (task->lease) {
        struct wk_lease *lease = task->lease;
        wk_lease_on_done(&wk.leases, lease, &task->function->lease_fn, now, done.duration_ns);
        if (done.flags & PEER_DONE_LEAVING) {
            wk_lease_retire(&wk.leases, lease, now);
        }
        wk_key_mark_dirty(task->key);
    }
    if (done.status != 0 && done.flags & PEER_DONE_ARGS_LOST) {
        wk_task_args_lost(task, &done, executor);
        return;
    }
    if (done.status != 0 && retry_after_failure(task, &done, executor)) {
        return;
    }
    wk_task_forget_pushed(task);
    const uint8_t *at = body + sizeof(done);
    if (done.status != 0) {
        struct wk_piece piece;
        struct ray_value *failure = NULL;
        if (wk_piece_decode(&at, body + size, &piece) == ST_OK) {
            failure = wk_value_of_piece(&piece);
        }
        if (!failure || failure->kind != WK_VALUE_ERROR) {
            ray_value_release(failure);
            failure = wk_failure_of_status(ST_PROTOCOL, "a worker's failure can't be read");
        }
        fail_returns(task, failure);
    } else {
        take_returns(task, &done, at, body + size, executor);
    }
    struct wk_outs o;
    (void)!own_task_replied(&wk.own, task->refs, task->ref_count, executor, done.kept_token,
                            wk_outs_begin(&o));
    wk_outs_end(&o);
    finish(task);
}

void
wk_on_bounced(struct wk_link *link, const uint8_t *body, size_t size)
{
    struct peer_bounced bounced;
    enum net_window_state state;
    if (size < sizeof(bounced)) {
        return;
    }
    memcpy(&bounced, body, sizeof(bounced));
    struct wk_task *task = wk_task_find_pushed(link, bounced.word, bounced.push_number);
    if (!task || !task->lease || net_window_look(link->window, &task->push, &state) != ST_OK ||
        state != NET_WINDOW_BOUNCED) {
        return;
    }
    struct wk_lease *lease = task->lease;
    (void)!net_window_free(link->window, &task->push);
    wk_task_take_back(task);
    wk_lease_on_bounced(&wk.leases, lease, 1, wk_now());
}

/* ---- deaths ---- */

int
wk_task_by_number(const void *a, const void *b)
{
    struct wk_task *const *x = a;
    struct wk_task *const *y = b;
    return (*x)->push.number < (*y)->push.number ? 1 : -1;
}

static struct ray_value *
crash_failure(const struct wk_task *task, const struct wk_peer *peer)
{
    char text[2048];
    (void)snprintf(text, sizeof(text),
                   "The worker died unexpectedly while executing this task (%s, pid %d, attempt "
                   "%u). %s%s",
                   task->function->name, peer->pid, task->attempt + 1,
                   task->killed ? "The task was cancelled with force=True. " : "",
                   peer->evidence ? peer->evidence : "");
    const struct wk_failure failure = {
        .status = task->cancelled && !task->killed ? ST_TASK_CANCELLED : ST_WORKER_CRASHED,
        .pid = peer->pid,
        .text = text,
        .function = task->function->name,
        .node_ip = wk.node_ip,
        .task_id = task->id.b,
    };
    return wk_value_create_failure(&failure);
}

/* The worker is dead and everything it sent was read. */
static void
settle_task(struct wk_task *task, struct wk_peer *peer)
{
    enum net_window_state state;
    const bool known = net_window_look(task->pushed_on->window, &task->push, &state) == ST_OK;
    const bool started = !known || state == NET_WINDOW_STARTED;
    if (!started) {
        wk_task_take_back(task);
        return;
    }
    wk_task_forget_pushed(task);
    if (task->retries_left == 0) {
        wk_task_fail(task, crash_failure(task, peer), peer->proc);
        return;
    }
    if (task->retries_left > 0) {
        task->retries_left--;
    }
    task->attempt++;
    struct wk_outs o;
    (void)!own_task_failed(&wk.own, task->refs, task->ref_count, peer->proc, false,
                           wk_outs_begin(&o));
    wk_outs_end(&o);
    wk_task_make_ready(task);
}

/* What its worker runs can't be told any more: the raylet ends it, and its death settles the tasks.
 */
void
wk_tasks_on_link_failed(struct wk_link *link)
{
    LIST_FOR (l, &wk.lease_refs) {
        const struct wk_lease_ref *ref = LIST_ENTRY(l, struct wk_lease_ref, link);
        if (ref->peer == link->peer) {
            Ray__Node__LeaseReturn message = RAY__NODE__LEASE_RETURN__INIT;
            message.lease_id = ref->id;
            message.kill_worker = true;
            (void)!wk_node_send(NODE_LEASE_RETURN, (const ProtobufCMessage *)&message, 0);
        }
    }
}

void
wk_tasks_on_death(struct wk_peer *peer)
{
    struct wk_link *link = peer->out;
    const uint64_t now = wk_now();
    LIST_FOR_SAFE (l, next, &wk.lease_refs) {
        struct wk_lease_ref *ref = LIST_ENTRY(l, struct wk_lease_ref, link);
        if (ref->peer != peer) {
            continue;
        }
        uint32_t unstarted = 0;
        for (uint32_t i = 0; link && link->inflight && i < link->window->n_used; i++) {
            enum net_window_state state;
            struct wk_task *task = link->inflight[i];
            unstarted += task && task->lease == ref->lease &&
                         net_window_look(link->window, &task->push, &state) == ST_OK &&
                         state != NET_WINDOW_STARTED;
        }
        wk_lease_on_dead(&wk.leases, ref->lease, unstarted, now);
        list_remove(&ref->link);
        free(ref);
    }
    if (!link || !link->inflight) {
        return;
    }
    struct wk_task *found[WK_WINDOW_WORDS];
    size_t n = 0;
    for (uint32_t i = 0; i < link->window->n_used && n < WK_WINDOW_WORDS; i++) {
        if (link->inflight[i] && !link->inflight[i]->actor) {
            found[n++] = link->inflight[i];
        }
    }
    qsort(found, n, sizeof(found[0]), wk_task_by_number);
    for (size_t i = 0; i < n; i++) {
        settle_task(found[i], peer);
    }
}
