/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Actors that run several calls at once: threads, concurrency groups, calls that end later than
 * their function, and what becomes of all of them at an end.
 */
#include "c_face.h"

#include <pthread.h>
#include <signal.h>

enum { MANY = 1000 };

/* The actor's: calls that are inside of `meet`, at most so far, and tasks to be finished later. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t inside, most, met;
    ray_task *later[MANY];
    uint64_t later_count;
} self = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static int
group_actor(ray_task *task)
{
    return ray_task_get_kind(task) == RAY_TASK_ACTOR_CREATION ? RAY_OK : RAY_E_WRONG_TYPE;
}
RAY_REMOTE(group_actor);

/* Returns when as many calls as its argument says have been inside at once. */
static int
meet(ray_task *task)
{
    const uint64_t wanted = c_face_arg(task);
    (void)pthread_mutex_lock(&self.lock);
    self.inside++;
    self.most = self.inside > self.most ? self.inside : self.most;
    (void)pthread_cond_broadcast(&self.changed);
    while (self.most < wanted) {
        (void)pthread_cond_wait(&self.changed, &self.lock);
    }
    self.inside--;
    const uint64_t met = ++self.met;
    (void)pthread_mutex_unlock(&self.lock);
    return c_face_return(task, met);
}
RAY_REMOTE(meet);

static int
most_inside(ray_task *task)
{
    (void)pthread_mutex_lock(&self.lock);
    const uint64_t most = self.most;
    (void)pthread_mutex_unlock(&self.lock);
    return c_face_return(task, most);
}
RAY_REMOTE(most_inside);

static int
plain(ray_task *task)
{
    return c_face_return(task, c_face_arg(task) + 1);
}
RAY_REMOTE(plain);

/* Waits at the gate that it is told. */
static int
waits(ray_task *task)
{
    char path[128] = "";
    ray_task_arg_copy(task, 0, path, sizeof(path) - 1);
    return c_face_return(task, c_face_gate_ask(path));
}
RAY_REMOTE(waits);

/* Ends when finish_later says so. */
static int
ends_later(ray_task *task)
{
    const int status = ray_task_defer(task);
    (void)pthread_mutex_lock(&self.lock);
    self.later[self.later_count++] = task;
    (void)pthread_cond_broadcast(&self.changed);
    (void)pthread_mutex_unlock(&self.lock);
    return status;
}
RAY_REMOTE(ends_later);

/* Waits for as many of them as its argument says, and ends them; each returns its argument, and
 * those of odd arguments fail. */
static int
finish_later(ray_task *task)
{
    const uint64_t wanted = c_face_arg(task);
    (void)pthread_mutex_lock(&self.lock);
    while (self.later_count < wanted) {
        (void)pthread_cond_wait(&self.changed, &self.lock);
    }
    self.later_count = 0;
    (void)pthread_mutex_unlock(&self.lock);
    for (uint64_t i = 0; i < wanted; i++) {
        const uint64_t number = c_face_arg(self.later[i]);
        int status = number % 2
                         ? ray_task_fail(self.later[i], RAY_E_TASK_FAILED, false, "odd", NULL)
                         : c_face_return(self.later[i], number);
        status = status ? status : ray_task_finish(self.later[i], RAY_OK);
        if (status != RAY_OK) {
            return status;
        }
    }
    return c_face_return(task, wanted);
}
RAY_REMOTE(finish_later);

/* Told at the gate, ends the first of them; and returns when told at the second gate. */
static int
finishes_and_waits(ray_task *task)
{
    char path[128] = "", second[130];
    ray_task_arg_copy(task, 0, path, sizeof(path) - 1);
    (void)pthread_mutex_lock(&self.lock);
    while (self.later_count == 0) {
        (void)pthread_cond_wait(&self.changed, &self.lock);
    }
    ray_task *first = self.later[--self.later_count];
    (void)pthread_mutex_unlock(&self.lock);
    (void)c_face_gate_ask(path);
    int status = c_face_return(first, c_face_arg(first));
    status = status ? status : ray_task_finish(first, RAY_OK);
    (void)snprintf(second, sizeof(second), "%s2", path);
    return status ? status : c_face_return(task, c_face_gate_ask(second));
}
RAY_REMOTE(finishes_and_waits);

static void *
finish_from_thread(void *arg)
{
    ray_task *task = arg;
    (void)c_face_return(task, c_face_arg(task));
    (void)ray_task_finish(task, RAY_OK);
    return NULL;
}

