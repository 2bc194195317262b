/* SPDX-License-Identifier: Apache-2.0 */
/* ray: the command line. `ray COMMAND --help` tells of each command. */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli_priv.h"
#include "ray/ray.h"

int
cli_error(int code, const char *format, ...)
{
    va_list args;
    (void)fputs("Error: ", stderr);
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    va_end(args);
    (void)fputc('\n', stderr);
    return code;
}

int
cli_failed(const char *what)
{
    return cli_error(1, "%s: %s", what, st_last()->text);
}

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *does;
} commands[] = {
    { "start", cli_start, "Start a Ray runtime on this machine, which stays." },
    { "stop", cli_stop, "Stop it, and everything that runs in it." },
    { "status", cli_status, "What the runtime has and what is in use." },
};

static int
usage(FILE *to)
{
    (void)fputs("Usage: ray [OPTIONS] COMMAND [ARGS]...\n\nOptions:\n"
                "  --version  Show the version and exit.\n"
                "  --help     Show this message and exit.\n\nCommands:\n",
                to);
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        (void)fprintf(to, "  %-8s %s\n", commands[i].name, commands[i].does);
    }
    return to == stdout ? 0 : CLI_USAGE;
}

/* Commands that Ray has and this version has not. */
static const char *const unbuilt[] = {
    "attach",         "check-open-ports",
    "cluster-dump",   "cpp",
    "dashboard",      "debug",
    "down",           "drain-node",
    "exec",           "get",
    "get-auth-token", "get-head-ip",
    "get-worker-ips", "global-gc",
    "health-check",   "job",
    "list",           "local-dump",
    "logs",           "memory",
    "metrics",        "microbenchmark",
    "monitor",        "rsync-down",
    "rsync-up",       "serve",
    "stack",          "submit",
    "summary",        "symmetric-run",
    "timeline",       "up",
};

/* Opens what the caller has closed of the standard descriptors, so that no socket takes its place.
 */
static void
open_standard(void)
{
    int fd = 0;
    while (fd >= 0 && fd <= 2) {
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    }
    if (fd > 2) {
        (void)close(fd);
    }
}

static int
run(const char *name, int argc, char **argv)
{
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(name, commands[i].name) == 0) {
            char title[32];
            (void)snprintf(title, sizeof(title), "ray %s", name);
            argv[0] = title; /* for getopt's messages */
            return commands[i].run(argc, argv);
        }
    }
    for (size_t i = 0; i < sizeof(unbuilt) / sizeof(unbuilt[0]); i++) {
        if (strcmp(name, unbuilt[i]) == 0) {
            return cli_error(1, "`ray %s` is not built yet in this version of ray-c.", name);
        }
    }
    (void)fputs("Usage: ray [OPTIONS] COMMAND [ARGS]...\nTry 'ray --help' for help.\n\n", stderr);
    return cli_error(CLI_USAGE, "No such command '%s'.", name);
}

int
main(int argc, char **argv)
{
    open_standard();
    if (argc < 2) {
        return usage(stderr);
    }
    if (strcmp(argv[1], "--help") == 0) {
        return usage(stdout);
    }
    if (strcmp(argv[1], "--version") == 0) {
        (void)printf("ray, version %d.%d.%d\n", RAY_VERSION_MAJOR, RAY_VERSION_MINOR,
                     RAY_VERSION_PATCH);
        return 0;
    }
    return run(argv[1], argc - 1, argv + 1);
}
