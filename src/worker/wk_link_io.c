/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes over a connection with a peer: on its socket first, through rings when it is hot.
 *
 * The upgrade to rings keeps the order of frames (proto/peer.h): each side reads its ring only
 * after the other's last frame on the socket.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/os_basic.h"
#include "os/os_shm.h"
#include "os/os_sock.h"
#include "worker/wk_exec.h"
#include "worker/wk_priv.h"
#include "worker/wk_task.h"

enum { HELD_MAX = 1024 * 1024 * 1024 };

/* ---- sending ---- */

static void
mark(struct wk_link *link, enum net_bell_need need)
{
    uint64_t unread = net_ring_unread_bytes(&link->tx);
    if (unread >= WK_BELL_BYTES) { /* as far as is known: it may have been read meanwhile */
        unread = WK_RING_BYTES - net_ring_free_bytes(&link->tx);
    }
    if (net_bell_mark(&link->bell, unread, need)) {
        net_conn_ring_bell(link->conn, PEER_BELL);
    }
}

/* Moves waiting frames into the ring as far as there is room. */
void
wk_link_flush_room(struct wk_link *link)
{
    bool moved = false;
    while (link->rings && link->overflow_start < link->overflow.size) {
        struct net_frame_header header;
        const char *at = link->overflow.data + link->overflow_start;
        memcpy(&header, at, sizeof(header));
        void *room;
        int status = net_ring_reserve(&link->tx, header.length, &room);
        if (status == ST_WOULD_BLOCK) {
            if (net_ring_want_room(&link->tx, header.length)) {
                continue;
            }
            break;
        }
        if (status != ST_OK) {
            wk_link_mark_broken(link);
            break;
        }
        memcpy(room, at, header.length);
        link->overflow_start += header.length;
        net_ring_publish(&link->tx);
        moved = true;
    }
    if (link->overflow_start == link->overflow.size) {
        str_fini(&link->overflow);
        link->overflow_start = 0;
    }
    if (moved) {
        mark(link, NET_BELL_URGENT);
    }
}

/* Offers rings when enough frames went in a short time. */
static void
offer_rings(struct wk_link *link)
{
    uint32_t index = 0;
    while (index < WK_RINGS_MAX && wk.rings[index]) {
        index++;
    }
    if (index == WK_RINGS_MAX) {
        return;
    }
    const size_t one = (net_ring_bytes(WK_RING_BYTES) + 4095) & ~(size_t)4095;
    int fds[2] = { -1, wk.bell_fd };
    void *memory = NULL;
    if (os_shm_create("ray-ring", 2 * one, &fds[0]) != ST_OK ||
        os_shm_map(fds[0], 0, 2 * one, OS_SHM_WRITE, 0, &memory) != ST_OK) {
        os_close(&fds[0]);
        return;
    }
    (void)!os_shm_no_fork(memory, 2 * one);
    uint8_t *second = (uint8_t *)memory + one;
    if (net_ring_format(memory, one, WK_RING_BYTES) == ST_OK &&
        net_ring_format(second, one, WK_RING_BYTES) == ST_OK &&
        net_ring_tx_init(&link->tx, memory, one) == ST_OK &&
        net_ring_rx_init(&link->rx, second, one) == ST_OK) {
        struct peer_ring offer = { .ring_bytes = one, .bell_bytes = 4096, .ring_index = index };
        struct iovec iov = { .iov_base = &offer, .iov_len = sizeof(offer) };
        if (net_conn_send(link->conn, PEER_RING_OFFER, 0, 0, &iov, 1, fds, 2) == ST_OK) {
            link->ring_memory = memory;
            link->ring_bytes = 2 * one;
            link->ring_index = index;
            link->offered = true;
            wk.rings[index] = link;
            memory = NULL;
        }
    }
    if (memory) {
        os_shm_unmap(memory, 2 * one);
    }
    os_close(&fds[0]);
}

static void
count_heat(struct wk_link *link)
{
    if (link->offered || !link->outgoing) {
        return;
    }
    if (link->hot_frames == 0) {
        link->hot_since_ns = wk_now();
    }
    if (++link->hot_frames < WK_HOT_FRAMES) {
        return;
    }
    if (wk_now() - link->hot_since_ns < WK_HOT_NS) {
        offer_rings(link);
    }
    link->hot_frames = 0;
}

