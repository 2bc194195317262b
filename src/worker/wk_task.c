/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The record of a submitted task or call: its arguments, the references it holds, its returns.
 *
 * A task with only values as arguments has them encoded at submission and is pushed by one copy.
 * Values of reference arguments are taken when it is pushed, since that is when they are there.
 */
#include <stdlib.h>
#include <string.h>

#include "base/flt.h"
#include "os/os_basic.h"
#include "worker/wk_lineage.h"
#include "worker/wk_priv.h"
#include "worker/wk_task.h"

static struct own_ref *
ref_of(ray_ref *handle)
{
    return (struct own_ref *)handle;
}

size_t
wk_payload_size(const struct ray_payload *payload)
{
    size_t size = 0;
    for (size_t i = 0; i < payload->buf_count; i++) {
        size += payload->bufs[i].size;
    }
    return size;
}

/* Arguments too large to travel become objects of this process. `temps[i]` gets one handle each. */
static int
store_large_args(const struct ray_arg *args, size_t count, struct own_ref **temps)
{
    for (size_t i = 0; i < count; i++) {
        if (args[i].ref || wk_payload_size(&args[i].value) <= RAY_INLINE_MAX) {
            continue;
        }
        ray_ref *made = NULL;
        wk.inside++;
        wk_unlock();
        const int status = ray_put(&args[i].value, NULL, &made);
        wk_lock();
        wk.inside--;
        if (status != ST_OK) {
            return status;
        }
        temps[i] = ref_of(made);
    }
    return ST_OK;
}

static void
drop_temps(struct own_ref **temps, size_t count)
{
    for (size_t i = 0; temps && i < count; i++) {
        if (temps[i]) {
            struct wk_outs o;
            own_local_drop(&wk.own, temps[i], wk_outs_begin(&o));
            wk_outs_end(&o);
        }
    }
    free(temps);
}

uint8_t *
wk_payload_encode(const struct ray_payload *payload, uint8_t *at)
{
    const struct peer_piece head = {
        .size = wk_payload_size(payload),
        .format = payload->format,
        .item_count = (uint32_t)payload->ref_count,
        .kind = PEER_INLINE,
    };
    memcpy(at, &head, sizeof(head));
    uint8_t *data = at + sizeof(head);
    uint8_t *items = data + wk_pad8(head.size);
    for (size_t i = 0; i < payload->buf_count; i++) {
        if (payload->bufs[i].size > 0) {
            memcpy(data, payload->bufs[i].data, payload->bufs[i].size);
            data += payload->bufs[i].size;
        }
    }
    memset(data, 0, (size_t)(items - data));
    for (size_t i = 0; i < payload->ref_count; i++) {
        struct own_item item;
        own_item_of(&wk.own, ref_of(payload->refs[i]), &item);
        memcpy(items + i * sizeof(item), &item, sizeof(item));
    }
    const size_t used = payload->ref_count * sizeof(struct own_item);
    memset(items + used, 0, wk_pad8(used) - used);
    return items + wk_pad8(used);
}

/* One block: the table of arguments, the references they hold, the encoded values. */
static int
take_args(struct wk_task *task, const struct ray_arg *args, size_t count, struct own_ref **temps)
{
    size_t refs = 0, bytes = 0;
    for (size_t i = 0; i < count; i++) {
        if (args[i].ref || (temps && temps[i])) {
            refs++;
        } else {
            refs += args[i].value.ref_count;
            bytes +=
                wk_piece_bytes(wk_payload_size(&args[i].value), (uint32_t)args[i].value.ref_count);
        }
    }
    const size_t table = count * sizeof(struct wk_task_arg), list = refs * sizeof(void *);
    if (bytes > NET_FRAME_MAX / 2) {
        return st_fail(ST_LIMIT, "%zu bytes of small arguments, at most %d are allowed: put them",
                       bytes, NET_FRAME_MAX / 2);
    }
    char *block = malloc(table + list + bytes);
    if (!block) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for %zu bytes of arguments", bytes);
    }
    task->args = (struct wk_task_arg *)(void *)block;
    task->refs = (struct own_ref **)(void *)(block + table);
    task->pieces = (uint8_t *)block + table + list;
    task->args_bytes = table + list + bytes;
    task->arg_count = (uint32_t)count;
    uint8_t *at = task->pieces;
    for (size_t i = 0; i < count; i++) {
        struct own_ref *ref = args[i].ref ? ref_of(args[i].ref) : temps ? temps[i] : NULL;
        task->args[i] = (struct wk_task_arg){ .ref = ref };
        if (ref) {
            task->refs[task->ref_count++] = ref;
            continue;
        }
        uint8_t *end = wk_payload_encode(&args[i].value, at);
        task->args[i].offset = (uint32_t)(at - task->pieces);
        task->args[i].bytes = (uint32_t)(end - at);
        at = end;
        for (size_t j = 0; j < args[i].value.ref_count; j++) {
            task->refs[task->ref_count++] = ref_of(args[i].value.refs[j]);
        }
    }
    return ST_OK;
}

