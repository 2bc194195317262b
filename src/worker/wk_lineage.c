/* SPDX-License-Identifier: Apache-2.0 */
/* Finished tasks that can make their results again, and what happens when a result is lost. */
#include "worker/wk_lineage.h"

#include <stdlib.h>
#include <string.h>

#include "worker/wk_actor.h"

#define LINEAGE_BYTES_DEFAULT (UINT64_C(1) << 30)

struct wk_lineage {
    struct list link; /* of all that no attempt runs of, oldest first */
    struct list work; /* to be run again, or to be ended */
    struct wk_task *task;
    struct id_actor actor; /* of a call; its record may end before */
    bool is_call, running;
    uint32_t entries; /* references that name it */
    size_t bytes;
};

static struct {
    struct list kept, work;
    uint64_t bytes, bytes_max;
    bool ready;
} all;

static void
begin(void)
{
    if (all.ready) {
        return;
    }
    list_init(&all.kept);
    list_init(&all.work);
    /* tidy: getenv: read once, under the engine's lock */
    const char *text = getenv("RAY_max_lineage_bytes");
    char *end = NULL;
    const unsigned long long most = text ? strtoull(text, &end, 10) : 0;
    all.bytes_max = text && *text && *end == '\0' ? most : LINEAGE_BYTES_DEFAULT;
    all.ready = true;
}

static struct wk_lineage *
of_handle(uint64_t handle)
{
    struct wk_lineage *lineage;
    memcpy(&lineage, &handle, sizeof(lineage));
    return lineage;
}

static void
schedule(struct wk_lineage *lineage)
{
    if (list_is_empty(&lineage->work)) {
        list_push_back(&all.work, &lineage->work);
        wk.lineage_due = true;
    }
}

/* ---- keeping ---- */

/* Why the task can't be a lineage, or ST_OK. */
static int
may_keep(const struct wk_task *task)
{
    if (task->tmpl->options->generator != RAY_GENERATOR_NONE) {
        return ST_OBJECT_UNRECONSTRUCTABLE; /* how to make one item again is not known */
    }
    if (task->retries_left == 0) {
        const struct ray_options *o = task->tmpl->options;
        const bool never = (task->actor ? o->max_task_retries : o->max_retries) == 0;
        return !never ? ST_OBJECT_MAX_ATTEMPTS
                      : (task->actor ? ST_OBJECT_UNRECONSTRUCTABLE : ST_OBJECT_LOST);
    }
    for (uint32_t i = 0; i < task->ref_count; i++) {
        if (task->refs[i]->kind != OWN_OWNED || wk_id_is_actor(&task->refs[i]->id)) {
            return ST_OBJECT_UNRECONSTRUCTABLE;
        }
    }
    return ST_OK;
}

/* What keeping the task costs: its record, and the small arguments that it may keep alone. */
static size_t
cost_of(const struct wk_task *task)
{
    size_t bytes = sizeof(*task) + sizeof(struct wk_lineage) + task->args_bytes;
    for (uint32_t i = 0; i < task->ref_count; i++) {
        bytes += sizeof(struct own_ref);
        if (task->refs[i]->state == OWN_INLINE || task->refs[i]->state == OWN_ERROR) {
            bytes += wk_ref_value(task->refs[i])->size;
        }
    }
    return bytes;
}

int
wk_lineage_attach(struct wk_task *task, struct own_ref *ref)
{
    uint64_t handle;
    if (ref->lineage) { /* made again: may it be once more? */
        return ST_OK;
    }
    const int status = may_keep(task);
    if (status != ST_OK) {
        return status;
    }
    begin();
    struct wk_lineage *lineage = task->lineage;
    if (!lineage) {
        lineage = calloc(1, sizeof(*lineage));
        if (!lineage) {
            return ST_OBJECT_LINEAGE_EVICTED;
        }
        list_init(&lineage->link);
        list_init(&lineage->work);
        lineage->task = task;
        lineage->running = true;
        lineage->is_call = task->actor != NULL;
        if (task->actor) {
            lineage->actor = task->actor->id;
        }
        lineage->bytes = cost_of(task);
        task->lineage = lineage;
        own_lineage_hold(task->refs, task->ref_count);
    }
    lineage->entries++;
    memcpy(&handle, &lineage, sizeof(handle));
    own_set_lineage(ref, handle);
    return ST_OK;
}

/* Nothing names it any more. */
static void
end_lineage(struct wk_lineage *lineage)
{
    struct wk_task *task = lineage->task;
    struct wk_outs o;
    task->lineage = NULL;
    list_remove(&lineage->work);
    if (!list_is_empty(&lineage->link)) {
        list_remove(&lineage->link);
        all.bytes -= lineage->bytes;
    }
    free(lineage);
    own_lineage_drop(&wk.own, task->refs, task->ref_count, wk_outs_begin(&o));
    wk_outs_end(&o);
    wk_task_destroy(task);
}

