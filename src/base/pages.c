/* SPDX-License-Identifier: Apache-2.0 */
/* Sparse tables by number. See pages.h. */
#include "base/pages.h"

#include <string.h>

void
pages_init(struct pages *pages, const struct mem *mem)
{
    *pages = (struct pages){ .mem = mem };
}

void
pages_fini(struct pages *pages)
{
    for (uint32_t i = 0; i < pages->count; i++) {
        mem_free(pages->mem, pages->page[i], sizeof(*pages->page[i]));
    }
    if (pages->page) {
        mem_free(pages->mem, pages->page, pages->count * sizeof(struct pages_page *));
    }
    pages->page = NULL;
    pages->count = 0;
}

static int
make_room(struct pages *pages, uint32_t at)
{
    if (at < pages->count) {
        return ST_OK;
    }
    const uint32_t count = 2 * (at + 1);
    struct pages_page **grown =
        pages->mem->resize(pages->mem->ctx, pages->page, pages->count * sizeof(struct pages_page *),
                           count * sizeof(struct pages_page *));
    if (!grown) {
        return ST_OUT_OF_MEMORY;
    }
    memset(grown + pages->count, 0, (count - pages->count) * sizeof(struct pages_page *));
    pages->page = grown;
    pages->count = count;
    return ST_OK;
}

int
pages_set(struct pages *pages, uint32_t number, void *entry)
{
    const uint32_t at = number / PAGES_ENTRIES;
    ASSERT(entry && !pages_get(pages, number));
    TRY(make_room(pages, at));
    struct pages_page *page = pages->page[at];
    if (!page) {
        page = mem_alloc(pages->mem, sizeof(*page));
        if (!page) {
            return ST_OUT_OF_MEMORY;
        }
        memset(page, 0, sizeof(*page));
        pages->page[at] = page;
    }
    page->v[number % PAGES_ENTRIES] = entry;
    page->used++;
    return ST_OK;
}

void
pages_clear(struct pages *pages, uint32_t number)
{
    if (!pages_get(pages, number)) {
        return;
    }
    struct pages_page *page = pages->page[number / PAGES_ENTRIES];
    page->v[number % PAGES_ENTRIES] = NULL;
    if (--page->used == 0) {
        pages->page[number / PAGES_ENTRIES] = NULL;
        mem_free(pages->mem, page, sizeof(*page));
    }
}

void *
pages_next(const struct pages *pages, uint32_t *number)
{
    for (uint32_t at = *number / PAGES_ENTRIES; at < pages->count; at++) {
        const struct pages_page *page = pages->page[at];
        const uint32_t from = at == *number / PAGES_ENTRIES ? *number % PAGES_ENTRIES : 0;
        for (uint32_t i = from; page && i < PAGES_ENTRIES; i++) {
            if (page->v[i]) {
                *number = at * PAGES_ENTRIES + i;
                return page->v[i];
            }
        }
    }
    return NULL;
}
