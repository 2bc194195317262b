/* SPDX-License-Identifier: Apache-2.0 */
/* The actor client: see wk_caller.h. */
#include "worker/wk_caller.h"

#include <string.h>

#ifdef RAY_MUTATIONS
#define WITHOUT(c, rule) (((c)->rules_off >> WK_CALLER_RULE_##rule & 1) != 0)
#else
#define WITHOUT(c, rule) ((void)(c), false)
#endif

void
wk_caller_init(struct wk_caller *c, uint32_t window)
{
    *c = (struct wk_caller){ .max_pending = -1, .window = window };
    struct list *const lists[] = { &c->queue, &c->late, &c->sent, &c->limbo, &c->failed };
    for (size_t i = 0; i < COUNT_OF(lists); i++) {
        list_init(lists[i]);
    }
}

/* ---- lists ---- */

static struct wk_call *
call_of(struct list *link)
{
    return LIST_ENTRY(link, struct wk_call, link);
}

static void
put(struct list *list, struct wk_call *call, enum wk_call_place place)
{
    list_push_back(list, &call->link);
    call->place = (uint8_t)place;
}

static void
take(struct wk_caller *c, struct wk_call *call)
{
    c->sent_count -= call->place == WK_CALL_SENT;
    list_remove(&call->link);
    call->place = WK_CALL_NOWHERE;
}

static void
fail(struct wk_caller *c, struct wk_call *call, enum wk_call_verdict verdict)
{
    call->verdict = (uint8_t)verdict;
    put(&c->failed, call, WK_CALL_FAILED);
}

/* Before all that were submitted later. Mostly that is the front. */
static void
put_in_place(struct wk_caller *c, struct wk_call *call)
{
    struct list *at = c->queue.next;
    while (at != &c->queue && (call_of(at)->sequence < call->sequence || WITHOUT(c, in_place))) {
        at = at->next;
    }
    list_push_back(at, &call->link); /* before `at` */
    call->place = WK_CALL_QUEUED;
}

static void
enqueue(struct wk_caller *c, struct wk_call *call)
{
    if (c->state == ACTOR_DEAD && !call->waits && !WITHOUT(c, dead_ready)) {
        fail(c, call, WK_CALL_ACTOR_DEAD);
    } else if (c->unordered && call->waits) {
        put(&c->late, call, WK_CALL_LATE);
    } else {
        put(&c->queue, call, WK_CALL_QUEUED);
    }
}

/* Whether a call whose attempt was lost is made again; if so it is charged. */
static bool
may_go_again(const struct wk_caller *c, struct wk_call *call)
{
    if (!call->begun || WITHOUT(c, begun)) {
        return true;
    }
    if (call->retries_left == 0) {
        return false;
    }
    if (call->retries_left > 0 && !WITHOUT(c, charge)) {
        call->retries_left--;
    }
    call->attempt++;
    return true;
}

/* Calls that were in flight: those that may go again do, in their places; the others fail. From the
 * last to the first, so that each finds its place at the queue's front. */
static void
resolve(struct wk_caller *c, struct list *calls, enum wk_call_verdict verdict)
{
    struct list failing;
    list_init(&failing);
    while (!list_is_empty(calls)) {
        struct wk_call *call = call_of(list_last(calls));
        take(c, call);
        if (verdict != WK_CALL_ACTOR_DEAD && may_go_again(c, call)) {
            put_in_place(c, call);
        } else {
            list_push_front(&failing, &call->link);
        }
    }
    while (!list_is_empty(&failing)) {
        fail(c, call_of(list_take_front(&failing)), verdict);
    }
}

/* ---- calls ---- */

void
wk_caller_unorder(struct wk_caller *c)
{
    c->unordered = true;
    LIST_FOR_SAFE (l, next, &c->queue) {
        if (call_of(l)->waits) {
            list_remove(l);
            put(&c->late, call_of(l), WK_CALL_LATE);
        }
    }
}

void
wk_caller_submit(struct wk_caller *c, struct wk_call *call, int32_t retries, bool waits)
{
    call->sequence = ++c->sequence;
    call->retries_left = retries;
    call->waits = waits;
    c->pending++;
    enqueue(c, call);
}

