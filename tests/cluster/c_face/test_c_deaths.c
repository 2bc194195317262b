/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deaths: a worker in the middle of its task, a driver, the raylet, ray-gcs. What was promised is
 * kept, and nothing is left behind.
 */
#include "c_face.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>

static void
append_line(const char *path)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, "x", 1) != 1) {
        abort();
    }
    close(fd);
}

static long
count_lines(const char *path)
{
    FILE *file = fopen(path, "re");
    if (!file) {
        return 0;
    }
    (void)fseek(file, 0, SEEK_END);
    const long size = ftell(file);
    (void)fclose(file);
    return size;
}

/* Leaves a mark and dies, as long as it was tried fewer times than the text's first digit says. */
static int
die_at_first(ray_task *task)
{
    char text[256] = "";
    ray_task_arg_copy(task, 0, text, sizeof(text) - 1);
    append_line(text + 1);
    if (ray_task_attempt(task) < (uint32_t)(text[0] - '0')) {
        (void)kill(getpid(), SIGKILL);
    }
    return c_face_return(task, ray_task_attempt(task));
}
RAY_REMOTE(die_at_first);

static int
crash(ray_task *task)
{
    (void)task;
    (void)fprintf(stderr, "a last word\n");
    (void)signal(SIGSYS, SIG_DFL); /* unlike SIGSEGV it is no sanitizer's */
    (void)raise(SIGSYS);
    return RAY_OK;
}
RAY_REMOTE(crash);

static int
leave_the_house(ray_task *task)
{
    (void)task;
    _exit(7);
}
RAY_REMOTE(leave_the_house);

static int
mark(ray_task *task)
{
    char path[256] = "";
    ray_task_arg_copy(task, 0, path, sizeof(path) - 1);
    append_line(path);
    return c_face_return(task, 1);
}
RAY_REMOTE(mark);

/* Tells its pid at the gate, then waits for ever. */
static int
tell_and_stay(ray_task *task)
{
    char path[128] = "";
    ray_task_arg_copy(task, 0, path, sizeof(path) - 1);
    c_face_gate_tell(path, (uint64_t)getpid());
    while (pause() < 0) {
    }
    return RAY_OK;
}
RAY_REMOTE(tell_and_stay);

static int
square(ray_task *task)
{
    const uint64_t x = c_face_arg(task);
    return c_face_return(task, x * x);
}
RAY_REMOTE(square);

static int
raylet_pid(ray_task *task)
{
    return c_face_return(task, (uint64_t)getppid());
}
RAY_REMOTE(raylet_pid);

static int
give_megabyte(ray_task *task)
{
    static uint8_t bytes[1 << 20];
    memset(bytes, (int)c_face_arg(task), sizeof(bytes));
    return ray_task_return_bytes(task, 0, bytes, sizeof(bytes));
}
RAY_REMOTE(give_megabyte);

static int
empty_actor(ray_task *task)
{
    ray_task_set_state(task, NULL);
    return RAY_OK;
}
RAY_REMOTE(empty_actor);

/* Does something to every socket by which the process `pid` is connected to this one. */
static void
for_sockets_of(pid_t pid, void (*fn)(int fd))
{
    for (int fd = 3; fd < 256; fd++) {
        struct ucred peer;
        socklen_t size = sizeof(peer);
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.pid == pid) {
            fn(fd);
        }
    }
}

static void
cut(int fd)
{
    (void)shutdown(fd, SHUT_RDWR);
}

static void
speak_nonsense(int fd)
{
    const uint32_t frame[4] = { 3 }; /* no frame is that short */
    assert_int_equal(send(fd, frame, sizeof(frame), MSG_NOSIGNAL), sizeof(frame));
}

static int
cut_and_tell(ray_task *task)
{
    for_sockets_of((pid_t)c_face_arg(task), cut);
    return c_face_return(task, ray_task_attempt(task));
}
RAY_REMOTE(cut_and_tell);

static int
nonsense_at_first(ray_task *task)
{
    if (ray_task_attempt(task) == 0) {
        for_sockets_of((pid_t)c_face_arg(task), speak_nonsense);
    }
    return c_face_return(task, ray_task_attempt(task));
}
RAY_REMOTE(nonsense_at_first);

