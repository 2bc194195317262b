/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the limit programs share: the clock, the option for how long to measure, the way a result
 * is printed, shared memory, and a peer process that can not outlive its parent.
 *
 * Each program is a process of its own, started by bench/run.py, and prints one JSON object a line
 * on standard output: {"name": ..., "value": ..., "unit": ...}.  A program that can not measure
 * says why on standard error and exits with status 1; it never prints a guess.
 */
#ifndef LIM_COMMON_H
#define LIM_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The payload that message rates are measured with, and how many of them make one batch. */
#define LIM_MESSAGE_BYTES 100u
#define LIM_BATCH_COUNT   64u

/* The most samples one measurement keeps; it ends early when they are full. */
#define LIM_SAMPLES_MAX 4096u

struct lim_samples {
    size_t count;
    double value[LIM_SAMPLES_MAX];
};

/* Seconds to spend on each measurement: the first argument of the program, 1 by default. */
double lim_seconds_from_args(int argc, char **argv);

/* The monotonic clock, in seconds. */
double lim_now_s(void);

void lim_samples_add(struct lim_samples *samples, double value);

/* The median; sorts the samples in place.  At least one sample must be there. */
double lim_samples_median(struct lim_samples *samples);

void lim_report(const char *name, double value, const char *unit);

/* Says what failed, with the text of errno, and ends the process with status 1. */
_Noreturn void lim_die(const char *what);

/* Zeroed memory that a forked peer shares; unmapped by the end of the process. */
void *lim_map_shared(size_t size);

/* Number of processors this process was started with. */
unsigned lim_cpu_count(void);

/* Binds the calling thread to the index-th of those processors, modulo their number. */
void lim_pin(unsigned index);

/* fork() whose child is killed when the parent ends; returns as fork does, never -1. */
pid_t lim_fork_peer(void);

/* Waits for a peer and dies unless it ended with status 0. */
void lim_join_peer(pid_t pid);

#endif
