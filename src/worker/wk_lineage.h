/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lineage: finished tasks and calls that are kept since they can make their results again.
 *
 * Kept is a task that has a result in the store and may be tried again. Its arguments are kept as
 * own.h says, so a lost argument that has a lineage itself is made again first. A task with an
 * argument that another process owns, or with an actor's handle, isn't kept: what becomes of those
 * is not this process's to say. Together the records take at most RAY_max_lineage_bytes (1 GiB);
 * beyond, the oldest are forgotten. The engine's lock guards everything.
 *
 * A loss is found by who wants to read: the owner, another process that asks the owner again
 * because its hint is stale, or a worker that sends a task back since an argument isn't there.
 */
#ifndef RAY_WORKER_WK_LINEAGE_H
#define RAY_WORKER_WK_LINEAGE_H

#include "worker/wk_task.h"

struct wk_lineage;

/* `ref` is about to get a value in the store, made by `task`. ST_OK: it has a lineage. Else why it
 * has none, which own_return_done is told. */
int wk_lineage_attach(struct wk_task *task, struct own_ref *ref);
/* The task is answered: true when it stays as a lineage. */
bool wk_lineage_keep(struct wk_task *task);
/* Outs of the machine: one reference less names the lineage; its value is wanted again. */
void wk_lineage_release(uint64_t handle);
void wk_lineage_remake(uint64_t handle, struct own_ref *ref);
/* The task is about to run again, and is to be ended instead: then it is as one that was submitted
 * and waits, in no queue. Nothing to do with any other. */
void wk_lineage_unschedule(struct wk_task *task);
/* What releases and remakes have left to do; when nothing else is under way. */
static inline bool
wk_lineage_due(void)
{
    return wk.lineage_due;
}
void wk_lineage_work(void);
/* Shutdown: the tasks that nobody runs. */
void wk_lineage_fini(void);
/* The task is destroyed, and was to stay. */
void wk_lineage_forget(struct wk_task *task);

/* The value of an owned object isn't in the store any more: told to the machine. */
void wk_ref_verify(struct own_ref *ref);
/* A value that was opened isn't there: what the reference is now is known after it, and wanted. */
void wk_ref_lost(struct own_ref *ref, const struct ray_value *stale);
/* A worker had arguments that are not in the store: the task goes back, uncharged. */
void wk_task_args_lost(struct wk_task *task, const struct peer_done *done, uint32_t executor);

#endif
