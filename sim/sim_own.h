/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The world `own`: processes that put, get, nest, lend, call and die, each with the real ownership
 * machine, beside a naive model of who refers to what.
 *
 * The model knows the program's handles (each process's variables), the contents of values, and who
 * owns what; it knows nothing of counts, pins or messages. sim_own.c carries out the machine's
 * outs, as the core worker does; sim_own_act.c invents the program; sim_own_check.c compares.
 */
#ifndef RAY_SIM_SIM_OWN_H
#define RAY_SIM_SIM_OWN_H

#include "own/own.h"
#include "own/own_mutate.h"
#include "sim.h"

enum {
    NODES_MAX = 16, /* in one history, the dead included; fits the bits of known_dead */
    HANDLES_MAX = 192,
    CALLS_MAX = 96,
    RUNS_MAX = 640,
    WANTS_MAX = 64,
    VALUES_MAX = 1024,
    LINEAGES_MAX = 64,
    OBJECTS_MAX = 4096,
    ARGS_MAX = 4,
    RETURNS_MAX = 2,
    INNER_MAX = 3,
    MSG_PUSH = 100,
    MSG_REPLY = 101,
    LANE_HOT = 0,
    LANE_RELEASES = 1, /* gathered, so they may come later than what was sent after them */
};

/* What the model knows of an object; its index is in its id. */
struct sim_object {
    uint32_t owner; /* simulator's process number */
    uint32_t task;  /* whose return it is; 0 for puts */
    bool freed;     /* explicitly */
    bool excused; /* may be gone although referred to: its way led through a freed or dead value */
    bool has_value;
    uint32_t inner_count;
    uint32_t inner[INNER_MAX];
};

struct sim_handle {
    struct own_ref *ref;
    uint32_t object;
    uint32_t run; /* dropped at that task's end; 0 none */
    bool captured;
};

/* A task at its caller. */
struct sim_call {
    uint32_t task, executor, attempts;
    uint32_t arg_count, return_count;
    bool cancelled;
    uint64_t lineage; /* 0 none */
    struct own_ref *args[ARGS_MAX];
    struct own_ref *returns[RETURNS_MAX]; /* NULL: not wanted, of a task that runs again */
    uint32_t return_objects[RETURNS_MAX];
};

/* A finished task that its caller keeps. */
struct sim_lineage {
    uint64_t id;
    uint32_t entries, again;
    bool running, due;
    struct sim_call call;
    struct id_object arg_ids[ARGS_MAX];
};

/* A task at its executor. */
struct sim_run {
    uint32_t task, caller, return_count, serial;
    struct own_frame *frame; /* NULL without arguments */
    uint32_t return_objects[RETURNS_MAX];
};

struct sim_want {
    uint64_t id;
    struct own_ref *ref;
    uint32_t object;
    uint32_t run;  /* the task that is blocked until then; 0 none */
    bool transfer; /* waits for the answer to a TRANSFER */
    bool ready;
};

struct sim_node {
    struct own own;
    uint32_t number;
    uint64_t last_seq;
    uint32_t known_dead;               /* bits by process number: death notices that came */
    uint32_t dead_peer[NODES_MAX + 1]; /* the number that its connection had */
    uint32_t unreachable;              /* bits: was sent to, and is known dead */
    uint32_t handle_count, call_count, run_count, want_count, value_count;
    struct sim_handle handles[HANDLES_MAX];
    struct sim_call calls[CALLS_MAX];
    struct sim_run runs[RUNS_MAX];
    struct sim_want wants[WANTS_MAX];
    uint64_t values[VALUES_MAX]; /* handles given to the machine and not given back */
    uint32_t lineage_count;
    bool lineages_busy;
    struct sim_lineage lineages[LINEAGES_MAX];
    struct step_out out_space[32];
    struct step_outs outs;
    struct arena arena;
};

struct sim_own {
    struct sim *sim;
    struct sim_node *nodes[NODES_MAX + 1]; /* NULL when dead */
    uint64_t died_ns[NODES_MAX + 1];
    uint32_t node_count, kills_left;
    bool frees, stops;       /* this history has explicit frees, stopped processes */
    bool losses;             /* and values that are lost from the store */
    bool lax;                /* its grace is shorter than its delays: objects may be gone early, but
                                everybody must be told, and nothing be left */
    uint32_t drops_max;      /* handles dropped at a time: few make long lives, many short ones */
    uint32_t lend_per_mille; /* tasks after whose submission the caller drops what it lent */
    uint32_t keep_per_mille; /* arguments that outlive their task */
    uint32_t stage;          /* of winding down */
    uint32_t task, run;
    uint64_t value, want, lineage;
    uint32_t object_count;
    struct sim_object objects[OBJECTS_MAX];
};

