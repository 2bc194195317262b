/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Executing: what a worker does with tasks that are pushed to it.
 *
 * Whichever thread leads decodes a push and queues it; the main thread takes it, starts it in its
 * window (unless it was recalled), runs it through the face's callback and replies. While the main
 * thread's task waits for something, unstarted tasks of leases are sent back.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "os/os_basic.h"
#include "worker/wk_priv.h"

_Thread_local struct wk_exec *wk_current;

/* ---- templates ---- */

static void
free_template(struct wk_peer_template *t)
{
    if (t) {
        ray_value_release(t->definition);
        free(t->text);
        free(t);
    }
}

void
wk_link_templates_free(struct wk_link *link)
{
    for (uint32_t i = 0; i < link->template_count; i++) {
        free_template(link->templates[i]);
    }
    free(link->templates);
    link->templates = NULL;
    link->template_count = 0;
}

enum { TEXTS = 5 };

/* The texts of a template, each with its NUL, and the metadata. */
static int
take_texts(struct wk_peer_template *t, const struct peer_template *head, const uint8_t **at,
           const uint8_t *end)
{
    const uint32_t sizes[TEXTS] = { head->name_size, head->function_name_size, head->method_size,
                                    head->resources_size, head->metadata_size };
    size_t total = 0, spaced = 0;
    for (int i = 0; i < TEXTS; i++) {
        if (sizes[i] > NET_FRAME_MAX) {
            return st_fail(ST_PROTOCOL, "a template's text of %u bytes", sizes[i]);
        }
        total += sizes[i];
        spaced += wk_pad8(sizes[i]);
    }
    if (spaced > (size_t)(end - *at)) {
        return st_fail(ST_PROTOCOL, "a template's texts are cut off");
    }
    t->text = malloc(total + 1);
    if (!t->text) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for a template");
    }
    char *parts[TEXTS], *to = t->text;
    for (int i = 0; i < TEXTS; i++) {
        parts[i] = to;
        memcpy(to, *at, sizes[i]);
        if (i < TEXTS - 1 && (sizes[i] == 0 || to[sizes[i] - 1] != '\0')) {
            return st_fail(ST_PROTOCOL, "a template's text has no end");
        }
        to += sizes[i];
        *at += wk_pad8(sizes[i]);
    }
    t->name = parts[0];
    t->function_name = parts[1];
    t->method = parts[2];
    t->resources = parts[3];
    t->metadata = (uint8_t *)parts[4];
    t->metadata_size = sizes[4];
    return ST_OK;
}

static int
decode_template(const uint8_t *body, size_t size, struct wk_peer_template **out)
{
    struct peer_template head;
    *out = NULL;
    if (size < wk_pad8(sizeof(head))) {
        return st_fail(ST_PROTOCOL, "a template of %zu bytes", size);
    }
    memcpy(&head, body, sizeof(head));
    struct wk_peer_template *t = calloc(1, sizeof(*t));
    if (!t) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for a template");
    }
    t->number = head.number;
    t->kind = head.kind;
    t->num_returns = head.num_returns;
    t->max_calls = head.max_calls;
    t->flags = head.flags;
    memcpy(t->hash, head.hash, sizeof(t->hash));
    const uint8_t *at = body + wk_pad8(sizeof(head)), *end = body + size;
    int status = take_texts(t, &head, &at, end);
    if (status == ST_OK && (head.num_returns < 0 || head.num_returns > OWN_ITEMS_MAX)) {
        status = st_fail(ST_PROTOCOL, "a template with %d returns", head.num_returns);
    }
    if (status == ST_OK && (head.flags & PEER_TEMPLATE_HAS_DEFINITION)) {
        struct wk_piece piece;
        status = wk_piece_decode(&at, end, &piece);
        if (status == ST_OK) {
            t->definition = wk_value_of_piece(&piece);
            status = t->definition && t->definition->kind == WK_VALUE_INLINE
                         ? ST_OK
                         : st_fail(ST_PROTOCOL, "a definition can't be read");
        }
    }
    if (status != ST_OK) {
        free_template(t);
        return status;
    }
    *out = t;
    return ST_OK;
}

