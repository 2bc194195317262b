/* SPDX-License-Identifier: Apache-2.0 */
/* The intrusive hash table. See map.h. */
#include "base/map.h"

#include <string.h>

#include "base/status.h"

enum { MAP_FIRST_BUCKETS = 16 };

void
map_init(struct map *map, const struct mem *mem)
{
    *map = (struct map){ .mem = mem };
}

void
map_fini(struct map *map)
{
    if (map->buckets) {
        mem_free(map->mem, map->buckets, (map->mask + 1) * sizeof(struct map_link *));
    }
    map->buckets = NULL;
    map->count = 0;
}

static int
resize(struct map *map, size_t n)
{
    struct map_link **buckets = mem_alloc(map->mem, n * sizeof(struct map_link *));
    if (!buckets) {
        return ST_OUT_OF_MEMORY;
    }
    memset(buckets, 0, n * sizeof(struct map_link *));
    if (map->buckets) {
        for (size_t i = 0; i <= map->mask; i++) {
            struct map_link *l = map->buckets[i];
            while (l) {
                struct map_link *next = l->next;
                l->next = buckets[l->hash & (n - 1)];
                buckets[l->hash & (n - 1)] = l;
                l = next;
            }
        }
        mem_free(map->mem, map->buckets, (map->mask + 1) * sizeof(struct map_link *));
    }
    map->buckets = buckets;
    map->mask = n - 1;
    return ST_OK;
}

int
map_insert(struct map *map, struct map_link *link, uint64_t hash)
{
    if (!map->buckets) {
        TRY(resize(map, MAP_FIRST_BUCKETS));
    } else if (map->count > map->mask) {
        (void)resize(map, 2 * (map->mask + 1)); /* longer chains when there is no memory */
    }
    link->hash = hash;
    link->next = map->buckets[hash & map->mask];
    map->buckets[hash & map->mask] = link;
    map->count++;
    return ST_OK;
}

void
map_remove(struct map *map, struct map_link *link)
{
    ASSERT(map->buckets);
    struct map_link **p = &map->buckets[link->hash & map->mask];
    while (*p != link) {
        ASSERT(*p);
        p = &(*p)->next;
    }
    *p = link->next;
    link->next = NULL;
    map->count--;
}

void
map_walk_init(struct map_walk *walk)
{
    *walk = (struct map_walk){ 0 };
}

struct map_link *
map_walk_next(const struct map *map, struct map_walk *walk)
{
    if (!map->buckets) {
        return NULL;
    }
    struct map_link *l = walk->next;
    while (!l && walk->bucket <= map->mask) {
        l = map->buckets[walk->bucket++];
    }
    walk->next = l ? l->next : NULL;
    return l;
}
