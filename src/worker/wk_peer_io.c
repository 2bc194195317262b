/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections with other processes of libray: sockets first, rings when they are hot.
 *
 * A process is a peer; a connection with it is a link. Tasks go from the side that connected to the
 * side that accepted. The upgrade to rings keeps the order of frames (proto/peer.h): each side
 * reads its ring only after the other's last frame on the socket.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "os/os_basic.h"
#include "os/os_shm.h"
#include "os/os_sock.h"
#include "worker/wk_priv.h"

enum { CONNECT_TRIES = 1000, HELD_MAX = 1024 * 1024 * 1024 };

static void on_frame(void *ctx, struct net_conn *conn, const struct net_frame *frame);
static void on_close(void *ctx, struct net_conn *conn, int status);
static const struct net_conn_ops link_ops = { on_frame, on_close };

/* ---- peers ---- */

static uint64_t
worker_hash(const struct id_worker *id)
{
    return id_hash(id->b, sizeof(id->b));
}

static struct wk_peer *
find_peer(const struct id_worker *id)
{
    struct map_link *l;
    MAP_FOR_HASH (l, &wk.peers, worker_hash(id)) {
        struct wk_peer *peer = CONTAINER_OF(l, struct wk_peer, link);
        if (ID_EQ(peer->addr.worker, *id)) {
            return peer;
        }
    }
    return NULL;
}

static void
watch_peer(struct wk_peer *peer)
{
    if (!peer->watched && !peer->announced) {
        peer->watched = true;
        wk_watch(&peer->addr.worker);
    }
}

/* Gives the peer its number in `own`, again if that was reused meanwhile. */
static bool
number_peer(struct wk_peer *peer)
{
    if (peer->proc != UINT32_MAX) {
        return true;
    }
    uint32_t number;
    if (own_proc(&wk.own, &peer->addr, &number) != ST_OK) {
        return false;
    }
    if (number >= wk.peer_capacity) {
        const uint32_t capacity = number + 64;
        struct wk_peer **grown = realloc(wk.peer_by_proc, capacity * sizeof(*grown));
        if (!grown) {
            return false;
        }
        memset(grown + wk.peer_capacity, 0, (capacity - wk.peer_capacity) * sizeof(*grown));
        wk.peer_by_proc = grown;
        wk.peer_capacity = capacity;
    }
    peer->proc = number;
    wk.peer_by_proc[number] = peer;
    if (peer->announced) {
        /* The machine had forgotten that it is dead: the raylet is asked to say it again. */
        peer->announced = peer->watched = false;
        watch_peer(peer);
    }
    return true;
}

struct wk_peer *
wk_peer_get(const struct own_addr *addr)
{
    struct wk_peer *peer = find_peer(&addr->worker);
    if (!peer) {
        peer = calloc(1, sizeof(*peer));
        if (!peer) {
            return NULL;
        }
        peer->addr = *addr;
        peer->proc = UINT32_MAX;
        if (map_insert(&wk.peers, &peer->link, worker_hash(&addr->worker)) != ST_OK) {
            free(peer);
            return NULL;
        }
    }
    return number_peer(peer) ? peer : NULL;
}

struct wk_peer *
wk_peer_of_proc(uint32_t proc)
{
    if (proc < wk.peer_capacity && wk.peer_by_proc[proc]) {
        return wk.peer_by_proc[proc];
    }
    const struct own_addr addr = *own_proc_addr(&wk.own, proc);
    return wk_peer_get(&addr);
}

/* ---- links ---- */

