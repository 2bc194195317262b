/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting and stopping: ray_init, ray_shutdown, and what a process that the raylet started does.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "os/os_basic.h"
#include "os/os_fault.h"
#include "os/os_proc.h"
#include "os/os_sock.h"
#include "worker/wk_exec.h"
#include "worker/wk_lineage.h"
#include "worker/wk_priv.h"
#include "worker/wk_task.h"

#define BOOT_NS    UINT64_C(60000000000)
#define GOODBYE_NS UINT64_C(10000000000)

/* One thread at a time starts or ends the runtime; taken before wk.lock. */
static pthread_mutex_t lifecycle = PTHREAD_MUTEX_INITIALIZER;
static bool driver_owns_runtime;
static Ray__Node__BootReply *boot_reply;

/* ---- the engine's parts ---- */

static int
start_parts(void)
{
    const struct own_addr nobody = { 0 };
    struct wk_lease_config lease_config;
    const int armed = os_fault_init(wk.is_driver ? "driver" : "worker");
    /* First what can't fail: stop_parts needs all of it. */
    wk.mem = os_mem_system();
    wk_lease_config_default(&lease_config);
    own_init(&wk.own, wk.mem, &nobody, NULL);
    wk_leases_init(&wk.leases, wk.mem, &lease_config);
    sched_keys_init(&wk.keys, wk.mem);
    map_init(&wk.peers, wk.mem);
    map_init(&wk.actors, wk.mem);
    slab_init(&wk.task_slab, wk.mem, sizeof(struct wk_task));
    str_init(&wk.frees, wk.mem);
    str_init(&wk.scratch, wk.mem);
    list_init(&wk.dirty_keys);
    list_init(&wk.dirty_actors);
    list_init(&wk.lease_refs);
    list_init(&wk.gone_peers);
    list_init(&wk.asks);
    list_init(&wk.exec_queue);
    list_init(&wk.begun);
    wk.gcs_timer = (struct net_timer){ .on_timer = wk_gcs_on_timer };
    ID_SET_NIL(&wk.self_actor_id);
    wk_unhandled_start();
    TRY(armed);
    TRY(wk_engine_start());
    return res_names_init(&wk.names, wk.mem);
}

/* Everything back to nothing; lock not held. Does as much as was started. */
static void
stop_parts(void)
{
    wk_lock();
    wk.ready = wk.running = false;
    wk_changed();
    wk_unlock();
    wk_engine_stop_thread();
    wk_lock();
    wk_gcs_close();
    wk_lineage_fini();
    wk_tasks_fini(); /* reads the actors' tasks, so before them */
    wk_actors_fini();
    wk_peers_close();
    wk_peer_listen_end();
    net_conn_destroy(&wk.boot);
    wk_node_close();
    wk_own_end();
    wk_leases_fini(&wk.leases);
    wk_func_session_end();
    sched_keys_fini(&wk.keys);
    res_names_fini(&wk.names);
    slab_fini(&wk.task_slab);
    str_fini(&wk.frees);
    str_fini(&wk.scratch);
    free(wk.raylet_evidence);
    wk.raylet_evidence = NULL;
    wk.tasks_pending = wk.exec_count = 0;
    wk.raylet_dead = wk.goodbye = wk.leaving = wk.leave_now = false;
    wk.blocked = wk.bouncing = false;
    wk_engine_stop();
    if (boot_reply) {
        ray__node__boot_reply__free_unpacked(boot_reply, NULL);
        boot_reply = NULL;
    }
    wk_unlock();
    wk_logs_stop();
}

/* ---- starting a runtime ---- */

static void
on_boot_frame(void *ctx, struct net_conn *conn, const struct net_frame *frame)
{
    (void)ctx;
    (void)conn;
    if (frame->header.kind == NODE_BOOT_REPLY && !boot_reply) {
        boot_reply = ray__node__boot_reply__unpack(NULL, frame->size, frame->body);
    } else if (frame->header.kind == NODE_RAYLET_EXITED) {
        Ray__Node__RayletExited *exited =
            ray__node__raylet_exited__unpack(NULL, frame->size, frame->body);
        if (exited) {
            free(wk.raylet_evidence);
            wk.raylet_evidence = strdup(exited->text);
            ray__node__raylet_exited__free_unpacked(exited, NULL);
        }
        wk_raylet_died();
    }
    wk_changed();
}

