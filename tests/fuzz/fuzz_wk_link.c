/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames between processes of libray, as the engine takes them from a hostile peer: greetings,
 * templates, pushes, messages of ownership and offers of rings on the connection that a peer made;
 * replies and bounces on the one that this process made, with tasks in flight. Sockets end, and
 * either side goes on over another, with counts and numbers that are right or nonsense, also of the
 * dead. A worker's engine lives for one input, without its thread, raylet and store.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "fuzz_input.h"
#include "os/os_basic.h"
#include "os/os_shm.h"
#include "os/os_sock.h"
#include "worker/wk_exec.h"
#include "worker/wk_priv.h"
#include "worker/wk_task.h"

enum { TASKS = 3, STREAMS = 2, BELL_BYTES = 4096 };

static char directory[64];
static int executor_listener = -1, executor = -1, caller = -1;
static ray_function *function;
static ray_ref *refs[TASKS];
static ray_options *streaming;
static ray_stream *streams[STREAMS];
static struct id_worker executor_id;

static void
must(int status)
{
    if (status != ST_OK) {
        (void)fprintf(stderr, "fuzz_wk_link: %s\n", st_last()->text);
        abort();
    }
}

static void
turn(void)
{
    struct net_events events;
    for (int i = 0; i < 4; i++) {
        wk_lock();
        net_loop_wait(wk.loop, 0, &events);
        const int count = net_loop_dispatch(wk.loop, &events);
        wk_rings_drain();
        wk_unlock();
        if (count == 0) {
            return;
        }
    }
}

static void
on_timer(void *ctx)
{
    (void)ctx;
}

static void
start_engine(void)
{
    struct wk_lease_config config;
    wk.mem = os_mem_system();
    wk.session++;
    memset(&wk.self, 7, sizeof(wk.self));
    memset(&wk.job, 1, sizeof(wk.job));
    wk_lease_config_default(&config);
    own_init(&wk.own, wk.mem, &wk.self, NULL);
    wk_leases_init(&wk.leases, wk.mem, &config);
    sched_keys_init(&wk.keys, wk.mem);
    map_init(&wk.peers, wk.mem);
    map_init(&wk.actors, wk.mem);
    slab_init(&wk.task_slab, wk.mem, sizeof(struct wk_task));
    str_init(&wk.frees, wk.mem);
    str_init(&wk.scratch, wk.mem);
    arena_init(&wk.out_arena, wk.mem);
    struct list *const lists[] = {
        &wk.dirty_keys, &wk.dirty_actors, &wk.lease_refs, &wk.asks,
        &wk.exec_queue, &wk.begun,        &wk.tells,      &wk.gone_peers
    };
    for (size_t i = 0; i < COUNT_OF(lists); i++) {
        list_init(lists[i]);
    }
    wk.kick_fd = -1;
    wk.own_timer = wk.lease_timer = wk.gcs_timer = wk.free_timer =
        (struct net_timer){ .on_timer = on_timer };
    wk.stream_timer = (struct net_timer){ .on_timer = wk_stream_on_timer };
    must(res_names_init(&wk.names, wk.mem));
    must(net_loop_create(wk.mem, &wk.loop));
    must(os_shm_create("fuzz-bell", BELL_BYTES, &wk.bell_fd));
    must(os_shm_map(wk.bell_fd, 0, BELL_BYTES, OS_SHM_WRITE, 0, &wk.bell_memory));
    must(net_bell_init(&wk.bell, wk.bell_memory, BELL_BYTES, WK_RINGS_MAX));
    const struct id_task driver = id_task_of_driver(&wk.job);
    id_source_init(&wk.source, &driver, 0);
    (void)snprintf(wk.socket_dir, sizeof(wk.socket_dir), "%s", directory);
    (void)snprintf(wk.socket_name, sizeof(wk.socket_name), "self");
    must(wk_peer_listen());
    must(wk_peer_accept());
    wk.running = wk.ready = true;
}

