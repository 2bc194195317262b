/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Running: the main thread of a worker takes a task, starts it in its window, runs it through the
 * face's callback, and replies.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/os_basic.h"
#include "os/os_thread.h"
#include "worker/wk_exec.h"
#include "worker/wk_group.h"
#include "worker/wk_lineage.h"
#include "worker/wk_priv.h"

/* How long a process that ends waits for a peer that doesn't take what it is owed. */
#define LAST_WORDS_NS UINT64_C(10000000000)

/* ---- replying ---- */

void
wk_exec_complete(struct wk_exec *e, int status)
{
    char text[ST_TEXT_MAX + 512];
    if (e->failure) {
        return;
    }
    if (status == ST_OK) {
        if ((e->tmpl->flags & PEER_TEMPLATE_STREAMING) && !e->returns) {
            (void)!ray_task_return_bytes((ray_task *)e, 0, "", 0); /* its items were all */
        }
        for (int32_t i = 0; i < e->tmpl->num_returns; i++) {
            if (!e->returns || !e->returns[i]) {
                (void)snprintf(text, sizeof(text),
                               "%.300s has num_returns=%d, but gave no return value %d",
                               e->tmpl->function_name, e->tmpl->num_returns, i);
                (void)ray_task_fail((ray_task *)e, ST_TASK_FAILED, false, text, NULL);
                return;
            }
        }
        return;
    }
    if (status == ST_INTERRUPTED && ray_task_is_cancelled((const ray_task *)e)) {
        status = ST_TASK_CANCELLED; /* a wait of the function's that ended for that */
    }
    (void)snprintf(text, sizeof(text), "%.300s returned status %s: %s", e->tmpl->function_name,
                   st_info(status)->name, st_last()->text);
    (void)ray_task_fail((ray_task *)e, status, false, text, NULL);
}

static size_t
returns_bytes(const struct wk_exec *e)
{
    if (e->failure) {
        return wk_value_piece_bytes(e->failure);
    }
    size_t bytes = 0;
    for (int32_t i = 0; i < e->tmpl->num_returns; i++) {
        bytes += wk_value_piece_bytes(e->returns[i]);
    }
    return bytes;
}

/* Ownership first, then the reply: messages about references must be on their way before it. */
static void
close_frame(struct wk_exec *e, struct peer_done *done)
{
    wk_flush_releases(); /* what the program let go isn't kept */
    if (e->frame) {
        for (uint32_t i = 0; i < e->push.arg_count; i++) {
            e->args[i].frame = NULL;
            if (e->views[i]) {
                e->views[i]->frame = NULL;
            }
        }
        struct wk_outs o;
        own_frame_close(&wk.own, e->frame, &done->kept_token, wk_outs_begin(&o));
        wk_outs_end(&o);
        e->frame = NULL;
    }
    if (e->return_ref_count > 0 && !e->failure && e->caller != OWN_SELF) {
        (void)!own_reply_pin(&wk.own, e->caller, e->return_refs, e->return_ref_count,
                             &done->returns_token);
    }
}

/* Returns that no frame takes become a failure, or the caller would wait for ever. */
static void
limit_returns(struct wk_exec *e)
{
    char text[256];
    const size_t bytes = returns_bytes(e);
    if (bytes > NET_FRAME_MAX - NET_FRAME_HEADER - sizeof(struct peer_done)) {
        (void)snprintf(text, sizeof(text), "%zu bytes of %s are over the limit of %d", bytes,
                       e->failure ? "an exception" : "small return values", NET_FRAME_MAX);
        (void)ray_task_fail((ray_task *)e, ST_LIMIT, false, text, NULL);
    }
}

/* How soon the owner must see it. More replies follow soon when more is queued and tasks are short.
 * A worker that has run dry after a long one waits for the next push, also from an owner that is
 * busy with something else. */
