/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects from C: put, get and wait, small and large, references inside of values, and what calls
 * say that can't be served.
 */
#include "c_face.h"

#include <pthread.h>
#include <sys/wait.h>

enum { MEGABYTE = 1 << 20, THREADS = 4 };

static uint64_t
checksum(const uint8_t *bytes, size_t size)
{
    uint64_t sum = size;
    for (size_t i = 0; i < size; i++) {
        sum = sum * 31 + bytes[i];
    }
    return sum;
}

static uint8_t *
make_bytes(size_t size, uint32_t seed)
{
    uint8_t *bytes = malloc(size + 1);
    for (size_t i = 0; bytes && i < size; i++) {
        seed = seed * 1664525u + 1013904223u;
        bytes[i] = (uint8_t)(seed >> 24);
    }
    return bytes;
}

/* The checksum of its argument. */
static int
check_bytes(ray_task *task)
{
    const ray_value *value = ray_task_arg(task, 0);
    if (!value || ray_value_status(value) != RAY_OK) {
        return RAY_E_INVALID_ARGUMENT;
    }
    return c_face_return(task, checksum(ray_value_data(value), ray_value_size(value)));
}
RAY_REMOTE(check_bytes);

/* As many bytes as it is told. */
static int
give_bytes(ray_task *task)
{
    const size_t size = c_face_arg(task);
    uint8_t *bytes = make_bytes(size, 7);
    const int status = ray_task_return_bytes(task, 0, bytes, size);
    free(bytes);
    return status;
}
RAY_REMOTE(give_bytes);

static int
square(ray_task *task)
{
    const uint64_t x = c_face_arg(task);
    return c_face_return(task, x * x);
}
RAY_REMOTE(square);

/* Gets the references inside its argument, and adds up their numbers. */
static int
sum_inside(ray_task *task)
{
    ray_value *value = ray_task_arg(task, 0);
    uint64_t total = 0;
    for (size_t i = 0; i < ray_value_ref_count(value); i++) {
        ray_ref *ref = NULL;
        uint64_t one = 0;
        int status = ray_value_ref(value, i, &ref);
        status = status ? status : ray_get_bytes(ref, -1, &one, sizeof(one));
        ray_ref_release(ref);
        if (status != RAY_OK) {
            return status;
        }
        total += one;
    }
    return c_face_return(task, total);
}
RAY_REMOTE(sum_inside);

/* Puts a number and returns a value that holds its reference. */
static int
give_reference(ray_task *task)
{
    const uint64_t number = c_face_arg(task) + 1;
    const struct ray_buf buf = { &number, sizeof(number) };
    const struct ray_payload small = { .bufs = &buf, .buf_count = 1 };
    ray_ref *ref = NULL;
    int status = ray_put(&small, NULL, &ref);
    const struct ray_payload outer = { .refs = &ref, .ref_count = 1 };
    status = status ? status : ray_task_return(task, 0, &outer);
    ray_ref_release(ref);
    return status;
}
RAY_REMOTE(give_reference);

static ray_ref *
put_bytes(const void *bytes, size_t size)
{
    const struct ray_buf buf = { bytes, size };
    const struct ray_payload payload = { .bufs = &buf, .buf_count = 1, .format = 42 };
    ray_ref *ref = NULL;
    MUST(ray_put(&payload, NULL, &ref));
    return ref;
}

static void
put_and_get(size_t size, bool is_shared)
{
    uint8_t *bytes = make_bytes(size, (uint32_t)size);
    const uint64_t sum = checksum(bytes, size);
    ray_ref *ref = put_bytes(bytes, size);
    memset(bytes, 0, size); /* put has copied */
    free(bytes);
    ray_value *value = NULL;
    MUST(ray_get(ref, 0, &value));
    ray_ref_release(ref); /* the value keeps what it needs */
    assert_int_equal(ray_value_size(value), size);
    assert_int_equal(ray_value_format(value), 42);
    assert_int_equal(ray_value_is_shared(value), is_shared);
    assert_int_equal(checksum(ray_value_data(value), size), sum);
    ray_value_release(value);
}

static void
test_put_and_get(void **state)
{
    (void)state;
    put_and_get(0, false);
    put_and_get(1, false);
    put_and_get(RAY_INLINE_MAX, false);
    put_and_get(RAY_INLINE_MAX + 1, true);
    put_and_get(512 * 1024, true);
    put_and_get(MEGABYTE + 17, true);
    put_and_get(50 * MEGABYTE, true);
}

