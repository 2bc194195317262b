/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The core's own speed, with no language above it: empty C tasks in batches and one by one, calls
 * of an actor, small puts and gets, large puts. Over ray.h only; prints what the limit programs
 * print.
 *
 *     cface_bench [seconds per measurement]
 *
 * Each figure is the median of short rounds; the first quarter of the time warms up.
 */
#include "lim_common.h"

#include <ray/ray.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 1000, LARGE_BYTES = 100 * 1000 * 1000 };

static int
empty(ray_task *task)
{
    return ray_task_return_bytes(task, 0, NULL, 0);
}
RAY_REMOTE(empty);

static int
constructor(ray_task *task)
{
    (void)task;
    return RAY_OK;
}
RAY_REMOTE(constructor);

static ray_actor *actor;
static uint8_t *large;

static void
must(int status)
{
    if (status != RAY_OK) {
        fprintf(stderr, "%s\n", ray_error_text());
        exit(1);
    }
}

static void
finish(ray_ref **refs, size_t count)
{
    must(ray_wait_all(refs, count, -1, NULL));
    for (size_t i = 0; i < count; i++) {
        ray_ref_release(refs[i]);
    }
}

/* ---- what is measured: each returns how many units of work it did ---- */

static double
task_batch(void)
{
    ray_ref *refs[BATCH];
    for (size_t i = 0; i < BATCH; i++) {
        must(ray_task_submit(ray_remote_empty, NULL, NULL, 0, &refs[i]));
    }
    finish(refs, BATCH);
    return BATCH;
}

static double
task_sync(void)
{
    ray_ref *ref = NULL;
    must(ray_task_submit(ray_remote_empty, NULL, NULL, 0, &ref));
    finish(&ref, 1);
    return 1;
}

static double
actor_batch(void)
{
    ray_ref *refs[BATCH];
    for (size_t i = 0; i < BATCH; i++) {
        must(ray_actor_call(actor, ray_remote_empty, NULL, NULL, 0, &refs[i]));
    }
    finish(refs, BATCH);
    return BATCH;
}

static double
actor_sync(void)
{
    ray_ref *ref = NULL;
    must(ray_actor_call(actor, ray_remote_empty, NULL, NULL, 0, &ref));
    finish(&ref, 1);
    return 1;
}

static ray_ref *
put(const void *bytes, size_t size)
{
    const struct ray_buf buf = { bytes, size };
    const struct ray_payload payload = { .bufs = &buf, .buf_count = 1 };
    ray_ref *ref = NULL;
    must(ray_put(&payload, NULL, &ref));
    return ref;
}

static double
put_small(void)
{
    for (uint64_t i = 0; i < BATCH; i++) {
        ray_ref_release(put(&i, sizeof(i)));
    }
    return BATCH;
}

static double
get_small(void)
{
    static ray_ref *ref;
    static const uint64_t number = 1;
    if (!ref) {
        ref = put(&number, sizeof(number));
    }
    for (size_t i = 0; i < BATCH; i++) {
        ray_value *value = NULL;
        must(ray_get(ref, -1, &value));
        ray_value_release(value);
    }
    return BATCH;
}

static double
put_large(void)
{
    ray_ref_release(put(large, LARGE_BYTES));
    return (double)LARGE_BYTES / 1e9;
}

static double
put_and_get_large(void)
{
    ray_value *value = NULL;
    ray_ref *ref = put(large, LARGE_BYTES);
    must(ray_get(ref, -1, &value));
    ray_value_release(value);
    ray_ref_release(ref);
    return (double)LARGE_BYTES / 1e9;
}

/* ---- */

static void
measure(const char *name, const char *unit, double (*step)(void), double seconds)
{
    static struct lim_samples samples;
    samples.count = 0;
    const double warm_s = lim_now_s() + seconds / 4;
    const double stop_s = warm_s + seconds;
    double now_s = 0;
    do {
        (void)step();
    } while (lim_now_s() < warm_s);
    do {
        const double begin_s = lim_now_s();
        double units = 0;
        do {
            units += step();
            now_s = lim_now_s();
        } while (now_s - begin_s < seconds / 50);
        lim_samples_add(&samples, units / (now_s - begin_s));
    } while (now_s < stop_s);
    lim_report(name, lim_samples_median(&samples), unit);
}

int
main(int argc, char **argv)
{
    must(ray_init(argc, argv, NULL)); /* a worker never comes back from here */
    const double seconds = lim_seconds_from_args(argc, argv);
    large = malloc(LARGE_BYTES);
    if (!large) {
        lim_die("malloc");
    }
    memset(large, 7, LARGE_BYTES);
    must(ray_actor_create(ray_remote_constructor, NULL, NULL, 0, &actor));
    measure("C: tasks in batches of 1000", "calls/s", task_batch, seconds);
    measure("C: task calls, one by one", "calls/s", task_sync, seconds);
    measure("C: actor calls in batches of 1000", "calls/s", actor_batch, seconds);
    measure("C: actor calls, one by one", "calls/s", actor_sync, seconds);
    measure("C: put, 8 bytes", "calls/s", put_small, seconds);
    measure("C: get, 8 bytes", "calls/s", get_small, seconds);
    measure("C: put, 100 MB", "GB/s", put_large, seconds);
    measure("C: put and get, 100 MB", "GB/s", put_and_get_large, seconds);
    ray_actor_release(actor);
    free(large);
    return ray_shutdown() == RAY_OK ? 0 : 1;
}
