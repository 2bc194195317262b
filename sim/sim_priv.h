/* SPDX-License-Identifier: Apache-2.0 */
/* What the framework's own files share: sim.c (clock, processes, perfect connections) and
 * sim_wire.c (connections that break). Worlds include sim.h alone. */
#ifndef RAY_SIM_SIM_PRIV_H
#define RAY_SIM_SIM_PRIV_H

#include <setjmp.h>
#include <stdio.h>

#include "base/heap.h"
#include "base/list.h"
#include "base/map.h"
#include "base/rand.h"
#include "sim.h"

enum { SIM_TIMERS = 8 };

enum event_kind {
    EV_ACT,
    EV_MESSAGE, /* the head of `conn` arrives */
    EV_NOTICE,  /* `proc` learns that `other` is dead */
    EV_TIMER,   /* `other` is the tag */
    EV_BREAK,   /* some wire's socket ends */
    EV_CONNECT, /* `proc` connects `wire` again */
    EV_BYTES,   /* the next bytes of `pipe` arrive */
};

struct conn;
struct wire;
struct wire_pipe;

struct event {
    struct heap_node node;
    enum event_kind kind;
    uint32_t proc, other;
    union {
        struct conn *conn;
        struct wire *wire;
        struct wire_pipe *pipe;
    };
};

struct message {
    struct list link;
    uint64_t number; /* on a wire: of its connection, from 1 up */
    uint16_t kind;
    uint64_t payload;
    size_t size;
    bool end; /* of a connection that broke: nothing else is in it */
    char bytes[] __attribute__((aligned(16)));
};

struct conn {
    struct map_link link;
    uint32_t from, to, lane;
    uint64_t last_arrival;
    bool cut; /* it broke, and its sender doesn't know: what it sends is lost */
    struct list queue;
    struct wire *wire; /* that carries it, when connections break; or NULL */
};

struct proc {
    const char *role;
    bool alive;
    uint64_t stopped_until;
    struct event *timers[SIM_TIMERS];
    uint64_t told_dead[SIM_PROCS_MAX / 64 + 1];  /* a notice is on its way or came */
    uint64_t known_dead[SIM_PROCS_MAX / 64 + 1]; /* it came */
};

/* Allocations are linked, so that a history that was broken off leaves nothing. */
struct block {
    struct list link;
    uint64_t size, pad;
};
_Static_assert(sizeof(struct block) == 32, "keeps the 16-byte alignment of malloc");

struct sim {
    const struct sim_world *world;
    void *state;
    struct sim_params params;
    struct rand rand;
    uint32_t mutations;
    struct mem mem;
    struct list blocks;
    uint64_t bytes;
    uint64_t now;
    struct heap events;
    struct map conns;
    struct list wires;
    uint32_t wire_count;
    struct proc *procs[SIM_PROCS_MAX + 1];
    uint32_t proc_count;
    uint32_t actions_left;
    bool healing;
    FILE *trace;
    jmp_buf fail;
    struct sim_result *result;
};

/* ---- sim.c ---- */

void *sim_alloc(struct sim *sim, size_t size); /* zeroed */
struct event *sim_event(struct sim *sim, enum event_kind kind, uint64_t when, uint32_t proc,
                        uint32_t other);
uint64_t sim_random_delay(struct sim *sim, uint64_t max);
struct conn *sim_conn(struct sim *sim, uint32_t from, uint32_t to, uint32_t lane);
/* `observer` learns of the death, once. */
void sim_tell_death(struct sim *sim, uint32_t dead, uint32_t observer);
void sim_drop_message(struct sim *sim, struct conn *c, struct message *m);

/* ---- sim_wire.c ---- */

/* Sends what was put at the end of the connection's queue. */
void sim_wire_send(struct sim *sim, struct conn *c, struct message *m);
/* Reads what `dead` had sent to `observer`. */
void sim_wire_drain(struct sim *sim, uint32_t dead, uint32_t observer);
void sim_wire_killed(struct sim *sim, uint32_t proc);
void sim_wire_on_break(struct sim *sim);
void sim_wire_on_connect(struct sim *sim, struct wire *wire);
void sim_wire_on_bytes(struct sim *sim, struct wire_pipe *pipe);
/* All is quiet: nothing was lost. */
void sim_wire_check(struct sim *sim);
void sim_wire_forget(struct sim *sim);

#endif
