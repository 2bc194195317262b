/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tasks from C: arguments by value and by reference, return values, failures, nesting, many at
 * once.
 */
#include "c_face.h"

#include <pthread.h>

enum { BATCH = 100000, MANY_RETURNS = 3000 };

static int
square(ray_task *task)
{
    const uint64_t x = c_face_arg(task);
    return c_face_return(task, x * x);
}
RAY_REMOTE(square);

/* Adds up all its arguments. */
static int
sum(ray_task *task)
{
    uint64_t total = 0;
    for (size_t i = 0; i < ray_task_arg_count(task); i++) {
        uint64_t one = 0;
        const int64_t n = ray_task_arg_copy(task, i, &one, sizeof(one));
        if (n < 0) {
            return (int)n;
        }
        total += one;
    }
    return c_face_return(task, total);
}
RAY_REMOTE(sum);

/* Gives as many numbers as it has returns, but for the last `missing`. */
static int
count_up(ray_task *task)
{
    const int32_t missing = (int32_t)c_face_arg(task);
    for (int32_t i = 0; i < ray_task_num_returns(task) - missing; i++) {
        const uint64_t number = (uint64_t)i * 10;
        const int status = ray_task_return_bytes(task, i, &number, sizeof(number));
        if (status != RAY_OK) {
            return status;
        }
    }
    return RAY_OK;
}
RAY_REMOTE(count_up);

static int
give_twice(ray_task *task)
{
    const int first = c_face_return(task, 1);
    return first != RAY_OK ? first : c_face_return(task, 2);
}
RAY_REMOTE(give_twice);

static int
refuse(ray_task *task)
{
    return ray_task_fail(task, RAY_E_TASK_FAILED, false, "the moon is in the wrong house", NULL);
}
RAY_REMOTE(refuse);

static int
give_status(ray_task *task)
{
    (void)task;
    return RAY_E_NOT_SUPPORTED;
}
RAY_REMOTE(give_status);

/* Fails until it is tried for the n-th time. */
static int
fail_until(ray_task *task)
{
    if (ray_task_attempt(task) < c_face_arg(task)) {
        return ray_task_fail(task, RAY_E_TASK_FAILED, true, "not yet", NULL);
    }
    return c_face_return(task, ray_task_attempt(task));
}
RAY_REMOTE(fail_until);

static int fibonacci(ray_task *task);
RAY_REMOTE(fibonacci);
static int
fibonacci(ray_task *task)
{
    const uint64_t n = c_face_arg(task);
    uint64_t a = n, b = 0;
    if (n >= 2) {
        const uint64_t one = n - 1, two = n - 2;
        ray_ref *refs[2] = { NULL, NULL };
        int status = ray_call_bytes(ray_remote_fibonacci, &one, sizeof(one), &refs[0]);
        status =
            status ? status : ray_call_bytes(ray_remote_fibonacci, &two, sizeof(two), &refs[1]);
        status = status ? status : ray_get_bytes(refs[0], -1, &a, sizeof(a));
        status = status ? status : ray_get_bytes(refs[1], -1, &b, sizeof(b));
        ray_ref_release(refs[0]);
        ray_ref_release(refs[1]);
        if (status != RAY_OK) {
            return status;
        }
    }
    return c_face_return(task, a + b);
}

static int descend(ray_task *task);
RAY_REMOTE(descend);
static int
descend(ray_task *task)
{
    uint64_t depth = c_face_arg(task), below = 0;
    if (depth > 0) {
        ray_ref *ref = NULL;
        depth--;
        int status = ray_call_bytes(ray_remote_descend, &depth, sizeof(depth), &ref);
        status = status ? status : ray_get_bytes(ref, -1, &below, sizeof(below));
        ray_ref_release(ref);
        if (status != RAY_OK) {
            return status;
        }
        below++;
    }
    return c_face_return(task, below);
}

