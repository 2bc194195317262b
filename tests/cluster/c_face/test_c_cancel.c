/* SPDX-License-Identifier: Apache-2.0 */
/* Cancelling from C: functions that ask, that wait in the library, that are deaf, that never ran.
 */
#include "c_face.h"

#include <sched.h>
#include <signal.h>

static void
read_path(ray_task *task, char path[128])
{
    memset(path, 0, 128);
    assert_true(ray_task_arg_copy(task, 0, path, 127) >= 0);
}

/* Tells that it runs, and runs until it is cancelled. */
static int
asks(ray_task *task)
{
    char path[128];
    read_path(task, path);
    c_face_gate_tell(path, 1);
    while (!ray_task_is_cancelled(task)) {
        (void)sched_yield();
    }
    const bool first = ray_task_take_interrupt(task), second = ray_task_take_interrupt(task);
    return first && !second ? RAY_E_TASK_CANCELLED : RAY_E_SYSTEM;
}
RAY_REMOTE(asks);

static int
deaf(ray_task *task)
{
    char path[128];
    read_path(task, path);
    c_face_gate_tell(path, 1);
    while (sched_yield() == 0) {
    }
    return RAY_E_SYSTEM;
}
RAY_REMOTE(deaf);

static int
adds_one(ray_task *task)
{
    uint64_t number = 0;
    const int64_t got = ray_task_arg_copy(task, 0, &number, sizeof(number));
    return got < 0 ? (int)got : c_face_return(task, number + 1);
}
RAY_REMOTE(adds_one);

/* Waits in ray_get_bytes for a child that ends only when it is cancelled, too. */
static int
waits_for_child(ray_task *task)
{
    char path[128];
    ray_ref *child = NULL;
    uint64_t number;
    read_path(task, path);
    int status = ray_call_bytes(ray_remote_asks, path, strlen(path), &child);
    if (status == RAY_OK) {
        status = ray_get_bytes(child, -1, &number, sizeof(number));
        ray_ref_release(child);
    }
    return status;
}
RAY_REMOTE(waits_for_child);

static int
parent_pid(ray_task *task)
{
    return c_face_return(task, (uint64_t)getppid());
}
RAY_REMOTE(parent_pid);

/* Asks ray-gcs something, and then waits for what never comes. */
static int
asks_and_waits(ray_task *task)
{
    char path[128];
    const struct ray_resource nobodys = { "nobodys", 1.0 };
    struct ray_task_options never;
    ray_options *options = NULL;
    ray_actor *actor = NULL;
    ray_ref *child = NULL;
    uint64_t number;
    read_path(task, path);
    ray_task_options_default(&never);
    never.resources = &nobodys;
    never.resource_count = 1;
    int status = ray_options_create(&never, &options);
    if (status == RAY_OK) {
        status = ray_task_submit(ray_remote_adds_one, options, NULL, 0, &child);
    }
    c_face_gate_tell(path, 1);
    if (status == RAY_OK && ray_actor_find("nobody", NULL, &actor) == RAY_E_NOT_FOUND) {
        status = ray_get_bytes(child, -1, &number, sizeof(number));
    }
    ray_ref_release(child);
    ray_options_release(options);
    return status;
}
RAY_REMOTE(asks_and_waits);

static int
cancel_actor(ray_task *task)
{
    return ray_task_get_kind(task) == RAY_TASK_ACTOR_CREATION ? RAY_OK : RAY_E_WRONG_TYPE;
}
RAY_REMOTE(cancel_actor);

/* It runs when this returns, and has one of the two CPUs. */
static ray_ref *
begin(ray_function *function, const char *name)
{
    char path[128];
    const struct ray_resource cpu = { "CPU", 1.0 };
    c_face_gate_create(name, path);
    struct ray_task_options how;
    ray_task_options_default(&how);
    how.max_retries = -1;
    how.resources = &cpu;
    how.resource_count = 1;
    ray_options *options = c_face_options(&how);
    ray_ref *ref = c_face_call_text(function, options, path);
    ray_options_release(options);
    (void)c_face_gate_ask(path);
    return ref;
}

static void
test_function_that_asks(void **state)
{
    (void)state;
    ray_ref *ref = begin(ray_remote_asks, "asks");
    MUST(ray_cancel(ref, false, true));
    (void)c_face_failure(RAY_E_TASK_CANCELLED, ref);
}

static void
test_wait_in_the_library_ends_and_the_child_goes_along(void **state)
{
    (void)state;
    ray_ref *ref = begin(ray_remote_waits_for_child, "waits");
    MUST(ray_cancel(ref, false, true));
    (void)c_face_failure(RAY_E_TASK_CANCELLED, ref);
    /* The child has let go of its CPU: both are there for others. */
    ray_ref *one = begin(ray_remote_asks, "one"), *two = begin(ray_remote_asks, "two");
    MUST(ray_cancel(one, false, false));
    MUST(ray_cancel(two, false, false));
    (void)c_face_failure(RAY_E_TASK_CANCELLED, one);
    (void)c_face_failure(RAY_E_TASK_CANCELLED, two);
}

