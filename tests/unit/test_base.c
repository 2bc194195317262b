/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of src/base: ids, status, containers, memory, resource sets, randomness. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/heap.h"
#include "base/id.h"
#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/pages.h"
#include "base/rand.h"
#include "base/res.h"
#include "base/status.h"
#include "base/step.h"
#include "base/str.h"

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

static void
test_ids_compose_and_parse(void **state)
{
    (void)state;
    const struct id_job job = id_job_from_int(7);
    assert_int_equal(id_job_to_int(&job), 7);
    const struct id_task driver = id_task_of_driver(&job);
    const struct id_job back = id_task_job(&driver);
    assert_true(ID_EQ(back, job));
    char hex[ID_HEX_MAX];
    assert_string_equal(ID_HEX(job, hex), "07000000");

    struct id_source source;
    id_source_init(&source, &driver, 0);
    const struct id_actor none = id_actor_nil_of(&job);
    const struct id_task child = id_source_child(&source, &none);
    const struct id_object ret = id_object_of_return(&child, 1);
    const struct id_task of = id_object_task(&ret);
    assert_true(ID_EQ(of, child));
    assert_int_equal(id_object_index(&ret), 1);
    struct id_object parsed;
    ID_HEX(ret, hex);
    assert_int_equal(strlen(hex), 56);
    assert_true(id_from_hex(hex, 56, parsed.b, sizeof(parsed.b)));
    assert_true(ID_EQ(parsed, ret));
    assert_false(id_from_hex("zz", 2, parsed.b, 1));
    assert_false(id_from_hex(hex, 55, parsed.b, sizeof(parsed.b)));
    assert_string_equal(hex + 16, "ffffffffffffffffffffffff0700000001000000");
}

static void
test_ids_differ_between_attempts(void **state)
{
    (void)state;
    const struct id_job job = id_job_from_int(1);
    const struct id_task driver = id_task_of_driver(&job);
    const struct id_actor none = id_actor_nil_of(&job);
    struct id_source first, second;
    id_source_init(&first, &driver, 0);
    id_source_init(&second, &driver, 1);
    for (int i = 0; i < 100; i++) {
        const struct id_task a = id_source_child(&first, &none);
        const struct id_task b = id_source_child(&second, &none);
        assert_false(ID_EQ(a, b));
        const struct id_object p = id_source_put(&first);
        const struct id_object q = id_source_put(&second);
        assert_false(ID_EQ(p, q));
        assert_true(id_object_index(&p) > ID_PUT_INDEX);
    }
}

static void
test_status_table(void **state)
{
    (void)state;
    assert_string_equal(st_info(ST_OK)->name, "OK");
    assert_string_equal(st_info(ST_WORKER_CRASHED)->python, "WorkerCrashedError");
    assert_string_equal(st_info(-9999)->name, "UNKNOWN");
    assert_int_equal(st_fail(ST_NOT_FOUND, "no actor named '%s'", "x"), ST_NOT_FOUND);
    assert_string_equal(st_last()->text, "no actor named 'x'");
    assert_int_equal(st_fail_errno(ST_SYSTEM, 2, "open f"), ST_SYSTEM);
    assert_string_equal(st_last()->text, "open f: No such file or directory");
}

static void
test_arena_and_slab_give_back(void **state)
{
    (void)state;
    live_bytes = 0;
    struct arena arena;
    arena_init(&arena, &counting);
    for (size_t i = 1; i < 3000; i += 7) {
        char *p = arena_alloc(&arena, i);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 16, 0);
        memset(p, 1, i);
    }
    arena_reset(&arena);
    assert_string_equal(arena_copy(&arena, "hello", 6), "hello");
    arena_fini(&arena);
    assert_int_equal(live_bytes, 0);

    struct slab slab;
    slab_init(&slab, &counting, 40);
    void *taken[4000];
    for (size_t i = 0; i < COUNT_OF(taken); i++) {
        taken[i] = slab_take(&slab);
        memset(taken[i], 2, 40);
    }
    for (size_t i = 0; i < COUNT_OF(taken); i++) {
        slab_give(&slab, taken[i]);
    }
    assert_ptr_equal(slab_take(&slab), taken[COUNT_OF(taken) - 1]);
    slab_fini(&slab);
    assert_int_equal(live_bytes, 0);
}

