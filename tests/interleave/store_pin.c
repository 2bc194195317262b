/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Models of pins: an object is never freed under a reader, never stays for want of one, and a
 * reader never takes another object for its own. The steps are those of src/store/store_words.h.
 */
#include "ilv.h"

#include "store/store_words.h"

enum { READER, RAYLET };

#define OLD UINT64_C(0x1111) /* the object that the hint names */
#define NEW UINT64_C(0x2222) /* what the same memory holds in the slot's next life */

struct pin_state {
    struct store_row row;
    struct atom_u32 pages;
    struct atom_u64 pins[2];
    unsigned char data[8];
    uint32_t entry; /* that the reader uses */
    bool found;     /* by the last scan */
    bool freed;
    struct atom_u32 answer; /* the raylet's, to whoever asks: the eviction is over */
};

static const struct store_hint hint = {
    .generation = 1, .offset = 64, .size = 8, .slot = 0, .epoch = 1
};
static const struct store_sealed sealed = { .offset = 64, .size = 8 };
static const struct id_worker creator;

static struct store_pins
pins_of(struct pin_state *s)
{
    return (struct store_pins){ &s->pages, s->pins, 1, 2 };
}

static void
setup_entry(void *state, uint32_t entry)
{
    struct pin_state *s = state;
    const uint64_t value = OLD;
    s->entry = entry;
    store_row_grant(&s->row, 1, 0, 4096, &creator);
    store_row_seal(&s->row, 1, &sealed);
    memcpy(s->data, &value, sizeof(value));
    s->pages.raw = entry; /* pages before the reader's are in use */
    ilv_name(&s->row.word, 8, "row.word");
    ilv_name(&s->row.bounds_offset, 32, "row.bounds");
    ilv_name(&s->pages, 4, "pin_pages");
    ilv_name(s->pins, 16, "pins");
    ilv_name(s->data, 8, "data");
}

static void
setup_first(void *state)
{
    setup_entry(state, 0);
}

static void
setup_second(void *state)
{
    setup_entry(state, 1);
}

/* ---- the reader ---- */

static enum store_pin_verdict
pin_and_check(struct pin_state *s)
{
    const struct store_pins pins = pins_of(s);
    const uint64_t name = store_name_word(hint.slot, hint.generation);
    enum store_pin_verdict verdict = STORE_PIN_OK;
    if (ilv_rule("store_check_after_publish")) {
        store_pin_publish(&pins, s->entry, name);
        verdict = store_pin_check(&s->row, &hint);
    } else {
        verdict = store_pin_check(&s->row, &hint);
        store_pin_publish(&pins, s->entry, name);
    }
    return verdict;
}

static void
read_and_unpin(struct pin_state *s)
{
    const struct store_pins pins = pins_of(s);
    uint64_t value = 0;
    atom_copy_out(&value, s->data, sizeof(value));
    ilv_expect(value == OLD, "the reader sees another object");
    store_pin_clear(&pins, s->entry);
}

static void
read_once(void *state)
{
    struct pin_state *s = state;
    const struct store_pins pins = pins_of(s);
    const enum store_pin_verdict verdict = pin_and_check(s);
    ilv_expect(verdict != STORE_PIN_BOUNDS, "a good hint is called out of bounds");
    if (verdict == STORE_PIN_OK) {
        read_and_unpin(s);
    } else {
        store_pin_clear(&pins, s->entry);
    }
}

static bool
evicting_done(const void *state)
{
    return ((const struct pin_state *)state)->answer.raw != 0;
}

static void
read_until_told(void *state)
{
    struct pin_state *s = state;
    const struct store_pins pins = pins_of(s);
    enum store_pin_verdict verdict = pin_and_check(s);
    if (verdict == STORE_PIN_DYING) {
        store_pin_clear(&pins, s->entry);
        ilv_block(evicting_done, "the raylet's answer");
        while (!atom_u32_load(&s->answer, ATOM_ACQUIRE)) {
        }
        verdict = pin_and_check(s);
        ilv_expect(verdict == (s->freed ? STORE_PIN_GONE : STORE_PIN_OK),
                   "an object that stays can't be read any more");
    }
    if (verdict == STORE_PIN_OK) {
        read_and_unpin(s);
    } else {
        store_pin_clear(&pins, s->entry);
    }
}

/* ---- the raylet ---- */

