/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs: one a driver. A driver that is told twice (its raylet asked again after a lost connection)
 * gets the same job. When a job ends, its actors end with it, but for detached ones and what those
 * have made.
 */
#include <stdio.h>
#include <string.h>

#include "gcs/gcs_priv.h"
#include "proto/kinds.h"

struct gcs_job *
gcs_find_job(const struct gcs *gcs, const struct id_job *id)
{
    struct map_link *l;
    MAP_FOR_HASH (l, &gcs->jobs, id_mix64(id_job_to_int(id))) {
        struct gcs_job *job = CONTAINER_OF(l, struct gcs_job, link);
        if (ID_EQ(job->id, *id)) {
            ASSERT(job->magic == GCS_JOB_MAGIC);
            return job;
        }
    }
    return NULL;
}

static struct gcs_job *
find_by_driver(const struct gcs *gcs, const struct id_worker *driver)
{
    struct map_link *l;
    MAP_FOR_HASH (l, &gcs->drivers, id_hash(driver->b, sizeof(driver->b))) {
        struct gcs_job *job = CONTAINER_OF(l, struct gcs_job, by_driver);
        if (ID_EQ(job->driver, *driver)) {
            return job;
        }
    }
    return NULL;
}

/* The caller has taken it out of the tables. */
void
gcs_job_free(struct gcs *gcs, struct gcs_job *job)
{
    LIST_FOR_SAFE (l, next, &job->actors) {
        struct gcs_actor *actor = LIST_ENTRY(l, struct gcs_actor, of_job);
        actor->job = NULL;
        list_remove(&actor->of_job);
    }
    list_remove(&job->all);
    list_remove(&job->of_dead);
    gcs_set_string(gcs, &job->row.job_namespace, NULL);
    gcs_set_string(gcs, &job->row.entrypoint, NULL);
    job->magic = 0;
    mem_free(gcs->mem, job, sizeof(*job));
}

static struct gcs_job *
job_new(struct gcs *gcs, const struct id_job *id, const struct id_worker *driver)
{
    struct gcs_job *job = mem_alloc(gcs->mem, sizeof(*job));
    if (!job) {
        return NULL;
    }
    memset(job, 0, sizeof(*job));
    job->magic = GCS_JOB_MAGIC;
    job->id = *id;
    job->driver = *driver;
    ray__gcs__job_row__init(&job->row);
    job->row.job_id.data = job->id.b;
    job->row.job_id.len = sizeof(job->id.b);
    job->row.driver_worker_id.data = job->driver.b;
    job->row.driver_worker_id.len = sizeof(job->driver.b);
    list_init(&job->of_dead);
    list_init(&job->actors);
    if (map_insert(&gcs->jobs, &job->link, id_mix64(id_job_to_int(id)))) {
        mem_free(gcs->mem, job, sizeof(*job));
        return NULL;
    }
    if (map_insert(&gcs->drivers, &job->by_driver, id_hash(driver->b, sizeof(driver->b)))) {
        map_remove(&gcs->jobs, &job->link);
        mem_free(gcs->mem, job, sizeof(*job));
        return NULL;
    }
    list_push_back(&gcs->job_list, &job->all);
    return job;
}

/* A namespace that nobody else has: the shape of a random UUID, made from the driver's id, which is
 * random. */