/* Where a task stands: as the context says. */
static int
where(ray_task *task)
{
    struct ray_context context = { .struct_size = sizeof(context) };
    const int status = ray_context_get(&context);
    if (status != RAY_OK) {
        return status;
    }
    if (memcmp(context.task_id, ray_task_id(task), sizeof(context.task_id)) != 0) {
        return RAY_E_PROTOCOL;
    }
    return ray_task_return_bytes(task, 0, &context, sizeof(context));
}
RAY_REMOTE(where);

static int
pid_of(ray_task *task)
{
    return c_face_return(task, (uint64_t)getpid());
}
RAY_REMOTE(pid_of);

/* Tells the gate that it runs, and waits for the word to end. The text holds both gates. */
static int
wait_between(ray_task *task)
{
    char paths[256] = "";
    ray_task_arg_copy(task, 0, paths, sizeof(paths) - 1);
    char *second = strchr(paths, ' ');
    if (!second) {
        return RAY_E_INVALID_ARGUMENT;
    }
    *second++ = '\0';
    c_face_gate_tell(paths, (uint64_t)getpid());
    return c_face_return(task, c_face_gate_ask(second));
}
RAY_REMOTE(wait_between);

/* ---- */

static void
test_value_goes_and_comes(void **state)
{
    (void)state;
    assert_int_equal(c_face_number(c_face_call(ray_remote_square, NULL, 12)), 144);
}

static void
test_task_runs_in_another_process(void **state)
{
    (void)state;
    const uint64_t pid = c_face_number(c_face_call(ray_remote_pid_of, NULL, 0));
    assert_int_not_equal(pid, getpid());
}

static void
test_references_as_arguments(void **state)
{
    (void)state;
    struct ray_arg args[2] = { { .ref = c_face_call(ray_remote_square, NULL, 3) },
                               { .ref = c_face_call(ray_remote_square, NULL, 4) } };
    ray_ref *ref = NULL;
    MUST(ray_task_submit(ray_remote_sum, NULL, args, 2, &ref));
    ray_ref_release(args[0].ref); /* the task keeps them */
    ray_ref_release(args[1].ref);
    assert_int_equal(c_face_number(ref), 25);
}

static void
test_chain_of_dependent_tasks(void **state)
{
    (void)state;
    ray_ref *ref = c_face_call(ray_remote_square, NULL, 1);
    const uint64_t one = 1;
    const struct ray_buf buf = { &one, sizeof(one) };
    for (int i = 0; i < 200; i++) {
        const struct ray_arg args[2] = { { .ref = ref },
                                         { .value = { .bufs = &buf, .buf_count = 1 } } };
        ray_ref *next = NULL;
        MUST(ray_task_submit(ray_remote_sum, NULL, args, 2, &next));
        ray_ref_release(ref);
        ref = next;
    }
    assert_int_equal(c_face_number(ref), 201);
}

static ray_options *
with_returns(int32_t count)
{
    const struct ray_resource cpu = { "CPU", 1 };
    struct ray_task_options options;
    ray_task_options_default(&options);
    options.num_returns = count;
    options.resources = &cpu;
    options.resource_count = 1;
    return c_face_options(&options);
}

static void
submit_count_up(int32_t returns, uint64_t missing, ray_ref **refs)
{
    ray_options *options = with_returns(returns);
    const struct ray_buf buf = { &missing, sizeof(missing) };
    const struct ray_arg arg = { .value = { .bufs = &buf, .buf_count = 1 } };
    MUST(ray_task_submit(ray_remote_count_up, options, &arg, 1, refs));
    ray_options_release(options);
}

static void
test_several_returns(void **state)
{
    (void)state;
    ray_ref *refs[3];
    submit_count_up(3, 0, refs);
    for (uint64_t i = 0; i < 3; i++) {
        assert_int_equal(c_face_number(refs[i]), i * 10);
    }
}

static void
test_no_return(void **state)
{
    (void)state;
    ray_ref *unused = NULL;
    submit_count_up(0, 0, &unused);
    assert_int_equal(c_face_number(c_face_call(ray_remote_square, NULL, 2)), 4);
}