struct thing {
    struct map_link link;
    struct heap_node node;
    struct list list;
    uint64_t value;
};

static void
test_map_against_linear_search(void **state)
{
    (void)state;
    live_bytes = 0;
    struct map map;
    map_init(&map, &counting);
    static struct thing things[1000];
    for (size_t i = 0; i < 1000; i++) {
        things[i].value = i;
        assert_int_equal(map_insert(&map, &things[i].link, id_mix64(i / 2)), ST_OK);
    }
    for (size_t i = 0; i < 1000; i += 3) {
        map_remove(&map, &things[i].link);
    }
    for (size_t i = 0; i < 1000; i++) {
        bool found = false;
        struct map_link *l;
        MAP_FOR_HASH (l, &map, id_mix64(i / 2)) {
            found |= CONTAINER_OF(l, struct thing, link)->value == i;
        }
        assert_int_equal(found, i % 3 != 0);
    }
    struct map_walk walk;
    map_walk_init(&walk);
    size_t seen = 0;
    for (struct map_link *l; (l = map_walk_next(&map, &walk));) {
        map_remove(&map, l);
        seen++;
    }
    assert_int_equal(seen, 666);
    assert_int_equal(map.count, 0);
    map_fini(&map);
    assert_int_equal(live_bytes, 0);
}

/* Against an array, with numbers that come and go at random. */
static void
test_pages_against_an_array(void **state)
{
    (void)state;
    enum { NUMBERS = 5000 };
    static int things[NUMBERS];
    static void *there[NUMBERS];
    struct pages pages;
    struct rand rand;
    pages_init(&pages, &counting);
    rand_init(&rand, 7);
    for (uint32_t i = 0; i < 100000; i++) {
        const uint32_t number = (uint32_t)rand_below(&rand, NUMBERS);
        assert_ptr_equal(pages_get(&pages, number), there[number]);
        if (there[number]) {
            pages_clear(&pages, number);
            there[number] = NULL;
        } else {
            assert_int_equal(pages_set(&pages, number, &things[number]), ST_OK);
            there[number] = &things[number];
        }
    }
    assert_null(pages_get(&pages, UINT32_MAX));
    uint32_t number = 0, expected = 0;
    for (void *entry; (entry = pages_next(&pages, &number)); number++, expected++) {
        while (!there[expected]) {
            expected++;
        }
        assert_int_equal(number, expected);
        assert_ptr_equal(entry, there[expected]);
        pages_clear(&pages, number);
        there[expected] = NULL;
    }
    /* Numbers that only grow: what has gone takes a word a page. */
    const int64_t before = live_bytes;
    for (uint32_t i = NUMBERS; i < 1000000; i++) {
        assert_int_equal(pages_set(&pages, i, things), ST_OK);
        pages_clear(&pages, i);
    }
    assert_true(live_bytes - before <= 2 * (1000000 / PAGES_ENTRIES + 1) * 8);
    pages_fini(&pages);
    assert_int_equal(live_bytes, 0);
}

static void
test_heap_sorts_and_is_stable(void **state)
{
    (void)state;
    struct heap heap;
    heap_init(&heap, &counting);
    static struct thing things[500];
    struct rand r;
    rand_init(&r, 1);
    for (size_t i = 0; i < 500; i++) {
        things[i].value = i;
        things[i].node.slot = 0;
        assert_int_equal(heap_push(&heap, &things[i].node, rand_below(&r, 50)), ST_OK);
    }
    for (size_t i = 0; i < 500; i += 5) {
        heap_remove(&heap, &things[i].node);
        heap_remove(&heap, &things[i].node);
    }
    uint64_t last_when = 0, last_serial = 0;
    size_t count = 0;
    for (struct heap_node *n; (n = heap_first(&heap)); count++) {
        assert_true(n->when > last_when || (n->when == last_when && n->serial >= last_serial));
        last_when = n->when;
        last_serial = n->serial;
        heap_remove(&heap, n);
    }
    assert_int_equal(count, 400);
    heap_fini(&heap);
}

