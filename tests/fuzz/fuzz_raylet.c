/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages of node.proto as the raylet takes them: any frames from a driver or a worker that has
 * been let in, from one that has not, and orders of ray-gcs. A raylet's records live for one input;
 * it has no processes to start or to kill.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "fuzz_input.h"
#include "os/os_basic.h"
#include "os/os_sock.h"
#include "raylet/rl_io.h"

enum { KIND_FIRST = NODE_HELLO, KIND_COUNT = 34, STORE_BYTES = 4 * 1024 * 1024, CPUS = 2 };

static char directory[64];
static struct raylet *r;
static struct rl_job_io *job;

/* Nobody is to be killed: it would be this process. */
int
kill(pid_t pid, int sig)
{
    (void)pid;
    (void)sig;
    return 0;
}

static void
turn(void)
{
    struct net_events events;
    for (int i = 0; i < 4; i++) {
        net_loop_wait(r->loop, 0, &events);
        if (net_loop_dispatch(r->loop, &events) == 0) {
            return;
        }
    }
}

static void
remove_directory(void)
{
    char path[sizeof(directory) + 16];
    (void)snprintf(path, sizeof(path), "%s/raylet", directory);
    (void)unlink(path);
    (void)rmdir(directory);
}

static void
must(int status)
{
    if (status != ST_OK) {
        (void)fprintf(stderr, "fuzz_raylet: %s\n", st_last()->text);
        abort();
    }
}

static void
start_raylet(void)
{
    r = calloc(1, sizeof(*r));
    ASSERT(r);
    r->mem = os_mem_system();
    struct list *const lists[] = { &r->links,       &r->processes, &r->jobs,
                                   &r->actors,      &r->dying,     &r->graves,
                                   &r->store_waits, &r->old_logs,  &r->gcs.untold };
    for (size_t i = 0; i < COUNT_OF(lists); i++) {
        list_init(lists[i]);
    }
    struct map *const maps[] = { &r->by_number,    &r->by_pid,           &r->by_id,
                                 &r->actors_by_id, &r->actors_by_cookie, &r->graves_by_id,
                                 &r->gcs.requests };
    for (size_t i = 0; i < COUNT_OF(maps); i++) {
        map_init(maps[i], r->mem);
    }
    arena_init(&r->arena, r->mem);
    sched_keys_init(&r->keys, r->mem);
    r->listener = r->gcs.listener = r->session.lock = r->signals.fd = r->driver_pidfd.fd = -1;
    r->next_cookie = 1;
    r->store_size = STORE_BYTES;
    r->lease_timer = (struct net_timer){ .on_timer = rl_lease_on_timer, .ctx = r };
    (void)snprintf(r->session.dir, sizeof(r->session.dir), "%s", directory);
    (void)snprintf(r->session.socket_dir, sizeof(r->session.socket_dir), "%s", directory);
    struct res_set total;
    struct rl_lease_config config;
    must(res_names_init(&r->names, r->mem));
    must(net_loop_create(r->mem, &r->loop));
    res_set_init(&total);
    must(res_set_put(&total, RES_CPU, (struct res_amount){ CPUS * RES_UNIT }));
    rl_lease_config_default(&config, CPUS);
    must(rl_lease_init(&r->lease, r->mem, &config, &total, &r->names, &r->keys));
    must(rl_store_open(r));
    must(rl_conn_listen(r));
}

static void
stop_raylet(void)
{
    rl_conn_close_all(r);
    LIST_FOR_SAFE (a, after, &r->actors) {
        rl_actor_forget(r, LIST_ENTRY(a, struct rl_actor, all));
    }
    LIST_FOR_SAFE (l, next, &r->processes) {
        struct rl_process *p = LIST_ENTRY(l, struct rl_process, all);
        list_remove(&p->of_dying);
        p->dying = false;
        rl_process_free(p);
    }
    LIST_FOR (j, &r->jobs) {
        LIST_ENTRY(j, struct rl_job_io, all)->ended = true;
    }
    rl_jobs_sweep(r);
    rl_graves_free(r);
    rl_logs_free(r);
    rl_gcs_close(r);
    rl_store_close(r);
    rl_lease_fini(&r->lease);
    sched_keys_fini(&r->keys);
    res_names_fini(&r->names);
    arena_fini(&r->arena);
    struct map *const maps[] = { &r->by_number,    &r->by_pid,           &r->by_id,
                                 &r->actors_by_id, &r->actors_by_cookie, &r->graves_by_id };
    for (size_t i = 0; i < COUNT_OF(maps); i++) {
        map_fini(maps[i]);
    }
    net_loop_disarm(r->loop, &r->lease_timer);
    net_loop_destroy(&r->loop);
    free(r);
}

static int
connect_raylet(void)
{
    char path[sizeof(directory) + 16];
    int fd = -1;
    (void)snprintf(path, sizeof(path), "%s/raylet", directory);
    must(os_sock_connect(path, &fd));
    turn();
    return fd;
}

