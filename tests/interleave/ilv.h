/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The exhaustive interleaving checker. A model is two or three actors that run the real lock-free
 * code (compiled with RAY_CHECK_INTERLEAVE, so that every operation of base/atom.h is a step), an
 * invariant, and a final check. The checker runs every schedule of the steps, optionally kills an
 * actor before any of its steps, and reports the first schedule that breaks something.
 *
 * How it is exact. All mutable data of a model lies in one block (the model state) and on the
 * actors' own small stacks. A state of the search is a copy of both; the search is depth-first with
 * a table of the states seen (128-bit hashes of the complete contents), so it ends when every
 * reachable state has been visited, whatever path leads there. The number of schedules printed is
 * the number of distinct paths through that graph (a cycle, which a spin loop makes, counts once).
 *
 * Two memory models:
 *  - ILV_SC: every access sees the last store. Finds faults of the protocol itself.
 *  - ILV_WEAK: C11's release, acquire, relaxed and seq_cst fences as an operational machine: every
 *    location keeps the values that some actor may still read, every actor a view of how far it has
 *    seen each location; a load branches over all values not older than its view; release stores
 *    carry the view, acquire loads join it; a seq_cst fence joins with one global view. It includes
 *    everything x86 does (store buffers) and more: stale reads for want of release or acquire.
 *    Bytes (atom_copy_in, atom_copy_out) are not atomic: a copy that is not ordered after the last
 *    write, or a write that is not ordered after the last copy, is a data race and a violation. It
 *    leaves out two things: loads that read from stores later in program order (load
 *    buffering), and stores that slip in before one that executed earlier on the same location.
 *
 * Rules for a model:
 *  - no mutable data outside the state and the actors' stacks: no statics, no heap, no addresses of
 *    anything else that vary;
 *  - plain fields of the state may be read and written at any time; they are the model's own record
 *    (they are always exact and change together with the step before them). Whatever real
 *    processes share goes through base/atom.h, bytes through atom_copy_in and atom_copy_out;
 *  - set-up, invariants and final checks may use plain accesses (`raw`), or loads and stores of
 *    base/atom.h, which are plain there;
 *  - one location has one size: don't read four bytes of a word that is written as eight;
 *  - whoever waits does so in ilv_block, for a condition that only progress makes true. A loop that
 *    spins instead ends the search of that path where it reaches a state seen before, but a hang in
 *    it is not noticed.
 */
#ifndef RAY_TESTS_ILV_H
#define RAY_TESTS_ILV_H

#include "base/atom.h"

#define ILV_ACTORS 3
#define ILV_RULES  24

enum ilv_memory { ILV_SC = 0, ILV_WEAK };

/* A step that the protocol needs: the name given to ATOM_RULE or ilv_rule, and what breaks. */
struct ilv_rule {
    const char *name;
    const char *why;
};

struct ilv_actor {
    const char *name;
    void (*run)(void *state); /* the actor's program; returning ends it */
    bool may_die;             /* try a kill before each of its steps */
    bool may_block_forever;   /* blocked in ilv_block at the end is no deadlock (a server) */
};

struct ilv_model {
    const char *name;
    const char *about; /* one line: what the schedules cover */
    size_t state_size;
    struct ilv_actor actors[ILV_ACTORS];
    unsigned n_actors;
    unsigned max_kills;                   /* at most so many actors die in one schedule */
    void (*setup)(void *state);           /* state comes zeroed */
    void (*invariant)(const void *state); /* after every step; may be NULL */
    void (*finish)(const void *state);    /* once nothing can run any more; may be NULL */
    struct ilv_rule rules[ILV_RULES];     /* ended by an entry without a name */
    bool sc_only;                         /* the weak run would be too large: say why in `about` */
};

/* ---- for models, inside actors ---- */

/* Blocks until `ready` holds. It looks at the model state only and must not use base/atom.h. */
void ilv_block(bool (*ready)(const void *state), const char *what);

/* A step that goes n ways. Returns 0..n-1. */
unsigned ilv_choose(unsigned n, const char *what);

/* A step with no access: lets the others run here. */
void ilv_pause(const char *what);

/*
 * Has that actor been killed? A step. True also means that everything the dead one did is visible:
 * the kernel has reaped it before it tells.
 */
bool ilv_is_dead(unsigned actor);

/* ---- anywhere in a model ---- */

/* As ilv_is_dead, without a step: for ready functions, invariants and final checks. */
bool ilv_dead_now(unsigned actor);

/* Has the actor's program returned? */
bool ilv_done_now(unsigned actor);

/* Reports a violation unless `holds`. In an actor it does not return then. */
void ilv_expect(bool holds, const char *what);

/* Names a location for traces. In setup. */
void ilv_name(const void *addr, size_t len, const char *name);

/* The running model's state, for code without an argument. */
void *ilv_state(void);

/* ---- for main ---- */

/*
 * Checks that no schedule of any model breaks anything, in both memory models, and that leaving out
 * any one rule does. Prints a line for each. Arguments: -v prints the trace found for each
 * rule; -m NAME only that model. Returns the exit status of the process.
 */
int ilv_main(int argc, char **argv, const struct ilv_model *const *models, unsigned n_models);

/* One search. For tests of the checker itself. */
struct ilv_result {
    bool violated;
    char text[160];    /* the violation, or why the search could not finish */
    char trace[16384]; /* one line a step */
    uint64_t states;
    uint64_t steps;
    double schedules;
    bool incomplete; /* out of memory or bounds: neither proven nor refuted */
};

void ilv_search(const struct ilv_model *model, enum ilv_memory memory, const char *rule_off,
                struct ilv_result *result);

#endif