int
wk_on_template(struct wk_link *link, const uint8_t *body, size_t size)
{
    struct wk_peer_template *t;
    TRY(decode_template(body, size, &t));
    if (t->number > 1u << 24) {
        const uint32_t number = t->number;
        free_template(t);
        return st_fail(ST_PROTOCOL, "template number %u", number);
    }
    if (t->number >= link->template_count) {
        const uint32_t count = (t->number + 64) & ~63u;
        struct wk_peer_template **grown = realloc(link->templates, count * sizeof(*grown));
        if (!grown) {
            free_template(t);
            return st_fail(ST_OUT_OF_MEMORY, "no memory for a peer's templates");
        }
        memset(grown + link->template_count, 0, (count - link->template_count) * sizeof(*grown));
        link->templates = grown;
        link->template_count = count;
    }
    if (link->templates[t->number]) {
        free_template(t); /* said twice: the first is in use */
        return ST_OK;
    }
    t->name_key = id_hash(t->name, strlen(t->name));
    link->templates[t->number] = t;
    return ST_OK;
}

/* ---- receiving a push ---- */

static void
free_exec(struct wk_exec *e)
{
    for (uint32_t i = 0; e->block && i < e->push.arg_count; i++) {
        ray_value_release(e->views[i]);
        if (e->args[i].base) {
            e->args[i].frame = NULL;
            ray_value_release(&e->args[i]);
        }
    }
    for (int32_t i = 0; e->tmpl && e->returns && i < e->tmpl->num_returns; i++) {
        ray_value_release(e->returns[i]);
    }
    for (uint32_t i = 0; i < e->return_ref_count; i++) {
        struct wk_outs o;
        own_local_drop(&wk.own, e->return_refs[i], wk_outs_begin(&o));
        wk_outs_end(&o);
    }
    free(e->return_refs);
    free(e->returns);
    ray_value_release(e->failure);
    ray_value_release(e->block);
    if (e->is_creation) {
        free_template(e->tmpl);
    }
    free(e);
}

/* The references inside an argument stand under the task's frame. */
static int
cover_items(struct wk_exec *e, const struct ray_value *arg, bool caller_borrows)
{
    if (e->caller == OWN_SELF) {
        return ST_OK; /* an actor calls itself: the call's own counts are in this process */
    }
    if (!e->frame) {
        e->frame = own_frame_open(&wk.own, e->caller, 0);
    }
    for (uint32_t i = 0; i < arg->item_count; i++) {
        struct own_ref *ref = e->frame ? own_frame_add(&wk.own, e->frame, &arg->items[i]) : NULL;
        if (!ref) {
            return st_fail(ST_OUT_OF_MEMORY, "no memory for the references of an argument");
        }
        if (caller_borrows) {
            struct wk_outs o;
            own_register(&wk.own, ref, wk_outs_begin(&o));
            wk_outs_end(&o);
        }
    }
    return ST_OK;
}

/* Arguments are read in place: the frame's bytes are copied once, into `block`. The values of hints
 * and of those that hold references are embedded in the exec record. */
static int
decode_args(struct wk_exec *e, size_t offset)
{
    const uint8_t *at = (const uint8_t *)e->block->data + offset;
    const uint8_t *end = (const uint8_t *)e->block->data + e->block->size;
    for (uint32_t i = 0; i < e->push.arg_count; i++) {
        struct wk_piece piece;
        TRY(wk_piece_decode(&at, end, &piece));
        if (!wk_value_embed(&piece, e->block, &e->args[i])) {
            return st_fail(ST_PROTOCOL, "an argument can't be read");
        }
        if (piece.head.item_count == 0) {
            continue;
        }
        TRY(cover_items(e, &e->args[i], (piece.head.flags & PEER_PIECE_BORROWED) != 0));
        e->args[i].frame = e->frame;
    }
    return ST_OK;
}

/* The task doesn't run here; no reply will tell what it kept. */
static void
discard_exec(struct wk_exec *e)
{
    if (e->frame) {
        struct wk_outs o;
        own_frame_abandon(&wk.own, e->frame, wk_outs_begin(&o));
        wk_outs_end(&o);
        e->frame = NULL;
    }
    free_exec(e);
}

