/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checker's memory. In ILV_SC the bytes themselves are the memory. In ILV_WEAK each location
 * has the list of values that some live actor may still read, oldest first; the last is also in the
 * bytes. A view is a position per location. See ilv.h for what the machine includes.
 *
 * Positions are kept relative to the oldest value kept (ilv_mem_settle), so that two states
 * that differ only in how much was forgotten are equal.
 */
#include "ilv_priv.h"

#include <stdio.h>
#include <stdlib.h>

struct view {
    unsigned char at[ILV_LOCS];
};

struct message {
    uint64_t value;
    struct view view; /* what an acquire of this value makes visible */
};

struct location {
    unsigned n;
    struct message message[ILV_HIST];
};

struct actor_view {
    struct view seen;     /* may not read older values than these */
    struct view acquired; /* what relaxed loads read would have given: a fence makes it seen */
    struct view released; /* seen at the last fence: what relaxed stores carry */
};

/* Locations are numbered in the order of first touch in the whole search and keep their numbers. */
static struct {
    void *addr;
    unsigned size;
} places[ILV_LOCS];
static unsigned n_places;

static enum ilv_memory model;
static unsigned actor_count;
static const char *race;    /* a violation */
static const char *failure; /* a bound of this machine: the search can't go on */

static struct actor_view views[ILV_ACTORS];
static struct view sc_view;
static struct location locations[ILV_LOCS];

void
ilv_mem_reset(enum ilv_memory memory, unsigned n_actors)
{
    model = memory;
    actor_count = n_actors;
    n_places = 0;
    race = NULL;
    failure = NULL;
    memset(views, 0, sizeof views);
    memset(&sc_view, 0, sizeof sc_view);
    memset(locations, 0, sizeof locations);
}

const char *
ilv_mem_race(void)
{
    return race;
}

const char *
ilv_mem_failure(void)
{
    return failure;
}

uint64_t
ilv_mem_raw(const void *addr, unsigned size)
{
    uint64_t value = 0;

    memcpy(&value, addr, size); /* little-endian, as the whole project is */
    return value;
}

static void
raw_write(void *addr, unsigned size, uint64_t value)
{
    memcpy(addr, &value, size);
}

static uint64_t
truncated(uint64_t value, unsigned size)
{
    return size == 8 ? value : value & ((UINT64_C(1) << (8 * size)) - 1);
}

/*
 * A location of bytes has a twin of size READS, whose "values" are the reads of it: a write must
 * have seen them all.
 */
enum { READS = 0 };

/* The number of a location; a new one has one value, the one in the bytes. */
static unsigned
place_of(void *addr, unsigned size)
{
    for (unsigned i = 0; i < n_places; i++) {
        if (places[i].addr == addr && (places[i].size == READS) == (size == READS)) {
            if (places[i].size != size) {
                failure = "one location is used with two sizes";
            }
            return i;
        }
    }
    if (n_places == ILV_LOCS) {
        failure = "too many shared locations: raise ILV_LOCS";
        return 0;
    }
    places[n_places].addr = addr;
    places[n_places].size = size;
    locations[n_places].n = 1;
    locations[n_places].message[0].value = ilv_mem_raw(addr, size);
    return n_places++;
}

static void
join(struct view *into, const struct view *from)
{
    for (unsigned i = 0; i < n_places; i++) {
        if (from->at[i] > into->at[i]) {
            into->at[i] = from->at[i];
        }
    }
}

static bool
acquires(int order)
{
    return order == ATOM_ACQUIRE || order == ATOM_ACQ_REL || order == ATOM_SEQ_CST;
}

static bool
releases(int order)
{
    return order == ATOM_RELEASE || order == ATOM_ACQ_REL || order == ATOM_SEQ_CST;
}

/* A compare-and-swap may fail on an older value that it may still read, but never on one it
 * expects. */
static unsigned
cas_variants(const struct location *loc, unsigned oldest, uint64_t expected)
{
    unsigned n = 1;

    for (unsigned i = oldest; i + 1 < loc->n; i++) {
        n += loc->message[i].value != expected;
    }
    return n;
}