static int
check_args(const struct ray_arg *args, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct ray_payload *payload = &args[i].value;
        if (args[i].ref) {
            TRY(wk_refs_check(&args[i].ref, 1, true));
        } else if (payload->ref_count > OWN_ITEMS_MAX) {
            return st_fail(ST_LIMIT, "%zu references inside one argument, at most %d are allowed",
                           payload->ref_count, OWN_ITEMS_MAX);
        } else if (payload->ref_count > 0) {
            TRY(wk_refs_check(payload->refs, payload->ref_count, false));
        }
    }
    return ST_OK;
}

static int
fill_args(struct wk_task *task, const struct ray_arg *args, size_t count)
{
    struct own_ref **temps = NULL;
    TRY(check_args(args, count));
    for (size_t i = 0; i < count && !temps; i++) {
        if (!args[i].ref && wk_payload_size(&args[i].value) > RAY_INLINE_MAX) {
            temps = calloc(count, sizeof(*temps));
            if (!temps) {
                return st_fail(ST_OUT_OF_MEMORY, "no memory for %zu arguments", count);
            }
        }
    }
    int status = temps ? store_large_args(args, count, temps) : ST_OK;
    if (status == ST_OK) {
        status = take_args(task, args, count, temps);
    }
    if (status == ST_OK) {
        own_task_submitted(task->refs, task->ref_count);
    }
    drop_temps(temps, count);
    return status;
}

int
wk_task_create(struct ray_function *function, struct ray_options *options,
               const struct ray_arg *args, size_t arg_count, const struct id_task *id,
               struct wk_task **out)
{
    *out = NULL;
    struct wk_template *tmpl = wk_template_get(function, options);
    struct wk_task *task = tmpl ? slab_take(&wk.task_slab) : NULL;
    if (!task) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for a task");
    }
    memset(task, 0, sizeof(*task));
    list_init(&task->link);
    list_init(&task->sibling);
    task->tmpl = tmpl;
    task->function = ray_function_retain(function);
    task->id = *id;
    task->return_count = function->kind == RAY_CLASS ? 0 : (uint32_t)options->num_returns;
    task->retry_exceptions = options->retry_exceptions;
    task->retries_left = options->max_retries;
    if (options->generator != RAY_GENERATOR_NONE && task->return_count == 1) {
        task->stream = wk_stream_make(task, options);
        if (!task->stream) {
            wk_task_destroy(task);
            return st_fail(ST_OUT_OF_MEMORY, "no memory for a stream");
        }
    }
    if (arg_count > 0) {
        const int status = fill_args(task, args, arg_count);
        if (status != ST_OK) {
            wk_task_destroy(task);
            return status;
        }
    }
    *out = task;
    return ST_OK;
}

void
wk_task_destroy(struct wk_task *task)
{
    list_remove(&task->link);
    list_remove(&task->sibling);
    if (task->stream) {
        wk_stream_task_gone(task);
    }
    wk_lineage_forget(task);
    ray_function_release(task->function);
    for (uint32_t i = 0; task->gone && i < task->arg_count; i++) {
        ray_value_release(task->gone[i]);
    }
    free(task->gone);
    free(task->args);
    free(task->returns);
    slab_give(&wk.task_slab, task);
}

void
wk_task_abandon(struct wk_task *task)
{
    struct wk_outs o;
    (void)!own_task_failed(&wk.own, task->refs, task->ref_count, OWN_SELF, true, wk_outs_begin(&o));
    wk_outs_end(&o);
    wk_task_destroy(task);
}

void
wk_task_undo(struct wk_task *task)
{
    for (uint32_t i = 0; i < task->return_count; i++) {
        struct wk_outs o;
        struct step_outs *outs = wk_outs_begin(&o);
        struct own_ref *ref = wk_task_return(task, i);
        ref->task = 0;
        (void)!own_return_done(&wk.own, ref, OWN_GONE, 0, ST_OUT_OF_MEMORY, NULL, 0, outs);
        own_local_drop(&wk.own, ref, outs);
        wk_outs_end(&o);
    }
    wk_task_abandon(task);
}

struct own_ref *
wk_task_return(const struct wk_task *task, uint32_t index)
{
    return task->return_count == 1 ? task->return_one : task->returns[index];
}

