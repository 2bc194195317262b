/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the actor world share. sim_actor.c: chaos, callers around the actor client,
 * invariants. sim_actor_gcs.c: ray-gcs around the real control service, with a model of its store.
 * sim_actor_node.c: the raylet's part, and the processes of actors.
 *
 * The window word of a push is shared memory: both sides read and write it in steps of their own.
 */
#ifndef RAY_SIM_SIM_ACTOR_H
#define RAY_SIM_SIM_ACTOR_H

#include "base/id.h"
#include "base/list.h"
#include "base/status.h"
#include "gcs/gcs.h"
#include "proto/gcs_rows.pb-c.h"
#include "proto/kinds.h"
#include "sim.h"
#include "worker/wk_caller.h"

enum {
    SA_RAYLET = 1,
    SA_ACTORS = 3,
    SA_CALLERS = 4,
    SA_CALLS = 400,   /* in one history */
    SA_PUSHES = 4000, /* the same */
    SA_ROWS = 8,
    SA_FRAMES = 64, /* kept until they are answered, a process */
    SA_AT_ONCE = 3, /* calls that an unordered actor runs */
    SA_INBOX = 512,
    SA_WINDOW = 8, /* calls in flight of one caller */
};

/* Rules of the engines around the machines, by their place among the world's mutations. */
enum sa_rule {
    SA_RULE_CURRENT = 1 << WK_CALLER_RULE_COUNT, /* a reply counts for the push in flight */
    SA_RULE_ANNOUNCED = SA_RULE_CURRENT << 1,    /* a process known to be dead is no place */
    SA_RULE_WATCH_AGAIN = SA_RULE_CURRENT << 2,  /* watches are renewed with a connection */
    SA_RULE_ASK_AGAIN = SA_RULE_CURRENT << 3,    /* so are requests without an answer */
    SA_RULE_TELL_AGAIN = SA_RULE_CURRENT << 4,   /* and what the raylet told */
    SA_RULE_START = SA_RULE_CURRENT << 5,        /* a call begins by a CAS of its word */
    SA_RULE_STORED = SA_RULE_CURRENT << 6,       /* what ray-gcs says was stored before */
    SA_RULE_UNTOLD = SA_RULE_CURRENT << 7,       /* no life starts whose end is being told */
    SA_RULE_KILL_AGAIN = SA_RULE_CURRENT << 8,   /* a kill is repeated until the actor is dead */
    SA_RULE_WATCH_PLACE = SA_RULE_CURRENT << 9,  /* the raylet is asked for the process's death */
};

enum sa_message { SA_MSG_PUSH = 1, SA_MSG_DONE, SA_MSG_BUILT, SA_MSG_EXIT };

enum sa_role { SA_NOBODY, SA_NODE, SA_GCS, SA_CALLER, SA_WORKER };

/* A frame to or from ray-gcs, packed. */
struct sa_bytes {
    uint64_t size;
    uint8_t data[];
};

struct sa_frame {
    uint16_t kind;
    uint64_t id;
    struct sa_bytes *bytes;
};

struct sa_call {
    struct wk_call call;
    uint32_t index, caller, actor;
    int32_t retries;
    uint32_t push;    /* the last; 0 none */
    uint32_t runs;    /* how often it was begun */
    uint32_t last_in; /* the process in which it last was */
    bool answered, held;
};

enum sa_word { SA_POSTED = 1, SA_STARTED, SA_RECALLED };

struct sa_push {
    uint32_t call, worker;
    enum sa_word word; /* shared memory */
    bool settled;      /* its caller has acted on it */
};

/* A caller's view of an actor. */
struct sa_view {
    struct wk_caller client;
    bool handle, watching, asked;
};

/* A call that came to an actor's process. */
struct sa_item {
    uint32_t push, caller;
    bool deaf; /* its connection has broken: it isn't begun, and nobody hears of its end */
};

struct sa_proc {
    enum sa_role role;
    uint32_t number;
    /* a client of ray-gcs */
    uint32_t gcs; /* the process that it talks with; 0 none */
    struct sa_frame frames[SA_FRAMES];
    uint32_t frame_count;
    bool saw_dead[SIM_PROCS_MAX + 1];
    /* a caller */
    struct sa_view views[SA_ACTORS];
    bool broken[SIM_PROCS_MAX + 1]; /* to be repaired */
    /* ray-gcs */
    struct gcs *machine;
    uint32_t generation[SIM_PROCS_MAX + 1]; /* of the connection with each process */
    /* an actor's process */
    uint32_t actor;
    bool constructed, leaving;
    struct sa_item inbox[SA_INBOX], running[SA_AT_ONCE];
    uint32_t inbox_count, running_count;
};