static void
stop_engine(void)
{
    wk_lock();
    wk.ready = wk.running = false;
    wk_tasks_fini();
    wk_actors_fini();
    wk_peers_close();
    wk_peer_listen_end();
    wk_gcs_close();
    wk_own_end();
    wk_leases_fini(&wk.leases);
    wk_func_session_end();
    sched_keys_fini(&wk.keys);
    res_names_fini(&wk.names);
    slab_fini(&wk.task_slab);
    str_fini(&wk.frees);
    str_fini(&wk.scratch);
    arena_fini(&wk.out_arena);
    net_loop_disarm(wk.loop, &wk.own_timer);
    net_loop_disarm(wk.loop, &wk.lease_timer);
    net_loop_disarm(wk.loop, &wk.free_timer);
    net_loop_disarm(wk.loop, &wk.stream_timer);
    net_loop_destroy(&wk.loop);
    os_close(&wk.bell_fd);
    os_shm_unmap(wk.bell_memory, BELL_BYTES);
    wk.bell_memory = NULL;
    wk.exec_count = 0;
    wk.tasks_pending = 0;
    wk_unlock();
}

static void
connect_to(const char *name, int *fd)
{
    char path[sizeof(directory) + 16];
    (void)snprintf(path, sizeof(path), "%s/%s", directory, name);
    must(os_sock_connect(path, fd));
}

/* Tasks are submitted, and a lease of the executor's is granted for them. */
static void
put_tasks_in_flight(void)
{
    const uint64_t number = 5;
    for (int i = 0; i < TASKS; i++) {
        must(ray_call_bytes(function, &number, sizeof(number), &refs[i]));
    }
    for (int i = 0; i < STREAMS; i++) {
        must(ray_stream_submit(function, streaming, NULL, 0, &streams[i]));
    }
    Ray__Node__Lease lease = RAY__NODE__LEASE__INIT, *leases = &lease;
    Ray__Node__LeaseGrant grant = RAY__NODE__LEASE_GRANT__INIT;
    char name[] = "executor";
    lease.lease_id = 1;
    lease.epoch = 1;
    lease.worker_id.data = executor_id.b;
    lease.worker_id.len = sizeof(executor_id.b);
    lease.peer_socket = name;
    grant.leases = &leases;
    grant.n_leases = 1;
    wk_lock();
    for (grant.key = 0; grant.key < 4 && list_is_empty(&wk.lease_refs); grant.key++) {
        wk_lease_granted(&grant);
    }
    wk_pump();
    wk_unlock();
    if (os_sock_accept(executor_listener, &executor) != ST_OK) {
        executor = -1;
    }
}

/* Every reply would be to nothing, were it not made to name a task that is in flight. */
static void
name_a_task(uint16_t kind, uint8_t *body, size_t size, uint64_t which)
{
    struct wk_peer *peer = NULL;
    struct map_walk walk;
    map_walk_init(&walk);
    for (struct map_link *l; (l = map_walk_next(&wk.peers, &walk));) {
        struct wk_peer *p = CONTAINER_OF(l, struct wk_peer, link);
        peer = p->out ? p : peer;
    }
    struct wk_link *link = peer ? peer->out : NULL;
    const uint32_t word = (uint32_t)(which % WK_WINDOW_WORDS);
    if (!link || !link->inflight || !link->inflight[word]) {
        return;
    }
    const uint64_t number = link->inflight[word]->push.number;
    if (kind == PEER_DONE && size >= sizeof(struct peer_done)) {
        memcpy(body + offsetof(struct peer_done, push_number), &number, sizeof(number));
        memcpy(body + offsetof(struct peer_done, word), &word, sizeof(word));
    } else if (kind == PEER_ITEM && size >= sizeof(struct peer_item)) {
        memcpy(body + offsetof(struct peer_item, push_number), &number, sizeof(number));
        memcpy(body + offsetof(struct peer_item, word), &word, sizeof(word));
    } else if (kind == PEER_BOUNCED && size >= sizeof(struct peer_bounced)) {
        memcpy(body + offsetof(struct peer_bounced, push_number), &number, sizeof(number));
        memcpy(body + offsetof(struct peer_bounced, word), &word, sizeof(word));
    }
}

static bool
is_control(uint16_t kind)
{
    return kind == PEER_BELL || kind == PEER_RESUME || kind == PEER_RESUMED ||
           kind == NET_FRAME_TOLD;
}

/* `count`: of the engine's frames, handled here. */
static void
send_counted(int fd, uint16_t kind, uint64_t count, const void *body, size_t size, const int *fds,
             int fd_count)
{
    const struct net_frame_header header = {
        .length = (uint32_t)(NET_FRAME_HEADER + size),
        .kind = kind,
        .flags = (uint16_t)(fd_count << NET_FRAME_FDS_SHIFT |
                            (is_control(kind) ? NET_FRAME_CONTROL : 0)),
        .request_id = count,
    };
    const struct iovec iov[2] = { { (void *)(uintptr_t)&header, sizeof(header) },
                                  { (void *)(uintptr_t)body, size } };
    (void)os_sock_send(fd, iov, size > 0 ? 2 : 1, fds, fd_count);
}

