/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Resource amounts (fixed point, 1/10000) and sets of them.
 *
 * Names are interned to small numbers by a process-local `struct res_names`; CPU, GPU, memory and
 * object_store_memory have fixed numbers. A set is a small sorted vector, equal sets have equal
 * bytes in use, and the hash of a request is part of a scheduling key.
 */
#ifndef RAY_BASE_RES_H
#define RAY_BASE_RES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/map.h"
#include "base/mem.h"

enum {
    RES_UNIT = 10000,
    RES_SET_MAX = 24, /* kinds of resource in one set */
    RES_NAME_MAX = 128,
};
#define RES_AMOUNT_MAX (INT64_C(100000000000000) * RES_UNIT)

struct res_amount {
    int64_t v; /* in units of 1/10000; may be negative in an availability */
};

enum res_kind {
    RES_CPU = 0,
    RES_GPU = 1,
    RES_MEMORY = 2,
    RES_OBJECT_STORE_MEMORY = 3,
    RES_FIRST_CUSTOM = 4,
};

struct res_item {
    uint32_t name; /* interned */
    struct res_amount amount;
};

struct res_set {
    uint32_t count;
    struct res_item items[RES_SET_MAX]; /* by ascending name, no zero amounts in a request */
};

struct res_names {
    const struct mem *mem;
    struct map map;
    struct res_name **by_number;
    uint32_t count, capacity;
};

int res_names_init(struct res_names *names, const struct mem *mem) MUST_USE;
void res_names_fini(struct res_names *names);
/* The number of a name, made when new. Names are 1 to RES_NAME_MAX - 1 bytes. */
int res_names_intern(struct res_names *names, const char *text, size_t length, uint32_t *out)
    MUST_USE;
/* Borrowed, NUL terminated; `number` must have come from this table. */
const char *res_names_text(const struct res_names *names, uint32_t number);

/* The value nearest to `value`; false when it is negative, too large, not a number, or needs a
 * unit finer than 1/10000. */
bool res_amount_from_double(double value, struct res_amount *out);
double res_amount_to_double(struct res_amount amount);

void res_set_init(struct res_set *set);
/* Zero when absent. */
struct res_amount res_set_get(const struct res_set *set, uint32_t name);
/* Sets an amount; zero removes it. Fails with ST_LIMIT when the set is full. */
int res_set_put(struct res_set *set, uint32_t name, struct res_amount amount) MUST_USE;
bool res_set_equal(const struct res_set *a, const struct res_set *b);
uint64_t res_set_hash(const struct res_set *set);

/* Whether every item of `want` is within `have`. */
bool res_set_fits(const struct res_set *have, const struct res_set *want);
/* Every name of `want` must be in `have`; amounts may become negative. */
void res_set_subtract(struct res_set *have, const struct res_set *want);
void res_set_add(struct res_set *have, const struct res_set *back);

#endif
