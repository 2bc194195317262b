/* SPDX-License-Identifier: Apache-2.0 */
/* Arena and slab. See mem.h. */
#include "base/mem.h"

#include <string.h>

#include "base/status.h"

enum { ARENA_BLOCK = 4096 - 64, ARENA_HEADER = 16, SLAB_CHUNK = 64 * 1024 - 64 };

_Static_assert(sizeof(struct arena_block) <= ARENA_HEADER, "header fits its alignment slot");

struct slab_chunk {
    struct slab_chunk *next;
    size_t size;
};

void
arena_init(struct arena *arena, const struct mem *mem)
{
    *arena = (struct arena){ .mem = mem };
}

static void
free_blocks(struct arena *arena, struct arena_block *block)
{
    while (block) {
        struct arena_block *next = block->next;
        mem_free(arena->mem, block, ARENA_HEADER + block->size);
        block = next;
    }
}

void
arena_fini(struct arena *arena)
{
    free_blocks(arena, arena->blocks);
    arena->blocks = NULL;
    arena->used = 0;
}

void
arena_reset(struct arena *arena)
{
    if (arena->blocks) {
        free_blocks(arena, arena->blocks->next);
        arena->blocks->next = NULL;
    }
    arena->used = 0;
}

void *
arena_alloc(struct arena *arena, size_t size)
{
    const size_t rounded = (size + 15) & ~(size_t)15;
    if (rounded < size) {
        return NULL;
    }
    if (!arena->blocks || arena->blocks->size - arena->used < rounded) {
        const size_t want = rounded > ARENA_BLOCK ? rounded : ARENA_BLOCK;
        struct arena_block *block = mem_alloc(arena->mem, ARENA_HEADER + want);
        if (!block) {
            return NULL;
        }
        block->next = arena->blocks;
        block->size = want;
        arena->blocks = block;
        arena->used = 0;
    }
    void *p = (char *)arena->blocks + ARENA_HEADER + arena->used;
    arena->used += rounded;
    return p;
}

void *
arena_copy(struct arena *arena, const void *bytes, size_t size)
{
    void *p = arena_alloc(arena, size);
    if (p && size) {
        memcpy(p, bytes, size);
    }
    return p;
}

void
slab_init(struct slab *slab, const struct mem *mem, size_t object_size)
{
    const size_t rounded = (object_size + 15) & ~(size_t)15;
    ASSERT(rounded >= sizeof(void *) && rounded <= SLAB_CHUNK / 4);
    *slab = (struct slab){
        .mem = mem,
        .object_size = (uint32_t)rounded,
        .per_chunk = (uint32_t)((SLAB_CHUNK - 16) / rounded),
    };
}

void
slab_fini(struct slab *slab)
{
    struct slab_chunk *chunk = slab->chunks;
    while (chunk) {
        struct slab_chunk *next = chunk->next;
        mem_free(slab->mem, chunk, chunk->size);
        chunk = next;
    }
    slab->chunks = NULL;
    slab->free = NULL;
    slab->live = 0;
}

int
slab_grow(struct slab *slab)
{
    const size_t size = 16 + (size_t)slab->per_chunk * slab->object_size;
    struct slab_chunk *chunk = mem_alloc(slab->mem, size);
    if (!chunk) {
        return ST_OUT_OF_MEMORY;
    }
    chunk->next = slab->chunks;
    chunk->size = size;
    slab->chunks = chunk;
    char *first = (char *)chunk + 16;
    for (uint32_t i = slab->per_chunk; i-- > 0;) {
        void *object = first + (size_t)i * slab->object_size;
        *(void **)object = slab->free;
        slab->free = object;
    }
    return ST_OK;
}