/* Makes the record of a push whose body is `body`. `tmpl` is borrowed. */
static int
make_exec(const uint8_t *body, size_t size, uint32_t caller, struct wk_exec **out)
{
    struct peer_push push;
    *out = NULL;
    if (size < sizeof(push)) {
        return st_fail(ST_PROTOCOL, "a push of %zu bytes", size);
    }
    memcpy(&push, body, sizeof(push));
    if (push.arg_count > size / sizeof(struct peer_piece)) {
        return st_fail(ST_PROTOCOL, "a push of %zu bytes with %u arguments", size, push.arg_count);
    }
    /* The arguments' records lie in the block, ahead of the body: the program may keep an argument
     * longer than its task. */
    const size_t args = push.arg_count * sizeof(struct ray_value);
    struct wk_exec *e = calloc(1, sizeof(*e) + push.arg_count * sizeof(void *));
    uint8_t *data = NULL;
    if (!e) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for a task");
    }
    e->block = wk_value_create(WK_VALUE_INLINE, args + size, 0, &data, NULL);
    e->push = push;
    e->caller = caller;
    e->args = (struct ray_value *)(void *)data;
    e->views = (struct ray_value **)(void *)(e + 1);
    list_init(&e->link);
    int status = ST_OK;
    if (!e->block) {
        status = st_fail(ST_OUT_OF_MEMORY, "no memory for a task");
    } else {
        memset(data, 0, args);
        memcpy(data + args, body, size);
        status = decode_args(e, args + sizeof(push));
    }
    if (status != ST_OK) {
        discard_exec(e);
        return status;
    }
    *out = e;
    return ST_OK;
}

/* Sends a task of a lease back unrun, unless its owner has taken it back already. */
static void
bounce(struct wk_exec *e)
{
    const struct net_window_push push = { e->push.word, e->push.push_number };
    struct wk_link *link = e->from;
    struct wk_frame frame;
    if (link && net_window_bounce(&link->worker_window, &push) &&
        wk_frame_begin(&frame, link, PEER_BOUNCED, sizeof(struct peer_bounced)) == ST_OK) {
        const struct peer_bounced body = { .push_number = push.number, .word = push.word };
        memcpy(frame.body, &body, sizeof(body));
        wk_frame_end(&frame, true);
    }
    discard_exec(e);
}

int
wk_on_push(struct wk_link *link, const uint8_t *body, size_t size)
{
    struct wk_exec *e;
    TRY(make_exec(body, size, link->peer->proc, &e));
    if (e->push.template_number >= link->template_count ||
        !link->templates[e->push.template_number] || !link->window_memory) {
        discard_exec(e);
        return st_fail(ST_PROTOCOL, "a push without its template or window");
    }
    e->from = link;
    e->caller_id = link->peer->addr.worker;
    e->tmpl = link->templates[e->push.template_number];
    if (e->push.epoch != 0 && (wk.bouncing || wk.leaving)) {
        bounce(e);
        return ST_OK;
    }
    list_push_back(&wk.exec_queue, &e->link);
    wk.exec_count++;
    wk_changed();
    return ST_OK;
}

void
wk_bounce_all(void)
{
    LIST_FOR_SAFE (l, next, &wk.exec_queue) {
        struct wk_exec *e = LIST_ENTRY(l, struct wk_exec, link);
        if (e->push.epoch != 0) {
            list_remove(&e->link);
            wk.exec_count--;
            bounce(e);
        }
    }
}

void
wk_exec_link_gone(struct wk_link *link)
{
    LIST_FOR_SAFE (l, next, &wk.exec_queue) {
        struct wk_exec *e = LIST_ENTRY(l, struct wk_exec, link);
        if (e->from == link) {
            list_remove(&e->link);
            wk.exec_count--;
            discard_exec(e);
        }
    }
    if (wk.current && wk.current->from == link) {
        /* The task runs on; nobody hears of it. Its template must outlive it. */
        wk.current->from = NULL;
        wk.current->is_creation = true;
        link->templates[wk.current->push.template_number] = NULL;
    }
}

/* ---- what the face asks ---- */

struct id_source *
wk_id_source(void)
{
    return wk_current ? &wk_current->source : wk.current ? &wk.current->source : &wk.source;
}

