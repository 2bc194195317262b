/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemons as real processes: starting, serving, every kind of death, malformed peers. The
 * letter in a test's name says its class: b basic, c complex, f fault.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/status.h"
#include "cl_client.h"
#include "cl_roles.h"
#include "harness.h"
#include "os/os_basic.h"
#include "os/os_proc.h"

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

/* ---- state, key-value ------------------------------------------------------------------------ */

static void
ask_state(struct cl_runtime *rt, const char *what, char *out, size_t capacity)
{
    Ray__Node__StateAsk ask = RAY__NODE__STATE_ASK__INIT;
    char copy[64];
    (void)snprintf(copy, sizeof(copy), "%s", what);
    ask.what = copy;
    cl_send(&rt->node, NODE_STATE_ASK, 5, &ask.base, -1);
    Ray__Node__StateAnswer *m = (Ray__Node__StateAnswer *)cl_expect(&rt->node, NODE_STATE_ANSWER);
    assert_int_equal(m->status, ST_OK);
    (void)snprintf(out, capacity, "%s", m->json);
    net_msg_free(&m->base);
}

static void
b05_tells_its_state(void **state)
{
    (void)state;
    struct cl_runtime rt = { 0 };
    char text[8192];
    cl_start(&rt);
    ask_state(&rt, "nodes", text, sizeof(text));
    assert_non_null(strstr(text, "\"NodeManagerAddress\": \"127.0.0.1\""));
    ask_state(&rt, "cluster_resources", text, sizeof(text));
    assert_non_null(strstr(text, "\"CPU\": 2.0"));
    Ray__Node__LeaseGrant *grant = cl_lease(&rt, 15000);
    ask_state(&rt, "available_resources", text, sizeof(text));
    assert_non_null(strstr(text, "\"CPU\": 0.5"));
    net_msg_free(&grant->base);
    ask_state(&rt, "jobs", text, sizeof(text));
    assert_non_null(strstr(text, "\"JobID\": \"01000000\""));
    cl_stop(&rt);
}

static void
put_value(struct cl_runtime *rt, const char *value)
{
    Ray__Gcs__KvPut m = RAY__GCS__KV_PUT__INIT;
    char table[] = "t", key[] = "k", copy[64];
    (void)snprintf(copy, sizeof(copy), "%s", value);
    m.table = table;
    m.key.data = (uint8_t *)key;
    m.key.len = 1;
    m.value.data = (uint8_t *)copy;
    m.value.len = strlen(copy);
    m.overwrite = true;
    cl_send(&rt->gcs, GCS_KV_PUT, 77, &m.base, -1);
    Ray__Gcs__Done *done = (Ray__Gcs__Done *)cl_expect(&rt->gcs, GCS_DONE);
    assert_int_equal(done->status, ST_OK);
    net_msg_free(&done->base);
}

static void
assert_value(struct cl_conn *gcs, const char *value)
{
    Ray__Gcs__KvGet m = RAY__GCS__KV_GET__INIT;
    char table[] = "t", key[] = "k";
    m.table = table;
    m.key.data = (uint8_t *)key;
    m.key.len = 1;
    cl_send(gcs, GCS_KV_GET, 78, &m.base, -1);
    Ray__Gcs__KvValue *got = (Ray__Gcs__KvValue *)cl_expect(gcs, GCS_KV_VALUE);
    assert_int_equal(got->status, ST_OK);
    assert_int_equal(got->value.len, strlen(value));
    assert_memory_equal(got->value.data, value, strlen(value));
    net_msg_free(&got->base);
}

/* ---- actors ---------------------------------------------------------------------------------- */

