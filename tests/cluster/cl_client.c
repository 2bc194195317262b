/* SPDX-License-Identifier: Apache-2.0 */
/* The test client of the daemons. See cl_client.h. */
#include "cl_client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/status.h"
#include "harness.h"
#include "os/os_basic.h"
#include "os/os_proc.h"
#include "os/os_sock.h"

#define CL_MS UINT64_C(1000000)

/* ---- connections ----------------------------------------------------------------------------- */

static void
on_frame(void *ctx, struct net_conn *conn, const struct net_frame *frame)
{
    (void)conn;
    struct cl_conn *c = ctx;
    assert_true(c->count < CL_FRAMES_MAX);
    struct cl_frame *f = &c->frames[c->count++];
    f->kind = frame->header.kind;
    f->request = frame->header.request_id;
    if (net_msg_unpack(frame, 1 << 24, &f->message) != ST_OK) {
        fail_msg("a daemon sent %s", st_last()->text);
    }
    for (int i = 0; i < frame->fd_count && i < 8; i++) {
        os_close(&c->fds[i]);
        c->fds[i] = frame->fds[i];
        frame->fds[i] = -1;
        c->fd_count = i + 1;
    }
}

static void
on_close(void *ctx, struct net_conn *conn, int status)
{
    (void)conn;
    (void)status;
    struct cl_conn *c = ctx;
    c->closed = true;
}

static const struct net_conn_ops ops = { .on_frame = on_frame, .on_close = on_close };

static void
adopt(struct cl_loop *loop, int fd, struct cl_conn *c)
{
    memset(c, 0, sizeof(*c));
    memset(c->fds, 0xff, sizeof(c->fds));
    c->loop = loop;
    if (!loop->loop) {
        assert_int_equal(net_loop_create(os_mem_system(), &loop->loop), ST_OK);
    }
    assert_int_equal(net_conn_create(loop->loop, os_mem_system(), fd, &ops, c, &c->conn), ST_OK);
}

void
cl_connect(struct cl_loop *loop, const char *path, struct cl_conn *out)
{
    int fd = -1;
    if (os_sock_connect(path, &fd) != ST_OK) {
        fail_msg("%s", st_last()->text);
    }
    adopt(loop, fd, out);
}

void
cl_send(struct cl_conn *c, uint16_t kind, uint64_t request, const ProtobufCMessage *message, int fd)
{
    assert_int_equal(net_msg_send(c->conn, kind, request, message, &fd, fd >= 0 ? 1 : 0), ST_OK);
}

static uint64_t
limit_ms(int ms)
{
    return os_now_ns() + (uint64_t)((double)ms * harness_timeout_multiplier()) * CL_MS;
}

ProtobufCMessage *
cl_expect_or_end(struct cl_conn *c, uint16_t kind)
{
    const uint64_t until = limit_ms(CL_WAIT_MS);
    for (;;) {
        for (size_t i = 0; i < c->count; i++) {
            if (c->frames[i].kind == kind) {
                ProtobufCMessage *m = c->frames[i].message;
                memmove(&c->frames[i], &c->frames[i + 1],
                        (c->count - i - 1) * sizeof(c->frames[0]));
                c->count--;
                return m;
            }
        }
        if (c->closed) {
            return NULL;
        }
        if (os_now_ns() >= until) {
            fail_msg("no frame of kind %u came in time; %zu others did, the first of kind %u", kind,
                     c->count, c->count > 0 ? c->frames[0].kind : 0);
        }
        struct net_events events;
        net_loop_wait(c->loop->loop, until, &events);
        (void)net_loop_dispatch(c->loop->loop, &events);
    }
}

ProtobufCMessage *
cl_expect(struct cl_conn *c, uint16_t kind)
{
    ProtobufCMessage *m = cl_expect_or_end(c, kind);
    if (!m) {
        fail_msg("the connection ended before a frame of kind %u came", kind);
    }
    return m;
}

void
cl_expect_end(struct cl_conn *c)
{
    const uint64_t until = limit_ms(CL_WAIT_MS);
    while (!c->closed) {
        assert_true(os_now_ns() < until);
        struct net_events events;
        net_loop_wait(c->loop->loop, until, &events);
        (void)net_loop_dispatch(c->loop->loop, &events);
    }
}