unsigned
ilv_mem_variants(unsigned actor, const struct ilv_pending *p)
{
    if (model == ILV_SC || (p->kind != ILV_LOAD && p->kind != ILV_CAS)) {
        return 1;
    }
    const unsigned place = place_of(p->addr, p->size);
    const struct location *loc = &locations[place];
    const unsigned oldest = views[actor].seen.at[place];

    if (p->kind == ILV_LOAD) {
        return loc->n - oldest;
    }
    return cas_variants(loc, oldest, truncated(p->expected, p->size));
}

/* Reads value number `at` of a location: the views follow. */
static uint64_t
read_message(struct actor_view *view, unsigned place, unsigned at, int order)
{
    const struct message *message = &locations[place].message[at];

    view->seen.at[place] = (unsigned char)at;
    join(&view->acquired, &message->view);
    if (acquires(order)) {
        join(&view->seen, &message->view);
    }
    join(&view->acquired, &view->seen);
    return message->value;
}

static void
write_message(struct actor_view *view, unsigned place, uint64_t value, int order,
              const struct view *continued)
{
    struct location *loc = &locations[place];

    if (loc->n == ILV_HIST) {
        failure = "too many values of one location unread: raise ILV_HIST or bound the model";
        return;
    }
    struct message *message = &loc->message[loc->n];

    view->seen.at[place] = (unsigned char)loc->n;
    view->acquired.at[place] = (unsigned char)loc->n;
    message->value = value;
    message->view = releases(order) ? view->seen : view->released;
    message->view.at[place] = (unsigned char)loc->n;
    if (continued) {
        join(&message->view, continued);
    }
    loc->n++;
    raw_write(places[place].addr, places[place].size, value);
}

static uint64_t
updated(enum ilv_rmw rmw, uint64_t held, uint64_t operand)
{
    switch (rmw) {
    case ILV_RMW_EXCHANGE:
        return operand;
    case ILV_RMW_ADD:
        return held + operand;
    case ILV_RMW_OR:
        return held | operand;
    case ILV_RMW_AND:
        return held & operand;
    }
    abort();
}

static struct ilv_answer
apply_sc(const struct ilv_pending *p)
{
    struct ilv_answer answer = { 0 };

    if (p->kind == ILV_FENCE) {
        return answer;
    }
    if (p->kind != ILV_STORE && p->kind != ILV_WRITE) {
        answer.value = ilv_mem_raw(p->addr, p->size);
    }
    if (p->kind == ILV_STORE || p->kind == ILV_WRITE) {
        raw_write(p->addr, p->size, p->operand);
    } else if (p->kind == ILV_UPDATE) {
        raw_write(p->addr, p->size, updated(p->rmw, answer.value, p->operand));
    } else if (p->kind == ILV_CAS && answer.value == truncated(p->expected, p->size)) {
        raw_write(p->addr, p->size, p->operand);
        answer.flag = true;
    }
    return answer;
}

static void
fence_weak(struct actor_view *view)
{
    join(&view->seen, &view->acquired);
    join(&view->seen, &sc_view);
    sc_view = view->seen;
    view->acquired = view->seen;
    view->released = view->seen;
}

static struct ilv_answer
cas_weak(struct actor_view *view, unsigned place, const struct ilv_pending *p, unsigned variant)
{
    struct location *loc = &locations[place];
    const uint64_t expected = truncated(p->expected, p->size);
    struct ilv_answer answer = { 0 };

    if (variant > 0) { /* the variant-th older value that differs */
        unsigned at = view->seen.at[place];

        for (unsigned left = variant;; at++) {
            if (loc->message[at].value != expected && --left == 0) {
                break;
            }
        }
        answer.value = read_message(view, place, at, ATOM_ACQUIRE);
        return answer;
    }
    const unsigned last = loc->n - 1;

    answer.value = read_message(view, place, last, ATOM_ACQUIRE);
    if (answer.value == expected) {
        write_message(view, place, truncated(p->operand, p->size), ATOM_ACQ_REL,
                      &loc->message[last].view);
        answer.flag = true;
    }
    return answer;
}

