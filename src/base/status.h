/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Status numbers and the error record.
 *
 * Every fallible function returns `int`: 0 or the negative of an entry of status.def. Whoever first
 * decides that something is an error fills the thread's `struct st_error`; callers pass the number
 * up. The same record travels between processes.
 */
#ifndef RAY_BASE_STATUS_H
#define RAY_BASE_STATUS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/assert.h"

enum {
    ST_OK = 0,
#define STATUS(name, number, text, retryable, lost, python) ST_##name = -(number),
#include "base/status.def"
#undef STATUS
};

enum st_lost {
    ST_LOST_NOTHING,
    ST_LOST_CALL,
    ST_LOST_TASK,
    ST_LOST_ACTOR,
    ST_LOST_OBJECT,
    ST_LOST_WORKER,
    ST_LOST_NODE,
    ST_LOST_CLUSTER,
};

struct st_info {
    int status;         /* 0 or negative */
    const char *name;   /* "STORE_FULL" */
    const char *text;   /* lower case, one phrase */
    bool retryable;     /* the same request may succeed later */
    enum st_lost lost;  /* what is gone */
    const char *python; /* exception class a Python user sees */
};

/* The table's row of `status`; a row named "UNKNOWN" for numbers that are not in it. Never NULL. */
const struct st_info *st_info(int status);

enum { ST_TEXT_MAX = 2048 };

/* What happened, where, and what to do. Filled once, by whoever first decides that it is an error.
 */
struct st_error {
    int status;
    int os_errno;           /* 0 where no system call is behind it */
    int32_t pid;            /* the process it is about, 0 unknown */
    char text[ST_TEXT_MAX]; /* a sentence for the user, NUL terminated */
};

/* The calling thread's last error. Valid until the next st_fail of this thread. */
struct st_error *st_last(void);

/* Fills the calling thread's record and returns `status`, so that `return st_fail(...)` reads well.
 */
int st_fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* As st_fail with an errno, whose text is appended. */
int st_fail_errno(int status, int os_errno, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#ifdef __clang_analyzer__
/* So that who reads the code path by path knows what comes back. */
#define st_fail(status, ...)       (st_fail(status, __VA_ARGS__), (status))
#define st_fail_errno(status, ...) (st_fail_errno(status, __VA_ARGS__), (status))
#endif

/* Evaluates an `int` status and returns it from the calling function when it isn't ST_OK. */
#define TRY(expression)                                                                            \
    do {                                                                                           \
        const int try_status_ = (expression);                                                      \
        if (__builtin_expect(try_status_ != ST_OK, 0)) {                                           \
            return try_status_;                                                                    \
        }                                                                                          \
    } while (0)

#endif
