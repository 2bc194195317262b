/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemons as real processes: every kind of death, malformed peers. The letter in a test's name
 * says its class: f fault. What goes well is in test_daemons.c.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/status.h"
#include "cl_ask.h"
#include "cl_roles.h"
#include "harness.h"
#include "os/os_basic.h"
#include "os/os_dir.h"

/* ---- deaths ---- */

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
    assert_true(cl_wait_gone(report.guard));
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
    assert_true(cl_wait_gone(orphan));
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
    assert_true(cl_wait_gone(zygote));
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
    cl_put_value(&rt, "precious");
    const struct id_actor id = cl_create_actor(&rt, "ok", 0);
    const pid_t actor = cl_wait_alive(&rt, &id, 0);
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
    cl_assert_value(&rt.gcs, "precious");
    struct id_actor copy = id;
    Ray__Gcs__WatchActor watch = RAY__GCS__WATCH_ACTOR__INIT;
    watch.actor_id.data = copy.b;
    watch.actor_id.len = sizeof(copy.b);
    cl_send(&rt.gcs, GCS_WATCH_ACTOR, 0, &watch.base, -1);
    assert_int_equal(cl_wait_alive(&rt, &id, 0), actor);
    /* And it can still be killed through the new one. */
    cl_kill_actor(&rt, &id, true);
    cl_wait_dead(&rt, &id, 0, ST_ACTOR_DIED, "ray.kill");
    assert_true(cl_wait_gone(actor));
    cl_stop(&rt);
}

static void
f07_gcs_that_keeps_dying_ends_the_runtime(void **state)
{
    (void)state;
    struct cl_runtime rt = { .expect_errors = true };
    cl_start(&rt);
    /* Four deaths in ten seconds end it: on a slow machine that may take more of them. */
    for (pid_t last = 0; cl_answers(&rt);) {
        const pid_t gcs = cl_find_child(rt.raylet, "ray-gcs");
        if (gcs != 0 && gcs != last) {
            last = gcs;
            (void)kill(gcs, SIGKILL);
            assert_true(cl_wait_gone(gcs));
        }
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
    assert_true(cl_wait_gone(first.guard));
    assert_int_equal(access(first.socket_dir, F_OK), 0);
    cl_start(&second);
    while (access(first.socket_dir, F_OK) == 0) {
        char text[4096];
        cl_ask_state(&second, "store", text, sizeof(text)); /* rounds of its loop */
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

/* The raylet answers a greeting that comes from the dead: no error, and others are served. */
static void
f14_worker_that_goes_before_it_is_answered(void **state)
{
    (void)state;
    char file[256], behaviour[300];
    (void)snprintf(file, sizeof(file), "%s/one", harness_dir());
    (void)snprintf(behaviour, sizeof(behaviour), "vanish %s", file);
    struct cl_runtime rt = { .behaviour = behaviour };
    cl_start(&rt);
    assert_int_equal(os_file_write(file, "", 0, 0600), ST_OK); /* for the next that starts */
    for (int i = 0; i < 4; i++) {
        net_msg_free(&cl_lease(&rt, 1000)->base);
    }
    assert_int_not_equal(access(file, F_OK), 0);
    cl_stop(&rt);
}

/* Nobody waits for it, and nobody calls that an error. */
static void
f15_control_service_that_does_not_end(void **state)
{
    (void)state;
    struct cl_runtime rt = { 0 };
    cl_start(&rt);
    const pid_t gcs = cl_find_child(rt.raylet, "ray-gcs");
    assert_true(gcs > 0);
    assert_int_equal(kill(gcs, SIGSTOP), 0);
    cl_stop(&rt);
    assert_false(cl_is_alive(gcs));
}

/* ---- malformed peers ---- */

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
    cl_put_value(&rt, "still here");
    cl_assert_value(&rt.gcs, "still here");
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
        cmocka_unit_test(f14_worker_that_goes_before_it_is_answered),
        cmocka_unit_test(f15_control_service_that_does_not_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