static bool
saw_all(const struct actor_view *view, unsigned place)
{
    return view->seen.at[place] + 1u == locations[place].n;
}

/* Bytes: ordered with every access before, or a race. */
static struct ilv_answer
bytes_weak(struct actor_view *view, const struct ilv_pending *p)
{
    const unsigned place = place_of(p->addr, p->size);
    const unsigned reads = place_of(p->addr, READS);
    struct ilv_answer answer = { 0 };

    if (!saw_all(view, place)) {
        race = p->kind == ILV_READ ? "data race: bytes read that another may still be writing"
                                   : "data race: bytes written by two";
    } else if (p->kind == ILV_READ) {
        answer.value = locations[place].message[locations[place].n - 1].value;
        write_message(view, reads, 0, ATOM_RELAXED, NULL);
        memset(&locations[reads].message[locations[reads].n - 1].view, 0, sizeof(struct view));
    } else if (!saw_all(view, reads)) {
        race = "data race: bytes written that another may still be reading";
    } else {
        write_message(view, place, truncated(p->operand, p->size), ATOM_RELAXED, NULL);
    }
    return answer;
}

struct ilv_answer
ilv_mem_apply(unsigned actor, const struct ilv_pending *p, unsigned variant)
{
    if (model == ILV_SC) {
        return apply_sc(p);
    }
    struct actor_view *view = &views[actor];
    struct ilv_answer answer = { 0 };

    if (p->kind == ILV_FENCE) {
        fence_weak(view);
        return answer;
    }
    if (p->kind == ILV_READ || p->kind == ILV_WRITE) {
        return bytes_weak(view, p);
    }
    const unsigned place = place_of(p->addr, p->size);
    const unsigned last = locations[place].n - 1;

    switch ((int)p->kind) {
    case ILV_LOAD: /* newest first: faults of plain logic show in short traces */
        answer.value = read_message(view, place, last - variant, p->order);
        break;
    case ILV_STORE:
        write_message(view, place, truncated(p->operand, p->size), p->order, NULL);
        break;
    case ILV_UPDATE:
        answer.value = read_message(view, place, last, p->order);
        write_message(view, place, truncated(updated(p->rmw, answer.value, p->operand), p->size),
                      p->order, &locations[place].message[last].view);
        break;
    case ILV_CAS:
        answer = cas_weak(view, place, p, variant);
        break;
    default:
        abort();
    }
    return answer;
}

void
ilv_mem_join(unsigned actor, unsigned other)
{
    if (model == ILV_WEAK) {
        join(&views[actor].seen, &views[other].seen);
        join(&views[actor].acquired, &views[actor].seen);
    }
}

static void
lower(struct view *view, unsigned place, unsigned by)
{
    view->at[place] = (unsigned char)(view->at[place] > by ? view->at[place] - by : 0);
}

static void
forget(unsigned place, unsigned by)
{
    struct location *loc = &locations[place];

    loc->n -= by;
    memmove(&loc->message[0], &loc->message[by], loc->n * sizeof loc->message[0]);
    for (unsigned a = 0; a < actor_count; a++) {
        lower(&views[a].seen, place, by);
        lower(&views[a].acquired, place, by);
        lower(&views[a].released, place, by);
    }
    lower(&sc_view, place, by);
    for (unsigned i = 0; i < n_places; i++) {
        for (unsigned m = 0; m < locations[i].n; m++) {
            lower(&locations[i].message[m].view, place, by);
        }
    }
}

void
ilv_mem_settle(const bool *live)
{
    for (unsigned place = 0; place < n_places; place++) {
        unsigned oldest = locations[place].n - 1;

        for (unsigned a = 0; a < actor_count; a++) {
            if (live[a] && views[a].seen.at[place] < oldest) {
                oldest = views[a].seen.at[place];
            }
        }
        if (oldest > 0) {
            forget(place, oldest);
        }
    }
}

