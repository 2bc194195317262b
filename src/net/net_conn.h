/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Framed connections over unix stream sockets, without ever blocking.
 *
 * A frame that the socket does not take now waits in memory and goes out when there is room. Frames
 * arrive whole, in order, through on_frame. on_close comes exactly once, when the other end has
 * gone or has sent something malformed, and never from within net_conn_send; net_conn_destroy may
 * be called at any time after creation, also within both callbacks, and calls nothing back.
 *
 * A lasting connection (net_conn_make_lasting at both ends) survives its sockets: on_close with
 * ST_CLOSED or ST_SYSTEM says that this socket is over, what is sent waits, and the connecting side
 * may take a new one by net_conn_ask, the accepting side by net_conn_adopt. Then every frame that
 * was sent is handled once, in order (docs/protocols/connections.md). With any other status it is
 * over for good.
 *
 * Used under the lock or by the thread that owns the loop.
 */
#ifndef RAY_NET_CONN_H
#define RAY_NET_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/mem.h"
#include "net/net_frame.h"
#include "net/net_loop.h"

struct net_conn;

struct net_conn_ops {
    void (*on_frame)(void *ctx, struct net_conn *conn, const struct net_frame *frame);
    /* status: ST_CLOSED, ST_PROTOCOL or ST_SYSTEM; st_last() tells more. */
    void (*on_close)(void *ctx, struct net_conn *conn, int status);
};

/* Takes over `fd` (closed also on failure). With -1 it isn't connected yet: what is sent waits
 * until net_conn_attach. */
int net_conn_create(struct net_loop *loop, const struct mem *mem, int fd,
                    const struct net_conn_ops *ops, void *ctx, struct net_conn **out) MUST_USE;
/* Takes over the socket of a connection that had none, and sends what waits. */
int net_conn_attach(struct net_conn *conn, int fd) MUST_USE;
/* Right after creation, before anything is sent. */
void net_conn_make_lasting(struct net_conn *conn);
/* How many frames of the other end's were handled, for it to go on from there. */
uint64_t net_conn_handled(const struct net_conn *conn);
/* The connecting side takes a new socket, and sends one control frame, by which the other end knows
 * the connection; everything else waits for net_conn_resume. */
int net_conn_ask(struct net_conn *conn, int fd, uint16_t kind, const void *body, size_t size)
    MUST_USE;
/* The accepting side takes the socket of `fresh`, on which the other end asked, and closes its own.
 * It sends a control frame, then net_conn_resume. `fresh` is to be destroyed. */
int net_conn_adopt(struct net_conn *conn, struct net_conn *fresh) MUST_USE;
/* The other end has handled so many frames: goes on. ST_PROTOCOL: that can't be. */
int net_conn_resume(struct net_conn *conn, uint64_t handled) MUST_USE;
/* A small frame that is neither counted nor sent again, also when nonsense has come and nothing
 * more is read; ST_WOULD_BLOCK when it would have to wait. */
int net_conn_send_control(struct net_conn *conn, uint16_t kind, const void *body, size_t size)
    MUST_USE;
/* Sends nothing more, closes, nulls. What was queued is lost. */
void net_conn_destroy(struct net_conn **conn);

void *net_conn_ctx(const struct net_conn *conn);
void net_conn_set_ctx(struct net_conn *conn, void *ctx);
int net_conn_fd(const struct net_conn *conn);

/* Sends, or queues, one frame. `request_id` is 0 on a lasting connection. Descriptors are
 * duplicated when they must wait: they stay the caller's. ST_CLOSED after the end, ST_LIMIT when
 * more than `max_queued` bytes would wait. */
int net_conn_send(struct net_conn *conn, uint16_t kind, uint16_t flags, uint64_t request_id,
                  const struct iovec *body, int body_count, const int *fds, int fd_count) MUST_USE;

/* Bytes that wait for room, or for a socket. */
size_t net_conn_queued(const struct net_conn *conn);
/* Everything that was sent is in a socket, or known to be handled. */
bool net_conn_is_flushed(const struct net_conn *conn);
void net_conn_set_max_queued(struct net_conn *conn, size_t bytes);

/* Reads what is there now, as if the loop had said so: drains a dead peer's socket to its end. */
void net_conn_drain(struct net_conn *conn);

/* One byte-sized frame that only wakes the receiver; dropped when the socket is full, since then
 * the receiver has something to wake up for. */
void net_conn_ring_bell(struct net_conn *conn, uint16_t kind);

#endif
