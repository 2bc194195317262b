/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ray stop: ends the standing runtimes of this user. A raylet that is told ends everything that it
 * has started, in order; its guard, which outlives it, then removes what is left. Runtimes that
 * belong to a driver end with that one and are left alone.
 */
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli_priv.h"
#include "os/os_basic.h"
#include "os/os_dir.h"
#include "os/os_proc.h"
#include "os/os_runtime.h"

enum { RUNTIMES_MAX = 64, GRACE_S = 16, PROCESSES_MAX = 32768 };

struct runtime {
    char address[CLI_ADDRESS_MAX];
    pid_t raylet, guard;
    int guard_fd;
};
struct found {
    struct runtime v[RUNTIMES_MAX];
    int count;
};

static int
usage(FILE *to)
{
    (void)fputs(
        "Usage: ray stop [OPTIONS]\n\n"
        "  Stop the runtimes that `ray start` started, and everything in them.\n\nOptions:\n"
        "  -f, --force                 Kill instead of ending in order.\n"
        "  -g, --grace-period INTEGER  Seconds until what is left is killed. [16]\n"
        "  --log-style, --log-color, -v, --verbose   Accepted.\n"
        "  --help                      Show this message and exit.\n",
        to);
    return to == stdout ? 0 : CLI_USAGE;
}

/* The parent of a process, or what else its status file says; 0 when it is gone. */
static pid_t
parent_of(pid_t pid)
{
    char path[64], text[4096];
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    if (os_read_text(path, text, sizeof(text)) <= 0) {
        return 0;
    }
    const char *end = strrchr(text, ')'); /* the name before it may hold anything */
    return end && strlen(end) > 4 ? (pid_t)strtol(end + 4, NULL, 10) : 0;
}

static bool
take(void *ctx, const char *address, bool standing)
{
    struct found *found = ctx;
    int pid = 0;
    if (!standing || found->count >= RUNTIMES_MAX || !os_runtime_answers(address, &pid)) {
        return true;
    }
    struct runtime *r = &found->v[found->count];
    (void)snprintf(r->address, sizeof(r->address), "%s", address);
    r->raylet = pid;
    r->guard = parent_of(pid);
    if (r->guard > 1 && os_pidfd_open(r->guard, &r->guard_fd) == ST_OK) {
        found->count++;
    }
    return true;
}

/* The runtime that drivers would join may have been started with another XDG_RUNTIME_DIR. */
static void
take_current(struct found *found)
{
    char temp[OS_RUNTIME_PATH_MAX], address[CLI_ADDRESS_MAX];
    if (os_runtime_temp(cli_temp_dir(NULL), temp, sizeof(temp)) != ST_OK ||
        !os_runtime_current(temp, address, sizeof(address))) {
        return;
    }
    for (int i = 0; i < found->count; i++) {
        if (strcmp(found->v[i].address, address) == 0) {
            return;
        }
    }
    if (os_runtime_answers(address, NULL)) {
        (void)take(found, address, true);
    } else {
        os_runtime_drop_current(temp, address); /* of a dead one */
    }
}

struct processes {
    pid_t pid[PROCESSES_MAX], parent[PROCESSES_MAX];
    int count;
};

static bool
note(void *ctx, const char *name)
{
    struct processes *all = ctx;
    const pid_t pid = (pid_t)strtol(name, NULL, 10);
    if (pid > 0 && all->count < PROCESSES_MAX) {
        all->pid[all->count] = pid;
        all->parent[all->count++] = parent_of(pid);
    }
    return true;
}

/* How many processes there are below `root`, and it. */
static int
count_tree(const struct processes *all, pid_t root)
{
    int count = 1;
    for (int i = 0; i < all->count; i++) {
        if (all->parent[i] == root && all->pid[i] != root) {
            count += count_tree(all, all->pid[i]);
        }
    }
    return count;
}

static int
count_processes(const struct found *found)
{
    struct processes *all = calloc(1, sizeof(*all));
    int count = 0;
    if (all && os_dir_each("/proc", note, all) == ST_OK) {
        for (int i = 0; i < found->count; i++) {
            count += count_tree(all, found->v[i].guard);
        }
    }
    free(all);
    return count;
}

/* Whether the guard, and so everything, is gone by then. */
static bool
wait_gone(const struct runtime *r, uint64_t deadline_ns)
{
    while (!os_pidfd_is_dead(r->guard_fd)) {
        const uint64_t now = os_now_ns();
        if (now >= deadline_ns) {
            return false;
        }
        struct pollfd p = { .fd = r->guard_fd, .events = POLLIN };
        (void)poll(&p, 1, (int)((deadline_ns - now) / 1000000) + 1);
    }
    return true;
}

/* How many runtimes are gone in the end. */
static int
stop_all(struct found *found, bool force, uint64_t grace_ns)
{
    const uint64_t second = UINT64_C(1000000000);
    int gone = 0;
    for (int i = 0; i < found->count; i++) {
        os_proc_signal(found->v[i].raylet, force ? SIGKILL : SIGTERM);
    }
    const uint64_t deadline_ns = os_now_ns() + grace_ns;
    for (int i = 0; i < found->count; i++) {
        struct runtime *r = &found->v[i];
        if (!wait_gone(r, deadline_ns)) {
            os_proc_signal(r->raylet, SIGKILL); /* its guard kills and removes the rest */
        }
        gone += wait_gone(r, os_now_ns() + 10 * second);
        os_close(&r->guard_fd);
    }
    return gone;
}

int
cli_stop(int argc, char **argv)
{
    static const struct option options[] = {
        { "force", no_argument, NULL, 'f' },
        { "grace-period", required_argument, NULL, 'g' },
        { "log-style", required_argument, NULL, 'v' },
        { "log-color", required_argument, NULL, 'v' },
        { "verbose", no_argument, NULL, 'v' },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    bool force = false;
    long grace_s = GRACE_S;
    for (int c = getopt_long(argc, argv, "fg:v", options, NULL); c != -1;
         c = getopt_long(argc, argv, "fg:v", options, NULL)) {
        char *end = NULL;
        if (c == 'f') {
            force = true;
        } else if (c == 'g') {
            grace_s = strtol(optarg, &end, 10);
            if (*end != '\0' || end == optarg || grace_s < 0 || grace_s > 86400) {
                return cli_error(CLI_USAGE,
                                 "Invalid value for '-g' / '--grace-period': '%s' is not "
                                 "a number of seconds.",
                                 optarg);
            }
        } else if (c != 'v') {
            return usage(c == 'h' ? stdout : stderr);
        }
    }
    if (optind != argc) {
        return usage(stderr);
    }
    struct found *found = calloc(1, sizeof(*found));
    if (!found) {
        (void)st_fail(ST_OUT_OF_MEMORY, "no memory for a list of runtimes");
    }
    if (!found || os_runtime_each(take, found) != ST_OK) {
        free(found);
        return cli_failed("can't look for runtimes");
    }
    take_current(found);
    if (found->count == 0) {
        (void)printf("Did not find any active Ray processes.\n");
        free(found);
        return 0;
    }
    const int processes = count_processes(found);
    const int gone = stop_all(found, force, (uint64_t)grace_s * UINT64_C(1000000000));
    if (gone == found->count) {
        (void)printf("Stopped all %d Ray processes.\n", processes);
    } else {
        (void)printf("Stopped only %d out of %d Ray runtimes. Use `ray stop --force`.\n", gone,
                     found->count);
    }
    free(found);
    return 0;
}
