/* SPDX-License-Identifier: Apache-2.0 */
/* The worker pool's decisions. See rl_pool.h. */
#include "raylet/rl_pool.h"

#include <stdio.h>
#include <string.h>

#include "base/id.h"
#include "base/status.h"

enum {
    WORKER_MAGIC = 0x776f726b,
    CAP_DEFAULT = 1024,
    DRAINING_DEFAULT = 64,
};

#define POOL_MS UINT64_C(1000000)
/* A worker given back this recently is expected to be idle in a moment. */
#define SETTLING_FRESH_NS (5 * POOL_MS)
#define RETRY_FIRST_NS    (100 * POOL_MS)

const char *
rl_pool_reason_text(enum rl_pool_reason reason)
{
    static const char *const text[] = {
        [RL_END_IDLE] = "idle and not needed",
        [RL_END_ROOM] = "idle, and its place was needed",
        [RL_END_RETIRED] = "used up (max_calls)",
        [RL_END_RETURNED] = "ended by its owner",
        [RL_END_OWNER_DIED] = "it ran a task whose owner died",
        [RL_END_JOB] = "its job is over",
        [RL_END_START] = "it did not get ready in time",
        [RL_END_STUBBORN] = "it did not exit when asked to",
        [RL_END_DRAINED_OUT] = "too many processes were kept only for the objects they own",
        [RL_END_ORPHAN] = "nobody waits for it",
        [RL_END_RAYLET] = "ended by the raylet",
    };
    return (size_t)reason < COUNT_OF(text) ? text[reason] : "unknown";
}

const char *
rl_worker_state_text(enum rl_worker_state state)
{
    static const char *const text[] = {
        [RL_WORKER_STARTING] = "starting", [RL_WORKER_IDLE] = "idle",
        [RL_WORKER_LEASED] = "leased",     [RL_WORKER_SETTLING] = "settling",
        [RL_WORKER_DRAINING] = "draining", [RL_WORKER_EXITING] = "exiting",
        [RL_WORKER_DEAD] = "dead",
    };
    return (size_t)state < COUNT_OF(text) ? text[state] : "unknown";
}

void
rl_pool_config_default(struct rl_pool_config *config, uint32_t cpus)
{
    *config = (struct rl_pool_config){
        .cpus = cpus,
        .cap = 4 * cpus > CAP_DEFAULT ? 4 * cpus : CAP_DEFAULT,
        .start_tries = 3,
        .starting_max = cpus > 2 ? cpus : 2,
        .idle_keep = cpus,
        .draining_max = DRAINING_DEFAULT,
        .idle_timeout_ns = 1000 * POOL_MS,
        .start_timeout_ns = 60000 * POOL_MS,
        .exit_grace_ns = 5000 * POOL_MS,
        .prestart = true,
    };
}

void
rl_pool_init(struct rl_pool *pool, const struct mem *mem, const struct rl_pool_config *config)
{
    *pool = (struct rl_pool){ .mem = mem, .config = *config, .next_number = 1 };
    ASSERT(config->cap > 0 && config->start_tries > 0);
    if (pool->config.starting_max == 0) {
        pool->config.starting_max = config->cpus > 2 ? config->cpus : 2;
    }
    if (pool->config.idle_keep == 0) {
        pool->config.idle_keep = config->cpus;
    }
    if (pool->config.draining_max == 0) {
        pool->config.draining_max = DRAINING_DEFAULT;
    }
    map_init(&pool->workers, mem);
    map_init(&pool->classes, mem);
    slab_init(&pool->worker_slab, mem, sizeof(struct rl_worker));
    slab_init(&pool->class_slab, mem, sizeof(struct rl_class));
    for (uint32_t i = 0; i < COUNT_OF(pool->by_state); i++) {
        list_init(&pool->by_state[i]);
    }
}

void
rl_pool_fini(struct rl_pool *pool)
{
    map_fini(&pool->workers);
    map_fini(&pool->classes);
    slab_fini(&pool->worker_slab);
    slab_fini(&pool->class_slab);
}