/* The oldest are forgotten: their results stay, but can't be made again. */
static void
evict(void)
{
    while (all.bytes > all.bytes_max) {
        struct list *first = list_first(&all.kept);
        ASSERT(first);
        struct wk_lineage *lineage = LIST_ENTRY(first, struct wk_lineage, link);
        uint64_t handle;
        memcpy(&handle, &lineage, sizeof(handle));
        for (uint32_t i = 0; i < lineage->task->return_count; i++) {
            const struct id_object id = id_object_of_return(&lineage->task->id, i + 1);
            struct own_ref *ref = own_find(&wk.own, &id);
            if (ref && ref->lineage == handle) {
                struct wk_outs o;
                own_forget_lineage(&wk.own, ref, ST_OBJECT_LINEAGE_EVICTED, wk_outs_begin(&o));
                wk_outs_end(&o);
            }
        }
        end_lineage(lineage);
    }
}

bool
wk_lineage_keep(struct wk_task *task)
{
    struct wk_lineage *lineage = task->lineage;
    if (!lineage) {
        return false;
    }
    lineage->running = false;
    list_remove(&task->sibling); /* it isn't its parent's to cancel any more */
    task->actor = NULL;          /* found again by its id */
    list_push_back(&all.kept, &lineage->link);
    all.bytes += lineage->bytes;
    if (lineage->entries == 0 || all.bytes > all.bytes_max) {
        schedule(lineage);
    }
    return true;
}

void
wk_lineage_release(uint64_t handle)
{
    struct wk_lineage *lineage = of_handle(handle);
    ASSERT(lineage->entries > 0);
    if (--lineage->entries == 0 && !lineage->running) {
        schedule(lineage);
    }
}

void
wk_lineage_forget(struct wk_task *task)
{
    struct wk_lineage *lineage = task->lineage;
    if (lineage) {
        list_remove(&lineage->work);
        list_remove(&lineage->link);
        free(lineage);
        task->lineage = NULL;
    }
}

void
wk_lineage_fini(void)
{
    while (all.ready && !list_is_empty(&all.work)) {
        struct wk_lineage *lineage =
            LIST_ENTRY(list_take_front(&all.work), struct wk_lineage, work);
        if (lineage->running) { /* it was about to be */
            wk_task_destroy(lineage->task);
        }
    }
    while (all.ready && !list_is_empty(&all.kept)) {
        wk_task_destroy(LIST_ENTRY(list_first(&all.kept), struct wk_lineage, link)->task);
    }
    all.bytes = 0;
    all.ready = false;
    wk.lineage_due = false;
}

/* ---- making again ---- */

static void
set_return(struct wk_task *task, uint32_t index, struct own_ref *ref)
{
    if (task->return_count == 1) {
        task->return_one = ref;
    } else {
        task->returns[index] = ref;
    }
}

void
wk_lineage_remake(uint64_t handle, struct own_ref *ref)
{
    struct wk_lineage *lineage = of_handle(handle);
    struct wk_task *task = lineage->task;
    if (!lineage->running) {
        lineage->running = true;
        list_remove(&lineage->link);
        all.bytes -= lineage->bytes;
        for (uint32_t i = 0; i < task->return_count; i++) {
            set_return(task, i, NULL);
        }
        schedule(lineage);
    }
    set_return(task, id_object_index(&ref->id) - 1, ref);
    wk_return_set_task(ref, task);
}

void
wk_lineage_unschedule(struct wk_task *task)
{
    struct wk_lineage *lineage = task->lineage;
    if (lineage && lineage->running && !list_is_empty(&lineage->work)) {
        list_remove(&lineage->work);
        own_task_submitted(task->refs, task->ref_count);
        wk.tasks_pending++;
        task->state = WK_TASK_WAITING;
    }
}

/* It can't be run again. */
static void
fail_remake(struct wk_lineage *lineage, int status)
{
    struct wk_task *task = lineage->task;
    wk.error_count++;
    for (uint32_t i = 0; i < task->return_count; i++) {
        struct own_ref *ref = wk_task_return(task, i);
        if (ref) {
            struct wk_outs o;
            ref->task = 0;
            (void)!own_return_done(&wk.own, ref, OWN_GONE, 0, status, NULL, 0, wk_outs_begin(&o));
            wk_outs_end(&o);
        }
    }
    (void)wk_lineage_keep(task);
    wk_changed();
}

static void
run_again(struct wk_lineage *lineage)
{
    struct wk_task *task = lineage->task;
    struct wk_actor *actor = lineage->is_call ? wk_actor_find(&lineage->actor) : NULL;
    if (lineage->is_call && (!actor || actor->calls.state == ACTOR_DEAD)) {
        fail_remake(lineage, ST_OBJECT_UNRECONSTRUCTABLE);
        return;
    }
    task->actor = actor;
    if (task->retries_left == 0) {
        fail_remake(lineage, ST_OBJECT_MAX_ATTEMPTS);
        return;
    }
    task->retries_left -= task->retries_left > 0;
    task->attempt++;
    for (uint32_t i = 0; task->gone && i < task->arg_count; i++) {
        ray_value_release(task->gone[i]);
        task->gone[i] = NULL;
    }
    own_task_submitted(task->refs, task->ref_count);
    if (wk_task_want_args(task) != ST_OK) {
        struct wk_outs o;
        (void)!own_task_failed(&wk.own, task->refs, task->ref_count, OWN_SELF, true,
                               wk_outs_begin(&o));
        wk_outs_end(&o);
        fail_remake(lineage, ST_OUT_OF_MEMORY);
        return;
    }
    wk.tasks_pending++;
    if (actor) {
        wk_actor_resubmit(task);
    } else if (task->deps_pending == 0) {
        wk_task_make_ready(task);
    } else {
        task->state = WK_TASK_WAITING;
    }
}

