/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ray-gcs: starting it, starting it again, and talking to it.
 *
 * The raylet keeps the listening socket and hands it to each ray-gcs by inheritance, so whoever
 * connects while there is none waits in the socket's queue instead of being refused. What there is
 * to tell is kept until ray-gcs has stored it and says so: what a dying one had not read, or had
 * read and not stored, is told to the next, in the same order, before the node registers. Questions
 * that have no answer yet are asked again after that.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "os/os_basic.h"
#include "os/os_sock.h"
#include "raylet/rl_io.h"

enum {
    GCS_RESTARTS_MAX = 3,
    GCS_UNTOLD_MAX = 64 * 1024 * 1024,
    GCS_FRAME_MAX = 128 * 1024 * 1024,
};
#define GCS_RESTART_WINDOW_NS UINT64_C(10000000000)
#define GCS_RECONNECT_NS      UINT64_C(50000000)

struct gcs_request {
    struct map_link link;
    uint64_t id;
    uint16_t kind;
    struct rl_job_io *job;      /* ADD_JOB; NULL once the job is over */
    struct rl_process *process; /* STATE_ASK; NULL once it is gone */
    uint64_t their_request;
    char what[64];
};

struct gcs_tell {
    struct list all;
    uint64_t id;
    uint16_t kind;
    struct id_actor ended;      /* ACTOR_EXITED: whose life */
    uint64_t ended_incarnation; /* and which */
    size_t size;
    uint8_t body[];
};

static void on_frame(void *ctx, struct net_conn *conn, const struct net_frame *frame);
static void on_close(void *ctx, struct net_conn *conn, int status);
static const struct net_conn_ops gcs_ops = { .on_frame = on_frame, .on_close = on_close };

/* ---- sending --------------------------------------------------------------------------------- */

/* What a control service that has gone was not told, the next one is: that is no error. */
static void
check_sent(int status)
{
    if (status != ST_OK && status != ST_CLOSED) {
        os_log(OS_LOG_ERROR, "can't tell the control service: %s", st_last()->text);
    }
}

static void
send_now(struct raylet *r, uint16_t kind, uint64_t request, const ProtobufCMessage *m)
{
    check_sent(net_msg_send(r->gcs.conn, kind, request, m, NULL, 0));
}

static void
send_tell(struct raylet *r, const struct gcs_tell *t)
{
    const struct iovec body = { (void *)(uintptr_t)t->body, t->size };
    check_sent(net_conn_send(r->gcs.conn, t->kind, 0, t->id, &body, t->size > 0 ? 1 : 0, NULL, 0));
}

static void
forget_tell(struct raylet *r, struct gcs_tell *t)
{
    list_remove(&t->all);
    r->gcs.untold_bytes -= t->size;
    mem_free(r->mem, t, sizeof(*t) + t->size);
}

uint64_t
rl_gcs_tell(struct raylet *r, uint16_t kind, const ProtobufCMessage *m)
{
    if (r->stopping && !r->gcs.conn) {
        return 0;
    }
    const size_t size = protobuf_c_message_get_packed_size(m);
    struct gcs_tell *t =
        r->gcs.untold_bytes + size <= GCS_UNTOLD_MAX ? mem_alloc(r->mem, sizeof(*t) + size) : NULL;
    if (!t) {
        os_log(OS_LOG_ERROR, "the control service doesn't answer and can't be told of a frame %u",
               kind);
        return 0;
    }
    t->id = ++r->gcs.next_request;
    t->kind = kind;
    t->size = size;
    (void)protobuf_c_message_pack(m, t->body);
    r->gcs.untold_bytes += size;
    list_push_back(&r->gcs.untold, &t->all);
    if (r->gcs.conn) {
        send_tell(r, t);
    }
    return t->id;
}

void
rl_gcs_tell_exit(struct raylet *r, const Ray__Gcs__ActorExited *m)
{
    struct list *last = list_last(&r->gcs.untold);
    rl_gcs_tell(r, GCS_ACTOR_EXITED, &m->base);
    struct list *mine = list_last(&r->gcs.untold);
    if (mine && mine != last) {
        struct gcs_tell *t = LIST_ENTRY(mine, struct gcs_tell, all);
        (void)rl_take_id(&m->actor_id, t->ended.b, sizeof(t->ended.b));
        t->ended_incarnation = m->incarnation;
    }
}

