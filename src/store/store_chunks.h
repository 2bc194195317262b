/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which parts of the data file have memory behind them, in chunks of STORE_CHUNK bytes. A chunk
 * that nobody uses any more is given back to the system after a while; a part of the cold space
 * ahead of a large object is given memory before it is asked for.
 */
#ifndef RAY_STORE_STORE_CHUNKS_H
#define RAY_STORE_STORE_CHUNKS_H

#include <stdbool.h>

#include "base/list.h"
#include "base/mem.h"
#include "store/store_server.h"

struct store_chunk {
    struct list idle; /* in a list while touched and unused */
    uint64_t idle_since_ns;
    uint32_t used; /* bytes in spans in use */
    bool touched;  /* may have memory */
};

struct store_chunks {
    const struct mem *mem;
    const struct store_backing *backing;
    struct store_chunk *chunks;
    uint64_t count;
    uint64_t touched;
    struct list fresh;              /* idle, not stamped with a time yet */
    struct list idle;               /* oldest first */
    uint64_t ahead_next, ahead_end; /* chunks to be given memory, an empty range when equal */
};

int store_chunks_init(struct store_chunks *chunks, const struct mem *mem,
                      const struct store_backing *backing, uint64_t capacity) MUST_USE;
void store_chunks_fini(struct store_chunks *chunks);

bool store_chunks_is_warm(const struct store_chunks *chunks, uint64_t offset);
/* A span was taken. Returns whether any of it had no memory. */
bool store_chunks_take(struct store_chunks *chunks, uint64_t offset, uint64_t size);
void store_chunks_give(struct store_chunks *chunks, uint64_t offset, uint64_t size);
/* Asks for memory behind the unused, cold chunks of this part. */
void store_chunks_ahead(struct store_chunks *chunks, uint64_t offset, uint64_t size);
/* A slice of work; as store_work. */
uint64_t store_chunks_work(struct store_chunks *chunks, uint64_t now_ns, uint64_t idle_ns);

#endif
