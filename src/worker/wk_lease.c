/* SPDX-License-Identifier: Apache-2.0 */
/* The lease client. See wk_lease.h and docs/protocols/leases.md. */
#include "worker/wk_lease.h"

#include <stdio.h>
#include <string.h>

#include "base/status.h"

enum {
    LEASE_MAGIC = 0x776c6561,
    KEY_MAGIC = 0x776c6b65,
    FAILURES_MAX = 3, /* in a row, before ready tasks fail beside leases that still run */
};

#define WK_MS          UINT64_C(1000000)
#define ASK_PAUSE_NS   WK_MS          /* between requests that don't double what is asked */
#define LIMIT_PAUSE_NS (100 * WK_MS)  /* after "too many requests" */
#define FAIL_PAUSE_NS  (1000 * WK_MS) /* after "can't be had" */

void
wk_lease_config_default(struct wk_lease_config *config)
{
    *config = (struct wk_lease_config){
        .window_ns = WK_MS,
        .window_tasks = 256,
        .overrun_min_ns = 2 * WK_MS,
        .linger_min_ns = 10 * WK_MS,
        .linger_max_ns = 50 * WK_MS,
        .cancel_after_ns = 5 * WK_MS,
        .asking_max = 256,
    };
}

void
wk_leases_init(struct wk_leases *c, const struct mem *mem, const struct wk_lease_config *config)
{
    *c = (struct wk_leases){
        .mem = mem, .config = *config, .deadline_ns = UINT64_MAX, .told_ns = UINT64_MAX
    };
    ASSERT(config->window_ns < UINT32_MAX / 2 && config->window_tasks > 0);
    map_init(&c->by_id, mem);
    list_init(&c->all_keys);
    list_init(&c->dirty);
    slab_init(&c->key_slab, mem, sizeof(struct wk_lease_key));
    slab_init(&c->lease_slab, mem, sizeof(struct wk_lease));
}

void
wk_leases_fini(struct wk_leases *c)
{
    map_fini(&c->by_id);
    mem_free(c->mem, c->keys, c->keys_capacity * sizeof(struct wk_lease_key *));
    slab_fini(&c->key_slab);
    slab_fini(&c->lease_slab);
    c->keys = NULL;
    c->keys_capacity = 0;
}

/* Whether the simulator has switched the rule off; never in production. */
static inline bool
is_off(const struct wk_leases *c, uint32_t rule)
{
#ifdef RAY_MUTATIONS
    return (c->config.rules_off & rule) != 0;
#else
    (void)c;
    (void)rule;
    return false;
#endif
}

static bool
grow_keys(struct wk_leases *c, uint32_t number)
{
    uint32_t capacity = c->keys_capacity ? c->keys_capacity : 16;
    while (capacity <= number) {
        capacity *= 2;
    }
    struct wk_lease_key **keys =
        c->mem->resize(c->mem->ctx, c->keys, c->keys_capacity * sizeof(struct wk_lease_key *),
                       capacity * sizeof(struct wk_lease_key *));
    if (!keys) {
        return false;
    }
    for (uint32_t i = c->keys_capacity; i < capacity; i++) {
        keys[i] = NULL;
    }
    c->keys = keys;
    c->keys_capacity = capacity;
    return true;
}

struct wk_lease_key *
wk_lease_find_key(const struct wk_leases *c, uint32_t number)
{
    return number < c->keys_capacity ? c->keys[number] : NULL;
}

struct wk_lease_key *
wk_lease_get_key(struct wk_leases *c, uint32_t number)
{
    struct wk_lease_key *key = wk_lease_find_key(c, number);
    if (key) {
        return key;
    }
    ASSERT(number <= WK_LEASE_COOKIE_ACTOR / 2);
    if (number >= c->keys_capacity && !grow_keys(c, number)) {
        return NULL;
    }
    key = slab_take(&c->key_slab);
    if (!key) {
        return NULL;
    }
    *key = (struct wk_lease_key){ .magic = KEY_MAGIC,
                                  .number = number,
                                  .linger_ns = c->config.linger_min_ns };
    for (uint32_t i = 0; i < COUNT_OF(key->places); i++) {
        list_init(&key->places[i]);
    }
    list_init(&key->dirty_link);
    list_push_back(&c->all_keys, &key->link);
    c->keys[number] = key;
    return key;
}