static void
send_frame(int fd, uint16_t kind, const void *body, size_t size, const int *fds, int fd_count)
{
    send_counted(fd, kind, 0, body, size, fds, fd_count);
    turn();
}

/* Memory that the input fills: a window, a pair of rings, a bell page. */
static int
shared_file(struct fuzz_input *in, uint64_t bytes)
{
    int fd = -1;
    void *memory = NULL;
    size_t length = 0;
    const uint8_t *from = fuzz_string(in, &length);
    if (os_shm_create("fuzz", bytes, &fd) == ST_OK &&
        os_shm_map(fd, 0, bytes, OS_SHM_WRITE, 0, &memory) == ST_OK) {
        (void)!net_window_format(memory, bytes, WK_WINDOW_WORDS);
        memcpy(memory, from, length < bytes ? length : bytes);
        os_shm_unmap(memory, bytes);
    }
    return fd;
}

static void
greet(struct fuzz_input *in, bool with_window)
{
    struct peer_hello hello = { .protocol_version = RAY_PROTOCOL_VERSION, .link = 1 };
    memset(hello.worker.b, 9, sizeof(hello.worker.b));
    const uint64_t bytes = (net_window_bytes(WK_WINDOW_WORDS) + 4095) & ~(uint64_t)4095;
    int fd = -1;
    if (with_window) {
        hello.window_bytes = (uint32_t)bytes;
        fd = shared_file(in, bytes);
    }
    send_frame(caller, PEER_HELLO, &hello, sizeof(hello), &fd, fd >= 0 ? 1 : 0);
    os_close(&fd);
}

/* ---- connections that break ---- */

/* A count or a number of a link that may be right, or is nonsense. */
static uint64_t
some_number(struct fuzz_input *in)
{
    const uint64_t n = fuzz_number(in, 1);
    return n == 255 ? UINT64_MAX : n > 250 ? (uint64_t)1 << (n - 200) : n % 16;
}

/* The peer that made `caller` wants to go on, or another one does. */
static void
ask(struct fuzz_input *in, int fd)
{
    struct peer_resume resume = { .protocol_version = RAY_PROTOCOL_VERSION };
    const uint64_t who = fuzz_number(in, 1);
    memset(resume.worker.b,
           who % 8 == 7   ? 3
           : who % 8 == 6 ? (uint8_t)who
                          : 9,
           sizeof(resume.worker.b));
    resume.link = some_number(in);
    resume.handled = some_number(in);
    send_counted(fd, PEER_RESUME, 0, &resume, sizeof(resume), NULL, 0);
}

static void
ask_on_new_socket(struct fuzz_input *in, bool close_first)
{
    if (close_first) {
        os_close(&caller);
    }
    const int old = caller;
    connect_to("self", &caller);
    ask(in, caller);
    turn();
    if (!close_first) { /* its end is seen only now */
        (void)close(old);
    }
}

static void
ask_twice(struct fuzz_input *in)
{
    int other = -1;
    os_close(&caller);
    connect_to("self", &caller);
    connect_to("self", &other);
    ask(in, caller);
    ask(in, other);
    turn();
    const int first = caller;
    caller = other;
    (void)close(first);
}

/* The engine connects again by itself, and asks. */
static void
break_executor(struct fuzz_input *in)
{
    os_close(&executor);
    turn();
    if (os_sock_accept(executor_listener, &executor) != ST_OK) {
        executor = -1;
        return;
    }
    const struct peer_resumed answer = { .handled = some_number(in),
                                         .status = fuzz_number(in, 1) % 8 == 7 ? ST_CLOSED : 0 };
    send_counted(executor, PEER_RESUMED, 0, &answer, sizeof(answer), NULL, 0);
}

static void
declare_death(const struct id_worker *who)
{
    wk_lock();
    wk_peer_on_death(who, "by the fuzzer", 0);
    wk_peers_sweep();
    wk_unlock();
}

