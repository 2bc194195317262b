/* SPDX-License-Identifier: Apache-2.0 */
/* xoshiro256**, seeded through SplitMix64. See rand.h. */
#include "base/rand.h"

#include "base/assert.h"
#include "base/id.h"

void
rand_init(struct rand *r, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        seed += UINT64_C(0x9e3779b97f4a7c15);
        r->s[i] = id_mix64(seed);
    }
}

static uint64_t
rotate(uint64_t x, int k)
{
    return x << k | x >> (64 - k);
}

uint64_t
rand_next(struct rand *r)
{
    const uint64_t result = rotate(r->s[1] * 5, 7) * 9;
    const uint64_t t = r->s[1] << 17;
    r->s[2] ^= r->s[0];
    r->s[3] ^= r->s[1];
    r->s[1] ^= r->s[2];
    r->s[0] ^= r->s[3];
    r->s[2] ^= t;
    r->s[3] = rotate(r->s[3], 45);
    return result;
}

uint64_t
rand_below(struct rand *r, uint64_t n)
{
    ASSERT(n > 0);
    const uint64_t limit = UINT64_MAX - UINT64_MAX % n;
    uint64_t x;
    do {
        x = rand_next(r);
    } while (x >= limit);
    return x % n;
}