/* Ends on a thread of its own. */
static int
ends_elsewhere(ray_task *task)
{
    pthread_t thread;
    const int status = ray_task_defer(task);
    if (status != RAY_OK || pthread_create(&thread, NULL, finish_from_thread, task) != 0) {
        return RAY_E_SYSTEM;
    }
    (void)pthread_detach(thread);
    return RAY_OK;
}
RAY_REMOTE(ends_elsewhere);

static int
leaves(ray_task *task)
{
    const int status = ray_worker_exit_soon();
    return status ? status : c_face_return(task, 1);
}
RAY_REMOTE(leaves);

static int
group_pid(ray_task *task)
{
    return c_face_return(task, (uint64_t)getpid());
}
RAY_REMOTE(group_pid);

/* Calls the actor in its argument `number` times, one after another. */
static int
asks_another(ray_task *task)
{
    ray_ref *handle = NULL;
    ray_actor *other = NULL;
    uint64_t sum = 0;
    int status = ray_value_ref(ray_task_arg(task, 0), 0, &handle);
    status = status ? status : ray_actor_from_ref(handle, &other);
    for (uint64_t i = 0, n = c_face_arg(task); i < n && status == RAY_OK; i++) {
        ray_ref *ref = NULL;
        status = ray_actor_call_bytes(other, ray_remote_plain, &sum, sizeof(sum), &ref);
        status = status ? status : ray_get_bytes(ref, -1, &sum, sizeof(sum));
        ray_ref_release(ref);
    }
    ray_actor_release(other);
    ray_ref_release(handle);
    return status ? status : c_face_return(task, sum);
}
RAY_REMOTE(asks_another);

/* A task: calls the actor in its argument until it is refused; how many calls it could make. */
static int
calls_until_refused(ray_task *task)
{
    ray_ref *handle = NULL, *first = NULL;
    ray_actor *actor = NULL;
    uint64_t made = 0;
    int status = ray_value_ref(ray_task_arg(task, 0), 0, &handle);
    status = status ? status : ray_actor_from_ref(handle, &actor);
    /* Only an answer shows that the actor's limits are known here. */
    status = status ? status : ray_actor_call_bytes(actor, ray_remote_plain, &made, 8, &first);
    status = status ? status : ray_get_bytes(first, -1, &made, sizeof(made));
    ray_ref_release(first);
    for (made = 0; status == RAY_OK && made < 100; made++) {
        ray_ref *ref = NULL;
        status = ray_actor_call_bytes(actor, ray_remote_ends_later, &made, 8, &ref);
        ray_ref_release(ref);
        if (status == RAY_E_PENDING_CALLS_LIMIT) {
            status = RAY_OK;
            break;
        }
    }
    ray_actor_release(actor);
    ray_ref_release(handle);
    return status ? status : c_face_return(task, made);
}
RAY_REMOTE(calls_until_refused);

/* ---- */

static ray_actor *
create(const struct ray_task_options *how)
{
    ray_options *options = c_face_options(how);
    ray_actor *actor = NULL;
    MUST(ray_actor_create(ray_remote_group_actor, options, NULL, 0, &actor));
    ray_options_release(options);
    return actor;
}

static ray_actor *
create_threaded(int32_t max_concurrency)
{
    struct ray_task_options options;
    ray_task_options_default(&options);
    options.max_concurrency = max_concurrency;
    return create(&options);
}

static ray_options *
in_group(const char *name)
{
    struct ray_task_options options;
    ray_task_options_default(&options);
    options.concurrency_group = name;
    return c_face_options(&options);
}

static ray_ref *
call_text(ray_actor *actor, ray_function *method, const char *text)
{
    ray_ref *ref = NULL;
    MUST(ray_actor_call_bytes(actor, method, text, strlen(text) + 1, &ref));
    return ref;
}

static ray_ref *
call_with_handle(ray_actor *actor, ray_function *method, ray_actor *passed, uint64_t number)
{
    ray_ref *handle = NULL, *ref = NULL;
    MUST(ray_actor_ref(passed, &handle));
    const struct ray_buf buf = { &number, sizeof(number) };
    const struct ray_arg arg = {
        .value = { .bufs = &buf, .buf_count = 1, .refs = &handle, .ref_count = 1 },
    };
    if (actor) {
        MUST(ray_actor_call(actor, method, NULL, &arg, 1, &ref));
    } else {
        MUST(ray_task_submit(method, NULL, &arg, 1, &ref));
    }
    ray_ref_release(handle);
    return ref;
}