bool
rl_gcs_exit_is_untold(const struct raylet *r, const struct id_actor *id, uint64_t incarnation)
{
    LIST_FOR (l, &r->gcs.untold) {
        const struct gcs_tell *t = LIST_ENTRY(l, struct gcs_tell, all);
        if (t->kind == GCS_ACTOR_EXITED && t->ended_incarnation == incarnation &&
            ID_EQ(t->ended, *id)) {
            return true;
        }
    }
    return false;
}

/* Answers come in the order of what they answer, so this is the first or one of the first. */
static void
on_done(struct raylet *r, uint64_t id, const Ray__Gcs__Done *done)
{
    if (done->status != ST_OK) {
        os_log(OS_LOG_ERROR, "the control service refuses: %s", done->text);
    }
    LIST_FOR (l, &r->gcs.untold) {
        struct gcs_tell *t = LIST_ENTRY(l, struct gcs_tell, all);
        if (t->id == id) {
            const bool is_end = t->kind == GCS_FINISH_JOB;
            forget_tell(r, t);
            if (is_end) {
                rl_job_told(r, id);
            }
            return;
        }
    }
}

static void
send_request(struct raylet *r, const struct gcs_request *q)
{
    if (!r->gcs.conn) {
        return; /* sent when there is a connection */
    }
    if (q->kind == GCS_ADD_JOB && q->job && q->job->driver) {
        const struct rl_process *driver = q->job->driver;
        Ray__Gcs__AddJob m = RAY__GCS__ADD_JOB__INIT;
        m.worker_id = rl_bytes(driver->id.b, sizeof(driver->id.b));
        m.driver_pid = driver->pid;
        m.job_namespace = q->job->config->job_namespace;
        m.entrypoint = q->job->config->entrypoint;
        send_now(r, GCS_ADD_JOB, q->id, &m.base);
    } else if (q->kind == GCS_GCS_STATE_ASK) {
        Ray__Gcs__GcsStateAsk m = RAY__GCS__GCS_STATE_ASK__INIT;
        m.what = rl_text(q->what);
        send_now(r, GCS_GCS_STATE_ASK, q->id, &m.base);
    }
}

static struct gcs_request *
request_new(struct raylet *r, uint16_t kind)
{
    struct gcs_request *q = mem_alloc(r->mem, sizeof(*q));
    if (!q) {
        return NULL;
    }
    *q = (struct gcs_request){ .id = ++r->gcs.next_request, .kind = kind };
    if (map_insert(&r->gcs.requests, &q->link, id_mix64(q->id)) != ST_OK) {
        mem_free(r->mem, q, sizeof(*q));
        return NULL;
    }
    return q;
}

int
rl_gcs_add_job(struct rl_job_io *job)
{
    struct gcs_request *q = request_new(job->raylet, GCS_ADD_JOB);
    if (!q) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for a request");
    }
    q->job = job;
    send_request(job->raylet, q);
    return ST_OK;
}

int
rl_gcs_forward_state(struct rl_process *p, uint64_t request, const char *what)
{
    struct gcs_request *q = request_new(p->raylet, GCS_GCS_STATE_ASK);
    if (!q) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for a request");
    }
    q->process = p;
    q->their_request = request;
    (void)snprintf(q->what, sizeof(q->what), "%s", what);
    send_request(p->raylet, q);
    return ST_OK;
}

void
rl_gcs_forget_process(struct raylet *r, const struct rl_process *p)
{
    struct map_walk walk;
    map_walk_init(&walk);
    for (struct map_link *l = map_walk_next(&r->gcs.requests, &walk); l;
         l = map_walk_next(&r->gcs.requests, &walk)) {
        struct gcs_request *q = CONTAINER_OF(l, struct gcs_request, link);
        if (q->process == p) {
            q->process = NULL;
        }
    }
}