static void
on_boot_close(void *ctx, struct net_conn *conn, int status)
{
    (void)ctx;
    (void)conn;
    (void)status;
    wk_raylet_died();
}

static const struct net_conn_ops boot_ops = { on_boot_frame, on_boot_close };

/* Daemons lie in ../bin from this library, or where RAY_BIN_DIR says. */
static int
find_raylet(char *out, size_t capacity)
{
    const char *given = getenv("RAY_BIN_DIR");
    Dl_info info;
    if (given && *given) {
        (void)snprintf(out, capacity, "%s/raylet", given);
        return ST_OK;
    }
    void *self;
    int (*fn)(int, char **, const struct ray_init_options *) = ray_init;
    memcpy(&self, &fn, sizeof(self));
    if (dladdr(self, &info) == 0 || !info.dli_fname) {
        return st_fail(ST_SYSTEM, "can't tell where libray lies; set RAY_BIN_DIR");
    }
    char path[512];
    (void)snprintf(path, sizeof(path), "%s", info.dli_fname);
    char *slash = strrchr(path, '/');
    if (slash) {
        *slash = '\0';
    }
    (void)snprintf(out, capacity, "%s/../bin/raylet", slash ? path : ".");
    if (access(out, X_OK) != 0) {
        return st_fail_errno(ST_SYSTEM, errno, "no raylet at %s; set RAY_BIN_DIR", out);
    }
    return ST_OK;
}

static int
spawn_raylet(int boot_fd, int pidfd)
{
    char path[1024], boot_text[16], pidfd_text[16];
    TRY(find_raylet(path, sizeof(path)));
    (void)snprintf(boot_text, sizeof(boot_text), "%d", boot_fd);
    (void)snprintf(pidfd_text, sizeof(pidfd_text), "%d", pidfd);
    const char *argv[] = { path, "--boot-fd", boot_text, "--driver-pidfd", pidfd_text, NULL };
    const int keep[] = { boot_fd, pidfd };
    const struct os_spawn spec = {
        .argv = argv,
        .stdin_fd = -1,
        .stdout_fd = -1,
        .stderr_fd = STDERR_FILENO,
        .keep = keep,
        .keep_count = 2,
        .new_session = true,
    };
    pid_t pid;
    struct os_exit exit;
    TRY(os_proc_spawn(&spec, &pid));
    /* The guard detaches at once; without this a zombie would stay as long as the driver. */
    (void)!os_proc_wait(pid, &exit);
    return ST_OK;
}

static bool
booted(void *ctx)
{
    (void)ctx;
    return boot_reply != NULL;
}

static int
send_boot(const struct ray_init_options *options)
{
    Ray__Node__Boot boot = RAY__NODE__BOOT__INIT;
    Ray__Node__Resource rows[RES_SET_MAX + 4], *pointers[RES_SET_MAX + 4];
    struct ray_resource given[RES_SET_MAX + 4];
    size_t n = 0;
    if (options->num_cpus >= 0) {
        given[n++] = (struct ray_resource){ "CPU", options->num_cpus };
    }
    if (options->num_gpus >= 0) {
        given[n++] = (struct ray_resource){ "GPU", options->num_gpus };
    }
    if (options->memory > 0) {
        given[n++] = (struct ray_resource){ "memory", (double)options->memory };
    }
    if (options->resource_count > RES_SET_MAX) {
        return st_fail(ST_LIMIT, "%zu kinds of resource, at most %d are allowed",
                       options->resource_count, RES_SET_MAX);
    }
    for (size_t i = 0; i < options->resource_count; i++) {
        given[n++] = options->resources[i];
    }
    for (size_t i = 0; i < n; i++) {
        struct res_amount amount;
        TRY(wk_check_resource(&given[i], &amount));
        ray__node__resource__init(&rows[i]);
        memcpy(&rows[i].name, &given[i].name, sizeof(char *));
        rows[i].amount = amount.v;
        pointers[i] = &rows[i];
    }
    boot.protocol_version = RAY_PROTOCOL_VERSION;
    boot.resources = pointers;
    boot.n_resources = n;
    boot.object_store_memory = options->object_store_memory;
    const char *temp_dir = options->temp_dir ? options->temp_dir : "";
    memcpy(&boot.temp_dir, &temp_dir, sizeof(temp_dir));
    boot.driver_pid = (int32_t)getpid();
    int status;
    wk_send_packed(wk.boot, NODE_BOOT, (const ProtobufCMessage *)&boot, 0, &status);
    return status;
}