void
wk_lineage_work(void)
{
    wk.lineage_due = false;
    while (all.ready && !list_is_empty(&all.work)) {
        struct wk_lineage *lineage =
            LIST_ENTRY(list_take_front(&all.work), struct wk_lineage, work);
        if (lineage->running) {
            run_again(lineage);
        } else if (lineage->entries == 0) {
            end_lineage(lineage);
        } else {
            evict();
        }
    }
}

/* ---- losses ---- */

void
wk_ref_verify(struct own_ref *ref)
{
    if (ref->kind == OWN_OWNED && ref->state == OWN_STORE &&
        !storec_is_there(wk.store, &wk_ref_value(ref)->hint)) {
        struct wk_outs o;
        wk.error_count++;
        own_value_lost(&wk.own, ref, wk_outs_begin(&o));
        wk_outs_end(&o);
        wk_changed();
    }
}

void
wk_ref_lost(struct own_ref *ref, const struct ray_value *stale)
{
    if (ref->state == OWN_STORE && wk_ref_value(ref) == stale) { /* else it changed meanwhile */
        if (ref->kind == OWN_BORROWED) {
            own_forget_value(ref);
            struct ray_value *mine;
            memcpy(&mine, &stale, sizeof(mine));
            ray_value_release(mine);
        } else {
            wk_ref_verify(ref);
        }
    }
    wk_ref_want(ref);
}

void
wk_task_args_lost(struct wk_task *task, const struct peer_done *done, uint32_t executor)
{
    struct wk_outs o;
    own_task_submitted(task->refs, task->ref_count); /* for the next try */
    (void)!own_task_replied(&wk.own, task->refs, task->ref_count, executor, done->kept_token,
                            wk_outs_begin(&o));
    wk_outs_end(&o);
    wk_task_forget_pushed(task);
    if (task->cancelled) { /* the worker was asked, but had begun nothing that it could interrupt */
        wk_task_end_unrun(task);
        return;
    }
    for (uint32_t i = 0; i < task->arg_count; i++) {
        struct own_ref *ref = task->args[i].ref;
        if (ref && ref->state == OWN_STORE &&
            !storec_is_there(wk.store, &wk_ref_value(ref)->hint)) {
            wk_ref_lost(ref, wk_ref_value(ref));
        }
    }
    if (wk_task_want_args(task) != ST_OK) {
        wk_task_fail(task, wk_failure_of_status(ST_OUT_OF_MEMORY, NULL), OWN_SELF);
    } else if (task->actor) {
        wk_actor_queue_again(task);
    } else if (task->deps_pending == 0) {
        wk_task_make_ready(task);
    } else {
        task->state = WK_TASK_WAITING;
    }
}

/* ---- by hand ---- */

RAY_API int
ray_ref_free(ray_ref *handle)
{
    struct own_ref *ref = wk_ref_of(handle);
    TRY(wk_enter());
    int status = wk_refs_check(&handle, 1, true);
    if (status == ST_OK) {
        struct wk_outs o;
        wk.error_count++;
        status = own_free(&wk.own, ref, wk_outs_begin(&o));
        wk_outs_end(&o);
        wk_changed();
    }
    wk_unlock();
    return status;
}

RAY_API int
ray_ref_lose(ray_ref *handle)
{
    struct own_ref *ref = wk_ref_of(handle);
    TRY(wk_enter());
    int status = wk_refs_check(&handle, 1, true);
    if (status == ST_OK && (ref->kind != OWN_OWNED || ref->state != OWN_STORE)) {
        status = st_fail(ST_INVALID_ARGUMENT, "only the owner of a value in the store can lose it");
    }
    if (status == ST_OK) {
        struct ray_value *value = ray_value_retain(wk_ref_value(ref));
        Ray__Node__StoreCheck message = RAY__NODE__STORE_CHECK__INIT;
        struct wk_ask ask = { 0 };
        wk_value_free_stored(value);
        wk_flush_frees();
        message.hint.data = (uint8_t *)&value->hint;
        message.hint.len = sizeof(value->hint);
        status =
            wk_node_ask(NODE_STORE_CHECK, (const ProtobufCMessage *)&message, &ask, UINT64_MAX);
        wk_ask_fini(&ask);
        ray_value_release(value);
    }
    wk_unlock();
    return status;
}