uint64_t
rl_pool_number(struct rl_pool *pool)
{
    return pool->next_number++;
}

struct rl_worker *
rl_pool_find(const struct rl_pool *pool, uint64_t number)
{
    struct map_link *l;
    MAP_FOR_HASH (l, &pool->workers, id_mix64(number)) {
        struct rl_worker *worker = CONTAINER_OF(l, struct rl_worker, by_number);
        if (worker->number == number) {
            ASSERT(worker->magic == WORKER_MAGIC);
            return worker;
        }
    }
    return NULL;
}

struct rl_class *
rl_pool_class(struct rl_pool *pool, uint32_t job, uint64_t env_hash)
{
    const uint64_t hash = id_mix64(env_hash ^ id_mix64(job));
    struct map_link *l;
    MAP_FOR_HASH (l, &pool->classes, hash) {
        struct rl_class *class_ = CONTAINER_OF(l, struct rl_class, link);
        if (class_->job == job && class_->env_hash == env_hash) {
            return class_;
        }
    }
    struct rl_class *class_ = slab_take(&pool->class_slab);
    if (!class_) {
        return NULL;
    }
    *class_ = (struct rl_class){ .job = job, .env_hash = env_hash };
    if (map_insert(&pool->classes, &class_->link, hash) != ST_OK) {
        slab_give(&pool->class_slab, class_);
        return NULL;
    }
    return class_;
}

uint32_t
rl_pool_processes(const struct rl_pool *pool)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < RL_WORKER_DEAD; i++) {
        n += pool->count[i];
    }
    return n;
}

/* --- states ----------------------------------------------------------------------------------- */

static void
leave_state(struct rl_pool *pool, struct rl_worker *worker)
{
    list_remove(&worker->link);
    ASSERT(pool->count[worker->state] > 0);
    pool->count[worker->state]--;
    if (worker->state == RL_WORKER_STARTING) {
        ASSERT(worker->class_->starting > 0);
        worker->class_->starting--;
    }
    if (worker->state == RL_WORKER_LEASED) {
        rl_pool_set_blocked(pool, worker, false);
        pool->actors -= worker->actor ? 1 : 0;
    }
}

static void
enter_state(struct rl_pool *pool, struct rl_worker *worker, enum rl_worker_state state,
            uint64_t now_ns)
{
    worker->state = state;
    worker->since_ns = now_ns;
    list_push_back(&pool->by_state[state], &worker->link);
    pool->count[state]++;
    if (state == RL_WORKER_STARTING) {
        worker->class_->starting++;
    }
}

static void
move_to(struct rl_pool *pool, struct rl_worker *worker, enum rl_worker_state state, uint64_t now_ns)
{
    leave_state(pool, worker);
    enter_state(pool, worker, state, now_ns);
}

static void
set_doomed(struct rl_pool *pool, struct rl_worker *worker, bool doomed)
{
    if (worker->doomed != doomed) {
        worker->doomed = doomed;
        pool->doomed = doomed ? pool->doomed + 1 : pool->doomed - 1;
    }
}

static void
forget_class_if_over(struct rl_pool *pool, struct rl_class *class_)
{
    if (class_->ended && class_->records == 0 && class_->waiting == 0) {
        map_remove(&pool->classes, &class_->link);
        slab_give(&pool->class_slab, class_);
    }
}

static void
forget(struct rl_pool *pool, struct rl_worker *worker)
{
    struct rl_class *class_ = worker->class_;
    set_doomed(pool, worker, false);
    leave_state(pool, worker);
    map_remove(&pool->workers, &worker->by_number);
    worker->magic = 0;
    slab_give(&pool->worker_slab, worker);
    ASSERT(class_->records > 0);
    class_->records--;
    forget_class_if_over(pool, class_);
}