static void
unmap_link(struct wk_link *link)
{
    if (link->ring_memory) {
        os_shm_unmap(link->ring_memory, link->ring_bytes);
        link->ring_memory = NULL;
    }
    if (link->peer_bell) {
        os_shm_unmap(link->peer_bell, link->peer_bell_bytes);
        link->peer_bell = NULL;
    }
    if (link->offered && wk.rings[link->ring_index] == link) {
        wk.rings[link->ring_index] = NULL;
    }
    link->offered = link->rings = link->receiving = false;
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

static void
free_link(struct wk_link *link)
{
    if (!link) {
        return;
    }
    ASSERT(link->inflight_count == 0);
    net_loop_disarm(wk.loop, &link->repair_timer);
    wk_exec_link_gone(link);
    wk_link_templates_free(link);
    unmap_link(link);
    while (!list_is_empty(&link->held)) {
        // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it doesn't see that free_held removes
        free_held(LIST_ENTRY((&link->held)->next, struct wk_held, link));
    }
    net_conn_destroy(&link->conn);
    if (link->window_memory) {
        os_shm_unmap(link->window_memory, link->window_bytes);
    }
    str_fini(&link->overflow);
    free(link->window);
    free(link->inflight);
    free(link->template_sent);
    free(link);
}

/* The connection ended a while ago, and no death was announced. An incoming one is forgotten: its
 * peer connects again. An outgoing one has tasks that would wait for ever. */
static void
on_repair(void *ctx)
{
    struct wk_link *link = ctx;
    struct wk_peer *peer = link->peer;
    if (!peer || peer->announced) {
        return;
    }
    if (!link->outgoing) {
        peer->in = NULL;
        free_link(link);
        return;
    }
    wk_tasks_on_link_failed(link);
    if (peer->actor) {
        wk_actor_on_link_failed(peer->actor, link);
    }
    if (link->inflight_count == 0) {
        peer->out = NULL;
        free_link(link);
    }
    wk_changed();
}

static void
mark_broken(struct wk_link *link)
{
    link->broken = true;
    if (link->peer && !heap_has(&link->repair_timer.node)) {
        (void)!net_loop_arm(wk.loop, &link->repair_timer, os_now_ns() + WK_REPAIR_NS);
    }
}

static struct wk_link *
create_link(int fd, bool outgoing)
{
    struct wk_link *link = calloc(1, sizeof(*link));
    if (!link) {
        os_close(&fd);
        return NULL;
    }
    link->outgoing = outgoing;
    link->repair_timer = (struct net_timer){ .on_timer = on_repair, .ctx = link };
    list_init(&link->held);
    str_init(&link->overflow, wk.mem);
    if (net_conn_create(wk.loop, wk.mem, fd, &link_ops, link, &link->conn) != ST_OK) {
        free(link);
        return NULL;
    }
    return link;
}

static int
connect_peer(const struct wk_peer *peer, int *fd)
{
    char path[sizeof(wk.socket_dir) + 40], hex[17];
    const char *name = peer->socket;
    char derived[20];
    if (!*name) {
        (void)snprintf(derived, sizeof(derived), "w%s", id_hex(peer->addr.worker.b, 8, hex));
        name = derived;
    }
    (void)snprintf(path, sizeof(path), "%s/%s", wk.socket_dir, name);
    for (int i = 0;; i++) {
        const int status = os_sock_connect(path, fd);
        if (status != ST_WOULD_BLOCK || i == CONNECT_TRIES) {
            return status;
        }
        /* tidy: usleep: the listener's queue of 4096 is full, and no event tells of room in it */
        (void)usleep(1000);
    }
}

static int
send_hello(struct wk_link *link)
{
    const struct peer_hello hello = {
        .protocol_version = RAY_PROTOCOL_VERSION,
        .worker = wk.self.worker,
        .node = wk.self.node,
    };
    struct iovec iov;
    const void *bytes = &hello;
    memcpy(&iov.iov_base, &bytes, sizeof(bytes));
    iov.iov_len = sizeof(hello);
    return net_conn_send(link->conn, PEER_HELLO, 0, 0, &iov, 1, NULL, 0);
}

struct wk_link *
wk_peer_link(struct wk_peer *peer)
{
    if (peer->out) {
        return peer->out->broken ? NULL : peer->out;
    }
    if (peer->dead) {
        return NULL;
    }
    int fd;
    if (connect_peer(peer, &fd) != ST_OK) {
        /* The name vanishes with the process; the raylet's word is waited for. */
        peer->dead = true;
        watch_peer(peer);
        return NULL;
    }
    struct wk_link *link = create_link(fd, true);
    if (!link) {
        return NULL;
    }
    link->peer = peer;
    peer->out = link;
    watch_peer(peer);
    if (send_hello(link) != ST_OK) {
        mark_broken(link);
        return NULL;
    }
    return link;
}

struct wk_link *
wk_peer_any_link(struct wk_peer *peer)
{
    if (peer->in && !peer->in->broken) {
        return peer->in;
    }
    return wk_peer_link(peer);
}

/* ---- sending ---- */

static void
mark(struct wk_link *link, bool urgent)
{
    if (net_bell_mark(&link->bell, net_ring_unread_bytes(&link->tx), urgent)) {
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
            mark_broken(link);
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
        mark(link, true);
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
        link->hot_since_ns = os_now_ns();
    }
    if (++link->hot_frames < WK_HOT_FRAMES) {
        return;
    }
    if (os_now_ns() - link->hot_since_ns < WK_HOT_NS) {
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
            mark_broken(link);
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
    if (link->rings) {
        const struct net_frame_header header = { .length = NET_FRAME_HEADER,
                                                 .kind = PEER_VIA_SOCKET };
        str_append(&link->overflow, &header, sizeof(header));
        if (link->overflow.failed) {
            mark_broken(link);
            return st_fail(ST_OUT_OF_MEMORY, "no memory for a message");
        }
    }
    const int status = net_conn_send(link->conn, kind, 0, 0, body, 1, fd, fd ? 1 : 0);
    if (link->rings) {
        if (status != ST_OK) {
            mark_broken(link);
        }
        wk_link_flush_room(link);
    }
    return status;
}

void
wk_frame_end(struct wk_frame *frame, bool urgent)
{
    struct wk_link *link = frame->link;
    if (frame->in_ring) {
        net_ring_publish(&link->tx);
        mark(link, urgent);
        return;
    }
    struct net_frame_header header;
    memcpy(&header, wk.scratch.data, sizeof(header));
    if (!link->rings) {
        struct iovec iov = { wk.scratch.data + NET_FRAME_HEADER, frame->size };
        (void)!net_conn_send(link->conn, header.kind, 0, 0, &iov, 1, NULL, 0);
        count_heat(link);
    } else if (header.length > net_ring_frame_max(WK_RING_BYTES)) {
        const struct iovec iov = { wk.scratch.data + NET_FRAME_HEADER, frame->size };
        (void)!send_on_socket(link, header.kind, &iov, NULL);
    } else {
        str_append(&link->overflow, wk.scratch.data, wk.scratch.size);
        if (link->overflow.failed) {
            mark_broken(link);
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
    const size_t bytes = (net_window_bytes(WK_WINDOW_WORDS) + 4095) & ~(size_t)4095;
    int fd = -1;
    TRY(os_shm_create("ray-window", bytes, &fd));
    int status = os_shm_map(fd, 0, bytes, OS_SHM_WRITE, 0, &link->window_memory);
    if (status == ST_OK) {
        link->window_bytes = bytes;
        (void)!os_shm_no_fork(link->window_memory, bytes);
        status = net_window_format(link->window_memory, bytes, WK_WINDOW_WORDS);
    }
    struct net_window_owner *owner = malloc(sizeof(*owner));
    link->inflight = calloc(WK_WINDOW_WORDS, sizeof(*link->inflight));
    if (status == ST_OK && (!owner || !link->inflight)) {
        status = st_fail(ST_OUT_OF_MEMORY, "no memory for a task window");
    }
    if (status == ST_OK) {
        status = net_window_owner_init(owner, link->window_memory, bytes);
    }
    if (status == ST_OK) {
        const struct peer_hello hello = { .protocol_version = RAY_PROTOCOL_VERSION,
                                          .window_bytes = (uint32_t)bytes,
                                          .worker = wk.self.worker,
                                          .node = wk.self.node };
        struct iovec iov = { .iov_len = sizeof(hello) };
        const void *from = &hello;
        memcpy(&iov.iov_base, &from, sizeof(from));
        status = send_on_socket(link, PEER_HELLO, &iov, &fd);
    }
    os_close(&fd);
    if (status != ST_OK) {
        free(owner);
        return status;
    }
    link->window = owner;
    return ST_OK;
}

/* ---- receiving ---- */

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
    TRY(net_conn_send(link->conn, PEER_RING_ACCEPT, 0, 0, &iov, 1, &wk.bell_fd, 1));
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
    TRY(net_conn_send(link->conn, PEER_RING_SWITCH, 0, 0, NULL, 0, NULL, 0));
    link->rings = true;
    link->receiving = true;
    net_bell_self_mark(&wk.bell, link->ring_index);
    return ST_OK;
}

static int
on_hello(struct wk_link *link, const struct net_frame *frame)
{
    struct peer_hello hello;
    if (frame->size != sizeof(hello)) {
        return st_fail(ST_PROTOCOL, "a greeting of %u bytes", frame->size);
    }
    memcpy(&hello, frame->body, sizeof(hello));
    if (hello.protocol_version != RAY_PROTOCOL_VERSION || link->outgoing) {
        return st_fail(ST_PROTOCOL, "a peer speaks protocol %u, this process %d",
                       hello.protocol_version, RAY_PROTOCOL_VERSION);
    }
    if (!link->peer) {
        const struct own_addr addr = { hello.worker, hello.node };
        struct wk_peer *peer = wk_peer_get(&addr);
        if (!peer || peer->in || peer->announced) {
            return st_fail(ST_PROTOCOL, "a peer connected twice, or after its death");
        }
        link->peer = peer;
        peer->in = link;
        watch_peer(peer);
    }
    if (hello.window_bytes > 0 && !link->window_memory) {
        uint64_t size;
        if (frame->fd_count != 1 || os_shm_size(frame->fds[0], &size) != ST_OK ||
            size != hello.window_bytes) {
            return st_fail(ST_PROTOCOL, "a greeting without its window");
        }
        TRY(os_shm_map(frame->fds[0], 0, size, OS_SHM_WRITE, 0, &link->window_memory));
        link->window_bytes = size;
        (void)!os_shm_no_fork(link->window_memory, size);
        TRY(net_window_worker_init(&link->worker_window, link->window_memory, size));
    }
    return ST_OK;
}

/* One frame, from the socket or the ring. */
static int
on_message(struct wk_link *link, const struct net_frame *frame)
{
    if (frame->header.kind == PEER_HELLO) {
        return on_hello(link, frame);
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

static void
break_link(struct wk_link *link, const char *what)
{
    mark_broken(link);
    if (!link->deaf) {
        link->deaf = true;
        (void)fprintf(stderr, "ray: connection with a peer ended: %s: %s\n", what, st_last()->text);
        os_sock_shutdown(net_conn_fd(link->conn));
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
            break_link(link, "malformed ring");
            return;
        }
        memcpy(&frame.header, bytes, sizeof(frame.header));
        frame.size = (uint32_t)(length - NET_FRAME_HEADER);
        if (frame.header.kind == PEER_VIA_SOCKET ? take_via_socket(link) != ST_OK
                                                 : on_message(link, &frame) != ST_OK) {
            link->receiving = false;
            break_link(link, "malformed message");
            return;
        }
        if (net_ring_advance(&link->rx)) {
            net_conn_ring_bell(link->conn, PEER_BELL);
        }
    }
    if (net_ring_release(&link->rx)) {
        net_conn_ring_bell(link->conn, PEER_BELL);
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

static void
on_frame(void *ctx, struct net_conn *conn, const struct net_frame *frame)
{
    (void)conn;
    struct wk_link *link = ctx;
    if (link->deaf) {
        return;
    }
    /* A bell that asks for room is dropped when the socket is full: then this frame stands for it.
     */
    wk_link_flush_room(link);
    if (frame->header.kind == PEER_BELL) {
        return; /* the ring is marked, and read by whoever dispatches */
    }
    if (!link->receiving) {
        if (on_message(link, frame) != ST_OK) {
            break_link(link, "malformed message");
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
    break_link(link, "malformed message");
}

/* ---- messages of ownership ---- */

static const size_t own_msg_sizes[OWN_MSG_LAST + 1] = {
    [OWN_MSG_REGISTER] = sizeof(struct own_msg_register),
    [OWN_MSG_REGISTER_ACK] = sizeof(struct own_msg_register_ack),
    [OWN_MSG_RELEASE] = sizeof(struct own_msg_release),
    [OWN_MSG_TRANSIT_DONE] = sizeof(struct own_msg_transit_done),
    [OWN_MSG_GET] = sizeof(struct own_msg_get),
    [OWN_MSG_VALUE] = sizeof(struct own_msg_value),
    [OWN_MSG_FREE] = sizeof(struct own_msg_free),
    [OWN_MSG_TRANSFER] = sizeof(struct own_msg_transfer),
};

void
wk_peer_send_own(const struct step_out *out)
{
    struct wk_peer *peer = wk_peer_of_proc((uint32_t)out->peer);
    struct wk_link *link = peer && !peer->announced ? wk_peer_any_link(peer) : NULL;
    if (!link) {
        return; /* its death is on the way, and settles everything */
    }
    struct ray_value *value = NULL;
    struct own_msg_value gone;
    const void *body = out->msg;
    const bool has_value = out->kind == OWN_MSG_VALUE || out->kind == OWN_MSG_TRANSFER;
    if (has_value) {
        memcpy(&value, &out->payload, sizeof(value));
    }
    if (out->kind == OWN_MSG_VALUE) {
        memcpy(&gone, out->msg, sizeof(gone));
        if (wk_id_is_actor(&gone.object)) { /* what is there is no value */
            gone.state = OWN_GONE;
            gone.status = ST_INVALID_ARGUMENT;
            body = &gone;
            value = NULL;
        }
    }
    const size_t fixed = wk_pad8(own_msg_sizes[out->kind]);
    const size_t size = fixed + (value ? wk_value_piece_bytes(value) : 0);
    struct wk_frame frame;
    if (wk_frame_begin(&frame, link, (uint16_t)(PEER_OWN_FIRST + out->kind), size) != ST_OK) {
        return;
    }
    memset(frame.body, 0, fixed);
    memcpy(frame.body, body, own_msg_sizes[out->kind]);
    if (value) {
        (void)wk_value_encode(value, frame.body + fixed);
    }
    wk_frame_end(&frame, out->kind == OWN_MSG_GET || out->kind == OWN_MSG_VALUE);
}

union own_message {
    struct own_msg_register_ack ack;
    struct own_msg_value value;
    struct own_msg_free free;
    struct own_msg_transfer transfer;
    uint8_t bytes[256];
};

/* The value that follows a VALUE or TRANSFER; NULL when there is none. */
static int
read_value(const uint8_t *at, const uint8_t *end, struct ray_value **out)
{
    *out = NULL;
    if (at >= end) {
        return ST_OK;
    }
    struct wk_piece piece;
    TRY(wk_piece_decode(&at, end, &piece));
    *out = wk_value_of_piece(&piece);
    return *out ? ST_OK : st_fail(ST_PROTOCOL, "a value that can't be read");
}

/* The message as the machine gets it: nothing that the peer says about the value but the value. */
static int
read_own_message(uint16_t kind, const uint8_t *body, size_t size, union own_message *message,
                 struct ray_value **value)
{
    if (kind > OWN_MSG_LAST || own_msg_sizes[kind] == 0 || size < wk_pad8(own_msg_sizes[kind])) {
        return st_fail(ST_PROTOCOL, "a malformed message of ownership, kind %u", kind);
    }
    memcpy(message->bytes, body, own_msg_sizes[kind]);
    if (kind == OWN_MSG_VALUE || kind == OWN_MSG_TRANSFER) {
        TRY(read_value(body + wk_pad8(own_msg_sizes[kind]), body + size, value));
    }
    switch ((enum own_msg_kind)kind) {
    case OWN_MSG_VALUE:
        message->value.state = *value ? (uint8_t)wk_state_of(*value) : OWN_GONE;
        return *value || message->value.status < 0
                   ? ST_OK
                   : st_fail(ST_PROTOCOL, "a value that is gone without a reason");
    case OWN_MSG_TRANSFER:
        if (!*value || wk_id_is_actor(&message->transfer.object)) {
            return st_fail(ST_PROTOCOL, "a transfer without its value, or of an actor");
        }
        message->transfer.state = (uint8_t)wk_state_of(*value);
        message->transfer.items = (*value)->items;
        message->transfer.count = (*value)->item_count;
        return ST_OK;
    case OWN_MSG_REGISTER_ACK:
        return message->ack.status <= 0 ? ST_OK : st_fail(ST_PROTOCOL, "an answer of no status");
    case OWN_MSG_FREE:
        return wk_id_is_actor(&message->free.object)
                   ? st_fail(ST_PROTOCOL, "an actor can't be freed")
                   : ST_OK;
    case OWN_MSG_REGISTER:
    case OWN_MSG_RELEASE:
    case OWN_MSG_TRANSIT_DONE:
    case OWN_MSG_GET:
        break;
    }
    return ST_OK;
}

int
wk_on_own_message(struct wk_link *link, uint16_t kind, const uint8_t *body, size_t size)
{
    union own_message message;
    const uint16_t own_kind = (uint16_t)(kind - PEER_OWN_FIRST);
    struct ray_value *value = NULL;
    const int readable = read_own_message(own_kind, body, size, &message, &value);
    if (readable != ST_OK) {
        ray_value_release(value);
        return readable;
    }
    if ((own_kind == OWN_MSG_VALUE && message.value.state >= OWN_ERROR) ||
        (own_kind == OWN_MSG_REGISTER_ACK && message.ack.status < 0)) {
        wk.error_count++;
    }
    struct step_in in = {
        .kind = own_kind,
        .now_ns = os_now_ns(),
        .peer = link->peer->proc,
        .msg = &message,
    };
    memcpy(&in.payload, &value, sizeof(value));
    struct wk_outs o;
    const int status = own_step(&wk.own, &in, wk_outs_begin(&o));
    wk_outs_end(&o);
    if (status != ST_OK && value) {
        ray_value_release(value);
    }
    wk_changed();
    return status == ST_OUT_OF_MEMORY ? ST_OK : status;
}

/* ---- the end ---- */

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

/* The socket's end only makes us ask: a child of a worker can hold its socket open, and a
 * process that closed it may live. */
static void
on_close(void *ctx, struct net_conn *conn, int status)
{
    (void)conn;
    (void)status;
    struct wk_link *link = ctx;
    mark_broken(link);
    if (!link->peer) {
        free_link(link);
        return;
    }
    watch_peer(link->peer);
}

void
wk_peer_on_death(const struct id_worker *worker, const char *evidence, int32_t pid)
{
    struct wk_peer *peer = find_peer(worker);
    if (!peer || peer->announced) {
        return;
    }
    wk_peer_drain(peer);
    peer->dead = peer->announced = true;
    if (!peer->evidence || (evidence && *evidence)) { /* the first notice may say more */
        peer->pid = pid;
        free(peer->evidence);
        peer->evidence = strdup(evidence ? evidence : "");
    }
    wk.error_count++; /* what it owned is GONE */
    const uint32_t proc = peer->proc;
    wk_tasks_on_death(peer);
    if (peer->actor) {
        wk_actor_on_peer_death(peer->actor, peer);
    }
    if (proc != UINT32_MAX) {
        struct wk_outs o;
        own_died(&wk.own, proc, os_now_ns(), wk_outs_begin(&o));
        wk_outs_end(&o);
    }
    free_link(peer->in);
    free_link(peer->out);
    peer->in = peer->out = NULL;
    wk_changed();
}

void
wk_peers_close(void)
{
    struct map_walk walk;
    map_walk_init(&walk);
    for (struct map_link *l; (l = map_walk_next(&wk.peers, &walk));) {
        struct wk_peer *peer = CONTAINER_OF(l, struct wk_peer, link);
        map_remove(&wk.peers, l);
        wk_link_tasks_destroy(peer->out);
        free_link(peer->in);
        free_link(peer->out);
        free(peer->evidence);
        free(peer);
    }
    map_fini(&wk.peers);
    free(wk.peer_by_proc);
    wk.peer_by_proc = NULL;
    wk.peer_capacity = 0;
}

/* ---- the listener ---- */

static void
on_listen(void *ctx, uint32_t events)
{
    (void)ctx;
    (void)events;
    int fd;
    while (os_sock_accept(wk.listen_watch.fd, &fd) == ST_OK) {
        pid_t pid;
        uid_t uid;
        if (os_sock_peer(fd, &pid, &uid) != ST_OK || uid != getuid()) {
            os_close(&fd);
            continue;
        }
        (void)create_link(fd, false);
    }
}

int
wk_peer_listen(void)
{
    char path[sizeof(wk.socket_dir) + 40];
    (void)snprintf(path, sizeof(path), "%s/%s", wk.socket_dir, wk.socket_name);
    int fd;
    TRY(os_sock_listen(path, &fd));
    wk.listen_watch = (struct net_watch){ .fd = fd, .on_ready = on_listen };
    return ST_OK;
}

int
wk_peer_accept(void)
{
    return net_loop_add(wk.loop, &wk.listen_watch, EPOLLIN | EPOLLET);
}
