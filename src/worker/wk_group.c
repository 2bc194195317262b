/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Running several calls of an actor at once: groups, their threads, their event loops, and calls
 * that end later than the face's callback. See wk_group.h.
 */
#include "worker/wk_group.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/os_basic.h"

_Thread_local struct wk_group *wk_my_group;
static pthread_cond_t main_look = PTHREAD_COND_INITIALIZER;

/* ---- groups ---- */

static int
init_group(struct wk_group *g, const char *name, size_t name_size, long limit)
{
    if (limit < 1 || limit > INT32_MAX) {
        return st_fail(ST_PROTOCOL, "a concurrency group with a limit of %ld", limit);
    }
    g->name = strndup(name, name_size);
    g->limit = (uint32_t)limit;
    list_init(&g->queue);
    (void)pthread_cond_init(&g->unparked, NULL);
    return g->name ? ST_OK : st_fail(ST_OUT_OF_MEMORY, "no memory for a concurrency group");
}

static void
free_groups(struct wk_groups *groups)
{
    for (uint32_t i = 0; i < groups->count; i++) {
        free(groups->group[i].name);
    }
    free(groups);
}

int
wk_groups_make(const struct wk_peer_template *t, struct wk_groups **out)
{
    *out = NULL;
    uint32_t lines = 0;
    for (const char *at = t->groups; *at; at++) {
        lines += *at == '\n';
    }
    const bool event_loop = (t->flags & PEER_TEMPLATE_EVENT_LOOP) != 0;
    if (!event_loop && lines == 0 && t->max_concurrency <= 1) {
        return ST_OK;
    }
    struct wk_groups *groups = calloc(1, sizeof(*groups) + (lines + 1) * sizeof(groups->group[0]));
    if (!groups) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for concurrency groups");
    }
    groups->event_loop = event_loop;
    groups->count = 1;
    int status = init_group(&groups->group[0], "", 0, t->max_concurrency);
    const char *at = t->groups;
    for (uint32_t i = 0; i < lines && status == ST_OK; i++) {
        char *name;
        const char *end = strchr(at, '\n');
        const long limit = strtol(at, &name, 10);
        if (*name != ' ' || name >= end) {
            status = st_fail(ST_PROTOCOL, "concurrency groups that can't be read");
            break;
        }
        groups->count++;
        status = init_group(&groups->group[i + 1], name + 1, (size_t)(end - name - 1), limit);
        at = end + 1;
    }
    if (status != ST_OK) {
        free_groups(groups);
        return status;
    }
    *out = groups;
    return ST_OK;
}

static struct wk_group *
find_group(const char *name)
{
    for (uint32_t i = 0; i < wk.groups->count; i++) {
        if (strcmp(wk.groups->group[i].name, name) == 0) {
            return &wk.groups->group[i];
        }
    }
    return NULL;
}

/* ---- leaving ---- */

bool
wk_must_leave(void)
{
    return wk.leave_now || wk.raylet_dead ||
           (wk.leaving && wk.exec_count == 0 && wk.begun_count == 0);
}

void
wk_leave_changed(void)
{
    (void)pthread_cond_signal(&main_look);
    wk_nudge();
}

/* A call that is queued never begins: it may have been what the process stayed for. */
static void
drop_queued(struct wk_exec *e)
{
    wk.exec_count--;
    wk_exec_discard(e);
    if (wk.leaving && wk_must_leave()) {
        wk_leave_changed();
    }
}

/* ---- one call ---- */

/* What the control page tells: one of those that run. */
static void
show(struct wk_exec *e)
{
    wk.groups->shown = e;
    if (!e) {
        storec_status_end(wk.store);
        return;
    }
    const uint32_t retriable =
        e->tmpl->flags & PEER_TEMPLATE_RETRIABLE ? STORE_STATUS_RETRIABLE : 0;
    storec_status_begin(wk.store, &e->push.task, e->push.attempt,
                        STORE_STATUS_BUSY | STORE_STATUS_ACTOR | retriable, e->started_ns,
                        e->tmpl->name_key, e->tmpl->name);
}

static void staff(struct wk_group *g);