/*
 * Saved form: only what differs from "one value, seen by all". Per such location its number, its
 * count and values; then per location the views of it that are not zero. Locations that are first
 * touched later in the search are thereby equal to themselves untouched.
 */
struct saved_view {
    unsigned char place, whose, message, at;
    unsigned char zero[4];
};

static void
save_view(struct ilv_buf *buf, const struct view *view, unsigned whose, unsigned message)
{
    for (unsigned i = 0; i < n_places; i++) {
        if (view->at[i] > 0) {
            const struct saved_view saved = {
                (unsigned char)i, (unsigned char)whose, (unsigned char)message, view->at[i], { 0 }
            };

            ilv_buf_add(buf, &saved, sizeof saved);
        }
    }
}

enum { WHOSE_ACTORS = 0, WHOSE_SC = 3 * ILV_ACTORS, WHOSE_LOCATIONS = WHOSE_SC + 1 };

void
ilv_mem_save(struct ilv_buf *buf)
{
    uint64_t counts[ILV_LOCS / 8] = { 0 };

    _Static_assert(ILV_LOCS % 8 == 0, "counts fill words");
    if (model == ILV_SC) {
        return;
    }
    for (unsigned i = 0; i < n_places; i++) {
        counts[i / 8] |= (uint64_t)(locations[i].n - 1) << (8 * (i % 8));
    }
    ilv_buf_add(buf, counts, sizeof counts);
    for (unsigned i = 0; i < n_places; i++) {
        for (unsigned m = 0; m + 1 < locations[i].n; m++) {
            ilv_buf_add(buf, &locations[i].message[m].value, 8);
        }
    }
    for (unsigned a = 0; a < actor_count; a++) {
        save_view(buf, &views[a].seen, 3 * a, 0);
        save_view(buf, &views[a].acquired, 3 * a + 1, 0);
        save_view(buf, &views[a].released, 3 * a + 2, 0);
    }
    save_view(buf, &sc_view, WHOSE_SC, 0);
    for (unsigned i = 0; i < n_places; i++) {
        for (unsigned m = 0; m < locations[i].n; m++) {
            save_view(buf, &locations[i].message[m].view, WHOSE_LOCATIONS + i, m);
        }
    }
    const uint64_t end = UINT64_MAX;

    ilv_buf_add(buf, &end, sizeof end);
}

static struct view *
view_of(const struct saved_view *saved)
{
    if (saved->whose < WHOSE_SC) {
        struct actor_view *actor = &views[saved->whose / 3];

        switch (saved->whose % 3) {
        case 0:
            return &actor->seen;
        case 1:
            return &actor->acquired;
        default:
            return &actor->released;
        }
    }
    if (saved->whose == WHOSE_SC) {
        return &sc_view;
    }
    return &locations[saved->whose - WHOSE_LOCATIONS].message[saved->message].view;
}

void
ilv_mem_restore(const unsigned char *bytes)
{
    uint64_t counts[ILV_LOCS / 8];

    if (model == ILV_SC) {
        return;
    }
    memset(views, 0, sizeof views);
    memset(&sc_view, 0, sizeof sc_view);
    memcpy(counts, bytes, sizeof counts);
    bytes += sizeof counts;
    for (unsigned i = 0; i < n_places; i++) {
        struct location *loc = &locations[i];

        loc->n = 1 + (unsigned)(counts[i / 8] >> (8 * (i % 8)) & 0xff);
        for (unsigned m = 0; m < loc->n; m++) {
            memset(&loc->message[m].view, 0, sizeof loc->message[m].view);
            if (m + 1 < loc->n) {
                memcpy(&loc->message[m].value, bytes, 8);
                bytes += 8;
            }
        }
        loc->message[loc->n - 1].value = ilv_mem_raw(places[i].addr, places[i].size);
    }
    for (;; bytes += sizeof(struct saved_view)) {
        struct saved_view saved;
        uint64_t word;

        memcpy(&word, bytes, sizeof word);
        if (word == UINT64_MAX) {
            return;
        }
        memcpy(&saved, bytes, sizeof saved);
        view_of(&saved)->at[saved.place] = saved.at;
    }
}