int
wk_frame_begin(struct wk_frame *frame, struct wk_link *link, uint16_t kind, size_t size)
{
    const size_t length = NET_FRAME_HEADER + size;
    if (link->broken || length > NET_FRAME_MAX) {
        return st_fail(length > NET_FRAME_MAX ? ST_LIMIT : ST_CLOSED,
                       "a message of %zu bytes can't be sent to a peer", length);
    }
    const struct net_frame_header header = { .length = (uint32_t)length, .kind = kind };
    frame->link = link;
    frame->size = size;
    frame->in_ring = false;
    if (link->rings && link->overflow.size == link->overflow_start &&
        length <= net_ring_frame_max(WK_RING_BYTES)) {
        void *room;
        const int status = net_ring_reserve(&link->tx, length, &room);
        if (status == ST_OK) {
            memcpy(room, &header, sizeof(header));
            frame->body = (uint8_t *)room + sizeof(header);
            frame->in_ring = true;
            return ST_OK;
        }
        if (status != ST_WOULD_BLOCK) {
            wk_link_mark_broken(link);
            return status;
        }
    }
    str_clear(&wk.scratch);
    char *room = str_reserve(&wk.scratch, length);
    if (!room) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for a message of %zu bytes", length);
    }
    memcpy(room, &header, sizeof(header));
    wk.scratch.size = length;
    frame->body = (uint8_t *)room + sizeof(header);
    return ST_OK;
}

/* A frame that the ring can't take, or that brings a descriptor: sent on the socket, and announced
 * in the ring when that is in use. */
static int
send_on_socket(struct wk_link *link, uint16_t kind, const struct iovec *body, const int *fd)
{
    const int status = net_conn_send(link->conn, kind, 0, 0, body, 1, fd, fd ? 1 : 0);
    if (status != ST_OK) {
        if (status != ST_SYSTEM) { /* but for want of a descriptor, of which nothing was sent */
            wk_link_mark_broken(link);
        }
        return status;
    }
    if (link->rings) {
        const struct net_frame_header header = { .length = NET_FRAME_HEADER,
                                                 .kind = PEER_VIA_SOCKET };
        str_append(&link->overflow, &header, sizeof(header));
        if (link->overflow.failed) {
            wk_link_mark_broken(link);
            return st_fail(ST_OUT_OF_MEMORY, "no memory for a message");
        }
        wk_link_flush_room(link);
    }
    return ST_OK;
}

void
wk_frame_end(struct wk_frame *frame, enum net_bell_need need)
{
    struct wk_link *link = frame->link;
    if (frame->in_ring) {
        net_ring_publish(&link->tx);
        mark(link, need);
        return;
    }
    struct net_frame_header header;
    memcpy(&header, wk.scratch.data, sizeof(header));
    if (!link->rings) {
        struct iovec iov = { wk.scratch.data + NET_FRAME_HEADER, frame->size };
        if (net_conn_send(link->conn, header.kind, 0, 0, &iov, 1, NULL, 0) != ST_OK) {
            wk_link_mark_broken(link);
        }
        count_heat(link);
    } else if (header.length > net_ring_frame_max(WK_RING_BYTES)) {
        const struct iovec iov = { wk.scratch.data + NET_FRAME_HEADER, frame->size };
        (void)!send_on_socket(link, header.kind, &iov, NULL);
    } else {
        str_append(&link->overflow, wk.scratch.data, wk.scratch.size);
        if (link->overflow.failed) {
            wk_link_mark_broken(link);
        }
        wk_link_flush_room(link);
    }
    if (wk.scratch.capacity > 1024 * 1024) {
        str_fini(&wk.scratch);
    }
}

/* The window for pushes, made with the first one; the other side gets its file. */
int
wk_link_window(struct wk_link *link)
{
    if (link->window) {
        return ST_OK;
    }
    const size_t bytes = (net_window_bytes(WK_CALLS_WORDS) + 4095) & ~(size_t)4095;
    int fd = -1;
    TRY(os_shm_create("ray-window", bytes, &fd)); /* see wk_push_later */
    int status = os_shm_map(fd, 0, bytes, OS_SHM_WRITE, 0, &link->window_memory);
    if (status == ST_OK) {
        link->window_bytes = bytes;
        (void)!os_shm_no_fork(link->window_memory, bytes);
        status = net_window_format(link->window_memory, bytes, WK_CALLS_WORDS);
    }
    /* Mostly untouched, and so without memory: record, numbers, tasks by word. */
    const size_t own_bytes = net_window_owner_bytes(WK_CALLS_WORDS);
    struct net_window_owner *owner =
        calloc(1, sizeof(*owner) + own_bytes + WK_CALLS_WORDS * sizeof(*link->inflight));
    if (status == ST_OK && !owner) {
        status = st_fail(ST_OUT_OF_MEMORY, "no memory for a task window");
    }
    if (status == ST_OK) {
        status = net_window_owner_init(owner, link->window_memory, bytes, owner + 1);
    }
    if (status == ST_OK) {
        const struct peer_hello hello = { .protocol_version = RAY_PROTOCOL_VERSION,
                                          .window_bytes = (uint32_t)bytes,
                                          .worker = wk.self.worker,
                                          .node = wk.self.node,
                                          .link = link->number };
        struct iovec iov = { .iov_len = sizeof(hello) };
        const void *from = &hello;
        memcpy(&iov.iov_base, &from, sizeof(from));
        status = send_on_socket(link, PEER_HELLO, &iov, &fd);
    }
    os_close(&fd);
    if (status != ST_OK) {
        if (link->window_memory) {
            os_shm_unmap(link->window_memory, bytes);
            link->window_memory = NULL;
        }
        free(owner);
        return status;
    }
    link->window = owner;
    link->inflight = (struct wk_task **)(void *)((char *)(owner + 1) + own_bytes);
    return ST_OK;
}

