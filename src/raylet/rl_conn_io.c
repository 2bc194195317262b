/* SPDX-License-Identifier: Apache-2.0 */
/* Connections of drivers and workers: accepting, hello, dispatch, sending. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "os/os_basic.h"
#include "os/os_sock.h"
#include "raylet/rl_io.h"

/* A worker that closes its connection and lives on for so long is killed: as long as one may take
 * that was asked to leave. */
#define CONN_GRACE_NS UINT64_C(5000000000)

/* ---- small things ---------------------------------------------------------------------------- */

bool
rl_take_id(const ProtobufCBinaryData *from, void *to, size_t size)
{
    if (from->len != size) {
        return false;
    }
    memcpy(to, from->data, size);
    return true;
}

ProtobufCBinaryData
rl_bytes(const void *data, size_t size)
{
    return (ProtobufCBinaryData){ .len = size, .data = (uint8_t *)(uintptr_t)data };
}

char *
rl_text(const char *text)
{
    return (char *)(uintptr_t)(text ? text : "");
}

struct rl_process *
rl_find_number(const struct raylet *r, uint64_t number)
{
    struct map_link *l;
    MAP_FOR_HASH (l, &r->by_number, id_mix64(number)) {
        struct rl_process *p = CONTAINER_OF(l, struct rl_process, by_number);
        if (p->number == number) {
            ASSERT(p->magic == RL_PROCESS_MAGIC);
            return p;
        }
    }
    return NULL;
}

struct rl_process *
rl_find_pid(const struct raylet *r, pid_t pid)
{
    struct map_link *l;
    MAP_FOR_HASH (l, &r->by_pid, id_mix64((uint64_t)pid)) {
        struct rl_process *p = CONTAINER_OF(l, struct rl_process, by_pid);
        if (p->pid == pid) {
            return p;
        }
    }
    return NULL;
}

struct rl_process *
rl_find_id(const struct raylet *r, const struct id_worker *id)
{
    struct map_link *l;
    MAP_FOR_HASH (l, &r->by_id, id_hash(id->b, sizeof(id->b))) {
        struct rl_process *p = CONTAINER_OF(l, struct rl_process, by_id);
        if (ID_EQ(p->id, *id)) {
            return p;
        }
    }
    return NULL;
}

/* ---- sending --------------------------------------------------------------------------------- */

/* Something could not be sent. A process that has gone meanwhile is nobody's fault; the loop is
 * about to see it. */
static void
cut_off(struct rl_process *p, int status)
{
    if (status == ST_CLOSED) {
        os_log(OS_LOG_DEBUG, "process %d has gone before it was answered", p->pid);
        return;
    }
    os_log(OS_LOG_WARN, "process %d is cut off: %s", p->pid, st_last()->text);
    (void)shutdown(net_conn_fd(p->conn), SHUT_RDWR); /* the rest happens when that is seen */
}

void
rl_send(struct rl_process *p, uint16_t kind, uint64_t request, const ProtobufCMessage *m)
{
    if (!p->conn) {
        return;
    }
    const int status = net_msg_send(p->conn, kind, request, m, NULL, 0);
    if (status != ST_OK) {
        cut_off(p, status);
    }
}

static void
refuse(struct net_conn *conn, uint64_t request, int status, const char *text)
{
    Ray__Node__Refused m = RAY__NODE__REFUSED__INIT;
    m.status = status;
    m.text = rl_text(text);
    if (net_msg_send(conn, NODE_REFUSED, request, &m.base, NULL, 0) != ST_OK) {
        os_log(OS_LOG_WARN, "%s", st_last()->text);
    }
}

void
rl_refuse_process(struct rl_process *p, uint64_t request, int status, const char *text)
{
    os_log(OS_LOG_WARN, "process %d is refused: %s", p->pid, text);
    if (p->conn) {
        refuse(p->conn, request, status, text);
    }
}

