/* SPDX-License-Identifier: Apache-2.0 */
/* Answers against runs. See crash_check.h. */
#include "crash_check.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ray/ray.h"

struct check {
    const struct crash_report *report;
    const struct crash_mark *marks; /* by number, then attempt */
    size_t count;
    enum crash_role died;
    struct crash_verdict *verdict;
};

/* The runs of one task, in the order of their attempts. */
struct runs {
    const struct crash_mark *first;
    size_t count;
};

static void
blame(struct check *c, uint64_t number, const char *what)
{
    if (c->verdict->text[0] == '\0') {
        (void)snprintf(c->verdict->text, sizeof(c->verdict->text), "task %#" PRIx64 ": %s", number,
                       what);
    }
}

static int
compare(const void *a, const void *b)
{
    const struct crash_mark *x = a, *y = b;
    if (x->number != y->number) {
        return x->number < y->number ? -1 : 1;
    }
    return x->attempt < y->attempt ? -1 : x->attempt > y->attempt;
}

static struct runs
runs_of(const struct check *c, uint64_t number)
{
    struct runs runs = { 0 };
    for (size_t i = 0; i < c->count; i++) {
        if (c->marks[i].number == number) {
            runs.first = runs.count++ == 0 ? &c->marks[i] : runs.first;
        }
    }
    return runs;
}

/* A parent that tells of a nested task that crashed. */
static bool
has_lost(const struct crash_task *task, uint64_t number)
{
    return (task->kind == CRASH_NEST || task->kind == CRASH_FARM) &&
           task->value >= CRASH_VALUE_LOST(number, 0) && task->value < CRASH_VALUE_LOST(number, 64);
}

static bool
may_answer(const struct check *c, const struct crash_task *task, uint64_t number)
{
    switch (task->status) {
    case RAY_OK:
        return task->value == CRASH_VALUE(number) ||
               (c->died == CRASH_WORKER && has_lost(task, number) &&
                CRASH_NESTED_INDEX(task->value - CRASH_VALUE_LOST(number, 0)) % 3 == 1);
    case RAY_E_WORKER_CRASHED:
        return c->died == CRASH_WORKER && task->retries == 0 && task->kind != CRASH_CALL;
    case RAY_E_ACTOR_DIED:
        return c->died == CRASH_WORKER && task->kind == CRASH_CALL;
    case RAY_E_RAYLET_DIED:
        return c->died == CRASH_RAYLET;
    default:
        return false;
    }
}

/* Attempts that a later one, or a last failure, shows to have been charged. */
static void
count_charges(struct check *c, const struct runs *runs, bool failed, bool crowded)
{
    const uint64_t last = runs->count ? runs->first[runs->count - 1].attempt : 0;
    const uint64_t charged = last + failed;
    uint64_t told = runs->count;
    if (told > 0 && !failed) {
        told--; /* the last attempt succeeded, or goes on */
    }
    if (crowded && charged <= told) {
        c->verdict->unsent += (unsigned)charged;
        return;
    }
    c->verdict->charged += (unsigned)charged;
    c->verdict->unrun += (unsigned)(charged > told ? charged - told : 0);
}

static void
check_task(struct check *c, uint64_t number)
{
    const struct crash_task *task = &c->report->tasks[number];
    const struct runs runs = runs_of(c, number);
    const bool ok = task->answer == CRASH_ANSWERED && task->status == RAY_OK;
    if (task->answer == CRASH_ANSWERED ? !may_answer(c, task, number) : c->died != CRASH_DRIVER) {
        char text[128];
        (void)snprintf(text, sizeof(text), "kind %u, retries %d, answered %s, %" PRIu64, task->kind,
                       task->retries,
                       task->answer == CRASH_ANSWERED ? ray_status_name(task->status) : "never",
                       task->value);
        blame(c, number, text);
    }
    if (ok && runs.count == 0) {
        blame(c, number, "answered without having run");
    }
    if (task->retries == 0 && runs.count > 0 && runs.first[runs.count - 1].attempt > 0) {
        blame(c, number, "was not to be tried again");
    }
    if (task->kind != CRASH_CALL) {
        count_charges(c, &runs, task->status == RAY_E_WORKER_CRASHED, task->crowded);
    }
    if (ok && has_lost(task, number)) {
        const uint64_t attempt = runs.count ? runs.first[runs.count - 1].attempt : 0;
        const uint64_t index = task->value - CRASH_VALUE_LOST(number, 0);
        const struct runs lost = runs_of(c, CRASH_NESTED_NUMBER(number, attempt, index));
        count_charges(c, &lost, true, false);
    }
}

/* Runs of all tasks, those of nested ones too. */
static void
check_marks(struct check *c)
{
    for (size_t i = 0; i < c->count; i++) {
        const struct crash_mark *m = &c->marks[i];
        const bool again = i > 0 && m[-1].number == m->number;
        if (again && m[-1].attempt == m->attempt) {
            blame(c, m->number, "ran twice in one attempt");
        }
        if (m->number < CRASH_NESTED) {
            continue;
        }
        if (CRASH_NESTED_INDEX(m->number) % 3 == 1 && m->attempt > 0) {
            blame(c, m->number, "nested, was not to be tried again");
        }
        if (m->attempt > 0) {
            c->verdict->charged++;
            c->verdict->unrun += !again;
        }
    }
}

void
crash_check(const struct crash_report *report, struct crash_mark *marks, size_t count,
            const struct crash_price *price, struct crash_verdict *verdict)
{
    struct check c = {
        .report = report, .marks = marks, .count = count, .died = price->died, .verdict = verdict
    };
    *verdict = (struct crash_verdict){ .runs = (unsigned)count };
    qsort(marks, count, sizeof(marks[0]), compare);
    check_marks(&c);
    for (uint64_t n = 0; n < report->count; n++) {
        check_task(&c, n);
    }
    if (verdict->charged > price->charged) {
        char text[64];
        (void)snprintf(text, sizeof(text), "%u attempts were charged, not %u", verdict->charged,
                       price->charged);
        blame(&c, 0, text);
    }
    if (verdict->unrun > price->unrun) {
        blame(&c, 0, "an attempt was charged that had not begun");
    }
}
