/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections that break and go on: docs/protocols/connections.md, simulated down to bytes.
 *
 * A wire joins two processes. Its sockets come one after the other; each carries bytes both ways,
 * in pieces that arrive at random times, and ends at any moment: then any prefix of what is under
 * way arrives, cut anywhere, and each side learns of the end on its own. Both ends are the
 * runtime's machine, net_resume. The messages themselves wait in the queue of their `conn`; a frame
 * brings the number of one, which has to be the first in that queue.
 */
#include <stdlib.h>
#include <string.h>

#include "net/net_frame.h"
#include "net/net_resume.h"
#include "sim_priv.h"

enum frame_kind { TOLD = NET_FRAME_TOLD, DATA, RESUME, RESUMED };

/* All frames are alike: `word` is a message's number, or a count. */
struct frame {
    struct net_frame_header header;
    uint64_t word;
};

struct piece {
    struct list link;
    bool end; /* of the socket */
    size_t size;
    char bytes[];
};

/* One direction of a socket, from end `from` of its wire to the other. */
struct wire_pipe {
    struct wire_socket *socket;
    uint32_t from;
    bool cut; /* it has ended: what is written is lost */
    struct list pieces;
    uint64_t last_arrival;
    struct str in; /* bytes that arrived, up to half a frame */
};

struct wire_socket {
    struct list link;
    struct wire *wire;
    uint64_t number;
    struct wire_pipe pipes[2];
};

struct wire_end {
    struct conn *conn; /* what it sends */
    struct net_resume resume;
    uint64_t sent;
    uint64_t socket; /* number of its socket, 0 none */
    uint64_t newest; /* greatest number it ever had */
    bool asking;
};

struct wire {
    struct list link; /* sim.wires */
    struct list sockets;
    uint64_t socket_count;
    struct wire_end ends[2]; /* the first is the one that connects */
};

static struct proc *
proc_of_end(const struct sim *sim, const struct wire *w, uint32_t i)
{
    return sim->procs[w->ends[i].conn->from];
}

static struct wire_socket *
add_socket(struct sim *sim, struct wire *w)
{
    struct wire_socket *s = sim_alloc(sim, sizeof(*s));
    s->wire = w;
    s->number = ++w->socket_count;
    for (uint32_t i = 0; i < 2; i++) {
        struct wire_pipe *p = &s->pipes[i];
        p->socket = s;
        p->from = i;
        list_init(&p->pieces);
        str_init(&p->in, &sim->mem);
    }
    list_push_back(&w->sockets, &s->link);
    return s;
}

static struct wire_socket *
socket_of(struct wire *w, uint64_t number)
{
    LIST_FOR (l, &w->sockets) {
        struct wire_socket *s = LIST_ENTRY(l, struct wire_socket, link);
        if (s->number == number) {
            return s;
        }
    }
    return NULL;
}

static struct wire *
wire_of(struct sim *sim, struct conn *c)
{
    if (c->wire) {
        return c->wire;
    }
    struct wire *w = sim_alloc(sim, sizeof(*w));
    w->ends[0].conn = c;
    w->ends[1].conn = sim_conn(sim, c->to, c->from, c->lane);
    list_init(&w->sockets);
    list_push_back(&sim->wires, &w->link);
    sim->wire_count++;
    (void)add_socket(sim, w);
    for (uint32_t i = 0; i < 2; i++) {
        struct wire_end *e = &w->ends[i];
        e->conn->wire = w;
        e->socket = e->newest = 1;
        net_resume_init(&e->resume, &sim->mem, true);
        e->resume.rules_off = sim->params.resume_rules_off;
    }
    return w;
}

/* ---- writing ---- */

static void
put(struct sim *sim, struct wire_pipe *p, const void *bytes, size_t size, bool end)
{
    if (p->cut) {
        return;
    }
    struct piece *piece = sim_alloc(sim, sizeof(*piece) + size);
    piece->end = end;
    piece->size = size;
    if (size > 0) {
        memcpy(piece->bytes, bytes, size);
    }
    list_push_back(&p->pieces, &piece->link);
    uint64_t when = sim->now + sim_random_delay(sim, sim->params.delay_max_ns);
    if (when < p->last_arrival) {
        when = p->last_arrival;
    }
    p->last_arrival = when;
    const uint32_t reader = p->socket->wire->ends[1 - p->from].conn->from;
    sim_event(sim, EV_BYTES, when, reader, 0)->pipe = p;
}