/* The call is over: answers it, and makes room for the next. */
static void
end_call(struct wk_exec *e)
{
    struct wk_group *g = e->group;
    list_remove(&e->link);
    wk.begun_count--;
    g->running--;
    g->cancels -= e->cancel_queued;
    wk_exec_reply(e, wk_now() - e->started_ns);
    if (wk.groups->shown == e) {
        struct list *last = list_last(&wk.begun);
        show(last ? LIST_ENTRY(last, struct wk_exec, link) : NULL);
    }
    const bool leaves = e->leaves;
    wk_exec_free(e);
    if (leaves) {
        wk.leave_now = true;
        wk_leave_changed();
    }
    /* Its own threads look anyway, but one that ends another call than its own is not yet through
     * with that. */
    const bool looks = wk_my_group == g && (!wk_current || wk.groups->event_loop);
    if (!looks && wk_group_may_begin(g)) {
        staff(g);
        wk_nudge();
    }
    if (wk.leaving && wk_must_leave()) {
        wk_leave_changed();
    }
}

/* Takes the first of the queue and runs it, or begins it. Lock held, given up meanwhile. */
void
wk_group_run_first(struct wk_group *g)
{
    struct wk_exec *e = LIST_ENTRY(list_take_front(&g->queue), struct wk_exec, link);
    const struct net_window_push push = { e->push.word, e->push.push_number };
    if (e->from->broken || !net_window_start(&e->from->worker_window, &push)) {
        drop_queued(e); /* its owner has taken it back, or will */
        return;
    }
    wk.exec_count--;
    e->group = g;
    e->started_ns = wk_now();
    e->in_execute = true;
    list_push_back(&wk.begun, &e->link);
    wk.begun_count++;
    g->running++;
    show(e);
    id_source_init(&e->source, &e->push.task, e->push.attempt);
    staff(g);
    struct wk_exec *outer = wk_current;
    wk_current = e;
    const bool open = wk_exec_open_args(e);
    int status = ST_OK;
    if (open) {
        wk_unlock();
        status = wk.worker_options->execute(wk.worker_options->ctx, (ray_task *)e);
        wk_lock();
    }
    wk_current = outer;
    e->in_execute = false;
    if (open && e->deferral == WK_DEFER_NOT) {
        wk_exec_complete(e, status);
    }
    if (e->deferral != WK_DEFERRED) {
        end_call(e);
    }
}

RAY_API int
ray_task_defer(ray_task *task)
{
    /* Without the lock: nobody else knows the task before its executor passes it on. */
    wk_exec_of(task)->deferral = WK_DEFERRED;
    return RAY_OK;
}

RAY_API int
ray_task_finish(ray_task *task, int status)
{
    struct wk_exec *e = wk_exec_of(task);
    wk_lock();
    if (e->deferral != WK_DEFERRED) {
        wk_unlock();
        return st_fail(ST_INVALID_ARGUMENT, "only a deferred task is finished, and only once");
    }
    wk_exec_complete(e, status);
    if (!e->group || e->in_execute) {
        e->deferral = WK_FINISHED; /* the thread that began it does the rest */
        if (!e->group) {
            wk_nudge();
        }
    } else {
        end_call(e);
    }
    wk_unlock();
    return RAY_OK;
}

RAY_API ray_task *
ray_task_enter(ray_task *task)
{
    struct wk_exec *before = wk_current;
    wk_current = task ? wk_exec_of(task) : NULL;
    return (ray_task *)before;
}

/* ---- threads ---- */

static void *pool_main(void *arg);

static void
add_thread(struct wk_group *g)
{
    pthread_t thread;
    sigset_t all, old;
    (void)sigfillset(&all); /* signals are the main thread's */
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    const int error = pthread_create(&thread, NULL, pool_main, g);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (error == 0) {
        char name[16];
        (void)snprintf(name, sizeof(name), "call-%.5s%u", g->name, g->threads);
        (void)pthread_setname_np(thread, name);
        (void)pthread_detach(thread);
        g->threads++;
    }
}

/* A call that may begin finds a thread. The thread that takes it calls this again, for the next. */
static void
staff(struct wk_group *g)
{
    if (!wk_group_may_begin(g) || wk.groups->receiver == g) {
        return;
    }
    if (g->parked > 0) {
        (void)pthread_cond_signal(&g->unparked);
    } else if (g->threads < (wk.groups->event_loop ? 1 : g->limit)) {
        add_thread(g);
    }
}

static bool
thread_should_look(void *ctx)
{
    const struct wk_group *g = ctx;
    return wk_group_may_begin(g) || wk.leave_now;
}