static void
test_thousands_of_returns(void **state)
{
    (void)state;
    ray_ref **refs = calloc(MANY_RETURNS, sizeof(*refs));
    assert_non_null(refs);
    submit_count_up(MANY_RETURNS, 0, refs);
    MUST(ray_wait_all(refs, MANY_RETURNS, -1, NULL));
    for (uint64_t i = 0; i < MANY_RETURNS; i++) {
        assert_int_equal(c_face_number(refs[i]), i * 10);
    }
    free(refs);
}

static void
test_missing_return_fails_all(void **state)
{
    (void)state;
    ray_ref *refs[3];
    submit_count_up(3, 1, refs);
    for (int i = 0; i < 3; i++) {
        const char *text = c_face_failure(RAY_E_TASK_FAILED, refs[i]);
        assert_non_null(strstr(text, "count_up"));
        assert_non_null(strstr(text, "num_returns=3"));
    }
}

static void
test_return_given_twice(void **state)
{
    (void)state;
    const char *text =
        c_face_failure(RAY_E_INVALID_ARGUMENT, c_face_call(ray_remote_give_twice, NULL, 0));
    assert_non_null(strstr(text, "give_twice"));
}

static void
test_failure_tells_its_story(void **state)
{
    (void)state;
    ray_ref *ref = c_face_call(ray_remote_refuse, NULL, 0);
    MUST(ray_wait_all(&ref, 1, -1, NULL));
    ray_value *value = NULL;
    MUST(ray_ref_value(ref, &value)); /* an error is a value like others */
    assert_int_equal(ray_value_status(value), RAY_E_TASK_FAILED);
    struct ray_failure failure = { .struct_size = sizeof(failure) };
    MUST(ray_value_failure(value, &failure));
    assert_int_equal(failure.status, RAY_E_TASK_FAILED);
    assert_string_equal(failure.text, "the moon is in the wrong house");
    assert_string_equal(failure.function, "refuse");
    assert_int_not_equal(failure.pid, 0);
    assert_int_not_equal(failure.pid, getpid());
    ray_value_release(value);
    ray_ref_release(ref);
}

static void
test_status_of_a_function(void **state)
{
    (void)state;
    const char *text =
        c_face_failure(RAY_E_NOT_SUPPORTED, c_face_call(ray_remote_give_status, NULL, 0));
    assert_non_null(strstr(text, "give_status"));
}

static void
test_failure_reaches_dependents(void **state)
{
    (void)state;
    const struct ray_arg arg = { .ref = c_face_call(ray_remote_refuse, NULL, 0) };
    ray_ref *ref = NULL;
    MUST(ray_task_submit(ray_remote_sum, NULL, &arg, 1, &ref));
    ray_ref_release(arg.ref);
    (void)c_face_failure(RAY_E_TASK_FAILED, ref);
}

static void
test_wait_all_names_the_failure(void **state)
{
    (void)state;
    ray_ref *refs[4];
    for (uint64_t i = 0; i < 4; i++) {
        refs[i] = c_face_call(i == 2 ? ray_remote_refuse : ray_remote_square, NULL, i);
    }
    size_t error = 0;
    MUST(ray_wait_all(refs, 4, -1, &error));
    assert_int_equal(error, 2);
    for (int i = 0; i < 4; i++) {
        ray_ref_release(refs[i]);
    }
}

static void
test_retry_of_failures(void **state)
{
    (void)state;
    const struct ray_resource cpu = { "CPU", 1 };
    struct ray_task_options options;
    ray_task_options_default(&options);
    options.resources = &cpu;
    options.resource_count = 1;
    options.max_retries = 2;
    ray_options *never = c_face_options(&options);
    options.retry_exceptions = true;
    ray_options *retry = c_face_options(&options);
    assert_int_equal(c_face_number(c_face_call(ray_remote_fail_until, retry, 2)), 2);
    (void)c_face_failure(RAY_E_TASK_FAILED, c_face_call(ray_remote_fail_until, retry, 3));
    (void)c_face_failure(RAY_E_TASK_FAILED, c_face_call(ray_remote_fail_until, never, 1));
    ray_options_release(retry);
    ray_options_release(never);
}

