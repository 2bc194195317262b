/* SPDX-License-Identifier: Apache-2.0 */
/* The two machines of a streaming task; see wk_stream.h and docs/protocols/generators.md. */
#include "worker/wk_stream.h"

#include <string.h>

#include "base/assert.h"
#include "base/status.h"

#define STREAM_MAGIC 0x73747265u

#ifdef RAY_MUTATIONS
#define WITHOUT(machine, rule) (((machine)->rules_off & WK_STREAM_RULE_##rule) != 0)
#else
#define WITHOUT(machine, rule) false
#endif

/* ---- the owner's side ---- */

void
wk_stream_init(struct wk_stream *s, uint32_t limit)
{
    *s = (struct wk_stream){ .magic = STREAM_MAGIC, .limit = limit };
}

uint32_t
wk_stream_push(struct wk_stream *s, uint32_t attempt)
{
    ASSERT(s->magic == STREAM_MAGIC && !s->over);
    s->pushed = true;
    s->attempt = attempt;
    s->told = WITHOUT(s, PUSHED) ? s->told : 0;
    s->ended_told = false;
    s->timer_ns = 0;
    return WITHOUT(s, KNOWN) ? 0 : s->received;
}

enum wk_stream_fate
wk_stream_item(struct wk_stream *s, uint32_t attempt, uint32_t index)
{
    if ((!s->pushed || attempt != s->attempt) && !WITHOUT(s, STALE)) {
        return WK_STREAM_STALE;
    }
    if (index != s->received || index >= WK_STREAM_ITEMS_MAX || s->over) {
        return WK_STREAM_WRONG;
    }
    s->received++;
    if (s->dropped && !WITHOUT(s, UNREAD)) {
        s->read = s->received;
        return WK_STREAM_UNREAD;
    }
    return WK_STREAM_KEEP;
}

void
wk_stream_attempt_over(struct wk_stream *s)
{
    s->pushed = false;
    s->timer_ns = 0;
}

bool
wk_stream_end(struct wk_stream *s, bool failed, uint32_t *index)
{
    ASSERT(s->magic == STREAM_MAGIC && !s->over);
    s->over = true;
    s->failed = failed;
    s->pushed = false;
    s->timer_ns = 0;
    if (!failed || s->dropped || WITHOUT(s, FAILURE)) {
        return false;
    }
    *index = s->received++;
    return true;
}

enum wk_stream_turn
wk_stream_look(const struct wk_stream *s)
{
    if (s->read < s->received) {
        return WK_STREAM_ITEM;
    }
    return s->over ? WK_STREAM_OVER : WK_STREAM_NOTHING;
}

enum wk_stream_turn
wk_stream_read(struct wk_stream *s)
{
    ASSERT(s->magic == STREAM_MAGIC && !s->dropped);
    const enum wk_stream_turn turn = wk_stream_look(s);
    s->read += turn == WK_STREAM_ITEM;
    return turn;
}

void
wk_stream_wait(struct wk_stream *s)
{
    s->waited = true;
}

bool
wk_stream_wakes(struct wk_stream *s)
{
    const bool ended = s->over && !WITHOUT(s, WAKE);
    const bool wakes = s->waited && (s->read < s->received || ended || s->dropped);
    s->waited = s->waited && !wakes;
    return wakes;
}

uint32_t
wk_stream_drop(struct wk_stream *s, bool awaited)
{
    ASSERT(s->magic == STREAM_MAGIC && !s->dropped);
    const uint32_t unread = s->received - s->read;
    s->dropped = true;
    s->awaited = awaited;
    s->read = s->received;
    s->timer_ns = 0;
    return unread;
}

/* With nobody to read, the producer is told so, once an attempt. */
static bool
tell_dropped(struct wk_stream *s, struct wk_stream_told *told)
{
    if (s->ended_told || WITHOUT(s, STOP) || (s->awaited && WITHOUT(s, MUTE))) {
        return false;
    }
    s->ended_told = true;
    told->flags = s->awaited ? WK_STREAM_MUTE : WK_STREAM_STOP;
    return true;
}

