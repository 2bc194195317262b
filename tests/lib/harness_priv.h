/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the two halves of the harness share: the runner (harness_run.c) and the counts that it takes
 * before and after a test (harness_leaks.c).
 */
#ifndef RAY_TESTS_LIB_HARNESS_PRIV_H
#define RAY_TESTS_LIB_HARNESS_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum { HARNESS_NAMES_MAX = 4096, HARNESS_NAME_BYTES = 256 };

/* The entries of one directory, as they were at one instant. */
struct harness_names {
    size_t count;
    char (*name)[HARNESS_NAME_BYTES];
};

/* Reads the names in a directory; a directory that isn't there has none. */
void harness_names_init(struct harness_names *names, const char *directory);
void harness_names_fini(struct harness_names *names);

/* Prints each descriptor open now and absent from `before`; returns how many. */
size_t harness_fds_report(const struct harness_names *before);

/*
 * Prints each shared-memory name of this user that is new since `before` and that no living process
 * holds open or mapped (tests beside this one have names too, but they live); returns how many.
 */
size_t harness_shm_report(const struct harness_names *before);

/* Finds a child of this process, other than `except`; 0 when there is none. */
pid_t harness_find_child(pid_t except);

/* Prints a process's command line and where each of its threads waits in the kernel. */
void harness_process_print(pid_t pid);

/* Removes a directory and everything in it. */
void harness_tree_remove(const char *path);

#endif
