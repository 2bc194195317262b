/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transient helper threads: one function, run once beside the caller, with every signal blocked, so
 * that a user's handlers stay on the user's threads.
 */
#ifndef RAY_OS_THREAD_H
#define RAY_OS_THREAD_H

/* Runs fn(arg) on a new thread. NULL when there can be none; then fn isn't run. */
void *os_thread_start(void (*fn)(void *), void *arg);

/* Waits for its end and frees the handle. Each handle is joined once. */
void os_thread_join(void *handle);

/* Signals that were sent to the calling thread before are delivered within this call, unless it
 * blocks them: they interrupt no later system call. */
void os_thread_take_signals(void);

#endif