struct wk_lease *
wk_lease_find(const struct wk_leases *c, uint64_t id)
{
    struct map_link *l;
    MAP_FOR_HASH (l, &c->by_id, id_mix64(id)) {
        struct wk_lease *lease = CONTAINER_OF(l, struct wk_lease, by_id);
        if (lease->id == id) {
            ASSERT(lease->magic == LEASE_MAGIC);
            return lease;
        }
    }
    return NULL;
}

/* --- small moves ------------------------------------------------------------------------------ */

static inline void
touch(struct wk_leases *c, struct wk_lease_key *key)
{
    if (list_is_empty(&key->dirty_link)) {
        list_push_back(&c->dirty, &key->dirty_link);
    }
}

static inline void
wake_by(struct wk_leases *c, uint64_t when_ns)
{
    if (when_ns < c->deadline_ns) {
        c->deadline_ns = when_ns;
    }
}

static inline bool
is_usable(const struct wk_leases *c, const struct wk_lease *lease)
{
    return (lease->state == WK_LEASE_ACTIVE || is_off(c, WK_RULE_REVOKED)) &&
           (!lease->blocked || is_off(c, WK_RULE_BLOCKED)) && !lease->retiring;
}

/* Puts the lease into the list that its state asks for. */
static inline void
place(struct wk_leases *c, struct wk_lease *lease)
{
    uint8_t to = WK_PLACE_FULL;
    if (is_usable(c, lease)) {
        if (lease->inflight == 0) {
            to = WK_PLACE_IDLE;
        } else if (!lease->alone && !lease->overrun && lease->inflight_ns < c->config.window_ns &&
                   lease->inflight < c->config.window_tasks) {
            to = WK_PLACE_BUSY;
        }
    }
    if (to == lease->place) {
        return;
    }
    lease->place = to;
    list_remove(&lease->link);
    if (to == WK_PLACE_IDLE) {
        list_push_front(&lease->key->places[to], &lease->link); /* the warm one first */
    } else {
        list_push_back(&lease->key->places[to], &lease->link);
    }
}

/* `count` tasks left the lease; one average prediction goes with each. */
static inline void
leave(struct wk_leases *c, struct wk_lease *lease, uint32_t count, uint64_t now_ns)
{
    ASSERT(count <= lease->inflight);
    if (count == lease->inflight) {
        lease->inflight_ns = 0;
    } else if (count > 0) {
        lease->inflight_ns -= lease->inflight_ns / lease->inflight * count;
    }
    lease->inflight -= count;
    lease->key->inflight -= count;
    c->inflight -= count;
    if (lease->inflight == 0) {
        lease->alone = lease->overrun = false;
        lease->idle_since_ns = now_ns;
        touch(c, lease->key);
        wake_by(c, now_ns + lease->key->linger_ns);
    }
}

static inline void
average(uint32_t *ewma_ns, uint32_t sample_ns)
{
    if (sample_ns > *ewma_ns) {
        *ewma_ns += (sample_ns - *ewma_ns) / 2;
    } else {
        *ewma_ns -= (*ewma_ns - sample_ns) / 8;
    }
}

/* --- the engine's events ---------------------------------------------------------------------- */

void
wk_lease_on_ready(struct wk_leases *c, struct wk_lease_key *key, uint32_t count, uint32_t depth,
                  uint64_t now_ns)
{
    (void)now_ns;
    ASSERT_HOT(key->magic == KEY_MAGIC);
    if (depth > key->depth || key->ready == 0) {
        key->depth = depth;
    }
    key->ready += count;
    key->empty_ns = 0;
    touch(c, key);
}

