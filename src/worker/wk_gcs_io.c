/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The conversation with ray-gcs: made when first needed, made again when ray-gcs comes back.
 *
 * Every request is kept until its answer and sent again over a new connection; they are idempotent.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "os/os_basic.h"
#include "os/os_sock.h"
#include "proto/gcs.pb-c.h"
#include "worker/wk_priv.h"

#define RECONNECT_NS UINT64_C(20000000)

struct gcs_request {
    struct list link;
    uint64_t id;
    uint16_t kind;
    struct str body;
    wk_gcs_answer_fn on_answer;
    void *ctx;
};

static struct list requests = { &requests, &requests };

static void on_frame(void *ctx, struct net_conn *conn, const struct net_frame *frame);
static void on_close(void *ctx, struct net_conn *conn, int status);
static const struct net_conn_ops gcs_ops = { on_frame, on_close };

static void
free_request(struct gcs_request *r)
{
    list_remove(&r->link);
    str_fini(&r->body);
    free(r);
}

static int
send_request(struct gcs_request *r)
{
    const struct iovec iov = { r->body.data, r->body.size };
    return net_conn_send(wk.gcs, r->kind, 0, r->id, &iov, 1, NULL, 0);
}

static int
say_hello(void)
{
    Ray__Gcs__GcsHello hello = RAY__GCS__GCS_HELLO__INIT;
    hello.protocol_version = RAY_PROTOCOL_VERSION;
    hello.worker_id.data = wk.self.worker.b;
    hello.worker_id.len = sizeof(wk.self.worker.b);
    hello.node_id.data = wk.self.node.b;
    hello.node_id.len = sizeof(wk.self.node.b);
    hello.pid = (int32_t)getpid();
    int status;
    wk_send_packed(wk.gcs, GCS_GCS_HELLO, (const ProtobufCMessage *)&hello, 0, &status);
    return status;
}

/* Connects and sends what is outstanding; arms the timer when that fails. */
static void
connect_gcs(void)
{
    char path[sizeof(wk.socket_dir) + sizeof(wk.gcs_socket) + 1];
    int fd;
    (void)snprintf(path, sizeof(path), "%s/%s", wk.socket_dir, wk.gcs_socket);
    if (os_sock_connect(path, &fd) != ST_OK ||
        net_conn_create(wk.loop, wk.mem, fd, &gcs_ops, NULL, &wk.gcs) != ST_OK) {
        (void)!net_loop_arm(wk.loop, &wk.gcs_timer, os_now_ns() + RECONNECT_NS);
        return;
    }
    if (say_hello() != ST_OK) {
        return; /* the loop will report the end */
    }
    wk_actors_rewatch(); /* first: who kills an actor that is not known yet is heard if it watches
                          */
    LIST_FOR (l, &requests) {
        (void)!send_request(LIST_ENTRY(l, struct gcs_request, link));
    }
}

void
wk_gcs_on_timer(void *ctx)
{
    (void)ctx;
    if (!wk.gcs && wk.running) {
        connect_gcs();
    }
}

static void
on_close(void *ctx, struct net_conn *conn, int status)
{
    (void)ctx;
    (void)conn;
    (void)status;
    net_conn_destroy(&wk.gcs);
    (void)!net_loop_arm(wk.loop, &wk.gcs_timer, os_now_ns() + RECONNECT_NS);
    wk_kick();
}

static void
on_frame(void *ctx, struct net_conn *conn, const struct net_frame *frame)
{
    (void)ctx;
    (void)conn;
    if (frame->header.kind == GCS_ACTOR_UPDATE) {
        wk_actor_on_update(frame->body, frame->size);
        return;
    }
    LIST_FOR (l, &requests) {
        struct gcs_request *r = LIST_ENTRY(l, struct gcs_request, link);
        if (r->id == frame->header.request_id) {
            if (r->on_answer) {
                r->on_answer(r->ctx, frame->header.kind, frame->body, frame->size);
            }
            free_request(r);
            return;
        }
    }
}

int
wk_gcs_request(uint16_t kind, const ProtobufCMessage *message, wk_gcs_answer_fn on_answer,
               void *ctx)
{
    const size_t size = protobuf_c_message_get_packed_size(message);
    struct gcs_request *r = calloc(1, sizeof(*r));
    if (!r) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for a request to ray-gcs");
    }
    str_init(&r->body, wk.mem);
    char *room = str_reserve(&r->body, size + 1);
    if (!room) {
        free(r);
        return st_fail(ST_OUT_OF_MEMORY, "no memory for a request of %zu bytes", size);
    }
    r->body.size = protobuf_c_message_pack(message, (uint8_t *)room);
    r->id = ++wk.next_request;
    r->kind = kind;
    r->on_answer = on_answer;
    r->ctx = ctx;
    list_push_back(&requests, &r->link);
    if (!wk.gcs) {
        if (!heap_has(&wk.gcs_timer.node)) {
            connect_gcs();
        }
        return ST_OK;
    }
    (void)!send_request(r); /* a broken connection is made again, and says it then */
    return ST_OK;
}

int
wk_gcs_send(uint16_t kind, const ProtobufCMessage *message)
{
    if (!wk.gcs) {
        if (!heap_has(&wk.gcs_timer.node)) {
            connect_gcs();
        }
        if (!wk.gcs) {
            return st_fail(ST_GCS_UNAVAILABLE, "ray-gcs is being restarted");
        }
    }
    int status;
    wk_send_packed(wk.gcs, kind, message, 0, &status);
    return status;
}

static void
answer_ask(void *ctx, uint16_t kind, const uint8_t *body, size_t size)
{
    struct wk_ask *ask = ctx;
    str_append(&ask->answer, body, size);
    ask->kind = kind;
    ask->state = ask->answer.failed ? WK_ASK_FAILED : WK_ASK_ANSWERED;
    wk_changed();
}

int
wk_gcs_ask(uint16_t kind, const ProtobufCMessage *message, struct wk_ask *ask, uint64_t deadline_ns)
{
    *ask = (struct wk_ask){ 0 };
    str_init(&ask->answer, wk.mem);
    list_push_back(&wk.asks, &ask->link);
    int status = wk_gcs_request(kind, message, answer_ask, ask);
    if (status == ST_OK) {
        status = wk_ask_wait(ask, deadline_ns);
    }
    list_remove(&ask->link);
    if (status != ST_OK) {
        LIST_FOR_SAFE (l, next, &requests) {
            struct gcs_request *r = LIST_ENTRY(l, struct gcs_request, link);
            if (r->ctx == ask) {
                free_request(r);
            }
        }
    }
    return status;
}

void
wk_gcs_close(void)
{
    while (!list_is_empty(&requests)) {
        free_request(LIST_ENTRY((&requests)->next, struct gcs_request, link));
    }
    if (wk.loop) {
        net_loop_disarm(wk.loop, &wk.gcs_timer);
    }
    net_conn_destroy(&wk.gcs);
}