static void
test_nested_tasks(void **state)
{
    (void)state;
    assert_int_equal(c_face_number(c_face_call(ray_remote_fibonacci, NULL, 9)), 34);
}

static int
start_with_one_cpu(void **state)
{
    (void)state;
    return c_face_start_with(1);
}

static void
test_deep_nesting_on_one_cpu(void **state)
{
    (void)state;
    assert_int_equal(c_face_number(c_face_call(ray_remote_descend, NULL, 20)), 20);
}

static void
test_context_of_a_task(void **state)
{
    (void)state;
    struct ray_context there;
    ray_ref *ref = c_face_call(ray_remote_where, NULL, 0);
    MUST(ray_get_bytes(ref, -1, &there, sizeof(there)));
    ray_ref_release(ref);
    const struct ray_context *here = c_face_context();
    assert_true(here->is_driver);
    assert_false(there.is_driver);
    assert_memory_equal(there.job_id, here->job_id, sizeof(here->job_id));
    assert_memory_equal(there.node_id, here->node_id, sizeof(here->node_id));
    assert_memory_not_equal(there.worker_id, here->worker_id, sizeof(here->worker_id));
    assert_memory_not_equal(there.task_id, here->task_id, sizeof(here->task_id));
    assert_string_equal(there.session_dir, here->session_dir);
    assert_int_equal(there.attempt, 0);
}

static void
test_batch_of_many(void **state)
{
    (void)state;
    ray_ref **refs = calloc(BATCH, sizeof(*refs));
    assert_non_null(refs);
    for (uint64_t i = 0; i < BATCH; i++) {
        refs[i] = c_face_call(ray_remote_square, NULL, i);
    }
    MUST(ray_wait_all(refs, BATCH, -1, NULL));
    for (uint64_t i = 0; i < BATCH; i++) {
        assert_int_equal(c_face_number(refs[i]), i * i);
    }
    free(refs);
}

static void
test_references_dropped_before_they_are_ready(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 2000; i++) {
        ray_ref_release(c_face_call(ray_remote_square, NULL, i));
    }
    assert_int_equal(c_face_number(c_face_call(ray_remote_square, NULL, 5)), 25);
}

static void
test_running_tasks_hold_their_cpus(void **state)
{
    (void)state;
    char started[2][128], go[2][128], paths[2][260];
    ray_ref *refs[2];
    for (int i = 0; i < 2; i++) {
        char name[24];
        (void)snprintf(name, sizeof(name), "started%d", i);
        c_face_gate_create(name, started[i]);
        (void)snprintf(name, sizeof(name), "go%d", i);
        c_face_gate_create(name, go[i]);
        (void)snprintf(paths[i], sizeof(paths[i]), "%s %s", started[i], go[i]);
        refs[i] = c_face_call_text(ray_remote_wait_between, NULL, paths[i]);
    }
    const uint64_t first = c_face_gate_ask(started[0]);
    const uint64_t second = c_face_gate_ask(started[1]); /* both run at the same time */
    assert_int_not_equal(first, second);
    ray_ref *third = c_face_call(ray_remote_square, NULL, 6);
    uint64_t number;
    EXPECT(RAY_E_TIMED_OUT, ray_get_bytes(third, 50, &number, sizeof(number)));
    assert_false(ray_ref_is_ready(third));
    c_face_gate_tell(go[0], 1);
    assert_int_equal(c_face_number(third), 36); /* a CPU is free */
    c_face_gate_tell(go[1], 2);
    assert_int_equal(c_face_number(refs[0]), 1);
    assert_int_equal(c_face_number(refs[1]), 2);
}

