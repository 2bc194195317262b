/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The conversation with the raylet: greeting, leases, memory, deaths, orders.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "os/os_basic.h"
#include "os/os_sock.h"
#include "os/os_thread.h"
#include "worker/wk_exec.h"
#include "worker/wk_group.h"
#include "worker/wk_priv.h"
#include "worker/wk_task.h"

static void on_frame(void *ctx, struct net_conn *conn, const struct net_frame *frame);
static void on_close(void *ctx, struct net_conn *conn, int status);
static const struct net_conn_ops raylet_ops = { on_frame, on_close };

/* ---- sending ---- */

void
wk_send_packed(struct net_conn *conn, uint16_t kind, const ProtobufCMessage *message,
               uint64_t request, int *status)
{
    uint8_t small[1024], *bytes = small;
    const size_t size = protobuf_c_message_get_packed_size(message);
    if (size > sizeof(small)) {
        bytes = malloc(size);
    }
    if (!bytes) {
        *status = st_fail(ST_OUT_OF_MEMORY, "no memory for a message of %zu bytes", size);
        return;
    }
    (void)protobuf_c_message_pack(message, bytes);
    const struct iovec iov = { bytes, size };
    *status = net_conn_send(conn, kind, 0, request, &iov, 1, NULL, 0);
    if (bytes != small) {
        free(bytes);
    }
}

int
wk_raylet_gone(void)
{
    const char *evidence = wk.raylet_evidence ? wk.raylet_evidence : "its connection has ended";
    return st_fail(ST_RAYLET_DIED, "the local raylet died: %s", evidence);
}

int
wk_node_send(uint16_t kind, const ProtobufCMessage *message, uint64_t request)
{
    if (!wk.raylet || wk.raylet_dead) {
        return wk_raylet_gone();
    }
    int status;
    wk_send_packed(wk.raylet, kind, message, request, &status);
    return status;
}

static bool
ask_is_over(void *ctx)
{
    const struct wk_ask *ask = ctx;
    return ask->state != WK_ASK_WAITING;
}

int
wk_ask_wait(struct wk_ask *ask, uint64_t deadline_ns)
{
    int status = wk_wait_on(ask_is_over, ask, deadline_ns);
    list_remove(&ask->link);
    if (status == ST_OK && ask->state == WK_ASK_FAILED && wk.raylet_dead) {
        status = wk_raylet_gone();
    } else if (status == ST_OK && ask->state == WK_ASK_FAILED) {
        status = st_fail(ST_CONNECTION, "the connection ended before the answer came");
    }
    return status;
}

int
wk_node_ask(uint16_t kind, const ProtobufCMessage *message, struct wk_ask *ask,
            uint64_t deadline_ns)
{
    *ask = (struct wk_ask){ .request = ++wk.next_request };
    str_init(&ask->answer, wk.mem);
    list_push_back(&wk.asks, &ask->link);
    const int status = wk_node_send(kind, message, ask->request);
    /* Else the raylet has ended, and that is announced soon. */
    const bool ending = wk.ready && !wk.raylet_dead && status == ST_CLOSED;
    if (status != ST_OK && !ending) {
        list_remove(&ask->link);
        return status;
    }
    return wk_ask_wait(ask, deadline_ns);
}

void
wk_ask_fini(struct wk_ask *ask)
{
    str_fini(&ask->answer);
}

/* Gives the frame to whoever asked for it. */
static bool
give_answer(const struct net_frame *frame)
{
    LIST_FOR (l, &wk.asks) {
        struct wk_ask *ask = LIST_ENTRY(l, struct wk_ask, link);
        if (ask->request == frame->header.request_id && ask->state == WK_ASK_WAITING) {
            str_append(&ask->answer, frame->body, frame->size);
            ask->kind = frame->header.kind;
            ask->state = ask->answer.failed ? WK_ASK_FAILED : WK_ASK_ANSWERED;
            wk_changed();
            return true;
        }
    }
    return false;
}

