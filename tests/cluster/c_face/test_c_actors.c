/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Actors from C: state, order, constructors that fail, methods that fail, ends of every kind.
 */
#include "c_face.h"

#include <signal.h>

struct counter {
    uint64_t total, calls;
};

/* The constructor: starts at the number that it is given. */
static int
counter(ray_task *task)
{
    struct counter *self = calloc(1, sizeof(*self));
    if (!self || ray_task_get_kind(task) != RAY_TASK_ACTOR_CREATION) {
        return RAY_E_WRONG_TYPE;
    }
    self->total = ray_task_arg_count(task) > 0 ? c_face_arg(task) : 0;
    ray_task_set_state(task, self);
    return RAY_OK;
}
RAY_REMOTE(counter);

static int
add(ray_task *task)
{
    struct counter *self = ray_task_state(task);
    if (ray_task_get_kind(task) != RAY_TASK_ACTOR_METHOD) {
        return RAY_E_WRONG_TYPE;
    }
    self->calls++;
    self->total += c_face_arg(task);
    return c_face_return(task, self->total);
}
RAY_REMOTE(add);

static int
calls(ray_task *task)
{
    const struct counter *self = ray_task_state(task);
    return c_face_return(task, self->calls);
}
RAY_REMOTE(calls);

/* Its argument is how many calls there must have been before: the order of submission. */
static int
in_turn(ray_task *task)
{
    struct counter *self = ray_task_state(task);
    const uint64_t expected = c_face_arg(task);
    return c_face_return(task, self->calls++ == expected);
}
RAY_REMOTE(in_turn);

static int
method_pid(ray_task *task)
{
    return c_face_return(task, (uint64_t)getpid());
}
RAY_REMOTE(method_pid);

static int
method_fails(ray_task *task)
{
    return ray_task_fail(task, RAY_E_TASK_FAILED, false, "this method never works", NULL);
}
RAY_REMOTE(method_fails);

static int
method_dies(ray_task *task)
{
    (void)task;
    (void)kill(getpid(), SIGKILL);
    return RAY_OK;
}
RAY_REMOTE(method_dies);

static int
method_leaves(ray_task *task)
{
    const int status = ray_worker_exit_soon();
    return status != RAY_OK ? status : c_face_return(task, 1);
}
RAY_REMOTE(method_leaves);

/* Waits at the gate that it is told. */
static int
method_waits(ray_task *task)
{
    char path[128] = "";
    ray_task_arg_copy(task, 0, path, sizeof(path) - 1);
    return c_face_return(task, c_face_gate_ask(path));
}
RAY_REMOTE(method_waits);

static int
broken_constructor(ray_task *task)
{
    return ray_task_fail(task, RAY_E_TASK_FAILED, false, "no luck today", NULL);
}
RAY_REMOTE(broken_constructor);

static int
dying_constructor(ray_task *task)
{
    (void)task;
    (void)kill(getpid(), SIGKILL);
    return RAY_OK;
}
RAY_REMOTE(dying_constructor);

/* Its own handle, as every method can have it. */
static int
knows_itself(ray_task *task)
{
    ray_actor *self = NULL;
    struct ray_context context = { .struct_size = sizeof(context) };
    int status = ray_actor_current(&self);
    status = status ? status : ray_context_get(&context);
    const bool same =
        status == RAY_OK && memcmp(ray_actor_id(self), context.actor_id, RAY_ACTOR_ID_SIZE) == 0;
    ray_actor_release(self);
    return status ? status : c_face_return(task, same);
}
RAY_REMOTE(knows_itself);

/* A task: calls the actor whose handle is in its argument, `number` times, and waits for the last.
 */
static int
use_actor(ray_task *task)
{
    ray_ref *handle = NULL, *ref = NULL;
    ray_actor *actor = NULL;
    const uint64_t one = 1, count = c_face_arg(task);
    uint64_t total = 0;
    int status = ray_value_ref(ray_task_arg(task, 0), 0, &handle);
    status = status ? status : ray_actor_from_ref(handle, &actor);
    for (uint64_t i = 0; i < count && status == RAY_OK; i++) {
        ray_ref_release(ref);
        status = ray_actor_call_bytes(actor, ray_remote_add, &one, sizeof(one), &ref);
    }
    status = status ? status : ray_get_bytes(ref, -1, &total, sizeof(total));
    ray_ref_release(ref);
    ray_actor_release(actor);
    ray_ref_release(handle);
    return status ? status : c_face_return(task, total);
}
RAY_REMOTE(use_actor);

