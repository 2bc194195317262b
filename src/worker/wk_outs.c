/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes between the program, the ownership machine and the rest: handles that are released,
 * also while another thread holds the lock, and the machine's outs.
 */
#include <stdlib.h>
#include <string.h>

#include "os/os_basic.h"
#include "worker/wk_lineage.h"
#include "worker/wk_priv.h"
#include "worker/wk_task.h"

/* ---- releases: handles dropped while another thread held the lock ---- */

struct wk_release {
    struct wk_release *next;
    struct own_ref *ref;
};

/* Keeps the thread's error: it is that of the call that ends here. */
void
wk_drain_releases(void)
{
    const struct st_error kept = *st_last();
    struct wk_release *list = atom_ptr_exchange(&wk.releases, NULL, ATOM_ACQ_REL);
    while (list) {
        struct wk_release *next = list->next;
        if (wk.running && !wk_ref_is_stale(list->ref)) {
            struct wk_outs o;
            own_local_drop(&wk.own, list->ref, wk_outs_begin(&o));
            wk_outs_end(&o);
        }
        free(list);
        list = next;
    }
    *st_last() = kept;
}

void
wk_flush_releases(void)
{
    if (atom_ptr_load(&wk.releases, ATOM_ACQUIRE)) {
        wk_drain_releases();
    }
}

enum { STALE_KIND = 0xff };

bool
wk_ref_is_stale(const struct own_ref *ref)
{
    return ref->kind == STALE_KIND;
}

static void
make_stale(void *ctx, const struct own_ref *ref)
{
    bool *any = ctx;
    struct own_ref *writable;
    memcpy(&writable, &ref, sizeof(ref));
    if (__atomic_load_n(&ref->local, __ATOMIC_RELAXED) > 0) {
        *any = true;
    }
    if (ref->value && !(ref->kind == OWN_OWNED && wk_id_is_actor(&ref->id))) {
        ray_value_release(wk_ref_value(ref));
    }
    writable->value = 0;
    writable->kind = STALE_KIND;
}

/* Ends the ownership machine and gives its values up. Handles that the program still has point into
 * the machine's slab: then that stays, buried here, and they are marked. */
void
wk_own_end(void)
{
    static struct buried {
        struct buried *next;
        struct slab slab;
    } * graveyard;
    bool any = false;
    own_walk(&wk.own, make_stale, &any);
    struct buried *grave = any ? malloc(sizeof(*grave)) : NULL;
    if (grave) {
        *grave = (struct buried){ .next = graveyard, .slab = wk.own.ref_slab };
        graveyard = grave;
    }
    if (any) {
        slab_init(&wk.own.ref_slab, wk.mem, sizeof(struct own_ref));
    }
    own_fini(&wk.own);
}

RAY_API void
ray_ref_release(ray_ref *handle)
{
    struct own_ref *ref = (struct own_ref *)handle;
    if (!ref || wk.forked || wk_ref_is_stale(ref) || own_local_try_drop(ref)) {
        return;
    }
    if (pthread_mutex_trylock(&wk.lock) == 0) {
        if (wk.running && !wk_ref_is_stale(ref)) {
            struct wk_outs o;
            own_local_drop(&wk.own, ref, wk_outs_begin(&o));
            wk_outs_end(&o);
        }
        wk_unlock();
        return;
    }
    struct wk_release *node = malloc(sizeof(*node));
    if (!node) {
        return; /* the handle leaks rather than anything else */
    }
    node->ref = ref;
    void *head = atom_ptr_load(&wk.releases, ATOM_RELAXED);
    do {
        node->next = head;
    } while (!atom_ptr_cas(&wk.releases, &head, node));
    /* Whoever held the lock looks at the list after giving it up; if that was just before the node
     * went in, the lock is free now. */
    if (pthread_mutex_trylock(&wk.lock) == 0) {
        wk_unlock();
    }
}

/* ---- outs of the ownership machine ---- */

struct step_outs *
wk_outs_begin(struct wk_outs *o)
{
    wk.out_depth++;
    o->outs = (struct step_outs){ .v = o->v, .capacity = WK_OUTS, .arena = &wk.out_arena };
    return &o->outs;
}

static void
forget_number(uint32_t number)
{
    struct wk_peer *peer = pages_get(&wk.peer_by_proc, number);
    if (!peer) {
        return;
    }
    peer->proc = UINT32_MAX;
    pages_clear(&wk.peer_by_proc, number);
    if (peer->announced) {
        list_remove(&peer->gone);
        list_push_back(&wk.gone_peers, &peer->gone);
    }
}

static void
carry_out(const struct step_out *out)
{
    if (out->kind <= OWN_MSG_LAST) {
        wk_peer_send_own(out);
        return;
    }
    switch ((enum own_out_kind)out->kind) {
    case OWN_OUT_READY: {
        struct own_ref *ref;
        memcpy(&ref, &out->msg, sizeof(ref));
        wk_on_ref_ready(ref, out->payload);
        break;
    }
    case OWN_OUT_DROP:
        wk_value_drop(out->payload, out->when_ns);
        if (out->peer != 0) {
            wk_lineage_release(out->peer);
        }
        break;
    case OWN_OUT_REMAKE: {
        struct own_ref *ref;
        memcpy(&ref, &out->msg, sizeof(ref));
        wk_lineage_remake(out->payload, ref);
        break;
    }
    case OWN_OUT_TIMER:
        (void)!net_loop_arm(wk.loop, &wk.own_timer, out->when_ns);
        break;
    case OWN_OUT_PROC_GONE:
        forget_number((uint32_t)out->peer);
        break;
    }
}

void
wk_outs_end(struct wk_outs *o)
{
    for (;;) {
        for (uint32_t i = 0; i < o->outs.count; i++) {
            carry_out(&o->v[i]);
        }
        if (!o->outs.more) {
            break;
        }
        o->outs.count = 0;
        o->outs.more = false;
        const struct step_in in = { .kind = STEP_CONTINUE, .now_ns = wk_now() };
        if (own_step(&wk.own, &in, &o->outs) != ST_OK) {
            break; /* out of memory: the machine goes on at its next step */
        }
    }
    if (--wk.out_depth == 0) {
        arena_reset(&wk.out_arena);
    }
}