void
rl_gcs_forget_job(struct rl_job_io *job)
{
    struct map_walk walk;
    map_walk_init(&walk);
    for (struct map_link *l = map_walk_next(&job->raylet->gcs.requests, &walk); l;
         l = map_walk_next(&job->raylet->gcs.requests, &walk)) {
        struct gcs_request *q = CONTAINER_OF(l, struct gcs_request, link);
        if (q->job == job) {
            q->job = NULL;
        }
    }
}

/* ---- receiving ------------------------------------------------------------------------------- */

static struct gcs_request *
take_request(struct raylet *r, uint64_t id, uint16_t kind)
{
    struct map_link *l;
    MAP_FOR_HASH (l, &r->gcs.requests, id_mix64(id)) {
        struct gcs_request *q = CONTAINER_OF(l, struct gcs_request, link);
        if (q->id == id && q->kind == kind) {
            map_remove(&r->gcs.requests, &q->link);
            return q;
        }
    }
    return NULL;
}

/* The driver left while its job was being numbered. */
static void
finish_unwanted(struct raylet *r, const Ray__Gcs__JobAdded *m)
{
    Ray__Gcs__FinishJob finish = RAY__GCS__FINISH_JOB__INIT;
    finish.job_id = m->job_id;
    rl_gcs_tell(r, GCS_FINISH_JOB, &finish.base);
}

static void
on_job_added(struct raylet *r, uint64_t id, const Ray__Gcs__JobAdded *m)
{
    struct gcs_request *q = take_request(r, id, GCS_ADD_JOB);
    if (!q) {
        return; /* answered twice, since it was asked twice */
    }
    struct rl_job_io *job = q->job;
    mem_free(r->mem, q, sizeof(*q));
    if (job) {
        rl_job_added(job, m);
    } else {
        finish_unwanted(r, m);
    }
}

static void
on_state(struct raylet *r, uint64_t id, const Ray__Gcs__StateJson *m)
{
    struct gcs_request *q = take_request(r, id, GCS_GCS_STATE_ASK);
    if (!q) {
        return;
    }
    if (q->process) {
        Ray__Node__StateAnswer answer = RAY__NODE__STATE_ANSWER__INIT;
        answer.status = m->status;
        answer.json = m->json;
        rl_send(q->process, NODE_STATE_ANSWER, q->their_request, &answer.base);
    }
    mem_free(r->mem, q, sizeof(*q));
}

static void
on_frame(void *ctx, struct net_conn *conn, const struct net_frame *frame)
{
    (void)conn;
    struct raylet *r = ctx;
    ProtobufCMessage *m = NULL;
    if (net_msg_unpack(frame, GCS_FRAME_MAX, &m) != ST_OK) {
        os_log(OS_LOG_ERROR, "the control service sent %s", st_last()->text);
        return;
    }
    switch (frame->header.kind) {
    case GCS_DONE:
        on_done(r, frame->header.request_id, (const Ray__Gcs__Done *)m);
        break;
    case GCS_JOB_ADDED:
        on_job_added(r, frame->header.request_id, (const Ray__Gcs__JobAdded *)m);
        break;
    case GCS_START_ACTOR:
        rl_on_start_actor(r, (const Ray__Gcs__StartActor *)m);
        break;
    case GCS_STOP_ACTOR:
        rl_on_stop_actor(r, (const Ray__Gcs__StopActor *)m);
        break;
    case GCS_STATE_JSON:
        on_state(r, frame->header.request_id, (const Ray__Gcs__StateJson *)m);
        break;
    default:
        os_log(OS_LOG_ERROR, "the control service sent an unexpected frame kind %u",
               frame->header.kind);
        break;
    }
    net_msg_free(m);
}

/* ---- connection ------------------------------------------------------------------------------ */