/* While it waits here, the process reads what has become of its connections. */
static int
wait_for_a_task(ray_task *task)
{
    const uint64_t three = 3;
    ray_ref *ref = NULL;
    ray_value *value = NULL;
    int status = ray_call_bytes(ray_remote_square, &three, sizeof(three), &ref);
    status = status ? status : ray_get(ref, -1, &value);
    ray_value_release(value);
    ray_ref_release(ref);
    return status ? status : c_face_return(task, 0);
}

static int
method_cuts(ray_task *task)
{
    for_sockets_of((pid_t)c_face_arg(task), cut);
    return wait_for_a_task(task);
}
RAY_REMOTE(method_cuts);

struct spoil {
    pid_t pid;
    char gate[128];
};

/* Runs until its caller has done without the connection. */
static int
method_speaks_nonsense(ray_task *task)
{
    struct spoil spoil;
    assert_int_equal(ray_task_arg_copy(task, 0, &spoil, sizeof(spoil)), sizeof(spoil));
    for_sockets_of(spoil.pid, speak_nonsense);
    (void)c_face_gate_ask(spoil.gate);
    return c_face_return(task, 0);
}
RAY_REMOTE(method_speaks_nonsense);

static int
method_answers(ray_task *task)
{
    return c_face_return(task, c_face_arg(task));
}
RAY_REMOTE(method_answers);

static ray_options *
with_retries(int32_t retries)
{
    const struct ray_resource cpu = { "CPU", 1 };
    struct ray_task_options options;
    ray_task_options_default(&options);
    options.max_retries = retries;
    options.resources = &cpu;
    options.resource_count = 1;
    return c_face_options(&options);
}

static ray_ref *
submit_dying(int32_t retries, int deaths, char path[256])
{
    char text[256];
    ray_options *options = with_retries(retries);
    (void)snprintf(path, 256, "%s/marks", harness_dir());
    (void)snprintf(text, sizeof(text), "%d%s", deaths, path);
    ray_ref *ref = c_face_call_text(ray_remote_die_at_first, options, text);
    ray_options_release(options);
    return ref;
}

/* ---- workers ---- */

static void
test_task_is_done_again_after_a_death(void **state)
{
    (void)state;
    char path[256];
    assert_int_equal(c_face_number(submit_dying(3, 2, path)), 2);
    assert_int_equal(count_lines(path), 3);
}

static void
test_retries_run_out(void **state)
{
    (void)state;
    char path[256];
    const char *text = c_face_failure(RAY_E_WORKER_CRASHED, submit_dying(2, 9, path));
    assert_non_null(strstr(text, "die_at_first"));
    assert_non_null(strstr(text, "SIGKILL"));
    assert_int_equal(count_lines(path), 3);
    assert_int_equal(c_face_number(c_face_call(ray_remote_square, NULL, 3)), 9);
}

static void
test_no_retry_when_none_is_wanted(void **state)
{
    (void)state;
    char path[256];
    (void)c_face_failure(RAY_E_WORKER_CRASHED, submit_dying(0, 9, path));
    assert_int_equal(count_lines(path), 1);
}

static void
test_crash_carries_evidence(void **state)
{
    (void)state;
    ray_options *once = with_retries(0);
    const char *text = c_face_failure(RAY_E_WORKER_CRASHED, c_face_call(ray_remote_crash, once, 0));
    assert_non_null(strstr(text, "SIGSYS"));
    assert_non_null(strstr(text, "a last word"));
    text = c_face_failure(RAY_E_WORKER_CRASHED, c_face_call(ray_remote_leave_the_house, once, 0));
    assert_non_null(strstr(text, "7"));
    ray_options_release(once);
}

