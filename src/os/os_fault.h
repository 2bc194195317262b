/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The system-call side of fault points (base/flt.h): sleeping, SIGKILL and SIGSTOP to oneself, and
 * arming from the environment variable RAY_FAULT. Called once by each process's main, before it
 * has threads.
 */
#ifndef RAY_OS_FAULT_H
#define RAY_OS_FAULT_H

#include "base/assert.h"

/* Installs the hooks and arms what RAY_FAULT says for `role` (may be NULL). Names that this program
 * doesn't have are ignored; malformed text is ST_INVALID_ARGUMENT. */
int os_fault_init(const char *role) MUST_USE;

#endif
