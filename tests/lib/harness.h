/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The harness under every C test program: what cmocka alone doesn't do.
 *
 * A test program is plain cmocka: a main() that calls cmocka_run_group_tests(). The linker sends
 * that call here (--wrap), so a test file needs no line for it. Then:
 *
 *   program                    runs every test, each in a process of its own
 *   program --list             prints the names of the tests
 *   program --test NAME        runs one test (this is what CTest calls, one entry a test)
 *   program --test NAME --here runs it in this very process, for a debugger
 *   --timeout SECONDS          the limit for one test (30), times RAY_TEST_TIMEOUT_MULTIPLIER
 *
 * A test also fails when it passes its limit, or when it ends with an open file descriptor, a name
 * in shared memory or a living process that weren't there when it began. Under a debugger a test
 * always runs "here" and without a limit.
 *
 * All functions belong to the thread that runs the test. They end the test when the system refuses
 * them something.
 */
#ifndef RAY_TESTS_LIB_HARNESS_H
#define RAY_TESTS_LIB_HARNESS_H

#include <stdbool.h>
#include <stddef.h>

/*
 * The directory of the running test: empty when it begins, removed with all it holds when it has
 * ended, however it ended. TMPDIR names it too.
 */
const char *harness_dir(void);

/*
 * Runs fn(arg) in a forked child and returns its wait status; a return of fn is exit status 0. For
 * deaths that are meant: an assertion, a signal, an exit. The child's stderr is dropped.
 */
int harness_child(void (*fn)(void *arg), void *arg);

/* True when fn(arg), in a child, ended by a signal: the way an assertion ends a process. */
bool harness_dies(void (*fn)(void *arg), void *arg);

/* The factor that RAY_TEST_TIMEOUT_MULTIPLIER sets for slow machines and sanitizers; 1 by default.
 */
double harness_timeout_multiplier(void);

#endif
