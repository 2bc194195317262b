/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tasks from the owner's side: queueing by scheduling key, pushing to leases, replies, retries.
 *
 * submit -> (WAITING for arguments) -> READY in its key's queue -> PUSHED in a window -> replied.
 * A pushed task can come back: recalled by us, bounced by its worker, or found unstarted when its
 * worker died; then it is READY again and is charged nothing. Started and lost, it is charged one
 * of its retries. wk_lease decides where and how many; this file does it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/os_basic.h"
#include "worker/wk_priv.h"

static void lease_speak(uint64_t now);
static void send_return(uint64_t lease_id, uint32_t flags);

/* ---- queues ---- */

static void
mark_dirty(struct wk_key *key)
{
    if (list_is_empty(&key->dirty_link)) {
        list_push_back(&wk.dirty_keys, &key->dirty_link);
    }
}

/* The task's arguments are all here. */
static void
make_ready(struct wk_task *task)
{
    task->state = WK_TASK_READY;
    if (task->actor) {
        wk_actor_ready(task->actor);
        return;
    }
    struct wk_key *key = task->key;
    list_push_back(&key->ready, &task->link);
    key->ready_count++;
    wk_lease_on_ready(&wk.leases, key->lease_key, 1, task->depth, os_now_ns());
    mark_dirty(key);
}

/* A pushed task is the key's again, ahead of those that never were pushed. The lease client has
 * been told, or will be, by whoever calls. */
static void
take_back(struct wk_task *task)
{
    struct wk_link *link = task->pushed_on;
    link->inflight[task->push.word] = NULL;
    link->inflight_count--;
    task->pushed_on = NULL;
    task->lease = NULL;
    task->state = WK_TASK_READY;
    list_push_front(&task->key->ready, &task->link);
    task->key->ready_count++;
    mark_dirty(task->key);
}

/* ---- submission ---- */

RAY_API int
ray_task_submit(ray_function *function, ray_options *options, const struct ray_arg *args,
                size_t arg_count, ray_ref **refs)
{
    static uint32_t submissions;
    if (!options) {
        options = wk_options_default();
    }
    if (!options || arg_count > OWN_ITEMS_MAX) {
        return st_fail(ST_INVALID_ARGUMENT, "%zu arguments", arg_count);
    }
    TRY(wk_enter());
    const struct id_actor none = id_actor_nil_of(&wk.job);
    const struct id_task id = id_source_child(wk_id_source(), &none);
    struct wk_key *key = wk_options_key(options);
    struct wk_task *task = NULL;
    int status = key ? wk_task_create(function, options, args, arg_count, &id, &task)
                     : st_fail(ST_OUT_OF_MEMORY, "no memory for a scheduling key");
    if (status == ST_OK) {
        status = wk_task_begin(task, refs);
    }
    if (status == ST_OK) {
        task->key = key;
        task->depth = wk_depth();
        if (!*key->lease_key->name) {
            (void)snprintf(key->lease_key->name, sizeof(key->lease_key->name), "%s",
                           function->name);
        }
        wk.tasks_pending++;
        status = wk_task_want_args(task);
        if (task->deps_pending == 0) {
            make_ready(task);
            wk_pump();
        }
        if (wk.tasks_pending > 1) {
            wk_keep_ticking();
        }
        if (++submissions % 16 == 0) {
            wk_poll();
        }
    } else if (task) {
        wk_task_abandon(task);
    }
    wk_unlock();
    return status;
}

RAY_API int
ray_call_bytes(ray_function *function, const void *data, size_t size, ray_ref **out)
{
    const struct ray_buf buf = { data, size };
    const struct ray_arg arg = { .value = { .bufs = &buf, .buf_count = 1 } };
    *out = NULL;
    return ray_task_submit(function, NULL, &arg, 1, out);
}

void
wk_on_ref_ready(struct own_ref *ref, uint64_t waiters)
{
    struct wk_waiter *waiter;
    memcpy(&waiter, &waiters, sizeof(waiter));
    (void)ref;
    while (waiter) {
        struct wk_waiter *next = waiter->next;
        if (waiter->task) {
            ASSERT(waiter->task->deps_pending > 0);
            if (--waiter->task->deps_pending == 0) {
                make_ready(waiter->task);
            }
        } else {
            wk_callback_push(waiter->fn, waiter->ctx, false);
            ray_ref_release((ray_ref *)waiter->handle); /* after this lock */
        }
        free(waiter);
        waiter = next;
    }
}