uint32_t
wk_depth(void)
{
    const struct wk_exec *e = wk_current ? wk_current : wk.current;
    return e ? e->push.depth + 1 : 0;
}

static struct wk_exec *
exec_of(const ray_task *task)
{
    struct wk_exec *e;
    memcpy(&e, &task, sizeof(e));
    return e;
}

RAY_API enum ray_task_kind
ray_task_get_kind(const ray_task *task)
{
    switch (exec_of(task)->tmpl->kind) {
    case RAY_CLASS:
        return RAY_TASK_ACTOR_CREATION;
    case RAY_METHOD:
        return RAY_TASK_ACTOR_METHOD;
    default:
        return exec_of(task)->push.epoch == 0 ? RAY_TASK_ACTOR_METHOD : RAY_TASK_NORMAL;
    }
}

RAY_API const uint8_t *
ray_task_id(const ray_task *task)
{
    return exec_of(task)->push.task.b;
}

RAY_API const char *
ray_task_name(const ray_task *task)
{
    return exec_of(task)->tmpl->name;
}

RAY_API const char *
ray_task_function_name(const ray_task *task)
{
    return exec_of(task)->tmpl->function_name;
}

RAY_API const char *
ray_task_method(const ray_task *task)
{
    return exec_of(task)->tmpl->method;
}

RAY_API const uint8_t *
ray_task_function_hash(const ray_task *task)
{
    return exec_of(task)->tmpl->hash;
}

RAY_API ray_value *
ray_task_definition(ray_task *task)
{
    return exec_of(task)->tmpl->definition;
}

RAY_API const void *
ray_task_metadata(const ray_task *task, size_t *size)
{
    *size = exec_of(task)->tmpl->metadata_size;
    return exec_of(task)->tmpl->metadata;
}

RAY_API int32_t
ray_task_num_returns(const ray_task *task)
{
    return exec_of(task)->tmpl->num_returns;
}

RAY_API uint32_t
ray_task_attempt(const ray_task *task)
{
    return exec_of(task)->push.attempt;
}

RAY_API size_t
ray_task_arg_count(const ray_task *task)
{
    return exec_of(task)->push.arg_count;
}

RAY_API ray_value *
ray_task_arg(ray_task *task, size_t index)
{
    struct wk_exec *e = exec_of(task);
    if (index >= e->push.arg_count) {
        return NULL;
    }
    if (e->args[index].kind != WK_VALUE_HINT) {
        return &e->args[index];
    }
    if (!e->views[index]) {
        struct ray_value *view = NULL;
        wk_lock();
        int status = wk_value_open(&e->args[index], NULL, &view);
        if (status != ST_OK) {
            view = wk_failure_of_status(ST_OBJECT_LOST, "an argument is no longer in the store");
        } else {
            view->frame = e->frame;
        }
        wk_unlock();
        e->views[index] = view;
    }
    return e->views[index];
}

RAY_API int64_t
ray_task_arg_copy(ray_task *task, size_t index, void *out, size_t size)
{
    const struct ray_value *value = ray_task_arg(task, index);
    if (!value) {
        return st_fail(ST_INVALID_ARGUMENT, "argument %zu of a task with %u", index,
                       exec_of(task)->push.arg_count);
    }
    if (value->status != ST_OK) {
        return st_fail(value->status, "argument %zu is a failure", index);
    }
    const size_t n = value->size < size ? value->size : size;
    memcpy(out, value->data, n);
    return (int64_t)n;
}

/* Keeps the references inside a return until the reply has pinned them. */
static int
hold_return_refs(struct wk_exec *e, const struct ray_payload *payload)
{
    const uint32_t need = e->return_ref_count + (uint32_t)payload->ref_count;
    if (need > e->return_ref_capacity) {
        struct own_ref **grown = realloc(e->return_refs, need * sizeof(*grown));
        if (!grown) {
            return st_fail(ST_OUT_OF_MEMORY, "no memory for %zu references", payload->ref_count);
        }
        e->return_refs = grown;
        e->return_ref_capacity = need;
    }
    for (size_t i = 0; i < payload->ref_count; i++) {
        struct own_ref *ref = (struct own_ref *)payload->refs[i];
        own_local_add(ref);
        e->return_refs[e->return_ref_count++] = ref;
    }
    return ST_OK;
}

