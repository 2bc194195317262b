/* SPDX-License-Identifier: Apache-2.0 */
/* The control service's process. See gcs_server_io.h. */
#include "gcs/gcs_server_io.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/flt.h"
#include "base/id.h"
#include "base/list.h"
#include "base/map.h"
#include "base/status.h"
#include "base/str.h"
#include "gcs/gcs.h"
#include "gcs/gcs_store_io.h"
#include "net/net_accept.h"
#include "net/net_conn.h"
#include "net/net_loop.h"
#include "net/net_msg.h"
#include "os/os_basic.h"
#include "os/os_log.h"
#include "os/os_proc.h"
#include "os/os_sock.h"
#include "proto/gcs_rows.pb-c.h"

enum {
    SERVER_OUTS = 256,
    SERVER_FRAME_MAX = 128 * 1024 * 1024,
    SERVER_QUEUED_MAX = 256 * 1024 * 1024, /* bytes that one connection may leave unread */
};

struct server;

struct client {
    struct server *server;
    struct net_conn *conn;
    struct list all;
    struct map_link link;
    uint64_t number;
    bool doomed; /* to be closed at the end of the round */
};

/* A packed frame that waits for the commit, in server.pending. */
struct pending {
    uint64_t peer, request;
    uint32_t size;
    uint16_t kind;
};

struct server {
    const struct mem *mem;
    struct gcs *gcs;
    struct gcs_store *store;
    struct net_loop *loop;
    struct net_accept accept;
    struct net_watch signals;
    int listener;
    struct net_timer timer;
    struct list clients;
    struct map by_number;
    uint64_t next_number;
    struct arena arena;
    struct str pending, row;
    int failed; /* status: the process has to end */
    bool stop;
};

static struct client *
find_client(struct server *s, uint64_t number)
{
    struct map_link *l;
    MAP_FOR_HASH (l, &s->by_number, id_mix64(number)) {
        struct client *c = CONTAINER_OF(l, struct client, link);
        if (c->number == number) {
            return c;
        }
    }
    return NULL;
}

/* ---- carrying out ---------------------------------------------------------------------------- */

static void
store_row(struct server *s, const struct gcs_row *row)
{
    int status = ST_OK;
    if (row->message) {
        str_clear(&s->row);
        const size_t size = protobuf_c_message_get_packed_size(row->message);
        uint8_t *bytes = (uint8_t *)str_reserve(&s->row, size);
        if (!bytes) {
            status = st_fail(ST_OUT_OF_MEMORY, "no memory for a row of %zu bytes", size);
        } else {
            (void)protobuf_c_message_pack(row->message, bytes);
            status = s->store->ops->put(s->store, row->table, row->key, row->key_size, bytes, size);
        }
    } else {
        status = s->store->ops->erase(s->store, row->table, row->key, row->key_size);
    }
    if (status != ST_OK) {
        s->failed = status;
    }
}

static void
queue_frame(struct server *s, const struct step_out *out)
{
    const size_t size = protobuf_c_message_get_packed_size(out->msg);
    const struct pending head = {
        .peer = out->peer, .request = out->payload, .size = (uint32_t)size, .kind = out->kind
    };
    str_append(&s->pending, &head, sizeof(head));
    uint8_t *bytes = (uint8_t *)str_reserve(&s->pending, size);
    if (!bytes || s->pending.failed) {
        s->failed = st_fail(ST_OUT_OF_MEMORY, "no memory for an answer of %zu bytes", size);
        return;
    }
    (void)protobuf_c_message_pack(out->msg, bytes);
    s->pending.size += size;
}

static void
carry_out(struct server *s, const struct step_outs *outs)
{
    for (uint32_t i = 0; i < outs->count && s->failed == ST_OK; i++) {
        const struct step_out *out = &outs->v[i];
        switch (out->kind) {
        case GCS_OUT_PUT:
        case GCS_OUT_ERASE:
            store_row(s, out->msg);
            break;
        case GCS_OUT_TIMER:
            if (net_loop_arm(s->loop, &s->timer, out->when_ns) != ST_OK) {
                s->failed = ST_OUT_OF_MEMORY;
            }
            break;
        default:
            queue_frame(s, out);
            break;
        }
    }
}

/* Steps the machine until it has no more to say. */
static int
step(struct server *s, uint16_t kind, uint64_t peer, uint64_t request, const void *msg)
{
    struct step_out v[SERVER_OUTS];
    struct step_in in = {
        .kind = kind, .now_ns = os_now_ns(), .peer = peer, .payload = request, .msg = msg
    };
    int status = ST_OK;
    struct step_outs outs;
    do {
        outs = (struct step_outs){ .v = v, .capacity = SERVER_OUTS, .arena = &s->arena };
        const int now = gcs_step(s->gcs, &in, &outs);
        status = status == ST_OK ? now : status;
        carry_out(s, &outs);
        arena_reset(&s->arena);
        in.kind = STEP_CONTINUE;
    } while (outs.more && s->failed == ST_OK);
    return status;
}