static enum net_bell_need
need_of_reply(uint64_t duration_ns)
{
    if (wk.exec_count == 0) {
        const bool dry = wk.begun_count == 0; /* of an actor's calls that run at once, the last */
        return dry && duration_ns >= WK_LONG_NS ? NET_BELL_URGENT : NET_BELL_WAITED;
    }
    return duration_ns >= WK_PROMPT_NS ? NET_BELL_WAITED : NET_BELL_CALM;
}

static void
send_done(struct wk_exec *e, uint64_t duration_ns, bool leaving)
{
    limit_returns(e);
    struct peer_done done = {
        .push_number = e->push.push_number,
        .word = e->push.word,
        .return_count = (uint32_t)(e->failure ? 1 : e->tmpl->num_returns),
        .duration_ns = duration_ns,
        .status = e->failure ? e->failure->status : 0,
        .flags = (e->retry_allowed ? PEER_DONE_RETRY_ALLOWED : 0u) |
                 (leaving ? PEER_DONE_LEAVING : 0u) | (e->args_lost ? PEER_DONE_ARGS_LOST : 0u),
    };
    close_frame(e, &done);
    if (leaving) {
        wk_tell_owning(); /* before the lease comes back, and the raylet asks it to exit */
    }
    if (!e->from || (e->failure && wk.raylet_dead)) {
        return; /* the node is going down: its end is what everybody hears of */
    }
    struct wk_frame frame;
    if (wk_frame_begin(&frame, e->from, PEER_DONE, sizeof(done) + returns_bytes(e)) != ST_OK) {
        return;
    }
    memcpy(frame.body, &done, sizeof(done));
    uint8_t *at = frame.body + sizeof(done);
    if (e->failure) {
        (void)wk_value_encode(e->failure, at);
    } else {
        for (int32_t i = 0; i < e->tmpl->num_returns; i++) {
            at += wk_value_encode(e->returns[i], at);
        }
        e->delivered = true;
        if (e->caller == OWN_SELF) {
            e->return_ref_count = 0; /* the handles go to the reader, who is this process */
        }
    }
    wk_frame_end(&frame, need_of_reply(duration_ns));
}

void
wk_exec_reply(struct wk_exec *e, uint64_t duration_ns)
{
    send_done(e, duration_ns, false);
}

/* ---- running ---- */

static bool
is_finished(void *ctx)
{
    const struct wk_exec *e = ctx;
    return e->deferral != WK_DEFERRED || wk.raylet_dead;
}

static void
execute(struct wk_exec *e, const struct ray_worker_options *options)
{
    const uint32_t flags = STORE_STATUS_BUSY |
                           (e->push.epoch == 0 ? (uint32_t)STORE_STATUS_ACTOR : 0u) |
                           (e->tmpl->flags & PEER_TEMPLATE_RETRIABLE ? STORE_STATUS_RETRIABLE : 0u);
    storec_status_begin(wk.store, &e->push.task, e->push.attempt, flags, e->started_ns,
                        e->tmpl->name_key, e->tmpl->name);
    wk_current = e;
    wk_unlock();
    wk_env_apply();
    const int status = options->execute(options->ctx, (ray_task *)e);
    wk_lock();
    if (e->deferral == WK_DEFER_NOT) {
        wk_exec_complete(e, status);
    }
    while (!is_finished(e)) { /* one at a time: the next begins when this one has ended */
        (void)!wk_wait(is_finished, e, UINT64_MAX);
    }
    wk_current = NULL;
    storec_status_end(wk.store);
}

static void
call_face(struct wk_exec *e, const struct ray_worker_options *options)
{
    e->started_ns = wk_now();
    id_source_init(&e->source, &e->push.task, e->push.attempt);
    /* From here on a cancellation, or the end of its connection, finds it: the lock may be given up
     * for its arguments. */
    wk.current = e;
    if (wk_exec_open_args(e)) {
        execute(e, options);
    }
    wk.current = NULL;
    wk.doomed = false;
    if (e->signalled) {
        os_thread_take_signals(); /* its own are not left for the next task's system calls */
    }
}

