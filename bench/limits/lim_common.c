/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Helpers of the limit programs: see the header for what they promise.  Everything here ends the
 * process on failure, since a limit that was half measured is of no use to anybody.
 */
#include "lim_common.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

double
lim_seconds_from_args(int argc, char **argv)
{
    if (argc < 2) {
        return 1.0;
    }
    char *end = NULL;
    const double seconds = strtod(argv[1], &end);
    if (end == argv[1] || *end != '\0' || !(seconds > 0.0) || seconds > 60.0) {
        fprintf(stderr, "usage: %s [seconds per measurement, above 0 and at most 60]\n", argv[0]);
        exit(2);
    }
    return seconds;
}

double
lim_now_s(void)
{
    struct timespec now;
    if (clock_gettime(CLOCK_MONOTONIC, &now) != 0) {
        lim_die("clock_gettime");
    }
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

void
lim_samples_add(struct lim_samples *samples, double value)
{
    if (samples->count < LIM_SAMPLES_MAX) {
        samples->value[samples->count++] = value;
    }
}

static int
compare_doubles(const void *left, const void *right)
{
    const double a = *(const double *)left;
    const double b = *(const double *)right;
    return (a > b) - (a < b);
}

double
lim_samples_median(struct lim_samples *samples)
{
    if (samples->count == 0) {
        fprintf(stderr, "no sample was taken\n");
        exit(1);
    }
    qsort(samples->value, samples->count, sizeof(samples->value[0]), compare_doubles);
    return samples->value[samples->count / 2];
}

void
lim_report(const char *name, double value, const char *unit)
{
    printf("{\"name\": \"%s\", \"value\": %.6g, \"unit\": \"%s\"}\n", name, value, unit);
    fflush(stdout);
}

_Noreturn void
lim_die(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

void *
lim_map_shared(size_t size)
{
    void *address =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (address == MAP_FAILED) {
        lim_die("mmap of shared memory");
    }
    return address;
}

/* The processors this process was given, kept from before the first lim_pin narrowed them. */
static const cpu_set_t *
given_cpus(void)
{
    static cpu_set_t given;
    static bool known;
    if (!known) {
        if (sched_getaffinity(0, sizeof(given), &given) != 0) {
            lim_die("sched_getaffinity");
        }
        known = true;
    }
    return &given;
}

unsigned
lim_cpu_count(void)
{
    return (unsigned)CPU_COUNT(given_cpus());
}

void
lim_pin(unsigned index)
{
    const cpu_set_t *given = given_cpus();
    unsigned left = index % lim_cpu_count();
    size_t cpu = 0;
    while (!CPU_ISSET(cpu, given) || left-- > 0) {
        cpu++;
    }
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    if (sched_setaffinity(0, sizeof(one), &one) != 0) {
        lim_die("sched_setaffinity");
    }
}

pid_t
lim_fork_peer(void)
{
    const pid_t parent = getpid();
    const pid_t pid = fork();
    if (pid < 0) {
        lim_die("fork");
    }
    if (pid == 0) {
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) {
            lim_die("prctl");
        }
        /* The parent may have ended before the line above took effect. */
        if (getppid() != parent) {
            _exit(1);
        }
    }
    return pid;
}

void
lim_join_peer(pid_t pid)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) {
            lim_die("waitpid");
        }
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        fprintf(stderr, "the peer process failed (wait status %d)\n", status);
        exit(1);
    }
}
