/* SPDX-License-Identifier: Apache-2.0 */
/* Framed connections. See net_conn.h. */
#include "net/net_conn.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/status.h"
#include "base/str.h"
#include "net/net_resume.h"
#include "os/os_basic.h"
#include "os/os_sock.h"

enum {
    CONN_READ_SIZE = 64 * 1024,
    CONN_IOV_MAX = 16,
    CONN_DEFAULT_MAX_QUEUED = 1024 * 1024 * 1024,
    CONN_KEEP = 128 * 1024, /* larger buffers are given back when they run empty */
};

/* Descriptors that go with the byte at `offset` of the stream. */
struct queued_fds {
    struct queued_fds *next;
    uint64_t offset;
    int count;
    int fds[OS_SOCK_FDS_MAX];
};

struct net_conn {
    const struct mem *mem;
    struct net_loop *loop;
    struct net_watch watch;
    const struct net_conn_ops *ops;
    void *ctx;
    struct str in;   /* unparsed bytes */
    size_t in_start; /* parsed so far */
    struct net_resume out;
    struct queued_fds *out_fds, **out_fds_tail; /* of the frames in `out` */
    struct queued_fds *next_fds;                /* of these, the first that aren't written */
    size_t max_queued;
    int in_fds[OS_SOCK_FDS_MAX];
    int in_fd_count;
    int depth;      /* callbacks on the stack */
    bool writing;   /* EPOLLOUT is watched */
    bool closed;    /* on_close was called, or is due */
    bool destroyed; /* to be freed when depth returns to 0 */
};

static void on_ready(void *ctx, uint32_t events);

int
net_conn_create(struct net_loop *loop, const struct mem *mem, int fd,
                const struct net_conn_ops *ops, void *ctx, struct net_conn **out)
{
    *out = NULL;
    struct net_conn *conn = mem_alloc(mem, sizeof(*conn));
    if (!conn) {
        os_close(&fd);
        return st_fail(ST_OUT_OF_MEMORY, "no memory for a connection");
    }
    *conn = (struct net_conn){
        .mem = mem,
        .loop = loop,
        .ops = ops,
        .ctx = ctx,
        .max_queued = CONN_DEFAULT_MAX_QUEUED,
        .watch = { .fd = fd, .on_ready = on_ready },
    };
    conn->watch.ctx = conn;
    conn->out_fds_tail = &conn->out_fds;
    str_init(&conn->in, mem);
    net_resume_init(&conn->out, mem, false);
    const int status = fd < 0 ? ST_OK : net_loop_add(loop, &conn->watch, EPOLLIN | EPOLLET);
    if (status != ST_OK) {
        os_close(&fd);
        mem_free(mem, conn, sizeof(*conn));
        return status;
    }
    *out = conn;
    return ST_OK;
}

/* Closes the descriptors of frames that are forgotten. */
static void
drop_sent_fds(struct net_conn *conn, uint64_t before)
{
    while (conn->out_fds && conn->out_fds->offset < before) {
        struct queued_fds *q = conn->out_fds;
        conn->out_fds = q->next;
        if (conn->next_fds == q) {
            conn->next_fds = q->next;
        }
        for (int i = 0; i < q->count; i++) {
            os_close(&q->fds[i]);
        }
        mem_free(conn->mem, q, sizeof(*q));
    }
    if (!conn->out_fds) {
        conn->out_fds_tail = &conn->out_fds;
    }
}

/* Closes the first `count` received descriptors, those taken by their reader (-1) excepted. */
static void
drop_in_fds(struct net_conn *conn, int count)
{
    for (int i = 0; i < count; i++) {
        os_close(&conn->in_fds[i]);
    }
    conn->in_fd_count -= count;
    memmove(conn->in_fds, conn->in_fds + count, (size_t)conn->in_fd_count * sizeof(int));
}

static void
free_conn(struct net_conn *conn)
{
    drop_sent_fds(conn, UINT64_MAX);
    drop_in_fds(conn, conn->in_fd_count);
    str_fini(&conn->in);
    net_resume_fini(&conn->out);
    mem_free(conn->mem, conn, sizeof(*conn));
}