static void
run_pushed(struct wk_exec *e, const struct ray_worker_options *options)
{
    const struct net_window_push push = { e->push.word, e->push.push_number };
    const bool leased = e->push.epoch != 0;
    if (e->from->broken) {
        wk_exec_discard(
            e); /* nobody would hear of it: its owner takes it back and sends it again */
        return;
    }
    if (leased &&
        !net_window_run_begin(&wk.page->running, &wk.raylet_page->lease_epoch, e->push.epoch)) {
        wk_exec_bounce(e);
        return;
    }
    if (!net_window_start(&e->from->worker_window, &push)) {
        if (leased) {
            net_window_run_end(&wk.page->running);
        }
        wk_exec_discard(e); /* recalled */
        return;
    }
    call_face(e, options);
    const bool used_up =
        leased && e->tmpl->max_calls > 0 && ++e->tmpl->runs >= (uint64_t)e->tmpl->max_calls;
    if (used_up) {
        wk.leaving = true;
        (void)snprintf(wk.leave_reason, sizeof(wk.leave_reason), "it has run max_calls times");
    }
    send_done(e, wk_now() - e->started_ns, leased && (used_up || wk.leaving));
    if (leased) {
        wk_tell_owning(); /* who finds RUNNING zero knows whether the task has left anything here */
        net_window_run_end(&wk.page->running);
    }
    wk_exec_free(e);
    if (wk.leaving) {
        wk_bounce_all();
    }
}

/* ---- an actor's creation ---- */

static bool
has_come(void *ctx)
{
    const struct own_ref *ref = ctx;
    return ref->state != OWN_PENDING || wk.leave_now || wk.raylet_dead;
}

/* The value that the owner of a lost argument tells of, when it has it again; NULL: it stays lost.
 */
static struct ray_value *
wait_for_arg(struct own_ref *ref, const struct ray_worker_options *options)
{
    struct ray_value *view = NULL;
    int status;
    do {
        wk_ref_want(ref);
        wk_unlock();
        wk_call_back(options->before_wait);
        wk_lock();
        (void)!wk_wait(has_come, ref, UINT64_MAX);
        wk_unlock();
        wk_call_back(options->after_wait);
        wk_lock();
        if (ref->state == OWN_PENDING) {
            return NULL; /* the process is to leave */
        }
        if (ref->state == OWN_GONE) {
            return wk_failure_of_ref(ref, ref->status);
        }
        struct ray_value *value = ray_value_retain(wk_ref_value(ref));
        status = wk_value_open(value, ref, &view);
        if (status == ST_OBJECT_FREED) {
            wk_ref_lost(ref, value);
        }
        ray_value_release(value);
    } while (status == ST_OBJECT_FREED);
    return view;
}

/* The creation lies with ray-gcs, which knows nothing of arguments: of one that was lost from the
 * store since, or before the actor starts again, its owner is asked, as any borrower would. */
static void
find_lost_args(struct wk_exec *e, const struct ray_worker_options *options)
{
    for (uint32_t i = 0; e->arg_refs && i < e->push.arg_count && !wk.leave_now; i++) {
        if (e->args[i].kind != WK_VALUE_HINT || ID_IS_NIL(e->arg_refs[i].object) ||
            storec_is_there(wk.store, &e->args[i].hint)) {
            continue;
        }
        if (!e->frame) {
            e->frame = own_frame_open(&wk.own, e->caller, 0);
        }
        struct own_ref *ref = e->frame ? own_frame_add(&wk.own, e->frame, &e->arg_refs[i]) : NULL;
        if (ref) {
            e->views[i] = wait_for_arg(ref, options);
        }
    }
}