static void
send_frame(int fd, uint16_t kind, uint64_t request, const void *body, size_t size, int pass)
{
    const struct net_frame_header header = { .length = (uint32_t)(NET_FRAME_HEADER + size),
                                             .kind = kind,
                                             .flags = (uint16_t)((pass >= 0 ? 1 : 0)
                                                                 << NET_FRAME_FDS_SHIFT),
                                             .request_id = request };
    const struct iovec iov[2] = { { (void *)(uintptr_t)&header, sizeof(header) },
                                  { (void *)(uintptr_t)body, size } };
    (void)os_sock_send(fd, iov, size > 0 ? 2 : 1, &pass, pass >= 0 ? 1 : 0);
    turn();
}

static void
send_message(int fd, uint16_t kind, const ProtobufCMessage *message, int pass)
{
    uint8_t bytes[4096];
    ASSERT(protobuf_c_message_get_packed_size(message) <= sizeof(bytes));
    send_frame(fd, kind, 1, bytes, protobuf_c_message_pack(message, bytes), pass);
}

static void
number_job(void)
{
    Ray__Gcs__JobAdded added = RAY__GCS__JOB_ADDED__INIT;
    uint8_t id[4] = { 1, 0, 0, 0 };
    added.job_id = rl_bytes(id, sizeof(id));
    rl_job_added(job, &added);
}

/* A connection over which a driver (else a worker) has said hello. */
static int
let_in(bool driver)
{
    char *program[] = { rl_text("/nonexistent/program") };
    Ray__Node__JobConfig config = RAY__NODE__JOB_CONFIG__INIT;
    Ray__Node__Hello hello = RAY__NODE__HELLO__INIT;
    config.program_argv = program;
    config.n_program_argv = 1;
    hello.protocol_version = RAY_PROTOCOL_VERSION;
    const int fd = connect_raylet();
    if (driver) {
        int pidfd = -1;
        must(os_pidfd_open(getpid(), &pidfd));
        hello.role = RAY__NODE__ROLE__DRIVER;
        hello.job = &config;
        send_message(fd, NODE_HELLO, &hello.base, pidfd);
        os_close(&pidfd);
        job = LIST_ENTRY(list_first(&r->jobs), struct rl_job_io, all);
        number_job();
        return fd;
    }
    job = rl_job_new(r, &config);
    ASSERT(job);
    job->driver = rl_process_new(r, RL_DRIVER, rl_pool_number(&r->lease.pool), job);
    struct rl_process *p =
        rl_process_new(r, RL_WORKER_PROCESS, rl_pool_number(&r->lease.pool), job);
    ASSERT(job->driver && p);
    must(rl_process_set_pid(p, getpid()));
    number_job();
    hello.role = RAY__NODE__ROLE__WORKER;
    hello.start_token = rl_bytes(p->token, sizeof(p->token));
    send_message(fd, NODE_HELLO, &hello.base, -1);
    return fd;
}

/* ray-gcs is believed, but not to send what makes sense. */
static void
give_order(uint64_t op, const uint8_t *body, size_t size)
{
    struct net_frame frame = {
        .header = { .kind = op % 2 ? GCS_START_ACTOR : GCS_STOP_ACTOR },
        .body = body,
        .size = (uint32_t)size,
    };
    ProtobufCMessage *message = NULL;
    if (net_msg_unpack(&frame, RL_FRAME_MAX, &message) != ST_OK) {
        return;
    }
    if (op % 2) {
        rl_on_start_actor(r, (const Ray__Gcs__StartActor *)message);
    } else {
        rl_on_stop_actor(r, (const Ray__Gcs__StopActor *)message);
    }
    net_msg_free(message);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = { data, size };
    if (directory[0] == '\0') {
        (void)snprintf(directory, sizeof(directory), "/tmp/fuzz_raylet.XXXXXX");
        ASSERT(mkdtemp(directory));
        (void)atexit(remove_directory);
        (void)setenv("RAY_LOG_LEVEL", "error", 1);
    }
    start_raylet();
    int known = let_in(fuzz_number(&in, 1) % 2 == 0);
    int stranger = connect_raylet();
    for (int steps = 0; in.left > 0 && steps < 200; steps++) {
        const uint64_t op = fuzz_number(&in, 1);
        const uint16_t kind = (uint16_t)(KIND_FIRST + fuzz_number(&in, 1) % KIND_COUNT);
        size_t length = 0;
        const uint8_t *body = fuzz_string(&in, &length);
        if (op % 8 == 0) {
            send_frame(stranger, kind, op, body, length, -1);
        } else if (op % 8 == 1) {
            give_order(op >> 4, body, length);
        } else {
            send_frame(known, kind, op, body, length, -1);
        }
    }
    os_close(&known);
    os_close(&stranger);
    turn();
    stop_raylet();
    return 0;
}