void
wk_ask_answer(const struct net_frame *frame)
{
    (void)give_answer(frame);
}

void
wk_watch(const struct id_worker *worker)
{
    Ray__Node__Watch message = RAY__NODE__WATCH__INIT;
    struct id_worker copy = *worker;
    message.worker_id.data = copy.b;
    message.worker_id.len = sizeof(copy.b);
    (void)!wk_node_send(NODE_WATCH, (const ProtobufCMessage *)&message, 0);
}

void
wk_set_blocked(bool blocked)
{
    const struct wk_exec *e = wk.current;
    if (!e || e->push.epoch == 0 || wk.blocked == blocked) {
        return;
    }
    wk.blocked = wk.bouncing = blocked;
    if (blocked) {
        Ray__Node__Blocked message = RAY__NODE__BLOCKED__INIT;
        message.epoch = e->push.epoch;
        wk_bounce_all();
        storec_status_flags(wk.store, STORE_STATUS_BLOCKED, 0);
        (void)!wk_node_send(NODE_BLOCKED, (const ProtobufCMessage *)&message, 0);
    } else {
        Ray__Node__Unblocked message = RAY__NODE__UNBLOCKED__INIT;
        message.epoch = e->push.epoch;
        storec_status_flags(wk.store, 0, STORE_STATUS_BLOCKED);
        (void)!wk_node_send(NODE_UNBLOCKED, (const ProtobufCMessage *)&message, 0);
    }
}

/* ---- receiving ---- */

/* The slots that a dead worker had sealed for us: those that no reply named are nobody's. Replies
 * that did name them were read before, so what is left is what own doesn't know. */
static void
free_sealed(const ProtobufCBinaryData *sealed)
{
    const size_t n = sealed->len / sizeof(struct store_ref);
    struct store_ref *slots = n > 0 ? malloc(n * sizeof(*slots)) : NULL;
    if (slots) {
        memcpy(slots, sealed->data, n * sizeof(*slots));
        wk_free_unknown_slots(slots, n);
        free(slots);
    }
}

static void
on_process_died(const uint8_t *body, size_t size)
{
    Ray__Node__ProcessDied *message = ray__node__process_died__unpack(NULL, size, body);
    struct id_worker worker;
    if (message && message->worker_id.len == sizeof(worker.b)) {
        memcpy(worker.b, message->worker_id.data, sizeof(worker.b));
        wk_peer_on_death(&worker, message->evidence, message->pid);
        free_sealed(&message->sealed);
        wk_peers_sweep();
    }
    if (message) {
        ray__node__process_died__free_unpacked(message, NULL);
    }
}

/* A grant that nobody waits for goes back. */
static void
return_grant(const struct net_frame *frame)
{
    struct store_grant grant;
    Ray__Node__StoreGrant *message = ray__node__store_grant__unpack(NULL, frame->size, frame->body);
    if (message && message->grant.len == sizeof(grant)) {
        memcpy(&grant, message->grant.data, sizeof(grant));
        Ray__Node__StoreReturn back = RAY__NODE__STORE_RETURN__INIT;
        back.offsets = &grant.offset;
        back.n_offsets = 1;
        (void)!wk_node_send(NODE_STORE_RETURN, (const ProtobufCMessage *)&back, 0);
    }
    if (message) {
        ray__node__store_grant__free_unpacked(message, NULL);
    }
}

static void
on_pressure(uint64_t round)
{
    uint64_t offsets[64];
    size_t n;
    wk_flush_releases();
    wk_flush_frees();
    storec_give_back(wk.store, false);
    do { /* the last one, with less than there is room for, is the answer */
        n = 0;
        while (n < COUNT_OF(offsets) && storec_next_return(wk.store, &offsets[n])) {
            n++;
        }
        Ray__Node__StoreReturn back = RAY__NODE__STORE_RETURN__INIT;
        back.offsets = offsets;
        back.n_offsets = n;
        const uint64_t request = n < COUNT_OF(offsets) ? round : 0;
        (void)!wk_node_send(NODE_STORE_RETURN, (const ProtobufCMessage *)&back, request);
    } while (n == COUNT_OF(offsets));
}

