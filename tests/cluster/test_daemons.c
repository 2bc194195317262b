/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemons as real processes: starting and serving. The letter in a test's name says its class:
 * b basic, c complex; those of faults are in test_deaths.c.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/status.h"
#include "cl_ask.h"
#include "cl_roles.h"
#include "os/os_basic.h"

static void
b01_starts_and_stops(void **state)
{
    (void)state;
    struct cl_runtime rt = { 0 };
    cl_start(&rt);
    assert_int_equal(id_job_to_int(&rt.job_id), 1);
    assert_true(cl_is_alive(rt.raylet));
    assert_int_not_equal(cl_parent_of(rt.guard), getpid());
    cl_stop(&rt);
}

static void
lease_twice(struct cl_runtime *rt)
{
    cl_start(rt);
    Ray__Node__LeaseGrant *grant = cl_lease(rt, 10000);
    const pid_t pid = grant->leases[0]->pid;
    assert_int_equal(cl_parent_of(pid), rt->raylet);
    assert_true(grant->leases[0]->epoch > 0);
    assert_true(grant->leases[0]->peer_socket[0] != '\0');
    cl_return_lease(rt, grant->leases[0]->lease_id);
    net_msg_free(&grant->base);
    /* The worker is idle and warm, so it serves again. */
    grant = cl_lease(rt, 10000);
    assert_true(cl_is_alive(grant->leases[0]->pid));
    net_msg_free(&grant->base);
    cl_stop(rt);
    assert_false(cl_is_alive(pid));
}

static void
b02_leases_a_program(void **state)
{
    (void)state;
    struct cl_runtime rt = { 0 };
    lease_twice(&rt);
}

static void
b03_leases_a_fork_of_the_zygote(void **state)
{
    (void)state;
    struct cl_runtime rt = { .by_zygote = true };
    lease_twice(&rt);
}

static void
b04_lines_reach_driver_and_file(void **state)
{
    (void)state;
    struct cl_runtime rt = { .behaviour = "print" };
    cl_start(&rt);
    Ray__Node__LeaseGrant *grant = cl_lease(&rt, 10000);
    char out[64] = "", err[64] = "";
    while (strlen(out) < 23 || strlen(err) < 20) {
        Ray__Node__LogLines *m = (Ray__Node__LogLines *)cl_expect(&rt.node, NODE_LOG_LINES);
        char *to = m->is_stderr ? err : out;
        if (m->pid == grant->leases[0]->pid) {
            const size_t at = strlen(to);
            assert_true(at + m->text.len < sizeof(out));
            (void)snprintf(to + at, sizeof(out) - at, "%.*s", (int)m->text.len,
                           (const char *)m->text.data);
        }
        net_msg_free(&m->base);
    }
    assert_string_equal(out, "first line\nsecond line\n");
    assert_string_equal(err, "a complaint\nanother\n");
    char name[256], worker[ID_HEX_MAX], job[ID_HEX_MAX], text[128];
    (void)snprintf(name, sizeof(name), "logs/worker-%s-%s-%d.out",
                   id_hex(grant->leases[0]->worker_id.data, 28, worker), ID_HEX(rt.job_id, job),
                   grant->leases[0]->pid);
    assert_string_equal(cl_read_file(rt.session_dir, name, text, sizeof(text)), out);
    net_msg_free(&grant->base);
    cl_stop(&rt);
}

static void
b05_tells_its_state(void **state)
{
    (void)state;
    struct cl_runtime rt = { 0 };
    char text[8192];
    cl_start(&rt);
    cl_ask_state(&rt, "nodes", text, sizeof(text));
    assert_non_null(strstr(text, "\"NodeManagerAddress\": \"127.0.0.1\""));
    cl_ask_state(&rt, "cluster_resources", text, sizeof(text));
    assert_non_null(strstr(text, "\"CPU\": 2.0"));
    Ray__Node__LeaseGrant *grant = cl_lease(&rt, 15000);
    cl_ask_state(&rt, "available_resources", text, sizeof(text));
    assert_non_null(strstr(text, "\"CPU\": 0.5"));
    net_msg_free(&grant->base);
    cl_ask_state(&rt, "jobs", text, sizeof(text));
    assert_non_null(strstr(text, "\"JobID\": \"01000000\""));
    cl_stop(&rt);
}

static void
b06_actor_lives_and_is_killed(void **state)
{
    (void)state;
    struct cl_runtime rt = { 0 };
    cl_start(&rt);
    const struct id_actor id = cl_create_actor(&rt, "ok", 0);
    const pid_t pid = cl_wait_alive(&rt, &id, 0);
    assert_int_equal(cl_parent_of(pid), rt.raylet);
    cl_kill_actor(&rt, &id, true);
    cl_wait_dead(&rt, &id, 0, ST_ACTOR_DIED, "ray.kill");
    assert_true(cl_wait_gone(pid));
    cl_stop(&rt);
}

