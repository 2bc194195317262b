/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deterministic simulation: one thread, one 64-bit seed = one history.
 *
 * The framework holds a clock, processes, connections between them and timers; a *world* puts state
 * machines into the processes, invents work for them and checks invariants. Everything random comes
 * from sim_below and sim_chance, so a seed replays exactly.
 *
 * Network. A connection is (from, to, lane). Each is FIFO; between connections any interleaving can
 * happen, since every message is delayed at random. At a death any prefix of what each connection
 * carried is delivered (in a `local` history all of it, before the notice, as through a ring), and
 * the notice reaches each survivor on its own, before or after those messages. What is sent to the
 * dead is dropped; a process that started after that death gets its notice when it first sends. A
 * stopped process (SIGSTOP) gets nothing until it goes on. A connection can also end for good while
 * both ends live (sim_break): in each direction any prefix of what it carried is delivered, then
 * each end is told; what an end sends before it is told is lost, what it sends after goes over a
 * new one.
 *
 * In histories with `breaks` every connection is a wire (sim_wire.c): sockets that carry bytes and
 * end at any moment, at any byte, and the runtime's own machine (net/net_resume.h) at both ends, by
 * which each message still arrives once, in order. That it does is checked at each.
 *
 * Phases. Chaos: the world's `act` is called `actions` times, at random moments. Then `heal` once:
 * the world winds its work down, nobody is killed any more, and the history must go quiet: no
 * message, no timer left within SIM_STEPS_MAX steps. Then `quiet` checks that nothing is left over.
 * A violated check ends the history by sim_fail, which prints seed and trace. When a history is
 * over, all memory taken from sim_mem must have been given back by `destroy`.
 *
 * A new world: one file sim_<world>.c that defines a `const struct sim_world`, and a line in
 * sim_worlds.c.
 */
#ifndef RAY_SIM_SIM_H
#define RAY_SIM_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

struct sim;

enum {
    SIM_LANES = 2,       /* connections from one process to another */
    SIM_PROCS_MAX = 256, /* in one history, the dead included; numbers from 1 */
    SIM_STEPS_MAX = 2000000,
};

#define SIM_MS UINT64_C(1000000) /* nanoseconds */

/* How a history is played; drawn from the seed before `create`, which may change it. */
struct sim_params {
    uint32_t actions;          /* calls of `act` */
    uint64_t act_max_ns;       /* greatest pause between them */
    uint64_t delay_max_ns;     /* greatest delay of a message */
    uint64_t notice_max_ns;    /* greatest delay of a death notice */
    bool local;                /* rings: nothing published is lost, and the notice comes after it */
    bool breaks;               /* every connection breaks at times, and goes on (sim_wire.c) */
    bool drains;               /* with `breaks`: what the dead had sent is read before the notice */
    uint32_t resume_rules_off; /* of net_resume, for the world that shows them needed */
    bool read_old_sockets;     /* the same for rule K3 */
};

/* `world` is what `create` returned. A callback that a world doesn't need may be NULL, but for
 * create, destroy, act and quiet. */
struct sim_world {
    const char *name;
    void *(*create)(struct sim *sim);
    void (*destroy)(struct sim *sim, void *world);
    /* Do one random thing. */
    void (*act)(struct sim *sim, void *world);
    /* A message reaches a live process; `msg` is freed by the framework after the call. */
    void (*deliver)(struct sim *sim, void *world, uint32_t proc, uint32_t from, uint16_t kind,
                    uint64_t payload, const void *msg);
    /* A message will never be delivered (its receiver is dead, or its sender died first). */
    void (*dropped)(struct sim *sim, void *world, uint32_t proc, uint32_t from, uint16_t kind,
                    uint64_t payload, const void *msg);
    /* Live process `proc` learns that `dead` is dead. */
    void (*died)(struct sim *sim, void *world, uint32_t proc, uint32_t dead);
    /* Live process `proc` learns that its connection with `other` broke (sim_break). */
    void (*broke)(struct sim *sim, void *world, uint32_t proc, uint32_t other);
    void (*timer)(struct sim *sim, void *world, uint32_t proc, uint32_t tag);
    /* `proc` has just been killed: give its memory back. It may still be asked about by checks. */
    void (*killed)(struct sim *sim, void *world, uint32_t proc);
    /* After every step. */
    void (*check)(struct sim *sim, void *world);
    void (*heal)(struct sim *sim, void *world);
    /* Called whenever nothing is under way during healing. Returns true when it set something new
     * going; after it returned false come the last checks, by `quiet`. */
    bool (*wind_down)(struct sim *sim, void *world);
    void (*quiet)(struct sim *sim, void *world);
    /* Names of rules that can be switched off, to show that the checks notice: bit i of
     * sim_mutations is names[i]. NULL-terminated. */
    const char *const *mutations;
};