void
rl_send_hello_reply(struct rl_process *p, uint64_t request)
{
    struct raylet *r = p->raylet;
    struct store_fds fds;
    struct store_stats stats;
    if (!p->conn || store_shm_fds(r->shm, p->store_proc, &fds) != ST_OK) {
        os_log(OS_LOG_ERROR, "process %d can't be served: %s", p->pid, st_last()->text);
        rl_conn_drop(p);
        return;
    }
    store_stats(r->store, &stats);
    const struct store_ctl_raylet *half = store_proc_raylet_half(r->store, p->store_proc);
    Ray__Node__HelloReply m = RAY__NODE__HELLO_REPLY__INIT;
    m.worker_id = rl_bytes(p->id.b, sizeof(p->id.b));
    m.job_id = rl_bytes(p->job->id.b, sizeof(p->job->id.b));
    m.node_id = rl_bytes(r->node_id.b, sizeof(r->node_id.b));
    m.session_dir = r->session.dir;
    m.session_name = r->session.name;
    m.socket_dir = r->session.socket_dir;
    m.node_ip = r->node_ip;
    m.gcs_socket = rl_text("gcs");
    m.job_namespace = p->job->job_namespace;
    m.detached_by_default = p->job->config->detached_by_default;
    m.store_epoch = half->store_epoch;
    m.store_size = half->data_size;
    m.slot_table_size = half->slot_count * sizeof(struct store_row);
    m.control_page_size = STORE_CTL_SIZE;
    m.process_index = p->store_proc;
    m.num_cpus = r->machine.cpus;
    m.spin_allowed = !r->machine.cpu_quota && r->machine.cpus > 1;
    const int list[4] = { fds.data, fds.slots, fds.ctl, fds.ctl_fixed };
    const int status = net_msg_send(p->conn, NODE_HELLO_REPLY, request, &m.base, list, 4);
    if (status != ST_OK) {
        cut_off(p, status);
    }
}

/* ---- the end of connections ------------------------------------------------------------------ */

void
rl_conn_drop(struct rl_process *p)
{
    if (p->conn) {
        struct rl_link *link = net_conn_ctx(p->conn);
        net_conn_destroy(&p->conn);
        mem_free(p->raylet->mem, link, sizeof(*link));
    }
}

void
rl_conn_finish(struct rl_process *p)
{
    if (p->conn) {
        net_conn_drain(p->conn);
    }
    rl_conn_drop(p);
}

static void
drop_link(struct rl_link *link)
{
    struct raylet *r = link->raylet;
    list_remove(&link->all);
    net_conn_destroy(&link->conn);
    mem_free(r->mem, link, sizeof(*link));
}

static void
on_conn_timer(void *ctx)
{
    struct rl_process *p = ctx;
    if (!p->dead) {
        rl_worker_kill(p, "it closed its connection to the raylet and lived on");
    }
}

static void
on_close(void *ctx, struct net_conn *conn, int status)
{
    (void)conn;
    struct rl_link *link = ctx;
    struct rl_process *p = link->process;
    if (status != ST_CLOSED) {
        os_log(OS_LOG_ERROR, "the connection of process %d has ended: %s", (int)link->pid,
               st_last()->text);
    }
    if (!p) {
        drop_link(link);
        return;
    }
    if (p->dead) {
        return; /* rl_conn_finish drains it and drops it */
    }
    rl_conn_drop(p);
    if (p->kind == RL_DRIVER) {
        rl_driver_died(p);
    } else if (status == ST_PROTOCOL) {
        rl_worker_kill(p, "it sent a malformed message");
    } else {
        rl_arm(p->raylet, &p->conn_timer, os_now_ns() + CONN_GRACE_NS);
    }
}

/* ---- hello ----------------------------------------------------------------------------------- */

static bool
is_socket_name(const char *name)
{
    const size_t length = strlen(name);
    if (length == 0 || length >= RL_SOCKET_NAME_MAX || name[0] == '.') {
        return false;
    }
    for (const char *p = name; *p; p++) {
        if (!isalnum((unsigned char)*p) && *p != '-' && *p != '_' && *p != '.') {
            return false;
        }
    }
    return strcmp(name, "raylet") != 0 && strcmp(name, "gcs") != 0 && strcmp(name, "lock") != 0 &&
           strcmp(name, "session") != 0 && strcmp(name, "standing") != 0;
}

