/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Identifiers, with the sizes and compositions that Ray's users know from hexadecimal forms.
 *
 *   JobID       4
 *   ActorID    16 = 12 unique + JobID
 *   TaskID     24 =  8 unique + ActorID (all ones but the job for a task that is no actor's)
 *   ObjectID   28 = TaskID + little-endian 4-byte index (returns from 1, puts from ID_PUT_INDEX)
 *   NodeID, WorkerID 28; PlacementGroupID 18 = 14 unique + JobID
 *
 * Each is its own struct, so that they can't be mixed. The nil id is all ones. Ids of children and
 * puts derive from (TaskID, attempt, counter), so two attempts never name different things alike.
 */
#ifndef RAY_BASE_ID_H
#define RAY_BASE_ID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct id_job {
    uint8_t b[4];
};
struct id_actor {
    uint8_t b[16];
};
struct id_task {
    uint8_t b[24];
};
struct id_object {
    uint8_t b[28];
};
struct id_node {
    uint8_t b[28];
};
struct id_worker {
    uint8_t b[28];
};
struct id_pg {
    uint8_t b[18];
};

_Static_assert(sizeof(struct id_object) == 28, "ids carry no padding");
_Static_assert(sizeof(struct id_task) == 24, "ids carry no padding");

enum {
    ID_HEX_MAX = 57,           /* characters of the longest hex form, with its NUL */
    ID_PUT_INDEX = 0x40000000, /* first object index of a put; below it are returns */
};

/* Writes 2*n lower-case hex digits and a NUL. `out` has room for 2*n + 1. Returns `out`. */
char *id_hex(const void *bytes, size_t n, char *out);

/* Parses exactly 2*n hex digits. False, leaving `bytes` alone, on any other text. */
bool id_from_hex(const char *text, size_t length, void *bytes, size_t n);

#define ID_HEX(id, out) id_hex((id).b, sizeof((id).b), (out))
#define ID_EQ(a, b_)    (memcmp((a).b, (b_).b, sizeof((a).b)) == 0)

bool id_is_nil(const void *bytes, size_t n);
#define ID_IS_NIL(id)   id_is_nil((id).b, sizeof((id).b))
#define ID_SET_NIL(idp) memset((idp)->b, 0xff, sizeof((idp)->b))

static inline uint64_t
id_load64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

/* A full 64-bit avalanche (the finaliser of SplitMix64, Steele et al. 2014). Bijective. */
static inline uint64_t
id_mix64(uint64_t x)
{
    x ^= x >> 30;
    x *= UINT64_C(0xbf58476d1ce4e5b9);
    x ^= x >> 27;
    x *= UINT64_C(0x94d049bb133111eb);
    x ^= x >> 31;
    return x;
}

/* Hashes for tables. The unique parts (of the task, of its actor) are random already, though each
 * may be all ones; one mix spreads the index. */
uint64_t id_hash(const void *bytes, size_t n);

static inline uint64_t
id_object_hash(const struct id_object *id)
{
    uint32_t index;
    memcpy(&index, id->b + 24, sizeof(index));
    return id_mix64(id_load64(id->b) ^ (id_load64(id->b + 8) << 1) ^
                    index * UINT64_C(0x9e3779b97f4a7c15));
}

struct id_job id_job_from_int(uint32_t number);
uint32_t id_job_to_int(const struct id_job *job);

/* The id that all tasks of a job which belong to no actor carry in their ActorID part. */
struct id_actor id_actor_nil_of(const struct id_job *job);

/* The driver's own task: the parent of everything that the driver makes. */
struct id_task id_task_of_driver(const struct id_job *job);

/* What a running task derives ids from; made once per attempt. */
struct id_source {
    uint64_t task_seed; /* from (TaskID, attempt) */
    uint64_t counter;   /* children made so far */
    uint32_t puts;      /* puts made so far */
    struct id_task task;
};

void id_source_init(struct id_source *source, const struct id_task *task, uint32_t attempt);

/* The next child task, or method call of `actor` (its id's last 16 bytes). */
struct id_task id_source_child(struct id_source *source, const struct id_actor *actor);
struct id_actor id_source_actor(struct id_source *source, const struct id_job *job);
struct id_object id_source_put(struct id_source *source);

/* The creation task of an actor. */
struct id_task id_task_of_actor_creation(const struct id_actor *actor);

/* Return value `index` (from 1) of a task. */
struct id_object id_object_of_return(const struct id_task *task, uint32_t index);
struct id_task id_object_task(const struct id_object *object);
uint32_t id_object_index(const struct id_object *object);
struct id_actor id_task_actor(const struct id_task *task);
struct id_job id_task_job(const struct id_task *task);
struct id_job id_actor_job(const struct id_actor *actor);

#endif
