/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ray start --head: starts a runtime that stays. The raylet is started as ray_init does it, without
 * a driver to end with, and says when it can be joined. With --block this process stays too and
 * ends the runtime with itself.
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/res.h"
#include "cli/cli_priv.h"
#include "os/os_basic.h"
#include "os/os_proc.h"
#include "os/os_runtime.h"
#include "os/os_sock.h"
#include "proto/kinds.h"
#include "proto/node.pb-c.h"

enum { BOOT_MS = 60000, STORE_MIN = 75 * 1024 * 1024 /* as of ray.init */ };

/* Options that Ray has and this version has not: an error each, before anything is started. */
static const struct {
    const char *name;
    int has_argument;
} unbuilt[] = {
    { "address", required_argument },
    { "autoscaling-config", required_argument },
    { "cgroup-path", required_argument },
    { "dashboard-agent-grpc-port", required_argument },
    { "dashboard-agent-listen-port", required_argument },
    { "dashboard-grpc-port", required_argument },
    { "dashboard-host", required_argument },
    { "dashboard-port", required_argument },
    { "gcs-server-port", required_argument },
    { "include-log-monitor", required_argument },
    { "labels", required_argument },
    { "labels-file", required_argument },
    { "max-worker-port", required_argument },
    { "metrics-export-port", required_argument },
    { "min-worker-port", required_argument },
    { "node-ip-address", required_argument },
    { "node-manager-port", required_argument },
    { "node-name", required_argument },
    { "object-manager-port", required_argument },
    { "object-spilling-directory", required_argument },
    { "plasma-directory", required_argument },
    { "plasma-store-socket-name", required_argument },
    { "ray-client-server-port", required_argument },
    { "raylet-socket-name", required_argument },
    { "redis-max-memory", required_argument },
    { "redis-password", required_argument },
    { "redis-shard-ports", required_argument },
    { "redis-username", required_argument },
    { "runtime-env-agent-port", required_argument },
    { "storage", required_argument },
    { "system-config", required_argument },
    { "system-reserved-cpu", required_argument },
    { "system-reserved-memory", required_argument },
    { "tracing-startup-hook", required_argument },
    { "worker-port-list", required_argument },
    { "enable-object-reconstruction", no_argument },
    { "enable-resource-isolation", no_argument },
    { "no-monitor", no_argument },
    { "no-redirect-output", no_argument },
    { "ray-debugger-external", no_argument },
};
enum { UNBUILT_COUNT = sizeof(unbuilt) / sizeof(unbuilt[0]), FIRST_UNBUILT = 1000 };

enum {
    OPT_HEAD = 500,
    OPT_PORT,
    OPT_CPUS,
    OPT_GPUS,
    OPT_RESOURCES,
    OPT_MEMORY,
    OPT_STORE,
    OPT_TEMP,
    OPT_BLOCK,
    OPT_DASHBOARD,
    OPT_IGNORED,
    OPT_HELP,
};

struct start {
    bool head, block;
    const char *port, *temp_dir;
    double cpus, gpus, memory; /* below 0: not given */
    uint64_t store_bytes;
    struct cli_pair resources[CLI_PAIRS_MAX];
    int resource_count;
};

static int
usage(FILE *to)
{
    (void)fputs(
        "Usage: ray start --head [OPTIONS]\n\n  Start a Ray runtime on this machine, which "
        "stays.\n\n"
        "Options:\n"
        "  --head                         Start the head node. Required: joining the runtime of\n"
        "                                 another machine is not built yet.\n"
        "  --num-cpus INTEGER             Processors to hand out; by default those there are.\n"
        "  --num-gpus INTEGER             GPUs to hand out.\n"
        "  --resources TEXT               Further resources: '{\"name\": amount, ...}'.\n"
        "  --memory INTEGER               Bytes of the resource `memory`.\n"
        "  --object-store-memory INTEGER  Bytes for shared objects; by default 30 % of memory.\n"
        "  --temp-dir TEXT                Where sessions are kept; by default /tmp/ray.\n"
        "  --port INTEGER                 Accepted: this version uses unix sockets only.\n"
        "  --block                        Stay in the foreground until the runtime ends.\n"
        "  --include-dashboard BOOLEAN    Only false: there is no dashboard yet.\n"
        "  --disable-usage-stats, --log-style, --log-color, -v, --verbose   Accepted.\n"
        "  --help                         Show this message and exit.\n",
        to);
    return to == stdout ? 0 : CLI_USAGE;
}

/* ---- options --------------------------------------------------------------------------------- */