void
wk_lease_on_unready(struct wk_leases *c, struct wk_lease_key *key, uint32_t count, uint64_t now_ns)
{
    (void)now_ns;
    ASSERT(count <= key->ready);
    key->ready -= count;
    touch(c, key);
}

static void
reuse(struct wk_leases *c, struct wk_lease *lease, uint64_t now_ns)
{
    struct wk_lease_key *key = lease->key;
    if (lease->was_used && now_ns - lease->idle_since_ns > key->linger_ns / 2) {
        /* Lingering paid. */
        key->linger_ns = 2 * key->linger_ns < c->config.linger_max_ns ? 2 * key->linger_ns
                                                                      : c->config.linger_max_ns;
    }
    lease->was_used = true;
    lease->front_ns = now_ns;
}

struct wk_lease *
wk_lease_pick(struct wk_leases *c, struct wk_lease_key *key, const struct wk_lease_fn *fn,
              bool alone, uint64_t now_ns)
{
    ASSERT_HOT(key->magic == KEY_MAGIC && key->ready > 0);
    const bool is_short = fn->samples > 0 && !alone;
    const uint32_t predicted_ns = fn->samples > 0 ? fn->ewma_ns : (uint32_t)c->config.window_ns;
    struct list *l = list_first(&key->places[WK_PLACE_IDLE]);
    struct wk_lease *lease;
    if (l) {
        lease = LIST_ENTRY(l, struct wk_lease, link);
        reuse(c, lease, now_ns);
        lease->front_predicted_ns = predicted_ns;
    } else {
        l = list_first(&key->places[WK_PLACE_BUSY]);
        if (!l || (!is_short && !is_off(c, WK_RULE_UNKNOWN))) {
            return NULL;
        }
        lease = LIST_ENTRY(l, struct wk_lease, link);
        if (lease->inflight_ns + (uint64_t)predicted_ns > c->config.window_ns &&
            !is_off(c, WK_RULE_UNKNOWN)) {
            return NULL;
        }
        wake_by(c, now_ns + c->config.overrun_min_ns);
        /* The next one in turn is another. */
        list_remove(l);
        list_push_back(&key->places[WK_PLACE_BUSY], l);
    }
    lease->inflight++;
    const uint64_t sum_ns = (uint64_t)lease->inflight_ns + predicted_ns;
    lease->inflight_ns = sum_ns < UINT32_MAX ? (uint32_t)sum_ns : UINT32_MAX;
    lease->alone = !is_short && !is_off(c, WK_RULE_UNKNOWN);
    key->inflight++;
    c->inflight++;
    key->ready--;
    if (key->ready == 0) {
        touch(c, key);
    }
    place(c, lease);
    return lease;
}

void
wk_lease_on_done(struct wk_leases *c, struct wk_lease *lease, struct wk_lease_fn *fn,
                 uint64_t now_ns, uint64_t duration_ns)
{
    ASSERT_HOT(lease->magic == LEASE_MAGIC);
    const uint32_t sample_ns = duration_ns < UINT32_MAX ? (uint32_t)duration_ns : UINT32_MAX;
    if (fn->samples == 0) {
        fn->ewma_ns = sample_ns;
    } else {
        average(&fn->ewma_ns, sample_ns);
    }
    fn->samples += fn->samples < UINT32_MAX ? 1 : 0;
    if (lease->key->ewma_ns == 0) {
        lease->key->ewma_ns = sample_ns ? sample_ns : 1;
    } else {
        average(&lease->key->ewma_ns, sample_ns);
    }
    leave(c, lease, 1, now_ns);
    /* The next one in front starts now, and the worker doesn't wait any more. */
    lease->blocked = lease->overrun = lease->recall_asked = false;
    lease->front_ns = now_ns;
    lease->front_predicted_ns = lease->inflight ? lease->inflight_ns / lease->inflight : 0;
    place(c, lease);
}