void
wk_caller_ready(struct wk_caller *c, struct wk_call *call)
{
    call->waits = false;
    if (call->place == WK_CALL_LATE || c->state == ACTOR_DEAD) {
        take(c, call);
        enqueue(c, call);
    }
}

struct wk_call *
wk_caller_next(const struct wk_caller *c)
{
    if (list_is_empty(&c->queue) || c->state != ACTOR_ALIVE || c->held) {
        return NULL;
    }
    /* Calls that were made before come first: what becomes of them is not known. While any are in
     * limbo the actor isn't ALIVE here. */
    if (c->last_process && !WITHOUT(c, last_process)) {
        return NULL;
    }
    struct list *at = c->queue.next;
    while (WITHOUT(c, arguments) && at->next != &c->queue && call_of(at)->waits) {
        at = at->next;
    }
    struct wk_call *call = call_of(at);
    const bool full = !c->unordered && c->sent_count >= c->window;
    return call->waits || full ? NULL : call;
}

void
wk_caller_sent(struct wk_caller *c, struct wk_call *call)
{
    list_remove(&call->link);
    call->begun = false;
    put(&c->sent, call, WK_CALL_SENT);
    c->sent_count++;
}

void
wk_caller_answered(struct wk_caller *c, struct wk_call *call)
{
    ASSERT(c->pending > 0);
    take(c, call);
    c->pending--;
}

void
wk_caller_again(struct wk_caller *c, struct wk_call *call)
{
    take(c, call);
    if (c->state == ACTOR_DEAD && !call->waits) {
        fail(c, call, WK_CALL_ACTOR_DEAD);
    } else if (c->unordered && call->waits) {
        put(&c->late, call, WK_CALL_LATE);
    } else {
        put_in_place(c, call);
    }
}

struct wk_call *
wk_caller_failed(struct wk_caller *c)
{
    return list_is_empty(&c->failed) ? NULL : call_of(c->failed.next);
}

/* ---- the word of ray-gcs ---- */

bool
wk_caller_on_alive(struct wk_caller *c, uint64_t incarnation, uint64_t process)
{
    if (c->state == ACTOR_DEAD || incarnation < c->incarnation) {
        return false;
    }
    c->incarnation = incarnation;
    if (process == 0) {
        return false; /* old news; the next update tells */
    }
    if (c->process && c->process != process) {
        /* Restarted before the first process's death was told: that one settles its calls. With two
         * deaths still to be told, the first asks anew for the place. */
        if (c->last_process && !WITHOUT(c, two_deaths)) {
            return false;
        }
        c->last_process = c->process;
    }
    c->process = process;
    c->state = ACTOR_ALIVE;
    resolve(c, &c->limbo, WK_CALL_PROCESS_DIED);
    return true;
}

void
wk_caller_on_restarting(struct wk_caller *c)
{
    if (c->state != ACTOR_DEAD) {
        c->state = ACTOR_RESTARTING;
        resolve(c, &c->limbo, WK_CALL_PROCESS_DIED);
    }
}

/* Those in flight still have replies to come: until the process's death is told. */
void
wk_caller_on_dead(struct wk_caller *c)
{
    if (c->state == ACTOR_DEAD) {
        return;
    }
    c->state = ACTOR_DEAD;
    if (!WITHOUT(c, dead_limbo)) {
        resolve(c, &c->limbo, WK_CALL_ACTOR_DEAD);
    }
    LIST_FOR_SAFE (l, next, &c->queue) {
        struct wk_call *call = call_of(l);
        if (!call->waits && !WITHOUT(c, dead_queue)) {
            take(c, call);
            fail(c, call, WK_CALL_ACTOR_DEAD);
        }
    }
}

/* ---- processes and connections ---- */

bool
wk_caller_is_with(const struct wk_caller *c, uint64_t process)
{
    return process != 0 && process == (c->last_process ? c->last_process : c->process);
}