/* Ties the connection to its process. */
static int
attach(struct rl_link *link, struct rl_process *p, const Ray__Node__Hello *m)
{
    if (m->peer_socket[0] != '\0' && !is_socket_name(m->peer_socket)) {
        return st_fail(ST_PROTOCOL, "the name of a socket makes no sense");
    }
    if (!p->has_store) {
        TRY(store_proc_add(p->raylet->store, &p->id, p->pid,
                           p->kind == RL_DRIVER ? "driver" : "worker", &p->store_proc));
        p->has_store = true;
    }
    (void)snprintf(p->peer_socket, sizeof(p->peer_socket), "%s", m->peer_socket);
    list_remove(&link->all);
    link->process = p;
    p->conn = link->conn;
    p->hello = true;
    p->pressed = p->raylet->press_round; /* it has nothing yet */
    p->conn_timer = (struct net_timer){ .on_timer = on_conn_timer, .ctx = p };
    return ST_OK;
}

static int
hello_worker(struct rl_link *link, uint64_t request, const Ray__Node__Hello *m)
{
    struct raylet *r = link->raylet;
    struct rl_process *p = rl_find_pid(r, link->pid);
    if (!p || p->kind != RL_WORKER_PROCESS || m->start_token.len != sizeof(p->token) ||
        memcmp(m->start_token.data, p->token, sizeof(p->token)) != 0 || p->hello) {
        return st_fail(ST_PROTOCOL, "process %d says it is a worker, but none is awaited",
                       (int)link->pid);
    }
    TRY(attach(link, p, m));
    os_log(OS_LOG_DEBUG, "worker %d says hello", p->pid);
    rl_send_hello_reply(p, request);
    struct rl_outs o;
    rl_outs_begin(r, &o);
    if (rl_lease_on_hello(&r->lease, os_now_ns(), p->number, &o.outs) != ST_OK) {
        os_log(OS_LOG_INFO, "worker %d came too late: %s", p->pid, st_last()->text);
    }
    rl_outs_finish(r, &o);
    return ST_OK;
}

/* The descriptor that came along must stand for the process at the other end. */
static int
take_pidfd(const struct rl_link *link, const struct net_frame *frame, int *out)
{
    if (frame->fd_count < 1 || os_pidfd_pid(frame->fds[0]) != link->pid) {
        return st_fail(ST_PROTOCOL, "the driver's hello has no descriptor of that process");
    }
    *out = frame->fds[0];
    frame->fds[0] = -1;
    return ST_OK;
}

static void
on_driver_pidfd(void *ctx, uint32_t events)
{
    (void)events;
    struct rl_process *p = ctx;
    struct raylet *r = p->raylet;
    rl_driver_died(p);
    rl_jobs_sweep(r);
}

static int
hello_driver(struct rl_link *link, const struct net_frame *frame, const Ray__Node__Hello *m)
{
    struct raylet *r = link->raylet;
    if (!m->job || r->stopping || rl_find_pid(r, link->pid)) {
        return st_fail(ST_PROTOCOL, "%s",
                       !m->job       ? "a driver without a job"
                       : r->stopping ? "the runtime is ending"
                                     : "this process has a job already");
    }
    int pidfd = -1;
    TRY(take_pidfd(link, frame, &pidfd));
    struct rl_job_io *job = rl_job_new(r, m->job);
    struct rl_process *p =
        job ? rl_process_new(r, RL_DRIVER, rl_pool_number(&r->lease.pool), job) : NULL;
    if (!p) {
        os_close(&pidfd);
        if (job) {
            rl_job_end(job);
            rl_job_check(job);
        }
        return st_fail(ST_OUT_OF_MEMORY, "no memory for a driver");
    }
    p->pidfd = (struct net_watch){ .fd = pidfd, .on_ready = on_driver_pidfd, .ctx = p };
    job->driver = p;
    job->hello_request = frame->header.request_id;
    int status = rl_process_set_pid(p, link->pid);
    status = status == ST_OK ? attach(link, p, m) : status;
    status = status == ST_OK ? net_loop_add(r->loop, &p->pidfd, EPOLLIN) : status;
    if (status != ST_OK) {
        p->conn = NULL; /* the caller refuses and drops it */
        link->process = NULL;
        list_push_back(&r->links, &link->all);
        rl_driver_died(p);
        return status;
    }
    if (job->config->n_zygote_argv > 0 && rl_zygote_start(job) != ST_OK) {
        os_log(OS_LOG_ERROR, "no zygote: %s", st_last()->text);
    }
    if (rl_gcs_add_job(job) != ST_OK) {
        os_log(OS_LOG_ERROR, "can't add a job: %s", st_last()->text);
    }
    return ST_OK;
}