bool
wk_stream_tell(struct wk_stream *s, uint64_t now_ns, struct wk_stream_told *told, uint64_t *when_ns)
{
    *when_ns = 0;
    *told = (struct wk_stream_told){ .attempt = s->attempt, .read = s->read };
    if (!s->pushed) {
        return false;
    }
    if (s->dropped) {
        return tell_dropped(s, told);
    }
    if (s->limit == 0 || s->read == s->told) {
        return false;
    }
    const uint32_t batch = s->limit > 2 ? s->limit / 2 : 1;
    if (s->read - s->told >= batch || (s->timer_ns != 0 && now_ns >= s->timer_ns)) {
        s->told = s->read;
        s->timer_ns = 0;
        return true;
    }
    if (s->timer_ns == 0 && s->received - s->told >= s->limit && !WITHOUT(s, TIMER)) {
        s->timer_ns = *when_ns = now_ns + WK_STREAM_TELL_NS; /* it may wait for that */
    }
    return false;
}

/* ---- the owner's side, by messages ---- */

static void
emit(struct step_outs *outs, struct step_out out)
{
    ASSERT(outs->count < outs->capacity);
    outs->v[outs->count++] = out;
}

static int
say(struct step_outs *outs, uint16_t kind, const void *msg, size_t size)
{
    void *copy = step_emit(outs, kind, 0, size);
    if (!copy) {
        return ST_OUT_OF_MEMORY;
    }
    memcpy(copy, msg, size);
    return ST_OK;
}

static void
item_step(struct wk_stream *s, const struct step_in *in, struct step_outs *outs)
{
    const struct wk_stream_item_msg *m = in->msg;
    switch (wk_stream_item(s, m->attempt, m->index)) {
    case WK_STREAM_KEEP:
        emit(outs, (struct step_out){ .kind = WK_STREAM_OUT_KEEP,
                                      .peer = s->received - 1,
                                      .payload = in->payload });
        break;
    case WK_STREAM_WRONG:
        emit(outs, (struct step_out){ .kind = WK_STREAM_OUT_WRONG, .payload = in->payload });
        break;
    case WK_STREAM_UNREAD:
    case WK_STREAM_STALE:
        emit(outs, (struct step_out){ .kind = WK_STREAM_OUT_FREE, .payload = in->payload });
        break;
    }
}

static void
read_step(struct wk_stream *s, struct step_outs *outs)
{
    switch (wk_stream_read(s)) {
    case WK_STREAM_ITEM:
        emit(outs, (struct step_out){ .kind = WK_STREAM_OUT_GIVE, .peer = s->read - 1 });
        break;
    case WK_STREAM_OVER:
        emit(outs, (struct step_out){ .kind = WK_STREAM_OUT_OVER });
        break;
    case WK_STREAM_NOTHING:
        wk_stream_wait(s);
        break;
    }
}

static int
apply(struct wk_stream *s, const struct step_in *in, struct step_outs *outs)
{
    uint32_t number;
    bool flag;
    switch (in->kind) {
    case WK_STREAM_IN_PUSH:
        memcpy(&number, in->msg, sizeof(number));
        number = wk_stream_push(s, number);
        return say(outs, WK_STREAM_OUT_KNOWN, &number, sizeof(number));
    case WK_STREAM_IN_ITEM:
        item_step(s, in, outs);
        return ST_OK;
    case WK_STREAM_IN_ATTEMPT_OVER:
        wk_stream_attempt_over(s);
        return ST_OK;
    case WK_STREAM_IN_END:
        memcpy(&flag, in->msg, sizeof(flag));
        if (wk_stream_end(s, flag, &number)) {
            emit(outs, (struct step_out){ .kind = WK_STREAM_OUT_FAILED, .peer = number });
        }
        return ST_OK;
    case WK_STREAM_IN_READ:
        read_step(s, outs);
        return ST_OK;
    case WK_STREAM_IN_DROP:
        memcpy(&flag, in->msg, sizeof(flag));
        number = wk_stream_drop(s, flag);
        if (number > 0) {
            emit(outs, (struct step_out){ .kind = WK_STREAM_OUT_UNREAD, .peer = number });
        }
        return ST_OK;
    case WK_STREAM_IN_TIMER:
    case STEP_CONTINUE:
        return ST_OK;
    default:
        return ST_PROTOCOL;
    }
}