/* A whole number of at least 0. */
static int
number(const char *name, double *out)
{
    char *end = NULL;
    errno = 0;
    const long long value = strtoll(optarg, &end, 10);
    if (end == optarg || *end != '\0' || errno != 0 || value < 0) {
        return cli_error(CLI_USAGE, "Invalid value for '--%s': '%s' is not a valid number.", name,
                         optarg);
    }
    *out = (double)value;
    return 0;
}

/* A whole number that a resource may have. */
static int
whole_amount(const char *name, double *out)
{
    struct res_amount amount;
    const int code = number(name, out);
    return code != 0 || res_amount_from_double(*out, &amount)
               ? code
               : cli_error(CLI_USAGE, "Invalid value for '--%s': '%s' is too much.", name, optarg);
}

static int
take_resources(struct start *s)
{
    s->resource_count = cli_parse_pairs(optarg, s->resources, CLI_PAIRS_MAX);
    if (s->resource_count < 0) {
        return cli_error(1,
                         "`--resources` is not a JSON string of numbers. Valid values look like "
                         "this: `--resources='{\"CustomResource3\": 1, \"CustomResource2\": 2}'`");
    }
    for (int i = 0; i < s->resource_count; i++) {
        struct res_amount amount;
        const char *name = s->resources[i].name;
        if (strcmp(name, "CPU") == 0 || strcmp(name, "GPU") == 0 || strcmp(name, "memory") == 0 ||
            strcmp(name, "object_store_memory") == 0 ||
            !res_amount_from_double(s->resources[i].value, &amount)) {
            return cli_error(1,
                             "`--resources` can't hold \"%s\": %g. CPU, GPU and memory have "
                             "options of their own; amounts are multiples of 0.0001, not negative.",
                             name, s->resources[i].value);
        }
    }
    return 0;
}

static bool
is_false(const char *text)
{
    return strcmp(text, "false") == 0 || strcmp(text, "False") == 0 || strcmp(text, "0") == 0;
}

/* One option; the exit code, 0 to go on. */
static int
take_option(struct start *s, int c)
{
    double bytes = 0;
    int code;
    switch (c) {
    case OPT_HEAD:
        s->head = true;
        return 0;
    case OPT_BLOCK:
        s->block = true;
        return 0;
    case OPT_PORT:
        s->port = optarg;
        return number("port", &bytes);
    case OPT_CPUS:
        return whole_amount("num-cpus", &s->cpus);
    case OPT_GPUS:
        return whole_amount("num-gpus", &s->gpus);
    case OPT_MEMORY:
        return whole_amount("memory", &s->memory);
    case OPT_STORE:
        code = number("object-store-memory", &bytes);
        s->store_bytes = (uint64_t)bytes;
        return code != 0 || bytes >= STORE_MIN
                   ? code
                   : cli_error(1, "--object-store-memory=%s: it must be at least %d bytes.", optarg,
                               STORE_MIN);
    case OPT_RESOURCES:
        return take_resources(s);
    case OPT_TEMP:
        s->temp_dir = optarg;
        return 0;
    case OPT_DASHBOARD:
        return is_false(optarg) ? 0
                                : cli_error(1,
                                            "--include-dashboard=%s: the dashboard is not "
                                            "built yet in this version of ray-c.",
                                            optarg);
    case OPT_IGNORED:
    case 'v':
        return 0;
    default:
        return cli_error(1, "--%s is not built yet in this version of ray-c.",
                         unbuilt[c - FIRST_UNBUILT].name);
    }
}

static int
parse(int argc, char **argv, struct start *s, bool *help)
{
    static const struct option known[] = {
        { "head", no_argument, NULL, OPT_HEAD },
        { "port", required_argument, NULL, OPT_PORT },
        { "num-cpus", required_argument, NULL, OPT_CPUS },
        { "num-gpus", required_argument, NULL, OPT_GPUS },
        { "resources", required_argument, NULL, OPT_RESOURCES },
        { "memory", required_argument, NULL, OPT_MEMORY },
        { "object-store-memory", required_argument, NULL, OPT_STORE },
        { "temp-dir", required_argument, NULL, OPT_TEMP },
        { "block", no_argument, NULL, OPT_BLOCK },
        { "include-dashboard", required_argument, NULL, OPT_DASHBOARD },
        { "disable-usage-stats", no_argument, NULL, OPT_IGNORED },
        { "log-style", required_argument, NULL, OPT_IGNORED },
        { "log-color", required_argument, NULL, OPT_IGNORED },
        { "verbose", no_argument, NULL, OPT_IGNORED },
        { "help", no_argument, NULL, OPT_HELP },
    };
    enum { KNOWN = sizeof(known) / sizeof(known[0]) };
    struct option options[KNOWN + UNBUILT_COUNT + 1];
    memset(options, 0, sizeof(options));
    memcpy(options, known, sizeof(known));
    for (int i = 0; i < UNBUILT_COUNT; i++) {
        options[KNOWN + i] =
            (struct option){ unbuilt[i].name, unbuilt[i].has_argument, NULL, FIRST_UNBUILT + i };
    }
    for (int c = getopt_long(argc, argv, "v", options, NULL); c != -1;
         c = getopt_long(argc, argv, "v", options, NULL)) {
        if (c == OPT_HELP || c == '?') {
            *help = c == OPT_HELP;
            if (!*help) { /* getopt has said what is wrong */
                (void)fputs("Try 'ray start --help' for help.\n", stderr);
            }
            return CLI_USAGE;
        }
        const int code = take_option(s, c);
        if (code != 0) {
            return code;
        }
    }
    if (optind != argc) {
        return cli_error(CLI_USAGE, "Got unexpected extra argument (%s)", argv[optind]);
    }
    if (!s->head) {
        return cli_error(1, "`--address` is required unless starting a head node with `--head`; "
                            "and joining another machine's runtime is not built yet.");
    }
    return 0;
}

