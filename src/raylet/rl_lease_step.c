/* SPDX-License-Identifier: Apache-2.0 */
/* The lease server's pump, which emits what follows from what was told, and its step face. */
#include "base/status.h"
#include "raylet/rl_lease_priv.h"

/* Workers of dead owners, and those whose RUNNING word was not zero yet. */
static uint64_t
take_back(struct rl_lease *m, uint64_t now_ns, struct step_outs *outs)
{
    LIST_FOR_SAFE (l, next, &m->lists[RL_LEASE_ORPHAN]) {
        struct rl_lease_record *lease = LIST_ENTRY(l, struct rl_lease_record, link);
        if (lease->taking) {
            continue;
        }
        if (!rl_has_room(outs, 1)) {
            return UINT64_MAX;
        }
        m->stats.taken_back++;
        struct rl_worker *worker = lease->worker;
        if (worker->state != RL_WORKER_LEASED) {
            rl_lease_make_dead(m, lease); /* it is being ended already */
        } else if (lease->kind == SCHED_LEASE_ACTOR) {
            rl_lease_end(m, now_ns, lease, RL_END_OWNER_DIED, outs);
        } else if (rl_rule_is_off(m, RL_RULE_TAKE_BACK)) {
            worker->epoch++;
            rl_lease_free(m, lease);
            rl_pool_idle(&m->pool, now_ns, worker);
        } else {
            lease->taking = true;
            worker->epoch++;
            rl_lease_emit_take_back(worker, outs);
        }
    }
    uint64_t next_ns = UINT64_MAX;
    LIST_FOR (l, &m->pool.by_state[RL_WORKER_SETTLING]) {
        struct rl_worker *worker = LIST_ENTRY(l, struct rl_worker, link);
        if (worker->look_ns == 0) {
            continue; /* asked, the answer is on its way */
        }
        if (worker->look_ns > now_ns || !rl_has_room(outs, 1)) {
            next_ns = rl_sooner(next_ns, worker->look_ns);
            continue;
        }
        worker->look_ns = 0;
        rl_lease_emit_take_back(worker, outs);
    }
    return next_ns;
}

void
rl_lease_pump(struct rl_lease *m, uint64_t now_ns, struct step_outs *outs)
{
    outs->more = false;
    uint64_t next_ns = take_back(m, now_ns, outs);
    rl_grant_form(m, now_ns, outs);
    rl_grant_broken(m, now_ns, outs);
    next_ns = rl_sooner(next_ns, rl_grant_requests(m, now_ns, outs));
    next_ns = rl_sooner(next_ns, rl_grant_revoke(m, now_ns, outs));
    next_ns = rl_sooner(next_ns, rl_grant_stuck(m, now_ns, outs));
    next_ns = rl_sooner(next_ns, rl_pool_pump(&m->pool, now_ns, outs));
    if (outs->more || next_ns == m->timer_ns || !rl_has_room(outs, 1)) {
        return;
    }
    m->timer_ns = next_ns;
    if (next_ns != UINT64_MAX) {
        (void)step_emit(outs, RL_OUT_TIMER, 0, 0);
        outs->v[outs->count - 1].when_ns = next_ns;
    }
}

/* Dispatches what is about processes. */
static int
step_process(struct rl_lease *m, const struct step_in *in, struct step_outs *outs)
{
    const uint64_t now = in->now_ns;
    switch (in->kind) {
    case RL_IN_DRIVER: {
        const struct rl_in_driver *msg = in->msg;
        return rl_lease_on_driver(m, in->peer, msg->job, msg->pid);
    }
    case RL_IN_OWNING:
        rl_lease_on_owning(m, now, in->peer, ((const struct rl_in_owning *)in->msg)->owning);
        return ST_OK;
    case RL_IN_SPAWNED:
        rl_lease_on_spawned(m, now, in->peer, ((const struct rl_in_spawned *)in->msg)->pid, outs);
        return ST_OK;
    case RL_IN_HELLO:
        return rl_lease_on_hello(m, now, in->peer, outs);
    case RL_IN_START_FAILED:
        rl_lease_on_start_failed(m, now, in->peer, ((const struct rl_in_evidence *)in->msg)->text);
        return ST_OK;
    case RL_IN_DEAD:
        rl_lease_on_dead(m, now, in->peer, ((const struct rl_in_evidence *)in->msg)->text, outs);
        return ST_OK;
    case RL_IN_RECLAIMED:
        rl_lease_on_reclaimed(m, now, in->peer);
        return ST_OK;
    case RL_IN_JOB_END: {
        const struct rl_in_job *msg = in->msg;
        rl_lease_on_job_end(m, now, msg->job, msg->goes_on);
        return ST_OK;
    }
    default:
        return st_fail(ST_PROTOCOL, "the lease server knows no input %u", in->kind);
    }
}

int
rl_lease_step(struct rl_lease *m, const struct step_in *in, struct step_outs *outs)
{
    const uint64_t now = in->now_ns;
    int status = ST_OK;
    switch (in->kind) {
    case STEP_CONTINUE:
        break;
    case RL_IN_TICK:
        m->timer_ns = UINT64_MAX;
        break;
    case RL_IN_REQUEST:
        status = rl_lease_on_request(m, now, in->peer, in->msg, outs);
        break;
    case RL_IN_CANCEL:
        status = rl_lease_on_cancel(m, now, in->peer, in->msg, outs);
        break;
    case RL_IN_RETURN:
        status = rl_lease_on_return(m, now, in->peer, in->msg, outs);
        break;
    case RL_IN_BLOCKED:
        status = rl_lease_on_blocked(m, now, in->peer, in->msg);
        break;
    case RL_IN_TAKEN: {
        const struct rl_in_taken *msg = in->msg;
        rl_lease_on_taken(m, now, in->peer, msg->epoch, msg->running, outs);
        break;
    }
    default:
        status = step_process(m, in, outs);
    }
    rl_lease_pump(m, now, outs);
    return status;
}