static int
on_hello(struct rl_link *link, const struct net_frame *frame, const Ray__Node__Hello *m)
{
    if (m->protocol_version != RAY_PROTOCOL_VERSION) {
        return st_fail(ST_PROTOCOL, "it speaks protocol version %u, this raylet %d",
                       m->protocol_version, RAY_PROTOCOL_VERSION);
    }
    switch (m->role) {
    case RAY__NODE__ROLE__WORKER:
        return hello_worker(link, frame->header.request_id, m);
    case RAY__NODE__ROLE__DRIVER:
        return hello_driver(link, frame, m);
    case RAY__NODE__ROLE__ROLE_UNKNOWN:
    case _RAY__NODE__ROLE_IS_INT_SIZE:
    default:
        return st_fail(ST_PROTOCOL, "a hello of role %d", (int)m->role);
    }
}

/* ---- dispatch -------------------------------------------------------------------------------- */

static int
on_leaving(struct rl_process *p, const Ray__Node__Leaving *m)
{
    if (p->leaving[0] == '\0') {
        (void)snprintf(p->leaving, sizeof(p->leaving), "%s",
                       m->reason[0] ? m->reason : "it left by itself");
        p->leaving_intended = m->intended;
        p->leaving_told = true;
    }
    return ST_OK;
}

static int
on_owning(struct rl_process *p, bool owning)
{
    struct raylet *r = p->raylet;
    rl_lease_on_owning(&r->lease, os_now_ns(), p->number, owning);
    rl_pump(r);
    return ST_OK;
}

/* What only workers say. */
static int
dispatch_worker(struct rl_process *p, uint16_t kind, const void *m)
{
    if (p->kind != RL_WORKER_PROCESS) {
        return st_fail(ST_PROTOCOL, "a driver sends frame kind %u", kind);
    }
    switch (kind) {
    case NODE_BLOCKED:
        return rl_on_blocked(p, ((const Ray__Node__Blocked *)m)->epoch, true);
    case NODE_UNBLOCKED:
        return rl_on_blocked(p, ((const Ray__Node__Unblocked *)m)->epoch, false);
    case NODE_ACTOR_CONSTRUCTED:
        return rl_on_actor_constructed(p, m);
    case NODE_LEAVING:
        return on_leaving(p, m);
    case NODE_OWNING:
        return on_owning(p, ((const Ray__Node__Owning *)m)->owning);
    default:
        return st_fail(ST_PROTOCOL, "unexpected frame kind %u", kind);
    }
}

/* Of what a process had sent before its end, only what gives back or explains is heeded. */
static bool
counts_after_death(uint16_t kind)
{
    return kind == NODE_LEASE_RETURN || kind == NODE_STORE_FREE || kind == NODE_STORE_RETURN ||
           kind == NODE_ACTOR_CONSTRUCTED || kind == NODE_LEAVING;
}

static int
dispatch(struct rl_process *p, const struct net_frame_header *h, const void *m)
{
    if (p->dead && !counts_after_death(h->kind)) {
        return ST_OK;
    }
    switch (h->kind) {
    case NODE_LEASE_REQUEST:
        return rl_on_lease_request(p, m);
    case NODE_LEASE_CANCEL:
        return rl_on_lease_cancel(p, m);
    case NODE_LEASE_RETURN:
        return rl_on_lease_return(p, m);
    case NODE_WATCH:
        return rl_on_watch(p, m);
    case NODE_STORE_ASK:
        return rl_on_store_ask(p, h->request_id, m);
    case NODE_STORE_FREE:
        return rl_on_store_free(p, m);
    case NODE_STORE_RETURN:
        return rl_on_store_return(p, h->request_id, m);
    case NODE_STORE_CHECK:
        return rl_on_store_check(p, h->request_id, m);
    case NODE_STATE_ASK:
        return rl_on_state_ask(p, h->request_id, m);
    case NODE_END_JOB:
        return rl_on_end_job(p, h->request_id, m);
    default:
        return dispatch_worker(p, h->kind, m);
    }
}

