/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the control service: its records, and what its files (gcs_actor, gcs_job, gcs_node,
 * gcs_kv, gcs_state) call of one another. Only gcs_*.c includes this.
 *
 * Handlers change records, mark them (`want_*`) and put them into the list of dirty ones; gcs_pump
 * turns the marks into outs, as far as there is room. So a handler emits at most its own answer,
 * and several changes of one actor within a step become one row and one update.
 */
#ifndef RAY_GCS_PRIV_H
#define RAY_GCS_PRIV_H

#include "base/id.h"
#include "base/status.h"
#include "gcs/gcs.h"
#include "proto/gcs_rows.pb-c.h"

enum {
    GCS_MAGIC = 0x0067c501,
    GCS_PEER_MAGIC = 0x0067c502,
    GCS_NODE_MAGIC = 0x0067c503,
    GCS_JOB_MAGIC = 0x0067c504,
    GCS_ACTOR_MAGIC = 0x0067c505,

    GCS_NAME_MAX = 1024, /* bytes of a name, namespace or entrypoint that is kept */
    GCS_RESOURCES_MAX = 24,
    GCS_KV_TABLE_MAX = 64, /* bytes of a table's name */
    GCS_KV_KEY_MAX = 4096,
    GCS_KV_VALUE_MAX = 64 << 20,
    GCS_PEER_WATCHES_MAX = 1000000,
    GCS_GONE_MAX = 10000, /* processes whose end is remembered */
};

/* A connection. */
struct gcs_peer {
    uint32_t magic;
    bool hello;
    uint64_t number;
    struct map_link link;
    struct gcs_node *node;   /* a raylet's, once registered */
    struct id_worker worker; /* a driver's or worker's; nil for a raylet */
    struct list watches;
    uint32_t watch_count;
};

struct gcs_node {
    uint32_t magic;
    bool alive;
    uint64_t peer; /* its raylet's connection, 0 while there is none */
    struct id_node id;
    struct map_link link;
    struct list all;
    Ray__Gcs__RegisterNode *info; /* own copy */
    uint64_t started_ms;
};

struct gcs_job {
    uint32_t magic;
    struct map_link link; /* by number */
    struct map_link by_driver;
    struct list all;
    struct list of_dead; /* oldest end first */
    struct list actors;  /* gcs_actor.of_job */
    struct id_job id;
    struct id_worker driver;
    Ray__Gcs__JobRow row; /* strings are own */
    bool dirty;
};

/* One connection that wants to know of one actor. */
struct gcs_watch {
    struct list of_actor, of_peer;
    struct gcs_actor *actor;
    uint64_t peer;
    bool told; /* the latest state has been sent */
};

struct gcs_actor {
    uint32_t magic;
    bool known;          /* false: only watched; nobody has created it yet */
    bool killed_unknown; /* and so it ends when somebody does; that is stored */
    struct id_actor id;
    struct id_worker owner, worker;
    struct id_node node_id;
    struct map_link by_id, by_name, by_owner;
    bool in_names, in_owners;
    struct gcs_node *node; /* where it runs or is being started; NULL none */
    struct gcs_job *job;   /* NULL when the job has been forgotten */
    struct list of_job;
    struct list dirty;
    struct list order; /* among the dead (oldest first), or among the unknown */
    struct list watches;
    uint64_t unknown_until_ns;
    Ray__Gcs__ActorRow row; /* spec, strings and failure are own; ids point above */
    /* For gcs_pump. */
    bool want_put, want_start, want_stop, stop_graceful, want_notify;
    const char *stop_reason; /* static text, or row.reason */
};

/* A process that has ended: what it had asked for may still come, over its own connection. */
struct gcs_gone {
    struct map_link link;
    struct list order; /* oldest end first */
    struct id_worker id;
};

struct gcs_kv {
    struct map_link link;
    struct list all;
    uint32_t table_size, key_size;
    size_t value_size;
    uint8_t *value;
    uint8_t name[]; /* table, NUL, key: the row's key */
};