static int
boot_runtime(const struct ray_init_options *options, int pidfd)
{
    int fds[2];
    TRY(os_sock_pair(fds));
    int status = spawn_raylet(fds[1], pidfd);
    os_close(&fds[1]);
    if (status != ST_OK) {
        os_close(&fds[0]);
        return status;
    }
    TRY(net_conn_create(wk.loop, wk.mem, fds[0], &boot_ops, NULL, &wk.boot));
    TRY(send_boot(options));
    do {
        status = wk_wait(booted, NULL, os_now_ns() + BOOT_NS);
    } while (status == ST_INTERRUPTED);
    if (status != ST_OK) {
        return st_fail(ST_RAYLET_DIED, "the runtime did not start: %s",
                       wk.raylet_evidence ? wk.raylet_evidence : st_last()->text);
    }
    if (boot_reply->status != 0) {
        return st_fail(boot_reply->status, "the runtime did not start: %s", boot_reply->text);
    }
    (void)snprintf(wk.raylet_socket, sizeof(wk.raylet_socket), "%s", boot_reply->raylet_socket);
    return ST_OK;
}

/* ---- greeting the raylet ---- */

static int
listen_for_peers(void)
{
    (void)snprintf(wk.socket_dir, sizeof(wk.socket_dir), "%s", wk.raylet_socket);
    char *slash = strrchr(wk.socket_dir, '/');
    if (!slash) {
        return st_fail(ST_INVALID_ARGUMENT, "'%s' is no absolute socket path", wk.raylet_socket);
    }
    *slash = '\0';
    uint32_t salt;
    os_random(&salt, sizeof(salt));
    (void)snprintf(wk.socket_name, sizeof(wk.socket_name), "p%d-%08x", (int)getpid(), salt);
    return wk_peer_listen();
}

static size_t
count_texts(const char *const *texts)
{
    size_t n = 0;
    while (texts && texts[n]) {
        n++;
    }
    return n;
}

static void
set_texts(char ***field, size_t *count, const char *const *texts)
{
    *count = count_texts(texts);
    memcpy(field, &texts, sizeof(texts));
}

static int
greet_as_driver(const struct ray_init_options *options, char **argv, int pidfd)
{
    Ray__Node__Hello hello = RAY__NODE__HELLO__INIT;
    Ray__Node__JobConfig job = RAY__NODE__JOB_CONFIG__INIT;
    char self[1024], cwd[4096];
    TRY(os_proc_self_path(self, sizeof(self)));
    if (!getcwd(cwd, sizeof(cwd))) {
        cwd[0] = '\0';
    }
    const size_t argc = count_texts((const char *const *)argv);
    const char **program = calloc(argc + 2, sizeof(*program));
    if (!program) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for a greeting");
    }
    program[0] = self;
    for (size_t i = 1; i < argc; i++) {
        program[i] = argv[i];
    }
    set_texts(&job.zygote_argv, &job.n_zygote_argv, options->zygote_argv);
    if (job.n_zygote_argv == 0) {
        set_texts(&job.program_argv, &job.n_program_argv, program);
    }
    set_texts(&job.environment, &job.n_environment, (const char *const *)environ);
    job.working_directory = cwd;
    const char *name = options->job_namespace ? options->job_namespace : "";
    memcpy(&job.job_namespace, &name, sizeof(name));
    job.entrypoint = self;
    job.log_to_driver = options->log_to_driver;
    job.standalone = driver_owns_runtime;
    job.detached_by_default = options->default_lifetime == RAY_LIFETIME_DETACHED;
    hello.protocol_version = RAY_PROTOCOL_VERSION;
    hello.role = RAY__NODE__ROLE__DRIVER;
    hello.pid = (int32_t)getpid();
    hello.peer_socket = wk.socket_name;
    hello.job = &job;
    const int status = wk_node_connect(wk.raylet_socket, &hello, pidfd);
    free(program);
    return status;
}

/* The greeting's answer is here: ids are known, peers may come. */
int
wk_begin_session(void)
{
    own_fini(&wk.own);
    own_init(&wk.own, wk.mem, &wk.self, NULL);
    if (wk.is_driver) {
        const struct id_task driver = id_task_of_driver(&wk.job);
        id_source_init(&wk.source, &driver, 0);
    } else {
        /* For threads of a worker outside of tasks: a random parent. */
        const struct id_actor none = id_actor_nil_of(&wk.job);
        struct id_task parent;
        os_random(parent.b, 8);
        memcpy(parent.b + 8, none.b, sizeof(none.b));
        id_source_init(&wk.source, &parent, 0);
    }
    return wk_peer_accept();
}

