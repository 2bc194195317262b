/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control service's decisions: jobs, nodes, actors and the key-value table. Pure.
 *
 * One a cluster, in ray-gcs's only thread (and one a simulated cluster in sim). Its driver decodes
 * frames, numbers the connections, stores rows, and carries out the outs. Ins and outs speak the
 * messages of proto/gcs.proto as protobuf-c structs: step_in.kind is the frame kind of
 * proto/kinds.h, or one of enum gcs_in; step_in.peer is the connection, step_in.payload the frame's
 * request id. An out whose kind is a frame kind is to be sent to `peer` with request id `payload`.
 *
 * Everything that a step puts is stored before anything that the step sends is sent: the driver
 * collects outs until `more` is false, commits, and then sends. Group commit is to do so for
 * several steps at once. Messages handed in are only read during the call.
 *
 * An actor's life:
 *
 *   (unknown) --create----------------> PENDING_CREATION --placed--> ALIVE --exited--> RESTARTING
 *       |                                  ^       |                 | ^                    |
 *   registered                          create     |                 | +------placed--------+
 *       +------> DEPENDENCIES_UNREADY -----+       |                 |                      |
 *                         |                        |                 |                      |
 *                         +------------------------+------> DEAD <---+----------------------+
 *
 * Registered only is one whose constructor waits for arguments: it can be watched, found and
 * killed, and ends with its creator, before there is anything to start.
 *
 * Failure of memory: the request is answered with ST_OUT_OF_MEMORY where it has an answer.
 */
#ifndef RAY_GCS_GCS_H
#define RAY_GCS_GCS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/step.h"

enum { GCS_OUTS_MIN = 16 };

enum gcs_in {
    GCS_IN_TICK = 1,   /* the time given by GCS_OUT_TIMER has come */
    GCS_IN_CLOSED,     /* the connection `peer` has ended */
    GCS_IN_LOAD_ACTOR, /* Ray__Gcs__ActorRow, before GCS_IN_LOADED */
    GCS_IN_LOAD_JOB,   /* Ray__Gcs__JobRow */
    GCS_IN_LOAD_KV,    /* Ray__Gcs__KvRow */
    GCS_IN_LOADED,     /* all rows have been told */
};

enum gcs_out {
    GCS_OUT_TIMER = 1, /* step with GCS_IN_TICK at when_ns; a newer one replaces it */
    GCS_OUT_PUT,       /* gcs_row */
    GCS_OUT_ERASE,     /* gcs_row without a message */
};

enum gcs_table { GCS_TABLE_ACTORS = 1, GCS_TABLE_JOBS = 2, GCS_TABLE_KV = 3 };

/* A row to store. Borrowed until the next step. */
struct gcs_row {
    enum gcs_table table;
    const void *key;
    uint32_t key_size;
    const void *message; /* ProtobufCMessage of the table's row type; NULL to erase */
};

struct gcs_config {
    int64_t wall_offset_ns;    /* wall clock minus monotonic clock, for times shown to people */
    uint32_t actors_max;       /* that aren't dead: 1,000,000 */
    uint32_t dead_actors_max;  /* the oldest are forgotten: 100,000 */
    uint32_t dead_jobs_max;    /* 10,000 */
    uint64_t kv_bytes_max;     /* 1 GiB */
    uint64_t unknown_watch_ns; /* a watch of an actor that nobody has created yet: 10 s */
};
void gcs_config_default(struct gcs_config *config);

struct gcs_stats {
    uint32_t peers, nodes, jobs, actors, dead_actors, watches, kv_entries;
    uint64_t kv_bytes;
};

struct gcs;

int gcs_create(const struct mem *mem, const struct gcs_config *config, struct gcs **out) MUST_USE;
void gcs_destroy(struct gcs **gcs);

/* ST_OK, or ST_PROTOCOL with the reason in st_last(): the peer's message makes no sense and its
 * connection is to be ended (and told by GCS_IN_CLOSED). */
int gcs_step(struct gcs *gcs, const struct step_in *in, struct step_outs *outs);

void gcs_get_stats(const struct gcs *gcs, struct gcs_stats *out);

#endif