void
wk_lease_on_recalled(struct wk_leases *c, struct wk_lease *lease, uint32_t count, bool requeued,
                     uint64_t now_ns)
{
    ASSERT(lease->magic == LEASE_MAGIC);
    leave(c, lease, count, now_ns);
    if (requeued) {
        lease->key->ready += count;
        lease->key->empty_ns = 0;
    }
    touch(c, lease->key);
    place(c, lease);
}

void
wk_lease_on_bounced(struct wk_leases *c, struct wk_lease *lease, uint32_t count, uint64_t now_ns)
{
    ASSERT(lease->magic == LEASE_MAGIC);
    lease->blocked = true;
    wk_lease_on_recalled(c, lease, count, true, now_ns);
}

void
wk_lease_on_unblocked(struct wk_leases *c, struct wk_lease *lease, uint64_t now_ns)
{
    ASSERT(lease->magic == LEASE_MAGIC);
    (void)now_ns;
    lease->blocked = false;
    touch(c, lease->key);
    place(c, lease);
}

void
wk_lease_retire(struct wk_leases *c, struct wk_lease *lease, uint64_t now_ns)
{
    ASSERT(lease->magic == LEASE_MAGIC);
    (void)now_ns;
    lease->retiring = true;
    lease->recall_due = lease->inflight > 0;
    touch(c, lease->key);
    place(c, lease);
}

/* --- the raylet's answers --------------------------------------------------------------------- */

struct wk_lease *
wk_lease_on_grant(struct wk_leases *c, const struct sched_lease_grant *msg, uint64_t now_ns)
{
    struct wk_lease_key *key = wk_lease_find_key(c, msg->cookie);
    if (!key) {
        return NULL;
    }
    key->asking -= key->asking > 0 ? 1 : 0;
    key->cancelling = key->cancelling < key->asking ? key->cancelling : key->asking;
    key->failures = 0;
    touch(c, key);
    struct wk_lease *lease = slab_take(&c->lease_slab);
    if (!lease) {
        return NULL;
    }
    *lease = (struct wk_lease){
        .magic = LEASE_MAGIC,
        .state = WK_LEASE_ACTIVE,
        .place = WK_PLACE_FULL,
        .key = key,
        .id = msg->lease,
        .worker = msg->worker,
        .epoch = msg->epoch,
        .gpu_mask = msg->gpu_mask,
        .omp = msg->omp,
        .idle_since_ns = now_ns,
    };
    list_init(&lease->link);
    if (map_insert(&c->by_id, &lease->by_id, id_mix64(lease->id)) != ST_OK) {
        slab_give(&c->lease_slab, lease);
        return NULL;
    }
    key->leases++;
    c->leases++;
    c->stats.granted++;
    wake_by(c, now_ns + key->linger_ns);
    place(c, lease);
    return lease;
}

void
wk_lease_on_cancelled(struct wk_leases *c, const struct sched_lease_cancelled *msg, uint64_t now_ns)
{
    (void)now_ns;
    struct wk_lease_key *key = wk_lease_find_key(c, msg->cookie);
    if (key) {
        key->asking -= msg->count < key->asking ? msg->count : key->asking;
        key->cancelling = 0;
        touch(c, key);
    }
}

bool
wk_lease_on_failed(struct wk_leases *c, const struct sched_lease_failed *msg, uint64_t now_ns)
{
    struct wk_lease_key *key = wk_lease_find_key(c, msg->cookie);
    if (!key) {
        return false;
    }
    key->asking -= msg->count < key->asking ? msg->count : key->asking;
    key->cancelling = key->cancelling < key->asking ? key->cancelling : key->asking;
    touch(c, key);
    if (msg->status == ST_LIMIT) {
        key->retry_ns = now_ns + LIMIT_PAUSE_NS;
        return false;
    }
    key->failures++;
    if (key->inflight > 0 && key->failures < FAILURES_MAX) {
        key->retry_ns = now_ns + FAIL_PAUSE_NS;
        return false;
    }
    key->failures = 0;
    return key->ready > 0;
}