/* The raylet's record of an actor. */
struct sa_record {
    enum { SA_ABSENT, SA_WAITING, SA_PLACED } state;
    uint64_t incarnation, ready_ns;
    uint32_t process;
    bool constructed, stopping;
};

struct sa_actor {
    bool created, unordered, out_of_scope, fails;
    bool late; /* its constructor's arguments are still to come: it is only registered */
    uint32_t creator;
    int64_t max_restarts;
    int64_t max_pending;
    struct sa_record record;
};

struct sa_row {
    bool used;
    struct id_actor id; /* of an actor; nil: the job's */
    struct sa_bytes *bytes;
};

struct sa_world {
    struct sim *sim;
    struct arena arena;
    uint32_t gcs; /* the process that is ray-gcs, alive or the last that was */
    struct sa_proc *procs[SIM_PROCS_MAX + 1];
    struct sa_actor actors[SA_ACTORS];
    struct sa_row rows[SA_ROWS];
    struct sa_call calls[SA_CALLS + 1];
    struct sa_push pushes[SA_PUSHES + 1];
    uint32_t call_count, push_count, wound_down;
    uint64_t next_frame;
    bool kills, gcs_dies, breaks;
    bool storm; /* many faults, calls that run long, restarts without end */
    bool late;  /* constructors may wait for arguments */
};

enum { SA_TAG_START = 0, SA_TAG_CONNECT = 1, SA_TAG_REPAIR = 2, SA_TAG_BUILT = 6 };

/* --- sim_actor.c --- */
struct sa_proc *sa_proc_new(struct sa_world *w, enum sa_role role, const char *text);
struct id_actor sa_actor_id(uint32_t actor);
struct id_worker sa_worker_id(uint32_t proc);
uint32_t sa_proc_of(const ProtobufCBinaryData *worker_id);
uint32_t sa_actor_of(const ProtobufCBinaryData *actor_id);
/* The call of a push begins in a process. */
void sa_begins(struct sa_world *w, struct sa_proc *p, uint32_t number);

/* --- sim_actor_gcs.c --- */
ProtobufCBinaryData sa_binary(void *bytes, size_t size);
struct sa_bytes *sa_pack(struct sa_world *w, const void *message);
void sa_bytes_free(struct sa_world *w, struct sa_bytes *bytes);
void *sa_unpack(struct sa_world *w, const ProtobufCMessageDescriptor *d, const void *msg);
/* A process for ray-gcs, with what is stored. */
void sa_gcs_start(struct sa_world *w);
void sa_gcs_end(struct sa_world *w, struct sa_proc *p);
void sa_gcs_deliver(struct sa_world *w, struct sa_proc *p, uint32_t from, uint16_t kind,
                    uint64_t payload, const void *msg);
void sa_gcs_closed(struct sa_world *w, struct sa_proc *p, uint32_t other);
void sa_gcs_tick(struct sa_world *w, struct sa_proc *p);
/* The job's row, as the first ray-gcs stored it. */
void sa_gcs_first(struct sa_world *w);
/* What is stored of an actor; -1: nothing. */
int sa_stored_state(struct sa_world *w, uint32_t actor);

/* A client's side: connects, says hello, and says again what has no answer yet. False: there is no
 * ray-gcs now, the timer SA_TAG_CONNECT is armed. */
bool sa_connect(struct sa_world *w, struct sa_proc *p);
/* A frame that is kept until it is answered; and one that isn't. */
void sa_request(struct sa_world *w, struct sa_proc *p, uint16_t kind, const void *message);
void sa_say(struct sa_world *w, struct sa_proc *p, uint16_t kind, uint64_t id, const void *message);
void sa_answered(struct sa_world *w, struct sa_proc *p, uint64_t id);
void sa_forget_frames(struct sa_world *w, struct sa_proc *p);

/* --- sim_actor_node.c --- */
void sa_node_connected(struct sa_world *w, struct sa_proc *p);
void sa_node_deliver(struct sa_world *w, struct sa_proc *p, uint32_t from, uint16_t kind,
                     uint64_t payload, const void *msg);
void sa_node_start(struct sa_world *w);
void sa_node_saw_death(struct sa_world *w, struct sa_proc *p, uint32_t dead);
void sa_worker_deliver(struct sa_world *w, struct sa_proc *p, uint32_t from, uint16_t kind,
                       uint64_t payload);
void sa_worker_lost(struct sa_world *w, struct sa_proc *p, uint32_t caller);
void sa_worker_timer(struct sa_world *w, struct sa_proc *p, uint32_t tag);

#endif