/* ---- pushing ---- */

static int
send_template(struct wk_link *link, struct wk_template *t)
{
    if (t->number >= link->template_capacity) {
        const uint32_t capacity = (t->number + 64) & ~63u;
        uint8_t *grown = realloc(link->template_sent, capacity);
        if (!grown) {
            return st_fail(ST_OUT_OF_MEMORY, "no memory to keep a peer's templates");
        }
        memset(grown + link->template_capacity, 0, capacity - link->template_capacity);
        link->template_sent = grown;
        link->template_capacity = capacity;
    }
    if (link->template_sent[t->number]) {
        return ST_OK;
    }
    struct wk_frame frame;
    TRY(wk_frame_begin(&frame, link, PEER_TEMPLATE, t->frame.size));
    memcpy(frame.body, t->frame.data, t->frame.size);
    wk_frame_end(&frame, false);
    link->template_sent[t->number] = 1;
    return ST_OK;
}

int
wk_task_push(struct wk_task *task, struct wk_link *link, uint64_t epoch)
{
    TRY(wk_link_window(link));
    TRY(send_template(link, task->tmpl));
    const size_t size = sizeof(struct peer_push) + wk_task_args_bytes(task);
    TRY(net_window_post(link->window, &task->push));
    struct wk_frame frame;
    const int status = wk_frame_begin(&frame, link, PEER_PUSH, size);
    if (status != ST_OK) {
        if (net_window_recall(link->window, &task->push)) {
            (void)!net_window_free(link->window, &task->push);
        }
        return status;
    }
    const struct peer_push head = {
        .push_number = task->push.number,
        .word = task->push.word,
        .template_number = task->tmpl->number,
        .epoch = epoch,
        .sequence = task->sequence,
        .task = task->id,
        .attempt = task->attempt,
        .arg_count = task->arg_count,
        .depth = task->depth,
    };
    memcpy(frame.body, &head, sizeof(head));
    (void)wk_task_args_encode(task, frame.body + sizeof(head));
    link->inflight[task->push.word] = task;
    link->inflight_count++;
    task->pushed_on = link;
    task->state = WK_TASK_PUSHED;
    wk_frame_end(&frame, false);
    return ST_OK;
}

/* A worker that can't be reached, with nothing in flight: its lease is of no use to anybody. */
static void
give_up_lease(struct wk_lease *lease, uint64_t now)
{
    const uint64_t id = lease->id;
    wk_lease_on_dead(&wk.leases, lease, 0, now);
    send_return(id, SCHED_RETURN_KILL);
}

/* The task at the front could not be pushed. True: others may be. */
static bool
push_failed(struct wk_task *task, struct wk_lease *lease, const struct wk_link *link, int status,
            uint64_t now)
{
    if (status == ST_LIMIT) { /* no connection ever takes it */
        wk_lease_on_recalled(&wk.leases, lease, 1, false, now);
        const struct wk_failure failure = {
            .status = status,
            .text = st_last()->text,
            .function = task->function->name,
            .node_ip = wk.node_ip,
            .task_id = task->id.b,
        };
        wk_task_fail(task, wk_value_create_failure(&failure), OWN_SELF);
        return true;
    }
    list_push_front(&task->key->ready, &task->link);
    task->key->ready_count++;
    /* Closed to more until it answers; a lease with nothing in flight would be picked again. */
    wk_lease_on_bounced(&wk.leases, lease, 1, now);
    if ((!link || link->broken) && lease->inflight == 0) {
        give_up_lease(lease, now);
        return true;
    }
    return !link || link->broken;
}

