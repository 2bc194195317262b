/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The system-call side of fault points (base/flt.h): sleeping, SIGKILL and SIGSTOP to oneself, and
 * arming from the environment variable RAY_FAULT. Called once by each process's main, or by libray
 * when it starts, before it has threads.
 *
 * All processes of a runtime have the same environment. Where only one of them is to die,
 * RAY_FAULT_TOKEN names a file: a process that comes to a crash renames it to <file>.<pid> and dies
 * if that succeeds; those who come too late live on.
 */
#ifndef RAY_OS_FAULT_H
#define RAY_OS_FAULT_H

#include "base/assert.h"

/* Installs the hooks and arms what RAY_FAULT says for `role` (may be NULL). Names that this program
 * doesn't have are ignored; malformed text is ST_INVALID_ARGUMENT. */
int os_fault_init(const char *role) MUST_USE;

#endif