static void
b07_actor_goes_out_of_scope(void **state)
{
    (void)state;
    struct cl_runtime rt = { 0 };
    cl_start(&rt);
    struct id_actor id = cl_create_actor(&rt, "ok", 0);
    const pid_t pid = cl_wait_alive(&rt, &id, 0);
    Ray__Gcs__ActorOutOfScope m = RAY__GCS__ACTOR_OUT_OF_SCOPE__INIT;
    m.actor_id.data = id.b;
    m.actor_id.len = sizeof(id.b);
    cl_send(&rt.gcs, GCS_ACTOR_OUT_OF_SCOPE, 0, &m.base, -1);
    cl_wait_dead(&rt, &id, 0, ST_ACTOR_DIED, "exit code 0");
    assert_true(cl_wait_gone(pid));
    cl_stop(&rt);
}

static void
b08_failing_constructor_is_told(void **state)
{
    (void)state;
    struct cl_runtime rt = { 0 };
    cl_start(&rt);
    const struct id_actor id = cl_create_actor(&rt, "fail", 3);
    Ray__Gcs__ActorUpdate *m = cl_wait_for_actor(&rt, &id, RAY__GCS__ACTOR_STATE__DEAD, 0);
    assert_int_equal(m->status, ST_ACTOR_INIT_FAILED);
    assert_string_equal((const char *)m->failure.data, "why it failed");
    net_msg_free(&m->base);
    cl_stop(&rt);
}

static void
c01_actor_restarts_as_often_as_it_may(void **state)
{
    (void)state;
    struct cl_runtime rt = { 0 };
    cl_start(&rt);
    const struct id_actor id = cl_create_actor(&rt, "ok", 2);
    for (uint64_t incarnation = 0; incarnation < 2; incarnation++) {
        const pid_t pid = cl_wait_alive(&rt, &id, incarnation);
        assert_int_equal(kill(pid, SIGKILL), 0);
    }
    const pid_t pid = cl_wait_alive(&rt, &id, 2);
    assert_int_equal(kill(pid, SIGABRT), 0);
    cl_wait_dead(&rt, &id, 2, ST_ACTOR_DIED, "SIGABRT");
    cl_stop(&rt);
}

static void
c02_job_end_ends_actors(void **state)
{
    (void)state;
    struct cl_runtime rt = { 0 };
    pid_t pids[4];
    cl_start(&rt);
    for (int i = 0; i < 4; i++) {
        const struct id_actor id = cl_create_actor(&rt, "ok", -1);
        pids[i] = cl_wait_alive(&rt, &id, 0);
    }
    cl_stop(&rt);
    for (int i = 0; i < 4; i++) {
        assert_false(cl_is_alive(pids[i]));
    }
}

/* A second driver joins, leaves, and comes again from the same process; the first notices nothing.
 */
static void
c03_drivers_join_and_leave(void **state)
{
    (void)state;
    struct cl_runtime rt = { 0 };
    cl_start(&rt);
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    const pid_t other = fork();
    if (other == 0) {
        struct cl_runtime guest = { .guest = true };
        (void)snprintf(guest.socket, sizeof(guest.socket), "%s", rt.socket);
        (void)snprintf(guest.socket_dir, sizeof(guest.socket_dir), "%s", rt.socket_dir);
        uint32_t jobs[2];
        for (int i = 0; i < 2; i++) {
            cl_hello(&guest);
            jobs[i] = id_job_to_int(&guest.job_id);
            Ray__Node__LeaseGrant *grant = cl_lease(&guest, 10000);
            net_msg_free(&grant->base);
            Ray__Node__EndJob end = RAY__NODE__END_JOB__INIT;
            end.stop_runtime = true; /* not its to stop */
            cl_send(&guest.node, NODE_END_JOB, 9, &end.base, -1);
            net_msg_free(cl_expect(&guest.node, NODE_GOODBYE));
            cl_conn_close(&guest.node);
            cl_conn_close(&guest.gcs);
        }
        _exit(write(fds[1], jobs, sizeof(jobs)) == (ssize_t)sizeof(jobs) ? 0 : 1);
    }
    uint32_t jobs[2] = { 0, 0 };
    os_close(&fds[1]);
    assert_int_equal(read(fds[0], jobs, sizeof(jobs)), sizeof(jobs));
    os_close(&fds[0]);
    assert_int_equal(waitpid(other, NULL, 0), other);
    assert_int_equal(jobs[0], 2);
    assert_int_equal(jobs[1], 3);
    Ray__Node__LeaseGrant *grant = cl_lease(&rt, 20000); /* all is free again */
    net_msg_free(&grant->base);
    cl_stop(&rt);
}

int
main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--role") == 0) {
        return cl_role_main(argv[2]);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(b01_starts_and_stops),
        cmocka_unit_test(b02_leases_a_program),
        cmocka_unit_test(b03_leases_a_fork_of_the_zygote),
        cmocka_unit_test(b04_lines_reach_driver_and_file),
        cmocka_unit_test(b05_tells_its_state),
        cmocka_unit_test(b06_actor_lives_and_is_killed),
        cmocka_unit_test(b07_actor_goes_out_of_scope),
        cmocka_unit_test(b08_failing_constructor_is_told),
        cmocka_unit_test(c01_actor_restarts_as_often_as_it_may),
        cmocka_unit_test(c02_job_end_ends_actors),
        cmocka_unit_test(c03_drivers_join_and_leave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
