/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The conversation about leases with the raylet: asking for them and giving them back, as wk_lease
 * decides, what is granted or refused, and calling tasks back from leases that have too many.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/os_basic.h"
#include "worker/wk_priv.h"
#include "worker/wk_task.h"

/* ---- what the lease client says ---- */

static void
recall(uint64_t lease_id)
{
    struct wk_lease *lease = wk_lease_find(&wk.leases, lease_id);
    if (!lease) {
        return;
    }
    struct wk_lease_ref *ref;
    memcpy(&ref, &lease->user, sizeof(ref));
    struct wk_link *link = ref->peer->out;
    struct wk_task *found[WK_WINDOW_WORDS];
    size_t n = 0;
    for (uint32_t i = 0; link && link->inflight && i < link->window->n_used && n < WK_WINDOW_WORDS;
         i++) {
        if (link->inflight[i] && link->inflight[i]->lease == lease) {
            found[n++] = link->inflight[i];
        }
    }
    qsort(found, n, sizeof(found[0]), wk_task_by_number);
    uint32_t count = 0;
    for (size_t i = 0; i < n; i++) { /* newest first, so that the oldest ends up in front */
        if (net_window_recall(link->window, &found[i]->push)) {
            (void)!net_window_free(link->window, &found[i]->push);
            wk_task_take_back(found[i]);
            count++;
        }
    }
    wk_lease_on_recalled(&wk.leases, lease, count, true, wk_now());
}

static void
send_request(const struct sched_lease_request *request)
{
    struct wk_key *key = wk_key_by_number(request->cookie);
    if (!key) {
        return;
    }
    const struct sched_key *what = sched_keys_get(&wk.keys, key->number);
    Ray__Node__LeaseRequest message = RAY__NODE__LEASE_REQUEST__INIT;
    Ray__Node__Resource resources[RES_SET_MAX], *pointers[RES_SET_MAX];
    for (uint32_t i = 0; i < what->resources.count; i++) {
        ray__node__resource__init(&resources[i]);
        const char *name = res_names_text(&wk.names, what->resources.items[i].name);
        memcpy(&resources[i].name, &name, sizeof(name));
        resources[i].amount = what->resources.items[i].amount.v;
        pointers[i] = &resources[i];
    }
    message.key = key->number;
    message.resources = pointers;
    message.n_resources = what->resources.count;
    message.omp_threads = sched_key_omp(what);
    message.count = request->count;
    message.depth = request->depth;
    message.what = key->lease_key->name;
    (void)!wk_node_send(NODE_LEASE_REQUEST, (const ProtobufCMessage *)&message, 0);
    if (wk_task_waits()) {
        wk_set_blocked(true);
    }
}

/* The raylet hears that a task goes on before it hears of what the same replies give back: else a
 * CPU looks free for a moment, and one process too many is started. */
static void
unblock_first(void)
{
    if (wk.blocked && !wk_task_waits()) {
        wk_set_blocked(false);
    }
}

void
wk_lease_send_return(uint64_t lease_id, uint32_t flags)
{
    unblock_first();
    Ray__Node__LeaseReturn message = RAY__NODE__LEASE_RETURN__INIT;
    message.lease_id = lease_id;
    message.worker_is_leaving = (flags & SCHED_RETURN_RETIRE) != 0;
    message.kill_worker = (flags & SCHED_RETURN_KILL) != 0;
    (void)!wk_node_send(NODE_LEASE_RETURN, (const ProtobufCMessage *)&message, 0);
    LIST_FOR_SAFE (l, next, &wk.lease_refs) {
        struct wk_lease_ref *ref = LIST_ENTRY(l, struct wk_lease_ref, link);
        if (ref->id == lease_id) {
            list_remove(&ref->link);
            free(ref);
        }
    }
}

