/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the test program is when the raylet starts it: a worker or a zygote. The environment
 * variable CL_WORKER says how a worker behaves: "print" prints two lines to each stream once it
 * serves; "orphan" leaves a process in a session of its own and tells its number on stdout; "die"
 * exits with code 3 before it says hello. As an actor it does what its spec says: "ok", "fail",
 * "exit".
 */
#ifndef RAY_TESTS_CL_ROLES_H
#define RAY_TESTS_CL_ROLES_H

/* The exit code of a process in that role ("worker", "zygote"). */
int cl_role_main(const char *role);

#endif
