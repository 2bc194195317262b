/* SPDX-License-Identifier: Apache-2.0 */
/* The invariants of the lease world: docs/protocols/leases.md lists them. */
#include "sim_lease.h"

#define STARVED_NS (4000 * SIM_MS)

struct sl_proc *
sl_by_token(struct sl_world *w, uint64_t token)
{
    for (uint32_t i = 1; i <= sim_proc_count(w->sim); i++) {
        if (w->procs[i].token == token) {
            return &w->procs[i];
        }
    }
    return NULL;
}

/* The same for one that must be there. */
struct sl_proc *
sl_get_token(struct sl_world *w, uint64_t token)
{
    struct sl_proc *p = sl_by_token(w, token);
    ASSERT(p);
    return p;
}

void
sl_check_grants(struct sl_world *w)
{
    for (; w->seen_lease < w->server.next_lease; w->seen_lease++) {
        const struct rl_lease_record *lease = rl_lease_find(&w->server, w->seen_lease);
        for (uint32_t i = 0; lease && i < lease->key->resources.count; i++) {
            const uint32_t name = lease->key->resources.items[i].name;
            SIM_CHECK(w->sim, res_set_get(&w->server.node.available, name).v >= 0,
                      "lease %llu was granted while %s is overdrawn", (unsigned long long)lease->id,
                      res_names_text(&w->names, name));
        }
    }
}

/* --- invariants --------------------------------------------------------------------------------
 */

static void
check_resources(struct sl_world *w)
{
    const struct rl_lease *m = &w->server;
    int64_t held[RES_SET_MAX] = { 0 };
    int64_t gpus = 0;
    for (uint32_t state = 0; state <= RL_LEASE_DEAD; state++) {
        LIST_FOR (l, &m->lists[state]) {
            const struct rl_lease_record *lease = LIST_ENTRY(l, struct rl_lease_record, link);
            SIM_CHECK(w->sim, lease->hold.set == &lease->key->resources,
                      "lease %llu (%s) holds nothing", (unsigned long long)lease->id,
                      rl_lease_state_text(lease->state));
            for (uint32_t i = 0; i < m->node.total.count; i++) {
                const uint32_t name = m->node.total.items[i].name;
                const bool back = name == RES_CPU && lease->hold.cpu_given_back;
                held[i] += back ? 0 : res_set_get(lease->hold.set, name).v;
            }
            if (lease->worker && lease->worker->state == RL_WORKER_LEASED) {
                const struct sl_proc *p = sl_get_token(w, lease->worker->number);
                SIM_CHECK(w->sim,
                          lease->hold.cpu_given_back == (p->told_blocked_epoch == lease->epoch),
                          "lease %llu has its CPU changed by a notice about another lease",
                          (unsigned long long)lease->id);
            }
        }
    }
    for (uint32_t i = 0; i < m->node.total.count; i++) {
        const struct res_item *total = &m->node.total.items[i];
        SIM_CHECK(w->sim,
                  held[i] + res_set_get(&m->node.available, total->name).v == total->amount.v,
                  "%s: held and available are not all", res_names_text(&w->names, total->name));
        gpus = total->name == RES_GPU ? held[i] : gpus;
    }
    for (uint32_t i = 0; i < m->node.gpu_count; i++) {
        SIM_CHECK(w->sim, m->node.gpu_free[i] >= 0, "a GPU is given twice");
        gpus -= RES_UNIT - m->node.gpu_free[i];
    }
    SIM_CHECK(w->sim, gpus == 0, "devices and GPU amounts disagree");
}

static void
check_workers(struct sl_world *w)
{
    for (uint32_t i = SL_RAYLET + 1; i <= sim_proc_count(w->sim); i++) {
        struct sl_proc *p = &w->procs[i];
        if (!p->alive || !p->current || p->current->word != SL_STARTED) {
            continue;
        }
        const struct rl_lease_record *lease = rl_lease_of_worker(&w->server, p->token);
        SIM_CHECK(w->sim, !lease || lease->id == p->current->lease,
                  "P%u runs a task of lease %llu and is leased as %llu", i,
                  (unsigned long long)p->current->lease, (unsigned long long)lease->id);
        const struct rl_worker *worker = rl_pool_find(&w->server.pool, p->token);
        SIM_CHECK(w->sim, worker && worker->state != RL_WORKER_IDLE, "P%u runs a task and is idle",
                  i);
    }
}

