/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Object-store messages of processes, and the store's housekeeping.
 *
 * When the store is full the request waits for a moment: every process is asked to give back what
 * it can, and frees that are on their way are awaited. It is answered "full", with the words that
 * name the biggest holders, when nothing more can come (nothing_comes), or after two seconds.
 */
#include <string.h>
#include <unistd.h>

#include "os/os_basic.h"
#include "raylet/rl_io.h"

/* How long a request waits for memory. */
#define STORE_WAIT_NS UINT64_C(2000000000)
/* How long a free may be on its way between two processes that have nothing to do. */
#define STORE_STILL_NS UINT64_C(200000000)
#define STORE_RETRY_NS UINT64_C(10000000)

static void retry_waiting(struct raylet *r, uint64_t now);

/* ---- housekeeping ---------------------------------------------------------------------------- */

static void
on_store_timer(void *ctx)
{
    struct raylet *r = ctx;
    const uint64_t now = os_now_ns();
    uint64_t next = store_work(r->store, now);
    retry_waiting(r, now);
    if (!list_is_empty(&r->store_waits) && next > now + STORE_RETRY_NS) {
        next = now + STORE_RETRY_NS;
    }
    if (next != UINT64_MAX) {
        rl_arm(r, &r->store_timer, next);
    }
}

void
rl_store_work_soon(struct raylet *r)
{
    if (r->store && !r->stopping) {
        rl_arm(r, &r->store_timer, os_now_ns());
    }
}

int
rl_store_open(struct raylet *r)
{
    const struct store_shm_config shm_config = { .mem = r->mem,
                                                 .capacity = r->store_size,
                                                 .huge = true };
    TRY(store_shm_open(&shm_config, &r->shm));
    struct store_config config = { .mem = r->mem, .raylet_pid = (int32_t)getpid() };
    while (config.epoch == 0) {
        os_random(&config.epoch, sizeof(config.epoch));
    }
    store_shm_configure(r->shm, &config);
    r->store_timer = (struct net_timer){ .on_timer = on_store_timer, .ctx = r };
    return store_create(&config, &r->store);
}

void
rl_store_close(struct raylet *r)
{
    LIST_FOR_SAFE (l, next, &r->store_waits) {
        struct rl_store_wait *w = LIST_ENTRY(l, struct rl_store_wait, all);
        list_remove(&w->all);
        mem_free(r->mem, w, sizeof(*w));
    }
    if (r->store) {
        net_loop_disarm(r->loop, &r->store_timer);
        store_destroy(&r->store);
    }
    if (r->shm) {
        store_shm_close(&r->shm);
    }
}

/* ---- grants ---------------------------------------------------------------------------------- */

static int
try_grant(struct rl_process *p, uint64_t size, struct store_grant *grant)
{
    memset(grant, 0, sizeof(*grant));
    return size > 0 ? store_grant_object(p->raylet->store, p->store_proc, size, grant)
                    : store_grant_region(p->raylet->store, p->store_proc, grant);
}

static void
answer(struct rl_process *p, uint64_t request, int status, const struct store_grant *grant)
{
    Ray__Node__StoreGrant m = RAY__NODE__STORE_GRANT__INIT;
    m.status = status;
    if (status == ST_OK) {
        m.grant = rl_bytes(grant, sizeof(*grant));
    } else {
        m.text = st_last()->text;
    }
    rl_send(p, NODE_STORE_GRANT, request, &m.base);
}

/* Asks everyone for what they can spare. */
static void
press(struct raylet *r, uint64_t wanted)
{
    Ray__Node__StorePressure m = RAY__NODE__STORE_PRESSURE__INIT;
    m.wanted = wanted;
    r->press_round++;
    LIST_FOR (l, &r->processes) {
        struct rl_process *p = LIST_ENTRY(l, struct rl_process, all);
        if (p->hello && !p->dead) {
            rl_send(p, NODE_STORE_PRESSURE, r->press_round, &m.base);
        }
    }
}

static bool
waits_for_room(const struct rl_process *p)
{
    LIST_FOR (l, &p->raylet->store_waits) {
        if (LIST_ENTRY(l, struct rl_store_wait, all)->process == p) {
            return true;
        }
    }
    return false;
}

/* Whether the process may still let go of something: it has not answered the pressure, or its
 * program runs. One that waits for memory, or whose task waits for another, doesn't. */
static bool
may_free(const struct rl_process *p, uint64_t round)
{
    if (p->dead) {
        return p->dying; /* what it held comes back soon */
    }
    if (!p->hello) {
        return false;
    }
    if (p->pressed < round) {
        return true;
    }
    if (waits_for_room(p)) {
        return false;
    }
    if (p->kind == RL_DRIVER) {
        return true;
    }
    const struct store_ctl_process *half = store_proc_process_half(p->raylet->store, p->store_proc);
    const uint32_t flags = atom_u32_load(&half->status.flags, ATOM_RELAXED);
    return (flags & STORE_STATUS_BUSY) && !(flags & STORE_STATUS_BLOCKED);
}

