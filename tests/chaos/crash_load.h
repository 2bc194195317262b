/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The load under which processes are killed at fault points, and what its parts tell of themselves.
 *
 * The driver gives tasks that bring about every move of the protocols: bursts that make a
 * connection hot (rings, doorbells), frames that fill and wrap a ring, tasks slow enough that those
 * behind them are recalled, tasks that wait for tasks of their own (bounces, a worker as owner),
 * values in the store, calls of an actor, leases that come back and are granted again.
 *
 * Every task has a number. It first appends (number, attempt) to a file that outlives its worker;
 * the driver writes what it was answered into memory that outlives the driver. What can be said of
 * the two together is in crash_check.c.
 */
#ifndef RAY_TESTS_CRASH_LOAD_H
#define RAY_TESTS_CRASH_LOAD_H

#include <stdbool.h>
#include <stdint.h>

enum { CRASH_TASKS = 800 };

/* What a task does besides telling of itself. */
enum crash_kind {
    CRASH_QUICK,
    CRASH_SLOW, /* longer than predicted */
    CRASH_NEST, /* waits for a few tasks of its own */
    CRASH_FARM, /* waits for many, one of which is slow */
    CRASH_GPU,  /* needs another lease */
    CRASH_CALL, /* of the actor */
};

/* A task's argument; `size` bytes in all, the rest filled with the number. */
struct crash_job {
    uint64_t number; /* of a nested task: CRASH_NESTED_NUMBER */
    uint32_t kind;
    uint32_t size;
};

/* Nested task `index` of an attempt of its parent. One of three is not to be repeated, as of all.
 */
#define CRASH_NESTED                            UINT64_C(0x100000)
#define CRASH_NESTED_NUMBER(of, attempt, index) ((of)*64 + (index) + CRASH_NESTED * ((attempt) + 1))
#define CRASH_NESTED_INDEX(number)              ((number) % 64)

/* The answer to a task, and to one whose nested task, not to be repeated, crashed. */
#define CRASH_VALUE(number)             ((number)*100 + 1)
#define CRASH_VALUE_LOST(number, index) (CRASH_VALUE(number) + 1 + (index))

/* One run of a task, as it is appended to the file. */
struct crash_mark {
    uint64_t number;
    uint64_t attempt;
};

enum crash_answer { CRASH_NOT_GIVEN, CRASH_OPEN, CRASH_ANSWERED };

/* One task, as the driver sees it. */
struct crash_task {
    uint32_t kind;
    uint32_t answer; /* enum crash_answer */
    bool crowded;    /* given when frames fill the rings */
    int32_t retries;
    int32_t status;
    uint64_t value;
};

/* Shared by the driver and the test. */
struct crash_report {
    struct crash_task tasks[CRASH_TASKS];
    uint32_t count;
    bool raylet_died; /* an answer said so */
    char text[1024];  /* why the driver is not content; "" */
};

struct crash_world {
    const char *dir;   /* for sessions, sockets and marks */
    const char *fault; /* RAY_FAULT */
    uint64_t seed;
    struct crash_report *report;
};

/* The whole life of a driver, in a process of its own: runtime, load, rest, end. Never returns:
 * exit code 0, or 1 and report->text. */
_Noreturn void crash_driver(const struct crash_world *world);

/* Where the tasks' marks are, and the file whose disappearance tells of a kill. */
void crash_marks_path(const char *dir, char path[256]);
void crash_token_path(const char *dir, char path[256]);

#endif