static void
check_processes(struct sl_world *w)
{
    const struct rl_pool *pool = &w->server.pool;
    SIM_CHECK(w->sim, rl_pool_processes(pool) <= w->cap, "%u processes, the cap is %u",
              rl_pool_processes(pool), w->cap);
    const uint32_t n = pool->count[RL_WORKER_STARTING] + pool->count[RL_WORKER_IDLE] +
                       pool->count[RL_WORKER_SETTLING] + pool->count[RL_WORKER_LEASED] -
                       pool->actors;
    if (w->mode == SL_NEST) {
        SIM_CHECK(
            w->sim, n <= w->cpus * (1 + w->nest_max) + 1,
            "%u processes for %u CPUs and nesting %u deep: %u starting, %u idle, %u settling, "
            "%u leased of which %u wait",
            n, w->cpus, w->nest_max, pool->count[RL_WORKER_STARTING], pool->count[RL_WORKER_IDLE],
            pool->count[RL_WORKER_SETTLING], pool->count[RL_WORKER_LEASED], pool->blocked);
    } else if (w->mode == SL_FLAT) {
        SIM_CHECK(w->sim, n <= w->cpus * w->driver_count, "%u processes for %u CPUs, %u jobs", n,
                  w->cpus, w->driver_count);
    }
}

void
sl_check(struct sim *sim, void *world)
{
    struct sl_world *w = world;
    check_resources(w);
    check_workers(w);
    check_processes(w);
    const struct rl_lease *m = &w->server;
    if (m->in_state[RL_LEASE_REVOKED] == 0 || m->stats.pending_records > 0) {
        w->idle_revoked_ns = 0;
    } else if (w->idle_revoked_ns == 0) {
        w->idle_revoked_ns = sim_now(sim);
    } else {
        SIM_CHECK(sim, sim_now(sim) - w->idle_revoked_ns < 5 * SIM_MS,
                  "a lease stays revoked though nobody waits");
    }
    if (w->mode == SL_STREAM && w->watched_open > 0) {
        SIM_CHECK(sim, sim_now(sim) < w->watch_ns + STARVED_NS,
                  "starved beside a stream of another's tasks");
    }
}

void
sl_quiet(struct sim *sim, void *world)
{
    struct sl_world *w = world;
    for (uint32_t i = 0; i < w->task_count; i++) {
        const struct sl_task *task = w->tasks[i];
        SIM_CHECK(sim, task->state != SL_TASK_READY && task->state != SL_TASK_PUSHED,
                  "task %u of P%u never ends (%s)", task->index, task->owner,
                  task->state == SL_TASK_READY ? "not pushed" : "pushed");
        SIM_CHECK(sim, task->state != SL_TASK_CANCELLED || task->cancelled,
                  "task %u ends as if cancelled", task->index);
        SIM_CHECK(sim,
                  task->state != SL_TASK_FAILED || task->charged > 0 || w->mode == SL_CAP ||
                      task->key == SL_KEY_HUGE || w->kills,
                  "task %u failed for nothing", task->index);
    }
    struct rl_lease_stats stats;
    rl_lease_get_stats(&w->server, &stats);
    SIM_CHECK(sim, stats.leases == 0, "%u leases are left", stats.leases);
    SIM_CHECK(sim, stats.pending_records == 0, "%u requests are left", stats.pending_records);
    for (uint32_t i = 1; i <= sim_proc_count(sim); i++) {
        const struct sl_proc *p = &w->procs[i];
        SIM_CHECK(sim, !p->alive || !p->is_owner || p->client.leases == 0, "P%u still holds leases",
                  i);
    }
    const struct rl_pool *pool = &w->server.pool;
    SIM_CHECK(sim,
              rl_pool_processes(pool) ==
                  pool->count[RL_WORKER_IDLE] + pool->count[RL_WORKER_DRAINING],
              "a worker is left that is neither idle nor draining");
}
