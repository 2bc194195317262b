/* SPDX-License-Identifier: Apache-2.0 */
/* The heap of deadlines. See heap.h. */
#include "base/heap.h"

#include "base/status.h"

void
heap_init(struct heap *heap, const struct mem *mem)
{
    *heap = (struct heap){ .mem = mem };
}

void
heap_fini(struct heap *heap)
{
    mem_free(heap->mem, heap->nodes, heap->capacity * sizeof(struct heap_node *));
    heap->nodes = NULL;
    heap->count = heap->capacity = 0;
}

static bool
before(const struct heap_node *a, const struct heap_node *b)
{
    return a->when < b->when || (a->when == b->when && a->serial < b->serial);
}

static void
put_at(struct heap *heap, size_t i, struct heap_node *node)
{
    heap->nodes[i] = node;
    node->slot = i + 1;
}

static void
sift_up(struct heap *heap, size_t i)
{
    struct heap_node *node = heap->nodes[i];
    while (i > 0 && before(node, heap->nodes[(i - 1) / 2])) {
        put_at(heap, i, heap->nodes[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    put_at(heap, i, node);
}

static void
sift_down(struct heap *heap, size_t i)
{
    struct heap_node *node = heap->nodes[i];
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= heap->count) {
            break;
        }
        if (child + 1 < heap->count && before(heap->nodes[child + 1], heap->nodes[child])) {
            child++;
        }
        if (!before(heap->nodes[child], node)) {
            break;
        }
        put_at(heap, i, heap->nodes[child]);
        i = child;
    }
    put_at(heap, i, node);
}

int
heap_push(struct heap *heap, struct heap_node *node, uint64_t when)
{
    if (heap->count == heap->capacity) {
        const size_t capacity = heap->capacity ? 2 * heap->capacity : 16;
        struct heap_node **nodes = heap->mem->resize(heap->mem->ctx, heap->nodes,
                                                     heap->capacity * sizeof(struct heap_node *),
                                                     capacity * sizeof(struct heap_node *));
        if (!nodes) {
            return ST_OUT_OF_MEMORY;
        }
        heap->nodes = nodes;
        heap->capacity = capacity;
    }
    node->when = when;
    node->serial = heap->serial++;
    heap->nodes[heap->count++] = node;
    sift_up(heap, heap->count - 1);
    return ST_OK;
}

struct heap_node *
heap_first(const struct heap *heap)
{
    return heap->count ? heap->nodes[0] : NULL;
}

void
heap_remove(struct heap *heap, struct heap_node *node)
{
    if (!node->slot) {
        return;
    }
    const size_t i = node->slot - 1;
    ASSERT(i < heap->count && heap->nodes[i] == node);
    node->slot = 0;
    heap->count--;
    if (i < heap->count) {
        put_at(heap, i, heap->nodes[heap->count]);
        struct heap_node *moved = heap->nodes[i];
        sift_up(heap, i);
        sift_down(heap, moved->slot - 1);
    }
}