static void
test_payload_in_pieces(void **state)
{
    (void)state;
    const struct ray_buf bufs[3] = { { "ab", 2 }, { NULL, 0 }, { "cde", 3 } };
    const struct ray_payload payload = { .bufs = bufs, .buf_count = 3 };
    ray_ref *ref = NULL;
    char text[6] = "";
    MUST(ray_put(&payload, NULL, &ref));
    MUST(ray_get_bytes(ref, -1, text, 5));
    assert_string_equal(text, "abcde");
    ray_ref_release(ref);
}

static void
test_large_arguments_and_returns(void **state)
{
    (void)state;
    static const size_t sizes[] = { 200 * 1024, 3 * MEGABYTE, 20 * MEGABYTE };
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint8_t *bytes = make_bytes(sizes[i], 7);
        const uint64_t sum = checksum(bytes, sizes[i]);
        ray_ref *by_value = NULL, *by_reference = NULL;
        MUST(ray_call_bytes(ray_remote_check_bytes, bytes, sizes[i], &by_value));
        const struct ray_arg arg = { .ref = c_face_call(ray_remote_give_bytes, NULL, sizes[i]) };
        MUST(ray_task_submit(ray_remote_check_bytes, NULL, &arg, 1, &by_reference));
        free(bytes);
        assert_int_equal(c_face_number(by_value), sum);
        assert_int_equal(c_face_number(by_reference), sum);
        ray_value *value = NULL;
        MUST(ray_get(arg.ref, -1, &value));
        assert_true(ray_value_is_shared(value));
        assert_int_equal(checksum(ray_value_data(value), ray_value_size(value)), sum);
        ray_value_release(value);
        ray_ref_release(arg.ref);
    }
}

/* Forty times a fifth of the store: it works only if memory comes back. */
static void
test_memory_is_given_back(void **state)
{
    (void)state;
    const size_t size = 13 * MEGABYTE;
    uint8_t *bytes = make_bytes(size, 1);
    for (int i = 0; i < 20; i++) {
        ray_ref_release(put_bytes(bytes, size));
        ray_ref *ref = c_face_call(ray_remote_give_bytes, NULL, size);
        MUST(ray_wait_all(&ref, 1, -1, NULL));
        ray_ref_release(ref);
    }
    free(bytes);
}

static void
test_store_full(void **state)
{
    (void)state;
    const size_t size = 100 * MEGABYTE;
    uint8_t *bytes = make_bytes(size, 1);
    ray_ref *refs[2] = { put_bytes(bytes, size), put_bytes(bytes, size) };
    const struct ray_buf buf = { bytes, size };
    const struct ray_payload payload = { .bufs = &buf, .buf_count = 1 };
    ray_ref *third = NULL;
    EXPECT(RAY_E_STORE_FULL, ray_put(&payload, NULL, &third));
    assert_null(third);
    ray_ref_release(refs[0]);
    MUST(ray_put(&payload, NULL, &third));
    ray_ref_release(third);
    ray_ref_release(refs[1]);
    free(bytes);
}

static void
test_references_inside_an_argument(void **state)
{
    (void)state;
    enum { COUNT = 50 };
    ray_ref *inner[COUNT];
    for (uint64_t i = 0; i < COUNT; i++) {
        inner[i] = i % 2 ? c_face_call(ray_remote_square, NULL, i) : put_bytes(&i, sizeof(i));
    }
    const struct ray_arg arg = { .value = { .refs = inner, .ref_count = COUNT } };
    ray_ref *ref = NULL;
    MUST(ray_task_submit(ray_remote_sum_inside, NULL, &arg, 1, &ref));
    uint64_t wanted = 0;
    for (uint64_t i = 0; i < COUNT; i++) {
        ray_ref_release(inner[i]); /* the argument keeps them */
        wanted += i % 2 ? i * i : i;
    }
    assert_int_equal(c_face_number(ref), wanted);
}

static void
test_reference_inside_a_return(void **state)
{
    (void)state;
    ray_ref *outer = c_face_call(ray_remote_give_reference, NULL, 41);
    ray_value *value = NULL;
    ray_ref *inner = NULL;
    MUST(ray_get(outer, -1, &value));
    assert_int_equal(ray_value_ref_count(value), 1);
    MUST(ray_value_ref(value, 0, &inner));
    ray_value_release(value);
    ray_ref_release(outer);
    assert_int_equal(c_face_number(inner), 42);
}