static void
run_creation(struct wk_exec *e, const struct ray_worker_options *options)
{
    find_lost_args(e, options);
    if (wk.groups_to_be && wk.groups_to_be->event_loop && !options->serve) {
        (void)ray_task_fail((ray_task *)e, ST_NOT_SUPPORTED, false,
                            "this program's workers run no event loops", NULL);
    } else {
        call_face(e, options);
    }
    Ray__Node__ActorConstructed message = RAY__NODE__ACTOR_CONSTRUCTED__INIT;
    struct id_actor actor = id_task_actor(&e->push.task);
    struct peer_done done = { 0 };
    uint8_t *piece = NULL;
    message.actor_id.data = actor.b;
    message.actor_id.len = sizeof(actor.b);
    message.incarnation = e->push.sequence;
    if (e->failure) {
        message.status = ST_ACTOR_INIT_FAILED;
        piece = malloc(wk_value_piece_bytes(e->failure));
        if (piece) {
            message.failure.data = piece;
            message.failure.len = wk_value_encode(e->failure, piece);
        }
        wk.leave_now = true; /* calls that came already are never begun */
        (void)snprintf(wk.leave_reason, sizeof(wk.leave_reason), "its constructor failed");
    }
    if (e->frame) {
        own_frame_reply_elsewhere(e->frame);
    }
    close_frame(e, &done);
    message.kept_token = done.kept_token;
    (void)!wk_node_send(NODE_ACTOR_CONSTRUCTED, (const ProtobufCMessage *)&message, 0);
    free(piece);
    if (wk.groups_to_be && !e->failure) {
        wk_groups_begin(wk.groups_to_be);
    }
    wk_exec_free(e);
}

/* Whose creation it is: `e` and its template, not in any queue yet. False: it can't be read. */
static bool
read_spec(const uint8_t *spec, size_t size, struct wk_spec *head, struct wk_exec **out)
{
    struct wk_peer_template *t = NULL;
    if (size < sizeof(*head)) {
        return false;
    }
    memcpy(head, spec, sizeof(*head));
    const uint8_t *at = spec + sizeof(*head), *end = spec + size;
    struct wk_peer *creator = wk_peer_get(&head->creator);
    if (!creator || head->template_size > (size_t)(end - at) ||
        head->ref_count >
            ((size_t)(end - at) - head->template_size) / sizeof((*out)->arg_refs[0]) ||
        wk_peer_template_decode(at, head->template_size, &t) != ST_OK) {
        return false;
    }
    const uint8_t *refs = at + head->template_size;
    const size_t refs_size = head->ref_count * sizeof((*out)->arg_refs[0]);
    struct wk_exec *e = NULL;
    if (wk_groups_make(t, &wk.groups_to_be) != ST_OK ||
        wk_exec_make(refs + refs_size, (size_t)(end - refs) - refs_size, creator->proc, &e) !=
            ST_OK) {
        wk_peer_template_free(t);
        return false;
    }
    /* A C constructor is a function like any other, and gives no value here. */
    t->kind = RAY_CLASS;
    t->num_returns = 0;
    e->tmpl = t;
    e->owns_template = true;
    t->owners = 1;
    e->caller_id = head->creator.worker;
    if (head->ref_count > 0 && head->ref_count == e->push.arg_count) {
        e->arg_refs = malloc(refs_size); /* without memory, what is lost stays so */
        if (e->arg_refs) {
            memcpy(e->arg_refs, refs, refs_size);
        }
    }
    *out = e;
    return true;
}

/* The raylet makes this worker an actor. */
void
wk_on_become_actor(const Ray__Node__BecomeActor *msg)
{
    struct wk_spec head;
    struct wk_exec *e;
    if (msg->actor_id.len != sizeof(wk.self_actor_id.b) ||
        !read_spec(msg->spec.data, msg->spec.len, &head, &e)) {
        wk.leaving = wk.leave_now = true;
        (void)snprintf(wk.leave_reason, sizeof(wk.leave_reason), "its creation can't be read");
        wk_changed();
        return;
    }
    e->push.sequence = msg->incarnation;
    memcpy(wk.self_actor_id.b, msg->actor_id.data, sizeof(wk.self_actor_id.b));
    wk.self_actor_incarnation = msg->incarnation;
    wk.self_actor_owner = head.creator;
    free(wk.self_actor_resources);
    wk.self_actor_resources = strdup(e->tmpl->resources);
    wk.self_actor_detached = msg->detached;
    (void)snprintf(wk.self_actor_name, sizeof(wk.self_actor_name), "%s", msg->name);
    (void)snprintf(wk.self_actor_class, sizeof(wk.self_actor_class), "%s", e->tmpl->function_name);
    list_push_front(&wk.exec_queue, &e->link);
    wk.exec_count++;
    wk_changed();
}

