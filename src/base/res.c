/* SPDX-License-Identifier: Apache-2.0 */
/* Interned resource names and sets of amounts. See res.h. */
#include "base/res.h"

#include <math.h>
#include <string.h>

#include "base/id.h"
#include "base/status.h"

struct res_name {
    struct map_link link;
    uint32_t number;
    uint32_t length;
    char text[RES_NAME_MAX];
};

int
res_names_init(struct res_names *names, const struct mem *mem)
{
    static const char *const fixed[] = { "CPU", "GPU", "memory", "object_store_memory" };
    *names = (struct res_names){ .mem = mem };
    map_init(&names->map, mem);
    for (uint32_t i = 0; i < COUNT_OF(fixed); i++) {
        uint32_t number;
        const int status = res_names_intern(names, fixed[i], strlen(fixed[i]), &number);
        if (status != ST_OK) {
            res_names_fini(names);
            return status;
        }
        ASSERT(number == i);
    }
    return ST_OK;
}

void
res_names_fini(struct res_names *names)
{
    for (uint32_t i = 0; i < names->count; i++) {
        mem_free(names->mem, names->by_number[i], sizeof(struct res_name));
    }
    mem_free(names->mem, names->by_number, names->capacity * sizeof(struct res_name *));
    map_fini(&names->map);
    names->by_number = NULL;
    names->count = names->capacity = 0;
}

int
res_names_intern(struct res_names *names, const char *text, size_t length, uint32_t *out)
{
    if (length == 0 || length >= RES_NAME_MAX) {
        return st_fail(ST_INVALID_ARGUMENT, "a resource name has 1 to %d characters, this has %zu",
                       RES_NAME_MAX - 1, length);
    }
    const uint64_t hash = id_hash(text, length);
    struct map_link *l;
    MAP_FOR_HASH (l, &names->map, hash) {
        const struct res_name *name = CONTAINER_OF(l, struct res_name, link);
        if (name->length == length && memcmp(name->text, text, length) == 0) {
            *out = name->number;
            return ST_OK;
        }
    }
    if (names->count == names->capacity) {
        const uint32_t capacity = names->capacity ? 2 * names->capacity : 8;
        struct res_name **grown = names->mem->resize(names->mem->ctx, names->by_number,
                                                     names->capacity * sizeof(struct res_name *),
                                                     capacity * sizeof(struct res_name *));
        if (!grown) {
            return ST_OUT_OF_MEMORY;
        }
        names->by_number = grown;
        names->capacity = capacity;
    }
    struct res_name *name = mem_alloc(names->mem, sizeof(*name));
    if (!name) {
        return ST_OUT_OF_MEMORY;
    }
    name->number = names->count;
    name->length = (uint32_t)length;
    memcpy(name->text, text, length);
    name->text[length] = '\0';
    if (map_insert(&names->map, &name->link, hash) != ST_OK) {
        mem_free(names->mem, name, sizeof(*name));
        return ST_OUT_OF_MEMORY;
    }
    names->by_number[names->count++] = name;
    *out = name->number;
    return ST_OK;
}

const char *
res_names_text(const struct res_names *names, uint32_t number)
{
    ASSERT(number < names->count);
    return names->by_number[number]->text;
}

bool
res_amount_from_double(double value, struct res_amount *out)
{
    if (!(value >= 0.0) || value * RES_UNIT > (double)RES_AMOUNT_MAX) {
        return false;
    }
    const double scaled = value * RES_UNIT;
    const double whole = nearbyint(scaled);
    /* Doubles carry 53 bits: the tolerance grows with the value. */
    if (fabs(scaled - whole) > 1e-6 + fabs(scaled) * 1e-12) {
        return false;
    }
    out->v = (int64_t)whole;
    return true;
}

double
res_amount_to_double(struct res_amount amount)
{
    return (double)amount.v / RES_UNIT;
}

void
res_set_init(struct res_set *set)
{
    set->count = 0;
}

static uint32_t
position(const struct res_set *set, uint32_t name)
{
    uint32_t i = 0;
    while (i < set->count && set->items[i].name < name) {
        i++;
    }
    return i;
}

struct res_amount
res_set_get(const struct res_set *set, uint32_t name)
{
    const uint32_t i = position(set, name);
    if (i < set->count && set->items[i].name == name) {
        return set->items[i].amount;
    }
    return (struct res_amount){ 0 };
}

int
res_set_put(struct res_set *set, uint32_t name, struct res_amount amount)
{
    const uint32_t i = position(set, name);
    const bool present = i < set->count && set->items[i].name == name;
    if (amount.v == 0) {
        if (present) {
            set->count--;
            memmove(&set->items[i], &set->items[i + 1], (set->count - i) * sizeof(struct res_item));
        }
        return ST_OK;
    }
    if (!present) {
        if (set->count == RES_SET_MAX) {
            return st_fail(ST_LIMIT, "more than %d kinds of resource in one set", RES_SET_MAX);
        }
        memmove(&set->items[i + 1], &set->items[i], (set->count - i) * sizeof(struct res_item));
        set->count++;
    }
    set->items[i] = (struct res_item){ .name = name, .amount = amount };
    return ST_OK;
}

bool
res_set_equal(const struct res_set *a, const struct res_set *b)
{
    if (a->count != b->count) {
        return false;
    }
    for (uint32_t i = 0; i < a->count; i++) {
        if (a->items[i].name != b->items[i].name || a->items[i].amount.v != b->items[i].amount.v) {
            return false;
        }
    }
    return true;
}

uint64_t
res_set_hash(const struct res_set *set)
{
    uint64_t h = set->count;
    for (uint32_t i = 0; i < set->count; i++) {
        h = id_mix64(h ^ set->items[i].name) + (uint64_t)set->items[i].amount.v;
    }
    return id_mix64(h);
}

bool
res_set_fits(const struct res_set *have, const struct res_set *want)
{
    for (uint32_t i = 0; i < want->count; i++) {
        if (res_set_get(have, want->items[i].name).v < want->items[i].amount.v) {
            return false;
        }
    }
    return true;
}

static void
change(struct res_set *have, const struct res_set *by, int64_t sign)
{
    for (uint32_t i = 0; i < by->count; i++) {
        const uint32_t at = position(have, by->items[i].name);
        ASSERT(at < have->count && have->items[at].name == by->items[i].name);
        have->items[at].amount.v += sign * by->items[i].amount.v;
    }
}

void
res_set_subtract(struct res_set *have, const struct res_set *want)
{
    change(have, want, -1);
}

void
res_set_add(struct res_set *have, const struct res_set *back)
{
    change(have, back, 1);
}
