/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model of seals: a creator fills an object, seals it and sends its hint to the owner; the raylet
 * adopts at leisure; creator and owner may be killed before any of their steps. Whatever happens,
 * the owner never holds what isn't there, and in the end nothing is left in the store.
 */
#include "ilv.h"

#include "store/store_words.h"

enum { CREATOR, OWNER, RAYLET };

#define VALUE UINT64_C(0x1234)

struct seal_state {
    struct store_row row;
    struct store_seal seal;
    struct atom_u32 pages; /* the owner's pins */
    struct atom_u64 pins[1];
    unsigned char data[8];
    struct atom_u32 reply;    /* creator to owner: 1, the frame with the hint */
    struct atom_u32 notice;   /* raylet to owner: the death, listing the slot or not */
    struct atom_u32 free_it;  /* owner to raylet */
    struct atom_u32 returned; /* creator to raylet: it has done with its grant */
    /* The raylet's shadow. */
    bool adopted, freed, owner_dead, creator_ended, free_done, found;
    /* The owner's. */
    bool named; /* a reply told it of the object */
};

enum { NOTICE_UNSEALED = 1, NOTICE_LISTED = 2 };

static const struct store_hint hint = {
    .generation = 1, .offset = 64, .size = 8, .slot = 0, .epoch = 1
};
static const struct store_sealed object = { .offset = 64, .size = 8, .what = { .attempt = 3 } };
static const struct id_worker creator;

static void
setup(void *state)
{
    struct seal_state *s = state;
    store_row_grant(&s->row, 1, 0, 4096, &creator);
    s->seal.offset.raw = 7; /* left by the entry's last use */
    s->seal.commit.raw = store_name_word(5, 9);
    ilv_name(&s->row.word, 8, "row.word");
    ilv_name(&s->row.bounds_offset, 120, "row.fields");
    ilv_name(&s->seal.commit, 8, "seal.commit");
    ilv_name(&s->seal.offset, 120, "seal.fields");
    ilv_name(&s->pins, 8, "pin");
    ilv_name(&s->pages, 4, "pin_pages");
    ilv_name(s->data, 8, "data");
    ilv_name(&s->reply, 4, "reply");
    ilv_name(&s->notice, 4, "notice");
    ilv_name(&s->free_it, 4, "free_it");
    ilv_name(&s->returned, 4, "returned");
}

static struct store_pins
pins_of(struct seal_state *s)
{
    return (struct store_pins){ &s->pages, s->pins, 1, 1 };
}

/* ---- the creator ---- */

static void
create(void *state)
{
    struct seal_state *s = state;
    const uint64_t value = VALUE;
    atom_copy_in(s->data, &value, sizeof(value));
    store_seal_write(&s->seal, hint.slot, hint.generation, &object);
    atom_u32_store(&s->reply, 1, ATOM_RELEASE); /* the ring's tail */
    atom_u32_store(&s->returned, 1, ATOM_RELEASE);
}

/* ---- the owner ---- */

/* A reply names the object: the hint is the proof that it was sealed, adopted or not. */
static void
process_reply(struct seal_state *s)
{
    const struct store_pins pins = pins_of(s);
    uint64_t value = 0;
    store_pin_publish(&pins, 0, store_name_word(hint.slot, hint.generation));
    ilv_expect(store_pin_check(&s->row, &hint) == STORE_PIN_OK, "a sealed object is refused");
    atom_copy_out(&value, s->data, sizeof(value));
    ilv_expect(value == VALUE, "the object isn't whole");
    store_pin_clear(&pins, 0);
    s->named = true;
}

static bool
reply_or_notice(const void *state)
{
    const struct seal_state *s = state;
    return s->reply.raw != 0 || s->notice.raw != 0;
}

static void
own(void *state)
{
    struct seal_state *s = state;
    uint32_t notice = 0;
    uint32_t reply = 0;
    ilv_block(reply_or_notice, "a reply or the creator's death");
    while (notice == 0 && reply == 0) {
        notice = atom_u32_load(&s->notice, ATOM_ACQUIRE);
        if (ilv_rule("store_drain_before_act") || notice == 0) {
            reply = atom_u32_load(&s->reply, ATOM_ACQUIRE);
        }
    }
    if (reply) {
        process_reply(s);
    }
    /* The list is compared by slot and generation. By object id, the reply of a second attempt,
     * which came from elsewhere, would stand for this slot too. */
    const bool known = ilv_rule("store_list_by_slot") ? s->named : true;
    const bool listed_unknown = notice == NOTICE_LISTED && !known;
    if (s->named || listed_unknown) {
        atom_u32_store(&s->free_it, 1, ATOM_RELEASE); /* its references are gone at once */
    }
    if (!ilv_rule("store_drain_before_act") && notice != 0 &&
        atom_u32_load(&s->reply, ATOM_ACQUIRE)) {
        process_reply(s);
    }
}

/* ---- the raylet ---- */

static bool
on_pin(void *ctx, uint64_t name)
{
    struct seal_state *s = ctx;
    s->found = s->found || name == store_name_word(hint.slot, hint.generation);
    return true;
}

