/* SPDX-License-Identifier: Apache-2.0 */
/* The step face of the lease client: ins are dispatched to the typed functions, then it pumps. */
#include <string.h>

#include "base/status.h"
#include "worker/wk_lease.h"

static int
unknown_lease(void)
{
    return st_fail(ST_NOT_FOUND, "no such lease is held");
}

static int
step_lease(struct wk_leases *c, const struct step_in *in)
{
    struct wk_lease *lease = wk_lease_find(c, in->peer);
    if (!lease) {
        return unknown_lease();
    }
    const struct wk_in_count *count = in->msg;
    switch (in->kind) {
    case WK_IN_DONE: {
        const struct wk_in_done *msg = in->msg;
        wk_lease_on_done(c, lease, msg->fn, in->now_ns, msg->duration_ns);
        return ST_OK;
    }
    case WK_IN_RECALLED:
        wk_lease_on_recalled(c, lease, count->count, count->requeued, in->now_ns);
        return ST_OK;
    case WK_IN_BOUNCED:
        wk_lease_on_bounced(c, lease, count->count, in->now_ns);
        return ST_OK;
    case WK_IN_UNBLOCKED:
        wk_lease_on_unblocked(c, lease, in->now_ns);
        return ST_OK;
    case WK_IN_RETIRE:
        wk_lease_retire(c, lease, in->now_ns);
        return ST_OK;
    case WK_IN_DEAD:
        wk_lease_on_dead(c, lease, ((const struct wk_in_dead *)in->msg)->unstarted, in->now_ns);
        return ST_OK;
    default:
        return st_fail(ST_PROTOCOL, "the lease client knows no input %u", in->kind);
    }
}

/* Passes a message through to the engine. */
static int
pass_on(struct step_outs *outs, uint16_t kind, uint64_t peer, const void *msg, size_t size)
{
    void *copy = (outs->count < outs->capacity) ? step_emit(outs, kind, peer, size) : NULL;
    if (!copy) {
        return ST_OUT_OF_MEMORY;
    }
    memcpy(copy, msg, size);
    return ST_OK;
}

static int
step_grant(struct wk_leases *c, const struct step_in *in, struct step_outs *outs)
{
    const struct sched_lease_grant *grant = in->msg;
    if (wk_lease_on_grant(c, grant, in->now_ns)) {
        return ST_OK;
    }
    const struct sched_lease_return back = { .lease = grant->lease };
    return pass_on(outs, WK_OUT_RETURN, grant->lease, &back, sizeof(back));
}

static int
step_answer(struct wk_leases *c, const struct step_in *in, struct step_outs *outs)
{
    switch (in->kind) {
    case WK_IN_GRANT:
        return step_grant(c, in, outs);
    case WK_IN_CANCELLED:
        wk_lease_on_cancelled(c, in->msg, in->now_ns);
        return ST_OK;
    case WK_IN_FAILED: {
        const struct sched_lease_failed *msg = in->msg;
        if (!wk_lease_on_failed(c, msg, in->now_ns)) {
            return ST_OK;
        }
        return pass_on(outs, WK_OUT_FAIL, msg->cookie, msg, sizeof(*msg));
    }
    case WK_IN_PENDING: {
        const struct sched_lease_pending *msg = in->msg;
        struct wk_lease_key *key = wk_lease_find_key(c, msg->cookie);
        if (!key || key->warned) {
            return ST_OK;
        }
        key->warned = true;
        return pass_on(outs, WK_OUT_WARN, msg->cookie, msg, sizeof(*msg));
    }
    case WK_IN_REVOKE:
        wk_lease_on_revoke(c, ((const struct sched_lease_note *)in->msg)->lease, in->now_ns);
        return ST_OK;
    case WK_IN_WITHDRAW:
        wk_lease_on_withdraw(c, ((const struct sched_lease_note *)in->msg)->lease, in->now_ns);
        return ST_OK;
    default:
        return step_lease(c, in);
    }
}

int
wk_lease_step(struct wk_leases *c, const struct step_in *in, struct step_outs *outs)
{
    int status = ST_OK;
    if (in->kind == WK_IN_READY || in->kind == WK_IN_UNREADY) {
        const struct wk_in_ready *msg = in->msg;
        struct wk_lease_key *key = wk_lease_get_key(c, msg->key);
        if (!key) {
            return ST_OUT_OF_MEMORY;
        }
        if (in->kind == WK_IN_READY) {
            wk_lease_on_ready(c, key, msg->count, msg->depth, in->now_ns);
        } else {
            wk_lease_on_unready(c, key, msg->count, in->now_ns);
        }
    } else if (in->kind != WK_IN_TICK && in->kind != STEP_CONTINUE) {
        status = step_answer(c, in, outs);
    }
    if (in->kind == WK_IN_TICK) {
        c->told_ns = UINT64_MAX;
    }
    wk_lease_pump(c, in->now_ns, outs);
    if (!outs->more && c->deadline_ns < c->told_ns && (outs->count < outs->capacity)) {
        c->told_ns = c->deadline_ns;
        (void)step_emit(outs, WK_OUT_TIMER, 0, 0);
        outs->v[outs->count - 1].when_ns = c->deadline_ns;
    }
    return status;
}
