/* SPDX-License-Identifier: Apache-2.0 */
/* Who owns what: accounting, the memory of dead owners, and the text of a full store. */
#include "base/status.h"
#include "store/store_priv.h"

#include <string.h>

static uint64_t
hash_of(const struct id_worker *worker)
{
    return id_hash(worker->b, sizeof(worker->b));
}

struct store_holder *
store_holder_find(const struct store *store, const struct id_worker *worker)
{
    struct map_link *link = NULL;
    MAP_FOR_HASH (link, &store->holders, hash_of(worker)) {
        struct store_holder *holder = CONTAINER_OF(link, struct store_holder, link);
        if (ID_EQ(holder->worker, *worker)) {
            return holder;
        }
    }
    return NULL;
}

struct store_holder *
store_holder_get(struct store *store, const struct id_worker *worker)
{
    struct store_holder *holder = store_holder_find(store, worker);
    if (holder) {
        return holder;
    }
    holder = slab_take(&store->holder_slab);
    if (!holder) {
        return NULL;
    }
    *holder = (struct store_holder){ .worker = *worker };
    list_init(&holder->slots);
    list_init(&holder->dead_link);
    if (map_insert(&store->holders, &holder->link, hash_of(worker)) != ST_OK) {
        slab_give(&store->holder_slab, holder);
        return NULL;
    }
    return holder;
}

static void
holder_delete(struct store *store, struct store_holder *holder)
{
    ASSERT(list_is_empty(&holder->slots));
    map_remove(&store->holders, &holder->link);
    slab_give(&store->holder_slab, holder);
}

void
store_holder_add(struct store *store, struct store_holder *holder, struct store_slot *slot)
{
    slot->holder = holder;
    list_push_back(&holder->slots, &slot->by_owner);
    holder->bytes += slot->size;
    holder->objects++;
    store->counts.objects++;
    store->counts.sealed_bytes += slot->size;
}

void
store_holder_remove(struct store *store, struct store_slot *slot)
{
    struct store_holder *holder = slot->holder;
    ASSERT(holder && holder->objects > 0 && holder->bytes >= slot->size);
    list_remove(&slot->by_owner);
    slot->holder = NULL;
    holder->bytes -= slot->size;
    holder->objects--;
    store->counts.objects--;
    store->counts.sealed_bytes -= slot->size;
    if (holder->objects == 0 && !holder->dead) {
        holder_delete(store, holder);
    }
}

void
store_on_owner_dead(struct store *store, const struct id_worker *owner)
{
    store_adopt_all(store);
    struct store_holder *holder = store_holder_get(store, owner);
    ASSERT(holder); /* a few bytes: without them the raylet can't go on */
    if (!holder->dead) {
        holder->dead = true;
        list_push_back(&store->dead_holders, &holder->dead_link);
        store->dead_count++;
    }
    struct list *link = NULL;
    while ((link = list_first(&holder->slots)) != NULL) {
        store_begin_free(store, LIST_ENTRY(link, struct store_slot, by_owner));
    }
    if (store->dead_count > STORE_DEAD_MAX) {
        struct list *oldest = list_pop_front(&store->dead_holders);
        ASSERT(oldest);
        store->dead_count--;
        holder_delete(store, LIST_ENTRY(oldest, struct store_holder, dead_link));
    }
}

void
store_holders_fini(struct store *store)
{
    map_fini(&store->holders);
    slab_fini(&store->holder_slab);
}

static void
append_size(struct str *out, uint64_t bytes)
{
    const double mib = (double)bytes / (1024.0 * 1024.0);
    if (mib >= 1024.0) {
        str_printf(out, "%.1f GiB", mib / 1024.0);
    } else {
        str_printf(out, "%.1f MiB", mib);
    }
}

static void
describe_holder(const struct store *store, const struct store_holder *holder, struct str *out)
{
    const struct store_proc *proc = store_proc_of_worker(store, &holder->worker);
    char hex[ID_HEX_MAX];
    str_printf(out, "\n  ");
    append_size(out, holder->bytes);
    str_printf(out, " in %llu object%s owned by ", (unsigned long long)holder->objects,
               holder->objects == 1 ? "" : "s");
    if (proc) {
        struct store_status_copy status;
        str_printf(out, "%s pid=%d", proc->label, proc->pid);
        if (store_proc_status_of(proc, &status) && status.name[0]) {
            str_printf(out, " (in %s)", status.name);
        }
    } else {
        str_printf(out, "worker %.12s of another node", ID_HEX(holder->worker, hex));
    }
}

static void
describe_unsealed(const struct store *store, struct str *out)
{
    const struct store_proc *most = NULL;
    LIST_FOR (link, &store->proc_list) {
        const struct store_proc *proc = LIST_ENTRY(link, struct store_proc, all);
        if (proc->hold_bytes > 0 && (!most || proc->hold_bytes > most->hold_bytes)) {
            most = proc;
        }
    }
    if (most) {
        str_printf(out, "\n  ");
        append_size(out, store->counts.grant_bytes);
        str_printf(out, " being written, most of it (");
        append_size(out, most->hold_bytes);
        str_printf(out, ") by %s pid=%d", most->label, most->pid);
    }
}

void
store_describe_holders(const struct store *store, unsigned n, struct str *out)
{
    enum { TOP_MAX = 16 };
    const struct store_holder *top[TOP_MAX];
    unsigned count = 0;
    n = n > TOP_MAX ? TOP_MAX : n;
    struct map_walk walk;
    struct map_link *link = NULL;
    map_walk_init(&walk);
    while ((link = map_walk_next(&store->holders, &walk)) != NULL) {
        const struct store_holder *holder = CONTAINER_OF(link, struct store_holder, link);
        if (holder->bytes == 0) {
            continue;
        }
        unsigned at = count;
        while (at > 0 && top[at - 1]->bytes < holder->bytes) {
            at--;
        }
        if (at < n) {
            count += count < n ? 1 : 0;
            memmove(&top[at + 1], &top[at], (count - at - 1) * sizeof(top[0]));
            top[at] = holder;
        }
    }
    for (unsigned i = 0; i < count; i++) {
        describe_holder(store, top[i], out);
    }
    if (store->counts.dying_bytes > 0) {
        str_printf(out, "\n  ");
        append_size(out, store->counts.dying_bytes);
        str_printf(out, " freed by their owners but still read by some process");
    }
    describe_unsealed(store, out);
}