static int
start_driver(const struct ray_init_options *options, char **argv)
{
    int pidfd = -1;
    wk_lock();
    wk.is_driver = true;
    int status = start_parts();
    wk.running = status == ST_OK;
    wk.listener = -1;
    if (status == ST_OK) {
        status = os_pidfd_open(getpid(), &pidfd);
    }
    if (status == ST_OK) {
        status = ray_find_runtime(options->address, options->temp_dir, wk.raylet_socket,
                                  sizeof(wk.raylet_socket));
    }
    if (status == ST_OK && wk.raylet_socket[0] != '\0') {
        driver_owns_runtime = false;
    } else if (status == ST_OK) {
        driver_owns_runtime = true;
        status = boot_runtime(options, pidfd);
    }
    if (status == ST_OK) {
        status = listen_for_peers();
    }
    if (status == ST_OK) {
        status = greet_as_driver(options, argv, pidfd);
    }
    os_close(&pidfd);
    if (status == ST_OK) {
        wk.ready = true;
    }
    wk_unlock();
    return status;
}

/* ---- workers ---- */

int
wk_boot_worker(void)
{
    const char *socket = getenv("RAY_RAYLET_SOCKET"), *token = getenv("RAY_START_TOKEN");
    if (wk.ready) {
        return ST_OK;
    }
    if (!socket || !token) {
        return st_fail(ST_NOT_INITIALIZED, "this process was not started by a raylet");
    }
    uint8_t bytes[16];
    Ray__Node__Hello hello = RAY__NODE__HELLO__INIT;
    if (!id_from_hex(token, strlen(token), bytes, sizeof(bytes))) {
        return st_fail(ST_INVALID_ARGUMENT, "RAY_START_TOKEN is malformed");
    }
    os_panic_install();
    wk_lock();
    wk.is_driver = false;
    int status = start_parts();
    wk.running = status == ST_OK;
    wk.listener = -1;
    (void)snprintf(wk.raylet_socket, sizeof(wk.raylet_socket), "%s", socket);
    if (status == ST_OK) {
        status = listen_for_peers();
    }
    if (status == ST_OK) {
        hello.protocol_version = RAY_PROTOCOL_VERSION;
        hello.role = RAY__NODE__ROLE__WORKER;
        hello.pid = (int32_t)getpid();
        hello.start_token.data = bytes;
        hello.start_token.len = sizeof(bytes);
        hello.peer_socket = wk.socket_name;
        status = wk_node_connect(wk.raylet_socket, &hello, -1);
    }
    if (status == ST_OK) {
        wk.ready = true;
        (void)unsetenv("RAY_START_TOKEN");
    }
    wk_unlock();
    return status;
}

/* ---- public ---- */

RAY_API void
ray_init_options_default(struct ray_init_options *options)
{
    *options = (struct ray_init_options){
        .struct_size = sizeof(*options),
        .num_cpus = -1,
        .num_gpus = -1,
        .log_to_driver = true,
    };
}

static int
init_driver(const struct ray_init_options *options, char **argv)
{
    if (wk.ready || wk.running) {
        return st_fail(ST_ALREADY_INITIALIZED, "ray has already been started in this process");
    }
    os_raise_fd_limit();
    wk_logs_start(options->on_log, options->on_log_ctx);
    const int status = start_driver(options, argv);
    if (status != ST_OK) {
        const struct st_error why = *st_last();
        stop_parts();
        *st_last() = why;
        return status;
    }
    return wk_c_functions_start();
}

RAY_API int
ray_init(int argc, char **argv, const struct ray_init_options *options)
{
    struct ray_init_options plain;
    (void)argc;
    if (!options) {
        ray_init_options_default(&plain);
        options = &plain;
    }
    if (wk.forked) {
        return st_fail(ST_NOT_INITIALIZED, "ray can't be used in a process forked from one that "
                                           "uses it");
    }
    if (!options->zygote_argv && getenv("RAY_START_TOKEN")) {
        exit(wk_c_worker_main());
    }
    TRY(wk_check_name("a namespace", options->job_namespace));
    (void)pthread_mutex_lock(&lifecycle);
    const int status = init_driver(options, argv);
    (void)pthread_mutex_unlock(&lifecycle);
    return status;
}