/* Eight tasks behind one that crashes, none of which may be tried twice: each runs once. */
static void
test_what_was_queued_behind_a_crash_runs_once(void **state)
{
    (void)state;
    enum { BEHIND = 8, ROUNDS = 5 };
    ray_options *once = with_retries(0);
    for (int round = 0; round < ROUNDS; round++) {
        char path[BEHIND][256];
        ray_ref *refs[BEHIND];
        ray_ref *crashing = c_face_call(ray_remote_crash, once, 0);
        for (int i = 0; i < BEHIND; i++) {
            (void)snprintf(path[i], sizeof(path[i]), "%s/mark-%d-%d", harness_dir(), round, i);
            refs[i] = c_face_call_text(ray_remote_mark, once, path[i]);
        }
        (void)c_face_failure(RAY_E_WORKER_CRASHED, crashing);
        for (int i = 0; i < BEHIND; i++) {
            assert_int_equal(c_face_number(refs[i]), 1);
            assert_int_equal(count_lines(path[i]), 1);
        }
    }
    ray_options_release(once);
}

static void
test_worker_killed_from_outside(void **state)
{
    (void)state;
    char gate[128];
    c_face_gate_create("pid", gate);
    ray_options *once = with_retries(0);
    ray_ref *ref = c_face_call_text(ray_remote_tell_and_stay, once, gate);
    const int pid = (int)c_face_gate_ask(gate);
    assert_int_equal(kill(pid, SIGKILL), 0);
    char wanted[32];
    (void)snprintf(wanted, sizeof(wanted), "pid %d", pid);
    assert_non_null(strstr(c_face_failure(RAY_E_WORKER_CRASHED, ref), wanted));
    ray_options_release(once);
}

static void
test_results_of_a_dead_worker_stay(void **state)
{
    (void)state;
    ray_ref *refs[20];
    for (uint64_t i = 0; i < 20; i++) {
        refs[i] = c_face_call(ray_remote_give_megabyte, NULL, i);
    }
    MUST(ray_wait_all(refs, 20, -1, NULL));
    ray_options *once = with_retries(0);
    (void)c_face_failure(RAY_E_WORKER_CRASHED, c_face_call(ray_remote_crash, once, 0));
    (void)c_face_failure(RAY_E_WORKER_CRASHED, c_face_call(ray_remote_crash, once, 0));
    for (int i = 0; i < 20; i++) {
        uint8_t bytes[16];
        MUST(ray_get_bytes(refs[i], -1, bytes, sizeof(bytes)));
        assert_int_equal(bytes[7], i);
        ray_ref_release(refs[i]);
    }
    ray_options_release(once);
}

/* The worker lives, but its owner will never hear of the task: it is done again elsewhere. */
/* It goes on over another socket: nothing is done again. */
static void
test_connection_with_a_live_worker_breaks(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        assert_int_equal(
            c_face_number(c_face_call(ray_remote_cut_and_tell, NULL, (uint64_t)getpid())), 0);
    }
}

static ray_actor *
create_empty_actor(void)
{
    struct ray_task_options plain;
    ray_actor *actor = NULL;
    ray_task_options_default(&plain);
    MUST(ray_actor_create(ray_remote_empty_actor, c_face_options(&plain), NULL, 0, &actor));
    return actor;
}

static void
test_connection_with_a_live_actor_breaks(void **state)
{
    (void)state;
    enum { ROUNDS = 20 };
    ray_actor *actor = create_empty_actor();
    ray_ref *cuts[ROUNDS], *behind[ROUNDS];
    for (uint64_t i = 0; i < ROUNDS; i++) {
        cuts[i] = c_face_method(actor, ray_remote_method_cuts, (uint64_t)getpid());
        behind[i] = c_face_method(actor, ray_remote_method_answers, i);
    }
    for (uint64_t i = 0; i < ROUNDS; i++) {
        assert_int_equal(c_face_number(cuts[i]), 0);
        assert_int_equal(c_face_number(behind[i]), i);
    }
    ray_actor_release(actor);
}

/* After nonsense nothing goes on: what runs there ends with its process. */
static void
test_worker_speaks_nonsense(void **state)
{
    (void)state;
    assert_int_equal(
        c_face_number(c_face_call(ray_remote_nonsense_at_first, NULL, (uint64_t)getpid())), 1);
}