static void
put_control(struct sim *sim, struct wire_pipe *p, uint16_t kind, uint64_t count, uint64_t word)
{
    const struct frame f = { { sizeof(f), kind, NET_FRAME_CONTROL, count }, word };
    put(sim, p, &f, sizeof(f), false);
}

/* As much as the machine gives, in pieces of any size. */
static void
write_out(struct sim *sim, struct wire *w, uint32_t i)
{
    struct wire_end *e = &w->ends[i];
    struct wire_socket *s = socket_of(w, e->socket);
    const char *bytes;
    size_t n;
    while (s && (n = net_resume_unwritten(&e->resume, &bytes)) > 0) {
        n = sim_chance(sim, 200) ? 1 + (size_t)sim_below(sim, n) : n;
        put(sim, &s->pipes[i], bytes, n, false);
        net_resume_wrote(&e->resume, n);
    }
}

static uint32_t
end_of(const struct wire *w, const struct conn *c)
{
    return w->ends[0].conn == c ? 0 : 1;
}

void
sim_wire_send(struct sim *sim, struct conn *c, struct message *m)
{
    struct wire *w = wire_of(sim, c);
    const uint32_t i = end_of(w, c);
    struct wire_end *e = &w->ends[i];
    m->number = ++e->sent;
    struct frame f = { { sizeof(f), DATA, 0, net_resume_tell(&e->resume) }, m->number };
    const struct iovec iov = { &f, sizeof(f) };
    if (net_resume_append(&e->resume, &iov, 1, 0) != 0) {
        abort();
    }
    write_out(sim, w, i);
}

/* ---- the end of a socket ---- */

static void
drop_piece(struct sim *sim, struct piece *piece)
{
    list_remove(&piece->link);
    mem_free(&sim->mem, piece, sizeof(*piece) + piece->size);
}

/* Any prefix of what is under way arrives, then its end. */
static void
cut_pipe(struct sim *sim, struct wire_pipe *p)
{
    uint32_t count = 0;
    if (p->cut) {
        return;
    }
    LIST_FOR (l, &p->pieces) {
        count++;
    }
    for (uint32_t lost = (uint32_t)sim_below(sim, count + 1); lost > 0; lost--) {
        struct piece *last = LIST_ENTRY(p->pieces.prev, struct piece, link);
        if (lost == 1 && sim_chance(sim, 500)) { /* its first bytes arrive */
            const size_t kept = (size_t)sim_below(sim, last->size + 1);
            struct piece *part = sim_alloc(sim, sizeof(*part) + kept);
            part->size = kept;
            memcpy(part->bytes, last->bytes, kept);
            drop_piece(sim, last);
            list_push_back(&p->pieces, &part->link);
            break;
        }
        drop_piece(sim, last);
    }
    put(sim, p, NULL, 0, true);
    p->cut = true;
}

static void
go_down(struct sim *sim, struct wire *w, uint32_t i)
{
    struct wire_end *e = &w->ends[i];
    e->socket = 0;
    e->asking = false;
    net_resume_broke(&e->resume);
    if (i == 0) {
        const uint64_t when = sim->now + sim_random_delay(sim, sim->params.delay_max_ns);
        sim_event(sim, EV_CONNECT, when, e->conn->from, 0)->wire = w;
    }
}

void
sim_wire_on_break(struct sim *sim)
{
    if (sim->healing) {
        return;
    }
    uint64_t skip = sim->wire_count > 0 ? sim_below(sim, sim->wire_count) : 0;
    LIST_FOR (l, &sim->wires) {
        struct wire *w = LIST_ENTRY(l, struct wire, link);
        if (skip-- == 0) {
            struct wire_socket *s = socket_of(w, w->socket_count);
            SIM_TRACE(sim, "socket %u of P%u and P%u breaks", (unsigned)s->number,
                      w->ends[0].conn->from, w->ends[1].conn->from);
            cut_pipe(sim, &s->pipes[0]);
            cut_pipe(sim, &s->pipes[1]);
        }
    }
    sim_event(sim, EV_BREAK, sim->now + sim_random_delay(sim, sim->params.act_max_ns), 0, 0);
}