void
net_conn_destroy(struct net_conn **conn)
{
    struct net_conn *c = *conn;
    if (!c) {
        return;
    }
    *conn = NULL;
    net_loop_remove(c->loop, &c->watch);
    os_close(&c->watch.fd);
    c->closed = true;
    c->destroyed = true;
    if (c->depth == 0) {
        free_conn(c);
    }
}

void *
net_conn_ctx(const struct net_conn *conn)
{
    return conn->ctx;
}

void
net_conn_set_ctx(struct net_conn *conn, void *ctx)
{
    conn->ctx = ctx;
}

int
net_conn_fd(const struct net_conn *conn)
{
    return conn->watch.fd;
}

size_t
net_conn_queued(const struct net_conn *conn)
{
    return net_resume_waiting(&conn->out);
}

bool
net_conn_is_flushed(const struct net_conn *conn)
{
    const struct net_resume *out = &conn->out;
    return net_resume_waiting(out) == 0 && (!out->down || out->out.size == out->start);
}

void
net_conn_set_max_queued(struct net_conn *conn, size_t bytes)
{
    conn->max_queued = bytes;
}

static int
watch_writing(struct net_conn *conn, bool on)
{
    if (conn->writing == on || conn->watch.slot == 0) {
        return ST_OK;
    }
    conn->writing = on;
    return net_loop_change(conn->loop, &conn->watch, (on ? EPOLLIN | EPOLLOUT : EPOLLIN) | EPOLLET);
}

/* Says how many frames were handled, when that is due. What finds no room is said when there is
 * some: nothing else may follow for long, and the other side keeps all of it meanwhile. */
static void
tell(struct net_conn *conn)
{
    if (conn->out.lasting && !conn->out.down && net_resume_must_tell(&conn->out) &&
        net_conn_send_control(conn, NET_FRAME_TOLD, NULL, 0) == ST_WOULD_BLOCK) {
        (void)!watch_writing(conn, true);
    }
}

/* Sends queued bytes until the socket is full; descriptors start a send of their own. */
static int
flush(struct net_conn *conn)
{
    const char *bytes = NULL;
    size_t n;
    while (conn->watch.fd >= 0 && (n = net_resume_unwritten(&conn->out, &bytes)) > 0) {
        const uint64_t position = net_resume_position(&conn->out);
        struct queued_fds *q = conn->next_fds;
        int count = 0;
        if (q && q->offset == position) {
            count = q->count;
            if (q->next && q->next->offset - position < n) {
                n = (size_t)(q->next->offset - position);
            }
        } else if (q && q->offset - position < n) {
            n = (size_t)(q->offset - position);
        }
        struct iovec iov = { .iov_len = n };
        memcpy(&iov.iov_base, &bytes, sizeof(bytes));
        const int64_t sent = os_sock_send(conn->watch.fd, &iov, 1, q ? q->fds : NULL, count);
        if (sent < 0) {
            return (int)sent;
        }
        if (sent == 0) {
            return watch_writing(conn, true);
        }
        if (count > 0) {
            conn->next_fds = q->next;
        }
        net_resume_wrote(&conn->out, (size_t)sent);
        drop_sent_fds(conn, conn->out.base);
    }
    TRY(watch_writing(conn, false));
    tell(conn);
    return ST_OK;
}

static int
queue_fds(struct net_conn *conn, const int *fds, int count)
{
    struct queued_fds *q = mem_alloc(conn->mem, sizeof(*q));
    if (!q) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for descriptors that wait to be sent");
    }
    *q = (struct queued_fds){ .offset = net_resume_position(&conn->out) + net_conn_queued(conn) };
    for (int i = 0; i < count; i++) {
        q->fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
        if (q->fds[i] < 0) {
            const int status = st_fail_errno(ST_SYSTEM, errno, "duplicate a descriptor");
            while (i-- > 0) {
                os_close(&q->fds[i]);
            }
            mem_free(conn->mem, q, sizeof(*q));
            return status;
        }
        q->count = i + 1;
    }
    *conn->out_fds_tail = q;
    conn->out_fds_tail = &q->next;
    if (!conn->next_fds) {
        conn->next_fds = q;
    }
    return ST_OK;
}

