/* SPDX-License-Identifier: Apache-2.0 */
/* The table of scheduling keys. See sched_key.h. */
#include "sched/sched_key.h"

#include "base/id.h"
#include "base/status.h"

struct sched_key_row {
    struct map_link link;
    uint32_t number;
    struct sched_key key;
};

void
sched_keys_init(struct sched_keys *keys, const struct mem *mem)
{
    *keys = (struct sched_keys){ .mem = mem };
    map_init(&keys->map, mem);
}

void
sched_keys_fini(struct sched_keys *keys)
{
    for (uint32_t i = 0; i < keys->count; i++) {
        mem_free(keys->mem, keys->by_number[i], sizeof(struct sched_key_row));
    }
    mem_free(keys->mem, keys->by_number, keys->capacity * sizeof(struct sched_key_row *));
    map_fini(&keys->map);
    keys->by_number = NULL;
    keys->count = keys->capacity = 0;
}

static uint64_t
hash_of(const struct sched_key *key)
{
    const uint64_t h = res_set_hash(&key->resources) ^ id_mix64(res_set_hash(&key->placement));
    return id_mix64(id_mix64(h ^ key->env_hash) + key->strategy);
}

static bool
is_equal(const struct sched_key *a, const struct sched_key *b)
{
    return a->env_hash == b->env_hash && a->strategy == b->strategy &&
           res_set_equal(&a->resources, &b->resources) &&
           res_set_equal(&a->placement, &b->placement);
}

static int
grow(struct sched_keys *keys)
{
    const uint32_t capacity = keys->capacity ? 2 * keys->capacity : 8;
    struct sched_key_row **rows = keys->mem->resize(keys->mem->ctx, keys->by_number,
                                                    keys->capacity * sizeof(struct sched_key_row *),
                                                    capacity * sizeof(struct sched_key_row *));
    if (!rows) {
        return ST_OUT_OF_MEMORY;
    }
    keys->by_number = rows;
    keys->capacity = capacity;
    return ST_OK;
}

int
sched_keys_intern(struct sched_keys *keys, const struct sched_key *key, uint32_t *out)
{
    const uint64_t hash = hash_of(key);
    struct map_link *l;
    MAP_FOR_HASH (l, &keys->map, hash) {
        const struct sched_key_row *row = CONTAINER_OF(l, struct sched_key_row, link);
        if (is_equal(&row->key, key)) {
            *out = row->number;
            return ST_OK;
        }
    }
    if (keys->count == SCHED_KEYS_MAX) {
        return st_fail(ST_LIMIT,
                       "more than %d different combinations of resources, scheduling strategy and "
                       "runtime environment are in use; use fewer distinct ones",
                       SCHED_KEYS_MAX);
    }
    if (keys->count == keys->capacity) {
        TRY(grow(keys));
    }
    struct sched_key_row *row = mem_alloc(keys->mem, sizeof(*row));
    if (!row) {
        return ST_OUT_OF_MEMORY;
    }
    row->number = keys->count;
    row->key = *key;
    if (map_insert(&keys->map, &row->link, hash) != ST_OK) {
        mem_free(keys->mem, row, sizeof(*row));
        return ST_OUT_OF_MEMORY;
    }
    keys->by_number[keys->count++] = row;
    *out = row->number;
    return ST_OK;
}

const struct sched_key *
sched_keys_get(const struct sched_keys *keys, uint32_t number)
{
    ASSERT(number < keys->count);
    return &keys->by_number[number]->key;
}

uint32_t
sched_key_omp(const struct sched_key *key)
{
    const int64_t whole = res_set_get(&key->resources, RES_CPU).v / RES_UNIT;
    if (whole < 1) {
        return 1;
    }
    return whole > UINT16_MAX ? UINT16_MAX : (uint32_t)whole;
}