struct gcs {
    uint32_t magic;
    bool loaded;
    const struct mem *mem;
    struct gcs_config config;
    ProtobufCAllocator allocator;
    struct map peers, nodes, jobs, drivers, actors, names, owners, kv, gone;
    struct list node_list, job_list, dead_jobs, dirty_actors, dead_actors, unknown_actors, kv_list;
    struct list erase_actors; /* forgotten, row still to be erased */
    struct list freed_actors; /* to be freed by the next step */
    struct list gone_list;
    uint32_t actor_count, dead_count, dead_job_count, watch_count;
    uint64_t kv_bytes;
    bool jobs_dirty, forget_jobs;
    uint32_t next_job;
    uint64_t timer_ns;
    uint64_t now_ns;
};

/* gcs.c */
uint64_t gcs_wall_ms(const struct gcs *gcs);
/* An initialised message of `descriptor`'s type, to be sent to `peer`. NULL without memory. */
void *gcs_emit(struct step_outs *outs, uint16_t kind, uint64_t peer, uint64_t request,
               const ProtobufCMessageDescriptor *descriptor);
/* Answers a request that has nothing else to tell. `text` is borrowed until the next step. */
void gcs_emit_done(struct step_outs *outs, const struct step_in *in, int status, const char *text);
void gcs_emit_put(struct step_outs *outs, enum gcs_table table, const void *key, size_t key_size,
                  const void *message);
/* A deep copy in the machine's memory; NULL without memory. */
void *gcs_copy_message(struct gcs *gcs, const ProtobufCMessage *message);
void gcs_free_message(struct gcs *gcs, void *message);
/* Replaces a string of a row by a copy of at most GCS_NAME_MAX bytes (reasons: 4096). */
void gcs_set_string(struct gcs *gcs, char **field, const char *text);
void gcs_set_bytes(struct gcs *gcs, ProtobufCBinaryData *field, const ProtobufCBinaryData *from);
struct gcs_peer *gcs_find_peer(const struct gcs *gcs, uint64_t number);
/* Copies an id out of a message; false unless it has exactly that many bytes. */
bool gcs_take_id(const ProtobufCBinaryData *from, void *to, size_t size);

/* gcs_node.c */
int gcs_on_register_node(struct gcs *gcs, const struct step_in *in, struct step_outs *outs);
void gcs_on_raylet_closed(struct gcs *gcs, struct gcs_node *node);
struct gcs_node *gcs_find_node(const struct gcs *gcs, const struct id_node *id);
/* A node that has what the actor needs, else any; NULL when there is none. */
struct gcs_node *gcs_choose_node(const struct gcs *gcs, const Ray__Gcs__CreateActor *spec);
void gcs_node_free(struct gcs *gcs, struct gcs_node *node);

/* gcs_job.c */
int gcs_on_add_job(struct gcs *gcs, const struct step_in *in, struct step_outs *outs);
int gcs_on_finish_job(struct gcs *gcs, const Ray__Gcs__FinishJob *msg);
int gcs_on_load_job(struct gcs *gcs, const Ray__Gcs__JobRow *row);
struct gcs_job *gcs_find_job(const struct gcs *gcs, const struct id_job *id);
void gcs_finish_job(struct gcs *gcs, struct gcs_job *job);
/* Whether a detached actor of the job lives. */
bool gcs_job_goes_on(const struct gcs_job *job);
void gcs_job_free(struct gcs *gcs, struct gcs_job *job);
void gcs_pump_jobs(struct gcs *gcs, struct step_outs *outs);
void gcs_pump_forgotten_jobs(struct gcs *gcs, struct step_outs *outs);