/* ---- the upgrade to rings ---- */

static int
map_bell(struct wk_link *link, int fd, uint64_t bytes, uint32_t ring)
{
    uint64_t size;
    TRY(os_shm_size(fd, &size));
    if (bytes != 4096 || size != bytes) {
        return st_fail(ST_PROTOCOL, "a peer's bell page has %zu bytes", (size_t)size);
    }
    void *memory;
    TRY(os_shm_map(fd, 0, bytes, OS_SHM_WRITE, 0, &memory));
    (void)!os_shm_no_fork(memory, bytes);
    link->peer_bell = memory;
    link->peer_bell_bytes = bytes;
    return net_bell_tx_init(&link->bell, memory, bytes, ring);
}

/* The accepting side maps the rings and sends through its own from now on. */
static int
accept_rings(struct wk_link *link, const struct net_frame *frame)
{
    struct peer_ring offer;
    uint64_t size;
    if (frame->size != sizeof(offer) || frame->fd_count != 2 || link->offered || link->outgoing) {
        return st_fail(ST_PROTOCOL, "an unexpected offer of rings");
    }
    memcpy(&offer, frame->body, sizeof(offer));
    TRY(os_shm_size(frame->fds[0], &size));
    if (offer.ring_bytes > 4 * NET_RING_SIZE_MAX || size != 2 * offer.ring_bytes ||
        offer.ring_bytes % 4096 != 0 || offer.ring_index >= NET_BELL_RINGS) {
        return st_fail(ST_PROTOCOL, "an offer of rings of %zu bytes", (size_t)offer.ring_bytes);
    }
    uint32_t index = 0;
    while (index < WK_RINGS_MAX && wk.rings[index]) {
        index++;
    }
    if (index == WK_RINGS_MAX) {
        return ST_OK; /* no answer: the connection stays with its socket */
    }
    TRY(os_shm_map(frame->fds[0], 0, size, OS_SHM_WRITE, 0, &link->ring_memory));
    link->ring_bytes = size;
    (void)!os_shm_no_fork(link->ring_memory, size);
    TRY(net_ring_rx_init(&link->rx, link->ring_memory, offer.ring_bytes));
    TRY(net_ring_tx_init(&link->tx, (uint8_t *)link->ring_memory + offer.ring_bytes,
                         offer.ring_bytes));
    TRY(map_bell(link, frame->fds[1], offer.bell_bytes, offer.ring_index));
    link->ring_index = index;
    link->offered = true;
    wk.rings[index] = link;
    struct peer_ring answer = { .ring_bytes = offer.ring_bytes,
                                .bell_bytes = 4096,
                                .ring_index = index };
    struct iovec iov = { .iov_base = &answer, .iov_len = sizeof(answer) };
    if (net_conn_send(link->conn, PEER_RING_ACCEPT, 0, 0, &iov, 1, &wk.bell_fd, 1) != ST_OK) {
        wk_link_unmap(link); /* for want of a descriptor, say: as without an answer */
        return ST_OK;
    }
    link->rings = true;
    return ST_OK;
}

/* The connecting side: the other's last socket frame came; mine goes out. */
static int
rings_accepted(struct wk_link *link, const struct net_frame *frame)
{
    struct peer_ring answer;
    if (frame->size != sizeof(answer) || frame->fd_count != 1 || !link->offered || link->rings ||
        !link->outgoing) {
        return st_fail(ST_PROTOCOL, "an unexpected answer to an offer of rings");
    }
    memcpy(&answer, frame->body, sizeof(answer));
    if (answer.ring_index >= NET_BELL_RINGS) {
        return st_fail(ST_PROTOCOL, "ring number %u", answer.ring_index);
    }
    TRY(map_bell(link, frame->fds[0], answer.bell_bytes, answer.ring_index));
    if (net_conn_send(link->conn, PEER_RING_SWITCH, 0, 0, NULL, 0, NULL, 0) != ST_OK) {
        wk_link_mark_broken(link);
    }
    link->rings = true;
    link->receiving = true;
    net_bell_self_mark(&wk.bell, link->ring_index);
    return ST_OK;
}

