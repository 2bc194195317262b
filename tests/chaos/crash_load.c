/* SPDX-License-Identifier: Apache-2.0 */
/* The load: what workers run, and the driver. See crash_load.h. */
#include "crash_load.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ray/ray.h"

enum { SLOW_MS = 8, NESTED_MAX = 50, SIZE_MAX_BYTES = 220000 };

void
crash_marks_path(const char *dir, char path[256])
{
    (void)snprintf(path, 256, "%s/marks", dir);
}

void
crash_token_path(const char *dir, char path[256])
{
    (void)snprintf(path, 256, "%s/token", dir);
}

static int32_t
retries_of(uint64_t number)
{
    return number % 3 == 1 ? 0 : 3;
}

static ray_options *
make_options(int32_t retries, bool gpu)
{
    const struct ray_resource resources[] = { { "CPU", 1 }, { "GPU", 1 } };
    struct ray_task_options options;
    ray_options *made = NULL;
    ray_task_options_default(&options);
    options.max_retries = retries;
    options.resources = resources;
    options.resource_count = gpu ? 2 : 1;
    return ray_options_create(&options, &made) == RAY_OK ? made : NULL;
}

/* Submits a job to `function`, or calls it on the actor. */
static int
submit(const struct crash_job *job, int32_t retries, ray_actor *actor, ray_function *function,
       ray_ref **out)
{
    static ray_options *options[2][2];
    static char bytes[SIZE_MAX_BYTES];
    ray_options **with = &options[retries > 0][job->kind == CRASH_GPU];
    if (!*with) {
        *with = make_options(retries, job->kind == CRASH_GPU);
    }
    memcpy(bytes, job, sizeof(*job));
    memset(bytes + sizeof(*job), (int)(job->number & 0xff), job->size - sizeof(*job));
    const struct ray_buf buf = { bytes, job->size };
    const struct ray_arg arg = { .value = { .bufs = &buf, .buf_count = 1 } };
    return actor ? ray_actor_call(actor, function, NULL, &arg, 1, out)
                 : ray_task_submit(function, *with, &arg, 1, out);
}

/* ---- workers ---- */

static void
leave_mark(uint64_t number, uint64_t attempt)
{
    static int fd = -1;
    const struct crash_mark mark = { .number = number, .attempt = attempt };
    const char *path = getenv("CRASH_MARKS");
    if (fd < 0 && path) {
        fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    }
    if (write(fd, &mark, sizeof(mark)) != (ssize_t)sizeof(mark)) {
        abort();
    }
}

static int nested_calls(const struct crash_job *of, uint32_t attempt, uint64_t *value);

static bool
is_filled(const char *bytes, size_t size, uint64_t number)
{
    for (size_t i = sizeof(struct crash_job); i < size; i++) {
        if ((unsigned char)bytes[i] != (number & 0xff)) {
            return false;
        }
    }
    return true;
}

static int
crash_work(ray_task *task)
{
    static char answer[SIZE_MAX_BYTES];
    ray_value *arg = ray_task_arg(task, 0);
    struct crash_job job;
    memcpy(&job, ray_value_data(arg), sizeof(job));
    leave_mark(job.number, ray_task_attempt(task));
    uint64_t value = CRASH_VALUE(job.number);
    if (job.size != ray_value_size(arg) || !is_filled(ray_value_data(arg), job.size, job.number)) {
        value = 0;
    }
    if (job.kind == CRASH_SLOW) {
        (void)poll(NULL, 0, SLOW_MS); /* what it does takes so long */
    } else if (job.kind == CRASH_NEST || job.kind == CRASH_FARM) {
        const int status = nested_calls(&job, ray_task_attempt(task), &value);
        if (status != RAY_OK) {
            return status;
        }
    }
    memcpy(answer, &value, sizeof(value));
    return ray_task_return_bytes(task, 0, answer, job.size);
}
RAY_REMOTE(crash_work);

/* The same under another name: how long a task takes is predicted by its function. */
static int
crash_waiting_work(ray_task *task)
{
    return crash_work(task);
}
RAY_REMOTE(crash_waiting_work);

/* Submits nested tasks and waits for them; one in the middle is slow. One that crashed for good is
 * told in the value. */