int
net_conn_send(struct net_conn *conn, uint16_t kind, uint16_t flags, uint64_t request_id,
              const struct iovec *body, int body_count, const int *fds, int fd_count)
{
    ASSERT(body_count < CONN_IOV_MAX && fd_count <= NET_FRAME_FDS_MAX);
    if (conn->closed) {
        return ST_CLOSED;
    }
    struct iovec iov[CONN_IOV_MAX];
    size_t length = NET_FRAME_HEADER;
    for (int i = 0; i < body_count; i++) {
        iov[i + 1] = body[i];
        length += body[i].iov_len;
    }
    if (length > NET_FRAME_MAX) {
        return st_fail(ST_LIMIT, "a message of %zu bytes is over the limit of %d", length,
                       NET_FRAME_MAX);
    }
    const bool lasting = conn->out.lasting;
    ASSERT(!lasting || request_id == 0);
    const uint16_t all_flags = (uint16_t)(flags | fd_count << NET_FRAME_FDS_SHIFT);
    struct net_frame_header header = { (uint32_t)length, kind, all_flags,
                                       lasting ? net_resume_tell(&conn->out) : request_id };
    iov[0] = (struct iovec){ .iov_base = &header, .iov_len = sizeof(header) };
    const bool direct = net_conn_queued(conn) == 0 && conn->watch.fd >= 0 && !conn->out.down;
    int64_t sent = 0;
    if (!direct && net_conn_queued(conn) + length > conn->max_queued) {
        return st_fail(ST_LIMIT, "more than %zu bytes wait to be sent", conn->max_queued);
    }
    if (lasting && fd_count > 0) { /* first: what was sent has to be kept, too */
        TRY(queue_fds(conn, fds, fd_count));
    }
    if (direct) {
        sent = os_sock_send(conn->watch.fd, iov, body_count + 1, fds, fd_count);
        if (sent < 0 && !lasting) {
            return (int)sent; /* the loop will report the end of the connection */
        }
        sent = sent < 0 ? 0 : sent;
    }
    if (!lasting && fd_count > 0 && sent == 0) {
        TRY(queue_fds(conn, fds, fd_count));
    }
    if (sent > 0) {
        conn->next_fds = NULL; /* nothing waited before this frame, and its own went with it */
    }
    TRY(net_resume_append(&conn->out, iov, body_count + 1, (size_t)sent));
    return net_conn_queued(conn) > 0 ? watch_writing(conn, true) : ST_OK;
}

int
net_conn_send_control(struct net_conn *conn, uint16_t kind, const void *body, size_t size)
{
    if (conn->watch.fd < 0) {
        return ST_CLOSED;
    }
    if (!conn->out.down && net_conn_queued(conn) > 0) {
        return ST_WOULD_BLOCK;
    }
    /* The other end may not know yet what it says is counted here. */
    struct net_frame_header header = { (uint32_t)(NET_FRAME_HEADER + size), kind, NET_FRAME_CONTROL,
                                       conn->out.down ? 0 : conn->out.handled };
    struct iovec iov[2] = { { &header, sizeof(header) }, { .iov_len = size } };
    memcpy(&iov[1].iov_base, &body, sizeof(body));
    const int64_t sent = os_sock_send(conn->watch.fd, iov, size > 0 ? 2 : 1, NULL, 0);
    if (sent > 0 && (uint64_t)sent < header.length) {
        os_sock_shutdown(conn->watch.fd); /* half a frame can't be taken back: the socket goes */
    }
    if (sent != (int64_t)header.length) {
        return sent < 0 ? (int)sent : ST_WOULD_BLOCK;
    }
    if (!conn->out.down) {
        (void)net_resume_tell(&conn->out);
    }
    return ST_OK;
}