static void
test_reference_inside_a_put(void **state)
{
    (void)state;
    const uint64_t number = 5;
    ray_ref *inner = put_bytes(&number, sizeof(number)), *outer = NULL, *again = NULL;
    const struct ray_payload payload = { .refs = &inner, .ref_count = 1 };
    MUST(ray_put(&payload, NULL, &outer));
    ray_ref_release(inner);
    const struct ray_arg arg = { .ref = outer };
    ray_ref *sum = NULL;
    MUST(ray_task_submit(ray_remote_sum_inside, NULL, &arg, 1, &sum));
    ray_value *value = NULL;
    MUST(ray_get(outer, -1, &value));
    MUST(ray_value_ref(value, 0, &again));
    ray_value_release(value);
    ray_ref_release(outer);
    assert_int_equal(c_face_number(again), 5);
    assert_int_equal(c_face_number(sum), 5);
}

static void
test_reference_by_its_address(void **state)
{
    (void)state;
    uint8_t id[RAY_OBJECT_ID_SIZE], owner[128];
    const uint64_t number = 77;
    ray_ref *ref = put_bytes(&number, sizeof(number)), *same = NULL;
    memcpy(id, ray_ref_id(ref), sizeof(id));
    const size_t size = ray_ref_owner_address(ref, owner, sizeof(owner));
    assert_in_range(size, 1, sizeof(owner));
    MUST(ray_ref_from_address(id, owner, size, &same));
    ray_ref_release(ref);
    assert_int_equal(c_face_number(same), 77);
}

/* ---- waiting ---- */

static void
test_wait_marks_the_first_ready(void **state)
{
    (void)state;
    ray_ref *refs[10];
    bool ready[10];
    for (uint64_t i = 0; i < 10; i++) {
        refs[i] = c_face_call(ray_remote_square, NULL, i);
    }
    MUST(ray_wait(refs, 10, 10, -1, true, ready));
    for (int i = 0; i < 10; i++) {
        assert_true(ready[i]);
        assert_true(ray_ref_is_ready(refs[i]));
    }
    MUST(ray_wait(refs, 10, 3, -1, true, ready));
    for (int i = 0; i < 10; i++) {
        assert_int_equal(ready[i], i < 3); /* not more than asked for, lowest first */
        ray_ref_release(refs[i]);
    }
}

static void
test_wait_returns_when_time_is_up(void **state)
{
    (void)state;
    const struct ray_resource much = { "CPU", 1000 };
    struct ray_task_options options;
    ray_task_options_default(&options);
    options.resources = &much;
    options.resource_count = 1;
    ray_options *impossible = c_face_options(&options);
    const uint64_t number = 1;
    ray_ref *refs[2] = { c_face_call(ray_remote_square, impossible, 1),
                         put_bytes(&number, sizeof(number)) };
    bool ready[2];
    MUST(ray_wait(refs, 2, 2, 20, true, ready));
    assert_false(ready[0]);
    assert_true(ready[1]);
    MUST(ray_wait(refs, 2, 1, 0, true, ready));
    assert_true(ready[1]);
    ray_value *value = NULL;
    EXPECT(RAY_E_TIMED_OUT, ray_get(refs[0], 0, &value));
    EXPECT(RAY_E_TIMED_OUT, ray_get(refs[0], 20, &value));
    EXPECT(RAY_E_TIMED_OUT, ray_ref_value(refs[0], &value));
    assert_null(value);
    ray_ref_release(refs[0]);
    ray_ref_release(refs[1]);
    ray_options_release(impossible);
}

struct meeting {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int ready, cancelled;
};

static void
on_ready(void *ctx, bool cancelled)
{
    struct meeting *meeting = ctx;
    (void)pthread_mutex_lock(&meeting->lock);
    meeting->ready += !cancelled;
    meeting->cancelled += cancelled;
    (void)pthread_cond_signal(&meeting->changed);
    (void)pthread_mutex_unlock(&meeting->lock);
}

static void
test_callback_when_ready(void **state)
{
    (void)state;
    struct meeting meeting = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0 };
    ray_ref *refs[3];
    for (uint64_t i = 0; i < 3; i++) {
        refs[i] = c_face_call(ray_remote_square, NULL, i);
        MUST(ray_ref_on_ready(refs[i], on_ready, &meeting));
    }
    (void)pthread_mutex_lock(&meeting.lock);
    while (meeting.ready < 3) { /* nobody waits in the library: it comes all the same */
        (void)pthread_cond_wait(&meeting.changed, &meeting.lock);
    }
    (void)pthread_mutex_unlock(&meeting.lock);
    assert_int_equal(meeting.cancelled, 0);
    for (int i = 0; i < 3; i++) {
        ray_ref_release(refs[i]);
    }
}