/* ---- connections ----------------------------------------------------------------------------- */

static void
drop_client(struct server *s, struct client *c)
{
    net_conn_destroy(&c->conn);
    list_remove(&c->all);
    map_remove(&s->by_number, &c->link);
    const uint64_t number = c->number;
    mem_free(s->mem, c, sizeof(*c));
    (void)step(s, GCS_IN_CLOSED, number, 0, NULL);
}

static void
on_frame(void *ctx, struct net_conn *conn, const struct net_frame *frame)
{
    (void)conn;
    struct client *c = ctx;
    if (c->doomed) {
        return;
    }
    ProtobufCMessage *message = NULL;
    int status = net_msg_unpack(frame, SERVER_FRAME_MAX, &message);
    if (status == ST_OK) {
        status = step(c->server, frame->header.kind, c->number, frame->header.request_id, message);
        net_msg_free(message);
    }
    if (status != ST_OK) {
        os_log(OS_LOG_ERROR, "a connection is ended: %s", st_last()->text);
        c->doomed = true;
    }
}

static void
on_close(void *ctx, struct net_conn *conn, int status)
{
    (void)conn;
    struct client *c = ctx;
    if (status != ST_CLOSED) {
        os_log(OS_LOG_WARN, "a connection has failed: %s", st_last()->text);
    }
    c->doomed = true;
}

static const struct net_conn_ops client_ops = { .on_frame = on_frame, .on_close = on_close };

static int
add_client(struct server *s, int fd)
{
    pid_t pid = 0;
    uid_t uid = 0;
    if (os_sock_peer(fd, &pid, &uid) != ST_OK || uid != geteuid()) {
        os_close(&fd);
        return st_fail(ST_CONNECTION, "process %d of user %u is not served", (int)pid, uid);
    }
    struct client *c = mem_alloc(s->mem, sizeof(*c));
    if (!c) {
        os_close(&fd);
        return st_fail(ST_OUT_OF_MEMORY, "no memory for a connection");
    }
    *c = (struct client){ .server = s, .number = s->next_number };
    if (map_insert(&s->by_number, &c->link, id_mix64(c->number)) != ST_OK) {
        os_close(&fd);
        mem_free(s->mem, c, sizeof(*c));
        return st_fail(ST_OUT_OF_MEMORY, "no memory for a connection");
    }
    if (net_conn_create(s->loop, s->mem, fd, &client_ops, c, &c->conn) != ST_OK) {
        map_remove(&s->by_number, &c->link);
        mem_free(s->mem, c, sizeof(*c));
        return ST_OUT_OF_MEMORY;
    }
    net_conn_set_max_queued(c->conn, SERVER_QUEUED_MAX);
    s->next_number++;
    list_push_back(&s->clients, &c->all);
    return ST_OK;
}

static void
on_connection(void *ctx, int fd)
{
    if (add_client(ctx, fd) != ST_OK) {
        os_log(OS_LOG_WARN, "a connection is not accepted: %s", st_last()->text);
    }
}

static void
on_signal(void *ctx, uint32_t events)
{
    (void)events;
    struct server *s = ctx;
    while (os_signal_next(s->signals.fd) != 0) {
        s->stop = true;
    }
}

static void
on_timer(void *ctx)
{
    struct server *s = ctx;
    (void)step(s, GCS_IN_TICK, 0, 0, NULL);
}

/* ---- rounds ---------------------------------------------------------------------------------- */

/* Everything decided in this round becomes a promise, then is told. */
static void
end_round(struct server *s)
{
    LIST_FOR_SAFE (l, next, &s->clients) {
        struct client *c = LIST_ENTRY(l, struct client, all);
        if (c->doomed) {
            drop_client(s, c);
        }
    }
    if (s->failed == ST_OK) {
        (void)FAULT("gcs.round.before_commit");
        s->failed = s->store->ops->commit(s->store);
    }
    if (s->failed != ST_OK) {
        return;
    }
    (void)FAULT("gcs.round.before_answers"); /* what was asked is stored, and nobody knows */
    for (size_t at = 0; at < s->pending.size;) {
        struct pending head;
        memcpy(&head, s->pending.data + at, sizeof(head));
        at += sizeof(head);
        struct client *c = find_client(s, head.peer);
        const struct iovec body = { s->pending.data + at, head.size };
        if (c && !c->doomed &&
            net_conn_send(c->conn, head.kind, 0, head.request, &body, head.size > 0 ? 1 : 0, NULL,
                          0) != ST_OK) {
            os_log(OS_LOG_WARN, "a connection is ended: %s", st_last()->text);
            c->doomed = true; /* in the next round, which its end brings about */
        }
        at += head.size;
    }
    str_clear(&s->pending);
}