/* Pushes what the leases take. */
static void
push_ready(struct wk_key *key, uint64_t now)
{
    while (!list_is_empty(&key->ready)) {
        struct wk_task *task = LIST_ENTRY((&key->ready)->next, struct wk_task, link);
        struct wk_lease *lease =
            wk_lease_pick(&wk.leases, key->lease_key, &task->function->lease_fn, now);
        if (!lease) {
            return;
        }
        struct wk_lease_ref *ref;
        memcpy(&ref, &lease->user, sizeof(ref));
        struct wk_link *link = wk_peer_link(ref->peer);
        list_remove(&task->link);
        key->ready_count--;
        const int status = link ? wk_task_push(task, link, lease->epoch) : ST_CLOSED;
        if (status == ST_OK) {
            task->lease = lease;
        } else if (!push_failed(task, lease, link, status, now)) {
            return;
        }
    }
}

/* A worker that owns what others refer to isn't ended for being idle. That it owns nothing any more
 * is said only when nothing runs, so that a busy one doesn't say both over and over. */
static void
tell_owning(void)
{
    const bool owning = own_is_needed(&wk.own);
    if (owning == wk.told_owning || (!owning && (wk.current || wk.exec_count > 0))) {
        return;
    }
    Ray__Node__Owning message = RAY__NODE__OWNING__INIT;
    message.owning = owning;
    if (wk_node_send(NODE_OWNING, (const ProtobufCMessage *)&message, 0) == ST_OK) {
        wk.told_owning = owning;
    }
}

void
wk_pump(void)
{
    uint64_t now = 0;
    while (!list_is_empty(&wk.dirty_keys)) {
        struct wk_key *key = LIST_ENTRY(list_take_front(&wk.dirty_keys), struct wk_key, dirty_link);
        now = now ? now : os_now_ns();
        push_ready(key, now);
    }
    wk_actors_pump();
    if (!list_is_empty(&wk.leases.dirty) ||
        (wk.leases.deadline_ns != UINT64_MAX && wk.leases.deadline_ns <= os_now_ns())) {
        do { /* what a recall brought back may need a lease, or have emptied one */
            lease_speak(now ? now : os_now_ns());
        } while (!list_is_empty(&wk.leases.dirty));
    }
    if (wk.ready && !wk.is_driver) {
        tell_owning();
    }
}

/* ---- replies ---- */

static struct wk_task *
find_pushed(struct wk_link *link, uint32_t word, uint64_t number)
{
    if (!link->window || word >= WK_WINDOW_WORDS || !link->inflight[word] ||
        link->inflight[word]->push.number != number) {
        return NULL;
    }
    return link->inflight[word];
}

static void
forget_pushed(struct wk_task *task)
{
    struct wk_link *link = task->pushed_on;
    link->inflight[task->push.word] = NULL;
    link->inflight_count--;
    task->pushed_on = NULL;
    task->lease = NULL;
}

/* A return value has come: handed to the machine with the references inside of it. */
static int
take_return(struct own_ref *ref, const struct wk_piece *piece, struct own_frame *frame,
            struct step_outs *outs)
{
    struct ray_value *value = wk_value_of_piece(piece);
    if (!value) {
        return st_fail(ST_PROTOCOL, "a return value can't be read");
    }
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
    }
    const int status = own_return_done(&wk.own, ref, wk_state_of(value), handle, 0, inner,
                                       inner ? value->item_count : 0, outs);
    for (uint32_t i = 0; inner && !frame && i < item_count; i++) {
        struct wk_outs o; /* this process was the executor: its handles came with the reply */
        own_local_drop(&wk.own, inner[i], wk_outs_begin(&o));
        wk_outs_end(&o);
    }
    free(inner);
    return status;
}

/* Every return becomes the same failure. Consumes the caller's count of it. */
static void
fail_returns(struct wk_task *task, struct ray_value *failure)
{
    wk.error_count++;
    for (uint32_t i = 0; i < task->return_count; i++) {
        struct wk_outs o;
        uint64_t handle = 0;
        if (failure) {
            (void)ray_value_retain(failure);
            memcpy(&handle, &failure, sizeof(handle));
        }
        (void)!own_return_done(&wk.own, wk_task_return(task, i), failure ? OWN_ERROR : OWN_GONE,
                               handle, failure ? 0 : ST_OUT_OF_MEMORY, NULL, 0, wk_outs_begin(&o));
        wk_outs_end(&o);
    }
    ray_value_release(failure);
}