void
wk_lease_say(const struct step_out *out)
{
    switch ((enum wk_lease_out)out->kind) {
    case WK_OUT_REQUEST:
        send_request(out->msg);
        break;
    case WK_OUT_CANCEL: {
        const struct sched_lease_cancel *cancel = out->msg;
        unblock_first();
        Ray__Node__LeaseCancel message = RAY__NODE__LEASE_CANCEL__INIT;
        message.key = cancel->cookie;
        message.count = cancel->count;
        (void)!wk_node_send(NODE_LEASE_CANCEL, (const ProtobufCMessage *)&message, 0);
        break;
    }
    case WK_OUT_RETURN: {
        const struct sched_lease_return *back = out->msg;
        wk_lease_send_return(back->lease, back->flags);
        break;
    }
    case WK_OUT_RECALL:
        recall(out->peer);
        break;
    case WK_OUT_TIMER:
    case WK_OUT_FAIL:
    case WK_OUT_WARN:
        break; /* of the step face */
    }
}

/* ---- what the raylet says ---- */

static void
take_grant(uint64_t cookie, const Ray__Node__Lease *from)
{
    if (wk_lease_find(&wk.leases, from->lease_id)) {
        return; /* said twice: it stays what it is */
    }
    struct own_addr addr = { .node = wk.self.node };
    struct wk_key *key = wk_key_by_number((uint32_t)cookie);
    struct sched_lease_grant grant = {
        .cookie = (uint32_t)cookie,
        .lease = from->lease_id,
        .worker = from->lease_id,
        .epoch = from->epoch,
    };
    for (size_t i = 0; i < from->n_gpu_ids; i++) {
        grant.gpu_mask |= UINT64_C(1) << (from->gpu_ids[i] & 63);
    }
    struct wk_lease_ref *ref = calloc(1, sizeof(*ref));
    struct wk_peer *peer = NULL;
    if (from->worker_id.len == sizeof(addr.worker)) {
        memcpy(addr.worker.b, from->worker_id.data, sizeof(addr.worker));
        peer = wk_peer_get(&addr);
    }
    struct wk_lease *lease =
        ref && peer && key ? wk_lease_on_grant(&wk.leases, &grant, wk_now()) : NULL;
    if (!lease) {
        free(ref);
        wk_lease_send_return(from->lease_id, 0);
        return;
    }
    (void)snprintf(peer->socket, sizeof(peer->socket), "%s", from->peer_socket);
    peer->pid = from->pid;
    *ref = (struct wk_lease_ref){ .id = from->lease_id, .lease = lease, .peer = peer };
    list_push_back(&wk.lease_refs, &ref->link);
    memcpy(&lease->user, &ref, sizeof(ref));
    wk_key_mark_dirty(key);
}

void
wk_lease_granted(const Ray__Node__LeaseGrant *grant)
{
    for (size_t i = 0; i < grant->n_leases; i++) {
        take_grant(grant->key, grant->leases[i]);
    }
}

/* Nothing is left or can be had that could run the key's ready tasks. */
static void
fail_ready(struct wk_key *key, const Ray__Node__LeaseTrouble *trouble)
{
    uint32_t count = 0;
    while (!list_is_empty(&key->ready)) {
        struct wk_task *task = LIST_ENTRY(list_take_front(&key->ready), struct wk_task, link);
        key->ready_count--;
        count++;
        const struct wk_failure failure = {
            .status = trouble->status < 0 ? trouble->status : ST_TASK_UNSCHEDULABLE,
            .text = trouble->text,
            .function = task->function->name,
            .node_ip = wk.node_ip,
            .task_id = task->id.b,
        };
        wk_task_fail(task, wk_value_create_failure(&failure), OWN_SELF);
    }
    wk_lease_on_unready(&wk.leases, key->lease_key, count, wk_now());
}

void
wk_lease_trouble(const Ray__Node__LeaseTrouble *trouble)
{
    struct wk_key *key = wk_key_by_number((uint32_t)trouble->key);
    if (!key) {
        return;
    }
    if (trouble->fatal) {
        struct sched_lease_failed failed = { .cookie = key->number,
                                             .count = trouble->count,
                                             .status = trouble->status };
        if (wk_lease_on_failed(&wk.leases, &failed, wk_now())) {
            fail_ready(key, trouble);
        }
        wk_key_mark_dirty(key);
    } else if (!key->warned) {
        key->warned = true;
        (void)fprintf(stderr, "ray: warning: %s\n", trouble->text);
    }
}