static bool
said_goodbye(void *ctx)
{
    (void)ctx;
    return wk.goodbye || wk.raylet_dead;
}

/* Takes the boot socket out of the loop; -1 when there is none. Lock held. */
static int
take_boot_socket(void)
{
    const int fd = wk.boot ? fcntl(net_conn_fd(wk.boot), F_DUPFD_CLOEXEC, 3) : -1;
    net_conn_destroy(&wk.boot);
    return fd;
}

/* The guard closes it last of all: then no process, socket or file of the runtime is left. */
static void
wait_for_guard(int fd, uint64_t deadline)
{
    char buf[4096];
    for (uint64_t now = os_now_ns(); fd >= 0 && now < deadline; now = os_now_ns()) {
        struct pollfd p = { .fd = fd, .events = POLLIN };
        const int n = poll(&p, 1, (int)((deadline - now) / 1000000) + 1);
        if (n > 0 && read(fd, buf, sizeof(buf)) <= 0) {
            break;
        }
    }
    os_close(&fd);
}

static void
shut_down(void)
{
    int boot = -1;
    const uint64_t guard_deadline = os_now_ns() + GOODBYE_NS;
    wk_lock();
    if (!wk.ready) { /* never started, or another thread has shut it down */
        wk_unlock();
        return;
    }
    wk.ready = false;
    if (wk.is_driver) {
        Ray__Node__EndJob message = RAY__NODE__END_JOB__INIT;
        message.stop_runtime = driver_owns_runtime;
        (void)!wk_node_send(NODE_END_JOB, (const ProtobufCMessage *)&message, 0);
        const uint64_t deadline = os_now_ns() + GOODBYE_NS;
        wk.ending = true;
        while (!said_goodbye(NULL) && os_now_ns() < deadline) {
            (void)!wk_wait(said_goodbye, NULL, deadline);
        }
        wk.ending = false;
    }
    boot = take_boot_socket();
    wk_unlock();
    wait_for_guard(boot, guard_deadline);
    stop_parts();
}

RAY_API int
ray_shutdown(void)
{
    /* A worker's engine lives as long as its process. */
    if (!wk.forked && wk.is_driver) {
        (void)pthread_mutex_lock(&lifecycle);
        shut_down();
        (void)pthread_mutex_unlock(&lifecycle);
    }
    return RAY_OK;
}

RAY_API bool
ray_is_initialized(void)
{
    return wk.ready && !wk.forked && !wk.raylet_dead;
}

RAY_API int
ray_context_get(struct ray_context *out)
{
    TRY(wk_enter());
    const struct wk_exec *e = wk_current ? wk_current : wk.current;
    memcpy(out->job_id, wk.job.b, sizeof(out->job_id));
    memcpy(out->node_id, wk.self.node.b, sizeof(out->node_id));
    memcpy(out->worker_id, wk.self.worker.b, sizeof(out->worker_id));
    memcpy(out->actor_id, wk.self_actor_id.b, sizeof(out->actor_id));
    memcpy(out->task_id, e ? e->push.task.b : wk.source.task.b, sizeof(out->task_id));
    out->is_driver = wk.is_driver;
    out->attempt = e ? e->push.attempt : 0;
    out->actor_incarnation = wk.self_actor_incarnation;
    (void)snprintf(out->session_dir, sizeof(out->session_dir), "%s", wk.session_dir);
    (void)snprintf(out->session_name, sizeof(out->session_name), "%s", wk.session_name);
    (void)snprintf(out->gcs_address, sizeof(out->gcs_address), "%s", wk.gcs_socket);
    (void)snprintf(out->node_ip, sizeof(out->node_ip), "%s", wk.node_ip);
    (void)snprintf(out->raylet_socket, sizeof(out->raylet_socket), "%s", wk.raylet_socket);
    (void)snprintf(out->job_namespace, sizeof(out->job_namespace), "%s", wk.job_namespace);
    (void)snprintf(out->actor_name, sizeof(out->actor_name), "%s", wk.self_actor_name);
    wk_unlock();
    return RAY_OK;
}

/* What the current task or actor holds. Lock held. NULL: no memory. */
static char *
assigned_resources(void)
{
    const struct wk_exec *e = wk_current ? wk_current : wk.current;
    if (!ID_IS_NIL(wk.self_actor_id)) {
        return strdup(wk.self_actor_resources ? wk.self_actor_resources : "{}");
    }
    return strdup(e ? e->tmpl->resources : "{}");
}