/* ---- starting -------------------------------------------------------------------------------- */

/* The raylet lies beside this program. */
static int
raylet_path(char *out, size_t capacity)
{
    char self[512];
    TRY(os_proc_self_path(self, sizeof(self)));
    char *slash = strrchr(self, '/');
    if (slash) {
        *slash = '\0';
    }
    (void)snprintf(out, capacity, "%s/raylet", slash ? self : ".");
    return access(out, X_OK) == 0 ? ST_OK : st_fail_errno(ST_SYSTEM, errno, "no raylet at %s", out);
}

static int
spawn_raylet(int boot_fd)
{
    char path[600], fd_text[16];
    TRY(raylet_path(path, sizeof(path)));
    (void)snprintf(fd_text, sizeof(fd_text), "%d", boot_fd);
    const char *argv[] = { path, "--boot-fd", fd_text, NULL };
    const struct os_spawn spec = {
        .argv = argv,
        .cwd = "/",
        .stdin_fd = -1,
        .stdout_fd = -1,
        .stderr_fd = STDERR_FILENO,
        .keep = &boot_fd,
        .keep_count = 1,
        .new_session = true,
    };
    pid_t pid = 0;
    struct os_exit exit;
    TRY(os_proc_spawn(&spec, &pid));
    return os_proc_wait(pid, &exit); /* its guard detaches at once */
}

static void
add(Ray__Node__Resource *rows, Ray__Node__Boot *boot, const char *name, double amount)
{
    struct res_amount exact = { 0 };
    (void)res_amount_from_double(amount, &exact); /* checked when it was read */
    Ray__Node__Resource *row = &rows[boot->n_resources];
    ray__node__resource__init(row);
    row->name = (char *)(uintptr_t)name; /* only read */
    row->amount = exact.v;
    boot->resources[boot->n_resources++] = row;
}

static int
send_boot(int fd, const struct start *s)
{
    Ray__Node__Resource rows[CLI_PAIRS_MAX + 3], *pointers[CLI_PAIRS_MAX + 3];
    Ray__Node__Boot boot = RAY__NODE__BOOT__INIT;
    const char *temp = cli_temp_dir(s->temp_dir);
    boot.protocol_version = RAY_PROTOCOL_VERSION;
    boot.resources = pointers;
    boot.object_store_memory = s->store_bytes;
    boot.temp_dir = (char *)(uintptr_t)(temp ? temp : "");
    boot.driver_pid = (int32_t)getpid();
    if (s->cpus >= 0) {
        add(rows, &boot, "CPU", s->cpus);
    }
    if (s->gpus >= 0) {
        add(rows, &boot, "GPU", s->gpus);
    }
    if (s->memory >= 0) {
        add(rows, &boot, "memory", s->memory);
    }
    for (int i = 0; i < s->resource_count; i++) {
        add(rows, &boot, s->resources[i].name, s->resources[i].value);
    }
    return cli_send(fd, NODE_BOOT, 0, &boot.base);
}

static void
print_success(const char *address, const char *session_dir, const char *port)
{
    static const char *const bar = "--------------------";
    if (port) {
        (void)printf(
            "--port=%s: this version listens on unix sockets only; the address is below.\n", port);
    }
    (void)printf("Local node IP: 127.0.0.1\n\n%s\nRay runtime started.\n%s\n\n", bar, bar);
    (void)printf("Next steps\n"
                 "  To join it by its address:\n"
                 "    RAY_ADDRESS='%s'\n\n"
                 "  To connect to this Ray cluster:\n"
                 "    import ray\n"
                 "    ray.init()\n\n"
                 "  To terminate the Ray runtime, run\n"
                 "    ray stop\n\n"
                 "  To view the status of the cluster, use\n"
                 "    ray status\n\n"
                 "Logs are in %s/logs\n",
                 address, session_dir);
    (void)fflush(stdout);
}

