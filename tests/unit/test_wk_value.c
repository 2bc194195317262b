/* SPDX-License-Identifier: Apache-2.0 */
/* Values, the pieces they travel in, and failure records. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "worker/wk_priv.h"

static struct own_item
item_of(uint8_t object, uint8_t owner)
{
    struct own_item item;
    memset(&item.object, object, sizeof(item.object));
    memset(&item.owner, owner, sizeof(item.owner));
    return item;
}

static struct ray_value *
make_inline(const char *text, uint32_t item_count)
{
    uint8_t *data;
    struct own_item *items;
    struct ray_value *v = wk_value_create(WK_VALUE_INLINE, strlen(text), item_count, &data, &items);
    assert_non_null(v);
    memcpy(data, text, strlen(text)); // NOLINT(bugprone-not-null-terminated-result): bytes
    for (uint32_t i = 0; i < item_count; i++) {
        items[i] = item_of((uint8_t)(i + 1), 9);
    }
    v->format = 7;
    return v;
}

static struct ray_value *
make_failure(void)
{
    const struct wk_failure failure = {
        .status = ST_TASK_FAILED,
        .pid = 42,
        .text = "what happened",
        .function = "f",
        .node_ip = "::1",
        .class_name = "C",
        .format = 3,
        .data = "bytes",
        .data_size = 5,
    };
    struct ray_value *v = wk_value_create_failure(&failure);
    assert_non_null(v);
    return v;
}

/* The value after a trip, from a buffer that is exactly as long as the piece. */
static struct ray_value *
travel(struct ray_value *value)
{
    const size_t size = wk_value_piece_bytes(value);
    uint8_t *bytes = malloc(size);
    assert_non_null(bytes);
    assert_int_equal(wk_value_encode(value, bytes), size);
    const uint8_t *at = bytes;
    struct wk_piece piece;
    assert_int_equal(wk_piece_decode(&at, bytes + size, &piece), ST_OK);
    assert_ptr_equal(at, bytes + size);
    struct ray_value *arrived = wk_value_of_piece(&piece);
    free(bytes);
    ray_value_release(value);
    return arrived;
}

static void
test_values_travel(void **state)
{
    (void)state;
    struct ray_value *v = travel(make_inline("hello", 3));
    assert_int_equal(ray_value_size(v), 5);
    assert_memory_equal(ray_value_data(v), "hello", 6); /* with the NUL behind */
    assert_int_equal(ray_value_format(v), 7);
    assert_int_equal(ray_value_ref_count(v), 3);
    assert_int_equal(v->items[2].object.b[0], 3);
    assert_int_equal(ray_value_status(v), ST_OK);
    ray_value_release(v);

    v = travel(make_inline("", 0));
    assert_int_equal(ray_value_size(v), 0);
    ray_value_release(v);
}

static void
test_hints_travel(void **state)
{
    (void)state;
    const struct store_hint hint = {
        .generation = 5, .offset = 64, .size = 1000, .slot = 3, .epoch = 1
    };
    const struct own_item item = item_of(4, 9);
    struct ray_value *v = travel(wk_value_create_hint(&hint, 2, &item, 1));
    assert_int_equal(v->kind, WK_VALUE_HINT);
    assert_memory_equal(&v->hint, &hint, sizeof(hint));
    assert_int_equal(v->size, 1000);
    assert_int_equal(wk_state_of(v), OWN_STORE);
    assert_int_equal(v->items[0].object.b[0], 4);
    ray_value_release(v);
}

static void
test_failures_travel(void **state)
{
    (void)state;
    struct ray_failure f = { .struct_size = sizeof(f) };
    struct ray_value *v = travel(make_failure());
    assert_int_equal(ray_value_status(v), ST_TASK_FAILED);
    assert_int_equal(ray_value_failure(v, &f), RAY_OK);
    assert_string_equal(f.text, "what happened");
    assert_string_equal(f.function, "f");
    assert_string_equal(f.node_ip, "::1");
    assert_string_equal(f.class_name, "C");
    assert_int_equal(f.pid, 42);
    assert_int_equal(f.data_size, 5);
    assert_memory_equal(f.data, "bytes", 5);
    assert_int_equal(f.actor_id[0], 0xff);
    ray_value_release(v);
}