static void
on_leave(const uint8_t *body, size_t size)
{
    Ray__Node__Leave *message = ray__node__leave__unpack(NULL, size, body);
    if (!message) {
        return;
    }
    (void)snprintf(wk.leave_reason, sizeof(wk.leave_reason), "%s", message->reason);
    if (message->graceful) {
        wk.leaving = true;
    } else {
        wk.leave_now = true;
    }
    ray__node__leave__free_unpacked(message, NULL);
    wk_leave_changed();
}

#define WITH_MESSAGE(type, name, ...)                                                              \
    do {                                                                                           \
        type *name##_ = name##__unpack(NULL, frame->size, frame->body);                            \
        if (name##_) {                                                                             \
            __VA_ARGS__;                                                                           \
            name##__free_unpacked(name##_, NULL);                                                  \
        }                                                                                          \
    } while (0)

static void
on_lease_message(const struct net_frame *frame)
{
    const uint64_t now = os_now_ns();
    switch (frame->header.kind) {
    case NODE_LEASE_GRANT:
        WITH_MESSAGE(Ray__Node__LeaseGrant, ray__node__lease_grant,
                     wk_lease_granted(ray__node__lease_grant_));
        break;
    case NODE_LEASE_TROUBLE:
        WITH_MESSAGE(Ray__Node__LeaseTrouble, ray__node__lease_trouble,
                     wk_lease_trouble(ray__node__lease_trouble_));
        break;
    case NODE_LEASE_CANCELLED:
        WITH_MESSAGE(Ray__Node__LeaseCancelled, ray__node__lease_cancelled, {
            const struct sched_lease_cancelled c = {
                .cookie = (uint32_t)ray__node__lease_cancelled_->key,
                .count = ray__node__lease_cancelled_->count,
            };
            wk_lease_on_cancelled(&wk.leases, &c, now);
        });
        break;
    case NODE_LEASE_REVOKE:
        WITH_MESSAGE(Ray__Node__LeaseRevoke, ray__node__lease_revoke, {
            const uint64_t id = ray__node__lease_revoke_->lease_id;
            if (ray__node__lease_revoke_->withdrawn) {
                wk_lease_on_withdraw(&wk.leases, id, now);
            } else {
                wk_lease_on_revoke(&wk.leases, id, now);
            }
        });
        break;
    default:
        break;
    }
}

/* ---- greeting: the answer ---- */

static int hello_fds[4] = { -1, -1, -1, -1 };

/* Descriptors of HelloReply are taken when the frame comes. */
static void
take_fds(const struct net_frame *frame)
{
    for (int i = 0; i < frame->fd_count && i < 4 && frame->header.kind == NODE_HELLO_REPLY; i++) {
        os_close(&hello_fds[i]);
        hello_fds[i] = frame->fds[i];
        frame->fds[i] = -1;
    }
}

static void
take_text(char *to, size_t capacity, const char *from)
{
    (void)snprintf(to, capacity, "%s", from ? from : "");
}

