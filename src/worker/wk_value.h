/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values: the bytes of finished objects and of arguments, counted, in memory or in the shared
 * store.
 *
 * A value is immutable once made. Its counts are atomic and it may be released by any thread
 * without the engine lock, also after shutdown. Encoding to and from the pieces of proto/peer.h is
 * here too, and so is the record of a failed value.
 */
#ifndef RAY_WORKER_WK_VALUE_H
#define RAY_WORKER_WK_VALUE_H

#include "base/atom.h"
#include "base/str.h"
#include "own/own_msg.h"
#include "proto/peer.h"
#include "ray/ray.h"
#include "store/storec.h"

struct own_ref;

enum wk_value_kind {
    WK_VALUE_INLINE = 1, /* bytes in this block */
    WK_VALUE_HINT = 2,   /* only says where the bytes are; never seen outside of libray */
    WK_VALUE_VIEW = 3,   /* pinned bytes of the shared store */
    WK_VALUE_ERROR = 4,  /* an encoded failure */
};

/* In one block of memory: this, then the items, then the bytes, unless `data` points elsewhere. */
struct ray_value {
    struct atom_u32 refs;
    uint8_t kind;  /* enum wk_value_kind */
    bool embedded; /* lives in another block, which `base` keeps */
    bool unheard;  /* ERROR: of a task, and nobody has looked at it yet. Under the lock */
    uint8_t zero;
    uint32_t format;
    uint32_t item_count;
    int32_t status; /* of an ERROR, else 0 */
    uint32_t pad;
    uint64_t size; /* of data; of the object for a HINT */
    const void *data;
    const struct own_item *items;
    struct ray_value *base;  /* kept as long as this one, or NULL */
    struct own_ref *outer;   /* VIEW and references: the object it is of, one local handle */
    struct own_frame *frame; /* arguments: the frame that covers the items, NULL when it ended */
    union {
        struct store_hint hint;  /* HINT */
        struct storec_view view; /* VIEW */
    };
};

/* A new value of `size` bytes with room for `items`; *data is where to write. NULL: no memory. */
struct ray_value *wk_value_create(enum wk_value_kind kind, size_t size, uint32_t item_count,
                                  uint8_t **data, struct own_item **items);

/* A value that only says where the object is. */
struct ray_value *wk_value_create_hint(const struct store_hint *hint, uint32_t format,
                                       const struct own_item *items, uint32_t item_count);

/* ---- pieces ---- */

static inline size_t
wk_pad8(size_t n)
{
    return (n + 7) & ~(size_t)7;
}

/* Bytes of a piece on the wire. */
static inline size_t
wk_piece_bytes(uint64_t size, uint32_t item_count)
{
    return sizeof(struct peer_piece) + wk_pad8(size) +
           wk_pad8((size_t)item_count * sizeof(struct own_item));
}
size_t wk_value_piece_bytes(const struct ray_value *value);
/* Writes the piece of a value; returns the bytes written. */
size_t wk_value_encode(const struct ray_value *value, uint8_t *out);

/* A piece found in a frame: borrowed pointers into it. */
struct wk_piece {
    struct peer_piece head;
    const uint8_t *data;
    const uint8_t *items; /* unaligned struct own_item[head.item_count] */
};
/* Reads the piece at *at and moves on. ST_PROTOCOL when it doesn't fit before `end`. */
int wk_piece_decode(const uint8_t **at, const uint8_t *end, struct wk_piece *out) MUST_USE;
/* A value of its own with the piece's bytes. NULL: no memory, or a malformed hint or failure. */
struct ray_value *wk_value_of_piece(const struct wk_piece *piece);
/* Fills an embedded value over bytes that `base` keeps (and nobody else writes). False: malformed.
 */
bool wk_value_embed(const struct wk_piece *piece, struct ray_value *base, struct ray_value *out);

/* ---- failures ---- */

struct wk_failure {
    int status;
    int32_t pid;
    bool actor_init_failed, never_started;
    uint32_t format;
    const uint8_t *actor_id, *task_id, *object_id;      /* NULL: nil */
    const char *text, *function, *node_ip, *class_name; /* NULL: "" */
    const void *data;
    size_t data_size;
};
/* Somebody has looked at the value, or got it. Under the lock. */
static inline void
wk_value_heard(struct ray_value *value)
{
    if (value->unheard) {
        value->unheard = false;
    }
}
struct ray_value *wk_value_create_failure(const struct wk_failure *failure);
/* Reads an ERROR value; pointers into it. */
void wk_value_read_failure(const struct ray_value *value, struct wk_failure *out);

#endif