static void
test_calls_run_at_once_up_to_the_limit(void **state)
{
    (void)state;
    ray_actor *actor = create_threaded(4);
    ray_ref *refs[200];
    for (int i = 0; i < 200; i++) {
        refs[i] = c_face_method(actor, ray_remote_meet, 4);
    }
    for (int i = 0; i < 200; i++) {
        (void)c_face_number(refs[i]);
    }
    assert_int_equal(c_face_number(c_face_method(actor, ray_remote_most_inside, 0)), 4);
    ray_actor_release(actor);
}

static void
test_many_short_calls(void **state)
{
    (void)state;
    ray_actor *actor = create_threaded(3);
    ray_ref **refs = calloc(5000, sizeof(*refs));
    assert_non_null(refs);
    for (uint64_t i = 0; i < 5000; i++) {
        refs[i] = c_face_method(actor, ray_remote_plain, i);
    }
    for (uint64_t i = 0; i < 5000; i++) {
        assert_int_equal(c_face_number(refs[i]), i + 1);
    }
    for (uint64_t i = 0; i < 500; i++) {
        assert_int_equal(c_face_number(c_face_method(actor, ray_remote_plain, i)), i + 1);
    }
    free(refs);
    ray_actor_release(actor);
}

static void
test_groups_do_not_wait_for_each_other(void **state)
{
    (void)state;
    char gate[128];
    c_face_gate_create("group", gate);
    const struct ray_concurrency_group groups[] = { { "io", 2 },
                                                    { "a long name, with = and ,", 1 } };
    struct ray_task_options how;
    ray_task_options_default(&how);
    how.groups = groups;
    how.group_count = 2;
    ray_actor *actor = create(&how);
    ray_options *io = in_group("io"), *other = in_group(groups[1].name), *none = in_group("oi");
    ray_ref *first = call_text(actor, ray_remote_waits, gate);
    ray_ref *behind = c_face_method(actor, ray_remote_plain, 1);
    const uint64_t number = 2;
    const struct ray_buf buf = { &number, sizeof(number) };
    const struct ray_arg arg = { .value = { .bufs = &buf, .buf_count = 1 } };
    ray_ref *met[2], *ref = NULL;
    MUST(ray_actor_call(actor, ray_remote_meet, io, &arg, 1, &met[0]));
    MUST(ray_actor_call(actor, ray_remote_meet, io, &arg, 1, &met[1]));
    (void)c_face_number(met[0]);
    (void)c_face_number(met[1]);
    MUST(ray_actor_call(actor, ray_remote_plain, other, &arg, 1, &ref));
    assert_int_equal(c_face_number(ref), 3);
    MUST(ray_actor_call(actor, ray_remote_plain, none, &arg, 1, &ref));
    const char *text = c_face_failure(RAY_E_INVALID_ARGUMENT, ref);
    assert_non_null(strstr(text, "'oi'"));
    assert_false(ray_ref_is_ready(behind)); /* one at a time in the default group */
    c_face_gate_tell(gate, 7);
    assert_int_equal(c_face_number(first), 7);
    assert_int_equal(c_face_number(behind), 2);
    ray_options_release(io);
    ray_options_release(other);
    ray_options_release(none);
    ray_actor_release(actor);
}

static void
test_groups_that_make_no_sense(void **state)
{
    (void)state;
    const struct ray_concurrency_group bad[] = {
        { "", 1 }, { "a\nb", 1 }, { "a", 0 }, { NULL, 1 }
    };
    for (size_t i = 0; i < 4; i++) {
        struct ray_task_options how;
        ray_options *options = NULL;
        ray_task_options_default(&how);
        how.groups = &bad[i];
        how.group_count = 1;
        assert_int_equal(ray_options_create(&how, &options), RAY_E_INVALID_ARGUMENT);
        assert_null(options);
    }
}