/* Terminated by NULL. */
extern const struct sim_world *const sim_worlds[];

/* --- for worlds ------------------------------------------------------------------------------- */

struct sim_params *sim_params(struct sim *sim);
const struct mem *sim_mem(struct sim *sim);
uint64_t sim_now(const struct sim *sim);
uint64_t sim_below(struct sim *sim, uint64_t n); /* uniform in [0, n) */
bool sim_chance(struct sim *sim, uint32_t per_mille);
uint32_t sim_mutations(const struct sim *sim); /* bits of rules switched off */
bool sim_is_healing(const struct sim *sim);

/* A new live process; `role` is static text for traces. */
uint32_t sim_proc_add(struct sim *sim, const char *role);
/* It does nothing more; `killed` is called back before this returns, notices follow. */
void sim_proc_kill(struct sim *sim, uint32_t proc);
/* It gets no message, notice or timer for so long. */
void sim_proc_stop(struct sim *sim, uint32_t proc, uint64_t duration_ns);
bool sim_proc_alive(const struct sim *sim, uint32_t proc);
uint32_t sim_proc_count(const struct sim *sim); /* numbers are 1 to this, the dead included */

/* Sends a copy of `size` bytes. Nothing happens when `to` is known dead or `from` is dead. */
void sim_send(struct sim *sim, uint32_t from, uint32_t to, uint32_t lane, uint16_t kind,
              uint64_t payload, const void *msg, size_t size);
/* A live process asks to be told of the death of another: it is, also when that was long ago. */
void sim_watch(struct sim *sim, uint32_t proc, uint32_t watched);
/* Ends the connection between two processes for good, for worlds with `broke`; nothing with
 * `breaks`. */
void sim_break(struct sim *sim, uint32_t a, uint32_t b, uint32_t lane);
/* Arms the process's timer `tag` (below 8) for `when_ns`; 0 disarms. */
void sim_timer(struct sim *sim, uint32_t proc, uint32_t tag, uint64_t when_ns);

/* A line of the trace. Use SIM_TRACE, which formats only when somebody reads it. */
bool sim_tracing(const struct sim *sim);
void sim_trace(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
#define SIM_TRACE(sim, ...)                                                                        \
    do {                                                                                           \
        if (sim_tracing(sim)) {                                                                    \
            sim_trace((sim), __VA_ARGS__);                                                         \
        }                                                                                          \
    } while (0)

/* An invariant is broken: ends the history. */
_Noreturn void sim_fail(struct sim *sim, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
#define SIM_CHECK(sim, cond, ...)                                                                  \
    do {                                                                                           \
        if (__builtin_expect(!(cond), 0)) {                                                        \
            sim_fail((sim), __VA_ARGS__);                                                          \
        }                                                                                          \
    } while (0)

/* --- for the runner and tests --------------------------------------------------------------------
 */

struct sim_result {
    bool failed;
    uint64_t steps;
    char text[512]; /* of the violation */
};

struct sim_play {
    uint64_t seed;
    bool breaks;        /* over connections that break and go on */
    uint32_t mutations; /* bits of rules switched off */
    void *trace;        /* a FILE *, or NULL */
};
/* Plays one history. */
void sim_run(const struct sim_world *world, const struct sim_play *how, struct sim_result *result);

#endif
