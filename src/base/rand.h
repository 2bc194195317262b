/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small random generator with its state in a struct (xoshiro256**, Blackman and Vigna 2018), so
 * that a state machine or the simulator replays exactly from a seed. Not for secrets: those come
 * from os_random.
 */
#ifndef RAY_BASE_RAND_H
#define RAY_BASE_RAND_H

#include <stdint.h>

struct rand {
    uint64_t s[4];
};

void rand_init(struct rand *r, uint64_t seed);
uint64_t rand_next(struct rand *r);
/* Uniform in [0, n), n > 0. */
uint64_t rand_below(struct rand *r, uint64_t n);

#endif