static void
test_actor_speaks_nonsense(void **state)
{
    (void)state;
    ray_actor *actor = create_empty_actor();
    assert_int_equal(c_face_number(c_face_method(actor, ray_remote_method_answers, 7)), 7);
    struct spoil spoil = { .pid = getpid() };
    c_face_gate_create("spoilt", spoil.gate);
    ray_ref *spoilt = NULL;
    MUST(ray_actor_call_bytes(actor, ray_remote_method_speaks_nonsense, &spoil, sizeof(spoil),
                              &spoilt));
    ray_ref *behind = c_face_method(actor, ray_remote_method_answers, 8);
    (void)c_face_failure(RAY_E_ACTOR_UNAVAILABLE, spoilt);
    c_face_gate_tell(spoil.gate, 1); /* what is behind it had not begun, and comes once more */
    assert_int_equal(c_face_number(behind), 8);
    assert_int_equal(c_face_number(c_face_method(actor, ray_remote_method_answers, 9)), 9);
    ray_actor_release(actor);
}

/* ---- the runtime's own processes ---- */

static void
count_cancelled(void *ctx, bool cancelled)
{
    *(int *)ctx += cancelled;
}

/* Tasks in every state: running, queued, waiting for an argument; the same for calls of an actor.
 */
static void
test_shutdown_with_work_in_flight(void **state)
{
    char gate[128];
    c_face_gate_create("pid", gate);
    enum { QUEUED = 500 };
    static ray_ref *refs[2 * QUEUED + 2];
    int cancelled = 0;
    size_t n = 0;
    ray_actor *actor = NULL;
    MUST(ray_actor_create(ray_remote_empty_actor, NULL, NULL, 0, &actor));
    refs[n++] = c_face_call_text(ray_remote_tell_and_stay, NULL, gate);
    const struct ray_arg arg = { .ref = refs[0] };
    MUST(ray_ref_on_ready(refs[0], count_cancelled, &cancelled));
    MUST(ray_task_submit(ray_remote_square, NULL, &arg, 1, &refs[n++]));
    for (uint64_t i = 0; i < QUEUED; i++) {
        refs[n++] = c_face_call(ray_remote_square, NULL, i);
        refs[n] = NULL;
        MUST(ray_actor_call(actor, ray_remote_square, NULL, &arg, 1, &refs[n++]));
    }
    (void)c_face_gate_ask(gate);
    (void)c_face_stop(state);
    assert_int_equal(cancelled, 1);
    (void)c_face_start(state);
    for (size_t i = 0; i < n; i++) {
        ray_ref_release(refs[i]);
    }
    ray_actor_release(actor);
    assert_int_equal(c_face_number(c_face_call(ray_remote_square, NULL, 6)), 36);
}

static void
test_raylet_dies(void **state)
{
    char gate[128];
    c_face_gate_create("pid", gate);
    const pid_t raylet = (pid_t)c_face_number(c_face_call(ray_remote_raylet_pid, NULL, 0));
    ray_ref *done = c_face_call(ray_remote_give_megabyte, NULL, 5);
    ray_value *value = NULL;
    MUST(ray_get(done, -1, &value));
    ray_ref *ref = c_face_call_text(ray_remote_tell_and_stay, NULL, gate);
    (void)c_face_gate_ask(gate);
    assert_int_equal(kill(raylet, SIGKILL), 0);
    uint64_t number;
    EXPECT(RAY_E_RAYLET_DIED, ray_get_bytes(ref, -1, &number, sizeof(number)));
    assert_non_null(strstr(ray_error_text(), "SIGKILL"));
    assert_false(ray_is_initialized());
    assert_int_equal(((const uint8_t *)ray_value_data(value))[99], 5); /* stays readable */
    ray_value_release(value);
    ray_ref_release(ref);
    ray_ref_release(done);
    (void)c_face_stop(state);
    (void)c_face_start(state);
    assert_int_equal(c_face_number(c_face_call(ray_remote_square, NULL, 6)), 36);
}