void
cl_conn_close(struct cl_conn *c)
{
    net_conn_destroy(&c->conn);
    for (size_t i = 0; i < c->count; i++) {
        net_msg_free(c->frames[i].message);
    }
    c->count = 0;
    for (int i = 0; i < 8; i++) {
        os_close(&c->fds[i]);
    }
}

/* ---- processes ------------------------------------------------------------------------------- */

bool
cl_is_alive(pid_t pid)
{
    char path[64], text[512];
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    if (os_read_text(path, text, sizeof(text)) <= 0) {
        return false;
    }
    const char *after = strrchr(text, ')');
    return after && after[2] != 'Z' &&
           after[2] != 'X'; /* whoever is init here may be slow to reap */
}

bool
cl_wait_gone(pid_t pid)
{
    int fd = -1;
    if (pid <= 0 || os_pidfd_open(pid, &fd) != ST_OK) {
        return true;
    }
    struct pollfd p = { .fd = fd, .events = POLLIN };
    const uint64_t until = limit_ms(CL_WAIT_MS);
    int n = 0;
    for (uint64_t now = os_now_ns(); n <= 0 && now < until; now = os_now_ns()) {
        n = poll(&p, 1, (int)((until - now) / CL_MS) + 1);
    }
    os_close(&fd);
    return n == 1;
}

pid_t
cl_parent_of(pid_t pid)
{
    char path[64], text[512];
    int parent = 0;
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    if (os_read_text(path, text, sizeof(text)) > 0) {
        const char *after = strrchr(text, ')');
        if (after && sscanf(after + 1, " %*c %d", &parent) == 1) {
            return parent;
        }
    }
    return 0;
}

size_t
cl_children_of(pid_t pid, pid_t *out, size_t capacity)
{
    char path[96];
    (void)snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
    FILE *f = fopen(path, "re");
    size_t n = 0;
    int child = 0;
    while (f && n < capacity && fscanf(f, "%d", &child) == 1) {
        out[n++] = child;
    }
    if (f) {
        (void)fclose(f);
    }
    return n;
}

pid_t
cl_find_child(pid_t parent, const char *text)
{
    pid_t pids[256];
    const size_t n = cl_children_of(parent, pids, 256);
    for (size_t i = 0; i < n; i++) {
        char path[64], line[4096];
        (void)snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pids[i]);
        const int64_t size = os_read_text(path, line, sizeof(line));
        for (int64_t k = 0; k + 1 < size; k++) {
            line[k] = line[k] ? line[k] : ' ';
        }
        if (size > 0 && strstr(line, text)) {
            return pids[i];
        }
    }
    return 0;
}

const char *
cl_read_file(const char *dir, const char *name, char *buf, size_t capacity)
{
    char path[512];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    if (os_read_text(path, buf, capacity) < 0) {
        buf[0] = '\0';
    }
    return buf;
}

/* ---- runtimes -------------------------------------------------------------------------------- */

static void
send_boot(struct cl_runtime *rt)
{
    Ray__Node__Resource cpu = RAY__NODE__RESOURCE__INIT;
    char name[] = "CPU", dir[256];
    cpu.name = name;
    cpu.amount = 2 * 10000;
    Ray__Node__Resource *resources[1] = { &cpu };
    (void)snprintf(dir, sizeof(dir), "%s/t", harness_dir());
    Ray__Node__Boot boot = RAY__NODE__BOOT__INIT;
    boot.protocol_version = RAY_PROTOCOL_VERSION;
    boot.resources = resources;
    boot.n_resources = 1;
    boot.object_store_memory = 64 << 20;
    boot.temp_dir = dir;
    boot.driver_pid = getpid();
    cl_send(&rt->boot, NODE_BOOT, 0, &boot.base, -1);
}