static void
test_what_can_not_be_scheduled_stays_pending(void **state)
{
    (void)state;
    const struct ray_resource much = { "CPU", 1000 };
    struct ray_task_options options;
    ray_task_options_default(&options);
    options.resources = &much;
    options.resource_count = 1;
    ray_options *impossible = c_face_options(&options);
    ray_ref *ref = c_face_call(ray_remote_square, impossible, 1);
    uint64_t number;
    EXPECT(RAY_E_TIMED_OUT, ray_get_bytes(ref, 100, &number, sizeof(number)));
    assert_int_equal(c_face_number(c_face_call(ray_remote_square, NULL, 7)), 49);
    ray_ref_release(ref);
    ray_options_release(impossible);
}

/* What was told of failures that nobody had looked at. */
struct unhandled {
    pthread_mutex_t lock;
    pthread_cond_t told;
    int count, status;
    char function[64];
};

static void
on_unhandled(void *ctx, const ray_value *failure, size_t dropped)
{
    struct unhandled *u = ctx;
    struct ray_failure f = { .struct_size = sizeof(f) };
    (void)dropped;
    (void)pthread_mutex_lock(&u->lock);
    if (ray_value_failure(failure, &f) == RAY_OK) {
        u->count++;
        u->status = f.status;
        (void)snprintf(u->function, sizeof(u->function), "%s", f.function);
    }
    (void)pthread_cond_signal(&u->told);
    (void)pthread_mutex_unlock(&u->lock);
}

static void
test_failures_that_nobody_looks_at_are_told(void **state)
{
    (void)state;
    struct unhandled u = { .lock = PTHREAD_MUTEX_INITIALIZER, .told = PTHREAD_COND_INITIALIZER };
    ray_on_unhandled(on_unhandled, &u);
    (void)c_face_failure(RAY_E_TASK_FAILED, c_face_call(ray_remote_refuse, NULL, 0));
    ray_ref_release(c_face_call(ray_remote_refuse, NULL, 0));
    (void)pthread_mutex_lock(&u.lock);
    while (u.count == 0) {
        (void)pthread_cond_wait(&u.told, &u.lock);
    }
    assert_int_equal(u.count, 1); /* not the first, which is told of before */
    assert_int_equal(u.status, RAY_E_TASK_FAILED);
    assert_string_equal(u.function, "refuse");
    (void)pthread_mutex_unlock(&u.lock);
    assert_int_equal(c_face_stop(state), 0);
    ray_on_unhandled(NULL, NULL);
    assert_int_equal(c_face_start(state), 0);
}

int
main(int argc, char **argv)
{
    c_face_main(argc, argv);
    const struct CMUnitTest tests[] = {
        C_FACE_TEST(test_failures_that_nobody_looks_at_are_told),
        C_FACE_TEST(test_value_goes_and_comes),
        C_FACE_TEST(test_task_runs_in_another_process),
        C_FACE_TEST(test_references_as_arguments),
        C_FACE_TEST(test_chain_of_dependent_tasks),
        C_FACE_TEST(test_several_returns),
        C_FACE_TEST(test_no_return),
        C_FACE_TEST(test_thousands_of_returns),
        C_FACE_TEST(test_missing_return_fails_all),
        C_FACE_TEST(test_return_given_twice),
        C_FACE_TEST(test_failure_tells_its_story),
        C_FACE_TEST(test_status_of_a_function),
        C_FACE_TEST(test_failure_reaches_dependents),
        C_FACE_TEST(test_wait_all_names_the_failure),
        C_FACE_TEST(test_retry_of_failures),
        C_FACE_TEST(test_nested_tasks),
        cmocka_unit_test_setup_teardown(test_deep_nesting_on_one_cpu, start_with_one_cpu,
                                        c_face_stop),
        C_FACE_TEST(test_context_of_a_task),
        C_FACE_TEST(test_batch_of_many),
        C_FACE_TEST(test_references_dropped_before_they_are_ready),
        C_FACE_TEST(test_running_tasks_hold_their_cpus),
        C_FACE_TEST(test_what_can_not_be_scheduled_stays_pending),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