void
sim_wire_on_connect(struct sim *sim, struct wire *w)
{
    struct wire_end *e = &w->ends[0];
    if (!proc_of_end(sim, w, 0)->alive || e->socket != 0) {
        return;
    }
    if (!proc_of_end(sim, w, 1)->alive) {
        sim_tell_death(sim, e->conn->to, e->conn->from);
        return;
    }
    struct wire_socket *s = add_socket(sim, w);
    SIM_TRACE(sim, "P%u connects to P%u again: socket %u", e->conn->from, e->conn->to,
              (unsigned)s->number);
    e->socket = e->newest = s->number;
    e->asking = true;
    put_control(sim, &s->pipes[0], RESUME, 0, net_resume_ask(&e->resume));
    write_out(sim, w, 0); /* nothing, but without rule K4 */
}

/* ---- reading ---- */

static void
resume(struct sim *sim, struct wire *w, uint32_t i, uint64_t handled)
{
    struct wire_end *e = &w->ends[i];
    SIM_CHECK(sim, net_resume_on_count(&e->resume, handled) == 0,
              "P%u can't go on after %llu handled messages", e->conn->from,
              (unsigned long long)handled);
    write_out(sim, w, i);
}

/* The accepting side takes the new socket. */
static void
adopt(struct sim *sim, struct wire_socket *s, uint64_t handled)
{
    struct wire *w = s->wire;
    struct wire_end *e = &w->ends[1];
    e->socket = e->newest = s->number;
    net_resume_broke(&e->resume);
    put_control(sim, &s->pipes[1], RESUMED, 0, e->resume.handled);
    resume(sim, w, 1, handled);
}

static void
deliver(struct sim *sim, struct wire *w, uint32_t reader, uint64_t number)
{
    struct conn *c = w->ends[1 - reader].conn;
    SIM_CHECK(sim, !list_is_empty(&c->queue), "message %llu from P%u to P%u came again",
              (unsigned long long)number, c->from, c->to);
    struct message *m = LIST_ENTRY(list_first(&c->queue), struct message, link);
    SIM_CHECK(sim, m->number == number, "message %llu from P%u to P%u came, %llu was due",
              (unsigned long long)number, c->from, c->to, (unsigned long long)m->number);
    list_remove(&m->link);
    sim->world->deliver(sim, sim->state, c->to, c->from, m->kind, m->payload, m->bytes);
    mem_free(&sim->mem, m, sizeof(*m) + m->size);
}

static void
on_frame(struct sim *sim, struct wire_socket *s, uint32_t reader, const struct frame *f)
{
    struct wire *w = s->wire;
    struct wire_end *e = &w->ends[reader];
    if (f->header.kind == RESUME) {
        if (reader == 1 && s->number > e->newest) {
            adopt(sim, s, f->word);
        }
        return;
    }
    if (e->socket != s->number && !(sim->params.read_old_sockets && reader == 1)) {
        return; /* closed on this side */
    }
    SIM_CHECK(sim, net_resume_on_told(&e->resume, f->header.request_id) == 0,
              "P%u is told of more messages than it sent", e->conn->from);
    switch ((enum frame_kind)f->header.kind) {
    case RESUMED:
        SIM_CHECK(sim, e->asking, "P%u gets an answer that it didn't ask for", e->conn->from);
        e->asking = false;
        resume(sim, w, reader, f->word);
        break;
    case DATA:
        net_resume_on_frame(&e->resume, sim_chance(sim, 50) ? 65536 : sizeof(*f));
        deliver(sim, w, reader, f->word);
        break;
    case TOLD:
    case RESUME:
        break;
    }
}

/* What a dead process sent, and will not arrive any more. */
static void
drop_rest(struct sim *sim, struct wire *w, uint32_t dead)
{
    LIST_FOR (l, &w->sockets) {
        if (!list_is_empty(&LIST_ENTRY(l, struct wire_socket, link)->pipes[dead].pieces)) {
            return;
        }
    }
    struct conn *c = w->ends[dead].conn;
    while (!list_is_empty(&c->queue)) {
        sim_drop_message(sim, c, LIST_ENTRY(list_first(&c->queue), struct message, link));
    }
}

static void
read_in(struct sim *sim, struct wire_pipe *p)
{
    const uint32_t reader = 1 - p->from;
    struct frame f;
    size_t at = 0;
    while (p->in.size - at >= sizeof(f) && proc_of_end(sim, p->socket->wire, reader)->alive) {
        memcpy(&f, p->in.data + at, sizeof(f));
        SIM_CHECK(sim, f.header.length == sizeof(f) && f.header.kind <= RESUMED,
                  "half a frame was followed by another");
        at += sizeof(f);
        on_frame(sim, p->socket, reader, &f);
    }
    memmove(p->in.data, p->in.data + at, p->in.size - at);
    p->in.size -= at;
}