static struct id_actor
create_actor(struct cl_runtime *rt, const char *what, int64_t max_restarts)
{
    static uint8_t serial;
    struct id_actor id;
    memset(id.b, ++serial, sizeof(id.b));
    memcpy(id.b + 12, rt->job_id.b, 4);
    char class_name[] = "Counter", spec[16];
    (void)snprintf(spec, sizeof(spec), "%s", what);
    Ray__Gcs__CreateActor m = RAY__GCS__CREATE_ACTOR__INIT;
    m.actor_id.data = id.b;
    m.actor_id.len = sizeof(id.b);
    m.job_id.data = rt->job_id.b;
    m.job_id.len = sizeof(rt->job_id.b);
    m.owner_worker_id.data = rt->worker_id.b;
    m.owner_worker_id.len = sizeof(rt->worker_id.b);
    m.class_name = class_name;
    m.max_restarts = max_restarts;
    m.spec.data = (uint8_t *)spec;
    m.spec.len = strlen(spec);
    cl_send(&rt->gcs, GCS_CREATE_ACTOR, 50, &m.base, -1);
    Ray__Gcs__Done *done = (Ray__Gcs__Done *)cl_expect(&rt->gcs, GCS_DONE);
    assert_int_equal(done->status, ST_OK);
    net_msg_free(&done->base);
    Ray__Gcs__WatchActor watch = RAY__GCS__WATCH_ACTOR__INIT;
    watch.actor_id = m.actor_id;
    cl_send(&rt->gcs, GCS_WATCH_ACTOR, 0, &watch.base, -1);
    return id;
}

/* Waits until the actor is in that state (and constructed, when it is to be alive). */
static Ray__Gcs__ActorUpdate *
wait_for_actor(struct cl_runtime *rt, const struct id_actor *id, Ray__Gcs__ActorState state,
               uint64_t incarnation)
{
    for (;;) {
        Ray__Gcs__ActorUpdate *m = (Ray__Gcs__ActorUpdate *)cl_expect(&rt->gcs, GCS_ACTOR_UPDATE);
        const bool ours = memcmp(m->actor_id.data, id->b, sizeof(id->b)) == 0;
        if (ours && m->state == state && m->incarnation == incarnation &&
            (state != RAY__GCS__ACTOR_STATE__ALIVE || m->constructed)) {
            return m;
        }
        if (ours && m->state == RAY__GCS__ACTOR_STATE__DEAD) {
            fail_msg("the actor is dead: %s", m->reason);
        }
        net_msg_free(&m->base);
    }
}

static pid_t
wait_alive(struct cl_runtime *rt, const struct id_actor *id, uint64_t incarnation)
{
    Ray__Gcs__ActorUpdate *m = wait_for_actor(rt, id, RAY__GCS__ACTOR_STATE__ALIVE, incarnation);
    const pid_t pid = m->pid;
    net_msg_free(&m->base);
    return pid;
}

static void
wait_dead(struct cl_runtime *rt, const struct id_actor *id, uint64_t incarnation, int status,
          const char *reason)
{
    Ray__Gcs__ActorUpdate *m = wait_for_actor(rt, id, RAY__GCS__ACTOR_STATE__DEAD, incarnation);
    assert_int_equal(m->status, status);
    if (!strstr(m->reason, reason)) {
        fail_msg("'%s' doesn't say '%s'", m->reason, reason);
    }
    net_msg_free(&m->base);
}

static void
kill_actor(struct cl_runtime *rt, const struct id_actor *id, bool no_restart)
{
    Ray__Gcs__KillActor m = RAY__GCS__KILL_ACTOR__INIT;
    struct id_actor copy = *id;
    m.actor_id.data = copy.b;
    m.actor_id.len = sizeof(copy.b);
    m.no_restart = no_restart;
    cl_send(&rt->gcs, GCS_KILL_ACTOR, 60, &m.base, -1);
    net_msg_free(cl_expect(&rt->gcs, GCS_DONE));
}

static void
b06_actor_lives_and_is_killed(void **state)
{
    (void)state;
    struct cl_runtime rt = { 0 };
    cl_start(&rt);
    const struct id_actor id = create_actor(&rt, "ok", 0);
    const pid_t pid = wait_alive(&rt, &id, 0);
    assert_int_equal(cl_parent_of(pid), rt.raylet);
    kill_actor(&rt, &id, true);
    wait_dead(&rt, &id, 0, ST_ACTOR_DIED, "ray.kill");
    assert_true(cl_wait_gone(pid, 2000));
    cl_stop(&rt);
}