bool
wk_caller_on_died(struct wk_caller *c, uint64_t process)
{
    if (process == 0 || (process != c->process && process != c->last_process)) {
        return false;
    }
    /* Whether ray-gcs has said already what follows this process. */
    const bool decided = process == c->last_process || c->state == ACTOR_RESTARTING;
    if (wk_caller_is_with(c, process)) {
        while (!list_is_empty(&c->sent)) {
            struct wk_call *call = call_of(c->sent.next);
            take(c, call);
            put(&c->limbo, call, WK_CALL_LIMBO);
        }
    }
    if (process == c->last_process) {
        c->last_process = 0;
    }
    if (process == c->process) {
        c->process = 0;
        c->state = c->state == ACTOR_ALIVE ? ACTOR_UNKNOWN : c->state;
    }
    if (c->state == ACTOR_DEAD) {
        if (!WITHOUT(c, dead_sent)) {
            resolve(c, &c->limbo, WK_CALL_ACTOR_DEAD);
        }
        return false;
    }
    if (decided) {
        resolve(c, &c->limbo, WK_CALL_PROCESS_DIED);
    }
    return !WITHOUT(c, ask_anew);
}

void
wk_caller_on_broken(struct wk_caller *c, uint64_t process)
{
    if (wk_caller_is_with(c, process) && !WITHOUT(c, broken)) {
        resolve(c, &c->sent,
                c->state == ACTOR_DEAD ? WK_CALL_ACTOR_DEAD : WK_CALL_CONNECTION_BROKEN);
    }
}

/* ---- the step face ---- */

static int
dispatch(struct wk_caller *c, const struct step_in *in, bool *ask)
{
    struct wk_call *call;
    memcpy(&call, &in->payload, sizeof(call));
    switch (in->kind) {
    case STEP_CONTINUE:
        return ST_OK;
    case WK_CALLER_IN_SUBMIT: {
        const struct wk_caller_in_submit *msg = in->msg;
        wk_caller_submit(c, call, msg->retries, msg->waits);
        return ST_OK;
    }
    case WK_CALLER_IN_READY:
        wk_caller_ready(c, call);
        return ST_OK;
    case WK_CALLER_IN_ANSWERED:
        wk_caller_answered(c, call);
        return ST_OK;
    case WK_CALLER_IN_AGAIN:
        wk_caller_again(c, call);
        return ST_OK;
    case WK_CALLER_IN_ALIVE:
        (void)wk_caller_on_alive(c, ((const struct wk_caller_in_alive *)in->msg)->incarnation,
                                 in->peer);
        return ST_OK;
    case WK_CALLER_IN_RESTARTING:
        wk_caller_on_restarting(c);
        return ST_OK;
    case WK_CALLER_IN_DEAD:
        wk_caller_on_dead(c);
        return ST_OK;
    case WK_CALLER_IN_DIED:
        *ask = wk_caller_on_died(c, in->peer);
        return ST_OK;
    case WK_CALLER_IN_BROKEN:
        wk_caller_on_broken(c, in->peer);
        return ST_OK;
    case WK_CALLER_IN_HOLD:
        c->held = true;
        return ST_OK;
    default:
        return st_fail(ST_PROTOCOL, "the actor client knows no input %u", in->kind);
    }
}

static void
say(struct step_outs *outs, uint16_t kind, uint64_t peer, const struct wk_call *call)
{
    (void)step_emit(outs, kind, peer, 0);
    memcpy(&outs->v[outs->count - 1].payload, &call, sizeof(call));
}

int
wk_caller_step(struct wk_caller *c, const struct step_in *in, struct step_outs *outs)
{
    bool ask = false;
    const int status = dispatch(c, in, &ask);
    if (ask) {
        say(outs, WK_CALLER_OUT_ASK, 0, NULL);
    }
    struct wk_call *call;
    while (outs->count < outs->capacity && (call = wk_caller_failed(c)) != NULL) {
        say(outs, WK_CALLER_OUT_FAIL, call->verdict, call);
        wk_caller_answered(c, call);
    }
    while (outs->count < outs->capacity && (call = wk_caller_next(c)) != NULL) {
        say(outs, WK_CALLER_OUT_SEND, c->process, call);
        wk_caller_sent(c, call);
    }
    outs->more = wk_caller_failed(c) || wk_caller_next(c);
    return status;
}
