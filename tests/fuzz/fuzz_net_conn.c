/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Framing of connections: any bytes, cut into any pieces and with any descriptors, come out as
 * whole frames in order or end the connection; nothing leaks.
 */
#include <stdlib.h>
#include <unistd.h>

#include "base/status.h"
#include "fuzz_input.h"
#include "net/net_conn.h"
#include "net/net_msg.h"
#include "os/os_basic.h"
#include "os/os_sock.h"

static bool closed;
static unsigned sum;

static void
on_frame(void *ctx, struct net_conn *conn, const struct net_frame *frame)
{
    (void)ctx;
    (void)conn;
    ASSERT(frame->header.length == frame->size + NET_FRAME_HEADER);
    for (uint32_t i = 0; i < frame->size; i++) {
        sum += frame->body[i];
    }
    if (frame->fd_count > 0 && frame->size % 2 == 0) {
        os_close(&frame->fds[0]);
    }
    ProtobufCMessage *message = NULL;
    if (net_msg_unpack(frame, 1024 * 1024, &message) == ST_OK) {
        net_msg_free(message);
    }
}

static void
on_close(void *ctx, struct net_conn *conn, int status)
{
    (void)ctx;
    (void)conn;
    ASSERT(!closed && status != ST_OK);
    closed = true;
}

static const struct net_conn_ops ops = { on_frame, on_close };

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = { data, size };
    struct net_loop *loop = NULL;
    struct net_conn *conn = NULL;
    int ends[2], pass[OS_SOCK_FDS_MAX];
    closed = false;
    if (os_sock_pair(ends) != ST_OK || net_loop_create(os_mem_system(), &loop) != ST_OK ||
        net_conn_create(loop, os_mem_system(), ends[0], &ops, NULL, &conn) != ST_OK) {
        abort();
    }
    for (int i = 0; i < OS_SOCK_FDS_MAX; i++) {
        pass[i] = STDIN_FILENO;
    }
    while (in.left > 0 && !closed) {
        const int fd_count = (int)(fuzz_number(&in, 1) % (OS_SOCK_FDS_MAX + 1));
        size_t length = 0;
        const uint8_t *bytes = fuzz_string(&in, &length);
        const struct iovec iov = { (void *)(uintptr_t)bytes, length };
        if (length > 0) {
            (void)os_sock_send(ends[1], &iov, 1, pass, fd_count);
        }
        net_conn_drain(conn);
    }
    os_close(&ends[1]);
    if (!closed) {
        net_conn_drain(conn);
    }
    ASSERT(closed);
    net_conn_destroy(&conn);
    net_loop_destroy(&loop);
    return 0;
}