/* ---- receiving ---- */

/* One frame, from the socket or the ring. */
static int
on_message(struct wk_link *link, const struct net_frame *frame)
{
    if (frame->header.kind == PEER_HELLO) {
        return wk_peer_on_hello(link, frame);
    }
    if (!link->peer) {
        return st_fail(ST_PROTOCOL, "a peer began with a message of kind %u", frame->header.kind);
    }
    switch (frame->header.kind) {
    case PEER_TEMPLATE:
        return wk_on_template(link, frame->body, frame->size);
    case PEER_PUSH:
        return wk_on_push(link, frame->body, frame->size);
    case PEER_DONE:
        wk_on_done(link, frame->body, frame->size);
        return ST_OK;
    case PEER_BOUNCED:
        wk_on_bounced(link, frame->body, frame->size);
        return ST_OK;
    case PEER_CANCEL:
        return wk_on_cancel(link, frame->body, frame->size);
    case PEER_CANCEL_REF:
        return wk_on_cancel_ref(frame->body, frame->size);
    case PEER_ITEM:
        return wk_on_item(link, frame->body, frame->size);
    case PEER_TOLD:
        return wk_on_told(link, frame->body, frame->size);
    case PEER_RING_OFFER:
        return accept_rings(link, frame);
    case PEER_RING_ACCEPT:
        return rings_accepted(link, frame);
    case PEER_RING_SWITCH:
        link->receiving = link->rings;
        net_bell_self_mark(&wk.bell, link->ring_index);
        return ST_OK;
    default:
        if (frame->header.kind > PEER_OWN_FIRST && frame->header.kind <= PEER_OWN_LAST) {
            return wk_on_own_message(link, frame->header.kind, frame->body, frame->size);
        }
        return st_fail(ST_PROTOCOL, "a message of unknown kind %u", frame->header.kind);
    }
}

void
wk_link_break(struct wk_link *link, const char *what)
{
    wk_link_mark_broken(link);
    if (!link->deaf) {
        link->deaf = true;
        (void)fprintf(stderr, "ray: connection with a peer ended: %s: %s\n", what, st_last()->text);
        const struct peer_resumed given_up = { .status = ST_CLOSED };
        (void)!net_conn_send_control(link->conn, PEER_RESUMED, &given_up, sizeof(given_up));
        os_sock_shutdown(net_conn_fd(link->conn));
    }
}

/* A frame of the socket that came before the ring's word for it was read. */
struct wk_held {
    struct list link;
    struct net_frame frame;
    int fds[NET_FRAME_FDS_MAX];
    uint8_t body[];
};

static void
free_held(struct wk_held *held)
{
    for (int i = 0; i < held->frame.fd_count; i++) {
        os_close(&held->fds[i]);
    }
    list_remove(&held->link);
    free(held);
}

void
wk_link_free_held(struct wk_link *link)
{
    while (!list_is_empty(&link->held)) {
        // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it doesn't see that free_held removes
        free_held(LIST_ENTRY((&link->held)->next, struct wk_held, link));
    }
}

static int
hold_frame(struct wk_link *link, const struct net_frame *frame)
{
    link->held_bytes += frame->size + sizeof(struct wk_held);
    struct wk_held *held =
        link->held_bytes <= HELD_MAX ? malloc(sizeof(*held) + frame->size) : NULL;
    if (!held) {
        return st_fail(ST_LIMIT, "%zu bytes came from a peer that it did not announce",
                       link->held_bytes);
    }
    held->frame = *frame;
    held->frame.body = held->body;
    held->frame.fds = held->fds;
    memcpy(held->body, frame->body, frame->size);
    for (int i = 0; i < frame->fd_count; i++) {
        held->fds[i] = frame->fds[i];
        frame->fds[i] = -1;
    }
    list_init(&held->link);
    list_push_back(&link->held, &held->link);
    return ST_OK;
}

/* The ring says that the socket's next frame is due: it is held already, or must be waited for. */
static int
take_via_socket(struct wk_link *link)
{
    if (list_is_empty(&link->held)) {
        link->via_socket = true;
        return ST_OK;
    }
    struct wk_held *held = LIST_ENTRY((&link->held)->next, struct wk_held, link);
    link->held_bytes -= held->frame.size + sizeof(*held);
    const int status = on_message(link, &held->frame);
    free_held(held);
    return status;
}