RAY_API int
ray_task_return(ray_task *task, int32_t index, const struct ray_payload *payload)
{
    struct wk_exec *e = exec_of(task);
    if (index < 0 || index >= e->tmpl->num_returns || (e->returns && e->returns[index])) {
        return st_fail(ST_INVALID_ARGUMENT, "return value %d of a task with %d", index,
                       e->tmpl->num_returns);
    }
    wk_lock();
    if (!e->returns) {
        e->returns = calloc((size_t)e->tmpl->num_returns, sizeof(*e->returns));
    }
    int status = e->returns ? wk_refs_check(payload->refs, payload->ref_count, false)
                            : st_fail(ST_OUT_OF_MEMORY, "no memory for returns");
    if (status == ST_OK) {
        status = hold_return_refs(e, payload);
    }
    if (status == ST_OK) {
        const struct id_object id = id_object_of_return(&e->push.task, (uint32_t)index + 1);
        status = wk_value_of_payload(payload, &id, &e->caller_id, &e->returns[index]);
    }
    wk_unlock();
    return status;
}

RAY_API int
ray_task_return_bytes(ray_task *task, int32_t index, const void *data, size_t size)
{
    const struct ray_buf buf = { data, size };
    const struct ray_payload payload = { .bufs = &buf, .buf_count = 1 };
    return ray_task_return(task, index, &payload);
}

RAY_API int
ray_task_fail(ray_task *task, int status, bool retry, const char *text,
              const struct ray_payload *payload)
{
    struct wk_exec *e = exec_of(task);
    struct str bytes;
    str_init(&bytes, os_mem_system());
    for (size_t i = 0; payload && i < payload->buf_count; i++) {
        str_append(&bytes, payload->bufs[i].data, payload->bufs[i].size);
    }
    const struct id_actor actor = id_task_actor(&e->push.task);
    const struct wk_failure failure = {
        .status = status < 0 ? status : ST_TASK_FAILED,
        .pid = (int32_t)getpid(),
        .format = payload ? payload->format : 0,
        .task_id = e->push.task.b,
        .actor_id = actor.b,
        .text = text,
        .function = e->tmpl->name,
        .node_ip = wk.node_ip,
        .data = bytes.data,
        .data_size = bytes.size,
    };
    ray_value_release(e->failure);
    e->failure = wk_value_create_failure(&failure);
    e->retry_allowed = retry;
    str_fini(&bytes);
    return e->failure ? RAY_OK : st_fail(ST_OUT_OF_MEMORY, "no memory for a failure");
}

RAY_API void
ray_task_set_state(ray_task *task, void *state)
{
    (void)task;
    wk.actor_state = state;
}

RAY_API void *
ray_task_state(ray_task *task)
{
    (void)task;
    return wk.actor_state;
}

/* ---- replying ---- */

/* A task that returned without giving all its values has failed. */
static void
complete_returns(struct wk_exec *e, int status)
{
    char text[ST_TEXT_MAX + 512];
    if (e->failure) {
        return;
    }
    if (status == ST_OK) {
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
        .flags =
            (e->retry_allowed ? PEER_DONE_RETRY_ALLOWED : 0u) | (leaving ? PEER_DONE_LEAVING : 0u),
    };
    close_frame(e, &done);
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
        if (e->caller == OWN_SELF) {
            e->return_ref_count = 0; /* the handles go to the reader, who is this process */
        }
    }
    wk_frame_end(&frame, false);
}

/* ---- running ---- */

static void
call_face(struct wk_exec *e, const struct ray_worker_options *options)
{
    const uint32_t flags = STORE_STATUS_BUSY |
                           (e->push.epoch == 0 ? (uint32_t)STORE_STATUS_ACTOR : 0u) |
                           (e->tmpl->flags & PEER_TEMPLATE_RETRIABLE ? STORE_STATUS_RETRIABLE : 0u);
    e->started_ns = os_now_ns();
    storec_status_begin(wk.store, &e->push.task, e->push.attempt, flags, e->started_ns,
                        e->tmpl->name_key, e->tmpl->name);
    id_source_init(&e->source, &e->push.task, e->push.attempt);
    wk.current = wk_current = e;
    wk_unlock();
    wk_env_apply();
    const int status = options->execute(options->ctx, (ray_task *)e);
    complete_returns(e, status);
    wk_lock();
    wk.current = wk_current = NULL;
    storec_status_end(wk.store);
}

