/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sparse table of pointers by number, for numbers that only grow while most of what they name goes:
 * processes, say, of which a long-lived one sees hundreds of thousands. A page of 256 entries
 * exists as long as one of them is set; what stays for good is a word a page. So a number need
 * never be used again, and one that somebody still remembers can't name another thing.
 *
 * Entries are the caller's. Belongs to one thread, or to whoever holds the lock of what embeds it.
 * A zeroed one is empty and may be looked up in.
 */
#ifndef RAY_BASE_PAGES_H
#define RAY_BASE_PAGES_H

#include <stdint.h>

#include "base/mem.h"
#include "base/status.h"

enum { PAGES_ENTRIES = 256 };

struct pages_page {
    uint32_t used;
    void *v[PAGES_ENTRIES];
};

struct pages {
    const struct mem *mem;
    struct pages_page **page; /* [count]; NULL: nothing there */
    uint32_t count;
};

void pages_init(struct pages *pages, const struct mem *mem);
void pages_fini(struct pages *pages);

/* NULL: nothing. */
static inline void *
pages_get(const struct pages *pages, uint32_t number)
{
    const uint32_t at = number / PAGES_ENTRIES;
    const struct pages_page *page = at < pages->count ? pages->page[at] : NULL;
    return page ? page->v[number % PAGES_ENTRIES] : NULL;
}

/* `entry` is not NULL, and nothing is there yet. ST_OUT_OF_MEMORY. */
int pages_set(struct pages *pages, uint32_t number, void *entry) MUST_USE;
/* Nothing to do where nothing is. */
void pages_clear(struct pages *pages, uint32_t number);
/* The first entry from *number on, which becomes its number; NULL: no more. */
void *pages_next(const struct pages *pages, uint32_t *number);

#endif
