/* SPDX-License-Identifier: Apache-2.0 */
/* ray: the command line. `ray COMMAND --help` tells of each command. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

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

int
main(int argc, char **argv)
{
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
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(argv[1], commands[i].name) == 0) {
            return commands[i].run(argc - 1, argv + 1);
        }
    }
    (void)fputs("Usage: ray [OPTIONS] COMMAND [ARGS]...\nTry 'ray --help' for help.\n\n", stderr);
    return cli_error(CLI_USAGE, "No such command '%s'.", argv[1]);
}