static void
on_bad_frame(struct rl_link *link, const struct net_frame *frame)
{
    struct rl_process *p = link->process;
    /* A worker that was being born when the runtime began to end is awaited no more, nor is one
     * that has died since it said hello. */
    const enum os_log_level level = p ? OS_LOG_ERROR : OS_LOG_WARN;
    os_log(link->raylet->stopping ? OS_LOG_INFO : level,
           "the connection of process %d is ended: %s", (int)link->pid, st_last()->text);
    if (!p) {
        refuse(link->conn, frame->header.request_id, st_last()->status, st_last()->text);
        drop_link(link);
        return;
    }
    if (p->dead) {
        return;
    }
    rl_conn_drop(p);
    if (p->kind == RL_DRIVER) {
        rl_driver_died(p);
    } else {
        rl_worker_kill(p, "it sent a malformed message");
    }
}

static void
on_frame(void *ctx, struct net_conn *conn, const struct net_frame *frame)
{
    (void)conn;
    struct rl_link *link = ctx;
    ProtobufCMessage *m = NULL;
    int status = net_msg_unpack(frame, RL_FRAME_MAX, &m);
    if (status == ST_OK) {
        if (link->process) {
            status = dispatch(link->process, &frame->header, m);
        } else if (frame->header.kind == NODE_HELLO) {
            status = on_hello(link, frame, (const Ray__Node__Hello *)m);
        } else if (frame->header.kind == NODE_STATE_ASK) {
            status = rl_on_state_ask_of_link(link, frame->header.request_id,
                                             (const Ray__Node__StateAsk *)m);
        } else {
            status = st_fail(ST_PROTOCOL, "frame kind %u before hello", frame->header.kind);
        }
        net_msg_free(m);
    }
    if (status != ST_OK) {
        on_bad_frame(link, frame);
    }
}

static const struct net_conn_ops link_ops = { .on_frame = on_frame, .on_close = on_close };

/* ---- accepting ------------------------------------------------------------------------------- */

static int
add_link(struct raylet *r, int fd)
{
    pid_t pid = 0;
    uid_t uid = 0;
    if (os_sock_peer(fd, &pid, &uid) != ST_OK || uid != geteuid()) {
        os_close(&fd);
        return st_fail(ST_CONNECTION, "process %d of user %u is not served", (int)pid, uid);
    }
    struct rl_link *link = mem_alloc(r->mem, sizeof(*link));
    if (!link) {
        os_close(&fd);
        return st_fail(ST_OUT_OF_MEMORY, "no memory for a connection");
    }
    *link = (struct rl_link){ .raylet = r, .pid = pid };
    list_init(&link->all);
    const int status = net_conn_create(r->loop, r->mem, fd, &link_ops, link, &link->conn);
    if (status != ST_OK) {
        mem_free(r->mem, link, sizeof(*link));
        return status;
    }
    net_conn_set_max_queued(link->conn, RL_QUEUED_MAX);
    list_push_back(&r->links, &link->all);
    return ST_OK;
}

static void
on_connection(void *ctx, int fd)
{
    if (add_link(ctx, fd) != ST_OK) {
        os_log(OS_LOG_WARN, "a connection is not accepted: %s", st_last()->text);
    }
}

int
rl_conn_listen(struct raylet *r)
{
    char path[RL_PATH_MAX];
    (void)snprintf(path, sizeof(path), "%s/raylet", r->session.socket_dir);
    TRY(os_sock_listen(path, &r->listener));
    return net_accept_open(&r->accept, r->loop, r->listener, on_connection, r);
}

void
rl_conn_close_all(struct raylet *r)
{
    LIST_FOR_SAFE (l, next, &r->links) {
        drop_link(LIST_ENTRY(l, struct rl_link, all));
    }
    LIST_FOR (k, &r->processes) {
        rl_conn_drop(LIST_ENTRY(k, struct rl_process, all));
    }
    net_accept_close(&r->accept);
    os_close(&r->listener);
}