static int
take_reply(const Ray__Node__HelloReply *reply)
{
    if (reply->worker_id.len != sizeof(wk.self.worker) || reply->job_id.len != sizeof(wk.job) ||
        reply->node_id.len != sizeof(wk.self.node) || hello_fds[3] < 0) {
        return st_fail(ST_PROTOCOL, "the raylet's greeting can't be read");
    }
    memcpy(wk.self.worker.b, reply->worker_id.data, sizeof(wk.self.worker));
    memcpy(wk.self.node.b, reply->node_id.data, sizeof(wk.self.node));
    memcpy(wk.job.b, reply->job_id.data, sizeof(wk.job));
    take_text(wk.session_dir, sizeof(wk.session_dir), reply->session_dir);
    take_text(wk.session_name, sizeof(wk.session_name), reply->session_name);
    take_text(wk.node_ip, sizeof(wk.node_ip), reply->node_ip);
    take_text(wk.gcs_socket, sizeof(wk.gcs_socket), reply->gcs_socket);
    take_text(wk.job_namespace, sizeof(wk.job_namespace), reply->job_namespace);
    wk.detached_by_default = reply->detached_by_default;
    wk.num_cpus = reply->num_cpus;
    wk.spin_allowed = reply->spin_allowed;
    const struct storec_config config = {
        .mem = wk.mem,
        .data_fd = hello_fds[0],
        .slots_fd = hello_fds[1],
        .ctl_fd = hello_fds[2],
        .ctl_fixed_fd = hello_fds[3],
        .helper = { os_thread_start, os_thread_join },
    };
    const int status = storec_open(&config, &wk.store);
    for (int i = 0; i < 4; i++) {
        os_close(&hello_fds[i]);
    }
    TRY(status);
    wk.page = storec_process_half(wk.store);
    wk.raylet_page = storec_raylet_half(wk.store);
    return ST_OK;
}

/* What came of the greeting. */
static struct st_error hello_result;

/* The session begins here and not when the main thread wakes: the next frame, or a peer's, may be
 * about actors and references already. */
static void
on_hello_reply(const struct net_frame *frame)
{
    Ray__Node__HelloReply *reply = ray__node__hello_reply__unpack(NULL, frame->size, frame->body);
    int status = wk.store ? st_fail(ST_PROTOCOL, "the raylet greeted twice")
                 : reply  ? take_reply(reply)
                          : st_fail(ST_PROTOCOL, "the raylet's greeting can't be read");
    if (reply) {
        ray__node__hello_reply__free_unpacked(reply, NULL);
    }
    if (status == ST_OK) {
        status = wk_begin_session();
    }
    hello_result = *st_last();
    hello_result.status = status;
}

/* ---- all that comes ---- */

static void
on_frame(void *ctx, struct net_conn *conn, const struct net_frame *frame)
{
    (void)ctx;
    (void)conn;
    switch (frame->header.kind) {
    case NODE_HELLO_REPLY:
        take_fds(frame);
        on_hello_reply(frame);
        (void)give_answer(frame);
        break;
    case NODE_REFUSED:
    case NODE_STATE_ANSWER:
    case NODE_STORE_CHECKED:
        (void)give_answer(frame);
        break;
    case NODE_STORE_GRANT:
        if (frame->header.request_id == WK_REQUEST_AHEAD) {
            wk_on_region_ahead(frame->body, frame->size);
        } else if (!give_answer(frame)) {
            return_grant(frame);
        }
        break;
    case NODE_LEASE_GRANT:
    case NODE_LEASE_TROUBLE:
    case NODE_LEASE_CANCELLED:
    case NODE_LEASE_REVOKE:
        if (wk.ready) {
            on_lease_message(frame);
        }
        break;
    case NODE_PROCESS_DIED:
        /* At shutdown workers die in good order, and no task fails for it: all are cancelled. */
        if (wk.ready) {
            on_process_died(frame->body, frame->size);
        }
        break;
    case NODE_STORE_PRESSURE:
        on_pressure(frame->header.request_id);
        break;
    case NODE_BECOME_ACTOR:
        WITH_MESSAGE(Ray__Node__BecomeActor, ray__node__become_actor,
                     wk_on_become_actor(ray__node__become_actor_));
        break;
    case NODE_LEAVE:
        on_leave(frame->body, frame->size);
        break;
    case NODE_LOG_LINES:
        WITH_MESSAGE(Ray__Node__LogLines, ray__node__log_lines,
                     wk_logs_push(ray__node__log_lines_));
        break;
    case NODE_GOODBYE:
        wk.goodbye = true;
        wk_changed();
        break;
    default:
        break; /* of a later version */
    }
}