static ray_actor *
create(ray_function *constructor, uint64_t number)
{
    const struct ray_buf buf = { &number, sizeof(number) };
    const struct ray_arg arg = { .value = { .bufs = &buf, .buf_count = 1 } };
    ray_actor *actor = NULL;
    MUST(ray_actor_create(constructor, NULL, &arg, 1, &actor));
    return actor;
}

static ray_ref *
call_text(ray_actor *actor, ray_function *method, const char *text)
{
    ray_ref *ref = NULL;
    MUST(ray_actor_call_bytes(actor, method, text, strlen(text) + 1, &ref));
    return ref;
}

static ray_ref *
submit_use(ray_actor *actor, uint64_t count)
{
    ray_ref *handle = NULL, *ref = NULL;
    MUST(ray_actor_ref(actor, &handle));
    const struct ray_buf buf = { &count, sizeof(count) };
    const struct ray_arg arg = {
        .value = { .bufs = &buf, .buf_count = 1, .refs = &handle, .ref_count = 1 },
    };
    MUST(ray_task_submit(ray_remote_use_actor, NULL, &arg, 1, &ref));
    ray_ref_release(handle);
    return ref;
}

/* ---- */

static void
test_actor_keeps_state(void **state)
{
    (void)state;
    ray_actor *actor = create(ray_remote_counter, 100);
    assert_int_equal(c_face_number(c_face_method(actor, ray_remote_add, 1)), 101);
    assert_int_equal(c_face_number(c_face_method(actor, ray_remote_add, 10)), 111);
    assert_int_equal(c_face_number(c_face_method(actor, ray_remote_calls, 0)), 2);
    const uint64_t pid = c_face_number(c_face_method(actor, ray_remote_method_pid, 0));
    assert_int_not_equal(pid, getpid());
    assert_int_equal(c_face_number(c_face_method(actor, ray_remote_method_pid, 0)), pid);
    ray_actor_release(actor);
}

static void
test_calls_run_in_the_order_of_submission(void **state)
{
    (void)state;
    enum { CALLS = 5000 };
    ray_actor *actor = create(ray_remote_counter, 0);
    ray_ref **refs = calloc(CALLS, sizeof(*refs));
    assert_non_null(refs);
    for (uint64_t i = 0; i < CALLS; i++) {
        refs[i] = c_face_method(actor, ray_remote_in_turn, i);
    }
    for (uint64_t i = 0; i < CALLS; i++) {
        assert_int_equal(c_face_number(refs[i]), 1);
    }
    free(refs);
    ray_actor_release(actor);
}

/* A call whose argument isn't there yet holds up those behind it. */
static void
test_order_with_arguments_that_come_late(void **state)
{
    (void)state;
    char gate[128];
    c_face_gate_create("late", gate);
    ray_actor *slow = create(ray_remote_counter, 0), *actor = create(ray_remote_counter, 0);
    const struct ray_arg arg = { .ref = call_text(slow, ray_remote_method_waits, gate) };
    ray_ref *first = NULL;
    MUST(ray_actor_call(actor, ray_remote_in_turn, NULL, &arg, 1, &first));
    ray_ref *second = c_face_method(actor, ray_remote_in_turn, 1);
    assert_false(ray_ref_is_ready(second));
    c_face_gate_tell(gate, 0);
    assert_int_equal(c_face_number(first), 1);
    assert_int_equal(c_face_number(second), 1);
    ray_ref_release(arg.ref);
    ray_actor_release(slow);
    ray_actor_release(actor);
}

static void
test_constructor_with_a_reference(void **state)
{
    (void)state;
    ray_actor *source = create(ray_remote_counter, 7), *actor = NULL;
    const struct ray_arg arg = { .ref = c_face_method(source, ray_remote_add, 1) };
    MUST(ray_actor_create(ray_remote_counter, NULL, &arg, 1, &actor));
    ray_ref_release(arg.ref);
    assert_int_equal(c_face_number(c_face_method(actor, ray_remote_add, 0)), 8);
    ray_actor_release(source);
    ray_actor_release(actor);
}

static void
test_constructor_that_fails(void **state)
{
    (void)state;
    ray_actor *actor = create(ray_remote_broken_constructor, 0);
    for (int i = 0; i < 3; i++) {
        const char *text =
            c_face_failure(RAY_E_ACTOR_INIT_FAILED, c_face_method(actor, ray_remote_add, 1));
        assert_non_null(strstr(text, "no luck today"));
    }
    ray_actor_release(actor);
}