/* Where its cancellation comes, it waits for an answer, which it gets; the next wait ends. */
static void
test_wait_after_an_answer(void **state)
{
    (void)state;
    const pid_t raylet = (pid_t)c_face_number(c_face_call(ray_remote_parent_pid, NULL, 0));
    const pid_t gcs = c_face_child(raylet, "ray-gcs");
    assert_int_not_equal(gcs, 0);
    assert_int_equal(kill(gcs, SIGSTOP), 0);
    ray_ref *ref = begin(ray_remote_asks_and_waits, "asks_and_waits");
    MUST(ray_cancel(ref, false, false));
    assert_int_equal(kill(gcs, SIGCONT), 0);
    (void)c_face_failure(RAY_E_TASK_CANCELLED, ref);
}

static void
test_force(void **state)
{
    (void)state;
    ray_ref *ref = begin(ray_remote_deaf, "deaf");
    MUST(ray_cancel(ref, false, true));
    MUST(ray_cancel(ref, true, true));
    const char *text = c_face_failure(RAY_E_WORKER_CRASHED, ref);
    assert_non_null(strstr(text, "force=True"));
}

static void
test_what_waits_never_runs(void **state)
{
    (void)state;
    ray_ref *one = begin(ray_remote_deaf, "first"), *two = begin(ray_remote_deaf, "second");
    ray_ref *queued = c_face_call(ray_remote_adds_one, NULL, 1);
    ray_ref *kept = c_face_call(ray_remote_adds_one, NULL, 2);
    const struct ray_arg arg = { .ref = queued };
    ray_ref *dependent = NULL, *depends = NULL;
    MUST(ray_task_submit(ray_remote_adds_one, NULL, &arg, 1, &dependent));
    const struct ray_arg late = { .ref = one };
    MUST(ray_task_submit(ray_remote_adds_one, NULL, &late, 1, &depends));
    MUST(ray_cancel(depends, true, true));
    (void)c_face_failure(RAY_E_TASK_CANCELLED, depends);
    MUST(ray_cancel(queued, false, true));
    (void)c_face_failure(RAY_E_TASK_CANCELLED, queued);
    MUST(ray_cancel(one, true, true));
    MUST(ray_cancel(two, true, true));
    assert_int_equal(c_face_number(kept), 3);
    (void)c_face_failure(RAY_E_TASK_CANCELLED, dependent);
    (void)c_face_failure(RAY_E_WORKER_CRASHED, one);
    (void)c_face_failure(RAY_E_WORKER_CRASHED, two);
}

static void
test_calls_of_an_actor(void **state)
{
    (void)state;
    char path[128];
    ray_actor *actor = NULL;
    MUST(ray_actor_create(ray_remote_cancel_actor, NULL, NULL, 0, &actor));
    c_face_gate_create("call", path);
    ray_ref *runs = NULL;
    MUST(ray_actor_call_bytes(actor, ray_remote_asks, path, strlen(path), &runs));
    (void)c_face_gate_ask(path);
    ray_ref *dropped = c_face_method(actor, ray_remote_adds_one, 1);
    ray_ref *kept = c_face_method(actor, ray_remote_adds_one, 2);
    EXPECT(RAY_E_INVALID_ARGUMENT, ray_cancel(dropped, true, true));
    MUST(ray_cancel(dropped, false, true));
    (void)c_face_failure(RAY_E_TASK_CANCELLED, dropped);
    MUST(ray_cancel(runs, false, true));
    (void)c_face_failure(RAY_E_TASK_CANCELLED, runs);
    assert_int_equal(c_face_number(kept), 3);
    ray_actor_release(actor);
}

static void
test_nothing_to_cancel(void **state)
{
    (void)state;
    const uint64_t number = 5;
    const struct ray_buf buf = { &number, sizeof(number) };
    const struct ray_payload payload = { .bufs = &buf, .buf_count = 1 };
    ray_ref *put = NULL;
    MUST(ray_put(&payload, NULL, &put));
    MUST(ray_cancel(put, false, true));
    assert_int_equal(c_face_number(put), 5);
    uint64_t got = 0;
    ray_ref *ended = c_face_call(ray_remote_adds_one, NULL, 6);
    MUST(ray_get_bytes(ended, -1, &got, sizeof(got)));
    MUST(ray_cancel(ended, true, true));
    assert_int_equal(c_face_number(ended), 7);
    EXPECT(RAY_E_INVALID_ARGUMENT, ray_cancel(NULL, false, false));
}

int
main(int argc, char **argv)
{
    c_face_main(argc, argv);
    const struct CMUnitTest tests[] = {
        C_FACE_TEST(test_function_that_asks),
        C_FACE_TEST(test_wait_in_the_library_ends_and_the_child_goes_along),
        C_FACE_TEST(test_wait_after_an_answer),
        C_FACE_TEST(test_force),
        C_FACE_TEST(test_what_waits_never_runs),
        C_FACE_TEST(test_calls_of_an_actor),
        C_FACE_TEST(test_nothing_to_cancel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