void
cl_boot(struct cl_runtime *rt, int driver_pidfd)
{
    int pair[2];
    assert_int_equal(chmod(harness_dir(), 0700), 0);
    assert_int_equal(setenv("XDG_RUNTIME_DIR", harness_dir(), 1), 0);
    assert_int_equal(os_sock_pair(pair), ST_OK);
    char number[16], pidfd[16];
    (void)snprintf(number, sizeof(number), "%d", pair[1]);
    (void)snprintf(pidfd, sizeof(pidfd), "%d", driver_pidfd);
    const char *const argv[] = { CL_RAYLET, "--boot-fd", number, "--driver-pidfd", pidfd, NULL };
    const int keep[2] = { pair[1], driver_pidfd };
    const struct os_spawn spec = {
        .argv = argv,
        .stdin_fd = -1,
        .stdout_fd = STDOUT_FILENO,
        .stderr_fd = STDERR_FILENO,
        .keep = keep,
        .keep_count = 2,
    };
    pid_t pid = 0;
    struct os_exit exit;
    assert_int_equal(os_proc_spawn(&spec, &pid), ST_OK);
    os_close(&pair[1]);
    adopt(&rt->loop, pair[0], &rt->boot);
    send_boot(rt);
    assert_int_equal(os_proc_wait(pid, &exit), ST_OK);
    assert_int_equal(exit.code, 0);
    Ray__Node__BootReply *reply = (Ray__Node__BootReply *)cl_expect(&rt->boot, NODE_BOOT_REPLY);
    if (reply->status != ST_OK) {
        fail_msg("the raylet does not start: %s", reply->text);
    }
    rt->raylet = reply->raylet_pid;
    rt->guard = cl_parent_of(rt->raylet);
    (void)snprintf(rt->socket, sizeof(rt->socket), "%s", reply->raylet_socket);
    (void)snprintf(rt->session_dir, sizeof(rt->session_dir), "%s", reply->session_dir);
    (void)snprintf(rt->socket_dir, sizeof(rt->socket_dir), "%s", rt->socket);
    *strrchr(rt->socket_dir, '/') = '\0';
    net_msg_free(&reply->base);
}

static void
hello_gcs(struct cl_runtime *rt)
{
    char path[160];
    (void)snprintf(path, sizeof(path), "%s/gcs", rt->socket_dir);
    cl_connect(&rt->loop, path, &rt->gcs);
    Ray__Gcs__GcsHello hello = RAY__GCS__GCS_HELLO__INIT;
    hello.protocol_version = RAY_PROTOCOL_VERSION;
    hello.worker_id.data = rt->worker_id.b;
    hello.worker_id.len = sizeof(rt->worker_id.b);
    hello.pid = getpid();
    cl_send(&rt->gcs, GCS_GCS_HELLO, 0, &hello.base, -1);
}

void
cl_hello(struct cl_runtime *rt)
{
    char self[512], role[] = "--role", worker[] = "worker", zygote[] = "zygote", variable[256];
    char path[160];
    assert_int_equal(os_proc_self_path(self, sizeof(self)), ST_OK);
    (void)snprintf(variable, sizeof(variable), "CL_WORKER=%s", rt->behaviour ? rt->behaviour : "");
    (void)snprintf(path, sizeof(path), "PATH=%s", "/usr/bin:/bin");
    char *environment[] = { variable, path };
    char *argv[] = { self, role, rt->by_zygote ? zygote : worker };
    Ray__Node__JobConfig job = RAY__NODE__JOB_CONFIG__INIT;
    if (rt->by_zygote) {
        job.zygote_argv = argv;
        job.n_zygote_argv = 3;
    } else {
        job.program_argv = argv;
        job.n_program_argv = 3;
    }
    job.environment = environment;
    job.n_environment = 2;
    job.log_to_driver = true;
    job.standalone = !rt->guest;
    Ray__Node__Hello hello = RAY__NODE__HELLO__INIT;
    char peer[] = "driver-peer";
    hello.protocol_version = RAY_PROTOCOL_VERSION;
    hello.role = RAY__NODE__ROLE__DRIVER;
    hello.pid = getpid();
    hello.peer_socket = peer;
    hello.job = &job;
    int pidfd = -1;
    assert_int_equal(os_pidfd_open(getpid(), &pidfd), ST_OK);
    cl_connect(&rt->loop, rt->socket, &rt->node);
    cl_send(&rt->node, NODE_HELLO, 1, &hello.base, pidfd);
    os_close(&pidfd);
    Ray__Node__HelloReply *reply = (Ray__Node__HelloReply *)cl_expect(&rt->node, NODE_HELLO_REPLY);
    assert_int_equal(rt->node.fd_count, 4);
    assert_int_equal(reply->worker_id.len, sizeof(rt->worker_id.b));
    assert_int_equal(reply->job_id.len, sizeof(rt->job_id.b));
    memcpy(rt->worker_id.b, reply->worker_id.data, sizeof(rt->worker_id.b));
    memcpy(rt->job_id.b, reply->job_id.data, sizeof(rt->job_id.b));
    net_msg_free(&reply->base);
    hello_gcs(rt);
}