static void
test_constructor_that_dies(void **state)
{
    (void)state;
    ray_actor *actor = create(ray_remote_dying_constructor, 0);
    (void)c_face_failure(RAY_E_ACTOR_DIED, c_face_method(actor, ray_remote_add, 1));
    ray_actor_release(actor);
}

static void
test_method_that_fails(void **state)
{
    (void)state;
    ray_actor *actor = create(ray_remote_counter, 0);
    const char *text =
        c_face_failure(RAY_E_TASK_FAILED, c_face_method(actor, ray_remote_method_fails, 0));
    assert_non_null(strstr(text, "this method never works"));
    assert_int_equal(c_face_number(c_face_method(actor, ray_remote_add, 3)), 3); /* it lives */
    ray_actor_release(actor);
}

static void
test_method_that_dies(void **state)
{
    (void)state;
    ray_actor *actor = create(ray_remote_counter, 0);
    assert_int_equal(c_face_number(c_face_method(actor, ray_remote_add, 3)), 3);
    ray_ref *dies = c_face_method(actor, ray_remote_method_dies, 0);
    ray_ref *behind = c_face_method(actor, ray_remote_add, 1);
    (void)c_face_failure(RAY_E_ACTOR_DIED, dies);
    (void)c_face_failure(RAY_E_ACTOR_DIED, behind);
    ray_ref *later = c_face_method(actor, ray_remote_add, 1);
    MUST(ray_wait_all(&later, 1, -1, NULL));
    ray_value *value = NULL;
    MUST(ray_ref_value(later, &value));
    struct ray_failure failure = { .struct_size = sizeof(failure) };
    MUST(ray_value_failure(value, &failure));
    assert_int_equal(failure.status, RAY_E_ACTOR_DIED);
    assert_string_equal(failure.class_name, "counter");
    assert_memory_equal(failure.actor_id, ray_actor_id(actor), RAY_ACTOR_ID_SIZE);
    assert_non_null(strstr(failure.text, "SIGKILL"));
    ray_value_release(value);
    ray_ref_release(later);
    ray_actor_release(actor);
}

static void
test_kill(void **state)
{
    (void)state;
    char gate[128];
    c_face_gate_create("never", gate);
    ray_actor *actor = create(ray_remote_counter, 0);
    const int pid = (int)c_face_number(c_face_method(actor, ray_remote_method_pid, 0));
    ray_ref *running = call_text(actor, ray_remote_method_waits, gate);
    ray_ref *queued = c_face_method(actor, ray_remote_add, 1);
    MUST(ray_actor_kill(actor, true));
    (void)c_face_failure(RAY_E_ACTOR_DIED, running);
    (void)c_face_failure(RAY_E_ACTOR_DIED, queued);
    const char *text = c_face_failure(RAY_E_ACTOR_DIED, c_face_method(actor, ray_remote_add, 1));
    assert_non_null(strstr(text, "ray.kill"));
    c_face_wait_process(pid);
    ray_actor_release(actor);
}

static void
test_end_of_the_last_handle(void **state)
{
    (void)state;
    ray_actor *actor = create(ray_remote_counter, 0);
    const int pid = (int)c_face_number(c_face_method(actor, ray_remote_method_pid, 0));
    ray_ref *refs[100];
    for (uint64_t i = 0; i < 100; i++) {
        refs[i] = c_face_method(actor, ray_remote_in_turn, i);
    }
    ray_actor_release(actor); /* queued calls still run */
    for (int i = 0; i < 100; i++) {
        assert_int_equal(c_face_number(refs[i]), 1);
    }
    c_face_wait_process(pid);
}

static void
test_actor_that_leaves(void **state)
{
    (void)state;
    ray_actor *actor = create(ray_remote_counter, 0);
    const int pid = (int)c_face_number(c_face_method(actor, ray_remote_method_pid, 0));
    assert_int_equal(c_face_number(c_face_method(actor, ray_remote_method_leaves, 0)), 1);
    c_face_wait_process(pid);
    (void)c_face_failure(RAY_E_ACTOR_DIED, c_face_method(actor, ray_remote_add, 1));
    ray_actor_release(actor);
}

static void
test_actor_knows_itself(void **state)
{
    (void)state;
    ray_actor *actor = create(ray_remote_counter, 0);
    assert_int_equal(c_face_number(c_face_method(actor, ray_remote_knows_itself, 0)), 1);
    assert_int_equal(c_face_number(c_face_method(actor, ray_remote_add, 2)), 2);
    ray_actor_release(actor);
}