/* ---- --block --------------------------------------------------------------------------------- */

/* The guard closes its end last of all. */
static void
wait_closed(int boot_fd)
{
    char rest[256];
    for (;;) {
        struct pollfd p = { .fd = boot_fd, .events = POLLIN };
        if (poll(&p, 1, BOOT_MS) <= 0 || read(boot_fd, rest, sizeof(rest)) <= 0) {
            return;
        }
    }
}

/* Until the runtime has ended. A signal ends it. */
static int
stay(int boot_fd, pid_t raylet)
{
    static const int signals[] = { SIGINT, SIGTERM, SIGHUP, 0 };
    int signal_fd = -1;
    if (os_signal_open(signals, &signal_fd) != ST_OK) {
        return cli_failed("can't wait");
    }
    (void)printf(
        "\n--block\n  This command will now block forever until terminated by a signal.\n"
        "  Running subprocesses are monitored and a message will be printed if any of them "
        "terminate unexpectedly.\n");
    (void)fflush(stdout);
    struct pollfd fds[2] = { { .fd = boot_fd, .events = POLLIN },
                             { .fd = signal_fd, .events = POLLIN } };
    while (!(fds[0].revents & (POLLIN | POLLHUP))) {
        (void)poll(fds, 2, -1);
        if ((fds[1].revents & POLLIN) && os_signal_next(signal_fd) != 0) {
            os_proc_signal(raylet, SIGTERM);
        }
    }
    os_close(&signal_fd);
    ProtobufCMessage *message = NULL;
    int code = 1;
    if (cli_receive(boot_fd, NODE_RAYLET_EXITED, &ray__node__raylet_exited__descriptor, BOOT_MS,
                    &message) == ST_OK) {
        const Ray__Node__RayletExited *exited = (const Ray__Node__RayletExited *)message;
        code = exited->exit_code == 0 && exited->signal == 0 ? 0 : 1;
        if (code != 0) {
            (void)fprintf(stderr, "Some Ray subprocesses exited unexpectedly:\n  %s\n",
                          exited->text);
        }
        protobuf_c_message_free_unpacked(message, NULL);
    }
    wait_closed(boot_fd);
    return code;
}

static int
boot(const struct start *s, int boot_fd)
{
    ProtobufCMessage *message = NULL;
    if (send_boot(boot_fd, s) != ST_OK ||
        cli_receive(boot_fd, NODE_BOOT_REPLY, &ray__node__boot_reply__descriptor, BOOT_MS,
                    &message) != ST_OK) {
        return cli_failed("the runtime did not start");
    }
    const Ray__Node__BootReply *reply = (const Ray__Node__BootReply *)message;
    int code = 0;
    if (reply->status != 0) {
        code = cli_error(1, "the runtime did not start: %s", reply->text);
    } else {
        print_success(reply->raylet_socket, reply->session_dir, s->port);
        code = s->block ? stay(boot_fd, reply->raylet_pid) : 0;
    }
    protobuf_c_message_free_unpacked(message, NULL);
    return code;
}

int
cli_start(int argc, char **argv)
{
    struct start s = { .cpus = -1, .gpus = -1, .memory = -1 };
    bool help = false;
    int code = parse(argc, argv, &s, &help);
    if (code != 0) {
        return help ? usage(stdout) : code;
    }
    char temp[OS_RUNTIME_PATH_MAX], running[CLI_ADDRESS_MAX];
    if (os_runtime_temp(cli_temp_dir(s.temp_dir), temp, sizeof(temp)) != ST_OK) {
        return cli_failed("can't start");
    }
    if (os_runtime_current(temp, running, sizeof(running)) && os_runtime_answers(running, NULL)) {
        return cli_error(1,
                         "a Ray runtime is already running at %s: join it, stop it with `ray "
                         "stop`, or use another --temp-dir.",
                         running);
    }
    int fds[2];
    if (os_sock_pair(fds) != ST_OK) {
        return cli_failed("can't start");
    }
    const int status = spawn_raylet(fds[1]);
    os_close(&fds[1]);
    code = status == ST_OK ? boot(&s, fds[0]) : cli_failed("the runtime did not start");
    os_close(&fds[0]);
    return code;
}