static void
act(struct fuzz_input *in, uint64_t op, uint64_t what)
{
    struct id_worker who;
    switch (what % 8) {
    case 0:
        os_sock_shutdown(op % 2 || executor < 0 ? caller : executor);
        break;
    case 1:
    case 2:
        ask_on_new_socket(in, op % 4 != 0);
        break;
    case 3:
        ask_twice(in);
        break;
    case 4:
        break_executor(in);
        break;
    case 5: {
        const struct peer_resumed answer = { .handled = some_number(in) };
        send_counted(op % 2 || executor < 0 ? caller : executor, PEER_RESUMED, 0, &answer,
                     sizeof(answer), NULL, 0);
        break;
    }
    case 6:
        send_counted(op % 2 || executor < 0 ? caller : executor, NET_FRAME_TOLD, some_number(in),
                     NULL, 0, NULL, 0);
        break;
    default:
        if (op % 8 == 0) {
            memset(who.b, 9, sizeof(who.b));
            declare_death(op & 8 ? &executor_id : &who);
        }
    }
    turn();
}

static void
give_frame(struct fuzz_input *in)
{
    static uint8_t body[UINT16_MAX];
    const uint64_t op = fuzz_number(in, 1);
    const uint64_t what = fuzz_number(in, 1) % 48;
    if (what >= 40) {
        act(in, op, what);
        return;
    }
    const uint16_t kind = (uint16_t)(PEER_HELLO + what);
    size_t size = 0;
    const uint8_t *from = fuzz_string(in, &size);
    if (size > 0) {
        memcpy(body, from, size);
    }
    int fds[2] = { -1, -1 };
    int fd_count = (int)(op >> 1) % 4;
    if (kind != PEER_RING_OFFER && kind != PEER_RING_ACCEPT && kind != PEER_HELLO) {
        fd_count = 0;
    }
    fd_count = fd_count > 2 ? 2 : fd_count;
    for (int i = 0; i < fd_count; i++) {
        fds[i] = shared_file(in, (uint64_t)4096 << (op >> 5));
    }
    if (op % 2 == 0) {
        name_a_task(kind, body, size, op >> 5);
    }
    send_frame(op % 2 || executor < 0 ? caller : executor, kind, body, size, fds, fd_count);
    os_close(&fds[0]);
    os_close(&fds[1]);
}

static void
remove_directory(void)
{
    char path[sizeof(directory) + 16];
    (void)snprintf(path, sizeof(path), "%s/self", directory);
    (void)unlink(path);
    (void)snprintf(path, sizeof(path), "%s/executor", directory);
    (void)unlink(path);
    (void)rmdir(directory);
}

static void
prepare(void)
{
    char path[sizeof(directory) + 16];
    struct ray_function_desc desc = { .struct_size = sizeof(desc), .name = "f" };
    (void)snprintf(directory, sizeof(directory), "/tmp/fuzz_wk_link.XXXXXX");
    ASSERT(mkdtemp(directory));
    (void)atexit(remove_directory);
    (void)snprintf(path, sizeof(path), "%s/executor", directory);
    must(os_sock_listen(path, &executor_listener));
    memset(executor_id.b, 3, sizeof(executor_id.b));
    must(ray_function_create(&desc, &function));
    struct ray_task_options options;
    const struct ray_resource cpu = { "CPU", 1.0 };
    ray_task_options_default(&options);
    options.resources = &cpu;
    options.resource_count = 1;
    options.generator = RAY_GENERATOR_STREAMING;
    options.generator_backpressure = 2;
    must(ray_options_create(&options, &streaming));
    (void)!freopen("/dev/null", "w", stdout);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = { data, size };
    if (!function) {
        prepare();
    }
    start_engine();
    put_tasks_in_flight();
    connect_to("self", &caller);
    const uint64_t mode = fuzz_number(&in, 1);
    if (mode % 4 != 0) {
        greet(&in, mode % 4 > 1);
    }
    for (int steps = 0; in.left > 0 && steps < 100; steps++) {
        ray_ref *item = NULL;
        give_frame(&in);
        if (mode & 8 && ray_stream_next(streams[0], 0, &item) == RAY_OK) {
            ray_ref_release(item);
        }
        if (mode & 16 && steps == 3) {
            ray_stream_release(streams[1]);
            streams[1] = NULL;
        }
    }
    os_close(&caller);
    os_close(&executor);
    turn();
    for (int i = 0; i < TASKS; i++) {
        ray_ref_release(refs[i]);
        refs[i] = NULL;
    }
    for (int i = 0; i < STREAMS; i++) {
        ray_stream_release(streams[i]);
        streams[i] = NULL;
    }
    stop_engine();
    return 0;
}