static void
test_handle_passed_to_tasks(void **state)
{
    (void)state;
    enum { USERS = 10, TIMES = 50 };
    ray_actor *actor = create(ray_remote_counter, 0);
    ray_ref *refs[USERS];
    for (int i = 0; i < USERS; i++) {
        refs[i] = submit_use(actor, TIMES);
    }
    for (int i = 0; i < USERS; i++) {
        (void)c_face_number(refs[i]);
    }
    assert_int_equal(c_face_number(c_face_method(actor, ray_remote_add, 0)), USERS * TIMES);
    ray_actor_release(actor);
}

static void
test_task_keeps_the_actor_alive(void **state)
{
    (void)state;
    ray_actor *actor = create(ray_remote_counter, 0);
    ray_ref *ref = submit_use(actor, 20);
    ray_actor_release(actor); /* the task's argument holds a handle */
    assert_int_equal(c_face_number(ref), 20);
}

static void
test_many_actors(void **state)
{
    (void)state;
    enum { ACTORS = 40 };
    ray_actor *actors[ACTORS];
    ray_ref *refs[ACTORS];
    for (uint64_t i = 0; i < ACTORS; i++) {
        actors[i] = create(ray_remote_counter, i);
        refs[i] = c_face_method(actors[i], ray_remote_add, 1000);
    }
    for (uint64_t i = 0; i < ACTORS; i++) {
        assert_int_equal(c_face_number(refs[i]), 1000 + i);
        ray_actor_release(actors[i]);
    }
}

static void
test_created_called_and_dropped(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 30; i++) {
        ray_actor *actor = create(ray_remote_counter, i);
        assert_int_equal(c_face_number(c_face_method(actor, ray_remote_add, 1)), i + 1);
        ray_actor_release(actor);
    }
}

static void
test_pending_calls_are_limited(void **state)
{
    (void)state;
    char gate[128];
    c_face_gate_create("full", gate);
    struct ray_task_options options;
    ray_task_options_default(&options);
    options.max_pending_calls = 2;
    ray_options *limited = c_face_options(&options);
    ray_actor *actor = NULL;
    MUST(ray_actor_create(ray_remote_counter, limited, NULL, 0, &actor));
    ray_ref *running = call_text(actor, ray_remote_method_waits, gate);
    ray_ref *queued = c_face_method(actor, ray_remote_add, 1), *third = NULL;
    const uint64_t number = 1;
    EXPECT(RAY_E_PENDING_CALLS_LIMIT,
           ray_actor_call_bytes(actor, ray_remote_add, &number, sizeof(number), &third));
    assert_null(third);
    c_face_gate_tell(gate, 0);
    (void)c_face_number(running);
    assert_int_equal(c_face_number(queued), 1);
    assert_int_equal(c_face_number(c_face_method(actor, ray_remote_add, 1)), 2);
    ray_actor_release(actor);
    ray_options_release(limited);
}

static void
test_actor_with_a_cpu(void **state)
{
    (void)state;
    const struct ray_resource cpus = { "CPU", 2 };
    struct ray_task_options options;
    ray_task_options_default(&options);
    options.resources = &cpus;
    options.resource_count = 1;
    ray_options *both = c_face_options(&options);
    ray_actor *actor = NULL;
    MUST(ray_actor_create(ray_remote_counter, both, NULL, 0, &actor));
    assert_int_equal(c_face_number(c_face_method(actor, ray_remote_add, 1)), 1);
    ray_ref *waits = submit_use(actor, 1); /* no CPU is left for a task */
    uint64_t number;
    EXPECT(RAY_E_TIMED_OUT, ray_get_bytes(waits, 50, &number, sizeof(number)));
    MUST(ray_actor_kill(actor, true));
    (void)c_face_failure(RAY_E_ACTOR_DIED, waits); /* it runs, and finds the actor dead */
    ray_actor_release(actor);
    ray_options_release(both);
}

static ray_options *
named(const char *name, bool get_if_exists)
{
    struct ray_task_options plain;
    ray_task_options_default(&plain);
    plain.actor_name = name;
    plain.get_if_exists = get_if_exists;
    plain.face_info = "class: counter";
    plain.face_info_size = 14;
    return c_face_options(&plain);
}