static void
count_failure(struct rl_pool *pool, struct rl_class *class_, uint64_t now_ns, const char *evidence)
{
    pool->failed_total++;
    class_->failures++;
    class_->retry_ns =
        now_ns + (RETRY_FIRST_NS << (class_->failures < 8 ? class_->failures - 1 : 7));
    (void)snprintf(class_->evidence, sizeof(class_->evidence), "%s",
                   evidence && evidence[0] ? evidence : "no evidence");
    if (class_->failures >= pool->config.start_tries) {
        class_->broken = true;
        class_->prestart = 0;
    }
}

static void
emit_end(struct step_outs *outs, uint16_t kind, uint64_t number, enum rl_pool_reason reason)
{
    struct rl_pool_end *end = step_emit(outs, kind, number, sizeof(*end));
    ASSERT(end);
    end->reason = reason;
}

void
rl_pool_exit(struct rl_pool *pool, uint64_t now_ns, struct rl_worker *worker,
             enum rl_pool_reason reason, struct step_outs *outs)
{
    ASSERT(worker->state < RL_WORKER_EXITING);
    move_to(pool, worker, RL_WORKER_EXITING, now_ns);
    emit_end(outs, RL_POOL_OUT_EXIT, worker->number, reason);
}

void
rl_pool_kill(struct rl_pool *pool, uint64_t now_ns, struct rl_worker *worker,
             enum rl_pool_reason reason, struct step_outs *outs)
{
    ASSERT(worker->state < RL_WORKER_DEAD);
    set_doomed(pool, worker, false);
    if (worker->state != RL_WORKER_EXITING) {
        move_to(pool, worker, RL_WORKER_EXITING, now_ns);
    }
    worker->kill_sent = true;
    emit_end(outs, RL_POOL_OUT_KILL, worker->number, reason);
}

void
rl_pool_settle(struct rl_pool *pool, uint64_t now_ns, struct rl_worker *worker)
{
    ASSERT(worker->state == RL_WORKER_LEASED && !worker->actor);
    move_to(pool, worker, RL_WORKER_SETTLING, now_ns);
    worker->look_ns = 0;
}

void
rl_pool_idle(struct rl_pool *pool, uint64_t now_ns, struct rl_worker *worker)
{
    ASSERT(worker->state == RL_WORKER_LEASED || worker->state == RL_WORKER_SETTLING ||
           worker->state == RL_WORKER_DRAINING);
    ASSERT(!worker->actor);
    worker->detached = worker->detached && worker->owning; /* somebody may still need that */
    move_to(pool, worker, RL_WORKER_IDLE, now_ns);
}

void
rl_pool_drain(struct rl_pool *pool, uint64_t now_ns, struct rl_worker *worker)
{
    ASSERT(worker->state == RL_WORKER_LEASED || worker->state == RL_WORKER_SETTLING);
    move_to(pool, worker, RL_WORKER_DRAINING, now_ns);
}

/* --- events ----------------------------------------------------------------------------------- */

void
rl_pool_on_spawned(struct rl_pool *pool, uint64_t now_ns, uint64_t number, int32_t pid,
                   struct step_outs *outs)
{
    (void)now_ns;
    struct rl_worker *worker = rl_pool_find(pool, number);
    if (!worker || worker->state == RL_WORKER_DEAD) {
        emit_end(outs, RL_POOL_OUT_KILL, number, RL_END_ORPHAN);
        return;
    }
    worker->pid = pid;
    worker->spawned = true;
    if (worker->state == RL_WORKER_EXITING) {
        emit_end(outs, RL_POOL_OUT_KILL, number, RL_END_ORPHAN);
    } else {
        (void)step_emit(outs, RL_POOL_OUT_GO, number, 0);
    }
}

bool
rl_pool_on_hello(struct rl_pool *pool, uint64_t now_ns, uint64_t number, struct step_outs *outs)
{
    struct rl_worker *worker = rl_pool_find(pool, number);
    if (!worker || worker->state != RL_WORKER_STARTING) {
        emit_end(outs, RL_POOL_OUT_KILL, number, RL_END_ORPHAN);
        return false;
    }
    worker->class_->failures = 0;
    worker->class_->retry_ns = 0;
    move_to(pool, worker, RL_WORKER_IDLE, now_ns);
    return true;
}