void
sim_wire_on_bytes(struct sim *sim, struct wire_pipe *p)
{
    struct wire *w = p->socket->wire;
    const uint32_t reader = 1 - p->from;
    struct wire_end *e = &w->ends[reader];
    if (list_is_empty(&p->pieces)) {
        return; /* cut off */
    }
    struct piece *piece = LIST_ENTRY(list_first(&p->pieces), struct piece, link);
    const bool alive = proc_of_end(sim, w, reader)->alive;
    if (alive && piece->end && e->socket == p->socket->number) {
        SIM_TRACE(sim, "P%u sees the end of socket %u with P%u", e->conn->from, (unsigned)e->socket,
                  e->conn->to);
        go_down(sim, w, reader);
    } else if (alive && piece->size > 0) {
        str_append(&p->in, piece->bytes, piece->size);
    }
    drop_piece(sim, piece);
    if (alive && p->in.size > 0) {
        read_in(sim, p);
        struct wire_socket *s = socket_of(w, e->socket);
        if (s && !e->resume.down && net_resume_must_tell(&e->resume) &&
            net_resume_waiting(&e->resume) == 0) {
            put_control(sim, &s->pipes[reader], TOLD, net_resume_tell(&e->resume), 0);
        }
    }
    if (!proc_of_end(sim, w, p->from)->alive) {
        drop_rest(sim, w, p->from);
    }
}

void
sim_wire_drain(struct sim *sim, uint32_t dead, uint32_t observer)
{
    for (uint32_t lane = 0; lane < SIM_LANES; lane++) {
        const struct conn *c = sim_conn(sim, dead, observer, lane);
        struct wire *w = c->wire;
        if (!w) {
            continue;
        }
        LIST_FOR (l, &w->sockets) {
            struct wire_pipe *p = &LIST_ENTRY(l, struct wire_socket, link)->pipes[end_of(w, c)];
            while (!list_is_empty(&p->pieces)) {
                sim_wire_on_bytes(sim, p);
            }
        }
    }
}

void
sim_wire_killed(struct sim *sim, uint32_t proc)
{
    LIST_FOR (l, &sim->wires) {
        struct wire *w = LIST_ENTRY(l, struct wire, link);
        for (uint32_t i = 0; i < 2; i++) {
            if (w->ends[i].conn->from != proc) {
                continue;
            }
            LIST_FOR (k, &w->sockets) {
                cut_pipe(sim, &LIST_ENTRY(k, struct wire_socket, link)->pipes[i]);
            }
            drop_rest(sim, w, i);
            struct conn *to = w->ends[1 - i].conn;
            while (!list_is_empty(&to->queue)) {
                sim_drop_message(sim, to, LIST_ENTRY(list_first(&to->queue), struct message, link));
            }
        }
    }
}

void
sim_wire_check(struct sim *sim)
{
    LIST_FOR (l, &sim->wires) {
        const struct wire *w = LIST_ENTRY(l, struct wire, link);
        for (uint32_t i = 0; i < 2; i++) {
            SIM_CHECK(sim, list_is_empty(&w->ends[i].conn->queue),
                      "a message from P%u to P%u never came", w->ends[i].conn->from,
                      w->ends[i].conn->to);
        }
    }
}

void
sim_wire_forget(struct sim *sim)
{
    for (struct list *l; (l = list_pop_front(&sim->wires));) {
        struct wire *w = LIST_ENTRY(l, struct wire, link);
        for (struct list *k; (k = list_pop_front(&w->sockets));) {
            struct wire_socket *s = LIST_ENTRY(k, struct wire_socket, link);
            for (uint32_t i = 0; i < 2; i++) {
                while (!list_is_empty(&s->pipes[i].pieces)) {
                    drop_piece(sim,
                               LIST_ENTRY(list_first(&s->pipes[i].pieces), struct piece, link));
                }
                str_fini(&s->pipes[i].in);
            }
            mem_free(&sim->mem, s, sizeof(*s));
        }
        net_resume_fini(&w->ends[0].resume);
        net_resume_fini(&w->ends[1].resume);
        mem_free(&sim->mem, w, sizeof(*w));
    }
}
