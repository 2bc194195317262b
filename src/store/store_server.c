/* SPDX-License-Identifier: Apache-2.0 */
/* The server as a whole: creation, end, housekeeping, numbers. */
#include "store/store_server.h"

#include "base/status.h"
#include "store/store_priv.h"

#define RETRY_FIRST_NS  UINT64_C(1000000)    /* 1 ms */
#define RETRY_MOST_NS   UINT64_C(1000000000) /* 1 s: a view may be held for hours */
#define IDLE_DEFAULT_NS UINT64_C(2000000000)

uint32_t
store_slots_for(uint64_t capacity)
{
    enum { LEAST = 4096, BYTES_EACH = 16 * 1024 };
    const uint64_t n = capacity / BYTES_EACH;
    return n < LEAST ? LEAST : n > STORE_SLOT_MAX ? STORE_SLOT_MAX : (uint32_t)n;
}

static bool
is_warm(const void *ctx, uint64_t offset)
{
    const struct store *store = ctx;
    return store_chunks_is_warm(&store->chunks, offset);
}

static void
init_tables(struct store *store)
{
    const struct mem *mem = store->config.mem;
    map_init(&store->procs, mem);
    map_init(&store->procs_by_worker, mem);
    map_init(&store->holds, mem);
    map_init(&store->holders, mem);
    map_init(&store->ids, mem);
    slab_init(&store->proc_slab, mem, sizeof(struct store_proc));
    slab_init(&store->hold_slab, mem, sizeof(struct store_hold));
    slab_init(&store->holder_slab, mem, sizeof(struct store_holder));
    list_init(&store->proc_list);
    list_init(&store->dead_holders);
    list_init(&store->dying_fresh);
    list_init(&store->dying_pinned);
    store->free_slot = STORE_NO_SLOT;
    store->slots_free = store->config.slot_count;
    store->retry_after_ns = RETRY_FIRST_NS;
}

int
store_create(const struct store_config *config, struct store **out)
{
    *out = NULL;
    if (config->capacity == 0 || config->capacity % STORE_CHUNK != 0 || config->slot_count == 0 ||
        config->slot_count > STORE_SLOT_MAX || config->epoch == 0) {
        return st_fail(ST_INVALID_ARGUMENT, "an object store of %llu bytes and %u slots",
                       (unsigned long long)config->capacity, config->slot_count);
    }
    int status = st_fail(ST_OUT_OF_MEMORY, "no memory for the object store's tables");
    struct store *store = mem_alloc(config->mem, sizeof(*store));
    if (!store) {
        return status;
    }
    *store = (struct store){ .config = *config };
    if (store->config.idle_ns == 0) {
        store->config.idle_ns = IDLE_DEFAULT_NS;
    }
    init_tables(store);
    const uint32_t blocks = (config->slot_count + STORE_SLOT_BLOCK - 1) / STORE_SLOT_BLOCK;
    store->blocks = mem_alloc(config->mem, blocks * sizeof(struct store_slot *));
    if (!store->blocks) {
        goto free_store;
    }
    for (uint32_t i = 0; i < blocks; i++) {
        store->blocks[i] = NULL;
    }
    status =
        store_chunks_init(&store->chunks, config->mem, &store->config.backing, config->capacity);
    if (status != ST_OK) {
        goto free_blocks;
    }
    status = store_space_init(&store->space, config->mem, config->capacity, is_warm, store);
    if (status != ST_OK) {
        goto fini_chunks;
    }
    *out = store;
    return ST_OK;

fini_chunks:
    store_chunks_fini(&store->chunks);
free_blocks:
    store_slots_fini(store);
free_store:
    mem_free(config->mem, store, sizeof(*store));
    return status;
}

void
store_destroy(struct store **pointer)
{
    struct store *store = *pointer;
    if (!store) {
        return;
    }
    LIST_FOR (link, &store->proc_list) {
        const struct store_proc *proc = LIST_ENTRY(link, struct store_proc, all);
        store->config.backing.ctl_close(store->config.backing.ctx, proc->number, &proc->ctl);
    }
    store_holders_fini(store);
    map_fini(&store->procs);
    map_fini(&store->procs_by_worker);
    map_fini(&store->holds);
    map_fini(&store->ids);
    slab_fini(&store->proc_slab);
    slab_fini(&store->hold_slab);
    store_space_fini(&store->space);
    store_chunks_fini(&store->chunks);
    store_slots_fini(store);
    mem_free(store->config.mem, store, sizeof(*store));
    *pointer = NULL;
}

/* Looks again at what was pinned, ever less often while nothing changes. */
static uint64_t
scan_work(struct store *store, uint64_t now_ns)
{
    store_scan(store, false);
    if (list_is_empty(&store->dying_pinned)) {
        store->pinned_anew = store->pins_dropped = false;
        return UINT64_MAX;
    }
    if (store->pinned_anew) {
        store->pinned_anew = false;
        store->retry_after_ns = RETRY_FIRST_NS;
        store->retry_at_ns = now_ns + RETRY_FIRST_NS;
    }
    if (store->pins_dropped || now_ns >= store->retry_at_ns) {
        const uint64_t before = store->counts.dying;
        store->pins_dropped = false;
        store_scan(store, true);
        const uint64_t doubled = store->retry_after_ns * 2;
        store->retry_after_ns = store->counts.dying < before ? RETRY_FIRST_NS
                                : doubled < RETRY_MOST_NS    ? doubled
                                                             : RETRY_MOST_NS;
        store->retry_at_ns = now_ns + store->retry_after_ns;
    }
    return list_is_empty(&store->dying_pinned) ? UINT64_MAX : store->retry_at_ns;
}

uint64_t
store_work(struct store *store, uint64_t now_ns)
{
    const uint64_t scan_at = scan_work(store, now_ns);
    const uint64_t chunks_at = store_chunks_work(&store->chunks, now_ns, store->config.idle_ns);
    return scan_at < chunks_at ? scan_at : chunks_at;
}

void
store_stats(const struct store *store, struct store_stats *out)
{
    *out = store->counts;
    out->capacity = store->config.capacity;
    out->used = store->space.used;
    out->resident_max = store->chunks.touched * STORE_CHUNK;
    out->slots_free = store->slots_free;
}

uint64_t
store_freed_count(const struct store *store)
{
    return store->counts.freed;
}
