/* SPDX-License-Identifier: Apache-2.0 */
/* Composition, derivation and hex forms of ids. See id.h. */
#include "base/id.h"

#include "base/assert.h"

char *
id_hex(const void *bytes, size_t n, char *out)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *p = bytes;
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[p[i] >> 4];
        out[2 * i + 1] = digits[p[i] & 15];
    }
    out[2 * n] = '\0';
    return out;
}

static int
hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }
    return -1;
}

bool
id_from_hex(const char *text, size_t length, void *bytes, size_t n)
{
    uint8_t parsed[64];
    ASSERT(n <= sizeof(parsed));
    if (length != 2 * n) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        const int high = hex_digit(text[2 * i]);
        const int low = hex_digit(text[2 * i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        parsed[i] = (uint8_t)(high << 4 | low);
    }
    memcpy(bytes, parsed, n);
    return true;
}

bool
id_is_nil(const void *bytes, size_t n)
{
    const uint8_t *p = bytes;
    for (size_t i = 0; i < n; i++) {
        if (p[i] != 0xff) {
            return false;
        }
    }
    return true;
}

uint64_t
id_hash(const void *bytes, size_t n)
{
    const uint8_t *p = bytes;
    uint64_t h = n * UINT64_C(0x9e3779b97f4a7c15);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        h = id_mix64(h ^ id_load64(p + i)) + UINT64_C(0x9e3779b97f4a7c15);
    }
    uint64_t tail = 0;
    memcpy(&tail, p + i, n - i);
    return id_mix64(h ^ tail);
}

struct id_job
id_job_from_int(uint32_t number)
{
    struct id_job job;
    memcpy(job.b, &number, sizeof(number));
    return job;
}

uint32_t
id_job_to_int(const struct id_job *job)
{
    uint32_t number;
    memcpy(&number, job->b, sizeof(number));
    return number;
}

struct id_actor
id_actor_nil_of(const struct id_job *job)
{
    struct id_actor actor;
    memset(actor.b, 0xff, sizeof(actor.b));
    memcpy(actor.b + 12, job->b, sizeof(job->b));
    return actor;
}

static struct id_task
compose_task(const uint8_t unique[8], const struct id_actor *actor)
{
    struct id_task task;
    memcpy(task.b, unique, 8);
    memcpy(task.b + 8, actor->b, sizeof(actor->b));
    return task;
}

struct id_task
id_task_of_driver(const struct id_job *job)
{
    static const uint8_t ones[8] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
    const struct id_actor actor = id_actor_nil_of(job);
    return compose_task(ones, &actor);
}

struct id_task
id_task_of_actor_creation(const struct id_actor *actor)
{
    static const uint8_t ones[8] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
    return compose_task(ones, actor);
}

void
id_source_init(struct id_source *source, const struct id_task *task, uint32_t attempt)
{
    source->task = *task;
    source->task_seed = id_hash(task->b, sizeof(task->b)) ^
                        id_mix64((uint64_t)attempt + UINT64_C(0x9e3779b97f4a7c15));
    source->counter = 0;
    source->puts = 0;
}

static uint64_t
next_unique(struct id_source *source)
{
    source->counter++;
    /* Bijective in the counter: two children of one attempt never collide. */
    uint64_t unique = id_mix64(source->task_seed + source->counter * UINT64_C(0x9e3779b97f4a7c15));
    if (unique == UINT64_MAX) {
        unique = 0; /* all ones means "driver" or "creation" */
    }
    return unique;
}

struct id_task
id_source_child(struct id_source *source, const struct id_actor *actor)
{
    const uint64_t unique = next_unique(source);
    uint8_t bytes[8];
    memcpy(bytes, &unique, sizeof(bytes));
    return compose_task(bytes, actor);
}

struct id_actor
id_source_actor(struct id_source *source, const struct id_job *job)
{
    const uint64_t high = next_unique(source);
    const uint64_t low = id_mix64(high ^ source->task_seed);
    struct id_actor actor;
    memcpy(actor.b, &high, 8);
    memcpy(actor.b + 8, &low, 4);
    memcpy(actor.b + 12, job->b, sizeof(job->b));
    return actor;
}

struct id_object
id_source_put(struct id_source *source)
{
    /* A put's id must differ between attempts, and the TaskID part doesn't: mix the seed in. */
    const uint64_t unique = next_unique(source);
    const struct id_actor actor = id_task_actor(&source->task);
    uint8_t bytes[8];
    memcpy(bytes, &unique, sizeof(bytes));
    const struct id_task task = compose_task(bytes, &actor);
    source->puts++;
    return id_object_of_return(&task, ID_PUT_INDEX + source->puts);
}

struct id_object
id_object_of_return(const struct id_task *task, uint32_t index)
{
    struct id_object object;
    memcpy(object.b, task->b, sizeof(task->b));
    memcpy(object.b + 24, &index, sizeof(index));
    return object;
}

struct id_task
id_object_task(const struct id_object *object)
{
    struct id_task task;
    memcpy(task.b, object->b, sizeof(task.b));
    return task;
}

uint32_t
id_object_index(const struct id_object *object)
{
    uint32_t index;
    memcpy(&index, object->b + 24, sizeof(index));
    return index;
}

struct id_actor
id_task_actor(const struct id_task *task)
{
    struct id_actor actor;
    memcpy(actor.b, task->b + 8, sizeof(actor.b));
    return actor;
}

struct id_job
id_task_job(const struct id_task *task)
{
    struct id_job job;
    memcpy(job.b, task->b + 20, sizeof(job.b));
    return job;
}

struct id_job
id_actor_job(const struct id_actor *actor)
{
    struct id_job job;
    memcpy(job.b, actor->b + 12, sizeof(job.b));
    return job;
}