static bool
on_pin(void *ctx, uint64_t name)
{
    struct pin_state *s = ctx;
    s->found = s->found || name == store_name_word(hint.slot, hint.generation);
    return true;
}

static void
scan(struct pin_state *s)
{
    const struct store_pins pins = pins_of(s);
    s->found = false;
    store_scan_fence();
    if (ilv_rule("store_scan_before_free")) {
        store_scan_pins(&pins, on_pin, s);
    }
}

/* Frees the object; the memory is granted anew and its creator writes another object there. */
static void
free_and_reuse(struct pin_state *s)
{
    const uint64_t value = NEW;
    store_row_free(&s->row, 1);
    s->freed = true;
    store_row_grant(&s->row, 2, 0, 4096, &creator);
    atom_copy_in(s->data, &value, sizeof(value));
    store_row_seal(&s->row, 2, &sealed);
}

static bool
unpinned(const void *state)
{
    const struct pin_state *s = state;
    return s->pins[s->entry].raw == 0 || ilv_dead_now(READER);
}

static void
free_object(void *state)
{
    struct pin_state *s = state;
    if (!ilv_rule("store_reuse_by_grant_only")) { /* the creator fills its region's gap itself */
        const uint64_t value = NEW;
        atom_copy_in(s->data, &value, sizeof(value));
    }
    store_row_dying(&s->row, 1);
    scan(s);
    while (s->found) {
        ilv_block(unpinned, "the pin to go");
        if (ilv_is_dead(READER)) {
            break; /* its page is dropped */
        }
        scan(s);
    }
    free_and_reuse(s);
}

static void
evict_object(void *state)
{
    struct pin_state *s = state;
    store_row_dying(&s->row, 1);
    scan(s);
    if (!s->found) {
        free_and_reuse(s);
    } else if (ilv_rule("store_evict_restores")) {
        store_row_restore(&s->row, 1);
    }
    atom_u32_store(&s->answer, 1, ATOM_RELEASE);
}

static void
finish(const void *state)
{
    const struct pin_state *s = state;
    ilv_expect(s->freed, "the object was never freed");
}

static const struct ilv_model pin_free = {
    .name = "store-pin-free",
    .about = "a reader pins while the object is freed and its memory used again; it may be killed",
    .state_size = sizeof(struct pin_state),
    .actors = { { .name = "reader", .run = read_once, .may_die = true },
                { .name = "raylet", .run = free_object } },
    .n_actors = 2,
    .max_kills = 1,
    .setup = setup_first,
    .finish = finish,
    .rules = { { "store_check_after_publish", "the row may die between the check and the pin" },
               { "store_pin_fence", "the check may be done before the pin is visible" },
               { "store_mark_dying", "a reader that comes after the scan isn't stopped" },
               { "store_scan_fence", "the scan may be done before DYING is visible" },
               { "store_scan_before_free", "pins that are there would not count" },
               { "store_check_state", "a reader would not notice DYING" },
               { "store_check_generation", "the next object in the slot would be taken for it" },
               { "store_reuse_by_grant_only", "a reader's check may have passed already" },
               { "store_clear_release", "the pin may go before the last read" } },
};

static const struct ilv_model pin_page = {
    .name = "store-pin-page",
    .about = "the same with the first pin of an extension page",
    .state_size = sizeof(struct pin_state),
    .actors = { { .name = "reader", .run = read_once, .may_die = true },
                { .name = "raylet", .run = free_object } },
    .n_actors = 2,
    .max_kills = 1,
    .setup = setup_second,
    .finish = finish,
    .rules = { { "store_page_before_pin", "the scan would not look at the new page" },
               { "store_scan_all_pages", "pins beyond the first page would not count" } },
};

static const struct ilv_model pin_evict = {
    .name = "store-pin-evict",
    .about = "a reader pins while the raylet tries to evict the object",
    .state_size = sizeof(struct pin_state),
    .actors = { { .name = "reader", .run = read_until_told },
                { .name = "raylet", .run = evict_object } },
    .n_actors = 2,
    .setup = setup_first,
    .rules = { { "store_evict_restores", "a row left DYING would fail every later reader" } },
};

int
main(int argc, char **argv)
{
    static const struct ilv_model *const models[] = { &pin_free, &pin_page, &pin_evict };
    return ilv_main(argc, argv, models, sizeof(models) / sizeof(models[0]));
}
