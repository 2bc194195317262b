/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Peers and the connections with them: made, accepted, greeted, ended.
 *
 * A process of libray is a peer; a connection with it is a link. Tasks go from the side that
 * connected to the side that accepted. A link outlives its socket: whoever connected does so again
 * (docs/protocols/connections.md). What goes over a link is wk_link_io.c's.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "os/os_basic.h"
#include "os/os_proc.h"
#include "os/os_shm.h"
#include "os/os_sock.h"
#include "worker/wk_exec.h"
#include "worker/wk_priv.h"
#include "worker/wk_task.h"

#define CONNECT_FIRST_NS  UINT64_C(1000000)
#define CONNECT_LASTED_NS UINT64_C(1000000000)
#define CONNECT_LAST_NS   UINT64_C(50000000)

static void on_connect_timer(void *ctx);
static void on_close(void *ctx, struct net_conn *conn, int status);
static const struct net_conn_ops link_ops = { wk_link_on_frame, on_close };

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

void
wk_peer_watch(struct wk_peer *peer)
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
    wk.peer_by_proc.mem = wk.mem;
    if (pages_set(&wk.peer_by_proc, number, peer) != ST_OK) {
        return false;
    }
    list_remove(&peer->gone);
    peer->proc = number;
    if (peer->announced) {
        /* The machine had forgotten that it is dead: the raylet is asked to say it again. */
        peer->announced = peer->watched = false;
        wk_peer_watch(peer);
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
        list_init(&peer->gone);
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
    struct wk_peer *peer = pages_get(&wk.peer_by_proc, proc);
    if (peer) {
        return peer;
    }
    const struct own_addr addr = *own_proc_addr(&wk.own, proc);
    return wk_peer_get(&addr);
}

/* ---- links ---- */

void
wk_link_unmap(struct wk_link *link)
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

static void
free_link(struct wk_link *link)
{
    if (!link) {
        return;
    }
    ASSERT(link->inflight_count == 0);
    net_loop_disarm(wk.loop, &link->repair_timer);
    net_loop_disarm(wk.loop, &link->connect_timer);
    wk_exec_link_gone(link);
    wk_link_templates_free(link);
    wk_link_unmap(link);
    wk_link_free_held(link);
    net_conn_destroy(&link->conn);
    if (link->window_memory) {
        os_shm_unmap(link->window_memory, link->window_bytes);
    }
    str_fini(&link->overflow);
    free(link->window); /* with `inflight` */
    free(link->template_sent);
    free(link);
}