/* Whatever is cut off, or one byte of it changed: refused or read, within its bounds. */
static void
test_a_damaged_piece_is_no_danger(void **state)
{
    (void)state;
    struct ray_value *v = make_failure();
    const size_t size = wk_value_piece_bytes(v);
    uint8_t *whole = malloc(size);
    assert_non_null(whole);
    (void)wk_value_encode(v, whole);
    ray_value_release(v);
    for (size_t n = 0; n < size; n++) {
        uint8_t *part = malloc(n ? n : 1);
        assert_non_null(part);
        memcpy(part, whole, n);
        const uint8_t *at = part;
        struct wk_piece piece;
        assert_int_equal(wk_piece_decode(&at, part + n, &piece), ST_PROTOCOL);
        free(part);
    }
    for (size_t n = 0; n < size; n++) {
        whole[n] ^= 0x80;
        const uint8_t *at = whole;
        struct wk_piece piece;
        if (wk_piece_decode(&at, whole + size, &piece) == ST_OK) {
            v = wk_value_of_piece(&piece);
            struct ray_failure f = { .struct_size = sizeof(f) };
            if (v && v->kind == WK_VALUE_ERROR) {
                assert_int_equal(ray_value_failure(v, &f), RAY_OK);
                assert_true(strlen(f.text) + strlen(f.class_name) < size);
                assert_true(ray_value_status(v) < 0);
            }
            ray_value_release(v);
        }
        whole[n] ^= 0x80;
    }
    free(whole);
}

/* Records embedded in the block that their base keeps: the last count frees it, whoever has it. */
static void
test_embedded_values_keep_their_block(void **state)
{
    (void)state;
    struct ray_value *source = make_inline("argument", 1);
    const size_t size = wk_value_piece_bytes(source), records = 2 * sizeof(struct ray_value);
    uint8_t *data;
    struct ray_value *block = wk_value_create(WK_VALUE_INLINE, records + size, 0, &data, NULL);
    assert_non_null(block);
    (void)wk_value_encode(source, data + records);
    ray_value_release(source);
    const uint8_t *at = data + records;
    struct wk_piece piece;
    assert_int_equal(wk_piece_decode(&at, data + records + size, &piece), ST_OK);
    struct ray_value *args = (struct ray_value *)(void *)data;
    assert_true(wk_value_embed(&piece, block, &args[0]));
    assert_true(wk_value_embed(&piece, block, &args[1]));
    struct ray_value *kept = ray_value_retain(&args[1]);
    ray_value_release(&args[0]);
    ray_value_release(&args[1]);
    ray_value_release(block);
    assert_memory_equal(ray_value_data(kept), "argument", 8);
    ray_value_release(kept);
}

static void
test_actors_are_known_by_their_id(void **state)
{
    (void)state;
    const struct id_job job = id_job_from_int(1);
    const struct id_task driver = id_task_of_driver(&job);
    struct id_source source;
    id_source_init(&source, &driver, 0);
    const struct id_actor actor = id_source_actor(&source, &job);
    const struct id_task creation = id_task_of_actor_creation(&actor);
    const struct id_object handle = id_object_of_return(&creation, 1);
    assert_true(wk_id_is_actor(&handle));
    const struct id_object put = id_source_put(&source);
    assert_false(wk_id_is_actor(&put));
    id_source_init(&source, &creation, 0);
    const struct id_object inner = id_source_put(&source);
    assert_false(wk_id_is_actor(&inner));

    const struct id_actor other = id_source_actor(&source, &job);
    const struct id_task other_creation = id_task_of_actor_creation(&other);
    const struct id_object other_handle = id_object_of_return(&other_creation, 1);
    assert_true(id_object_hash(&handle) != id_object_hash(&other_handle));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_travel),
        cmocka_unit_test(test_hints_travel),
        cmocka_unit_test(test_failures_travel),
        cmocka_unit_test(test_a_damaged_piece_is_no_danger),
        cmocka_unit_test(test_embedded_values_keep_their_block),
        cmocka_unit_test(test_actors_are_known_by_their_id),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