int
wk_task_begin(struct wk_task *task, ray_ref **refs)
{
    if (task->return_count > 1) {
        task->returns = calloc(task->return_count, sizeof(*task->returns));
        if (!task->returns) {
            return st_fail(ST_OUT_OF_MEMORY, "no memory for %u returns", task->return_count);
        }
    }
    for (uint32_t i = 0; i < task->return_count; i++) {
        const struct id_object id = id_object_of_return(&task->id, i + 1);
        struct own_ref *ref = own_return_create(&wk.own, &id, 0);
        if (!ref) {
            /* Those made so far end as any return does whose task failed. */
            for (uint32_t j = 0; j < i; j++) {
                struct wk_outs o;
                struct step_outs *outs = wk_outs_begin(&o);
                task->returns[j]->task = 0;
                (void)!own_return_done(&wk.own, task->returns[j], OWN_GONE, 0, ST_OUT_OF_MEMORY,
                                       NULL, 0, outs);
                own_local_drop(&wk.own, task->returns[j], outs);
                wk_outs_end(&o);
            }
            return st_fail(ST_OUT_OF_MEMORY, "no memory for a reference");
        }
        refs[i] = (ray_ref *)ref;
        wk_return_set_task(ref, task);
        if (task->return_count == 1) {
            task->return_one = ref;
        } else {
            task->returns[i] = ref;
        }
    }
    if (task->stream) {
        wk_stream_begin(task);
    }
    return ST_OK;
}

/* Whether the argument's value is still to come; it is asked for. */
static bool
is_awaited(struct own_ref *ref)
{
    if (ref) {
        wk_ref_want(ref);
    }
    return ref && ref->state == OWN_PENDING;
}

static void
free_waiters(struct wk_waiter *waiter)
{
    while (waiter) {
        struct wk_waiter *next = waiter->next;
        free(waiter);
        waiter = next;
    }
}

/* Hangs the task on every argument that isn't here yet; on none when memory runs out. */
int
wk_task_want_args(struct wk_task *task)
{
    struct wk_waiter *made = NULL;
    for (uint32_t i = 0; i < task->arg_count; i++) {
        if (!is_awaited(task->args[i].ref)) {
            continue;
        }
        struct wk_waiter *waiter =
            FAULT("worker.args.waiter") == ST_OK ? malloc(sizeof(*waiter)) : NULL;
        if (!waiter) {
            free_waiters(made);
            return st_fail(ST_OUT_OF_MEMORY, "no memory to wait for an argument");
        }
        *waiter = (struct wk_waiter){ .task = task, .next = made };
        made = waiter;
    }
    for (uint32_t i = 0; made && i < task->arg_count; i++) {
        struct own_ref *ref = task->args[i].ref;
        if (ref && ref->state == OWN_PENDING) {
            struct wk_waiter *waiter = made;
            made = made->next;
            memcpy(&waiter->next, &ref->waiters, sizeof(waiter->next));
            memcpy(&ref->waiters, &waiter, sizeof(waiter));
            task->deps_pending++;
        }
    }
    free_waiters(made); /* of what came while others were asked for */
    return ST_OK;
}

/* The failure that stands for an argument that is gone. Made once, so that a push never needs
 * memory between counting the bytes and writing them. */
static struct ray_value *
gone_value(struct wk_task *task, uint32_t i)
{
    if (!task->gone) {
        task->gone = calloc(task->arg_count, sizeof(struct ray_value *));
    }
    if (task->gone && !task->gone[i] && FAULT("worker.args.value") == ST_OK) {
        task->gone[i] = wk_failure_of_ref(task->args[i].ref, task->args[i].ref->status);
    }
    return task->gone ? task->gone[i] : NULL;
}

/* What an argument's value is now: bytes, a hint, or a failure that the task is given as such. */
static const struct ray_value *
arg_value(const struct wk_task *task, uint32_t i)
{
    const struct own_ref *ref = task->args[i].ref;
    return ref->state == OWN_GONE ? task->gone[i] : wk_ref_value(ref);
}

int
wk_task_args_bytes(struct wk_task *task, size_t *out)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < task->arg_count; i++) {
        const struct own_ref *ref = task->args[i].ref;
        if (!ref) {
            bytes += task->args[i].bytes;
            continue;
        }
        if (ref->state == OWN_GONE && !gone_value(task, i)) {
            return st_fail(ST_OUT_OF_MEMORY, "no memory for an argument that is gone");
        }
        bytes += wk_value_piece_bytes(arg_value(task, i));
    }
    *out = bytes;
    return ST_OK;
}

uint8_t *
wk_task_args_encode(const struct wk_task *task, uint8_t *out)
{
    for (uint32_t i = 0; i < task->arg_count; i++) {
        const struct wk_task_arg *arg = &task->args[i];
        if (!arg->ref) {
            memcpy(out, task->pieces + arg->offset, arg->bytes);
            out += arg->bytes;
            continue;
        }
        wk_ref_heard(arg->ref); /* what becomes of the dependent task tells of it */
        struct peer_piece head;
        const size_t bytes = wk_value_encode(arg_value(task, i), out);
        memcpy(&head, out, sizeof(head));
        head.flags = arg->ref->kind == OWN_BORROWED ? PEER_PIECE_BORROWED : 0;
        memcpy(out, &head, sizeof(head));
        out += bytes;
    }
    return out;
}