/* Everything that the ring holds, unless a frame of the socket must come first. */
static void
read_ring(struct wk_link *link)
{
    const void *bytes;
    size_t length;
    while (link->receiving && !link->via_socket) {
        const int status = net_ring_peek(&link->rx, &bytes, &length);
        if (status == ST_WOULD_BLOCK) {
            break;
        }
        struct net_frame frame = { .body = (const uint8_t *)bytes + NET_FRAME_HEADER };
        if (status != ST_OK || length < NET_FRAME_HEADER) {
            link->receiving = false;
            wk_link_break(link, "malformed ring");
            return;
        }
        memcpy(&frame.header, bytes, sizeof(frame.header));
        frame.size = (uint32_t)(length - NET_FRAME_HEADER);
        if (frame.header.kind == PEER_VIA_SOCKET ? take_via_socket(link) != ST_OK
                                                 : on_message(link, &frame) != ST_OK) {
            link->receiving = false;
            wk_link_break(link, "malformed message");
            return;
        }
        if (net_ring_advance(&link->rx)) {
            net_conn_ring_bell(link->conn, PEER_BELL);
        }
    }
    if (net_ring_settle(&link->rx)) {
        net_conn_ring_bell(link->conn, PEER_BELL);
    }
}

void
wk_rings_expect(void)
{
    const struct wk_link *link = wk.rings[wk.last_ring];
    if (link && link->receiving) {
        net_ring_expect_read(&link->rx);
    }
}

void
wk_rings_drain(void)
{
    struct net_bell_take take;
    uint32_t ring;
    net_bell_take_begin(&wk.bell, &take);
    while (net_bell_take_next(&take, &ring)) {
        if (ring < WK_RINGS_MAX && wk.rings[ring]) {
            wk.last_ring = ring;
            if (wk.rings[ring]->rings) { /* what was sent is read, since it is answered */
                net_ring_expect_write(&wk.rings[ring]->tx);
            }
            read_ring(wk.rings[ring]);
        }
    }
}

bool
wk_rings_any(void)
{
    for (uint32_t i = 0; i < 4; i++) { /* indices are given out lowest first */
        if (wk.rings[i] && wk.rings[i]->receiving) {
            return true;
        }
    }
    return false;
}

/* A frame about the connection itself. */
static void
on_control(struct wk_link *link, const struct net_frame *frame)
{
    int status = ST_OK;
    switch (frame->header.kind) {
    case PEER_BELL:
        return; /* the ring is marked, and read by whoever dispatches */
    case PEER_RESUME:
        status = wk_peer_on_resume(link, frame);
        break;
    case PEER_RESUMED:
        status = wk_peer_on_resumed(link, frame);
        break;
    default:
        status = st_fail(ST_PROTOCOL, "a control message of kind %u", frame->header.kind);
    }
    if (status != ST_OK) {
        wk_link_break(link, "it can't go on");
    }
}

void
wk_link_on_frame(void *ctx, struct net_conn *conn, const struct net_frame *frame)
{
    (void)conn;
    struct wk_link *link = ctx;
    if (link->deaf) {
        return;
    }
    /* A bell that asks for room is dropped when the socket is full: then this frame stands for it.
     */
    wk_link_flush_room(link);
    if (frame->header.flags & NET_FRAME_CONTROL) {
        on_control(link, frame);
        return;
    }
    if (!link->receiving) {
        if (on_message(link, frame) != ST_OK) {
            wk_link_break(link, "malformed message");
        }
        return;
    }
    read_ring(link); /* what was sent before it, as far as that is published */
    if (!link->receiving) {
        return;
    }
    if (link->via_socket) {
        link->via_socket = false;
        if (on_message(link, frame) == ST_OK) {
            read_ring(link);
            return;
        }
    } else if (hold_frame(link, frame) == ST_OK) {
        return;
    }
    link->receiving = false;
    wk_link_break(link, "malformed message");
}

void
wk_peer_drain(struct wk_peer *peer)
{
    struct wk_link *links[2] = { peer->in, peer->out };
    for (int i = 0; i < 2; i++) {
        if (links[i] && links[i]->conn) {
            /* The ring first: what is in it was sent before what the socket may still hold, and a
             * frame that the ring announces comes from there. */
            if (links[i]->receiving) {
                read_ring(links[i]);
            }
            net_conn_drain(links[i]->conn);
            if (links[i]->receiving) {
                read_ring(links[i]);
            }
        }
    }
}