static void
anonymous_namespace(const struct id_worker *driver, char out[40])
{
    const uint8_t *b = driver->b;
    (void)snprintf(out, 40,
                   "%02x%02x%02x%02x-%02x%02x-4%01x%02x-%01x%01x%02x-%02x%02x%02x%02x%02x%02x",
                   b[0], b[1], b[2], b[3], b[4], b[5], b[6] & 15, b[7], 8 + (b[8] & 3), b[8] >> 4,
                   b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

static void
emit_added(struct step_outs *outs, const struct step_in *in, struct gcs_job *job, int status)
{
    Ray__Gcs__JobAdded *m =
        gcs_emit(outs, GCS_JOB_ADDED, in->peer, in->payload, &ray__gcs__job_added__descriptor);
    if (m) {
        m->status = status;
        if (job) {
            m->job_id = job->row.job_id;
            m->job_namespace = job->row.job_namespace;
        }
    }
}

/* A registration that came before this second question didn't name the job, whose number the raylet
 * had not heard: so it was taken for over. Its driver lives, and has done nothing yet. */
static void
go_on(struct gcs *gcs, struct gcs_job *job)
{
    if (job->row.ended_ms != 0) {
        job->row.ended_ms = 0;
        list_remove(&job->of_dead);
        gcs->dead_job_count--;
        job->dirty = true;
        gcs->jobs_dirty = true;
    }
}

int
gcs_on_add_job(struct gcs *gcs, const struct step_in *in, struct step_outs *outs)
{
    const Ray__Gcs__AddJob *msg = in->msg;
    struct id_worker driver;
    if (!gcs_take_id(&msg->worker_id, driver.b, sizeof(driver.b)) ||
        strlen(msg->job_namespace) > GCS_NAME_MAX) {
        return st_fail(ST_PROTOCOL, "a job's registration makes no sense");
    }
    struct gcs_job *job = find_by_driver(gcs, &driver);
    if (job) {
        go_on(gcs, job);
        emit_added(outs, in, job, ST_OK);
        return ST_OK;
    }
    const struct id_job id = id_job_from_int(gcs->next_job);
    job = job_new(gcs, &id, &driver);
    if (!job) {
        emit_added(outs, in, NULL, ST_OUT_OF_MEMORY);
        return ST_OK;
    }
    gcs->next_job++;
    char space[40];
    anonymous_namespace(&driver, space);
    gcs_set_string(gcs, &job->row.job_namespace,
                   msg->job_namespace[0] ? msg->job_namespace : space);
    gcs_set_string(gcs, &job->row.entrypoint, msg->entrypoint);
    job->row.driver_pid = msg->driver_pid;
    job->row.started_ms = gcs_wall_ms(gcs);
    gcs_emit_put(outs, GCS_TABLE_JOBS, job->id.b, sizeof(job->id.b), &job->row);
    emit_added(outs, in, job, ST_OK);
    return ST_OK;
}

/* Whether an actor of the job outlives its driver. */
bool
gcs_job_goes_on(const struct gcs_job *job)
{
    if (!job) {
        return false;
    }
    LIST_FOR (l, &job->actors) {
        const struct gcs_actor *actor = LIST_ENTRY(l, struct gcs_actor, of_job);
        if (actor->row.state != RAY__GCS__ACTOR_STATE__DEAD && !gcs_ends_with_creator(actor)) {
            return true;
        }
    }
    return false;
}

/* The row of the job is stored by gcs_pump_jobs, through `dirty`. */
void
gcs_finish_job(struct gcs *gcs, struct gcs_job *job)
{
    if (job->row.ended_ms != 0) {
        return;
    }
    job->row.ended_ms = gcs_wall_ms(gcs);
    job->dirty = true;
    gcs->jobs_dirty = true;
    gcs->dead_job_count++;
    list_push_back(&gcs->dead_jobs, &job->of_dead);
    /* Made by a detached actor or its tasks, they end with their creator. */
    const bool goes_on = gcs_job_goes_on(job);
    LIST_FOR_SAFE (l, next, &job->actors) {
        struct gcs_actor *actor = LIST_ENTRY(l, struct gcs_actor, of_job);
        const bool drivers = ID_EQ(actor->owner, job->driver) || !goes_on;
        if (gcs_ends_with_creator(actor) && drivers) {
            gcs_actor_die(gcs, actor, ST_ACTOR_DIED, "its job has ended, and it is not detached");
            gcs_actor_stop(gcs, actor, false, "its job has ended");
        }
    }
}

int
gcs_on_finish_job(struct gcs *gcs, const Ray__Gcs__FinishJob *msg)
{
    struct id_job id;
    if (!gcs_take_id(&msg->job_id, id.b, sizeof(id.b))) {
        return st_fail(ST_PROTOCOL, "a job id of %zu bytes", msg->job_id.len);
    }
    struct gcs_job *job = gcs_find_job(gcs, &id);
    if (job) {
        gcs_finish_job(gcs, job);
    }
    return ST_OK;
}

int
gcs_on_load_job(struct gcs *gcs, const Ray__Gcs__JobRow *row)
{
    struct id_job id;
    struct id_worker driver;
    if (!gcs_take_id(&row->job_id, id.b, sizeof(id.b)) || gcs_find_job(gcs, &id) ||
        !gcs_take_id(&row->driver_worker_id, driver.b, sizeof(driver.b))) {
        return st_fail(ST_PROTOCOL, "a stored job makes no sense");
    }
    struct gcs_job *job = job_new(gcs, &id, &driver);
    if (!job) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for a job");
    }
    gcs_set_string(gcs, &job->row.job_namespace, row->job_namespace);
    gcs_set_string(gcs, &job->row.entrypoint, row->entrypoint);
    job->row.driver_pid = row->driver_pid;
    job->row.started_ms = row->started_ms;
    job->row.ended_ms = row->ended_ms;
    if (row->ended_ms != 0) {
        gcs->dead_job_count++;
        list_push_back(&gcs->dead_jobs, &job->of_dead);
    }
    const uint32_t number = id_job_to_int(&id);
    if (number >= gcs->next_job) {
        gcs->next_job = number + 1;
    }
    return ST_OK;
}

/* Forgets the oldest ended jobs beyond the limit, one out each, and leaves room for the step that
 * follows. False when there are more. */
static bool
forget_jobs(struct gcs *gcs, struct step_outs *outs)
{
    while (gcs->dead_job_count > gcs->config.dead_jobs_max) {
        if (outs->capacity - outs->count <= GCS_OUTS_MIN / 2) {
            return false;
        }
        struct list *first = list_first(&gcs->dead_jobs);
        ASSERT(first);
        struct gcs_job *oldest = LIST_ENTRY(first, struct gcs_job, of_dead);
        gcs->dead_job_count--;
        gcs_emit_put(outs, GCS_TABLE_JOBS, oldest->id.b, sizeof(oldest->id.b), NULL);
        map_remove(&gcs->jobs, &oldest->link);
        map_remove(&gcs->drivers, &oldest->by_driver);
        gcs_job_free(gcs, oldest);
    }
    return true;
}

void
gcs_pump_jobs(struct gcs *gcs, struct step_outs *outs)
{
    if (!gcs->jobs_dirty) {
        return;
    }
    LIST_FOR (l, &gcs->job_list) {
        struct gcs_job *job = LIST_ENTRY(l, struct gcs_job, all);
        if (!job->dirty) {
            continue;
        }
        if (outs->count >= outs->capacity) {
            outs->more = true;
            return;
        }
        gcs_emit_put(outs, GCS_TABLE_JOBS, job->id.b, sizeof(job->id.b), &job->row);
        job->dirty = false;
    }
    gcs->jobs_dirty = false;
    gcs->forget_jobs = true;
}

/* At the start of a step, when no out points into a job any more. */
void
gcs_pump_forgotten_jobs(struct gcs *gcs, struct step_outs *outs)
{
    if (gcs->forget_jobs) {
        gcs->forget_jobs = !forget_jobs(gcs, outs);
    }
}