/* The devices of the lease, which the raylet writes into this process's page. */
static char *
accelerator_ids(void)
{
    struct str out;
    str_init(&out, os_mem_system());
    uint32_t count = wk.is_driver ? 0 : atom_u32_load(&wk.raylet_page->gpu_count, ATOM_ACQUIRE);
    count = count < STORE_GPUS_MAX ? count : STORE_GPUS_MAX;
    str_printf(&out, "{\"GPU\":[");
    for (uint32_t i = 0; i < count; i++) {
        str_printf(&out, "%s\"%u\"", i ? "," : "",
                   atom_u32_load(&wk.raylet_page->gpus[i], ATOM_RELAXED));
    }
    str_printf(&out, "]}");
    char *text = strdup(str_text(&out));
    str_fini(&out);
    return text;
}

static void
put_reference(void *ctx, const struct own_ref *ref)
{
    static const char *const states[] = { "pending", "inline", "store", "error", "gone" };
    struct str *out = ctx;
    char hex[2 * sizeof(ref->id) + 1];
    str_printf(out, "%s{\"object_id\":\"%s\",\"owned\":%s,\"state\":\"%s\"",
               out->size > 1 ? "," : "", id_hex(ref->id.b, sizeof(ref->id.b), hex),
               ref->kind == OWN_OWNED ? "true" : "false",
               ref->state < COUNT_OF(states) ? states[ref->state] : "");
    str_printf(out, ",\"local\":%u,\"submitted\":%u,\"contained_in\":%u,\"pins\":%u,\"lent\":%s}",
               __atomic_load_n(&ref->local, __ATOMIC_RELAXED), ref->submitted, ref->contained_in,
               ref->pins, ref->kind == OWN_OWNED && ref->borrowers ? "true" : "false");
}

/* Every object that this process knows, and what refers to it here. */
static char *
references(void)
{
    struct str out;
    str_init(&out, os_mem_system());
    str_append(&out, "[", 1);
    own_walk(&wk.own, put_reference, &out);
    str_append(&out, "]", 1);
    char *text = out.failed ? NULL : strdup(str_text(&out));
    str_fini(&out);
    return text;
}

/* What this process itself can tell. False: the others are asked. */
static bool
local_state(const char *what, char **out)
{
    static const struct {
        const char *what;
        char *(*tell)(void);
    } known[] = { { "assigned_resources", assigned_resources },
                  { "accelerator_ids", accelerator_ids },
                  { "references", references } };
    for (size_t i = 0; i < COUNT_OF(known); i++) {
        if (strcmp(what, known[i].what) == 0) {
            *out = known[i].tell();
            return true;
        }
    }
    return false;
}

RAY_API int
ray_state_json(const char *what, char **out)
{
    *out = NULL;
    TRY(wk_enter());
    if (local_state(what, out)) {
        wk_unlock();
        return *out ? RAY_OK : st_fail(ST_OUT_OF_MEMORY, "no memory for an answer");
    }
    Ray__Node__StateAsk message = RAY__NODE__STATE_ASK__INIT;
    memcpy(&message.what, &what, sizeof(what));
    struct wk_ask ask;
    int status = wk_node_ask(NODE_STATE_ASK, (const ProtobufCMessage *)&message, &ask, UINT64_MAX);
    if (status == ST_OK) {
        Ray__Node__StateAnswer *answer =
            ray__node__state_answer__unpack(NULL, ask.answer.size, (uint8_t *)ask.answer.data);
        if (!answer) {
            status = st_fail(ST_PROTOCOL, "the raylet's answer can't be read");
        } else if (answer->status != 0) {
            status = st_fail(answer->status, "%s", answer->json);
        } else {
            *out = strdup(answer->json);
            status = *out ? ST_OK : st_fail(ST_OUT_OF_MEMORY, "no memory for an answer");
        }
        if (answer) {
            ray__node__state_answer__free_unpacked(answer, NULL);
        }
    }
    wk_ask_fini(&ask);
    wk_unlock();
    return status;
}

RAY_API void
ray_free(void *p)
{
    free(p);
}

/* ---- status ---- */

RAY_API const char *
ray_status_name(int status)
{
    return st_info(status)->name;
}

RAY_API const char *
ray_status_text(int status)
{
    return st_info(status)->text;
}

RAY_API const char *
ray_status_python_class(int status)
{
    return st_info(status)->python;
}

RAY_API const char *
ray_error_text(void)
{
    return st_last()->text;
}