int
net_conn_attach(struct net_conn *conn, int fd)
{
    ASSERT(conn->watch.fd < 0);
    conn->watch.fd = fd;
    const int status = net_loop_add(conn->loop, &conn->watch, EPOLLIN | EPOLLET);
    if (status != ST_OK) {
        os_close(&conn->watch.fd);
        return status;
    }
    const int flushed = flush(conn); /* its end a lasting one is told by the loop */
    return conn->out.lasting ? ST_OK : flushed;
}

/* ---- lasting connections ---- */

void
net_conn_make_lasting(struct net_conn *conn)
{
    ASSERT(conn->out.sent == 0);
    conn->out.lasting = true;
}

uint64_t
net_conn_handled(const struct net_conn *conn)
{
    return conn->out.handled;
}

/* Its socket is over: half a frame that came is dropped, its sender sends it again. */
static void
go_down(struct net_conn *conn)
{
    net_loop_remove(conn->loop, &conn->watch);
    os_close(&conn->watch.fd);
    conn->writing = false;
    conn->in.size = conn->in_start = 0;
    drop_in_fds(conn, conn->in_fd_count);
    net_resume_broke(&conn->out);
}

int
net_conn_ask(struct net_conn *conn, int fd, uint16_t kind, const void *body, size_t size)
{
    ASSERT(conn->out.lasting);
    (void)net_resume_ask(&conn->out);
    TRY(net_conn_attach(conn, fd));
    const int status = net_conn_send_control(conn, kind, body, size);
    if (status != ST_OK) {
        go_down(conn);
    }
    return status;
}

int
net_conn_adopt(struct net_conn *conn, struct net_conn *fresh)
{
    ASSERT(conn->out.lasting && conn != fresh && conn->depth == 0);
    if (conn->closed || fresh->in.size > fresh->in_start) {
        return st_fail(ST_PROTOCOL, "a peer went on before it was told from where");
    }
    go_down(conn);
    const int fd = fresh->watch.fd;
    net_loop_remove(fresh->loop, &fresh->watch);
    fresh->watch.fd = -1;
    return net_conn_attach(conn, fd);
}

int
net_conn_resume(struct net_conn *conn, uint64_t handled)
{
    TRY(net_resume_on_count(&conn->out, handled));
    drop_sent_fds(conn, conn->out.base);
    conn->next_fds = conn->out_fds;
    (void)flush(conn); /* a failure to send shows as the end of the stream */
    return ST_OK;
}

void
net_conn_ring_bell(struct net_conn *conn, uint16_t kind)
{
    if (conn->closed || net_conn_queued(conn) > 0 || conn->watch.fd < 0 || conn->out.down) {
        return;
    }
    if (conn->out.lasting) {
        (void)!net_conn_send_control(conn, kind, NULL, 0);
    } else {
        (void)!net_conn_send(conn, kind, 0, 0, NULL, 0, NULL, 0);
    }
}

/* ---- receiving ---- */

static void
report_close(struct net_conn *conn, int status)
{
    if (conn->closed) {
        return;
    }
    if (conn->out.lasting && (status == ST_CLOSED || status == ST_SYSTEM)) {
        go_down(conn);
    } else {
        conn->closed = true;
        net_loop_remove(conn->loop, &conn->watch);
    }
    conn->ops->on_close(conn->ctx, conn, status);
}

/* Counts a frame of a lasting connection, and takes its sender's count. */
static int
count_frame(struct net_conn *conn, const struct net_frame *frame)
{
    TRY(net_resume_on_told(&conn->out, frame->header.request_id));
    drop_sent_fds(conn, conn->out.base);
    if (!(frame->header.flags & NET_FRAME_CONTROL)) {
        net_resume_on_frame(&conn->out, frame->fd_count > 0 ? CONN_READ_SIZE : frame->size);
    }
    return ST_OK;
}

static bool
is_told(const struct net_conn *conn, const struct net_frame *frame)
{
    return conn->out.lasting && frame->header.flags & NET_FRAME_CONTROL &&
           frame->header.kind == NET_FRAME_TOLD;
}