static int
nested_batch(const struct crash_job *of, uint64_t attempt, uint64_t first, uint64_t count,
             uint64_t *value)
{
    ray_ref *refs[NESTED_MAX] = { NULL };
    int status = RAY_OK;
    for (uint64_t i = 0; i < count && status == RAY_OK; i++) {
        const struct crash_job job = {
            .number = CRASH_NESTED_NUMBER(of->number, attempt, first + i),
            .kind = i == count / 2 && first + i > 0 ? CRASH_SLOW : CRASH_QUICK,
            .size = 64,
        };
        status = submit(&job, retries_of(first + i), NULL, ray_remote_crash_work, &refs[i]);
    }
    for (uint64_t i = 0; i < count && status == RAY_OK; i++) {
        uint64_t got = 0;
        status = ray_get_bytes(refs[i], -1, &got, sizeof(got));
        if (status == RAY_E_WORKER_CRASHED && *value == CRASH_VALUE(of->number)) {
            *value = CRASH_VALUE_LOST(of->number, first + i);
            status = RAY_OK;
        } else if (status == RAY_OK &&
                   got != CRASH_VALUE(CRASH_NESTED_NUMBER(of->number, attempt, first + i))) {
            *value = 0;
        }
    }
    for (unsigned i = 0; i < NESTED_MAX; i++) {
        ray_ref_release(refs[i]);
    }
    return status;
}

static int
nested_calls(const struct crash_job *of, uint32_t attempt, uint64_t *value)
{
    if (of->kind == CRASH_NEST) {
        return nested_batch(of, attempt, 0, 3, value);
    }
    /* How long one takes is known after the first; then one of many takes longer. */
    const int status = nested_batch(of, attempt, 0, 1, value);
    return status == RAY_OK ? nested_batch(of, attempt, 1, NESTED_MAX, value) : status;
}

static int
crash_actor(ray_task *task)
{
    ray_task_set_state(task, NULL);
    return RAY_OK;
}
RAY_REMOTE(crash_actor);

/* ---- the driver ---- */

struct driver {
    struct crash_report *report;
    ray_ref *refs[CRASH_TASKS];
    ray_actor *actor;
    ray_function *function;
    uint64_t heard; /* those before were answered */
    bool crowded;
    uint64_t random;
};

static _Noreturn void
complain(struct driver *d, const char *what, int status)
{
    (void)snprintf(d->report->text, sizeof(d->report->text), "%s: %s %s", what,
                   ray_status_name(status), ray_error_text());
    _exit(1);
}

static uint32_t
random_below(struct driver *d, uint32_t bound)
{
    d->random = d->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(d->random >> 33) % bound;
}

static void
answer(struct driver *d, uint64_t number, int status, uint64_t value)
{
    struct crash_task *task = &d->report->tasks[number];
    task->status = status;
    task->value = value;
    task->answer = CRASH_ANSWERED;
    d->report->raylet_died |= status == RAY_E_RAYLET_DIED;
}

static void
give(struct driver *d, enum crash_kind kind, uint32_t size)
{
    const uint64_t number = d->report->count++;
    struct crash_task *task = &d->report->tasks[number];
    const struct crash_job job = { .number = number, .kind = kind, .size = size };
    task->kind = kind;
    task->crowded = d->crowded;
    task->retries = kind == CRASH_CALL ? 0 : retries_of(number);
    task->answer = CRASH_OPEN;
    const int status = submit(&job, task->retries, kind == CRASH_CALL ? d->actor : NULL,
                              d->function, &d->refs[number]);
    if (status != RAY_OK) {
        answer(d, number, status, 0);
    }
}

/* Waits for every answer that is open. */
static void
hear(struct driver *d)
{
    for (uint64_t n = d->heard; n < d->report->count; n++) {
        if (d->report->tasks[n].answer == CRASH_OPEN) {
            uint64_t value = 0;
            const int status = ray_get_bytes(d->refs[n], -1, &value, sizeof(value));
            answer(d, n, status, value);
        }
        ray_ref_release(d->refs[n]);
        d->refs[n] = NULL;
    }
    d->heard = d->report->count;
}

/* One by one, so that each side sleeps and is woken; the connection becomes hot. */
static void
load_single(struct driver *d)
{
    d->function = ray_remote_crash_work;
    for (unsigned i = 0; i < 120; i++) {
        give(d, CRASH_QUICK, 16 + random_below(d, 100));
        hear(d);
    }
}

/* Many at once; then tasks that wait send back what is behind them. */
static void
load_short(struct driver *d)
{
    for (unsigned i = 0; i < 200; i++) {
        give(d, CRASH_QUICK, 16 + random_below(d, 100));
    }
    hear(d);
    d->function = ray_remote_crash_waiting_work;
    for (unsigned i = 0; i < 120; i++) {
        give(d, i % 40 == 10 ? CRASH_NEST : CRASH_QUICK, 16 + random_below(d, 300));
    }
    hear(d);
    give(d, CRASH_FARM, 100);
    hear(d);
    d->function = ray_remote_crash_work;
}