/* ---- the main thread ---- */

/* Calls may overtake the raylet's word that this worker is their actor: they wait for the
 * constructor, which then goes to the front. */
static bool
can_run(void)
{
    struct list *first = list_first(&wk.exec_queue);
    const struct wk_exec *e = first ? LIST_ENTRY(first, struct wk_exec, link) : NULL;
    return e && (!e->from || e->push.epoch != 0 || !ID_IS_NIL(wk.self_actor_id));
}

static bool
has_work(void *ctx)
{
    (void)ctx;
    return can_run() || wk.leave_now || wk.leaving || wk.raylet_dead;
}

static void
say_leaving(void)
{
    Ray__Node__Leaving message = RAY__NODE__LEAVING__INIT;
    const char *reason = wk.leave_reason;
    memcpy(&message.reason, &reason, sizeof(reason));
    message.intended = true;
    (void)!wk_node_send(NODE_LEAVING, (const ProtobufCMessage *)&message, 0);
}

/* An owner's objects outlive its last task: the process stays as long as somebody needs them. The
 * raylet knows (wk_tell_owning), shows it as draining, and bounds how many such there are. */
static bool
needed_no_more(void *ctx)
{
    (void)ctx;
    return wk.leave_now || wk.raylet_dead || !own_is_needed(&wk.own);
}

RAY_API int
ray_worker_run(const struct ray_worker_options *options)
{
    TRY(wk_boot_worker());
    TRY(wk_enter());
    wk.worker_options = options;
    while (!wk.leave_now && !wk.raylet_dead && (!wk.leaving || can_run())) {
        if (wk.groups) {
            wk_groups_serve();
            break;
        }
        if (!can_run()) {
            wk_unlock();
            if (options->before_wait) {
                options->before_wait(options->ctx);
            }
            wk_lock();
            (void)!wk_wait(has_work, NULL, UINT64_MAX);
            wk_unlock();
            if (options->after_wait) {
                options->after_wait(options->ctx);
            }
            wk_lock();
            continue;
        }
        struct wk_exec *e = LIST_ENTRY(list_take_front(&wk.exec_queue), struct wk_exec, link);
        wk.exec_count--;
        if (!e->from) {
            run_creation(e, options);
        } else {
            run_pushed(e, options);
        }
    }
    say_leaving(); /* first: however this ends, the reason is known */
    wk_actors_leave();
    while (!needed_no_more(NULL)) {
        (void)!wk_wait(needed_no_more, NULL, UINT64_MAX);
    }
    /* Replies may wait for room, or for their owner to connect again. */
    const uint64_t deadline = os_now_ns() + LAST_WORDS_NS;
    while (!wk_peers_are_served(NULL) && os_now_ns() < deadline) {
        (void)!wk_wait(wk_peers_are_served, NULL, deadline);
    }
    wk_peer_unlisten();
    const int code = wk.raylet_dead ? 1 : 0;
    wk_unlock();
    return code;
}

RAY_API int
ray_worker_exit_soon(void)
{
    TRY(wk_enter());
    if (wk_current && wk_current->group) {
        wk_current->leaves = true; /* others may run on: once this one is answered */
    } else {
        wk.leave_now = true;
    }
    (void)snprintf(wk.leave_reason, sizeof(wk.leave_reason), "exit_actor() is called.");
    wk_leave_changed();
    wk_unlock();
    return RAY_OK;
}