static void
send_registration(struct raylet *r)
{
    Ray__Gcs__RegisterNode m = RAY__GCS__REGISTER_NODE__INIT;
    char path[RL_PATH_MAX];
    (void)snprintf(path, sizeof(path), "%s/raylet", r->session.socket_dir);
    m.node_id = rl_bytes(r->node_id.b, sizeof(r->node_id.b));
    m.node_ip = r->node_ip;
    m.node_name = r->host_name;
    m.raylet_socket = path;
    m.session_dir = r->session.dir;
    m.is_head = true;
    Ray__Node__Resource resources[RES_SET_MAX], *pointers[RES_SET_MAX];
    const struct res_set *total = &r->lease.node.total;
    for (uint32_t i = 0; i < total->count; i++) {
        ray__node__resource__init(&resources[i]);
        resources[i].name = rl_text(res_names_text(&r->names, total->items[i].name));
        resources[i].amount = total->items[i].amount.v;
        pointers[i] = &resources[i];
    }
    m.resources = pointers;
    m.n_resources = total->count;
    size_t jobs = 0;
    LIST_FOR (l, &r->jobs) {
        jobs += LIST_ENTRY(l, struct rl_job_io, all)->number != 0;
    }
    m.jobs = arena_alloc(&r->arena, sizeof(*m.jobs) * (jobs + 1));
    ASSERT(m.jobs);
    LIST_FOR (l, &r->jobs) {
        const struct rl_job_io *job = LIST_ENTRY(l, struct rl_job_io, all);
        if (job->number != 0 && !job->told_gcs) {
            m.jobs[m.n_jobs++] = rl_bytes(job->id.b, sizeof(job->id.b));
        }
    }
    rl_actor_tell_all(r, &m);
    send_now(r, GCS_REGISTER_NODE, ++r->gcs.next_request, &m.base);
}

static int
connect_gcs(struct raylet *r)
{
    char path[RL_PATH_MAX];
    (void)snprintf(path, sizeof(path), "%s/gcs", r->session.socket_dir);
    int fd = -1;
    TRY(os_sock_connect(path, &fd));
    TRY(net_conn_create(r->loop, r->mem, fd, &gcs_ops, r, &r->gcs.conn));
    Ray__Gcs__GcsHello hello = RAY__GCS__GCS_HELLO__INIT;
    hello.protocol_version = RAY_PROTOCOL_VERSION;
    hello.node_id = rl_bytes(r->node_id.b, sizeof(r->node_id.b));
    hello.pid = getpid();
    send_now(r, GCS_GCS_HELLO, 0, &hello.base);
    LIST_FOR (l, &r->gcs.untold) {
        send_tell(r, LIST_ENTRY(l, struct gcs_tell, all));
    }
    send_registration(r);
    struct map_walk walk;
    map_walk_init(&walk);
    for (struct map_link *l = map_walk_next(&r->gcs.requests, &walk); l;
         l = map_walk_next(&r->gcs.requests, &walk)) {
        send_request(r, CONTAINER_OF(l, struct gcs_request, link));
    }
    return ST_OK;
}

static void
on_reconnect(void *ctx)
{
    struct raylet *r = ctx;
    if (r->stopping || r->gcs.conn || r->gcs.pid == 0) {
        return;
    }
    if (connect_gcs(r) != ST_OK) {
        os_log(OS_LOG_ERROR, "can't connect to the control service: %s", st_last()->text);
        rl_arm(r, &r->gcs.reconnect, os_now_ns() + GCS_RECONNECT_NS);
    }
}

static void
on_close(void *ctx, struct net_conn *conn, int status)
{
    (void)conn;
    struct raylet *r = ctx;
    net_conn_destroy(&r->gcs.conn);
    if (!r->stopping) {
        os_log(OS_LOG_WARN, "the connection to the control service has ended: %s",
               st_info(status)->text);
        rl_arm(r, &r->gcs.reconnect, os_now_ns() + GCS_RECONNECT_NS);
    }
}

/* ---- the process ----------------------------------------------------------------------------- */

/* The program beside this one. */
static int
gcs_program(char *out, size_t capacity)
{
    char self[RL_PATH_MAX * 4];
    TRY(os_proc_self_path(self, sizeof(self)));
    char *slash = strrchr(self, '/');
    ASSERT(slash);
    *slash = '\0';
    const int n = snprintf(out, capacity, "%s/ray-gcs", self);
    return n > 0 && (size_t)n < capacity ? ST_OK
                                         : st_fail(ST_SYSTEM, "the path of ray-gcs is too long");
}

