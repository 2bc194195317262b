/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The allocator of the data file. All its bookkeeping is private memory of the raylet: a span is a
 * node in address order, free spans also hang in one of the bins of a two-level segregated fit
 * (power of two, then sixteenths). Taking is a short search in the fitting bin, then the next bins
 * that hold anything; giving joins free neighbours at once. Within a bin the most recently freed
 * comes first, and a span is cut at the end that has memory already, so that warm memory is used
 * again before cold.
 */
#ifndef RAY_STORE_STORE_SPACE_H
#define RAY_STORE_STORE_SPACE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/mem.h"

enum {
    STORE_BIN_FINE = 16,
    STORE_BIN_LEVELS = 48,
};

struct store_span {
    struct list order; /* by address */
    struct list bin;   /* while free */
    uint64_t offset, size;
    bool free;
};

struct store_space {
    struct slab spans;
    struct list order;
    struct list bins[STORE_BIN_LEVELS][STORE_BIN_FINE];
    uint64_t levels;                 /* bit: some bin of the level holds a span */
    uint32_t fine[STORE_BIN_LEVELS]; /* bit: the bin holds a span */
    uint64_t capacity, used;
    /* Whether the byte at an offset has memory behind it; for choosing the end to cut. */
    bool (*is_warm)(const void *ctx, uint64_t offset);
    const void *ctx;
};

int store_space_init(struct store_space *space, const struct mem *mem, uint64_t capacity,
                     bool (*is_warm)(const void *ctx, uint64_t offset), const void *ctx) MUST_USE;
void store_space_fini(struct store_space *space);

/* A span of exactly `size` (a multiple of STORE_ALIGN), its offset a multiple of `align` (a power
 * of two). NULL: no free span fits. Never NULL when one does. */
struct store_span *store_space_take(struct store_space *space, uint64_t size, uint64_t align);

/* Cuts a span in use in two; returns the right part, which begins at `offset`. */
struct store_span *store_space_split(struct store_space *space, struct store_span *span,
                                     uint64_t offset);

/* Frees a span in use. The pointer is void after. */
void store_space_give(struct store_space *space, struct store_span *span);

/* The largest free span, in bytes; exact. */
uint64_t store_space_largest(const struct store_space *space);

/* Aborts when the books don't balance. For tests. */
void store_space_verify(const struct store_space *space);

#endif