void
wk_lease_on_revoke(struct wk_leases *c, uint64_t id, uint64_t now_ns)
{
    (void)now_ns;
    struct wk_lease *lease = wk_lease_find(c, id);
    if (lease) {
        lease->state = WK_LEASE_REVOKED;
        lease->recall_due = lease->inflight > 0;
        touch(c, lease->key);
        place(c, lease);
    }
}

void
wk_lease_on_withdraw(struct wk_leases *c, uint64_t id, uint64_t now_ns)
{
    struct wk_lease *lease = wk_lease_find(c, id);
    if (lease && lease->state == WK_LEASE_REVOKED) {
        lease->state = WK_LEASE_ACTIVE;
        lease->recall_due = false;
        touch(c, lease->key);
        wake_by(c, now_ns);
        place(c, lease);
    }
}

static void
forget(struct wk_leases *c, struct wk_lease *lease)
{
    ASSERT(lease->inflight == 0);
    list_remove(&lease->link);
    map_remove(&c->by_id, &lease->by_id);
    lease->key->leases--;
    c->leases--;
    lease->magic = 0;
    slab_give(&c->lease_slab, lease);
}

void
wk_lease_on_dead(struct wk_leases *c, struct wk_lease *lease, uint32_t unstarted, uint64_t now_ns)
{
    ASSERT(lease->magic == LEASE_MAGIC);
    ASSERT(unstarted <= lease->inflight);
    struct wk_lease_key *key = lease->key;
    leave(c, lease, lease->inflight, now_ns);
    key->ready += unstarted;
    if (unstarted > 0) {
        key->empty_ns = 0;
    }
    touch(c, key);
    forget(c, lease);
}

/* --- what follows ----------------------------------------------------------------------------- */

static bool
has_room(struct step_outs *outs)
{
    if (outs->count < outs->capacity) {
        return true;
    }
    outs->more = true;
    return false;
}

/* Emits and keeps count; false when it must be tried again. */
static void *
emit(struct wk_leases *c, struct step_outs *outs, uint16_t kind, uint64_t peer, size_t size,
     uint64_t now_ns)
{
    if (!has_room(outs)) {
        return NULL;
    }
    void *msg = step_emit(outs, kind, peer, size);
    if (!msg) {
        wake_by(c, now_ns + WK_MS); /* no memory */
    }
    return msg;
}

static bool
give_back(struct wk_leases *c, struct wk_lease *lease, uint64_t now_ns, struct step_outs *outs)
{
    struct sched_lease_return *msg = emit(c, outs, WK_OUT_RETURN, lease->id, sizeof(*msg), now_ns);
    if (!msg) {
        return false;
    }
    msg->lease = lease->id;
    msg->flags = lease->retiring ? SCHED_RETURN_RETIRE : 0;
    c->stats.returned++;
    forget(c, lease);
    return true;
}

static void
recall(struct wk_leases *c, struct wk_lease *lease, struct step_outs *outs)
{
    if (has_room(outs)) {
        (void)step_emit(outs, WK_OUT_RECALL, lease->id, 0);
        lease->recall_due = false;
        lease->recall_asked = true;
        c->stats.recalls++;
    }
}

/* What the walk over a key's leases found. */
struct look {
    uint32_t idle;   /* leases that the next ready tasks will take */
    uint32_t behind; /* unstarted tasks behind one that overran */
};

static void
look_running(struct wk_leases *c, struct wk_lease *lease, uint64_t now_ns, struct step_outs *outs)
{
    if (lease->recall_due) {
        recall(c, lease, outs);
    }
    if (lease->inflight < 2 || is_off(c, WK_RULE_OVERRUN)) {
        return;
    }
    const uint64_t twice = 2 * (uint64_t)lease->front_predicted_ns;
    const uint64_t end =
        lease->front_ns + (twice > c->config.overrun_min_ns ? twice : c->config.overrun_min_ns);
    if (end > now_ns) {
        wake_by(c, end);
        return;
    }
    lease->overrun = true;
    place(c, lease);
}