/* A thousand calls in flight, more than a connection's window has for calls in order. */
static void
test_calls_that_end_later(void **state)
{
    (void)state;
    ray_actor *actor = create_threaded(MANY + 1);
    ray_ref **refs = calloc(MANY, sizeof(*refs));
    assert_non_null(refs);
    for (int round = 0; round < 3; round++) {
        for (uint64_t i = 0; i < MANY; i++) {
            refs[i] = c_face_method(actor, ray_remote_ends_later, i);
        }
        assert_int_equal(c_face_number(c_face_method(actor, ray_remote_finish_later, MANY)), MANY);
        for (uint64_t i = 0; i < MANY; i++) {
            if (i % 2) {
                (void)c_face_failure(RAY_E_TASK_FAILED, refs[i]);
            } else {
                assert_int_equal(c_face_number(refs[i]), i);
            }
        }
    }
    free(refs);
    ray_actor_release(actor);
}

static void
test_a_call_begins_when_another_has_ended_a_third(void **state)
{
    (void)state;
    char gate[128], second[128];
    c_face_gate_create("gate", gate);
    c_face_gate_create("gate2", second);
    ray_actor *actor = create_threaded(2);
    ray_ref *later = c_face_method(actor, ray_remote_ends_later, 7);
    ray_ref *finishes = call_text(actor, ray_remote_finishes_and_waits, gate);
    ray_ref *third = c_face_method(actor, ray_remote_plain, 1);
    c_face_gate_tell(gate, 1);
    assert_int_equal(c_face_number(later), 7);
    assert_int_equal(c_face_number(third), 2);
    c_face_gate_tell(second, 2);
    assert_int_equal(c_face_number(finishes), 2);
    ray_actor_release(actor);
}

static void
test_deferred_in_an_ordinary_actor_and_a_task(void **state)
{
    (void)state;
    ray_actor *actor = create_threaded(1);
    for (uint64_t i = 0; i < 20; i++) {
        assert_int_equal(c_face_number(c_face_method(actor, ray_remote_ends_elsewhere, i)), i);
        assert_int_equal(c_face_number(c_face_call(ray_remote_ends_elsewhere, NULL, i)), i);
    }
    ray_actor_release(actor);
}

static void
test_killed_with_a_thousand_calls_in_flight(void **state)
{
    (void)state;
    ray_actor *actor = create_threaded(MANY + 1);
    ray_ref **refs = calloc(MANY, sizeof(*refs));
    assert_non_null(refs);
    const int pid = (int)c_face_number(c_face_method(actor, ray_remote_group_pid, 0));
    for (uint64_t i = 0; i < MANY; i++) {
        refs[i] = c_face_method(actor, ray_remote_ends_later, i);
    }
    assert_int_equal(c_face_number(c_face_method(actor, ray_remote_plain, 1)), 2);
    (void)kill(pid, SIGKILL);
    for (uint64_t i = 0; i < MANY; i++) {
        (void)c_face_failure(RAY_E_ACTOR_DIED, refs[i]);
    }
    free(refs);
    ray_actor_release(actor);
}

/* The process leaves at once, whatever else runs in it. */
static void
test_leaving_does_not_wait_for_other_calls(void **state)
{
    (void)state;
    char gate[128];
    c_face_gate_create("never", gate);
    ray_actor *actor = create_threaded(2);
    const int pid = (int)c_face_number(c_face_method(actor, ray_remote_group_pid, 0));
    ray_ref *stuck = call_text(actor, ray_remote_waits, gate);
    assert_int_equal(c_face_number(c_face_method(actor, ray_remote_leaves, 0)), 1);
    c_face_wait_process(pid);
    const char *text = c_face_failure(RAY_E_ACTOR_DIED, stuck);
    assert_non_null(strstr(text, "exit_actor() is called."));
    (void)c_face_failure(RAY_E_ACTOR_DIED, c_face_method(actor, ray_remote_plain, 1));
    ray_actor_release(actor);
}

static void
test_last_handle_waits_for_calls_that_end_later(void **state)
{
    (void)state;
    ray_actor *actor = create_threaded(20);
    const int pid = (int)c_face_number(c_face_method(actor, ray_remote_group_pid, 0));
    ray_ref *later[10], *refs[10];
    for (uint64_t i = 0; i < 10; i++) {
        later[i] = c_face_method(actor, ray_remote_ends_later, 2 * i);
        refs[i] = c_face_method(actor, ray_remote_plain, i);
    }
    ray_ref *finish = c_face_method(actor, ray_remote_finish_later, 10);
    ray_actor_release(actor);
    assert_int_equal(c_face_number(finish), 10);
    for (uint64_t i = 0; i < 10; i++) {
        assert_int_equal(c_face_number(later[i]), 2 * i);
        assert_int_equal(c_face_number(refs[i]), i + 1);
    }
    c_face_wait_process(pid);
}

