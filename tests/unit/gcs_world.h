/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine of the control service in a world of one raylet (peer 1) and some clients, with a model
 * of the store from which it is loaded again. Shared by the programs that test src/gcs. Everything
 * ends the test when it isn't as said.
 */
#ifndef RAY_TESTS_UNIT_GCS_WORLD_H
#define RAY_TESTS_UNIT_GCS_WORLD_H

#include "base/id.h"
#include "gcs/gcs.h"
#include "proto/gcs_rows.pb-c.h"

enum { SENT_MAX = 4096, ROWS_MAX = 4096, RAYLET = 1, DRIVER = 2, OTHER = 3 };

struct sent {
    uint64_t peer, request;
    uint16_t kind;
    uint8_t *bytes;
    size_t size;
};

struct row {
    enum gcs_table table;
    uint8_t key[64], *bytes;
    size_t key_size, size;
};

struct world {
    struct gcs *gcs;
    struct gcs_config config;
    struct arena arena;
    struct sent sent[SENT_MAX];
    size_t sent_count;
    struct row rows[ROWS_MAX];
    size_t row_count;
    uint64_t now, timer;
    uint32_t capacity; /* of outs: small, so that continuing is exercised */
    struct id_node node;
    struct id_worker driver;
    struct id_job job;
};

/* The machine gets a message; its status. What it says is carried out. */
int gw_step(struct world *w, uint64_t peer, uint16_t kind, uint64_t request, const void *msg);
/* Takes the first frame of that kind to that peer; NULL when there is none. */
void *gw_take(struct world *w, uint64_t peer, uint16_t kind, const ProtobufCMessageDescriptor *d);
/* Frees what was taken. */
void gw_drop(void *m);
void gw_forget_sent(struct world *w);
/* Takes the answer to a request: its status. */
int gw_take_done(struct world *w, uint64_t peer);
/* `id`: of a client, or NULL. */
void gw_hello(struct world *w, uint64_t peer, const struct id_worker *id);
/* Registers the node; `live` and `job` may be NULL. */
void gw_register_node(struct world *w, Ray__Gcs__LiveActor *live, const struct id_job *job);
struct id_job gw_add_job(struct world *w, const struct id_worker *driver, const char *space);
/* A machine that has loaded nothing yet. */
void gw_open_machine(struct world *w);
/* With the node registered and the driver connected. */
void gw_open(struct world *w);
/* Also fails the test when memory has leaked. */
void gw_close(struct world *w);
/* The process ends and comes back with what is stored; nobody is connected. */
void gw_restart(struct world *w);
/* Of the n-th actor of the job. */
struct id_actor gw_actor_id(const struct world *w, uint8_t n);
/* The row of that actor, unpacked, or NULL. */
Ray__Gcs__ActorRow *gw_stored(struct world *w, uint8_t n);

/* ---- actors ---- */

/* Of an actor that is to be created. */
struct gw_spec {
    const char *name;
    int64_t max_restarts;
    bool detached, register_only;
    uint8_t owner; /* byte of a worker's id; 0: the driver */
};

int gw_create(struct world *w, uint8_t n, struct gw_spec spec);
void gw_watch(struct world *w, uint64_t peer, uint8_t n);
/* The raylet was asked to start the actor. */
void gw_assert_started(struct world *w, uint64_t incarnation);
void gw_assert_stopped(struct world *w, bool graceful);
/* What the raylet tells is answered, so that it isn't told again. */
void gw_tell(struct world *w, uint16_t kind, const void *m);
void gw_placed(struct world *w, uint8_t n, uint64_t incarnation);
void gw_built(struct world *w, uint8_t n, uint64_t incarnation, int status);
void gw_exited(struct world *w, uint8_t n, uint64_t incarnation, bool intended,
               const char *evidence);
int gw_kill_actor(struct world *w, uint8_t n, bool no_restart);
/* The latest update that `peer` got about an actor. */
void gw_assert_update(struct world *w, uint64_t peer, Ray__Gcs__ActorState state,
                      uint64_t incarnation);
void gw_make_alive(struct world *w, uint8_t n, struct gw_spec spec);

#endif