void
rl_pool_on_start_failed(struct rl_pool *pool, uint64_t now_ns, uint64_t number,
                        const char *evidence)
{
    struct rl_worker *worker = rl_pool_find(pool, number);
    if (!worker || worker->spawned) {
        return;
    }
    if (worker->state == RL_WORKER_STARTING) {
        count_failure(pool, worker->class_, now_ns, evidence);
    }
    if (worker->state == RL_WORKER_STARTING || worker->state == RL_WORKER_EXITING) {
        forget(pool, worker);
    }
}

void
rl_pool_on_dead(struct rl_pool *pool, uint64_t now_ns, uint64_t number, const char *evidence)
{
    struct rl_worker *worker = rl_pool_find(pool, number);
    if (!worker || worker->state == RL_WORKER_DEAD) {
        return;
    }
    if (worker->state == RL_WORKER_STARTING) {
        count_failure(pool, worker->class_, now_ns, evidence);
    }
    set_doomed(pool, worker, false);
    move_to(pool, worker, RL_WORKER_DEAD, now_ns);
}

void
rl_pool_on_reclaimed(struct rl_pool *pool, uint64_t number)
{
    struct rl_worker *worker = rl_pool_find(pool, number);
    if (worker && worker->state == RL_WORKER_DEAD) {
        forget(pool, worker);
    }
}

void
rl_pool_on_owning(struct rl_pool *pool, uint64_t now_ns, uint64_t number, bool owning)
{
    struct rl_worker *worker = rl_pool_find(pool, number);
    if (!worker) {
        return;
    }
    worker->owning = owning;
    if (!owning && worker->state == RL_WORKER_DRAINING && !worker->retire) {
        rl_pool_idle(pool, now_ns, worker);
    } else if (owning && worker->state == RL_WORKER_EXITING && !worker->kill_sent) {
        worker->retire = true; /* the two words crossed: it leaves when it is needed no more */
        move_to(pool, worker, RL_WORKER_DRAINING, now_ns);
    }
}

/* --- use -------------------------------------------------------------------------------------- */

struct rl_worker *
rl_pool_take(struct rl_pool *pool, uint64_t now_ns, struct rl_class *class_, uint32_t omp,
             uint64_t gpu_mask, bool for_actor)
{
    struct rl_worker *fresh = NULL, *found = NULL;
    const bool no_owners = for_actor && rl_pool_processes(pool) < pool->config.cap;
    /* The one used last first: its memory is warm. */
    const struct list *head = &pool->by_state[RL_WORKER_IDLE];
    for (struct list *l = head->prev; l != head && !found; l = l->prev) {
        struct rl_worker *worker = LIST_ENTRY(l, struct rl_worker, link);
        if (worker->class_ != class_ || worker->doomed || (no_owners && worker->owning)) {
            continue;
        }
        if (!worker->bound) {
            fresh = worker;
        } else if (worker->omp == omp && worker->gpu_mask == gpu_mask) {
            found = worker;
        }
    }
    found = found ? found : fresh;
    if (found) {
        found->bound = true;
        found->omp = omp;
        found->gpu_mask = gpu_mask;
        move_to(pool, found, RL_WORKER_LEASED, now_ns);
    }
    return found;
}

void
rl_pool_dedicate(struct rl_pool *pool, struct rl_worker *worker, bool detached)
{
    ASSERT(worker->state == RL_WORKER_LEASED && !worker->actor);
    worker->actor = true;
    worker->detached = detached;
    pool->actors++;
    /* Its place among the idle is filled again, so that the next actor finds a process. */
    if (pool->config.prestart && worker->class_->prestart < pool->config.cpus) {
        worker->class_->prestart++;
    }
}

void
rl_pool_set_blocked(struct rl_pool *pool, struct rl_worker *worker, bool blocked)
{
    if (worker->blocked == blocked || (blocked && worker->actor)) {
        return;
    }
    ASSERT(worker->state == RL_WORKER_LEASED);
    worker->blocked = blocked;
    pool->blocked = blocked ? pool->blocked + 1 : pool->blocked - 1;
}

