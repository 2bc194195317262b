/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The input of a fuzz target as a stream of numbers and byte strings, and one framed connection fed
 * from it. An input that ends gives zeros and empty strings from there on.
 */
#ifndef RAY_TESTS_FUZZ_INPUT_H
#define RAY_TESTS_FUZZ_INPUT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct fuzz_input {
    const uint8_t *at;
    size_t left;
};

static inline const uint8_t *
fuzz_take(struct fuzz_input *in, size_t want, size_t *got)
{
    const uint8_t *from = in->at;
    *got = want < in->left ? want : in->left;
    in->at += *got;
    in->left -= *got;
    return from;
}

static inline uint64_t
fuzz_number(struct fuzz_input *in, size_t bytes)
{
    size_t got = 0;
    uint64_t number = 0;
    const uint8_t *from = fuzz_take(in, bytes, &got);
    if (got > 0) {
        memcpy(&number, from, got);
    }
    return number;
}

/* A byte string with its 16-bit length before it. */
static inline const uint8_t *
fuzz_string(struct fuzz_input *in, size_t *size)
{
    return fuzz_take(in, (size_t)fuzz_number(in, 2), size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