/* It broke for good a while ago, and no death was announced. An incoming one is forgotten: its peer
 * makes another. An outgoing one has tasks that would wait for ever, unless the process has
 * ended: then the word of it, with the cause, is on the way, however busy the machine is. */
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
    if (peer->pid > 0 && os_proc_is_ending(peer->pid)) {
        (void)!net_loop_arm(wk.loop, &link->repair_timer, wk_now() + WK_REPAIR_NS);
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

void
wk_link_mark_broken(struct wk_link *link)
{
    link->broken = true;
    if (link->peer && !heap_has(&link->repair_timer.node)) {
        (void)!net_loop_arm(wk.loop, &link->repair_timer, wk_now() + WK_REPAIR_NS);
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
    link->greeted = fd >= 0;
    link->connect_timer = (struct net_timer){ .on_timer = on_connect_timer, .ctx = link };
    link->repair_timer = (struct net_timer){ .on_timer = on_repair, .ctx = link };
    list_init(&link->held);
    str_init(&link->overflow, wk.mem);
    if (net_conn_create(wk.loop, wk.mem, fd, &link_ops, link, &link->conn) != ST_OK) {
        free(link);
        return NULL;
    }
    net_conn_make_lasting(link->conn);
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
    return os_sock_connect(path, fd);
}

/* Whether connecting may succeed later, with nothing changed on the other side: its queue is full
 * now, or this process or the machine has no descriptor left. */
static bool
may_connect_later(struct wk_peer *peer, int status)
{
    if (status == ST_SYSTEM && !peer->starved) { /* once: it may go on for long */
        (void)fprintf(stderr, "ray: a connection has to wait: %s\n", st_last()->text);
        peer->starved = true;
    }
    return status == ST_WOULD_BLOCK || status == ST_SYSTEM;
}

/* Takes a socket for a link that has had one. */
static int
ask_to_resume(struct wk_link *link, int fd)
{
    const struct peer_resume ask = {
        .protocol_version = RAY_PROTOCOL_VERSION,
        .worker = wk.self.worker,
        .node = wk.self.node,
        .link = link->number,
        .handled = net_conn_handled(link->conn),
    };
    const int status = net_conn_ask(link->conn, fd, PEER_RESUME, &ask, sizeof(ask));
    link->asking = status == ST_OK;
    return link->asking ? ST_OK : ST_WOULD_BLOCK; /* that socket has ended already */
}

/* After a pause, the longer the oftener it was in vain. */
static int
connect_later(struct wk_link *link)
{
    const uint64_t pause = 2 * link->connect_pause_ns;
    link->connect_pause_ns = pause < CONNECT_FIRST_NS  ? CONNECT_FIRST_NS
                             : pause < CONNECT_LAST_NS ? pause
                                                       : CONNECT_LAST_NS;
    return net_loop_arm(wk.loop, &link->connect_timer, wk_now() + link->connect_pause_ns);
}

/* Connects, or connects again. No event tells of room in a listener's queue (4096 are in it), nor
 * of a process that will accept again; what is sent meanwhile waits in the connection. */
static void
on_connect_timer(void *ctx)
{
    struct wk_link *link = ctx;
    int fd;
    if (link->broken) {
        return;
    }
    int status = connect_peer(link->peer, &fd);
    if (status == ST_OK) {
        status = link->greeted ? ask_to_resume(link, fd) : net_conn_attach(link->conn, fd);
        link->greeted = true;
    }
    if (may_connect_later(link->peer, status)) {
        status = connect_later(link);
    }
    if (status != ST_OK) {
        link->peer->dead = true; /* as when the first try fails */
        wk_link_mark_broken(link);
    }
}

static int
send_hello(struct wk_link *link)
{
    const struct peer_hello hello = {
        .protocol_version = RAY_PROTOCOL_VERSION,
        .worker = wk.self.worker,
        .node = wk.self.node,
        .link = link->number,
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
    const int status = connect_peer(peer, &fd);
    if (status != ST_OK && !may_connect_later(peer, status)) {
        /* The name vanishes with the process; the raylet's word is waited for. */
        peer->dead = true;
        wk_peer_watch(peer);
        return NULL;
    }
    struct wk_link *link = create_link(fd, true);
    if (!link) {
        return NULL;
    }
    link->peer = peer;
    link->number = ++peer->last_out;
    peer->out = link;
    wk_peer_watch(peer);
    if (status != ST_OK) {
        (void)!connect_later(link);
    }
    if (send_hello(link) != ST_OK) {
        wk_link_mark_broken(link);
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

/* An accepted connection is the peer's from now on. Its earlier one, if any, the peer has given up.
 */
static void
begin_incoming(struct wk_peer *peer, struct wk_link *link, uint64_t number)
{
    free_link(peer->in);
    link->peer = peer;
    link->number = peer->last_in = number;
    peer->in = link;
    wk_peer_watch(peer);
}

int
wk_peer_on_hello(struct wk_link *link, const struct net_frame *frame)
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
        if (!peer || hello.link <= peer->last_in || peer->announced) {
            return st_fail(ST_PROTOCOL, "a peer connected twice, or after its death");
        }
        begin_incoming(peer, link, hello.link);
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

/* ---- going on over another socket ---- */

/* The other side has handled so many frames. Bells may have been lost with the old socket. */
static void
go_on(struct wk_link *link, uint64_t handled)
{
    if (net_conn_resume(link->conn, handled) != ST_OK) {
        wk_link_break(link, "it can't go on");
        return;
    }
    link->resumed_ns = wk_now();
    if (link->receiving) {
        net_bell_self_mark(&wk.bell, link->ring_index);
    }
    wk_link_flush_room(link);
    net_conn_ring_bell(link->conn, PEER_BELL);
}

static int
answer_resume(struct wk_link *link)
{
    const struct peer_resumed answer = { .handled = net_conn_handled(link->conn) };
    return net_conn_send_control(link->conn, PEER_RESUMED, &answer, sizeof(answer));
}

int
wk_peer_on_resume(struct wk_link *link, const struct net_frame *frame)
{
    struct peer_resume ask;
    if (frame->size != sizeof(ask) || link->outgoing || link->peer) {
        return st_fail(ST_PROTOCOL, "an unexpected wish to go on");
    }
    memcpy(&ask, frame->body, sizeof(ask));
    const struct own_addr addr = { ask.worker, ask.node };
    struct wk_peer *peer = wk_peer_get(&addr);
    struct wk_link *old = peer ? peer->in : NULL;
    if (peer && peer->announced) { /* it asked shortly before it died */
        free_link(link);
        return ST_OK;
    }
    if (!peer || ask.protocol_version != RAY_PROTOCOL_VERSION) {
        return st_fail(ST_PROTOCOL, "a peer that is strange wants to go on");
    }
    if (old && old->number == ask.link && !old->broken) {
        const int status = net_conn_adopt(old->conn, link->conn);
        if (status == ST_PROTOCOL) {
            return status;
        }
        /* A socket that fails here is the peer's to replace, as any that ends. */
        if (status == ST_OK && answer_resume(old) == ST_OK) {
            go_on(old, ask.handled);
        }
        free_link(link);
        return ST_OK;
    }
    if (ask.link <= peer->last_in) { /* which it is told as the socket is closed */
        return st_fail(ST_CLOSED, "a peer wants to go on with a connection that was given up");
    }
    begin_incoming(peer, link, ask.link); /* nothing had been handled before its socket ended */
    if (answer_resume(link) == ST_OK) {
        go_on(link, ask.handled);
    }
    return ST_OK;
}

int
wk_peer_on_resumed(struct wk_link *link, const struct net_frame *frame)
{
    struct peer_resumed answer;
    if (frame->size != sizeof(answer)) {
        return st_fail(ST_PROTOCOL, "an answer of %u bytes to a wish to go on", frame->size);
    }
    memcpy(&answer, frame->body, sizeof(answer));
    if (answer.status != ST_OK) {
        return st_fail(ST_CLOSED, "the peer has given it up");
    }
    if (!link->asking) {
        return st_fail(ST_PROTOCOL, "an unexpected answer to a wish to go on");
    }
    link->asking = false;
    go_on(link, answer.handled);
    return ST_OK;
}

/* ---- the end ---- */

/* A socket's end says nothing about the process: a child of a worker can hold its socket open, and
 * a process that closed it may live. Who connected does so again; who accepted waits, for that or
 * for the word of the peer's death. */
static void
on_close(void *ctx, struct net_conn *conn, int status)
{
    (void)conn;
    struct wk_link *link = ctx;
    if (!link->peer) {
        free_link(link);
        return;
    }
    wk_peer_watch(link->peer);
    const bool lasted = !link->asking && wk_now() - link->resumed_ns > CONNECT_LASTED_NS;
    link->asking = false;
    if (status != ST_CLOSED && status != ST_SYSTEM) {
        wk_link_break(link, "malformed message");
    }
    if (link->deaf || link->broken || (link->outgoing && link->peer->dead)) {
        wk_link_mark_broken(link);
    } else if (link->outgoing && lasted) {
        link->connect_pause_ns = 0;
        on_connect_timer(link);
    } else if (link->outgoing) { /* else it might break and go on in turns, without a rest */
        (void)!connect_later(link);
    }
}

void
wk_peer_on_death(const struct id_worker *worker, const char *evidence, int32_t pid)
{
    struct wk_peer *peer = find_peer(worker);
    if (!peer || peer->announced) {
        return;
    }
    peer->dead = true;
    wk_peer_drain(peer);
    peer->announced = true;
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
        own_died(&wk.own, proc, wk_now(), wk_outs_begin(&o));
        wk_outs_end(&o);
    }
    free_link(peer->in);
    free_link(peer->out);
    peer->in = peer->out = NULL;
    if (peer->proc == UINT32_MAX) {
        list_remove(&peer->gone);
        list_push_back(&wk.gone_peers, &peer->gone);
    }
    wk_changed();
}

static bool
is_referred_to(const struct wk_peer *peer)
{
    LIST_FOR (l, &wk.lease_refs) {
        if (LIST_ENTRY(l, struct wk_lease_ref, link)->peer == peer) {
            return true;
        }
    }
    return peer->in || peer->out || peer->actor || peer->proc != UINT32_MAX || !peer->announced;
}

void
wk_peers_sweep(void)
{
    LIST_FOR_SAFE (l, next, &wk.gone_peers) {
        struct wk_peer *peer = LIST_ENTRY(l, struct wk_peer, gone);
        if (!is_referred_to(peer)) {
            list_remove(&peer->gone);
            map_remove(&wk.peers, &peer->link);
            free(peer->evidence);
            free(peer);
        }
    }
}

static bool
is_served(const struct wk_link *link)
{
    return !link || link->broken || link->peer->dead || link->peer->announced ||
           (link->overflow.size == link->overflow_start && net_conn_is_flushed(link->conn));
}

bool
wk_peers_are_served(void *ctx)
{
    struct map_walk walk;
    (void)ctx;
    map_walk_init(&walk);
    for (struct map_link *l; (l = map_walk_next(&wk.peers, &walk));) {
        const struct wk_peer *peer = CONTAINER_OF(l, struct wk_peer, link);
        if (!is_served(peer->in) || !is_served(peer->out)) {
            return wk.raylet_dead;
        }
    }
    return true;
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
    pages_fini(&wk.peer_by_proc);
}

/* ---- the listener ---- */

static void
on_connection(void *ctx, int fd)
{
    (void)ctx;
    pid_t pid;
    uid_t uid;
    if (os_sock_peer(fd, &pid, &uid) != ST_OK || uid != getuid()) {
        os_close(&fd);
        return;
    }
    (void)create_link(fd, false);
}

int
wk_peer_listen(void)
{
    char path[sizeof(wk.socket_dir) + 40];
    (void)snprintf(path, sizeof(path), "%s/%s", wk.socket_dir, wk.socket_name);
    return os_sock_listen(path, &wk.listener);
}

int
wk_peer_accept(void)
{
    return net_accept_open(&wk.accept, wk.loop, wk.listener, on_connection, NULL);
}

void
wk_peer_unlisten(void)
{
    const char *const names[] = { wk.socket_alias, wk.socket_name };
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        char path[sizeof(wk.socket_dir) + 40];
        (void)snprintf(path, sizeof(path), "%s/%s", wk.socket_dir, names[i]);
        if (*wk.socket_dir && *names[i]) {
            (void)unlink(path); /* the raylet may have done so */
        }
    }
    wk.socket_alias[0] = wk.socket_name[0] = '\0';
}

void
wk_peer_listen_end(void)
{
    net_accept_close(&wk.accept);
    os_close(&wk.listener);
    wk_peer_unlisten();
}