/* The request can't be granted, and it is certain that it won't be soon. */
static bool
nothing_comes(struct raylet *r, struct rl_store_wait *w, uint64_t now)
{
    if (now >= w->until_ns) {
        return true;
    }
    const uint64_t freed = store_freed_count(r->store);
    struct store_stats stats;
    store_stats(r->store, &stats);
    if (freed != w->freed || stats.dying > 0) {
        w->freed = freed;
        w->still_ns = now;
    }
    LIST_FOR (l, &r->processes) {
        if (may_free(LIST_ENTRY(l, struct rl_process, all), w->round)) {
            w->still_ns = now;
        }
    }
    return now >= w->still_ns + STORE_STILL_NS;
}

static bool
wait_for_room(struct rl_process *p, uint64_t request, uint64_t size)
{
    struct raylet *r = p->raylet;
    struct rl_store_wait *w = mem_alloc(r->mem, sizeof(*w));
    if (!w) {
        return false;
    }
    press(r, size);
    const uint64_t now = os_now_ns();
    *w = (struct rl_store_wait){
        .process = p,
        .request = request,
        .size = size,
        .until_ns = now + STORE_WAIT_NS,
        .round = r->press_round,
        .freed = store_freed_count(r->store),
        .still_ns = now,
    };
    list_push_back(&r->store_waits, &w->all);
    return true;
}

/* First come, first served; the first that doesn't fit holds back the others, else a stream of
 * small requests would starve a large one. */
static void
retry_waiting(struct raylet *r, uint64_t now)
{
    LIST_FOR_SAFE (l, next, &r->store_waits) {
        struct rl_store_wait *w = LIST_ENTRY(l, struct rl_store_wait, all);
        struct store_grant grant;
        const int status = try_grant(w->process, w->size, &grant);
        if (status == ST_STORE_FULL && !nothing_comes(r, w, now)) {
            return;
        }
        answer(w->process, w->request, status, &grant);
        list_remove(&w->all);
        mem_free(r->mem, w, sizeof(*w));
    }
}

void
rl_store_forget_process(struct rl_process *p)
{
    LIST_FOR_SAFE (l, next, &p->raylet->store_waits) {
        struct rl_store_wait *w = LIST_ENTRY(l, struct rl_store_wait, all);
        if (w->process == p) {
            list_remove(&w->all);
            mem_free(p->raylet->mem, w, sizeof(*w));
        }
    }
}

int
rl_on_store_ask(struct rl_process *p, uint64_t request, const Ray__Node__StoreAsk *m)
{
    struct raylet *r = p->raylet;
    struct store_grant grant;
    struct store_stats stats;
    int status = list_is_empty(&r->store_waits) ? try_grant(p, m->size, &grant) : ST_STORE_FULL;
    if (status == ST_STORE_FULL) {
        store_stats(r->store, &stats);
        /* What can never fit isn't waited for. */
        if (m->size < stats.capacity && wait_for_room(p, request, m->size)) {
            rl_store_work_soon(r);
            return ST_OK;
        }
        status = try_grant(p, m->size, &grant);
    }
    answer(p, request, status, &grant);
    rl_store_work_soon(r);
    return ST_OK;
}

/* ---- frees and returns ----------------------------------------------------------------------- */

int
rl_on_store_free(struct rl_process *p, const Ray__Node__StoreFree *m)
{
    const size_t count = m->slots.len / sizeof(struct store_ref);
    if (m->slots.len % sizeof(struct store_ref) != 0) {
        return st_fail(ST_PROTOCOL, "slots of %zu bytes", m->slots.len);
    }
    for (size_t i = 0; i < count; i++) {
        struct store_ref ref;
        memcpy(&ref, m->slots.data + i * sizeof(ref), sizeof(ref));
        const int status = store_free(p->raylet->store, &p->id, &ref);
        if (status != ST_OK && status != ST_NOT_FOUND) {
            os_log(OS_LOG_WARN, "process %d frees slot %u: %s", p->pid, ref.slot, st_last()->text);
        }
    }
    rl_store_work_soon(p->raylet);
    return ST_OK;
}

int
rl_on_store_return(struct rl_process *p, uint64_t round, const Ray__Node__StoreReturn *m)
{
    if (round > p->pressed && round <= p->raylet->press_round) {
        p->pressed = round;
    }
    for (size_t i = 0; i < m->n_offsets; i++) {
        const int status = store_on_return(p->raylet->store, p->store_proc, m->offsets[i]);
        if (status != ST_OK) {
            os_log(OS_LOG_WARN, "process %d gives back what it doesn't have: %s", p->pid,
                   st_last()->text);
        }
    }
    rl_store_work_soon(p->raylet);
    return ST_OK;
}

int
rl_on_store_check(struct rl_process *p, uint64_t request, const Ray__Node__StoreCheck *m)
{
    struct store_hint hint;
    if (m->hint.len != sizeof(hint)) {
        return st_fail(ST_PROTOCOL, "a hint of %zu bytes", m->hint.len);
    }
    memcpy(&hint, m->hint.data, sizeof(hint));
    Ray__Node__StoreChecked checked = RAY__NODE__STORE_CHECKED__INIT;
    checked.status = store_check(p->raylet->store, &hint);
    rl_send(p, NODE_STORE_CHECKED, request, &checked.base);
    return ST_OK;
}
