/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory for state machines and pools: an injected allocator, a bump arena and a slab.
 *
 * Pure modules take a `struct mem *` and never call malloc; src/os gives the system's
 * (os_mem_system), tests and the simulator give counting or failing ones. All three types belong to
 * one thread or to whoever holds the lock of the structure that embeds them.
 */
#ifndef RAY_BASE_MEM_H
#define RAY_BASE_MEM_H

#include <stddef.h>
#include <stdint.h>

#include "base/assert.h"

/* resize(ctx, NULL, 0, n) allocates, (ctx, p, old, 0) frees, else reallocates. NULL on failure. */
struct mem {
    void *(*resize)(void *ctx, void *old, size_t old_size, size_t new_size);
    void *ctx;
};

static inline void *
mem_alloc(const struct mem *mem, size_t size)
{
    return mem->resize(mem->ctx, NULL, 0, size);
}

static inline void
mem_free(const struct mem *mem, void *p, size_t size)
{
    if (p) {
        (void)mem->resize(mem->ctx, p, size, 0);
    }
}

/* A bump allocator: everything goes at once, by arena_reset. */
struct arena_block {
    struct arena_block *next;
    size_t size; /* usable bytes after this header */
};
struct arena {
    const struct mem *mem;
    struct arena_block *blocks; /* newest first; the last is kept over a reset */
    size_t used;                /* bytes used in the newest block */
};

void arena_init(struct arena *arena, const struct mem *mem);
void arena_fini(struct arena *arena);
/* Gives everything back but the newest block, which is used again. */
void arena_reset(struct arena *arena);
/* 16-byte aligned, not cleared. NULL when the allocator fails. Valid until reset. */
void *arena_alloc(struct arena *arena, size_t size);
void *arena_copy(struct arena *arena, const void *bytes, size_t size);

/* Equal-sized objects from chunks; freed ones are reused last in, first out. Chunks go at fini. */
struct slab {
    const struct mem *mem;
    void *free; /* singly linked through the objects' first word */
    struct slab_chunk *chunks;
    uint32_t object_size; /* bytes, multiple of 16 */
    uint32_t per_chunk;
    uint64_t live; /* objects taken and not given back */
};

void slab_init(struct slab *slab, const struct mem *mem, size_t object_size);
/* All objects must have been given back, or are given up with their slab. */
void slab_fini(struct slab *slab);
int slab_grow(struct slab *slab);

/* Not cleared. NULL when the allocator fails. */
static inline void *
slab_take(struct slab *slab)
{
    if (__builtin_expect(!slab->free, 0) && slab_grow(slab)) {
        return NULL;
    }
    void *object = slab->free;
    slab->free = *(void **)object;
    slab->live++;
    return object;
}

static inline void
slab_give(struct slab *slab, void *object)
{
    ASSERT_HOT(slab->live > 0);
    *(void **)object = slab->free;
    slab->free = object;
    slab->live--;
}

#endif
