/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Intrusive binary heap of deadlines: the timers of an event loop, of a state machine or of the
 * simulator. Equal deadlines come out in the order they went in.
 */
#ifndef RAY_BASE_HEAP_H
#define RAY_BASE_HEAP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/mem.h"

struct heap_node {
    uint64_t when;   /* nanoseconds of the caller's clock */
    uint64_t serial; /* tie breaker, set by heap_push */
    size_t slot;     /* position + 1, 0 when in no heap */
};

struct heap {
    const struct mem *mem;
    struct heap_node **nodes;
    size_t count, capacity;
    uint64_t serial;
};

void heap_init(struct heap *heap, const struct mem *mem);
void heap_fini(struct heap *heap);
int heap_push(struct heap *heap, struct heap_node *node, uint64_t when) MUST_USE;
/* The earliest, still in the heap; NULL when empty. */
struct heap_node *heap_first(const struct heap *heap);
/* No effect on a node that is in no heap. */
void heap_remove(struct heap *heap, struct heap_node *node);
static inline bool
heap_has(const struct heap_node *node)
{
    return node->slot != 0;
}

#endif
