/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of src/store/store_space: the allocator of the data file, against a naive map of bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rand.h"
#include "base/status.h"
#include "store/store_layout.h"
#include "store/store_space.h"

enum { UNITS = 4096, LIVE_MAX = 400 };
#define CAPACITY ((uint64_t)UNITS * STORE_ALIGN)

static int64_t live_bytes;

static void *
counting_resize(void *ctx, void *old, size_t old_size, size_t new_size)
{
    (void)ctx;
    live_bytes += (int64_t)new_size - (int64_t)old_size;
    if (new_size == 0) {
        free(old);
        return NULL;
    }
    return realloc(old, new_size);
}

static const struct mem counting = { .resize = counting_resize };

static uint64_t warm_below;

static bool
is_warm(const void *ctx, uint64_t offset)
{
    (void)ctx;
    return offset < warm_below;
}

/* Whether any free run of the naive map holds an aligned part. */
static bool
naive_fits(const uint8_t *map, uint64_t size, uint64_t align)
{
    const uint64_t n = size / STORE_ALIGN;
    for (uint64_t at = 0; at + n <= UNITS; at += align / STORE_ALIGN) {
        uint64_t i = 0;
        while (i < n && !map[at + i]) {
            i++;
        }
        if (i == n) {
            return true;
        }
    }
    return false;
}

static void
random_run(uint64_t seed)
{
    static uint8_t map[UNITS];
    struct store_span *live[LIVE_MAX];
    unsigned count = 0;
    struct store_space space;
    struct rand r;
    memset(map, 0, sizeof(map));
    rand_init(&r, seed);
    assert_int_equal(store_space_init(&space, &counting, CAPACITY, is_warm, NULL), ST_OK);
    for (unsigned step = 0; step < 3000; step++) {
        warm_below = rand_below(&r, CAPACITY);
        const uint64_t what = rand_below(&r, 100);
        if (what < 55 && count < LIVE_MAX) {
            const uint64_t size = STORE_ALIGN * (1 + rand_below(&r, what < 5 ? 800 : 40));
            const uint64_t align = (uint64_t)STORE_ALIGN << rand_below(&r, 7);
            struct store_span *span = store_space_take(&space, size, align);
            assert_int_equal(span != NULL, naive_fits(map, size, align));
            if (!span) {
                continue;
            }
            assert_int_equal(span->size, size);
            assert_int_equal(span->offset % align, 0);
            for (uint64_t i = 0; i < size / STORE_ALIGN; i++) {
                assert_int_equal(map[span->offset / STORE_ALIGN + i], 0);
                map[span->offset / STORE_ALIGN + i] = 1;
            }
            live[count++] = span;
        } else if (what < 60 && count > 0 && count < LIVE_MAX) {
            struct store_span *span = live[rand_below(&r, count)];
            if (span->size > STORE_ALIGN) {
                const uint64_t left =
                    STORE_ALIGN * (1 + rand_below(&r, span->size / STORE_ALIGN - 1));
                live[count++] = store_space_split(&space, span, span->offset + left);
            }
        } else if (count > 0) {
            const uint64_t which = rand_below(&r, count);
            memset(map + live[which]->offset / STORE_ALIGN, 0, live[which]->size / STORE_ALIGN);
            store_space_give(&space, live[which]);
            live[which] = live[--count];
        }
        store_space_verify(&space);
    }
    while (count > 0) {
        store_space_give(&space, live[--count]);
    }
    store_space_verify(&space);
    assert_int_equal(space.used, 0);
    assert_int_equal(store_space_largest(&space), CAPACITY);
    store_space_fini(&space);
    assert_int_equal(live_bytes, 0);
}

static void
test_agrees_with_a_naive_map(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        print_message("seed %llu\n", (unsigned long long)seed);
        random_run(seed);
    }
}

static void
test_warm_memory_is_used_again(void **state)
{
    (void)state;
    struct store_space space;
    warm_below = CAPACITY / 2;
    assert_int_equal(store_space_init(&space, &counting, CAPACITY, is_warm, NULL), ST_OK);
    /* The most recently freed of equal ones comes back. */
    struct store_span *spans[5];
    for (unsigned i = 0; i < 5; i++) {
        spans[i] = store_space_take(&space, 4096, STORE_ALIGN);
        assert_int_equal(spans[i]->offset, i * 4096u);
    }
    store_space_give(&space, spans[1]);
    store_space_give(&space, spans[3]);
    struct store_span *again = store_space_take(&space, 4096, STORE_ALIGN);
    assert_int_equal(again->offset, 3 * 4096);
    store_space_give(&space, again);
    store_space_give(&space, spans[0]);
    store_space_give(&space, spans[2]);
    store_space_give(&space, spans[4]);
    store_space_verify(&space);
    store_space_fini(&space);

    /* A span that is warm at its end is cut there. */
    assert_int_equal(store_space_init(&space, &counting, CAPACITY, is_warm, NULL), ST_OK);
    warm_below = CAPACITY;
    struct store_span *first = store_space_take(&space, 4096, STORE_ALIGN);
    warm_below = 0;
    struct store_span *cold = store_space_take(&space, 4096, STORE_ALIGN);
    assert_int_equal(cold->offset, 4096); /* cold everywhere: from the front */
    store_space_give(&space, first);
    store_space_give(&space, cold);
    store_space_fini(&space);
    assert_int_equal(live_bytes, 0);
}

static void
test_full_and_odd_requests(void **state)
{
    (void)state;
    struct store_space space;
    assert_int_equal(store_space_init(&space, &counting, CAPACITY, is_warm, NULL), ST_OK);
    assert_null(store_space_take(&space, CAPACITY + STORE_ALIGN, STORE_ALIGN));
    struct store_span *all = store_space_take(&space, CAPACITY, 4096);
    assert_non_null(all);
    assert_null(store_space_take(&space, STORE_ALIGN, STORE_ALIGN));
    assert_int_equal(store_space_largest(&space), 0);
    struct store_span *right = store_space_split(&space, all, STORE_ALIGN);
    store_space_give(&space, all);
    assert_null(store_space_take(&space, STORE_ALIGN * 2, STORE_ALIGN));
    struct store_span *one = store_space_take(&space, STORE_ALIGN, 4096);
    assert_int_equal(one->offset, 0);
    store_space_give(&space, one);
    store_space_give(&space, right);
    store_space_verify(&space);
    store_space_fini(&space);
    assert_int_equal(live_bytes, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agrees_with_a_naive_map),
        cmocka_unit_test(test_warm_memory_is_used_again),
        cmocka_unit_test(test_full_and_odd_requests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