static void
b07_actor_goes_out_of_scope(void **state)
{
    (void)state;
    struct cl_runtime rt = { 0 };
    cl_start(&rt);
    struct id_actor id = create_actor(&rt, "ok", 0);
    const pid_t pid = wait_alive(&rt, &id, 0);
    Ray__Gcs__ActorOutOfScope m = RAY__GCS__ACTOR_OUT_OF_SCOPE__INIT;
    m.actor_id.data = id.b;
    m.actor_id.len = sizeof(id.b);
    cl_send(&rt.gcs, GCS_ACTOR_OUT_OF_SCOPE, 0, &m.base, -1);
    wait_dead(&rt, &id, 0, ST_ACTOR_DIED, "exit code 0");
    assert_true(cl_wait_gone(pid, 2000));
    cl_stop(&rt);
}

static void
b08_failing_constructor_is_told(void **state)
{
    (void)state;
    struct cl_runtime rt = { 0 };
    cl_start(&rt);
    const struct id_actor id = create_actor(&rt, "fail", 3);
    Ray__Gcs__ActorUpdate *m = wait_for_actor(&rt, &id, RAY__GCS__ACTOR_STATE__DEAD, 0);
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
    const struct id_actor id = create_actor(&rt, "ok", 2);
    for (uint64_t incarnation = 0; incarnation < 2; incarnation++) {
        const pid_t pid = wait_alive(&rt, &id, incarnation);
        assert_int_equal(kill(pid, SIGKILL), 0);
    }
    const pid_t pid = wait_alive(&rt, &id, 2);
    assert_int_equal(kill(pid, SIGABRT), 0);
    wait_dead(&rt, &id, 2, ST_ACTOR_DIED, "SIGABRT");
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
        const struct id_actor id = create_actor(&rt, "ok", -1);
        pids[i] = wait_alive(&rt, &id, 0);
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

/* ---- deaths ---------------------------------------------------------------------------------- */

/* A driver in a process of its own, to be killed. It writes what it started to the pipe. */
struct report {
    pid_t raylet, guard, gcs, worker;
    char socket_dir[128], session_dir[256];
};

static void
driver_main(int pipe_fd, bool by_zygote)
{
    struct cl_runtime rt = { .by_zygote = by_zygote };
    cl_start(&rt);
    Ray__Node__LeaseGrant *grant = cl_lease(&rt, 10000);
    struct report report = { .raylet = rt.raylet, .guard = rt.guard };
    report.worker = grant->leases[0]->pid;
    report.gcs = cl_find_child(rt.raylet, "ray-gcs");
    memcpy(report.socket_dir, rt.socket_dir, sizeof(report.socket_dir));
    memcpy(report.session_dir, rt.session_dir, sizeof(report.session_dir));
    if (write(pipe_fd, &report, sizeof(report)) != (ssize_t)sizeof(report)) {
        _exit(1);
    }
    for (;;) {
        (void)pause();
    }
}

static void
kill_a_driver(bool by_zygote)
{
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    const pid_t driver = fork();
    if (driver == 0) {
        driver_main(fds[1], by_zygote);
    }
    os_close(&fds[1]);
    struct report report;
    assert_int_equal(read(fds[0], &report, sizeof(report)), sizeof(report));
    os_close(&fds[0]);
    assert_true(report.gcs > 0 && cl_is_alive(report.gcs));
    assert_int_equal(kill(driver, SIGKILL), 0);
    assert_int_equal(waitpid(driver, NULL, 0), driver);
    assert_true(cl_wait_gone(report.guard, 2000));
    assert_false(cl_is_alive(report.raylet));
    assert_false(cl_is_alive(report.gcs));
    assert_false(cl_is_alive(report.worker));
    assert_int_not_equal(access(report.socket_dir, F_OK), 0);
}

static void
f01_driver_killed_leaves_nothing(void **state)
{
    (void)state;
    kill_a_driver(false);
}

static void
f02_driver_killed_leaves_no_zygote(void **state)
{
    (void)state;
    kill_a_driver(true);
}

static void
f03_worker_killed_is_told_with_evidence(void **state)
{
    (void)state;
    struct cl_runtime rt = { .by_zygote = true, .behaviour = "print" };
    cl_start(&rt);
    Ray__Node__LeaseGrant *grant = cl_lease(&rt, 20000);
    const pid_t pid = grant->leases[0]->pid;
    bool complained = false; /* this one: others are started ahead and print too */
    while (!complained) {
        Ray__Node__LogLines *lines = (Ray__Node__LogLines *)cl_expect(&rt.node, NODE_LOG_LINES);
        complained = lines->pid == pid && lines->is_stderr;
        net_msg_free(&lines->base);
    }
    assert_int_equal(kill(pid, SIGKILL), 0);
    Ray__Node__ProcessDied *m = (Ray__Node__ProcessDied *)cl_expect(&rt.node, NODE_PROCESS_DIED);
    assert_int_equal(m->pid, pid);
    assert_int_equal(m->signal, SIGKILL);
    assert_memory_equal(m->worker_id.data, grant->leases[0]->worker_id.data, 28);
    assert_non_null(strstr(m->evidence, "SIGKILL"));
    assert_non_null(strstr(m->evidence, "another"));
    net_msg_free(&m->base);
    /* Asked again, the answer is the same. */
    Ray__Node__Watch watch = RAY__NODE__WATCH__INIT;
    watch.worker_id = grant->leases[0]->worker_id;
    cl_send(&rt.node, NODE_WATCH, 0, &watch.base, -1);
    m = (Ray__Node__ProcessDied *)cl_expect(&rt.node, NODE_PROCESS_DIED);
    assert_int_equal(m->signal, SIGKILL);
    net_msg_free(&m->base);
    net_msg_free(&grant->base);
    /* Its CPUs are free again. */
    grant = cl_lease(&rt, 20000);
    assert_int_not_equal(grant->leases[0]->pid, pid);
    net_msg_free(&grant->base);
    cl_stop(&rt);
}

static void
f04_orphans_die_with_their_worker(void **state)
{
    (void)state;
    struct cl_runtime rt = { .by_zygote = true, .behaviour = "orphan" };
    cl_start(&rt);
    Ray__Node__LeaseGrant *grant = cl_lease(&rt, 10000);
    pid_t orphan = 0;
    while (orphan == 0) {
        Ray__Node__LogLines *m = (Ray__Node__LogLines *)cl_expect(&rt.node, NODE_LOG_LINES);
        char text[64] = "";
        (void)snprintf(text, sizeof(text), "%.*s", (int)m->text.len, (const char *)m->text.data);
        if (m->pid == grant->leases[0]->pid) {
            assert_int_equal(sscanf(text, "orphan %d", &orphan), 1);
        }
        net_msg_free(&m->base);
    }
    /* The worker is its subreaper. */
    assert_int_equal(cl_parent_of(orphan), grant->leases[0]->pid);
    assert_int_equal(kill(grant->leases[0]->pid, SIGKILL), 0);
    assert_true(cl_wait_gone(orphan, 2000));
    net_msg_free(cl_expect(&rt.node, NODE_PROCESS_DIED));
    net_msg_free(&grant->base);
    cl_stop(&rt);
}

static void
f05_zygote_killed_is_replaced(void **state)
{
    (void)state;
    struct cl_runtime rt = { .by_zygote = true, .expect_errors = true };
    cl_start(&rt);
    Ray__Node__LeaseGrant *grant = cl_lease(&rt, 10000);
    const pid_t zygote = cl_find_child(rt.raylet, "--role zygote");
    assert_true(zygote > 0);
    pid_t worker = grant->leases[0]->pid;
    /* Workers have the zygote's command line too: the zygote is the oldest child with it. */
    assert_int_not_equal(zygote, worker);
    assert_int_equal(kill(zygote, SIGKILL), 0);
    assert_true(cl_wait_gone(zygote, 2000));
    assert_true(cl_is_alive(worker));
    assert_int_equal(kill(worker, SIGKILL), 0);
    net_msg_free(cl_expect(&rt.node, NODE_PROCESS_DIED));
    net_msg_free(&grant->base);
    for (int i = 0; i < 2; i++) {
        grant = cl_lease(&rt, 10000);
        assert_int_not_equal(grant->leases[0]->pid, worker);
        net_msg_free(&grant->base);
    }
    cl_stop(&rt);
}

static void
f06_gcs_killed_comes_back_with_everything(void **state)
{
    (void)state;
    struct cl_runtime rt = { .expect_errors = true };
    cl_start(&rt);
    put_value(&rt, "precious");
    const struct id_actor id = create_actor(&rt, "ok", 0);
    const pid_t actor = wait_alive(&rt, &id, 0);
    const pid_t gcs = cl_find_child(rt.raylet, "ray-gcs");
    assert_true(gcs > 0);
    assert_int_equal(kill(gcs, SIGKILL), 0);
    cl_expect_end(&rt.gcs);
    cl_conn_close(&rt.gcs);
    /* Connecting never fails: the socket is the raylet's. */
    char path[160];
    (void)snprintf(path, sizeof(path), "%s/gcs", rt.socket_dir);
    cl_connect(&rt.loop, path, &rt.gcs);
    Ray__Gcs__GcsHello hello = RAY__GCS__GCS_HELLO__INIT;
    hello.protocol_version = RAY_PROTOCOL_VERSION;
    hello.worker_id.data = rt.worker_id.b;
    hello.worker_id.len = sizeof(rt.worker_id.b);
    cl_send(&rt.gcs, GCS_GCS_HELLO, 0, &hello.base, -1);
    assert_value(&rt.gcs, "precious");
    struct id_actor copy = id;
    Ray__Gcs__WatchActor watch = RAY__GCS__WATCH_ACTOR__INIT;
    watch.actor_id.data = copy.b;
    watch.actor_id.len = sizeof(copy.b);
    cl_send(&rt.gcs, GCS_WATCH_ACTOR, 0, &watch.base, -1);
    assert_int_equal(wait_alive(&rt, &id, 0), actor);
    /* And it can still be killed through the new one. */
    kill_actor(&rt, &id, true);
    wait_dead(&rt, &id, 0, ST_ACTOR_DIED, "ray.kill");
    assert_true(cl_wait_gone(actor, 2000));
    cl_stop(&rt);
}

static void
f07_gcs_that_keeps_dying_ends_the_runtime(void **state)
{
    (void)state;
    struct cl_runtime rt = { .expect_errors = true };
    cl_start(&rt);
    pid_t last = 0;
    for (int i = 0; i < 4; i++) {
        pid_t gcs = 0;
        while (gcs == 0 || gcs == last) {
            char text[64];
            ask_state(&rt, "workers", text, sizeof(text)); /* one more round of the raylet */
            gcs = cl_find_child(rt.raylet, "ray-gcs");
        }
        last = gcs;
        assert_int_equal(kill(gcs, SIGKILL), 0);
        assert_true(cl_wait_gone(gcs, 2000));
    }
    Ray__Node__RayletExited *m = (Ray__Node__RayletExited *)cl_expect(&rt.boot, NODE_RAYLET_EXITED);
    assert_int_not_equal(m->exit_code, 0);
    assert_non_null(strstr(m->text, "control service"));
    net_msg_free(&m->base);
    cl_expect_end(&rt.boot);
    cl_assert_gone(&rt);
    cl_close(&rt);
}

static void
f08_raylet_killed_leaves_nothing(void **state)
{
    (void)state;
    struct cl_runtime rt = { .by_zygote = true };
    cl_start(&rt);
    Ray__Node__LeaseGrant *grant = cl_lease(&rt, 10000);
    const pid_t worker = grant->leases[0]->pid;
    const pid_t gcs = cl_find_child(rt.raylet, "ray-gcs");
    net_msg_free(&grant->base);
    assert_int_equal(kill(rt.raylet, SIGKILL), 0);
    Ray__Node__RayletExited *m = (Ray__Node__RayletExited *)cl_expect(&rt.boot, NODE_RAYLET_EXITED);
    assert_int_equal(m->signal, SIGKILL);
    assert_non_null(strstr(m->text, "SIGKILL"));
    net_msg_free(&m->base);
    cl_expect_end(&rt.boot);
    assert_false(cl_is_alive(worker));
    assert_false(cl_is_alive(gcs));
    cl_assert_gone(&rt);
    char text[512];
    assert_non_null(strstr(cl_read_file(rt.session_dir, "logs/raylet_exit.txt", text, sizeof(text)),
                           "SIGKILL"));
    cl_close(&rt);
}

static void
f09_guard_killed_ends_in_good_order(void **state)
{
    (void)state;
    struct cl_runtime rt = { .expect_errors = true };
    cl_start(&rt);
    Ray__Node__LeaseGrant *grant = cl_lease(&rt, 10000);
    const pid_t worker = grant->leases[0]->pid;
    net_msg_free(&grant->base);
    assert_int_equal(kill(rt.guard, SIGKILL), 0);
    cl_expect_end(&rt.node);
    cl_assert_gone(&rt);
    assert_false(cl_is_alive(worker));
    cl_close(&rt);
}

/* What a runtime that was killed whole left is removed by the next one. */
static void
f10_next_runtime_sweeps(void **state)
{
    (void)state;
    struct cl_runtime first = { 0 }, second = { 0 };
    cl_start(&first);
    assert_int_equal(kill(first.guard, SIGSTOP), 0);
    assert_int_equal(kill(first.raylet, SIGKILL), 0);
    assert_int_equal(kill(first.guard, SIGKILL), 0);
    assert_true(cl_wait_gone(first.guard, 2000));
    assert_int_equal(access(first.socket_dir, F_OK), 0);
    cl_start(&second);
    while (access(first.socket_dir, F_OK) == 0) {
        char text[4096];
        ask_state(&second, "store", text, sizeof(text)); /* rounds of its loop */
    }
    cl_assert_gone(&first);
    cl_close(&first);
    cl_stop(&second);
}

static void
f11_workers_that_cannot_start_fail_the_lease(void **state)
{
    (void)state;
    struct cl_runtime rt = { .expect_errors = true, .behaviour = "die" };
    cl_start(&rt);
    char name[] = "CPU", what[] = "test";
    Ray__Node__Resource resource = RAY__NODE__RESOURCE__INIT;
    resource.name = name;
    resource.amount = 10000;
    Ray__Node__Resource *resources[1] = { &resource };
    Ray__Node__LeaseRequest m = RAY__NODE__LEASE_REQUEST__INIT;
    m.key = 4;
    m.resources = resources;
    m.n_resources = 1;
    m.count = 1;
    m.what = what;
    cl_send(&rt.node, NODE_LEASE_REQUEST, 0, &m.base, -1);
    Ray__Node__LeaseTrouble *trouble =
        (Ray__Node__LeaseTrouble *)cl_expect(&rt.node, NODE_LEASE_TROUBLE);
    assert_int_equal(trouble->key, 4);
    assert_true(trouble->fatal);
    assert_int_equal(trouble->status, ST_WORKER_CRASHED);
    assert_non_null(strstr(trouble->text, "doesn't feel like it"));
    net_msg_free(&trouble->base);
    cl_stop(&rt);
}

/* ---- malformed peers ------------------------------------------------------------------------- */

static void
send_raw(struct cl_conn *c, const void *bytes, size_t size)
{
    assert_int_equal(send(net_conn_fd(c->conn), bytes, size, MSG_NOSIGNAL), size);
}

static void
assert_cut_off(struct cl_loop *loop, const char *socket, const void *bytes, size_t size)
{
    struct cl_conn c;
    cl_connect(loop, socket, &c);
    send_raw(&c, bytes, size);
    cl_expect_end(&c);
    cl_conn_close(&c);
}

static void
f12_malformed_frames_end_their_connection_alone(void **state)
{
    (void)state;
    struct cl_runtime rt = { .expect_errors = true };
    cl_start(&rt);
    char gcs[160];
    (void)snprintf(gcs, sizeof(gcs), "%s/gcs", rt.socket_dir);
    const char *const sockets[2] = { rt.socket, gcs };
    for (int i = 0; i < 2; i++) {
        const struct net_frame_header too_short = { .length = 3, .kind = NODE_HELLO };
        const struct net_frame_header too_long = { .length = UINT32_MAX, .kind = NODE_HELLO };
        const struct net_frame_header unknown = { .length = 16, .kind = 999 };
        const struct net_frame_header early = { .length = 16, .kind = NODE_LEASE_REQUEST };
        assert_cut_off(&rt.loop, sockets[i], &too_short, sizeof(too_short));
        assert_cut_off(&rt.loop, sockets[i], &too_long, sizeof(too_long));
        assert_cut_off(&rt.loop, sockets[i], &unknown, sizeof(unknown));
        assert_cut_off(&rt.loop, sockets[i], &early, sizeof(early));
        struct {
            struct net_frame_header header;
            uint8_t body[16];
        } garbage = { .header = { .length = 32, .kind = i == 0 ? NODE_HELLO : GCS_GCS_HELLO } };
        memset(garbage.body, 0xff, sizeof(garbage.body));
        assert_cut_off(&rt.loop, sockets[i], &garbage, sizeof(garbage));
    }
    /* A worker that nobody started, and a driver without a descriptor of itself. */
    struct cl_conn c;
    cl_connect(&rt.loop, rt.socket, &c);
    Ray__Node__Hello hello = RAY__NODE__HELLO__INIT;
    uint8_t token[16] = { 1 };
    hello.protocol_version = RAY_PROTOCOL_VERSION;
    hello.role = RAY__NODE__ROLE__WORKER;
    hello.start_token.data = token;
    hello.start_token.len = sizeof(token);
    cl_send(&c, NODE_HELLO, 3, &hello.base, -1);
    Ray__Node__Refused *refused = (Ray__Node__Refused *)cl_expect(&c, NODE_REFUSED);
    assert_int_equal(refused->status, ST_PROTOCOL);
    net_msg_free(&refused->base);
    cl_expect_end(&c);
    cl_conn_close(&c);
    /* Nobody else has noticed. */
    Ray__Node__LeaseGrant *grant = cl_lease(&rt, 10000);
    net_msg_free(&grant->base);
    put_value(&rt, "still here");
    assert_value(&rt.gcs, "still here");
    cl_stop(&rt);
}

static void
f13_worker_that_talks_nonsense_is_killed(void **state)
{
    (void)state;
    struct cl_runtime rt = { .expect_errors = true };
    cl_start(&rt);
    /* The driver itself: its job ends, and with it, since it is the owner, the runtime. */
    const struct net_frame_header nonsense = { .length = 16, .kind = NODE_BECOME_ACTOR };
    send_raw(&rt.node, &nonsense, sizeof(nonsense));
    cl_expect_end(&rt.node);
    cl_expect_end(&rt.boot);
    cl_assert_gone(&rt);
    cl_close(&rt);
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
        cmocka_unit_test(f01_driver_killed_leaves_nothing),
        cmocka_unit_test(f02_driver_killed_leaves_no_zygote),
        cmocka_unit_test(f03_worker_killed_is_told_with_evidence),
        cmocka_unit_test(f04_orphans_die_with_their_worker),
        cmocka_unit_test(f05_zygote_killed_is_replaced),
        cmocka_unit_test(f06_gcs_killed_comes_back_with_everything),
        cmocka_unit_test(f07_gcs_that_keeps_dying_ends_the_runtime),
        cmocka_unit_test(f08_raylet_killed_leaves_nothing),
        cmocka_unit_test(f09_guard_killed_ends_in_good_order),
        cmocka_unit_test(f10_next_runtime_sweeps),
        cmocka_unit_test(f11_workers_that_cannot_start_fail_the_lease),
        cmocka_unit_test(f12_malformed_frames_end_their_connection_alone),
        cmocka_unit_test(f13_worker_that_talks_nonsense_is_killed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