static void
test_gcs_dies(void **state)
{
    (void)state;
    const pid_t raylet = (pid_t)c_face_number(c_face_call(ray_remote_raylet_pid, NULL, 0));
    for (uint64_t i = 0; i < 2; i++) {
        const pid_t gcs = c_face_child(raylet, "ray-gcs");
        assert_int_not_equal(gcs, 0);
        ray_actor *before = NULL, *after = NULL;
        MUST(ray_actor_create(ray_remote_empty_actor, NULL, NULL, 0, &before));
        assert_int_equal(c_face_number(c_face_method(before, ray_remote_square, 2)), 4);
        assert_int_equal(kill(gcs, SIGKILL), 0);
        assert_int_equal(c_face_number(c_face_call(ray_remote_square, NULL, 3)), 9);
        assert_int_equal(c_face_number(c_face_method(before, ray_remote_square, 4)), 16);
        MUST(ray_actor_create(ray_remote_empty_actor, NULL, NULL, 0, &after));
        assert_int_equal(c_face_number(c_face_method(after, ray_remote_square, 5)), 25);
        ray_actor_release(before);
        ray_actor_release(after);
    }
}

/* ---- drivers ---- */

/* What a driver has when it dies. It tells at the gate where its runtime is. */
static void
be_driver(const char *gate, const char *worker_gate)
{
    enum { OBJECTS = 20 };
    (void)c_face_start_with(2);
    ray_ref *refs[OBJECTS];
    for (uint64_t i = 0; i < OBJECTS; i++) {
        refs[i] = c_face_call(ray_remote_give_megabyte, NULL, i);
    }
    MUST(ray_wait_all(refs, OBJECTS, -1, NULL));
    ray_actor *actor = NULL;
    MUST(ray_actor_create(ray_remote_empty_actor, NULL, NULL, 0, &actor));
    (void)c_face_number(c_face_method(actor, ray_remote_square, 1));
    ray_ref *running = c_face_call_text(ray_remote_tell_and_stay, NULL, worker_gate);
    (void)c_face_gate_ask(worker_gate);
    const int fd = open(gate, O_WRONLY | O_CLOEXEC);
    const struct ray_context *context = c_face_context();
    if (fd < 0 || write(fd, context, sizeof(*context)) != (ssize_t)sizeof(*context)) {
        abort();
    }
    close(fd);
    uint64_t number;
    (void)ray_get_bytes(running, -1, &number, sizeof(number)); /* until it is killed */
    abort();
}

static void
kill_a_driver(int signal_number)
{
    char gate[128], worker_gate[128];
    struct ray_context context;
    c_face_gate_create("driver", gate);
    c_face_gate_create("worker", worker_gate);
    const pid_t driver = fork();
    if (driver == 0) {
        be_driver(gate, worker_gate);
    }
    const int fd = open(gate, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    size_t got = 0;
    while (got < sizeof(context)) {
        const ssize_t n = read(fd, (char *)&context + got, sizeof(context) - got);
        assert_true(n > 0);
        got += (size_t)n;
    }
    close(fd);
    assert_int_equal(kill(driver, signal_number), 0);
    c_face_expect_gone(&context);
}

static int
become_subreaper(void **state)
{
    (void)state;
    return prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
}

static void
test_driver_is_killed(void **state)
{
    (void)state;
    kill_a_driver(SIGKILL);
}

static void
test_driver_is_terminated(void **state)
{
    (void)state;
    kill_a_driver(SIGTERM);
}

int
main(int argc, char **argv)
{
    c_face_main(argc, argv);
    const struct CMUnitTest tests[] = {
        C_FACE_TEST(test_task_is_done_again_after_a_death),
        C_FACE_TEST(test_retries_run_out),
        C_FACE_TEST(test_no_retry_when_none_is_wanted),
        C_FACE_TEST(test_crash_carries_evidence),
        C_FACE_TEST(test_what_was_queued_behind_a_crash_runs_once),
        C_FACE_TEST(test_worker_killed_from_outside),
        C_FACE_TEST(test_results_of_a_dead_worker_stay),
        C_FACE_TEST(test_connection_with_a_live_worker_breaks),
        C_FACE_TEST(test_connection_with_a_live_actor_breaks),
        C_FACE_TEST(test_worker_speaks_nonsense),
        C_FACE_TEST(test_actor_speaks_nonsense),
        C_FACE_TEST(test_shutdown_with_work_in_flight),
        C_FACE_TEST(test_raylet_dies),
        C_FACE_TEST(test_gcs_dies),
        cmocka_unit_test_setup(test_driver_is_killed, become_subreaper),
        cmocka_unit_test_setup(test_driver_is_terminated, become_subreaper),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
