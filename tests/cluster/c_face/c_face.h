/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of the C face share: a runtime for each test, looked after when it ends, short
 * forms of the calls, and places where a task and its test meet.
 *
 * The test program is its own worker: c_face_main comes first in main. A runtime's processes are
 * children of the test when those between have ended (it is a subreaper), so c_face_stop can wait
 * for the last of them; what then is left of sockets and files fails the test.
 */
#ifndef RAY_TESTS_C_FACE_H
#define RAY_TESTS_C_FACE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "harness.h"
#include "ray/ray.h"

/* A test with a runtime of 2 CPUs around it. */
#define C_FACE_TEST(test) cmocka_unit_test_setup_teardown(test, c_face_start, c_face_stop)

/* The status that is expected, else the test fails and prints the error's text. */
#define EXPECT(wanted, call) c_face_expect((wanted), (call), #call, __FILE__, __LINE__)
#define MUST(call)           EXPECT(RAY_OK, call)

/* Runs this process as a worker, if it is one; otherwise returns at once. */
void c_face_main(int argc, char **argv);
void c_face_expect(int wanted, int status, const char *call, const char *file, int line);

int c_face_start(void **state);
int c_face_start_with(double num_cpus);
/* With a store of 64 MiB instead of 256: for tests that fill it again and again. */
int c_face_start_small(void **state);
int c_face_stop(void **state);
/* Waits for the end of all descendants, and checks that a runtime has left nothing but logs. */
void c_face_expect_gone(const struct ray_context *of);
const struct ray_context *c_face_context(void);

/* Submits f(number). With options NULL, default ones. */
ray_ref *c_face_call(ray_function *function, ray_options *options, uint64_t number);
ray_ref *c_face_call_text(ray_function *function, ray_options *options, const char *text);
ray_ref *c_face_method(ray_actor *actor, ray_function *method, uint64_t number);
/* The number that the reference becomes; gives the reference up. */
uint64_t c_face_number(ray_ref *ref);
/* Waits for a failure of that status and gives its text, until the next call. Gives up the ref. */
const char *c_face_failure(int status, ray_ref *ref);
ray_options *c_face_options(const struct ray_task_options *options);

/* The number that a task or method got as its argument. */
uint64_t c_face_arg(ray_task *task);
int c_face_return(ray_task *task, uint64_t number);

/* A named meeting place in the test's directory. c_face_meet waits until both sides have come; what
 * the first argument says is handed from the teller to the asker. */
void c_face_gate_create(const char *name, char path[128]);
void c_face_gate_tell(const char *path, uint64_t number);
uint64_t c_face_gate_ask(const char *path);
/* Waits for the end of a process that isn't a child. */
void c_face_wait_process(int pid);
/* The child of that process whose command has this name, or 0. */
pid_t c_face_child(pid_t parent, const char *name);

#endif