static void *
submit_and_get(void *arg)
{
    uint64_t wrong = 0;
    for (uint64_t i = 0; i < 500; i++) {
        ray_ref *ref = NULL;
        uint64_t number = 0;
        wrong += ray_call_bytes(ray_remote_square, &i, sizeof(i), &ref) != RAY_OK ||
                 ray_get_bytes(ref, -1, &number, sizeof(number)) != RAY_OK || number != i * i;
        ray_ref_release(ref);
    }
    *(uint64_t *)arg = wrong;
    return NULL;
}

static void
test_threads_share_the_library(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    uint64_t wrong[THREADS];
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, submit_and_get, &wrong[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(wrong[i], 0);
    }
}

/* ---- what can't be served ---- */

static void
test_calls_before_init(void **state)
{
    (void)state;
    ray_ref *ref = NULL;
    ray_actor *actor = NULL;
    struct ray_context context = { .struct_size = sizeof(context) };
    const struct ray_payload nothing = { 0 };
    assert_false(ray_is_initialized());
    EXPECT(RAY_E_NOT_INITIALIZED, ray_put(&nothing, NULL, &ref));
    EXPECT(RAY_E_NOT_INITIALIZED, ray_context_get(&context));
    EXPECT(RAY_E_NOT_INITIALIZED, ray_wait_all(NULL, 0, -1, NULL));
    EXPECT(RAY_E_NOT_INITIALIZED, ray_actor_current(&actor));
    assert_non_null(strstr(ray_error_text(), "init"));
    MUST(ray_shutdown());
}

static void
test_second_init(void **state)
{
    (void)state;
    EXPECT(RAY_E_ALREADY_INITIALIZED, ray_init(0, NULL, NULL));
    assert_true(ray_is_initialized());
    assert_int_equal(c_face_number(c_face_call(ray_remote_square, NULL, 3)), 9);
}

static void
test_init_after_shutdown(void **state)
{
    const uint64_t number = 9;
    for (int i = 0; i < 3; i++) {
        ray_ref *old = put_bytes(&number, sizeof(number));
        ray_value *value = NULL;
        MUST(ray_get(old, -1, &value));
        assert_int_equal(c_face_number(c_face_call(ray_remote_square, NULL, 4)), 16);
        (void)c_face_stop(state);
        assert_false(ray_is_initialized());
        assert_memory_equal(ray_value_data(value), &number, sizeof(number)); /* stays readable */
        ray_value_release(value);
        ray_ref_release(old); /* of a session that is over: harmless */
        (void)c_face_start(state);
    }
}

static void *
start_and_stop(void *arg)
{
    struct ray_init_options options;
    ray_init_options_default(&options);
    options.num_cpus = 1;
    options.num_gpus = 0;
    options.temp_dir = harness_dir();
    for (int i = 0; i < 5; i++) {
        const int status = ray_init(0, NULL, &options);
        const int end = ray_shutdown();
        *(int *)arg += (status != RAY_OK && status != RAY_E_ALREADY_INITIALIZED) || end != RAY_OK;
    }
    return NULL;
}

static void
test_threads_start_and_stop_it_at_once(void **state)
{
    pthread_t threads[THREADS];
    int wrong[THREADS] = { 0 };
    (void)c_face_stop(state);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, start_and_stop, &wrong[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(wrong[i], 0);
    }
    assert_false(ray_is_initialized());
    (void)c_face_start(state);
}

static void
test_references_of_a_session_that_is_over(void **state)
{
    const uint64_t number = 9;
    const struct ray_resource much = { "CPU", 1000 };
    struct ray_task_options options;
    ray_task_options_default(&options);
    options.resources = &much;
    options.resource_count = 1;
    ray_options *impossible = c_face_options(&options);
    ray_ref *refs[3] = { put_bytes(&number, sizeof(number)),
                         c_face_call(ray_remote_square, impossible, 1),
                         c_face_call(ray_remote_give_bytes, NULL, MEGABYTE) };
    MUST(ray_wait_all(&refs[2], 1, -1, NULL));
    (void)c_face_stop(state);
    (void)c_face_start(state);
    for (int i = 0; i < 3; i++) {
        uint64_t got = 0;
        EXPECT(RAY_E_NOT_FOUND, ray_get_bytes(refs[i], -1, &got, sizeof(got)));
        const struct ray_arg arg = { .ref = refs[i] };
        ray_ref *ref = NULL;
        EXPECT(RAY_E_NOT_FOUND, ray_task_submit(ray_remote_check_bytes, NULL, &arg, 1, &ref));
        ray_ref_release(refs[i]);
    }
    assert_int_equal(c_face_number(c_face_call(ray_remote_square, NULL, 4)), 16);
    ray_options_release(impossible);
}