static bool
any_doomed(const struct server *s)
{
    LIST_FOR (l, &s->clients) {
        if (LIST_ENTRY(l, struct client, all)->doomed) {
            return true;
        }
    }
    return false;
}

static void
serve(struct server *s)
{
    struct net_events events;
    while (!s->stop && s->failed == ST_OK) {
        net_loop_wait(s->loop, net_loop_next_timer(s->loop), &events);
        (void)net_loop_dispatch(s->loop, &events);
        do {
            end_round(s);
        } while (s->failed == ST_OK && any_doomed(s));
    }
}

/* ---- start and end --------------------------------------------------------------------------- */

struct load {
    struct server *server;
    uint16_t kind;
    const ProtobufCMessageDescriptor *descriptor;
};

static int
on_row(void *ctx, const void *value, size_t size)
{
    const struct load *load = ctx;
    ProtobufCMessage *row = protobuf_c_message_unpack(load->descriptor, NULL, size, value);
    if (!row) {
        return st_fail(ST_PROTOCOL, "a stored %s of %zu bytes can't be read",
                       load->descriptor->short_name, size);
    }
    const int status = step(load->server, load->kind, 0, 0, row);
    protobuf_c_message_free_unpacked(row, NULL);
    return status;
}

static int
load_rows(struct server *s)
{
    const struct {
        enum gcs_table table;
        struct load load;
    } tables[] = {
        { GCS_TABLE_JOBS, { s, GCS_IN_LOAD_JOB, &ray__gcs__job_row__descriptor } },
        { GCS_TABLE_ACTORS, { s, GCS_IN_LOAD_ACTOR, &ray__gcs__actor_row__descriptor } },
        { GCS_TABLE_KV, { s, GCS_IN_LOAD_KV, &ray__gcs__kv_row__descriptor } },
    };
    for (size_t i = 0; i < COUNT_OF(tables); i++) {
        struct load load = tables[i].load;
        TRY(s->store->ops->each(s->store, tables[i].table, on_row, &load));
    }
    return step(s, GCS_IN_LOADED, 0, 0, NULL);
}

static int
open_server(struct server *s, const struct gcs_server_config *config)
{
    s->mem = os_mem_system();
    list_init(&s->clients);
    map_init(&s->by_number, s->mem);
    arena_init(&s->arena, s->mem);
    str_init(&s->pending, s->mem);
    str_init(&s->row, s->mem);
    s->next_number = 1;
    s->listener = config->listen_fd;
    s->signals = (struct net_watch){ .fd = -1, .on_ready = on_signal, .ctx = s };
    s->timer = (struct net_timer){ .on_timer = on_timer, .ctx = s };
    struct gcs_config gcs_config;
    gcs_config_default(&gcs_config);
    gcs_config.wall_offset_ns = (int64_t)(os_wall_ns() - os_now_ns());
    static const int signals[] = { SIGTERM, 0 };
    TRY(os_signal_open(signals, &s->signals.fd));
    TRY(gcs_create(s->mem, &gcs_config, &s->gcs));
    TRY(net_loop_create(s->mem, &s->loop));
    TRY(gcs_store_open_sqlite(config->database, config->durable, &s->store));
    TRY(load_rows(s));
    TRY(net_loop_add(s->loop, &s->signals, EPOLLIN));
    return net_accept_open(&s->accept, s->loop, s->listener, on_connection, s);
}

static void
close_server(struct server *s)
{
    LIST_FOR_SAFE (l, next, &s->clients) {
        struct client *c = LIST_ENTRY(l, struct client, all);
        net_conn_destroy(&c->conn);
        mem_free(s->mem, c, sizeof(*c));
    }
    if (s->loop) {
        net_accept_close(&s->accept);
        net_loop_remove(s->loop, &s->signals);
        net_loop_disarm(s->loop, &s->timer);
    }
    os_close(&s->listener);
    os_close(&s->signals.fd);
    if (s->store) {
        s->store->ops->close(&s->store);
    }
    gcs_destroy(&s->gcs);
    if (s->loop) {
        net_loop_destroy(&s->loop);
    }
    map_fini(&s->by_number);
    arena_fini(&s->arena);
    str_fini(&s->pending);
    str_fini(&s->row);
}

int
gcs_server_run(const struct gcs_server_config *config)
{
    struct server s;
    memset(&s, 0, sizeof(s));
    int status = open_server(&s, config);
    if (status == ST_OK) {
        serve(&s);
        status = s.failed;
    }
    close_server(&s);
    return status;
}