static void
look_at_leases(struct wk_leases *c, struct wk_lease_key *key, uint64_t now_ns,
               struct step_outs *outs, struct look *look)
{
    *look = (struct look){ 0 };
    for (uint32_t i = WK_PLACE_BUSY; i <= WK_PLACE_FULL; i++) {
        LIST_FOR_SAFE (l, next, &key->places[i]) {
            struct wk_lease *lease = LIST_ENTRY(l, struct wk_lease, link);
            if (lease->inflight > 0) {
                look_running(c, lease, now_ns, outs);
            }
        }
    }
    for (struct list *l = key->places[WK_PLACE_IDLE].next; l != &key->places[WK_PLACE_IDLE];
         l = l->next) {
        look->idle++;
    }
    LIST_FOR (l, &key->places[WK_PLACE_FULL]) {
        struct wk_lease *lease = LIST_ENTRY(l, struct wk_lease, link);
        if (lease->overrun && lease->inflight >= 2 && !lease->recall_asked) {
            look->behind += lease->inflight - 1;
            if (look->idle > 0) {
                recall(c, lease, outs);
            }
        }
    }
}

/* Units that would be useful beyond what is held. */
static uint32_t
useful(const struct wk_leases *c, const struct wk_lease_key *key, const struct look *look)
{
    const uint64_t waiting = (uint64_t)key->ready + look->behind;
    if (waiting <= look->idle) {
        return 0;
    }
    const uint64_t tasks = waiting - look->idle;
    uint64_t units = tasks;
    if (key->ewma_ns > 0 && key->ewma_ns < c->config.window_ns) {
        units = (tasks * key->ewma_ns + c->config.window_ns - 1) / c->config.window_ns;
    }
    return (uint32_t)(units < c->config.asking_max ? units : c->config.asking_max);
}

static void
ask(struct wk_leases *c, struct wk_lease_key *key, uint32_t units, uint64_t now_ns,
    struct step_outs *outs)
{
    const uint32_t open = key->asking - key->cancelling;
    if (units <= open) {
        return;
    }
    uint64_t from = key->retry_ns;
    if (open > 0 && units < 2 * open && key->asked_ns + ASK_PAUSE_NS > from) {
        from = key->asked_ns + ASK_PAUSE_NS;
    }
    if (now_ns < from) {
        wake_by(c, from);
        return;
    }
    struct sched_lease_request *msg =
        emit(c, outs, WK_OUT_REQUEST, key->number, sizeof(*msg), now_ns);
    if (!msg) {
        return;
    }
    *msg = (struct sched_lease_request){
        .cookie = key->number,
        .key = key->number,
        .count = units - open,
        .depth = key->depth,
        .kind = SCHED_LEASE_TASK,
        .first_task = key->first_task,
    };
    memcpy(msg->name, key->name, sizeof(msg->name));
    key->asking += msg->count;
    key->asked_ns = now_ns;
    c->stats.requested += msg->count;
}

static void
cancel(struct wk_leases *c, struct wk_lease_key *key, uint64_t now_ns, struct step_outs *outs)
{
    if (key->asking == 0 || key->cancelling > 0 || is_off(c, WK_RULE_CANCEL)) {
        return;
    }
    key->empty_ns = key->empty_ns ? key->empty_ns : now_ns;
    const uint64_t end = key->empty_ns + c->config.cancel_after_ns;
    if (end > now_ns) {
        wake_by(c, end);
        return;
    }
    struct sched_lease_cancel *msg =
        emit(c, outs, WK_OUT_CANCEL, key->number, sizeof(*msg), now_ns);
    if (msg) {
        msg->cookie = key->number;
        msg->count = key->cancelling = key->asking;
        c->stats.cancels++;
    }
}

