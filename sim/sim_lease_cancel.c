/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cancelling tasks in the lease world: src/worker/wk_cancel.c reduced to words, FIFOs and counts,
 * under docs/protocols/cancellation.md. The user cancels any task at any moment, the named one is
 * interrupted or goes on, and its children go with it.
 */
#include "sim_lease.h"

#include "base/status.h"

/* --- the owner ---------------------------------------------------------------------------------
 */

static void
cancel_ready(struct sl_world *w, struct sl_proc *p, struct sl_task *task)
{
    list_remove(&task->link);
    wk_lease_on_unready(&p->client, wk_lease_get_key(&p->client, task->key), 1, sim_now(w->sim));
    sl_task_finished(w, task, SL_TASK_CANCELLED);
}

static void
cancel_pushed(struct sl_world *w, struct sl_proc *p, struct sl_task *task, bool force)
{
    struct sl_push *u = task->push;
    struct wk_lease *lease = wk_lease_find(&p->client, u->lease);
    if (!lease) {
        return;
    }
    switch (u->word) {
    case SL_POSTED:
        if (!sl_is_off(w, SL_RULE_CANCEL_RECALL)) {
            u->word = SL_RECALLED;
        }
        list_remove(&u->of_lease);
        u->settled = true;
        if (!sl_is_off(w, SL_RULE_CANCEL_COUNTS)) {
            wk_lease_on_recalled(&p->client, lease, 1, false, sim_now(w->sim));
        }
        sl_task_finished(w, task, SL_TASK_CANCELLED);
        return;
    case SL_BOUNCED: /* the message that tells so finds nothing */
        sl_requeue(p, u);
        wk_lease_on_bounced(&p->client, lease, 1, sim_now(w->sim));
        sl_held_of(lease)->blocked = lease->blocked || !list_is_empty(&sl_held_of(lease)->pushes);
        cancel_ready(w, p, task);
        return;
    case SL_STARTED:
    case SL_FINISHED: /* the same to an owner, who looks at replies alone */
        sim_send(w->sim, p->number, u->worker, 0, SL_MSG_INTERRUPT, (uint64_t)u->index << 1 | force,
                 NULL, 0);
        return;
    case SL_RECALLED:
        sim_fail(w->sim, "task %u is pushed by a word that was recalled", task->index);
    }
}

static void
cancel(struct sl_world *w, struct sl_proc *p, struct sl_task *task, bool force)
{
    SIM_TRACE(w->sim, "P%u cancels task %u%s", p->number, task->index, force ? " by force" : "");
    task->cancelled = true;
    if (task->state == SL_TASK_READY) {
        cancel_ready(w, p, task);
    } else {
        cancel_pushed(w, p, task, force);
    }
}

static bool
is_open(const struct sl_world *w, const struct sl_task *task)
{
    return (task->state == SL_TASK_READY || task->state == SL_TASK_PUSHED) &&
           w->procs[task->owner].alive && w->procs[task->owner].is_owner;
}

void
sl_cancel_some(struct sl_world *w)
{
    const uint32_t recent = w->task_count < 100 ? w->task_count : 100;
    for (uint32_t i = 0; i < 8 && recent > 0; i++) {
        const uint32_t back = 1 + (uint32_t)sim_below(w->sim, recent);
        struct sl_task *task = w->tasks[w->task_count - back];
        if (is_open(w, task)) {
            struct sl_proc *p = &w->procs[task->owner];
            cancel(w, p, task, sim_chance(w->sim, 200));
            sl_unblock_parent(w, p);
            sl_owner_run(w, p);
            return;
        }
    }
}

/* --- the worker --------------------------------------------------------------------------------
 */

void
sl_worker_interrupt(struct sl_world *w, struct sl_proc *p, const struct sl_push *named, bool force)
{
    struct sl_push *u = p->current;
    const bool runs = u && (p->phase == SL_RUNNING || p->phase == SL_WAITING);
    if (!runs || (u != named && !sl_is_off(w, SL_RULE_CANCEL_NAMES))) {
        return; /* it has ended */
    }
    struct sl_task *task = u->task;
    SIM_CHECK(w->sim, task->cancelled, "P%u interrupts task %u, which nobody cancelled", p->number,
              task->index);
    if (!force && sim_chance(w->sim, 200)) {
        return; /* it catches the interrupt and goes on */
    }
    if (p->phase == SL_WAITING) {
        sl_resume(w, p);
    }
    for (uint32_t i = 0; i < w->task_count; i++) {
        if (w->tasks[i]->parent == task && is_open(w, w->tasks[i]) &&
            w->tasks[i]->owner == p->number) {
            cancel(w, p, w->tasks[i], force);
        }
    }
    if (force) {
        sim_proc_kill(w->sim, p->number);
        return;
    }
    u->interrupted = true;
    sl_again_at(w, p, 1);
    if (p->is_owner) {
        sl_owner_run(w, p);
    }
}
