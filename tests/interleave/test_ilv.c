/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checker's own test: small programs whose outcomes are known. Each outcome that a memory model
 * allows must be found and each that it forbids must not, else nothing else here proves anything.
 */
#include "ilv.h"

#include <stdio.h>
#include <stdlib.h>

struct litmus {
    struct atom_u32 x, y, z;
    _Alignas(8) unsigned char bytes[8];
    uint32_t r[4];
};

static bool fenced, ordered; /* constants of one search */
static struct ilv_result result;
static int failures;

static void
setup(void *state)
{
    struct litmus *s = state;

    ilv_name(&s->x, sizeof s->x, "x");
    ilv_name(&s->y, sizeof s->y, "y");
    ilv_name(&s->z, sizeof s->z, "z");
}

static void
expect(const char *name, const struct ilv_model *model, enum ilv_memory memory, bool violated)
{
    ilv_search(model, memory, NULL, &result);
    if (result.violated != violated || result.incomplete) {
        printf("FAILED %s: %s\n%s", name, result.violated ? result.text : "nothing found",
               result.trace);
        failures++;
    } else {
        printf("ok %s: %llu states, %g schedules\n", name, (unsigned long long)result.states,
               result.schedules);
    }
}

/* Store buffering: each stores its own word, then reads the other's. Both read 0? */
static void
sb(struct atom_u32 *mine, struct atom_u32 *theirs, uint32_t *r)
{
    atom_u32_store(mine, 1, ATOM_RELEASE);
    if (fenced) {
        atom_fence();
    }
    *r = atom_u32_load(theirs, ATOM_ACQUIRE);
}

static void
sb_0(void *state)
{
    struct litmus *s = state;

    sb(&s->x, &s->y, &s->r[0]);
}

static void
sb_1(void *state)
{
    struct litmus *s = state;

    sb(&s->y, &s->x, &s->r[1]);
}

static void
sb_end(const void *state)
{
    const struct litmus *s = state;

    ilv_expect(s->r[0] || s->r[1], "both read 0");
}

/* Message passing: data, then flag; who sees the flag must see the data. */
static void
mp_0(void *state)
{
    struct litmus *s = state;

    atom_u32_store(&s->x, 1, ATOM_RELAXED);
    atom_u32_store(&s->y, 1, ordered ? ATOM_RELEASE : ATOM_RELAXED);
}

static void
mp_1(void *state)
{
    struct litmus *s = state;

    if (atom_u32_load(&s->y, ATOM_ACQUIRE)) {
        ilv_expect(atom_u32_load(&s->x, ATOM_RELAXED) == 1, "flag without data");
    }
}

static void
mp_1_relaxed(void *state)
{
    struct litmus *s = state;

    if (atom_u32_load(&s->y, ATOM_RELAXED)) {
        if (fenced) {
            atom_fence();
        }
        ilv_expect(atom_u32_load(&s->x, ATOM_RELAXED) == 1, "flag without data");
    }
}

/* Coherence: nobody reads a newer value and then an older one of the same word. */
static void
co_0(void *state)
{
    struct litmus *s = state;

    atom_u32_store(&s->x, 1, ATOM_RELAXED);
    atom_u32_store(&s->x, 2, ATOM_RELAXED);
}

static void
co_1(void *state)
{
    struct litmus *s = state;
    const uint32_t a = atom_u32_load(&s->x, ATOM_RELAXED);

    ilv_expect(atom_u32_load(&s->x, ATOM_RELAXED) >= a, "went back in time");
}

/* Two increments by load and store lose one; by fetch_add never. */
static void
inc(void *state)
{
    struct litmus *s = state;

    if (fenced) {
        atom_u32_fetch_add(&s->x, 1, ATOM_RELAXED);
    } else {
        atom_u32_store(&s->x, atom_u32_load(&s->x, ATOM_RELAXED) + 1, ATOM_RELAXED);
    }
}

static void
inc_end(const void *state)
{
    const struct litmus *s = state;

    ilv_expect(s->x.raw == 3, "an increment was lost");
}

/* The release sequence: a read-modify-write between release and acquire keeps the hand-over. */
static void
rs_1(void *state)
{
    struct litmus *s = state;

    atom_u32_fetch_add(&s->y, 2, ATOM_RELAXED);
}

static void
rs_2(void *state)
{
    struct litmus *s = state;

    if (atom_u32_load(&s->y, ATOM_ACQUIRE) == 3) {
        ilv_expect(atom_u32_load(&s->x, ATOM_RELAXED) == 1, "flag without data");
    }
}

/* Compare-and-swap: exactly one of three wins. */
static void
cas(void *state)
{
    struct litmus *s = state;
    uint32_t expected = 0;

    if (atom_u32_cas(&s->x, &expected, 1)) {
        s->r[0]++;
    } else {
        ilv_expect(expected == 1, "failed on the expected value");
    }
}

static void
cas_end(const void *state)
{
    const struct litmus *s = state;

    ilv_expect(s->r[0] == 1, "not exactly one winner");
}

/* Bytes: handed over by z; the second writer must wait for the reader's word y. */
static void
bytes_0(void *state)
{
    struct litmus *s = state;
    const uint64_t one = 1, two = 2;

    atom_copy_in(s->bytes, &one, sizeof one);
    atom_u32_store(&s->z, 1, ordered ? ATOM_RELEASE : ATOM_RELAXED);
    while (!atom_u32_load(&s->y, fenced ? ATOM_ACQUIRE : ATOM_RELAXED)) {
    }
    atom_copy_in(s->bytes, &two, sizeof two);
}

