/* SPDX-License-Identifier: Apache-2.0 */
/* Residence of the data file. See store_chunks.h. */
#include "store/store_chunks.h"

#include "base/status.h"

#include <string.h>

enum {
    PUNCHES = 2,   /* chunks given back in one slice: about 0.1 ms each in small pages */
    PREFAULTS = 1, /* chunks prefaulted in one slice: about 0.3 ms each */
};

int
store_chunks_init(struct store_chunks *chunks, const struct mem *mem,
                  const struct store_backing *backing, uint64_t capacity)
{
    *chunks = (struct store_chunks){ .mem = mem, .backing = backing };
    list_init(&chunks->fresh);
    list_init(&chunks->idle);
    chunks->count = capacity / STORE_CHUNK;
    chunks->chunks = mem_alloc(mem, chunks->count * sizeof(struct store_chunk));
    if (!chunks->chunks) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for the object store's list of chunks");
    }
    for (uint64_t i = 0; i < chunks->count; i++) {
        chunks->chunks[i] = (struct store_chunk){ 0 };
        list_init(&chunks->chunks[i].idle);
    }
    return ST_OK;
}

void
store_chunks_fini(struct store_chunks *chunks)
{
    mem_free(chunks->mem, chunks->chunks, chunks->count * sizeof(struct store_chunk));
    chunks->chunks = NULL;
}

bool
store_chunks_is_warm(const struct store_chunks *chunks, uint64_t offset)
{
    ASSERT_HOT(offset / STORE_CHUNK < chunks->count);
    return chunks->chunks[offset / STORE_CHUNK].touched;
}

/* Bytes of [offset, end) that lie in chunk i. */
static uint32_t
part_of(uint64_t i, uint64_t offset, uint64_t end)
{
    const uint64_t from = offset > i * STORE_CHUNK ? offset : i * STORE_CHUNK;
    const uint64_t to = end < (i + 1) * STORE_CHUNK ? end : (i + 1) * STORE_CHUNK;
    return (uint32_t)(to - from);
}

bool
store_chunks_take(struct store_chunks *chunks, uint64_t offset, uint64_t size)
{
    const uint64_t end = offset + size;
    bool cold = false;
    ASSERT(size > 0 && end <= chunks->count * STORE_CHUNK);
    for (uint64_t i = offset / STORE_CHUNK; i <= (end - 1) / STORE_CHUNK; i++) {
        struct store_chunk *chunk = &chunks->chunks[i];
        chunk->used += part_of(i, offset, end);
        ASSERT(chunk->used <= STORE_CHUNK);
        list_remove(&chunk->idle);
        if (!chunk->touched) {
            chunk->touched = true;
            chunks->touched++;
            cold = true;
        }
    }
    return cold;
}

void
store_chunks_give(struct store_chunks *chunks, uint64_t offset, uint64_t size)
{
    const uint64_t end = offset + size;
    ASSERT(size > 0 && end <= chunks->count * STORE_CHUNK);
    for (uint64_t i = offset / STORE_CHUNK; i <= (end - 1) / STORE_CHUNK; i++) {
        struct store_chunk *chunk = &chunks->chunks[i];
        const uint32_t part = part_of(i, offset, end);
        ASSERT(chunk->used >= part && chunk->touched);
        chunk->used -= part;
        if (chunk->used == 0) {
            list_push_back(&chunks->fresh, &chunk->idle);
        }
    }
}

void
store_chunks_ahead(struct store_chunks *chunks, uint64_t offset, uint64_t size)
{
    const uint64_t end = (offset + size) / STORE_CHUNK;
    chunks->ahead_next = offset / STORE_CHUNK;
    chunks->ahead_end = end < chunks->count ? end : chunks->count;
}

static void
stamp_fresh(struct store_chunks *chunks, uint64_t now_ns)
{
    LIST_FOR (link, &chunks->fresh) {
        LIST_ENTRY(link, struct store_chunk, idle)->idle_since_ns = now_ns;
    }
    list_splice_back(&chunks->idle, &chunks->fresh);
}

static void
give_back(struct store_chunks *chunks, struct store_chunk *chunk)
{
    const uint64_t i = (uint64_t)(chunk - chunks->chunks);
    ASSERT(chunk->used == 0 && chunk->touched);
    list_remove(&chunk->idle);
    if (chunks->backing->punch(chunks->backing->ctx, i * STORE_CHUNK, STORE_CHUNK) == ST_OK) {
        chunk->touched = false;
        chunks->touched--;
    } /* else it stays warm until it is used and freed again */
}

static void
prefault(struct store_chunks *chunks, uint64_t now_ns)
{
    for (unsigned done = 0; done < PREFAULTS && chunks->ahead_next < chunks->ahead_end;) {
        struct store_chunk *chunk = &chunks->chunks[chunks->ahead_next];
        if (chunk->used == 0 && !chunk->touched) {
            if (chunks->backing->prefault(chunks->backing->ctx, chunks->ahead_next * STORE_CHUNK,
                                          STORE_CHUNK) != ST_OK) {
                chunks->ahead_end = chunks->ahead_next; /* a courtesy; not again for this one */
                return;
            }
            chunk->touched = true;
            chunks->touched++;
            chunk->idle_since_ns = now_ns;
            list_push_back(&chunks->idle, &chunk->idle);
            done++;
        }
        chunks->ahead_next++;
    }
}

uint64_t
store_chunks_work(struct store_chunks *chunks, uint64_t now_ns, uint64_t idle_ns)
{
    stamp_fresh(chunks, now_ns);
    prefault(chunks, now_ns);
    for (unsigned i = 0; i < PUNCHES; i++) {
        struct list *first = list_first(&chunks->idle);
        if (!first) {
            break;
        }
        struct store_chunk *chunk = LIST_ENTRY(first, struct store_chunk, idle);
        if (now_ns - chunk->idle_since_ns < idle_ns) {
            break;
        }
        give_back(chunks, chunk);
    }
    if (chunks->ahead_next < chunks->ahead_end) {
        return now_ns;
    }
    struct list *first = list_first(&chunks->idle);
    if (!first) {
        return UINT64_MAX;
    }
    const uint64_t at = LIST_ENTRY(first, struct store_chunk, idle)->idle_since_ns + idle_ns;
    return at > now_ns ? at : now_ns;
}