void
rl_pool_wait(struct rl_pool *pool, struct rl_class *class_, int by)
{
    ASSERT(by == 1 || by == -1);
    if (by > 0) {
        class_->waiting++;
        pool->waiting++;
        if (!class_->prestarted && pool->config.prestart) {
            class_->prestarted = true;
            class_->prestart = pool->config.cpus;
        }
    } else {
        ASSERT(class_->waiting > 0);
        class_->waiting--;
        pool->waiting--;
        forget_class_if_over(pool, class_);
    }
}

void
rl_pool_mend(struct rl_pool *pool, uint64_t now_ns, struct rl_class *class_)
{
    (void)pool;
    ASSERT(class_->broken);
    class_->broken = false;
    class_->failures = 0;
    class_->retry_ns = now_ns;
}

void
rl_pool_end_job(struct rl_pool *pool, uint32_t job, bool goes_on)
{
    bool left = goes_on;
    struct map_walk walk;
    map_walk_init(&walk);
    for (struct map_link *l; (l = map_walk_next(&pool->workers, &walk)) != NULL;) {
        struct rl_worker *worker = CONTAINER_OF(l, struct rl_worker, by_number);
        if (worker->class_->job != job || worker->state == RL_WORKER_DEAD) {
            continue;
        }
        if (worker->detached) {
            left = true;
        } else if (!worker->kill_sent) {
            set_doomed(pool, worker, true);
        }
    }
    map_walk_init(&walk);
    for (struct map_link *l; (l = map_walk_next(&pool->classes, &walk)) != NULL;) {
        struct rl_class *class_ = CONTAINER_OF(l, struct rl_class, link);
        if (class_->job == job) {
            class_->prestart = 0;
            class_->ended = !left;
            forget_class_if_over(pool, class_);
        }
    }
}

/* --- what follows ----------------------------------------------------------------------------- */

/* The idle process that is missed least; NULL when none can go. */
static struct rl_worker *
least_missed(const struct rl_pool *pool)
{
    LIST_FOR (l, &pool->by_state[RL_WORKER_IDLE]) {
        struct rl_worker *worker = LIST_ENTRY(l, struct rl_worker, link);
        if (!worker->owning) {
            return worker;
        }
    }
    return NULL;
}

/* Processes that run, start or idle: what the soft limit is about. */
static uint32_t
active(const struct rl_pool *pool)
{
    return pool->count[RL_WORKER_STARTING] + pool->count[RL_WORKER_IDLE] +
           pool->count[RL_WORKER_SETTLING] + pool->count[RL_WORKER_LEASED] - pool->actors -
           pool->blocked;
}

bool
rl_pool_can_serve(const struct rl_pool *pool, const struct rl_class *class_)
{
    /* Processes that leases wait for already, beyond those on their way. */
    const uint32_t starting = pool->count[RL_WORKER_STARTING];
    const uint32_t owed = pool->waiting > starting ? pool->waiting - starting : 0;
    if (rl_pool_processes(pool) + owed < pool->config.cap) {
        return true;
    }
    uint32_t can_go = 0;
    LIST_FOR (l, &pool->by_state[RL_WORKER_IDLE]) {
        const struct rl_worker *worker = LIST_ENTRY(l, struct rl_worker, link);
        if (worker->class_ == class_ && !worker->bound) {
            return true;
        }
        can_go += worker->owning ? 0 : 1;
    }
    return can_go + pool->count[RL_WORKER_EXITING] > owed;
}

bool
rl_pool_can_move(const struct rl_pool *pool)
{
    return active(pool) > pool->count[RL_WORKER_IDLE] || pool->count[RL_WORKER_EXITING] > 0;
}

static bool
has_room(struct step_outs *outs, uint32_t n)
{
    if (outs->capacity - outs->count >= n) {
        return true;
    }
    outs->more = true;
    return false;
}