/* gcs_actor.c, gcs_watch.c */
int gcs_on_create_actor(struct gcs *gcs, const struct step_in *in, struct step_outs *outs);
int gcs_on_actor_placed(struct gcs *gcs, const Ray__Gcs__ActorPlaced *msg);
int gcs_on_actor_not_placed(struct gcs *gcs, const Ray__Gcs__ActorNotPlaced *msg);
int gcs_on_actor_built(struct gcs *gcs, const Ray__Node__ActorConstructed *msg);
int gcs_on_actor_exited(struct gcs *gcs, const Ray__Gcs__ActorExited *msg);
int gcs_on_process_gone(struct gcs *gcs, const Ray__Gcs__ProcessGone *msg);
int gcs_on_out_of_scope(struct gcs *gcs, const struct step_in *in, struct step_outs *outs);
int gcs_on_kill_actor(struct gcs *gcs, const struct step_in *in, struct step_outs *outs);
int gcs_on_load_actor(struct gcs *gcs, const Ray__Gcs__ActorRow *row);
/* Takes the name out of the index: it can be given again. */
void gcs_actor_free_name(struct gcs *gcs, struct gcs_actor *actor);
struct gcs_actor *gcs_find_actor(const struct gcs *gcs, const struct id_actor *id);
/* NULL without memory. */
struct gcs_actor *gcs_actor_new(struct gcs *gcs, const struct id_actor *id);
void gcs_actor_free(struct gcs *gcs, struct gcs_actor *actor);
void gcs_actor_changed(struct gcs *gcs, struct gcs_actor *actor);
void gcs_actor_die(struct gcs *gcs, struct gcs_actor *actor, int status, const char *reason);
void gcs_forget_oldest(struct gcs *gcs);
/* Whether the actor ends because its creator, or its job, does. */
bool gcs_ends_with_creator(const struct gcs_actor *actor);
void gcs_actor_end_of_process(struct gcs *gcs, struct gcs_actor *actor, bool intended,
                              const char *evidence);
void gcs_actor_stop(struct gcs *gcs, struct gcs_actor *actor, bool graceful, const char *reason);
void gcs_actor_start(struct gcs *gcs, struct gcs_actor *actor);
void gcs_mark_dirty(struct gcs *gcs, struct gcs_actor *actor);
void gcs_gone_free(struct gcs *gcs, struct gcs_gone *gone);
int gcs_on_watch_actor(struct gcs *gcs, const struct step_in *in);
void gcs_watch_free(struct gcs *gcs, struct gcs_watch *watch);
/* A record of one that nobody has created yet, for a while. NULL: no memory. */
struct gcs_actor *gcs_unknown_actor(struct gcs *gcs, const struct id_actor *id);
void gcs_expire_unknown(struct gcs *gcs);
void gcs_pump_actors(struct gcs *gcs, struct step_outs *outs);

/* gcs_name.c */
struct gcs_actor *gcs_find_named(const struct gcs *gcs, const char *space, const char *name);
uint64_t gcs_name_hash(const char *space, const char *name);
int gcs_on_find_named(struct gcs *gcs, const struct step_in *in, struct step_outs *outs);
int gcs_on_list_named(struct gcs *gcs, const struct step_in *in, struct step_outs *outs);

/* gcs_kv.c */
int gcs_on_kv_put(struct gcs *gcs, const struct step_in *in, struct step_outs *outs);
int gcs_on_kv_get(struct gcs *gcs, const struct step_in *in, struct step_outs *outs);
int gcs_on_kv_delete(struct gcs *gcs, const struct step_in *in, struct step_outs *outs);
int gcs_on_kv_keys(struct gcs *gcs, const struct step_in *in, struct step_outs *outs);
int gcs_on_load_kv(struct gcs *gcs, const Ray__Gcs__KvRow *row);
void gcs_kv_free(struct gcs *gcs, struct gcs_kv *kv);

/* gcs_state.c */
int gcs_on_state_ask(struct gcs *gcs, const struct step_in *in, struct step_outs *outs);

#endif
