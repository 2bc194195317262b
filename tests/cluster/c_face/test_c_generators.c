/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams in C: items and their order, ends, failures, back-pressure, deaths, readers that go, and
 * returns that refer to the items.
 */
#include "c_face.h"

#include <signal.h>

static int
yield_number(ray_task *task, uint64_t number, bool *full)
{
    const struct ray_buf buf = { &number, sizeof(number) };
    const struct ray_payload payload = { .bufs = &buf, .buf_count = 1 };
    return ray_task_yield(task, &payload, full);
}

static int
count_up(ray_task *task)
{
    const uint64_t count = c_face_arg(task);
    for (uint64_t i = 0; i < count; i++) {
        bool full;
        int status = yield_number(task, i, &full);
        while (status == RAY_OK && full) {
            status = ray_task_yield_wait(task);
            full = status == RAY_E_INTERRUPTED;
            status = full ? RAY_OK : status;
        }
        if (status != RAY_OK) {
            return status == RAY_E_CLOSED ? RAY_OK : status;
        }
    }
    return RAY_OK;
}
RAY_REMOTE(count_up);

static int
fail_late(ray_task *task)
{
    bool full;
    (void)yield_number(task, 7, &full);
    return ray_task_fail(task, RAY_E_TASK_FAILED, false, "no more", NULL);
}
RAY_REMOTE(fail_late);

/* Dies at its third item, unless it has died before. */
static int
die_once(ray_task *task)
{
    for (uint64_t i = 0; i < 5; i++) {
        bool full;
        if (i == 3 && ray_task_attempt(task) == 0) {
            (void)kill(getpid(), SIGKILL);
        }
        const int status = yield_number(task, i, &full);
        if (status != RAY_OK) {
            return status;
        }
    }
    return RAY_OK;
}
RAY_REMOTE(die_once);

/* Yields until nobody reads, then says how much that was, at the gate that it is told. */
static int
endless(ray_task *task)
{
    char path[128] = "";
    (void)ray_task_arg_copy(task, 0, path, sizeof(path) - 1);
    bool full;
    int status;
    do {
        status = yield_number(task, 1, &full);
    } while (status == RAY_OK);
    c_face_gate_tell(path, status == RAY_E_CLOSED ? ray_task_yielded(task) : 0);
    return RAY_OK;
}
RAY_REMOTE(endless);

/* Its return refers to its items. */
static int
gather(ray_task *task)
{
    const int status = count_up(task);
    ray_ref *refs[8];
    const uint32_t count = ray_task_yielded(task);
    if (status != RAY_OK || count > 8) {
        return RAY_E_LIMIT;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (ray_task_yielded_ref(task, i, &refs[i]) != RAY_OK) {
            return RAY_E_SYSTEM;
        }
    }
    const struct ray_payload payload = { .refs = refs, .ref_count = count };
    const int done = ray_task_return(task, 0, &payload);
    for (uint32_t i = 0; i < count; i++) {
        ray_ref_release(refs[i]);
    }
    return done;
}
RAY_REMOTE(gather);

static int
generator_actor(ray_task *task)
{
    (void)task;
    return RAY_OK;
}
RAY_REMOTE(generator_actor);

static ray_options *
streaming(uint32_t limit, int32_t retries)
{
    const struct ray_resource cpu = { "CPU", 1.0 };
    struct ray_task_options options;
    ray_task_options_default(&options);
    options.resources = &cpu;
    options.resource_count = 1;
    options.generator = RAY_GENERATOR_STREAMING;
    options.generator_backpressure = limit;
    options.max_retries = retries;
    return c_face_options(&options);
}

static ray_stream *
submit(ray_function *function, uint32_t limit, int32_t retries, const void *arg, size_t size)
{
    ray_options *options = streaming(limit, retries);
    const struct ray_buf buf = { arg, size };
    const struct ray_arg args = { .value = { .bufs = &buf, .buf_count = 1 } };
    ray_stream *stream = NULL;
    MUST(ray_stream_submit(function, options, &args, 1, &stream));
    ray_options_release(options);
    return stream;
}

static void
expect_numbers(ray_stream *stream, uint64_t count)
{
    ray_ref *ref = NULL;
    for (uint64_t i = 0; i < count; i++) {
        MUST(ray_stream_next(stream, -1, &ref));
        assert_int_equal(c_face_number(ref), i);
    }
}

static void
expect_end(ray_stream *stream)
{
    ray_ref *ref = NULL;
    EXPECT(RAY_E_END_OF_STREAM, ray_stream_next(stream, -1, &ref));
    assert_null(ref);
    assert_int_equal(ray_stream_look(stream), RAY_STREAM_OVER);
}

static void
items_come_in_order(void **state)
{
    (void)state;
    for (uint32_t limit = 0; limit < 4; limit++) {
        const uint64_t count = 500;
        ray_stream *stream = submit(ray_remote_count_up, limit, 0, &count, sizeof(count));
        expect_numbers(stream, count);
        expect_end(stream);
        ray_value *value = NULL;
        MUST(ray_get(ray_stream_completed(stream), -1, &value));
        ray_value_release(value);
        ray_stream_release(stream);
    }
}

static void
actors_yield_too(void **state)
{
    const uint64_t count = 50;
    const struct ray_buf buf = { &count, sizeof(count) };
    const struct ray_arg arg = { .value = { .bufs = &buf, .buf_count = 1 } };
    ray_options *options = streaming(2, 0);
    ray_actor *actor = NULL;
    ray_stream *stream = NULL;
    (void)state;
    MUST(ray_actor_create(ray_remote_generator_actor, NULL, NULL, 0, &actor));
    MUST(ray_stream_call(actor, ray_remote_count_up, options, &arg, 1, &stream));
    expect_numbers(stream, count);
    expect_end(stream);
    ray_stream_release(stream);
    ray_options_release(options);
    ray_actor_release(actor);
}