static int
spawn_gcs(struct raylet *r)
{
    char program[RL_PATH_MAX * 4], database[RL_PATH_MAX + 32], log[RL_PATH_MAX + 32], number[16];
    TRY(gcs_program(program, sizeof(program)));
    (void)snprintf(database, sizeof(database), "%s/gcs.db", r->session.dir);
    (void)snprintf(log, sizeof(log), "%s/logs/gcs_server.err", r->session.dir);
    (void)snprintf(number, sizeof(number), "%d", r->gcs.listener);
    int log_fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (log_fd < 0) {
        return st_fail_errno(ST_SYSTEM, errno, "can't write %s", log);
    }
    const char *const durable = r->standalone ? NULL : "--durable";
    const char *const argv[] = { program,  "--listen-fd", number, "--database",
                                 database, durable,       NULL };
    const struct os_spawn spec = {
        .argv = argv,
        .stdin_fd = -1,
        .stdout_fd = log_fd,
        .stderr_fd = log_fd,
        .keep = &r->gcs.listener,
        .keep_count = 1,
        .new_session = true,
        .die_with_parent = true,
    };
    const int status = os_proc_spawn(&spec, &r->gcs.pid);
    os_close(&log_fd);
    return status;
}

int
rl_gcs_open(struct raylet *r)
{
    char path[RL_PATH_MAX];
    (void)snprintf(path, sizeof(path), "%s/gcs", r->session.socket_dir);
    r->gcs.reconnect = (struct net_timer){ .on_timer = on_reconnect, .ctx = r };
    TRY(os_sock_listen(path, &r->gcs.listener));
    TRY(spawn_gcs(r));
    return connect_gcs(r);
}

/* Whether it has been started again too often lately; notes this time. */
static bool
restarts_too_often(struct raylet *r)
{
    const uint64_t now = os_now_ns();
    struct rl_gcs_link *g = &r->gcs;
    if (g->restart_count == GCS_RESTARTS_MAX) {
        if (now - g->restarts[0] < GCS_RESTART_WINDOW_NS) {
            return true;
        }
        memmove(g->restarts, g->restarts + 1, sizeof(g->restarts[0]) * (GCS_RESTARTS_MAX - 1));
        g->restart_count--;
    }
    g->restarts[g->restart_count++] = now;
    return false;
}

bool
rl_gcs_on_exit(struct raylet *r, const struct os_exit *exit)
{
    if (exit->pid != r->gcs.pid) {
        return false;
    }
    r->gcs.pid = 0;
    if (r->gcs.conn) {
        net_conn_drain(r->gcs.conn);
        net_conn_destroy(&r->gcs.conn);
    }
    char how[128], text[256];
    (void)snprintf(text, sizeof(text), "the control service (pid %d) has ended: %s", (int)exit->pid,
                   os_exit_text(exit, how, sizeof(how)));
    /* It is killed when its end takes longer than that of the runtime may. */
    const bool in_order = exit->signal == SIGKILL || (exit->signal == 0 && exit->code == 0);
    os_log(r->stopping && in_order ? OS_LOG_INFO : OS_LOG_ERROR, "%s", text);
    if (r->stopping) {
        return true;
    }
    if (restarts_too_often(r)) {
        (void)snprintf(text, sizeof(text),
                       "the control service has ended %d times in 10 s, the last time with: %s",
                       GCS_RESTARTS_MAX + 1, how);
        rl_fail(r, ST_GCS_UNAVAILABLE, text);
    } else if (spawn_gcs(r) != ST_OK || connect_gcs(r) != ST_OK) {
        rl_fail(r, ST_GCS_UNAVAILABLE, st_last()->text);
    }
    return true;
}

void
rl_gcs_close(struct raylet *r)
{
    LIST_FOR_SAFE (l, next, &r->gcs.untold) {
        forget_tell(r, LIST_ENTRY(l, struct gcs_tell, all));
    }
    if (r->gcs.conn) {
        net_conn_destroy(&r->gcs.conn);
    }
    os_close(&r->gcs.listener);
    struct map_walk walk;
    map_walk_init(&walk);
    for (struct map_link *l = map_walk_next(&r->gcs.requests, &walk); l;
         l = map_walk_next(&r->gcs.requests, &walk)) {
        struct gcs_request *q = CONTAINER_OF(l, struct gcs_request, link);
        mem_free(r->mem, q, sizeof(*q));
    }
    map_fini(&r->gcs.requests);
}
