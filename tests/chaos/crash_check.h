/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What must hold of every task after a process was killed under crash_load.h: the answers that the
 * driver got, held against the runs that the tasks told of.
 */
#ifndef RAY_TESTS_CRASH_CHECK_H
#define RAY_TESTS_CRASH_CHECK_H

#include <stddef.h>

#include "crash_load.h"

/* Who died, once. */
enum crash_role { CRASH_NOBODY, CRASH_WORKER, CRASH_DRIVER, CRASH_RAYLET };

struct crash_verdict {
    unsigned runs;
    unsigned charged; /* attempts that were charged: repeated, or failed for good */
    unsigned unrun;   /* of those, attempts that never told of themselves */
    unsigned unsent;  /* ran when the rings were full: the answer may have waited for room */
    char text[256];   /* what doesn't hold; "" */
};

/* How much a death may cost. */
struct crash_price {
    enum crash_role died;
    unsigned charged; /* 0: no task was between its start and its answer */
    unsigned unrun;   /* 0: none was between its start, which is when it is charged, and its mark */
};

/* Sorts the marks. */
void crash_check(const struct crash_report *report, struct crash_mark *marks, size_t count,
                 const struct crash_price *price, struct crash_verdict *verdict);

#endif