static void
a_failure_is_the_last_item(void **state)
{
    const uint64_t none = 0;
    ray_ref *ref = NULL;
    (void)state;
    ray_stream *stream = submit(ray_remote_fail_late, 0, 0, &none, sizeof(none));
    MUST(ray_stream_next(stream, -1, &ref));
    assert_int_equal(c_face_number(ref), 7);
    MUST(ray_stream_next(stream, -1, &ref));
    assert_non_null(strstr(c_face_failure(RAY_E_TASK_FAILED, ref), "no more"));
    expect_end(stream);
    ray_stream_release(stream);
}

static void
a_death_changes_nothing(void **state)
{
    const uint64_t none = 0;
    ray_ref *ref = NULL;
    (void)state;
    ray_stream *stream = submit(ray_remote_die_once, 0, 1, &none, sizeof(none));
    expect_numbers(stream, 5);
    expect_end(stream);
    ray_stream_release(stream);

    stream = submit(ray_remote_die_once, 0, 0, &none, sizeof(none));
    int status = RAY_OK;
    uint64_t number = 0;
    for (; status == RAY_OK; number++) { /* those that it had sent, then the failure */
        ray_value *value = NULL;
        MUST(ray_stream_next(stream, -1, &ref));
        status = ray_get(ref, -1, &value);
        ray_value_release(value);
        ray_ref_release(ref);
    }
    assert_int_equal(status, RAY_E_WORKER_CRASHED);
    assert_true(number <= 4);
    expect_end(stream);
    ray_stream_release(stream);
}

static void
who_waits_is_told(void **state)
{
    const uint64_t count = 1;
    ray_ref *ref = NULL;
    bool ready = false;
    (void)state;
    ray_stream *stream = submit(ray_remote_count_up, 0, 0, &count, sizeof(count));
    MUST(ray_stream_peek(stream, &ref));
    MUST(ray_wait(&ref, 1, 1, -1, true, &ready));
    assert_true(ready);
    assert_int_equal(ray_stream_look(stream), RAY_STREAM_READY);
    ray_ref_release(ref);
    expect_numbers(stream, 1);
    MUST(ray_stream_peek(stream, &ref));
    MUST(ray_wait(&ref, 1, 1, -1, true, &ready)); /* the end */
    ray_ref_release(ref);
    expect_end(stream);
    ray_stream_release(stream);
}

static void
an_endless_one_ends_with_its_reader(void **state)
{
    char path[128];
    ray_ref *ref = NULL;
    (void)state;
    c_face_gate_create("closed", path);
    ray_stream *stream = submit(ray_remote_endless, 0, 0, path, strlen(path) + 1);
    MUST(ray_stream_next(stream, -1, &ref));
    ray_ref_release(ref);
    ray_stream_release(stream);
    assert_true(c_face_gate_ask(path) >= 1);
}

static void
a_return_refers_to_the_items(void **state)
{
    struct ray_task_options plain;
    (void)state;
    ray_task_options_default(&plain);
    plain.generator = RAY_GENERATOR_DYNAMIC;
    ray_options *options = c_face_options(&plain);
    ray_ref *ref = c_face_call(ray_remote_gather, options, 5);
    ray_value *value = NULL;
    MUST(ray_get(ref, -1, &value));
    assert_int_equal(ray_value_ref_count(value), 5);
    ray_ref_release(ref);
    for (size_t i = 0; i < 5; i++) {
        MUST(ray_value_ref(value, i, &ref));
        assert_int_equal(c_face_number(ref), i);
    }
    ray_value_release(value);
    ray_options_release(options);
}

static void
wrong_uses_are_refused(void **state)
{
    const uint64_t count = 1;
    ray_ref *ref = NULL;
    ray_stream *stream = NULL;
    ray_options *options = streaming(0, 0);
    (void)state;
    EXPECT(RAY_E_INVALID_ARGUMENT, ray_task_submit(ray_remote_count_up, options, NULL, 0, &ref));
    EXPECT(RAY_E_INVALID_ARGUMENT, ray_stream_submit(ray_remote_count_up, NULL, NULL, 0, &stream));
    struct ray_task_options two;
    ray_options *none = NULL;
    ray_task_options_default(&two);
    two.num_returns = 2;
    two.generator = RAY_GENERATOR_STREAMING;
    EXPECT(RAY_E_INVALID_ARGUMENT, ray_options_create(&two, &none));
    /* A task that is no generator yields nothing. */
    (void)c_face_failure(RAY_E_INVALID_ARGUMENT, c_face_call(ray_remote_count_up, NULL, count));
    ray_options_release(options);
}

int
main(int argc, char **argv)
{
    c_face_main(argc, argv);
    const struct CMUnitTest tests[] = {
        C_FACE_TEST(items_come_in_order),
        C_FACE_TEST(actors_yield_too),
        C_FACE_TEST(a_failure_is_the_last_item),
        C_FACE_TEST(a_death_changes_nothing),
        C_FACE_TEST(who_waits_is_told),
        C_FACE_TEST(an_endless_one_ends_with_its_reader),
        C_FACE_TEST(a_return_refers_to_the_items),
        C_FACE_TEST(wrong_uses_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