struct sim_push {
    uint32_t task, arg_count, return_count;
    struct own_item args[ARGS_MAX];
    bool resolved[ARGS_MAX]; /* the argument's value came along */
    bool bare[ARGS_MAX];     /* and the reference itself didn't */
    uint32_t return_objects[RETURNS_MAX];
};

struct sim_reply {
    uint32_t task, return_count;
    uint64_t kept, token;
    uint8_t state[RETURNS_MAX];
    uint32_t inner_count[RETURNS_MAX];
    struct own_item inner[RETURNS_MAX][INNER_MAX];
};

/* --- sim_own.c --- */

/* Outs with room, for the next call into the node's machine; then node_flush. */
struct step_outs *node_outs(struct sim_own *w, struct sim_node *n);
void node_flush(struct sim_own *w, struct sim_node *n);
uint32_t node_add(struct sim_own *w);
struct own_addr node_addr(uint32_t proc);
/* The machine's number for a process, and the other way round. */
uint32_t node_peer(struct sim_own *w, struct sim_node *n, uint32_t proc);
uint32_t node_proc(const struct sim_node *n, uint32_t peer);

struct id_object object_id(uint32_t object);
uint32_t object_of(const struct id_object *id);
uint32_t object_new(struct sim_own *w, uint32_t owner);
uint64_t value_new(struct sim_own *w, struct sim_node *n, uint32_t object);
/* The machine has given it back. */
void value_end(struct sim_own *w, struct sim_node *n, uint64_t value);
void handle_add(struct sim_own *w, struct sim_node *n, struct own_ref *ref, uint32_t run);
void handle_drop(struct sim_own *w, struct sim_node *n, uint32_t index);

/* --- sim_own_act.c --- */

void act_any(struct sim *sim, void *world);
bool run_is_blocked(const struct sim_node *n, const struct sim_run *run);
void act_finish_run(struct sim_own *w, struct sim_node *n, uint32_t index);
/* The program deserialises the value of `ref`, taking some of the references inside. */
void act_deserialise(struct sim_own *w, struct sim_node *n, struct own_ref *ref, uint32_t run);
void on_push(struct sim_own *w, struct sim_node *n, uint32_t from, const struct sim_push *m);
void on_reply(struct sim_own *w, struct sim_node *n, uint32_t from, const struct sim_reply *m);
void on_executor_died(struct sim_own *w, struct sim_node *n, uint32_t dead);

/* Pushes it once more, with all that it needs held again; false: there is nobody to run it. */
bool call_again(struct sim_own *w, struct sim_node *n, const struct sim_call *c);
/* Whether a state means that the value can be read. */
static inline bool
has_bytes(uint8_t state)
{
    return state == OWN_INLINE || state == OWN_STORE;
}

/* --- sim_own_lineage.c --- */

/* A reply has come, nothing of it is taken yet: perhaps the task is to be kept. */
void lineage_begin(struct sim_own *w, struct sim_node *n, struct sim_call *c);
/* `ref` gets a value in the store from it. */
void lineage_attach(struct sim_own *w, struct sim_node *n, const struct sim_call *c,
                    struct own_ref *ref);
void lineage_answered(struct sim_own *w, struct sim_node *n, const struct sim_call *c);
void lineage_release(struct sim_own *w, struct sim_node *n, uint64_t id);
void lineage_wanted(struct sim_own *w, struct sim_node *n, uint64_t id, struct own_ref *ref);
/* What can be run again, or ended. */
void lineage_work(struct sim_own *w, struct sim_node *n);
void act_lose(struct sim_own *w, struct sim_node *n);
void check_lineages(struct sim_own *w, const struct sim_node *n, bool quiet);

/* --- sim_own_check.c --- */

void check_holders(struct sim *sim, void *world);
void check_reachable(struct sim_own *w);
void check_empty(struct sim *sim, void *world);
/* Contents of an object lose their cover: excused from check_holders. */
void excuse_inner(struct sim_own *w, uint32_t object);

#endif