/* Fills the rings and the store, and needs leases of another kind. */
static void
load_large(struct driver *d)
{
    d->crowded = true;
    for (unsigned i = 0; i < 40; i++) {
        give(d, CRASH_QUICK, 50000 + random_below(d, 14000));
    }
    for (unsigned i = 0; i < 8; i++) {
        give(d, CRASH_QUICK, 200000 + random_below(d, 20000));
    }
    give(d, CRASH_GPU, 100);
    give(d, CRASH_GPU, 100);
    hear(d);
    d->crowded = false;
}

/* Tasks that take longer than predicted, owners that are workers, calls of an actor. */
static void
load_long(struct driver *d)
{
    (void)ray_actor_create(ray_remote_crash_actor, NULL, NULL, 0, &d->actor);
    for (unsigned i = 0; i < 120; i++) {
        give(d, i % 40 == 7 ? CRASH_SLOW : CRASH_QUICK, 16 + random_below(d, 300));
        if (d->actor && i % 2) {
            give(d, CRASH_CALL, 16 + random_below(d, 300));
        }
    }
    hear(d);
    ray_actor_release(d->actor);
    d->actor = NULL;
}

static bool
all_is_available(struct driver *d)
{
    char *text = NULL;
    const int status = ray_state_json("available_resources", &text);
    if (status == RAY_E_RAYLET_DIED) {
        d->report->raylet_died = true;
        return true;
    }
    if (status != RAY_OK) {
        complain(d, "available resources", status);
    }
    const bool all = strstr(text, "\"CPU\": 2.0000") && strstr(text, "\"GPU\": 1.0000");
    ray_free(text);
    return all;
}

/* After the load: the node has all its CPUs again (nobody tells when), and works. */
static void
come_to_rest(struct driver *d)
{
    while (!all_is_available(d)) {
        (void)poll(NULL, 0, 2);
    }
    for (unsigned i = 0; i < 20; i++) {
        give(d, CRASH_QUICK, 100);
    }
    hear(d);
}

static unsigned
count_descriptors(void)
{
    unsigned n = 0;
    DIR *dir = opendir("/proc/self/fd");
    if (!dir) {
        return 0;
    }
    while (readdir(dir)) {
        n++;
    }
    closedir(dir);
    return n;
}

static int
start(const struct crash_world *world)
{
    struct ray_init_options options;
    ray_init_options_default(&options);
    options.num_cpus = 2;
    options.num_gpus = 1;
    options.object_store_memory = 64u << 20;
    options.temp_dir = world->dir;
    return ray_init(0, NULL, &options);
}

static void
set_environment(const struct crash_world *world)
{
    char path[256];
    crash_marks_path(world->dir, path);
    (void)setenv("CRASH_MARKS", path, 1);
    crash_token_path(world->dir, path);
    (void)setenv("RAY_FAULT_TOKEN", path, 1);
    (void)setenv("RAY_FAULT", world->fault, 1);
    (void)snprintf(path, sizeof(path), "%s/run", world->dir);
    (void)setenv("XDG_RUNTIME_DIR", path, 1);
}

_Noreturn void
crash_driver(const struct crash_world *world)
{
    static struct driver d;
    d.report = world->report;
    d.random = world->seed;
    set_environment(world);
    const unsigned descriptors = count_descriptors();
    int status = start(world);
    if (status != RAY_OK) {
        complain(&d, "ray_init", status);
    }
    load_single(&d);
    load_short(&d);
    load_large(&d);
    load_long(&d);
    if (!d.report->raylet_died) {
        come_to_rest(&d);
    }
    if (d.report->raylet_died) { /* perhaps only just now; a new runtime is what helps */
        if (ray_is_initialized()) {
            complain(&d, "the runtime of a dead raylet", RAY_OK);
        }
        (void)ray_shutdown();
        status = start(world);
        if (status != RAY_OK) {
            complain(&d, "ray_init after the raylet's death", status);
        }
        come_to_rest(&d);
    }
    status = ray_shutdown();
    if (status != RAY_OK) {
        complain(&d, "ray_shutdown", status);
    }
    if (count_descriptors() != descriptors) {
        complain(&d, "descriptors are left", RAY_OK);
    }
    _exit(0);
}
