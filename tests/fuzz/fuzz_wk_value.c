/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pieces of values, and the failures in them: what decodes can be read through the public
 * functions, and encodes to bytes that decode again.
 */
#include <stdlib.h>

#include "base/status.h"
#include "fuzz_input.h"
#include "worker/wk_value.h"

static size_t sum;

static void
read_value(ray_value *value)
{
    struct ray_failure failure;
    if (ray_value_failure(value, &failure) == RAY_OK) {
        sum += strlen(failure.text) + strlen(failure.function) + strlen(failure.node_ip) +
               strlen(failure.class_name);
        for (size_t i = 0; i < failure.data_size; i++) {
            sum += ((const uint8_t *)failure.data)[i];
        }
    } else if (!ray_value_is_shared(value) && value->kind == WK_VALUE_INLINE) {
        for (size_t i = 0; i < ray_value_size(value); i++) {
            sum += ((const uint8_t *)ray_value_data(value))[i];
        }
    }
    for (size_t i = 0; i < ray_value_ref_count(value); i++) {
        struct own_item item;
        memcpy(&item, &value->items[i], sizeof(item));
        sum += ((const uint8_t *)&item)[0];
    }
}

static void
check_again(const ray_value *value)
{
    const size_t bytes = wk_value_piece_bytes(value);
    uint8_t *out = calloc(1, bytes);
    const uint8_t *at = out;
    struct wk_piece piece;
    if (!out) {
        return;
    }
    ASSERT(wk_value_encode(value, out) == bytes);
    ASSERT(wk_piece_decode(&at, out + bytes, &piece) == ST_OK && at == out + bytes);
    struct ray_value *again = wk_value_of_piece(&piece);
    ASSERT(again && again->kind == value->kind && again->size == value->size);
    ray_value_release(again);
    free(out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *room;
    struct ray_value *block = wk_value_create(WK_VALUE_INLINE, size, 0, &room, NULL);
    if (!block) {
        return 0;
    }
    if (size > 0) {
        memcpy(room, data, size);
    }
    const uint8_t *at = room;
    struct wk_piece piece;
    while (wk_piece_decode(&at, room + size, &piece) == ST_OK) {
        struct ray_value embedded;
        if (wk_value_embed(&piece, block, &embedded)) {
            read_value(&embedded);
            ray_value_release(&embedded);
        }
        struct ray_value *value = wk_value_of_piece(&piece);
        if (value) {
            read_value(value);
            check_again(value);
            ray_value_release(value);
        }
    }
    ray_value_release(block);
    return 0;
}