/* Hands out whole frames. False when the connection has ended meanwhile. */
static bool
parse(struct net_conn *conn)
{
    while (!conn->closed) {
        const size_t have = conn->in.size - conn->in_start;
        struct net_frame frame = { .fds = conn->in_fds };
        if (have < NET_FRAME_HEADER) {
            break;
        }
        memcpy(&frame.header, conn->in.data + conn->in_start, NET_FRAME_HEADER);
        if (frame.header.length < NET_FRAME_HEADER || frame.header.length > NET_FRAME_MAX) {
            report_close(
                conn, st_fail(ST_PROTOCOL, "a peer sent a frame of %u bytes", frame.header.length));
            return false;
        }
        if (have < frame.header.length) {
            break;
        }
        frame.fd_count = frame.header.flags >> NET_FRAME_FDS_SHIFT;
        if (frame.fd_count > conn->in_fd_count) {
            /* This process may have no room for them: a lasting one gets the frame again. */
            report_close(conn,
                         st_fail(conn->out.lasting ? ST_SYSTEM : ST_PROTOCOL,
                                 "a frame of kind %u lacks its descriptors", frame.header.kind));
            return false;
        }
        frame.body = (const uint8_t *)conn->in.data + conn->in_start + NET_FRAME_HEADER;
        frame.size = frame.header.length - NET_FRAME_HEADER;
        conn->in_start += frame.header.length;
        if (conn->out.lasting && count_frame(conn, &frame) != ST_OK) {
            report_close(conn, ST_PROTOCOL);
            return false;
        }
        if (!is_told(conn, &frame)) {
            conn->ops->on_frame(conn->ctx, conn, &frame);
        }
        if (conn->destroyed) {
            return false;
        }
        drop_in_fds(conn, frame.fd_count);
    }
    if (conn->in_start == conn->in.size) {
        conn->in.size = conn->in_start = 0;
        if (conn->in.capacity > CONN_KEEP) {
            str_fini(&conn->in);
        }
    }
    tell(conn);
    return !conn->closed;
}

/* One read. False when there was nothing to read, or the connection has ended. */
static bool
read_once(struct net_conn *conn)
{
    if (conn->in_start > 0) {
        memmove(conn->in.data, conn->in.data + conn->in_start, conn->in.size - conn->in_start);
        conn->in.size -= conn->in_start;
        conn->in_start = 0;
    }
    size_t want = CONN_READ_SIZE;
    if (conn->in.size >= NET_FRAME_HEADER) {
        struct net_frame_header header;
        memcpy(&header, conn->in.data, sizeof(header));
        if (header.length <= NET_FRAME_MAX && header.length > conn->in.size + want) {
            want = header.length - conn->in.size;
        }
    }
    char *room = str_reserve(&conn->in, want);
    if (!room) {
        report_close(conn, st_fail(ST_OUT_OF_MEMORY, "no memory to receive a message"));
        return false;
    }
    const int64_t n = os_sock_receive(conn->watch.fd, room, want, conn->in_fds, &conn->in_fd_count);
    if (n < 0) {
        report_close(conn, (int)n);
        return false;
    }
    conn->in.size += (size_t)n;
    return n > 0 && parse(conn);
}

static void
leave(struct net_conn *conn)
{
    conn->depth--;
    if (conn->destroyed && conn->depth == 0) {
        free_conn(conn);
    }
}

void
net_conn_drain(struct net_conn *conn)
{
    conn->depth++;
    while (conn->watch.fd >= 0 && !conn->closed && read_once(conn)) {
    }
    leave(conn);
}

static void
on_ready(void *ctx, uint32_t events)
{
    struct net_conn *conn = ctx;
    conn->depth++;
    if (events & EPOLLOUT) {
        /* A failure to send shows as the end of the stream when all has been read. */
        (void)flush(conn);
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        while (!conn->closed && read_once(conn)) {
        }
    }
    leave(conn);
}