int
wk_stream_step(struct wk_stream *s, const struct step_in *in, struct step_outs *outs)
{
    ASSERT(outs->capacity - outs->count >= WK_STREAM_OUTS_MIN);
    TRY(apply(s, in, outs));
    if (wk_stream_wakes(s)) {
        emit(outs, (struct step_out){ .kind = WK_STREAM_OUT_WAKE });
    }
    struct wk_stream_told told;
    uint64_t when_ns;
    if (wk_stream_tell(s, in->now_ns, &told, &when_ns)) {
        return say(outs, WK_STREAM_OUT_TELL, &told, sizeof(told));
    }
    if (when_ns != 0) {
        emit(outs, (struct step_out){ .kind = WK_STREAM_OUT_TIMER, .when_ns = when_ns });
    }
    return ST_OK;
}

/* ---- the producer's side ---- */

void
wk_yield_init(struct wk_yield *y, uint32_t limit, uint32_t known)
{
    *y = (struct wk_yield){ .limit = limit, .known = known };
}

enum wk_yield_turn
wk_yield_item(struct wk_yield *y, uint32_t *index)
{
    if (y->stopped) {
        return WK_YIELD_STOP;
    }
    if (y->made >= WK_STREAM_ITEMS_MAX) {
        return WK_YIELD_FULL;
    }
    *index = y->made++;
    return *index < y->known || y->mute ? WK_YIELD_SKIP : WK_YIELD_SEND;
}

bool
wk_yield_has_room(const struct wk_yield *y)
{
    return y->limit == 0 || y->stopped || y->mute || WITHOUT(y, ROOM) ||
           y->made < (uint64_t)y->read + y->limit;
}

void
wk_yield_told(struct wk_yield *y, uint32_t read, uint32_t flags)
{
    y->read = read > y->read ? read : y->read;
    y->stopped = y->stopped || (flags & WK_STREAM_STOP);
    y->mute = y->mute || (flags & WK_STREAM_MUTE);
}

int
wk_yield_step(struct wk_yield *y, const struct step_in *in, struct step_outs *outs)
{
    ASSERT(outs->capacity - outs->count >= WK_STREAM_OUTS_MIN);
    uint32_t index = 0;
    bool had_room = wk_yield_has_room(y);
    if (in->kind == WK_YIELD_IN_TOLD) {
        const struct wk_stream_told *told = in->msg;
        wk_yield_told(y, told->read, told->flags);
    } else if (in->kind == WK_YIELD_IN_ITEM) {
        const enum wk_yield_turn turn = wk_yield_item(y, &index);
        had_room = false;
        emit(outs, (struct step_out){ .kind = turn == WK_YIELD_SEND ? WK_YIELD_OUT_SEND
                                                                    : WK_YIELD_OUT_FREE,
                                      .peer = index,
                                      .payload = in->payload });
        if (turn == WK_YIELD_STOP || turn == WK_YIELD_FULL) {
            emit(outs, (struct step_out){ .kind = WK_YIELD_OUT_STOP });
            return ST_OK;
        }
    } else {
        return ST_PROTOCOL;
    }
    if (!had_room && wk_yield_has_room(y)) {
        emit(outs, (struct step_out){ .kind = WK_YIELD_OUT_GO });
    }
    return ST_OK;
}
