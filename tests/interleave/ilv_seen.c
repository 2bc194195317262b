/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The states that the checker has seen: open addressing over 128-bit hashes of their saved bytes.
 * Two different states with one hash would hide a part of the search; for ten million states the
 * chance is below one in 10^24. With each state goes the number of paths from it to an end.
 */
#include "ilv_priv.h"

#include <stdlib.h>

static struct {
    struct slot {
        uint64_t hash[2];
        uint64_t number; /* plus one; 0 is an empty slot */
    } * slots;
    uint64_t mask, count;
    double *paths;
    uint64_t paths_cap;
} seen;

void
ilv_seen_reset(void)
{
    free(seen.slots);
    free(seen.paths);
    memset(&seen, 0, sizeof seen);
}

uint64_t
ilv_seen_count(void)
{
    return seen.count;
}

double *
ilv_seen_paths(uint64_t number)
{
    return &seen.paths[number];
}

static uint64_t
mixed(uint64_t a, uint64_t b)
{
    const unsigned __int128 product = (unsigned __int128)a * b;

    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static void
hash_state(const struct ilv_buf *buf, uint64_t hash[2])
{
    uint64_t a = UINT64_C(0x9e3779b97f4a7c15) ^ buf->len;
    uint64_t b = UINT64_C(0xd1b54a32d192ed03);

    for (size_t i = 0; i < buf->len; i += 8) {
        uint64_t word;

        memcpy(&word, buf->bytes + i, sizeof word);
        a = mixed(a ^ word, UINT64_C(0xa0761d6478bd642f)) + i;
        b = mixed(b + word, UINT64_C(0xe7037ed1a0b428db)) ^ (b << 7 | b >> 57);
    }
    hash[0] = a;
    hash[1] = b;
}

static void
seen_grow(void)
{
    const uint64_t size = seen.mask ? 2 * (seen.mask + 1) : 1u << 16;
    struct slot *old = seen.slots;
    const uint64_t old_size = seen.mask ? seen.mask + 1 : 0;

    seen.slots = ilv_checked(calloc(size, sizeof *seen.slots));
    seen.mask = size - 1;
    for (uint64_t i = 0; i < old_size; i++) {
        if (old[i].number) {
            uint64_t at = old[i].hash[0] & seen.mask;

            while (seen.slots[at].number) {
                at = (at + 1) & seen.mask;
            }
            seen.slots[at] = old[i];
        }
    }
    free(old);
}

uint64_t
ilv_seen_number(const struct ilv_buf *buf, bool *fresh)
{
    uint64_t hash[2];

    hash_state(buf, hash);
    if (2 * (seen.count + 1) > seen.mask) {
        seen_grow();
    }
    uint64_t at = hash[0] & seen.mask;

    for (; seen.slots[at].number; at = (at + 1) & seen.mask) {
        if (seen.slots[at].hash[0] == hash[0] && seen.slots[at].hash[1] == hash[1]) {
            *fresh = false;
            return seen.slots[at].number - 1;
        }
    }
    if (seen.count == seen.paths_cap) {
        seen.paths_cap = seen.paths_cap ? 2 * seen.paths_cap : 1u << 14;
        seen.paths = ilv_checked(realloc(seen.paths, seen.paths_cap * sizeof *seen.paths));
    }
    *fresh = true;
    seen.slots[at].hash[0] = hash[0];
    seen.slots[at].hash[1] = hash[1];
    seen.slots[at].number = ++seen.count;
    seen.paths[seen.count - 1] = 0;
    return seen.count - 1;
}