void
wk_raylet_died(void)
{
    wk.raylet_dead = true;
    LIST_FOR (l, &wk.asks) {
        struct wk_ask *ask = LIST_ENTRY(l, struct wk_ask, link);
        if (ask->state == WK_ASK_WAITING) {
            ask->state = WK_ASK_FAILED;
        }
    }
    if (!wk.is_driver) {
        wk.leave_now = true;
    }
    if (wk.ready) { /* at shutdown they are cancelled instead */
        wk_callbacks_end();
    }
    wk_leave_changed();
}

static void
on_no_evidence(void *ctx)
{
    (void)ctx;
    wk_raylet_died();
}

static void
on_close(void *ctx, struct net_conn *conn, int status)
{
    (void)ctx;
    (void)conn;
    (void)status;
    if (wk.boot && !wk.raylet_evidence && !wk.raylet_dead && !wk.ending) {
        wk.evidence_timer = (struct net_timer){ .on_timer = on_no_evidence };
        if (net_loop_arm(wk.loop, &wk.evidence_timer, os_now_ns() + WK_EVIDENCE_NS) == ST_OK) {
            wk_kick();
            return;
        }
    }
    wk_raylet_died();
}

/* ---- greeting ---- */

/* Other processes find this one by its worker id. */
static int
link_alias(void)
{
    char hex[17], from[sizeof(wk.socket_dir) + 40], to[sizeof(wk.socket_dir) + 40];
    (void)snprintf(wk.socket_alias, sizeof(wk.socket_alias), "w%s",
                   id_hex(wk.self.worker.b, 8, hex));
    (void)snprintf(from, sizeof(from), "%s/%s", wk.socket_dir, wk.socket_name);
    (void)snprintf(to, sizeof(to), "%s/%s", wk.socket_dir, wk.socket_alias);
    if (link(from, to) != 0) {
        return st_fail_errno(ST_SYSTEM, errno, "link %s", to);
    }
    return ST_OK;
}

static int
read_answer(const struct wk_ask *ask)
{
    if (ask->kind == NODE_REFUSED) {
        Ray__Node__Refused *refused =
            ray__node__refused__unpack(NULL, ask->answer.size, (uint8_t *)ask->answer.data);
        const int status = refused && refused->status < 0 ? refused->status : ST_CONNECTION;
        (void)st_fail(status, "the raylet refused this process: %s", refused ? refused->text : "");
        if (refused) {
            ray__node__refused__free_unpacked(refused, NULL);
        }
        return status;
    }
    *st_last() = hello_result;
    return hello_result.status;
}

int
wk_node_connect(const char *socket_path, const Ray__Node__Hello *hello, int pidfd)
{
    int fd;
    TRY(os_sock_connect(socket_path, &fd));
    TRY(net_conn_create(wk.loop, wk.mem, fd, &raylet_ops, NULL, &wk.raylet));
    struct wk_ask ask = { .request = ++wk.next_request };
    str_init(&ask.answer, wk.mem);
    list_push_back(&wk.asks, &ask.link);
    uint8_t *bytes = malloc(ray__node__hello__get_packed_size(hello) + 1);
    if (!bytes) {
        list_remove(&ask.link);
        return st_fail(ST_OUT_OF_MEMORY, "no memory for a greeting");
    }
    const struct iovec iov = { bytes, ray__node__hello__pack(hello, bytes) };
    int status = net_conn_send(wk.raylet, NODE_HELLO, 0, ask.request, &iov, 1,
                               pidfd >= 0 ? &pidfd : NULL, pidfd >= 0 ? 1 : 0);
    free(bytes);
    if (status == ST_OK) {
        status = wk_ask_wait(&ask, os_now_ns() + UINT64_C(60000000000));
    } else {
        list_remove(&ask.link);
    }
    if (status == ST_OK) {
        status = read_answer(&ask);
    }
    wk_ask_fini(&ask);
    TRY(status);
    return link_alias();
}

void
wk_node_close(void)
{
    net_conn_destroy(&wk.raylet);
    if (wk.store) {
        storec_close(&wk.store);
    }
}