static void
test_an_actor_is_found_by_its_name(void **state)
{
    (void)state;
    ray_options *options = named("found", false), *get = named("found", true);
    ray_actor *actor = NULL, *other = NULL, *again = NULL;
    EXPECT(RAY_E_NOT_FOUND, ray_actor_find("found", NULL, &other));
    MUST(ray_actor_create(ray_remote_counter, options, NULL, 0, &actor));
    EXPECT(RAY_E_EXISTS, ray_actor_create(ray_remote_counter, options, NULL, 0, &other));
    MUST(ray_actor_find("found", NULL, &other));
    MUST(ray_actor_create(ray_remote_counter, get, NULL, 0, &again));
    assert_memory_equal(ray_actor_id(actor), ray_actor_id(other), RAY_ACTOR_ID_SIZE);
    assert_memory_equal(ray_actor_id(actor), ray_actor_id(again), RAY_ACTOR_ID_SIZE);
    size_t size = 0;
    assert_memory_equal(ray_actor_face_info(again, &size), "class: counter", 14);
    assert_int_equal(size, 14);
    assert_int_equal(c_face_number(c_face_method(actor, ray_remote_add, 1)), 1);
    assert_int_equal(c_face_number(c_face_method(other, ray_remote_add, 1)), 2);
    ray_actor_release(again);
    EXPECT(RAY_E_NOT_FOUND, ray_actor_find("found", "elsewhere", &again));
    struct ray_actor_name *names = NULL;
    size_t count = 0;
    MUST(ray_actor_list_names(NULL, &names, &count));
    assert_int_equal(count, 1);
    assert_string_equal(names[0].name, "found");
    ray_free(names);
    assert_true(ray_actor_is_counted(actor));
    assert_false(ray_actor_is_counted(other));
    ray_ref *none = NULL;
    EXPECT(RAY_E_INVALID_ARGUMENT, ray_actor_ref(other, &none));
    MUST(ray_actor_kill(actor, true)); /* then the name is free */
    ray_actor_release(actor);
    MUST(ray_actor_create(ray_remote_counter, options, NULL, 0, &actor));
    assert_int_equal(c_face_number(c_face_method(actor, ray_remote_add, 1)), 1);
    ray_actor_release(actor); /* the weak handles don't keep it alive */
    ray_actor *gone = NULL;
    while (ray_actor_find("found", NULL, &gone) == RAY_OK) {
        ray_actor_release(gone);
    }
    ray_actor_release(other);
    ray_options_release(options);
    ray_options_release(get);
}

/* A name is taken from the creation on, though the constructor's argument is still to come. */
static void
test_a_name_is_taken_before_the_arguments_come(void **state)
{
    (void)state;
    ray_options *options = named("early", false);
    ray_actor *actor = NULL, *found = NULL;
    char gate[128];
    c_face_gate_create("early", gate);
    ray_actor *slow = create(ray_remote_counter, 0);
    const struct ray_arg arg = { .ref = call_text(slow, ray_remote_method_waits, gate) };
    MUST(ray_actor_create(ray_remote_counter, options, &arg, 1, &actor));
    MUST(ray_actor_find("early", NULL, &found));
    ray_ref *sum = c_face_method(found, ray_remote_add, 1);
    c_face_gate_tell(gate, 41);
    assert_int_equal(c_face_number(sum), 42);
    ray_actor_release(slow);
    ray_actor_release(actor);
    ray_actor_release(found);
    ray_ref_release(arg.ref);
    ray_options_release(options);
}

int
main(int argc, char **argv)
{
    c_face_main(argc, argv);
    const struct CMUnitTest tests[] = {
        C_FACE_TEST(test_actor_keeps_state),
        C_FACE_TEST(test_calls_run_in_the_order_of_submission),
        C_FACE_TEST(test_order_with_arguments_that_come_late),
        C_FACE_TEST(test_constructor_with_a_reference),
        C_FACE_TEST(test_constructor_that_fails),
        C_FACE_TEST(test_constructor_that_dies),
        C_FACE_TEST(test_method_that_fails),
        C_FACE_TEST(test_method_that_dies),
        C_FACE_TEST(test_kill),
        C_FACE_TEST(test_end_of_the_last_handle),
        C_FACE_TEST(test_actor_that_leaves),
        C_FACE_TEST(test_actor_knows_itself),
        C_FACE_TEST(test_handle_passed_to_tasks),
        C_FACE_TEST(test_task_keeps_the_actor_alive),
        C_FACE_TEST(test_many_actors),
        C_FACE_TEST(test_created_called_and_dropped),
        C_FACE_TEST(test_pending_calls_are_limited),
        C_FACE_TEST(test_actor_with_a_cpu),
        C_FACE_TEST(test_an_actor_is_found_by_its_name),
        C_FACE_TEST(test_a_name_is_taken_before_the_arguments_come),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