static bool
unpinned(const void *state)
{
    return ((const struct seal_state *)state)->pins[0].raw == 0 || ilv_dead_now(OWNER);
}

static void
free_object(struct seal_state *s)
{
    const struct store_pins pins = pins_of(s);
    ilv_expect(!s->freed, "freed twice");
    store_row_dying(&s->row, 1);
    do {
        s->found = false;
        store_scan_fence();
        if (!s->owner_dead) {
            store_scan_pins(&pins, on_pin, s);
        }
        if (s->found) {
            ilv_block(unpinned, "the pin to go");
            s->owner_dead = s->owner_dead || ilv_is_dead(OWNER);
        }
    } while (s->found);
    store_row_free(&s->row, 1);
    s->freed = true;
}

static void
adopt(struct seal_state *s)
{
    struct store_sealed got;
    if (s->adopted || s->freed || !store_seal_read(&s->seal, hint.slot, hint.generation, &got)) {
        return;
    }
    ilv_expect(got.offset == object.offset && got.size == object.size &&
                   got.what.attempt == object.what.attempt,
               "the seal isn't whole");
    store_row_seal(&s->row, 1, &got);
    s->adopted = true;
    if (s->owner_dead && ilv_rule("store_adopt_for_dead_frees")) {
        free_object(s);
    }
}

static void
on_creator_dead(struct seal_state *s)
{
    if (ilv_rule("store_adopt_before_drop")) {
        adopt(s);
    }
    atom_u32_store(&s->notice, s->adopted ? NOTICE_LISTED : NOTICE_UNSEALED, ATOM_RELEASE);
    if (!s->adopted && !s->freed) { /* the page is dropped: only unsealed space goes */
        store_row_free(&s->row, 1);
        s->freed = true;
    }
}

static void
on_free(struct seal_state *s)
{
    if (ilv_rule("store_adopt_at_free")) {
        adopt(s);
    }
    ilv_expect(s->adopted, "the owner frees an object that the raylet doesn't know");
    if (!s->freed) {
        free_object(s);
    }
}

static bool
event(const void *state)
{
    const struct seal_state *s = state;
    return (!s->creator_ended && (ilv_dead_now(CREATOR) || s->returned.raw != 0)) ||
           (!s->free_done && s->free_it.raw != 0) || (!s->owner_dead && ilv_dead_now(OWNER)) ||
           (s->creator_ended && (s->owner_dead || ilv_done_now(OWNER)));
}

static void
serve(void *state)
{
    struct seal_state *s = state;
    adopt(s); /* at leisure */
    for (;;) {
        ilv_block(event, "a death, a free, or the end");
        if (!s->free_done && atom_u32_load(&s->free_it, ATOM_ACQUIRE)) {
            s->free_done = true;
            on_free(s);
        } else if (!s->owner_dead && ilv_is_dead(OWNER)) {
            adopt(s);
            s->owner_dead = true;
            if (s->adopted && !s->freed) {
                free_object(s);
            }
        } else if (!s->creator_ended && ilv_is_dead(CREATOR)) {
            s->creator_ended = true;
            on_creator_dead(s);
        } else if (!s->creator_ended && atom_u32_load(&s->returned, ATOM_ACQUIRE)) {
            s->creator_ended = true;
            adopt(s);
        } else if (s->creator_ended &&
                   (s->owner_dead || (ilv_done_now(OWNER) && (s->free_done || !s->free_it.raw)))) {
            return;
        }
    }
}

static void
finish(const void *state)
{
    const struct seal_state *s = state;
    ilv_expect(s->freed, "the object stays in the store for ever");
}

static const struct ilv_model seal = {
    .name = "store-seal",
    .about = "seal, reply, adoption, free; creator and owner are killed before any of their steps",
    .state_size = sizeof(struct seal_state),
    .actors = { { .name = "creator", .run = create, .may_die = true },
                { .name = "owner", .run = own, .may_die = true },
                { .name = "raylet", .run = serve } },
    .n_actors = 3,
    .max_kills = 2,
    .setup = setup,
    .finish = finish,
    .rules = { { "store_commit_last", "a half-written entry would be adopted" },
               { "store_commit_release", "the fields may become visible after the commit word" },
               { "store_adopt_acquire", "the fields may be read before the commit word" },
               { "store_accept_granted", "a hint that overtakes adoption would be refused" },
               { "store_adopt_before_drop",
                 "what a dead creator sealed would be freed as unsealed" },
               { "store_adopt_at_free", "a free that overtakes adoption would find nothing" },
               { "store_adopt_for_dead_frees", "what is adopted for a dead owner would stay" },
               { "store_drain_before_act", "a reply in the ring would name a freed object" },
               { "store_list_by_slot", "the slot of a lost attempt would stay" } },
};

int
main(int argc, char **argv)
{
    static const struct ilv_model *const models[] = { &seal };
    return ilv_main(argc, argv, models, sizeof(models) / sizeof(models[0]));
}
