/* SPDX-License-Identifier: Apache-2.0 */
/* An allocator for tests: counts what is in use, and fails when it is told to. */
#ifndef RAY_TESTS_COUNTED_MEM_H
#define RAY_TESTS_COUNTED_MEM_H

#include <stddef.h>
#include <stdlib.h>

#include "base/mem.h"

struct counted_mem {
    size_t in_use, peak;   /* bytes */
    long allocations_left; /* -1: as many as are wanted */
};

/* `resize` of a struct mem whose `ctx` is a struct counted_mem. */
static inline void *
counted_mem_resize(void *ctx, void *old, size_t old_size, size_t new_size)
{
    struct counted_mem *c = ctx;
    if (new_size > 0 && c->allocations_left == 0) {
        return NULL;
    }
    if (new_size > 0 && c->allocations_left > 0) {
        c->allocations_left--;
    }
    c->in_use += new_size - old_size;
    c->peak = c->in_use > c->peak ? c->in_use : c->peak;
    if (new_size == 0) {
        free(old);
        return NULL;
    }
    void *at = realloc(old, new_size);
    if (!at) {
        abort();
    }
    return at;
}

#endif