static void
finish(struct wk_task *task)
{
    wk.tasks_pending--;
    if (task->actor) {
        wk_actor_call_done(task->actor);
    }
    wk_task_destroy(task);
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

/* Whether a failed reply leads to another try. Then the task is READY again. */
static bool
retry_after_failure(struct wk_task *task, const struct peer_done *done, uint32_t executor)
{
    if (done->status != ST_TASK_FAILED || !(done->flags & PEER_DONE_RETRY_ALLOWED) ||
        !task->retry_exceptions || task->retries_left == 0 || task->actor) {
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
    forget_pushed(task);
    make_ready(task);
    return true;
}

/* Reads the returns of a reply into their references. */
static int
take_returns(struct wk_task *task, const struct peer_done *done, const uint8_t *at,
             const uint8_t *end, uint32_t executor)
{
    struct own_frame *frame = NULL;
    int status = ST_OK;
    if (done->returns_token != 0 && executor != OWN_SELF) {
        frame = own_frame_open(&wk.own, executor, done->returns_token);
        if (!frame) {
            status = st_fail(ST_OUT_OF_MEMORY, "no memory for the references of a reply");
        }
    }
    for (uint32_t i = 0; i < task->return_count; i++) {
        struct wk_piece piece;
        struct wk_outs o;
        struct step_outs *outs = wk_outs_begin(&o);
        struct own_ref *ref = wk_task_return(task, i);
        if (status == ST_OK) {
            status = wk_piece_decode(&at, end, &piece);
        }
        if (status == ST_OK && piece.head.item_count > 0 && !frame && executor != OWN_SELF) {
            status = st_fail(ST_PROTOCOL, "a reply with references but no token");
        }
        if (status == ST_OK) {
            status = take_return(ref, &piece, frame, outs);
        }
        if (status != ST_OK) {
            struct ray_value *failure = wk_failure_of_status(status, st_last()->text);
            uint64_t handle;
            memcpy(&handle, &failure, sizeof(handle));
            wk.error_count++;
            (void)!own_return_done(&wk.own, ref, failure ? OWN_ERROR : OWN_GONE, handle, status,
                                   NULL, 0, outs);
        }
        wk_outs_end(&o);
    }
    if (frame) {
        struct wk_outs o;
        own_frame_close_reply(&wk.own, frame, wk_outs_begin(&o));
        wk_outs_end(&o);
    }
    return status;
}

void
wk_on_done(struct wk_link *link, const uint8_t *body, size_t size)
{
    struct peer_done done;
    if (size < sizeof(done)) {
        return;
    }
    memcpy(&done, body, sizeof(done));
    struct wk_task *task = find_pushed(link, done.word, done.push_number);
    if (!task || net_window_free(link->window, &task->push) != ST_OK) {
        return; /* a reply to nothing: a stale attempt */
    }
    const uint32_t executor = link->peer->proc;
    const uint64_t now = os_now_ns();
    if (task->lease) {
        struct wk_lease *lease = task->lease;
        wk_lease_on_done(&wk.leases, lease, &task->function->lease_fn, now, done.duration_ns);
        if (done.flags & PEER_DONE_LEAVING) {
            wk_lease_retire(&wk.leases, lease, now);
        }
        mark_dirty(task->key);
    }
    if (done.status != 0 && retry_after_failure(task, &done, executor)) {
        return;
    }
    forget_pushed(task);
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
        (void)!take_returns(task, &done, at, body + size, executor);
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
    struct wk_task *task = find_pushed(link, bounced.word, bounced.push_number);
    if (!task || !task->lease || net_window_look(link->window, &task->push, &state) != ST_OK ||
        state != NET_WINDOW_BOUNCED) {
        return;
    }
    struct wk_lease *lease = task->lease;
    (void)!net_window_free(link->window, &task->push);
    take_back(task);
    wk_lease_on_bounced(&wk.leases, lease, 1, os_now_ns());
}

/* ---- recall ---- */

static int
by_number_descending(const void *a, const void *b)
{
    struct wk_task *const *x = a;
    struct wk_task *const *y = b;
    return (*x)->push.number < (*y)->push.number ? 1 : -1;
}

static void
recall(uint64_t lease_id)
{
    struct wk_lease *lease = wk_lease_find(&wk.leases, lease_id);
    if (!lease) {
        return;
    }
    struct wk_lease_ref *ref;
    memcpy(&ref, &lease->user, sizeof(ref));
    struct wk_link *link = ref->peer->out;
    struct wk_task *found[WK_WINDOW_WORDS];
    size_t n = 0;
    for (uint32_t i = 0; link && link->inflight && i < WK_WINDOW_WORDS; i++) {
        if (link->inflight[i] && link->inflight[i]->lease == lease) {
            found[n++] = link->inflight[i];
        }
    }
    qsort(found, n, sizeof(found[0]), by_number_descending);
    uint32_t count = 0;
    for (size_t i = 0; i < n; i++) { /* newest first, so that the oldest ends up in front */
        if (net_window_recall(link->window, &found[i]->push)) {
            (void)!net_window_free(link->window, &found[i]->push);
            take_back(found[i]);
            count++;
        }
    }
    wk_lease_on_recalled(&wk.leases, lease, count, true, os_now_ns());
}

/* ---- deaths ---- */

static struct ray_value *
crash_failure(const struct wk_task *task, const struct wk_peer *peer)
{
    char text[2048];
    (void)snprintf(text, sizeof(text),
                   "The worker died unexpectedly while executing this task (%s, pid %d, attempt "
                   "%u). %s",
                   task->function->name, peer->pid, task->attempt + 1,
                   peer->evidence ? peer->evidence : "");
    const struct wk_failure failure = {
        .status = ST_WORKER_CRASHED,
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
        take_back(task);
        return;
    }
    forget_pushed(task);
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
    make_ready(task);
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
    const uint64_t now = os_now_ns();
    LIST_FOR_SAFE (l, next, &wk.lease_refs) {
        struct wk_lease_ref *ref = LIST_ENTRY(l, struct wk_lease_ref, link);
        if (ref->peer != peer) {
            continue;
        }
        uint32_t unstarted = 0;
        for (uint32_t i = 0; link && link->inflight && i < WK_WINDOW_WORDS; i++) {
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
    for (uint32_t i = 0; i < WK_WINDOW_WORDS; i++) {
        if (link->inflight[i] && !link->inflight[i]->actor) {
            found[n++] = link->inflight[i];
        }
    }
    qsort(found, n, sizeof(found[0]), by_number_descending);
    for (size_t i = 0; i < n; i++) {
        settle_task(found[i], peer);
    }
}

/* ---- the lease conversation ---- */

static void
send_request(const struct sched_lease_request *request)
{
    struct wk_key *key = wk_key_by_number(request->cookie);
    if (!key) {
        return;
    }
    const struct sched_key *what = sched_keys_get(&wk.keys, key->number);
    Ray__Node__LeaseRequest message = RAY__NODE__LEASE_REQUEST__INIT;
    Ray__Node__Resource resources[RES_SET_MAX], *pointers[RES_SET_MAX];
    for (uint32_t i = 0; i < what->resources.count; i++) {
        ray__node__resource__init(&resources[i]);
        const char *name = res_names_text(&wk.names, what->resources.items[i].name);
        memcpy(&resources[i].name, &name, sizeof(name));
        resources[i].amount = what->resources.items[i].amount.v;
        pointers[i] = &resources[i];
    }
    message.key = key->number;
    message.resources = pointers;
    message.n_resources = what->resources.count;
    message.omp_threads = sched_key_omp(what);
    message.count = request->count;
    message.depth = request->depth;
    message.what = key->lease_key->name;
    (void)!wk_node_send(NODE_LEASE_REQUEST, (const ProtobufCMessage *)&message, 0);
}

static void
send_return(uint64_t lease_id, uint32_t flags)
{
    Ray__Node__LeaseReturn message = RAY__NODE__LEASE_RETURN__INIT;
    message.lease_id = lease_id;
    message.worker_is_leaving = (flags & SCHED_RETURN_RETIRE) != 0;
    message.kill_worker = (flags & SCHED_RETURN_KILL) != 0;
    (void)!wk_node_send(NODE_LEASE_RETURN, (const ProtobufCMessage *)&message, 0);
    LIST_FOR_SAFE (l, next, &wk.lease_refs) {
        struct wk_lease_ref *ref = LIST_ENTRY(l, struct wk_lease_ref, link);
        if (ref->id == lease_id) {
            list_remove(&ref->link);
            free(ref);
        }
    }
}

static void
speak_one(const struct step_out *out)
{
    switch ((enum wk_lease_out)out->kind) {
    case WK_OUT_REQUEST:
        send_request(out->msg);
        break;
    case WK_OUT_CANCEL: {
        const struct sched_lease_cancel *cancel = out->msg;
        Ray__Node__LeaseCancel message = RAY__NODE__LEASE_CANCEL__INIT;
        message.key = cancel->cookie;
        message.count = cancel->count;
        (void)!wk_node_send(NODE_LEASE_CANCEL, (const ProtobufCMessage *)&message, 0);
        break;
    }
    case WK_OUT_RETURN: {
        const struct sched_lease_return *back = out->msg;
        send_return(back->lease, back->flags);
        break;
    }
    case WK_OUT_RECALL:
        recall(out->peer);
        break;
    case WK_OUT_TIMER:
    case WK_OUT_FAIL:
    case WK_OUT_WARN:
        break; /* of the step face */
    }
}

/* Lets the lease client say what it has to say. */
static void
lease_speak(uint64_t now)
{
    struct wk_outs o;
    do {
        struct step_outs *outs = wk_outs_begin(&o);
        wk_lease_pump(&wk.leases, now, outs);
        for (uint32_t i = 0; i < outs->count; i++) {
            speak_one(&outs->v[i]);
        }
        const bool more = outs->more;
        outs->count = 0;
        outs->more = false;
        wk_outs_end(&o);
        if (!more) {
            break;
        }
    } while (true);
    if (wk.leases.deadline_ns != UINT64_MAX) {
        (void)!net_loop_arm(wk.loop, &wk.lease_timer, wk.leases.deadline_ns);
    }
    while (!list_is_empty(&wk.dirty_keys)) {
        struct wk_key *key = LIST_ENTRY(list_take_front(&wk.dirty_keys), struct wk_key, dirty_link);
        push_ready(key, now);
    }
}

static void
take_grant(uint64_t cookie, const Ray__Node__Lease *from)
{
    if (wk_lease_find(&wk.leases, from->lease_id)) {
        return; /* said twice: it stays what it is */
    }
    struct own_addr addr = { .node = wk.self.node };
    struct wk_key *key = wk_key_by_number((uint32_t)cookie);
    struct sched_lease_grant grant = {
        .cookie = (uint32_t)cookie,
        .lease = from->lease_id,
        .worker = from->lease_id,
        .epoch = from->epoch,
    };
    for (size_t i = 0; i < from->n_gpu_ids; i++) {
        grant.gpu_mask |= UINT64_C(1) << (from->gpu_ids[i] & 63);
    }
    struct wk_lease_ref *ref = calloc(1, sizeof(*ref));
    struct wk_peer *peer = NULL;
    if (from->worker_id.len == sizeof(addr.worker)) {
        memcpy(addr.worker.b, from->worker_id.data, sizeof(addr.worker));
        peer = wk_peer_get(&addr);
    }
    struct wk_lease *lease =
        ref && peer && key ? wk_lease_on_grant(&wk.leases, &grant, os_now_ns()) : NULL;
    if (!lease) {
        free(ref);
        send_return(from->lease_id, 0);
        return;
    }
    (void)snprintf(peer->socket, sizeof(peer->socket), "%s", from->peer_socket);
    peer->pid = from->pid;
    *ref = (struct wk_lease_ref){ .id = from->lease_id, .lease = lease, .peer = peer };
    list_push_back(&wk.lease_refs, &ref->link);
    memcpy(&lease->user, &ref, sizeof(ref));
    mark_dirty(key);
}

void
wk_lease_granted(const Ray__Node__LeaseGrant *grant)
{
    for (size_t i = 0; i < grant->n_leases; i++) {
        take_grant(grant->key, grant->leases[i]);
    }
}

/* Nothing is left or can be had that could run the key's ready tasks. */
static void
fail_ready(struct wk_key *key, const Ray__Node__LeaseTrouble *trouble)
{
    uint32_t count = 0;
    while (!list_is_empty(&key->ready)) {
        struct wk_task *task = LIST_ENTRY(list_take_front(&key->ready), struct wk_task, link);
        key->ready_count--;
        count++;
        const struct wk_failure failure = {
            .status = trouble->status < 0 ? trouble->status : ST_TASK_UNSCHEDULABLE,
            .text = trouble->text,
            .function = task->function->name,
            .node_ip = wk.node_ip,
            .task_id = task->id.b,
        };
        wk_task_fail(task, wk_value_create_failure(&failure), OWN_SELF);
    }
    wk_lease_on_unready(&wk.leases, key->lease_key, count, os_now_ns());
}

void
wk_lease_trouble(const Ray__Node__LeaseTrouble *trouble)
{
    struct wk_key *key = wk_key_by_number((uint32_t)trouble->key);
    if (!key) {
        return;
    }
    if (trouble->fatal) {
        struct sched_lease_failed failed = { .cookie = key->number,
                                             .count = trouble->count,
                                             .status = trouble->status };
        if (wk_lease_on_failed(&wk.leases, &failed, os_now_ns())) {
            fail_ready(key, trouble);
        }
        mark_dirty(key);
    } else if (!key->warned) {
        key->warned = true;
        (void)fprintf(stderr, "ray: warning: %s\n", trouble->text);
    }
}

/* ---- the end ---- */

/* At shutdown: who waits for a reference that will not come is told so. Tasks that wait belong to
 * nobody else, but for those of actors, which are in their queues. */
static void
cancel_waiters(void *ctx, const struct own_ref *ref)
{
    (void)ctx;
    struct own_ref *writable;
    struct wk_waiter *waiter;
    memcpy(&writable, &ref, sizeof(ref));
    memcpy(&waiter, &ref->waiters, sizeof(waiter));
    writable->waiters = 0;
    while (waiter) {
        struct wk_waiter *next = waiter->next;
        if (!waiter->task) {
            wk_callback_push(waiter->fn, waiter->ctx, true);
            (void)__atomic_sub_fetch(&writable->local, 1, __ATOMIC_ACQ_REL);
        } else if (--waiter->task->deps_pending == 0 && !waiter->task->actor) {
            wk_task_destroy(waiter->task);
        }
        free(waiter);
        waiter = next;
    }
}

static void
end_callbacks(void *ctx, const struct own_ref *ref)
{
    (void)ctx;
    struct own_ref *writable;
    struct wk_waiter *waiter, *kept = NULL;
    memcpy(&writable, &ref, sizeof(ref));
    memcpy(&waiter, &ref->waiters, sizeof(waiter));
    while (waiter) {
        struct wk_waiter *next = waiter->next;
        if (waiter->task) {
            waiter->next = kept;
            kept = waiter;
        } else {
            wk_callback_push(waiter->fn, waiter->ctx, false); /* it looks, and is told */
            free(waiter);
        }
        waiter = next;
    }
    memcpy(&writable->waiters, &kept, sizeof(kept));
}

void
wk_callbacks_end(void)
{
    own_walk(&wk.own, end_callbacks, NULL);
}

void
wk_tasks_destroy(struct list *tasks)
{
    while (!list_is_empty(tasks)) {
        wk_task_destroy(LIST_ENTRY(tasks->next, struct wk_task, link));
    }
}

void
wk_link_tasks_destroy(struct wk_link *link)
{
    for (uint32_t i = 0; link && link->inflight && i < WK_WINDOW_WORDS; i++) {
        if (link->inflight[i]) {
            wk_task_destroy(link->inflight[i]);
            link->inflight[i] = NULL;
        }
    }
    if (link) {
        link->inflight_count = 0;
    }
}

void
wk_tasks_fini(void)
{
    own_walk(&wk.own, cancel_waiters, NULL);
    for (uint32_t i = 0; i < wk.wkey_count; i++) {
        if (wk.wkeys[i]) {
            wk_tasks_destroy(&wk.wkeys[i]->ready);
        }
    }
    while (!list_is_empty(&wk.lease_refs)) {
        free(LIST_ENTRY(list_take_front(&wk.lease_refs), struct wk_lease_ref, link));
    }
}
