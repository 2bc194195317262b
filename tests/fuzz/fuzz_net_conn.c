/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Framing of connections: any bytes, cut into any pieces and with any descriptors, come out as
 * whole frames in order or end the connection; nothing leaks. So with connections that last: their
 * sockets end, they ask on new ones or adopt them, and are told counts that can be or can't.
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
static bool lasting;
static unsigned sum;
static int ends[2], pass[OS_SOCK_FDS_MAX];
static struct net_loop *loop;
static struct net_conn *conn;

static void
on_frame(void *ctx, struct net_conn *from, const struct net_frame *frame)
{
    (void)ctx;
    (void)from;
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
on_close(void *ctx, struct net_conn *from, int status)
{
    (void)ctx;
    (void)from;
    ASSERT(!closed && status != ST_OK);
    closed = !lasting || (status != ST_CLOSED && status != ST_SYSTEM);
}

static const struct net_conn_ops ops = { on_frame, on_close };

static void
give_bytes(struct fuzz_input *in)
{
    const int fd_count = (int)(fuzz_number(in, 1) % (OS_SOCK_FDS_MAX + 1));
    size_t length = 0;
    const uint8_t *bytes = fuzz_string(in, &length);
    const struct iovec iov = { (void *)(uintptr_t)bytes, length };
    if (length > 0 && ends[1] >= 0) {
        (void)os_sock_send(ends[1], &iov, 1, pass, fd_count);
    }
}

/* ---- connections that last ---- */

static uint64_t
some_count(struct fuzz_input *in)
{
    const uint64_t n = fuzz_number(in, 1);
    return n == 255 ? UINT64_MAX : n > 250 ? (uint64_t)1 << (n - 200) : n % 16;
}

static void
give_frame(struct fuzz_input *in)
{
    static const uint8_t body[256];
    const uint64_t flags = fuzz_number(in, 1);
    const size_t size = fuzz_number(in, 1);
    const int fd_count = flags & 2 ? (int)(flags >> 4) : 0;
    const struct net_frame_header header = {
        .length = (uint32_t)(NET_FRAME_HEADER + size),
        .kind = flags & 4 ? 9 : NET_FRAME_TOLD,
        .flags = (uint16_t)((flags & 1 ? NET_FRAME_CONTROL : 0) | fd_count << NET_FRAME_FDS_SHIFT),
        .request_id = some_count(in),
    };
    const struct iovec iov[2] = { { (void *)(uintptr_t)&header, sizeof(header) },
                                  { (void *)(uintptr_t)body, size } };
    if (ends[1] >= 0) {
        (void)os_sock_send(ends[1], iov, 2, pass, fd_count);
    }
}

static void
send_frame(struct fuzz_input *in)
{
    static const uint8_t body[60000];
    const uint64_t how = fuzz_number(in, 1);
    const struct iovec iov = { (void *)(uintptr_t)body, how % 4 == 3 ? sizeof(body) : how };
    (void)!net_conn_send(conn, 9, 0, 0, &iov, 1, pass, how & 8 ? (int)(how >> 6) : 0);
}

static void
new_pair(void)
{
    os_close(&ends[1]);
    if (os_sock_pair(ends) != ST_OK) {
        abort();
    }
}

static void
adopt(struct fuzz_input *in)
{
    struct net_conn *fresh = NULL;
    const int old = ends[1];
    if (os_sock_pair(ends) != ST_OK ||
        net_conn_create(loop, os_mem_system(), ends[0], &ops, NULL, &fresh) != ST_OK) {
        abort();
    }
    net_conn_make_lasting(fresh);
    give_bytes(in);
    const bool over = closed;
    net_conn_drain(fresh);
    const uint64_t handled = net_conn_handled(conn);
    closed = over; /* what `fresh` came to */
    if (net_conn_adopt(conn, fresh) == ST_OK &&
        net_conn_send_control(conn, 9, &handled, sizeof(handled)) == ST_OK &&
        net_conn_resume(conn, some_count(in)) != ST_OK) {
        closed = true;
    }
    net_conn_destroy(&fresh);
    if (old >= 0) {
        (void)close(old);
    }
}

static void
last(struct fuzz_input *in)
{
    char buf[4096];
    int fds[OS_SOCK_FDS_MAX], count = 0;
    switch (fuzz_number(in, 1) % 9) {
    case 0:
        give_bytes(in);
        break;
    case 1:
    case 2:
        give_frame(in);
        break;
    case 3:
    case 4:
        send_frame(in);
        break;
    case 5:
        if (net_conn_fd(conn) < 0) {
            new_pair();
            const uint64_t handled = net_conn_handled(conn);
            (void)!net_conn_ask(conn, ends[0], 9, &handled, sizeof(handled));
        } else {
            os_close(&ends[1]);
        }
        break;
    case 6:
        adopt(in);
        break;
    case 7:
        if (net_conn_fd(conn) >= 0 && net_conn_resume(conn, some_count(in)) != ST_OK) {
            closed = true;
        }
        break;
    default:
        net_conn_ring_bell(conn, 9);
        (void)!net_conn_is_flushed(conn);
        if (ends[1] >= 0) {
            (void)os_sock_receive(ends[1], buf, sizeof(buf), fds, &count);
        }
        while (count > 0) {
            os_close(&fds[--count]);
        }
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = { data, size };
    closed = false;
    if (os_sock_pair(ends) != ST_OK || net_loop_create(os_mem_system(), &loop) != ST_OK ||
        net_conn_create(loop, os_mem_system(), ends[0], &ops, NULL, &conn) != ST_OK) {
        abort();
    }
    for (int i = 0; i < OS_SOCK_FDS_MAX; i++) {
        pass[i] = STDIN_FILENO;
    }
    lasting = fuzz_number(&in, 1) % 2 == 1;
    if (lasting) {
        net_conn_make_lasting(conn);
    }
    while (in.left > 0 && !closed) {
        struct net_events events;
        if (lasting) {
            last(&in);
            net_loop_wait(loop, 0, &events);
            (void)net_loop_dispatch(loop, &events);
        } else {
            give_bytes(&in);
        }
        net_conn_drain(conn);
    }
    os_close(&ends[1]);
    if (!closed) {
        net_conn_drain(conn);
    }
    ASSERT(closed || lasting);
    net_conn_destroy(&conn);
    net_loop_destroy(&loop);
    return 0;
}