void
cl_start(struct cl_runtime *rt)
{
    const bool by_zygote = rt->by_zygote;
    const bool expect_errors = rt->expect_errors;
    const char *behaviour = rt->behaviour;
    memset(rt, 0, sizeof(*rt));
    rt->by_zygote = by_zygote;
    rt->behaviour = behaviour;
    rt->expect_errors = expect_errors;
    int pidfd = -1;
    assert_int_equal(os_pidfd_open(getpid(), &pidfd), ST_OK);
    cl_boot(rt, pidfd);
    os_close(&pidfd);
    cl_hello(rt);
}

void
cl_assert_gone(struct cl_runtime *rt)
{
    assert_true(cl_wait_gone(rt->raylet));
    assert_true(cl_wait_gone(rt->guard));
    if (access(rt->socket_dir, F_OK) == 0) {
        fail_msg("%s is left", rt->socket_dir);
    }
    char path[320];
    (void)snprintf(path, sizeof(path), "%s/gcs.db", rt->session_dir);
    assert_int_not_equal(access(path, F_OK), 0);
    (void)snprintf(path, sizeof(path), "%s/logs", rt->session_dir);
    assert_int_equal(access(path, F_OK), 0);
}

/* What a daemon that is well never writes. */
static void
scan_log(const struct cl_runtime *rt, const char *name)
{
    static const char *const bad[] = { "Sanitizer", "runtime error:", "assertion" };
    static char text[1 << 20];
    (void)cl_read_file(rt->session_dir, name, text, sizeof(text));
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        if (strstr(text, bad[i])) {
            fail_msg("%s says:\n%s", name, text);
        }
    }
    if (!rt->expect_errors && (strstr(text, " E raylet[") || strstr(text, " E gcs["))) {
        fail_msg("%s says:\n%s", name, text);
    }
}

void
cl_close(struct cl_runtime *rt)
{
    scan_log(rt, "logs/raylet.err");
    scan_log(rt, "logs/gcs_server.err");
    cl_conn_close(&rt->node);
    cl_conn_close(&rt->gcs);
    cl_conn_close(&rt->boot);
    net_loop_destroy(&rt->loop.loop);
}

void
cl_stop(struct cl_runtime *rt)
{
    Ray__Node__EndJob end = RAY__NODE__END_JOB__INIT;
    end.stop_runtime = true;
    cl_send(&rt->node, NODE_END_JOB, 9, &end.base, -1);
    net_msg_free(cl_expect(&rt->node, NODE_GOODBYE));
    Ray__Node__RayletExited *exited =
        (Ray__Node__RayletExited *)cl_expect(&rt->boot, NODE_RAYLET_EXITED);
    if (exited->exit_code != 0 || exited->signal != 0) {
        fail_msg("%s", exited->text);
    }
    net_msg_free(&exited->base);
    cl_expect_end(&rt->boot);
    cl_assert_gone(rt);
    cl_close(rt);
}

/* ---- leases ---------------------------------------------------------------------------------- */

Ray__Node__LeaseGrant *
cl_lease(struct cl_runtime *rt, int64_t cpu)
{
    char name[] = "CPU", what[] = "test";
    Ray__Node__Resource resource = RAY__NODE__RESOURCE__INIT;
    resource.name = name;
    resource.amount = cpu;
    Ray__Node__Resource *resources[1] = { &resource };
    Ray__Node__LeaseRequest m = RAY__NODE__LEASE_REQUEST__INIT;
    m.key = 1;
    m.resources = resources;
    m.n_resources = 1;
    m.count = 1;
    m.what = what;
    cl_send(&rt->node, NODE_LEASE_REQUEST, 0, &m.base, -1);
    Ray__Node__LeaseGrant *grant = (Ray__Node__LeaseGrant *)cl_expect(&rt->node, NODE_LEASE_GRANT);
    assert_int_equal(grant->key, 1);
    assert_int_equal(grant->n_leases, 1);
    return grant;
}

void
cl_return_lease(struct cl_runtime *rt, uint64_t lease_id)
{
    Ray__Node__LeaseReturn m = RAY__NODE__LEASE_RETURN__INIT;
    m.lease_id = lease_id;
    cl_send(&rt->node, NODE_LEASE_RETURN, 0, &m.base, -1);
}