/* What nobody needs goes back: idle for long, or asked for by the raylet. */
static void
return_leases(struct wk_leases *c, struct wk_lease_key *key, uint64_t now_ns,
              struct step_outs *outs)
{
    for (uint32_t i = 0; i < COUNT_OF(key->places); i++) {
        LIST_FOR_SAFE (l, next, &key->places[i]) {
            struct wk_lease *lease = LIST_ENTRY(l, struct wk_lease, link);
            if (lease->inflight > 0) {
                continue;
            }
            if ((lease->state == WK_LEASE_REVOKED && !is_off(c, WK_RULE_REVOKED)) ||
                lease->retiring) {
                (void)give_back(c, lease, now_ns, outs);
                continue;
            }
            const uint64_t end = lease->idle_since_ns + key->linger_ns;
            if (is_off(c, WK_RULE_LINGER)) {
                continue;
            }
            /* One that took nothing while nothing was in flight is of no use. */
            if ((key->ready > 0 && !lease->blocked) || end > now_ns) {
                wake_by(c, end > now_ns ? end : now_ns + key->linger_ns);
            } else if (give_back(c, lease, now_ns, outs)) {
                key->linger_ns = key->linger_ns / 2 > c->config.linger_min_ns
                                     ? key->linger_ns / 2
                                     : c->config.linger_min_ns;
            }
        }
    }
}

static void
recall_and_ask(struct wk_leases *c, struct wk_lease_key *key, uint64_t now_ns,
               struct step_outs *outs)
{
    struct look look;
    look_at_leases(c, key, now_ns, outs, &look);
    if (key->ready + look.behind > 0) {
        key->empty_ns = 0;
        ask(c, key, useful(c, key, &look), now_ns, outs);
    } else {
        cancel(c, key, now_ns, outs);
    }
}

void
wk_lease_pump(struct wk_leases *c, uint64_t now_ns, struct step_outs *outs)
{
    outs->more = false;
    if (now_ns >= c->deadline_ns) {
        c->deadline_ns = UINT64_MAX;
        LIST_FOR (l, &c->all_keys) {
            struct wk_lease_key *key = LIST_ENTRY(l, struct wk_lease_key, link);
            if (key->leases > 0 || key->asking > 0 || key->ready > 0) {
                touch(c, key);
            }
        }
    }
    /* All requests before any return: else the raylet, for a moment, sees a free CPU and nobody
     * nested who wants it, and lets a shallower task in. */
    LIST_FOR (l, &c->dirty) {
        recall_and_ask(c, LIST_ENTRY(l, struct wk_lease_key, dirty_link), now_ns, outs);
    }
    while (!list_is_empty(&c->dirty) && !outs->more) {
        struct wk_lease_key *key =
            LIST_ENTRY(list_first(&c->dirty), struct wk_lease_key, dirty_link);
        list_remove(&key->dirty_link);
        return_leases(c, key, now_ns, outs);
        if (outs->more) {
            touch(c, key);
        }
    }
}

bool
wk_leases_are_short(const struct wk_leases *c)
{
    LIST_FOR (l, &c->all_keys) {
        const struct wk_lease_key *key = LIST_ENTRY(l, struct wk_lease_key, link);
        if (key->ready > 0 && key->asking > key->cancelling) {
            return true;
        }
    }
    return false;
}

void
wk_lease_why(const struct wk_leases *c, const struct wk_lease_key *key, char *text, uint32_t size)
{
    (void)c;
    uint32_t blocked = 0, revoked = 0;
    for (uint32_t i = 0; i < COUNT_OF(key->places); i++) {
        LIST_FOR (l, &key->places[i]) {
            const struct wk_lease *lease = LIST_ENTRY(l, struct wk_lease, link);
            blocked += lease->blocked ? 1 : 0;
            revoked += lease->state == WK_LEASE_REVOKED ? 1 : 0;
        }
    }
    (void)snprintf(text, size,
                   "%u tasks wait for a worker and %u are with one; %u leases are held (%u of "
                   "waiting workers, %u asked back by the raylet) and %u more were asked for",
                   key->ready, key->inflight, key->leases, blocked, revoked, key->asking);
}