static void
test_value_outlives_its_runtime(void **state)
{
    uint8_t *bytes = make_bytes(2 * MEGABYTE, 3);
    ray_ref *ref = put_bytes(bytes, 2 * MEGABYTE);
    ray_value *value = NULL;
    MUST(ray_get(ref, -1, &value));
    (void)c_face_stop(state);
    assert_memory_equal(ray_value_data(value), bytes, 2 * MEGABYTE);
    ray_value_release(value);
    ray_ref_release(ref);
    free(bytes);
    (void)c_face_start(state);
}

static void
call_in_fork(void *arg)
{
    uint64_t number = 0;
    ray_ref *ref = NULL;
    const bool inert = ray_get_bytes(*(ray_ref **)arg, -1, &number, 8) == RAY_E_NOT_INITIALIZED &&
                       ray_call_bytes(ray_remote_square, &number, 8, &ref) == RAY_E_NOT_INITIALIZED;
    _exit(inert ? 0 : 1);
}

static void
test_child_of_a_fork_is_inert(void **state)
{
    (void)state;
    ray_ref *ref = c_face_call(ray_remote_square, NULL, 8);
    assert_int_equal(harness_child(call_in_fork, &ref), 0);
    assert_int_equal(c_face_number(ref), 64);
}

static void
test_bad_options(void **state)
{
    (void)state;
    const struct ray_resource wrong[] = { { "CPU", -1 }, { "CPU", 0.00001 }, { "", 1 } };
    struct ray_task_options options;
    ray_options *made = NULL;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        ray_task_options_default(&options);
        options.resources = &wrong[i];
        options.resource_count = 1;
        EXPECT(RAY_E_INVALID_ARGUMENT, ray_options_create(&options, &made));
        assert_null(made);
    }
    ray_task_options_default(&options);
    options.num_returns = -1;
    EXPECT(RAY_E_INVALID_ARGUMENT, ray_options_create(&options, &made));
}

static void
test_state_of_the_cluster(void **state)
{
    (void)state;
    static const char *const what[] = { "nodes", "cluster_resources", "available_resources" };
    for (size_t i = 0; i < sizeof(what) / sizeof(what[0]); i++) {
        char *json = NULL;
        MUST(ray_state_json(what[i], &json));
        assert_non_null(strchr(json, i == 0 ? '[' : '{'));
        assert_non_null(strstr(json, "CPU"));
        ray_free(json);
    }
}

int
main(int argc, char **argv)
{
    c_face_main(argc, argv);
    const struct CMUnitTest tests[] = {
        C_FACE_TEST(test_put_and_get),
        C_FACE_TEST(test_payload_in_pieces),
        C_FACE_TEST(test_large_arguments_and_returns),
        cmocka_unit_test_setup_teardown(test_memory_is_given_back, c_face_start_small, c_face_stop),
        C_FACE_TEST(test_store_full),
        C_FACE_TEST(test_references_inside_an_argument),
        C_FACE_TEST(test_reference_inside_a_return),
        C_FACE_TEST(test_reference_inside_a_put),
        C_FACE_TEST(test_reference_by_its_address),
        C_FACE_TEST(test_wait_marks_the_first_ready),
        C_FACE_TEST(test_wait_returns_when_time_is_up),
        C_FACE_TEST(test_callback_when_ready),
        C_FACE_TEST(test_threads_share_the_library),
        cmocka_unit_test(test_calls_before_init),
        C_FACE_TEST(test_second_init),
        C_FACE_TEST(test_init_after_shutdown),
        C_FACE_TEST(test_threads_start_and_stop_it_at_once),
        C_FACE_TEST(test_references_of_a_session_that_is_over),
        C_FACE_TEST(test_value_outlives_its_runtime),
        C_FACE_TEST(test_child_of_a_fork_is_inert),
        C_FACE_TEST(test_bad_options),
        C_FACE_TEST(test_state_of_the_cluster),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