/* Unlike with an ordinary actor, a call whose argument isn't there yet holds up nobody. */
static void
test_calls_overtake_late_arguments(void **state)
{
    (void)state;
    char gate[128];
    c_face_gate_create("late", gate);
    ray_actor *slow = create_threaded(1), *actor = create_threaded(2);
    const struct ray_arg arg = { .ref = call_text(slow, ray_remote_waits, gate) };
    ray_ref *first = NULL;
    MUST(ray_actor_call(actor, ray_remote_plain, NULL, &arg, 1, &first));
    assert_int_equal(c_face_number(c_face_method(actor, ray_remote_plain, 1)), 2);
    assert_false(ray_ref_is_ready(first));
    c_face_gate_tell(gate, 5);
    assert_int_equal(c_face_number(first), 6);
    /* And one that never gets it: the actor dies, then what it waits for. */
    c_face_gate_create("later", gate);
    const struct ray_arg never = { .ref = call_text(slow, ray_remote_waits, gate) };
    MUST(ray_actor_call(actor, ray_remote_plain, NULL, &never, 1, &first));
    MUST(ray_actor_kill(actor, true));
    (void)c_face_failure(RAY_E_ACTOR_DIED, c_face_method(actor, ray_remote_plain, 1));
    MUST(ray_actor_kill(slow, true));
    (void)c_face_failure(RAY_E_ACTOR_DIED, first);
    ray_ref_release(arg.ref);
    ray_ref_release(never.ref);
    ray_actor_release(slow);
    ray_actor_release(actor);
}

static void
test_threads_that_wait_for_others(void **state)
{
    (void)state;
    ray_actor *front = create_threaded(8), *back = create_threaded(2);
    ray_ref *refs[16];
    for (int i = 0; i < 16; i++) {
        refs[i] = call_with_handle(front, ray_remote_asks_another, back, 50);
    }
    for (int i = 0; i < 16; i++) {
        assert_int_equal(c_face_number(refs[i]), 50);
    }
    ray_actor_release(front);
    ray_actor_release(back);
}

static void
test_limit_of_pending_calls_travels_with_the_handle(void **state)
{
    (void)state;
    struct ray_task_options how;
    ray_task_options_default(&how);
    how.max_concurrency = 50;
    how.max_pending_calls = 7;
    ray_actor *actor = create(&how);
    ray_ref *ref = call_with_handle(NULL, ray_remote_calls_until_refused, actor, 0);
    assert_int_equal(c_face_number(ref), 7);
    ray_actor_release(actor);
}

static void
test_no_event_loops_in_c(void **state)
{
    (void)state;
    struct ray_task_options how;
    ray_task_options_default(&how);
    how.in_event_loop = true;
    ray_actor *actor = create(&how);
    const char *text =
        c_face_failure(RAY_E_ACTOR_INIT_FAILED, c_face_method(actor, ray_remote_plain, 1));
    assert_non_null(strstr(text, "run no event loops"));
    ray_actor_release(actor);
}

int
main(int argc, char **argv)
{
    c_face_main(argc, argv);
    const struct CMUnitTest tests[] = {
        C_FACE_TEST(test_calls_run_at_once_up_to_the_limit),
        C_FACE_TEST(test_many_short_calls),
        C_FACE_TEST(test_groups_do_not_wait_for_each_other),
        C_FACE_TEST(test_groups_that_make_no_sense),
        C_FACE_TEST(test_calls_that_end_later),
        C_FACE_TEST(test_a_call_begins_when_another_has_ended_a_third),
        C_FACE_TEST(test_deferred_in_an_ordinary_actor_and_a_task),
        C_FACE_TEST(test_killed_with_a_thousand_calls_in_flight),
        C_FACE_TEST(test_leaving_does_not_wait_for_other_calls),
        C_FACE_TEST(test_last_handle_waits_for_calls_that_end_later),
        C_FACE_TEST(test_calls_overtake_late_arguments),
        C_FACE_TEST(test_threads_that_wait_for_others),
        C_FACE_TEST(test_limit_of_pending_calls_travels_with_the_handle),
        C_FACE_TEST(test_no_event_loops_in_c),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
