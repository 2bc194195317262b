/* SPDX-License-Identifier: Apache-2.0 */
/* Two-level segregated fit with address-ordered joining. See store_space.h. */
#include "store/store_space.h"

#include "base/status.h"
#include "store/store_layout.h"

enum { TRIES = 8 }; /* spans looked at in a bin before the next one */

static unsigned
level_of(uint64_t units)
{
    return 63 - (unsigned)__builtin_clzll(units);
}

/* The bin of a span of that size: level by its highest bit, fine by the four bits below. */
static void
bin_of(uint64_t size, unsigned *level, unsigned *fine)
{
    const uint64_t units = size / STORE_ALIGN;
    ASSERT(units > 0);
    const unsigned l = level_of(units);
    const uint64_t rest = units - (UINT64_C(1) << l);
    *level = l;
    *fine = (unsigned)(l >= 4 ? rest >> (l - 4) : rest << (4 - l));
    ASSERT(*level < STORE_BIN_LEVELS && *fine < STORE_BIN_FINE);
}

static void
bin_add(struct store_space *space, struct store_span *span)
{
    unsigned level = 0;
    unsigned fine = 0;
    bin_of(span->size, &level, &fine);
    list_push_front(&space->bins[level][fine], &span->bin);
    space->fine[level] |= 1u << fine;
    space->levels |= UINT64_C(1) << level;
    span->free = true;
}

static void
bin_remove(struct store_space *space, struct store_span *span)
{
    unsigned level = 0;
    unsigned fine = 0;
    bin_of(span->size, &level, &fine);
    list_remove(&span->bin);
    if (list_is_empty(&space->bins[level][fine])) {
        space->fine[level] &= ~(1u << fine);
        if (space->fine[level] == 0) {
            space->levels &= ~(UINT64_C(1) << level);
        }
    }
    span->free = false;
}

/* A node between `before` and what follows it. Nodes are small: without memory for one the raylet
 * can't go on. */
static struct store_span *
span_new(struct store_space *space, struct list *before, uint64_t offset, uint64_t size)
{
    struct store_span *span = slab_take(&space->spans);
    ASSERT(span);
    *span = (struct store_span){ .offset = offset, .size = size };
    list_init(&span->bin);
    list_push_front(before, &span->order);
    return span;
}

static void
span_delete(struct store_space *space, struct store_span *span)
{
    list_remove(&span->order);
    slab_give(&space->spans, span);
}

int
store_space_init(struct store_space *space, const struct mem *mem, uint64_t capacity,
                 bool (*is_warm)(const void *ctx, uint64_t offset), const void *ctx)
{
    ASSERT(capacity > 0 && capacity % STORE_ALIGN == 0);
    *space = (struct store_space){ .capacity = capacity, .is_warm = is_warm, .ctx = ctx };
    slab_init(&space->spans, mem, sizeof(struct store_span));
    list_init(&space->order);
    for (unsigned i = 0; i < STORE_BIN_LEVELS; i++) {
        for (unsigned j = 0; j < STORE_BIN_FINE; j++) {
            list_init(&space->bins[i][j]);
        }
    }
    TRY(slab_grow(&space->spans));
    bin_add(space, span_new(space, &space->order, 0, capacity));
    return ST_OK;
}

void
store_space_fini(struct store_space *space)
{
    slab_fini(&space->spans);
}

static uint64_t
align_up(uint64_t offset, uint64_t align)
{
    return (offset + align - 1) & ~(align - 1);
}

/* Where in a free span the wanted part would begin; UINT64_MAX when it doesn't fit. */
static uint64_t
place(const struct store_space *space, const struct store_span *span, uint64_t size, uint64_t align)
{
    const uint64_t end = span->offset + span->size;
    const uint64_t front = align_up(span->offset, align);
    if (span->size < size || front > end - size) {
        return UINT64_MAX;
    }
    const uint64_t back = (end - size) & ~(align - 1);
    if (back > front && !space->is_warm(space->ctx, front) && space->is_warm(space->ctx, end - 1)) {
        return back;
    }
    return front;
}

/* The first that fits among at most `tries` spans of a bin. */
static struct store_span *
search_bin(const struct store_space *space, const struct list *bin, unsigned tries, uint64_t size,
           uint64_t align, uint64_t *at)
{
    LIST_FOR (link, bin) {
        struct store_span *span = LIST_ENTRY(link, struct store_span, bin);
        *at = place(space, span, size, align);
        if (*at != UINT64_MAX) {
            return span;
        }
        if (--tries == 0) {
            return NULL;
        }
    }
    return NULL;
}