static void
test_lists(void **state)
{
    (void)state;
    struct list head, other;
    list_init(&head);
    list_init(&other);
    struct thing t[4];
    for (size_t i = 0; i < 4; i++) {
        t[i].value = i;
        list_push_back(i < 2 ? &head : &other, &t[i].list);
    }
    list_splice_back(&head, &other);
    assert_true(list_is_empty(&other));
    uint64_t expected = 0;
    LIST_FOR_SAFE (p, next, &head) {
        assert_int_equal(LIST_ENTRY(p, struct thing, list)->value, expected++);
        list_remove(p);
    }
    assert_int_equal(expected, 4);
    assert_null(list_pop_front(&head));
}

static void
test_resources(void **state)
{
    (void)state;
    live_bytes = 0;
    struct res_names names;
    assert_int_equal(res_names_init(&names, &counting), ST_OK);
    uint32_t custom, again;
    assert_int_equal(res_names_intern(&names, "Custom", 6, &custom), ST_OK);
    assert_int_equal(res_names_intern(&names, "Custom", 6, &again), ST_OK);
    assert_int_equal(custom, RES_FIRST_CUSTOM);
    assert_int_equal(custom, again);
    assert_string_equal(res_names_text(&names, RES_MEMORY), "memory");
    assert_int_equal(res_names_intern(&names, "", 0, &again), ST_INVALID_ARGUMENT);

    struct res_amount a;
    assert_true(res_amount_from_double(0.0001, &a));
    assert_int_equal(a.v, 1);
    assert_false(res_amount_from_double(0.00015, &a));
    assert_false(res_amount_from_double(-1, &a));
    assert_true(res_amount_from_double(3.3, &a));
    assert_int_equal(a.v, 33000);

    struct res_set have, want;
    res_set_init(&have);
    res_set_init(&want);
    assert_int_equal(res_set_put(&have, custom, (struct res_amount){ 5 }), ST_OK);
    assert_int_equal(res_set_put(&have, RES_CPU, (struct res_amount){ 20000 }), ST_OK);
    assert_int_equal(res_set_put(&want, RES_CPU, (struct res_amount){ 10000 }), ST_OK);
    assert_true(res_set_fits(&have, &want));
    res_set_subtract(&have, &want);
    res_set_subtract(&have, &want);
    assert_false(res_set_fits(&have, &want));
    res_set_subtract(&have, &want);
    assert_int_equal(res_set_get(&have, RES_CPU).v, -10000);
    res_set_add(&have, &want);
    assert_true(res_set_equal(&want, &want));
    assert_false(res_set_equal(&want, &have));
    assert_int_equal(res_set_put(&want, RES_CPU, (struct res_amount){ 0 }), ST_OK);
    assert_int_equal(want.count, 0);
    res_names_fini(&names);
    assert_int_equal(live_bytes, 0);
}

static void
test_str_and_step(void **state)
{
    (void)state;
    live_bytes = 0;
    struct str s;
    str_init(&s, &counting);
    assert_string_equal(str_text(&s), "");
    for (int i = 0; i < 100; i++) {
        str_printf(&s, "%d,", i);
    }
    assert_int_equal(s.size, 290);
    assert_memory_equal(s.data, "0,1,2,3,", 8);
    const size_t size = s.size, capacity = s.capacity;
    str_shrink(&s, size - 1); /* less than what is in it */
    str_shrink(&s, capacity);
    assert_int_equal(s.capacity, capacity);
    str_shrink(&s, size);
    assert_int_equal(s.capacity, size);
    str_append(&s, "x", 1);
    assert_int_equal(s.size, size + 1);
    str_fini(&s);

    struct arena arena;
    arena_init(&arena, &counting);
    struct step_out v[2];
    struct step_outs outs = { .v = v, .capacity = 2, .arena = &arena };
    uint64_t *m = step_emit(&outs, 3, 9, sizeof(*m));
    assert_non_null(m);
    assert_int_equal(*m, 0);
    assert_null(step_emit(&outs, 4, 9, 0));
    assert_int_equal(outs.count, 2);
    arena_fini(&arena);
    assert_int_equal(live_bytes, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ids_compose_and_parse),
        cmocka_unit_test(test_ids_differ_between_attempts),
        cmocka_unit_test(test_status_table),
        cmocka_unit_test(test_arena_and_slab_give_back),
        cmocka_unit_test(test_map_against_linear_search),
        cmocka_unit_test(test_pages_against_an_array),
        cmocka_unit_test(test_heap_sorts_and_is_stable),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_resources),
        cmocka_unit_test(test_str_and_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
