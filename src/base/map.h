/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Intrusive hash table: chains of links that live in the elements, so an insertion allocates only
 * when the bucket array grows. The caller hashes and compares.
 *
 *     struct map_link *l;
 *     MAP_FOR_HASH(l, &map, hash) {
 *         struct thing *t = CONTAINER_OF(l, struct thing, link);
 *         if (ID_EQ(t->id, id)) return t;
 *     }
 */
#ifndef RAY_BASE_MAP_H
#define RAY_BASE_MAP_H

#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

struct map_link {
    struct map_link *next;
    uint64_t hash;
};

struct map {
    const struct mem *mem;
    struct map_link **buckets; /* a power of two of them, NULL before the first insertion */
    size_t mask;
    size_t count;
};

void map_init(struct map *map, const struct mem *mem);
/* Frees the bucket array; the elements are the caller's. */
void map_fini(struct map *map);
/* Links the element. Doesn't look for duplicates. Fails only when the first buckets can't be had.
 */
int map_insert(struct map *map, struct map_link *link, uint64_t hash) MUST_USE;
/* The link must be in the map. */
void map_remove(struct map *map, struct map_link *link);

/* First candidate with this hash, or NULL; then map_next_same. */
static inline struct map_link *
map_first(const struct map *map, uint64_t hash)
{
    if (!map->buckets) {
        return NULL;
    }
    struct map_link *l = map->buckets[hash & map->mask];
    while (l && l->hash != hash) {
        l = l->next;
    }
    return l;
}

static inline struct map_link *
map_next_same(const struct map_link *link)
{
    struct map_link *l = link->next;
    while (l && l->hash != link->hash) {
        l = l->next;
    }
    return l;
}

#define MAP_FOR_HASH(l, map, hash_)                                                                \
    for ((l) = map_first((map), (hash_)); (l); (l) = map_next_same(l))

/* Walk over everything: start with *bucket = 0 and link = NULL; NULL at the end. Removing the
 * returned element before the next call is allowed when `next` was taken first by map_walk. */
struct map_walk {
    size_t bucket;
    struct map_link *next;
};
void map_walk_init(struct map_walk *walk);
struct map_link *map_walk_next(const struct map *map, struct map_walk *walk);

#endif