/* Bins from the wanted size's own upwards. */
static struct store_span *
search(const struct store_space *space, unsigned tries, uint64_t size, uint64_t align, uint64_t *at)
{
    unsigned level = 0;
    unsigned fine = 0;
    bin_of(size, &level, &fine);
    uint32_t fines = space->fine[level] & (UINT32_MAX << fine);
    for (;;) {
        while (fines) {
            const unsigned f = (unsigned)__builtin_ctz(fines);
            struct store_span *span =
                search_bin(space, &space->bins[level][f], tries, size, align, at);
            if (span) {
                return span;
            }
            fines &= fines - 1;
        }
        const uint64_t above = level + 1 < 64 ? space->levels & (UINT64_MAX << (level + 1)) : 0;
        if (!above) {
            return NULL;
        }
        level = (unsigned)__builtin_ctzll(above);
        fines = space->fine[level];
    }
}

struct store_span *
store_space_take(struct store_space *space, uint64_t size, uint64_t align)
{
    ASSERT(size > 0 && size % STORE_ALIGN == 0);
    ASSERT(align >= STORE_ALIGN && (align & (align - 1)) == 0);
    if (size > space->capacity - space->used) {
        return NULL;
    }
    uint64_t at = 0;
    struct store_span *span = search(space, TRIES, size, align, &at);
    if (!span) {
        span = search(space, UINT32_MAX, size, align, &at);
        if (!span) {
            return NULL;
        }
    }
    bin_remove(space, span);
    const uint64_t end = span->offset + span->size;
    if (at + size < end) {
        bin_add(space, span_new(space, &span->order, at + size, end - at - size));
    }
    if (at > span->offset) {
        struct store_span *taken = span_new(space, &span->order, at, size);
        span->size = at - span->offset;
        bin_add(space, span);
        span = taken;
    } else {
        span->size = size;
    }
    space->used += size;
    return span;
}

struct store_span *
store_space_split(struct store_space *space, struct store_span *span, uint64_t offset)
{
    ASSERT(!span->free && offset % STORE_ALIGN == 0);
    ASSERT(offset > span->offset && offset < span->offset + span->size);
    struct store_span *right =
        span_new(space, &span->order, offset, span->offset + span->size - offset);
    span->size = offset - span->offset;
    return right;
}

void
store_space_give(struct store_space *space, struct store_span *span)
{
    ASSERT(!span->free && space->used >= span->size);
    space->used -= span->size;
    if (span->order.next != &space->order) {
        struct store_span *next = LIST_ENTRY(span->order.next, struct store_span, order);
        if (next->free) {
            bin_remove(space, next);
            span->size += next->size;
            span_delete(space, next);
        }
    }
    if (span->order.prev != &space->order) {
        struct store_span *prev = LIST_ENTRY(span->order.prev, struct store_span, order);
        if (prev->free) {
            bin_remove(space, prev);
            prev->size += span->size;
            span_delete(space, span);
            span = prev;
        }
    }
    bin_add(space, span);
}

uint64_t
store_space_largest(const struct store_space *space)
{
    uint64_t largest = 0;
    if (!space->levels) {
        return 0;
    }
    const unsigned level = 63 - (unsigned)__builtin_clzll(space->levels);
    const unsigned fine = 31 - (unsigned)__builtin_clz(space->fine[level]);
    LIST_FOR (link, &space->bins[level][fine]) {
        const struct store_span *span = LIST_ENTRY(link, struct store_span, bin);
        largest = span->size > largest ? span->size : largest;
    }
    return largest;
}

void
store_space_verify(const struct store_space *space)
{
    uint64_t at = 0;
    uint64_t used = 0;
    uint64_t spans = 0;
    bool last_free = false;
    LIST_FOR (link, &space->order) {
        const struct store_span *span = LIST_ENTRY(link, struct store_span, order);
        ASSERT(span->offset == at && span->size > 0 && span->size % STORE_ALIGN == 0);
        ASSERT(!(last_free && span->free)); /* neighbours are joined */
        ASSERT(list_is_empty(&span->bin) == !span->free);
        last_free = span->free;
        used += span->free ? 0 : span->size;
        at += span->size;
        spans++;
    }
    ASSERT(at == space->capacity && used == space->used && spans == space->spans.live);
}
