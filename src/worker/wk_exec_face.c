/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a task that runs is to the language: its names and arguments, and the returns or the failure
 * that it gives.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "os/os_basic.h"
#include "worker/wk_exec.h"
#include "worker/wk_priv.h"

/* ---- what it is ---- */

RAY_API enum ray_task_kind
ray_task_get_kind(const ray_task *task)
{
    switch (wk_exec_of(task)->tmpl->kind) {
    case RAY_CLASS:
        return RAY_TASK_ACTOR_CREATION;
    case RAY_METHOD:
        return RAY_TASK_ACTOR_METHOD;
    default:
        return wk_exec_of(task)->push.epoch == 0 ? RAY_TASK_ACTOR_METHOD : RAY_TASK_NORMAL;
    }
}

RAY_API const uint8_t *
ray_task_id(const ray_task *task)
{
    return wk_exec_of(task)->push.task.b;
}

RAY_API const char *
ray_task_name(const ray_task *task)
{
    return wk_exec_of(task)->tmpl->name;
}

RAY_API const char *
ray_task_function_name(const ray_task *task)
{
    return wk_exec_of(task)->tmpl->function_name;
}

RAY_API const char *
ray_task_method(const ray_task *task)
{
    return wk_exec_of(task)->tmpl->method;
}

RAY_API const uint8_t *
ray_task_function_hash(const ray_task *task)
{
    return wk_exec_of(task)->tmpl->hash;
}

RAY_API ray_value *
ray_task_definition(ray_task *task)
{
    return wk_exec_of(task)->tmpl->definition;
}

RAY_API const void *
ray_task_metadata(const ray_task *task, size_t *size)
{
    *size = wk_exec_of(task)->tmpl->metadata_size;
    return wk_exec_of(task)->tmpl->metadata;
}

RAY_API int32_t
ray_task_num_returns(const ray_task *task)
{
    return wk_exec_of(task)->tmpl->num_returns;
}

RAY_API uint32_t
ray_task_attempt(const ray_task *task)
{
    return wk_exec_of(task)->push.attempt;
}

RAY_API bool
ray_task_may_retry(const ray_task *task)
{
    const int32_t retries = wk_exec_of(task)->tmpl->exception_retries;
    return retries < 0 || wk_exec_of(task)->push.attempt < (uint32_t)retries;
}

RAY_API bool
ray_task_in_event_loop(const ray_task *task)
{
    return (wk_exec_of(task)->tmpl->flags & PEER_TEMPLATE_EVENT_LOOP) != 0;
}

RAY_API size_t
ray_task_arg_count(const ray_task *task)
{
    return wk_exec_of(task)->push.arg_count;
}

bool
wk_exec_open_args(struct wk_exec *e)
{
    for (uint32_t i = 0; i < e->push.arg_count; i++) {
        struct ray_value *view = NULL;
        if (e->args[i].kind != WK_VALUE_HINT || e->views[i]) {
            continue;
        }
        const int status = wk_value_open(&e->args[i], NULL, &view);
        if (status == ST_OBJECT_FREED) {
            e->failure = wk_failure_of_status(ST_OBJECT_LOST, "an argument is no longer in the "
                                                              "store");
            e->args_lost = true;
            return !e->failure; /* without memory the function sees it */
        }
        if (status == ST_OK) {
            view->frame = e->frame;
            e->views[i] = view;
        }
    }
    return true;
}

RAY_API ray_value *
ray_task_arg(ray_task *task, size_t index)
{
    struct wk_exec *e = wk_exec_of(task);
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
                       wk_exec_of(task)->push.arg_count);
    }
    if (value->status != ST_OK) {
        return st_fail(value->status, "argument %zu is a failure", index);
    }
    const size_t n = value->size < size ? value->size : size;
    memcpy(out, value->data, n);
    return (int64_t)n;
}

/* ---- what it gives ---- */

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

/* Small and without references: such a value touches nothing of the engine, and needs no lock. */
static bool
is_plain(const struct ray_payload *payload)
{
    size_t size = 0;
    for (size_t i = 0; i < payload->buf_count; i++) {
        size += payload->bufs[i].size;
    }
    return payload->ref_count == 0 && size <= RAY_INLINE_MAX;
}

static int
take_return(struct wk_exec *e, int32_t index, const struct ray_payload *payload)
{
    TRY(wk_refs_check(payload->refs, payload->ref_count, false));
    TRY(hold_return_refs(e, payload));
    const struct id_object id = id_object_of_return(&e->push.task, (uint32_t)index + 1);
    return wk_value_of_payload(payload, &id, &e->caller_id, &e->returns[index]);
}

/* There is room for the return, and it has not been given. */
static int
begin_return(struct wk_exec *e, int32_t index)
{
    if (index < 0 || index >= e->tmpl->num_returns || (e->returns && e->returns[index])) {
        return st_fail(ST_INVALID_ARGUMENT, "return value %d of a task with %d", index,
                       e->tmpl->num_returns);
    }
    if (!e->returns) {
        e->returns = e->tmpl->num_returns == 1
                         ? &e->return_one
                         : calloc((size_t)e->tmpl->num_returns, sizeof(*e->returns));
    }
    return e->returns ? ST_OK : st_fail(ST_OUT_OF_MEMORY, "no memory for returns");
}

RAY_API int
ray_task_return(ray_task *task, int32_t index, const struct ray_payload *payload)
{
    struct wk_exec *e = wk_exec_of(task);
    TRY(begin_return(e, index));
    if (is_plain(payload)) {
        return wk_value_of_payload(payload, NULL, NULL, &e->returns[index]);
    }
    wk_lock();
    const int status = take_return(e, index, payload);
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

struct ray_value *
wk_exec_failure(const struct wk_exec *e, int status, const char *text,
                const struct ray_payload *payload)
{
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
    struct ray_value *value = wk_value_create_failure(&failure);
    str_fini(&bytes);
    return value;
}

RAY_API int
ray_task_fail(ray_task *task, int status, bool retry, const char *text,
              const struct ray_payload *payload)
{
    struct wk_exec *e = wk_exec_of(task);
    ray_value_release(e->failure);
    e->failure = wk_exec_failure(e, status, text, payload);
    e->retry_allowed = retry;
    return e->failure ? RAY_OK : st_fail(ST_OUT_OF_MEMORY, "no memory for a failure");
}

RAY_API int
ray_task_return_failure(ray_task *task, int32_t index, int status, const char *text,
                        const struct ray_payload *payload)
{
    struct wk_exec *e = wk_exec_of(task);
    TRY(begin_return(e, index));
    e->returns[index] = wk_exec_failure(e, status, text, payload);
    return e->returns[index] ? RAY_OK : st_fail(ST_OUT_OF_MEMORY, "no memory for a failure");
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