static void
bytes_1(void *state)
{
    struct litmus *s = state;
    uint64_t seen;

    while (!atom_u32_load(&s->z, ATOM_ACQUIRE)) {
    }
    atom_copy_out(&seen, s->bytes, sizeof seen);
    ilv_expect(seen == 1, "not the bytes handed over");
    atom_u32_store(&s->y, 1, ATOM_RELEASE);
}

/* A sleeper and a kill: the sleeper wakes on the flag or on the death. */
static bool
awake(const void *state)
{
    const struct litmus *s = state;

    return s->x.raw || (ordered && ilv_dead_now(0));
}

static void
kill_0(void *state)
{
    struct litmus *s = state;

    atom_u32_store(&s->y, 1, ATOM_RELAXED);
    atom_u32_store(&s->x, 1, ATOM_RELEASE);
}

static void
kill_1(void *state)
{
    struct litmus *s = state;

    ilv_block(awake, "flag or death");
    if (!atom_u32_load(&s->x, ATOM_ACQUIRE)) {
        (void)ilv_is_dead(0);
    }
}

static void
wait_1(void *state)
{
    struct litmus *s = state;

    while (!atom_u32_load(&s->y, ATOM_ACQUIRE)) {
    }
    ilv_expect(atom_u32_load(&s->x, ATOM_RELAXED) == 1, "flag without data");
}

/* Counting: two actors of three steps each have 6!/(3!3!) = 20 schedules. */
static void
count(void *state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        ilv_pause("step");
    }
}

static struct ilv_model
model_of(void (*a)(void *), void (*b)(void *), void (*c)(void *), void (*finish)(const void *))
{
    struct ilv_model model = {
        .name = "litmus",
        .about = "known outcomes",
        .state_size = sizeof(struct litmus),
        .actors = { { .name = "a", .run = a },
                    { .name = "b", .run = b },
                    { .name = "c", .run = c } },
        .n_actors = c ? 3 : 2,
        .setup = setup,
        .finish = finish,
    };

    return model;
}

static void
test_orders(void)
{
    struct ilv_model m = model_of(sb_0, sb_1, NULL, sb_end);

    fenced = false;
    expect("store buffering, sc", &m, ILV_SC, false);
    expect("store buffering, weak", &m, ILV_WEAK, true);
    fenced = true;
    expect("store buffering with fences", &m, ILV_WEAK, false);

    m = model_of(mp_0, mp_1, NULL, NULL);
    ordered = false;
    expect("message passing, sc", &m, ILV_SC, false);
    expect("message passing, relaxed store", &m, ILV_WEAK, true);
    ordered = true;
    expect("message passing, release and acquire", &m, ILV_WEAK, false);
    m = model_of(mp_0, mp_1_relaxed, NULL, NULL);
    fenced = false;
    expect("message passing, relaxed load", &m, ILV_WEAK, true);
    fenced = true;
    expect("message passing, relaxed load and fence", &m, ILV_WEAK, false);
    m = model_of(mp_0, wait_1, NULL, NULL);
    expect("spinning", &m, ILV_WEAK, false);

    m = model_of(bytes_0, bytes_1, NULL, NULL);
    ordered = fenced = true;
    expect("bytes", &m, ILV_WEAK, false);
    ordered = false;
    expect("bytes, sc", &m, ILV_SC, false);
    expect("bytes published relaxed", &m, ILV_WEAK, true);
    ordered = true;
    fenced = false;
    expect("bytes taken back relaxed", &m, ILV_WEAK, true);

    m = model_of(co_0, co_1, NULL, NULL);
    expect("coherence", &m, ILV_WEAK, false);
    m = model_of(mp_0, rs_1, rs_2, NULL);
    expect("release sequence", &m, ILV_WEAK, false);
}

static void
test_atomicity(void)
{
    struct ilv_model m = model_of(inc, inc, inc, inc_end);

    fenced = false;
    expect("load and store", &m, ILV_SC, true);
    fenced = true;
    expect("fetch_add, sc", &m, ILV_SC, false);
    expect("fetch_add, weak", &m, ILV_WEAK, false);
    m = model_of(cas, cas, cas, cas_end);
    expect("compare-and-swap", &m, ILV_WEAK, false);
}

static void
test_kill(void)
{
    struct ilv_model m = model_of(kill_0, kill_1, NULL, NULL);

    ordered = false;
    expect("sleeper, no kill", &m, ILV_WEAK, false);
    m.actors[0].may_die = true;
    m.max_kills = 1;
    expect("sleeper, killed waker", &m, ILV_WEAK, true);
    ordered = true;
    expect("sleeper that hears of deaths", &m, ILV_WEAK, false);
}

static void
test_count(void)
{
    struct ilv_model m = model_of(count, count, NULL, NULL);

    expect("counting", &m, ILV_SC, false);
    if (result.schedules < 19.5 || result.schedules > 20.5 || result.states != 16) {
        printf("FAILED counting: %g schedules, %llu states\n", result.schedules,
               (unsigned long long)result.states);
        failures++;
    }
}

int
main(void)
{
    test_orders();
    test_atomicity();
    test_kill();
    test_count();
    return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}