static uint64_t
sooner(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void
kill_doomed(struct rl_pool *pool, uint64_t now_ns, struct step_outs *outs)
{
    for (uint32_t state = 0; pool->doomed > 0 && state < RL_WORKER_DEAD; state++) {
        LIST_FOR_SAFE (l, next, &pool->by_state[state]) {
            struct rl_worker *worker = LIST_ENTRY(l, struct rl_worker, link);
            if (!worker->doomed) {
                continue;
            }
            if (!has_room(outs, 1)) {
                return;
            }
            rl_pool_kill(pool, now_ns, worker, RL_END_JOB, outs);
        }
    }
}

/* Those that did not get ready, or did not exit, in time. */
static uint64_t
time_out(struct rl_pool *pool, uint64_t now_ns, struct step_outs *outs)
{
    uint64_t next_ns = UINT64_MAX;
    LIST_FOR_SAFE (l, next, &pool->by_state[RL_WORKER_STARTING]) {
        struct rl_worker *worker = LIST_ENTRY(l, struct rl_worker, link);
        const uint64_t end = worker->since_ns + pool->config.start_timeout_ns;
        if (end > now_ns || !has_room(outs, 1)) {
            next_ns = sooner(next_ns, end);
            break;
        }
        count_failure(pool, worker->class_, now_ns, "the process did not get ready in time");
        rl_pool_kill(pool, now_ns, worker, RL_END_START, outs);
    }
    LIST_FOR_SAFE (l, next, &pool->by_state[RL_WORKER_EXITING]) {
        struct rl_worker *worker = LIST_ENTRY(l, struct rl_worker, link);
        const uint64_t end = worker->since_ns + pool->config.exit_grace_ns;
        if (worker->kill_sent) {
            continue;
        }
        if (end > now_ns || !has_room(outs, 1)) {
            next_ns = sooner(next_ns, end);
            break;
        }
        rl_pool_kill(pool, now_ns, worker, RL_END_STUBBORN, outs);
    }
    return next_ns;
}

static void
end_draining(struct rl_pool *pool, uint64_t now_ns, struct step_outs *outs)
{
    LIST_FOR_SAFE (l, next, &pool->by_state[RL_WORKER_DRAINING]) {
        struct rl_worker *worker = LIST_ENTRY(l, struct rl_worker, link);
        const bool over = pool->count[RL_WORKER_DRAINING] > pool->config.draining_max;
        if (worker->owning && !over) {
            continue;
        }
        if (!has_room(outs, 1)) {
            return;
        }
        if (worker->owning) {
            rl_pool_kill(pool, now_ns, worker, RL_END_DRAINED_OUT, outs);
        } else {
            rl_pool_exit(pool, now_ns, worker, RL_END_RETIRED, outs);
        }
    }
}

static uint64_t
end_idle(struct rl_pool *pool, uint64_t now_ns, struct step_outs *outs)
{
    LIST_FOR_SAFE (l, next, &pool->by_state[RL_WORKER_IDLE]) {
        struct rl_worker *worker = LIST_ENTRY(l, struct rl_worker, link);
        const uint64_t end = worker->since_ns + pool->config.idle_timeout_ns;
        if (pool->count[RL_WORKER_IDLE] <= pool->config.idle_keep) {
            return UINT64_MAX;
        }
        if (worker->owning) {
            continue;
        }
        if (end > now_ns || !has_room(outs, 1)) {
            return end;
        }
        rl_pool_exit(pool, now_ns, worker, RL_END_IDLE, outs);
    }
    return UINT64_MAX;
}

/* A rule that the simulator can switch off. */
static bool
ignores_settling(const struct rl_pool *pool)
{
#ifdef RAY_MUTATIONS
    return pool->config.no_settling;
#else
    (void)pool;
    return false;
#endif
}

/* Workers of the class that were given back a moment ago and will be idle in the next. */
static uint32_t
about_to_settle(const struct rl_pool *pool, const struct rl_class *class_, uint64_t now_ns,
                uint64_t *next_ns)
{
    uint32_t n = 0;
    LIST_FOR (l, &pool->by_state[RL_WORKER_SETTLING]) {
        const struct rl_worker *worker = LIST_ENTRY(l, struct rl_worker, link);
        const uint64_t end = worker->since_ns + SETTLING_FRESH_NS;
        if (worker->class_ == class_ && end > now_ns && !ignores_settling(pool)) {
            n++;
            *next_ns = sooner(*next_ns, end);
        }
    }
    return n;
}

static bool
start_one(struct rl_pool *pool, struct rl_class *class_, uint64_t now_ns, struct step_outs *outs)
{
    struct rl_worker *worker = slab_take(&pool->worker_slab);
    if (!worker) {
        return false;
    }
    *worker = (struct rl_worker){ .magic = WORKER_MAGIC,
                                  .number = rl_pool_number(pool),
                                  .class_ = class_ };
    if (map_insert(&pool->workers, &worker->by_number, id_mix64(worker->number)) != ST_OK) {
        slab_give(&pool->worker_slab, worker);
        return false;
    }
    class_->records++;
    enter_state(pool, worker, RL_WORKER_STARTING, now_ns);
    pool->started_total++;
    struct rl_pool_start *start =
        step_emit(outs, RL_POOL_OUT_START, worker->number, sizeof(*start));
    ASSERT(start);
    *start = (struct rl_pool_start){ .worker = worker->number,
                                     .job = class_->job,
                                     .env_hash = class_->env_hash };
    return true;
}

/* One process for the class, if one is due. Sets *next_ns when it must wait for a time. */
static bool
start_due(struct rl_pool *pool, struct rl_class *class_, uint64_t now_ns, struct step_outs *outs,
          uint64_t *next_ns)
{
    if (class_->broken || class_->ended || (class_->waiting == 0 && class_->prestart == 0) ||
        pool->count[RL_WORKER_STARTING] >= pool->config.starting_max) {
        return false;
    }
    const bool needed =
        class_->waiting > class_->starting &&
        class_->waiting > class_->starting + about_to_settle(pool, class_, now_ns, next_ns);
    const bool ahead = !needed && class_->prestart > 0;
    if (!needed && (!ahead || active(pool) >= pool->config.cpus)) {
        class_->prestart = 0;
        return false;
    }
    if (now_ns < class_->retry_ns) {
        *next_ns = sooner(*next_ns, class_->retry_ns);
        return false;
    }
    if (!has_room(outs, 2)) {
        return false;
    }
    if (rl_pool_processes(pool) >= pool->config.cap) {
        /* An idle one makes room; one exit at a time is enough. */
        struct rl_worker *victim = least_missed(pool);
        if (victim && pool->count[RL_WORKER_EXITING] == 0) {
            rl_pool_exit(pool, now_ns, victim, RL_END_ROOM, outs);
        }
        return false;
    }
    class_->prestart -= class_->prestart > 0 ? 1 : 0;
    return start_one(pool, class_, now_ns, outs);
}

uint64_t
rl_pool_pump(struct rl_pool *pool, uint64_t now_ns, struct step_outs *outs)
{
    kill_doomed(pool, now_ns, outs);
    end_draining(pool, now_ns, outs);
    const uint64_t failed = pool->failed_total;
    (void)time_out(pool, now_ns, outs);
    uint64_t next_ns = end_idle(pool, now_ns, outs);
    struct map_walk walk;
    map_walk_init(&walk);
    for (struct map_link *l; (l = map_walk_next(&pool->classes, &walk)) != NULL;) {
        struct rl_class *class_ = CONTAINER_OF(l, struct rl_class, link);
        while (!outs->more && start_due(pool, class_, now_ns, outs, &next_ns)) {
        }
    }
    if (pool->failed_total != failed) {
        return now_ns; /* what waits for a broken class is to be failed */
    }
    /* Again, for those that have just been started or asked to exit. */
    return sooner(next_ns, time_out(pool, now_ns, outs));
}