static void
park(struct wk_group *g)
{
    wk.now_ns = 0; /* as everybody who gives the lock up */
    g->parked++;
    (void)pthread_cond_wait(&g->unparked, &wk.lock);
    g->parked--;
}

/* Until there may be a call to begin. */
static void
rest(struct wk_group *g)
{
    struct wk_groups *all = wk.groups;
    if (!all->receiver && !wk.leave_now && !wk.raylet_dead) {
        all->receiver = g;
        (void)!wk_wait(thread_should_look, g, UINT64_MAX);
        all->receiver = NULL;
    } else {
        park(g); /* when the process leaves, nobody wakes it */
    }
}

void
wk_call_back(void (*callback)(void *ctx))
{
    if (callback) {
        callback(wk.worker_options->ctx);
    }
}

static void *
pool_main(void *arg)
{
    struct wk_group *g = arg;
    wk_my_group = g;
    wk_call_back(wk.worker_options->thread_begin);
    if (wk.groups->event_loop) {
        wk.worker_options->serve(wk.worker_options->ctx, g->name);
        wk_call_back(wk.worker_options->before_wait);
        wk_lock();
        for (;;) {
            park(g);
        }
    }
    for (;;) {
        wk_call_back(wk.worker_options->before_wait);
        wk_lock();
        while (!wk_group_may_begin(g) || wk.leave_now) {
            rest(g);
        }
        wk_unlock();
        wk_call_back(wk.worker_options->after_wait);
        wk_lock();
        while (wk_group_may_begin(g) && !wk.leave_now) {
            wk_group_run_first(g);
        }
        wk_unlock();
    }
    return NULL;
}

/* ---- what comes ---- */

static void
refuse(struct wk_exec *e)
{
    char text[512];
    const struct net_window_push push = { e->push.word, e->push.push_number };
    (void)snprintf(text, sizeof(text),
                   "%.200s was called in the concurrency group '%.100s', which "
                   "its actor does not have",
                   e->tmpl->function_name, e->tmpl->groups);
    if (e->from->broken || !net_window_start(&e->from->worker_window, &push)) {
        wk_exec_discard(e);
        return;
    }
    (void)ray_task_fail((ray_task *)e, ST_INVALID_ARGUMENT, false, text, NULL);
    wk_exec_reply(e, 0);
    wk_exec_free(e);
}

void
wk_group_push(struct wk_exec *e)
{
    struct wk_group *g = e->tmpl->group;
    if (!g) {
        g = e->tmpl->group = find_group(e->tmpl->groups);
    }
    if (!g) {
        refuse(e);
        return;
    }
    list_push_back(&g->queue, &e->link);
    wk_exec_queued(e);
    staff(g);
    wk_changed();
}

void
wk_groups_link_gone(struct wk_link *link)
{
    for (uint32_t i = 0; i < wk.groups->count; i++) {
        LIST_FOR_SAFE (l, next, &wk.groups->group[i].queue) {
            struct wk_exec *e = LIST_ENTRY(l, struct wk_exec, link);
            if (e->from == link) {
                list_remove(&e->link);
                drop_queued(e);
            }
        }
    }
    LIST_FOR (l, &wk.begun) {
        struct wk_exec *e = LIST_ENTRY(l, struct wk_exec, link);
        if (e->from == link) {
            wk_exec_orphan(e);
        }
    }
}

void
wk_groups_begin(struct wk_groups *groups)
{
    struct list come;
    wk.groups = groups;
    list_init(&come);
    list_splice_back(&come, &wk.exec_queue);
    if (groups->event_loop) {
        wk_my_group = &groups->group[0];
        groups->group[0].threads = 1;
    }
    while (!list_is_empty(&come)) {
        wk.exec_count--;
        wk_group_push(LIST_ENTRY(list_take_front(&come), struct wk_exec, link));
    }
    if (!groups->event_loop && groups->group[0].threads == 0) {
        add_thread(&groups->group[0]); /* the receiver */
    }
}

void
wk_groups_serve(void)
{
    if (wk.groups->event_loop) {
        wk_unlock();
        wk.worker_options->serve(wk.worker_options->ctx, "");
        wk_lock();
        return;
    }
    wk_unlock();
    wk_call_back(wk.worker_options->before_wait);
    wk_lock();
    while (!wk_must_leave()) {
        wk.now_ns = 0;
        (void)pthread_cond_wait(&main_look, &wk.lock);
    }
    wk_unlock();
    wk_call_back(wk.worker_options->after_wait);
    wk_lock();
}