static void
run_pushed(struct wk_exec *e, const struct ray_worker_options *options)
{
    const struct net_window_push push = { e->push.word, e->push.push_number };
    const bool leased = e->push.epoch != 0;
    if (e->from->broken) {
        discard_exec(e); /* nobody would hear of it: its owner takes it back and sends it again */
        return;
    }
    if (leased &&
        !net_window_run_begin(&wk.page->running, &wk.raylet_page->lease_epoch, e->push.epoch)) {
        bounce(e);
        return;
    }
    if (!net_window_start(&e->from->worker_window, &push)) {
        if (leased) {
            net_window_run_end(&wk.page->running);
        }
        discard_exec(e); /* recalled */
        return;
    }
    call_face(e, options);
    const bool used_up =
        leased && e->tmpl->max_calls > 0 && ++e->tmpl->runs >= (uint64_t)e->tmpl->max_calls;
    if (used_up) {
        wk.leaving = true;
    }
    send_done(e, os_now_ns() - e->started_ns, leased && (used_up || wk.leaving));
    if (leased) {
        net_window_run_end(&wk.page->running);
    }
    free_exec(e);
    if (wk.leaving) {
        wk_bounce_all();
    }
}

static void
run_creation(struct wk_exec *e, const struct ray_worker_options *options)
{
    call_face(e, options);
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
    free_exec(e);
}

/* The raylet makes this worker an actor. */
void
wk_on_become_actor(const Ray__Node__BecomeActor *msg)
{
    struct wk_spec head;
    struct wk_exec *e = NULL;
    struct wk_peer_template *t = NULL;
    const size_t size = msg->spec.len;
    if (size >= sizeof(head) && msg->actor_id.len == sizeof(wk.self_actor_id.b)) {
        memcpy(&head, msg->spec.data, sizeof(head));
        const uint8_t *at = msg->spec.data + sizeof(head);
        struct wk_peer *creator = wk_peer_get(&head.creator);
        if (creator && head.template_size <= size - sizeof(head) &&
            decode_template(at, head.template_size, &t) == ST_OK &&
            make_exec(at + head.template_size, size - sizeof(head) - head.template_size,
                      creator->proc, &e) == ST_OK) {
            /* A C constructor is a function like any other, and gives no value here. */
            t->kind = RAY_CLASS;
            t->num_returns = 0;
            e->tmpl = t;
            e->is_creation = true;
            e->caller_id = head.creator.worker;
            e->push.sequence = msg->incarnation;
            memcpy(wk.self_actor_id.b, msg->actor_id.data, sizeof(wk.self_actor_id.b));
            wk.self_actor_owner = head.creator;
            free(wk.self_actor_resources);
            wk.self_actor_resources = strdup(t->resources);
            (void)snprintf(wk.self_actor_class, sizeof(wk.self_actor_class), "%s",
                           t->function_name);
            list_push_front(&wk.exec_queue, &e->link);
            wk.exec_count++;
            wk_changed();
            return;
        }
    }
    free_template(t);
    wk.leaving = wk.leave_now = true;
    (void)snprintf(wk.leave_reason, sizeof(wk.leave_reason), "its creation can't be read");
    wk_changed();
}

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

/* An owner's objects outlive its last task: the process stays as long as somebody needs them. */
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
    while (!wk.leave_now && !wk.raylet_dead && (!wk.leaving || can_run())) {
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
    while (!needed_no_more(NULL) && !wk.raylet_dead) {
        (void)!wk_wait(needed_no_more, NULL, UINT64_MAX);
    }
    say_leaving();
    const int code = wk.raylet_dead ? 1 : 0;
    wk_unlock();
    return code;
}

RAY_API int
ray_worker_exit_soon(void)
{
    TRY(wk_enter());
    wk.leave_now = true;
    (void)snprintf(wk.leave_reason, sizeof(wk.leave_reason), "exit_actor() is called.");
    wk_unlock();
    return RAY_OK;
}
