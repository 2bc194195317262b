/* SPDX-License-Identifier: Apache-2.0 */
/* Processes of the node: their control files, what they show, and their deaths. */
#include "base/flt.h"
#include "base/status.h"
#include "store/store_priv.h"

#include <string.h>

static uint64_t
hash_of_worker(const struct id_worker *worker)
{
    return id_hash(worker->b, sizeof(worker->b));
}

struct store_proc *
store_proc_find(const struct store *store, uint32_t number)
{
    struct map_link *link = NULL;
    MAP_FOR_HASH (link, &store->procs, id_mix64(number)) {
        struct store_proc *proc = CONTAINER_OF(link, struct store_proc, by_number);
        if (proc->number == number) {
            return proc;
        }
    }
    return NULL;
}

struct store_proc *
store_proc_of_worker(const struct store *store, const struct id_worker *worker)
{
    struct map_link *link = NULL;
    MAP_FOR_HASH (link, &store->procs_by_worker, hash_of_worker(worker)) {
        struct store_proc *proc = CONTAINER_OF(link, struct store_proc, by_worker);
        if (ID_EQ(proc->worker, *worker)) {
            return proc;
        }
    }
    return NULL;
}

static void
fill_raylet_half(const struct store *store, const struct store_proc *proc)
{
    struct store_ctl_raylet *half = proc->ctl.raylet;
    half->magic = STORE_CTL_MAGIC;
    half->version = STORE_LAYOUT_VERSION;
    half->store_epoch = store->config.epoch;
    half->proc = proc->number;
    half->data_size = store->config.capacity;
    half->slot_count = store->config.slot_count;
    half->raylet_pid = store->config.raylet_pid;
    half->pid = proc->pid;
}

static int
link_proc(struct store *store, struct store_proc *proc)
{
    if (map_insert(&store->procs, &proc->by_number, id_mix64(proc->number)) != ST_OK) {
        return ST_OUT_OF_MEMORY;
    }
    if (map_insert(&store->procs_by_worker, &proc->by_worker, hash_of_worker(&proc->worker)) !=
        ST_OK) {
        map_remove(&store->procs, &proc->by_number);
        return ST_OUT_OF_MEMORY;
    }
    list_push_back(&store->proc_list, &proc->all);
    return ST_OK;
}

int
store_proc_add(struct store *store, const struct id_worker *worker, int32_t pid, const char *label,
               uint32_t *number)
{
    int status = ST_OUT_OF_MEMORY;
    *number = 0;
    struct store_proc *proc = slab_take(&store->proc_slab);
    if (!proc) {
        return st_fail(status, "no memory for the record of a process");
    }
    *proc = (struct store_proc){ .worker = *worker, .pid = pid, .seals_free = STORE_SEALS };
    list_init(&proc->all);
    list_init(&proc->holds);
    list_init(&proc->created);
    for (unsigned i = 0; i < STORE_SEALS; i++) {
        proc->seals[i] = (uint16_t)(STORE_SEALS - 1 - i); /* the first entries are taken first */
    }
    const size_t length = strnlen(label, sizeof(proc->label) - 1);
    memcpy(proc->label, label, length);
    proc->number = store->last_proc + 1;
    status = store->config.backing.ctl_open(store->config.backing.ctx, proc->number, &proc->ctl);
    if (status != ST_OK) {
        goto give_proc;
    }
    fill_raylet_half(store, proc);
    status = link_proc(store, proc);
    if (status != ST_OK) {
        goto close_ctl;
    }
    store->last_proc++;
    *number = proc->number;
    return ST_OK;

close_ctl:
    store->config.backing.ctl_close(store->config.backing.ctx, proc->number, &proc->ctl);
give_proc:
    slab_give(&store->proc_slab, proc);
    return status;
}

struct store_ctl_raylet *
store_proc_raylet_half(struct store *store, uint32_t number)
{
    const struct store_proc *proc = store_proc_find(store, number);
    return proc ? proc->ctl.raylet : NULL;
}

struct store_ctl_process *
store_proc_process_half(struct store *store, uint32_t number)
{
    const struct store_proc *proc = store_proc_find(store, number);
    return proc ? proc->ctl.process : NULL;
}

void
store_proc_grant_lease(struct store *store, uint32_t number, const struct store_lease *lease)
{
    struct store_ctl_raylet *half = store_proc_raylet_half(store, number);
    ASSERT(half && lease->gpu_count <= STORE_GPUS_MAX);
    FAULT_STEP("lease.grant.before_fields");
    for (uint32_t i = 0; i < lease->gpu_count; i++) {
        atom_u32_store(&half->gpus[i], lease->gpus[i], ATOM_RELAXED);
        FAULT_STEP("lease.grant.after_gpu");
    }
    atom_u32_store(&half->gpu_count, lease->gpu_count, ATOM_RELAXED);
    FAULT_STEP("lease.grant.after_gpu_count");
    atom_u32_store(&half->omp_threads, lease->omp_threads, ATOM_RELAXED);
    FAULT_STEP("lease.grant.before_epoch");
    atom_u64_store(&half->lease_epoch, lease->epoch, ATOM_RELEASE);
    FAULT_STEP("lease.grant.after_epoch");
}

/* One try of the sequence lock. */
static bool
copy_status(const struct store_ctl_process *half, struct store_status_copy *out)
{
    const struct store_status *status = &half->status;
    const uint32_t seq = atom_u32_load(&status->seq, ATOM_ACQUIRE);
    if (seq & 1) {
        return false;
    }
    uint64_t task[3];
    for (unsigned i = 0; i < 3; i++) {
        task[i] = atom_u64_load(&status->task[i], ATOM_ACQUIRE);
    }
    memcpy(out->task.b, task, sizeof(out->task.b));
    out->start_ns = atom_u64_load(&status->start_ns, ATOM_ACQUIRE);
    out->flags = atom_u32_load(&status->flags, ATOM_ACQUIRE);
    out->attempt = atom_u32_load(&status->attempt, ATOM_ACQUIRE);
    const uint32_t name = atom_u32_load(&status->name, ATOM_ACQUIRE);
    memset(out->name, 0, sizeof(out->name));
    if (name < STORE_NAMES) {
        for (unsigned i = 0; i < STORE_NAME_MAX / 8; i++) {
            const uint64_t word = atom_u64_load(&half->names[name][i], ATOM_ACQUIRE);
            memcpy(out->name + (size_t)i * 8, &word, sizeof(word));
        }
    }
    out->name[STORE_NAME_MAX - 1] = 0;
    return atom_u32_load(&status->seq, ATOM_RELAXED) == seq;
}

bool
store_proc_status_of(const struct store_proc *proc, struct store_status_copy *out)
{
    for (unsigned i = 0; i < 8; i++) {
        if (copy_status(proc->ctl.process, out)) {
            return true;
        }
    }
    *out = (struct store_status_copy){ 0 };
    return false;
}

bool
store_proc_status(struct store *store, uint32_t number, struct store_status_copy *out)
{
    const struct store_proc *proc = store_proc_find(store, number);
    if (!proc) {
        *out = (struct store_status_copy){ 0 };
        return false;
    }
    return store_proc_status_of(proc, out);
}

/* ---- death ---- */

void
store_proc_dead(struct store *store, uint32_t number)
{
    struct store_proc *proc = store_proc_find(store, number);
    if (proc && !proc->dead) {
        store_adopt_proc(store, proc);
        (void)FAULT("store.dead.after_adopt");
        proc->dead = true;
    }
}

void
store_proc_seals(struct store *store, uint32_t number,
                 void (*on_seal)(const struct id_worker *owner, const struct store_ref *ref,
                                 const struct id_object *id, void *ctx),
                 void *ctx)
{
    struct store_proc *proc = store_proc_find(store, number);
    if (!proc) {
        return;
    }
    struct list left;
    list_init(&left);
    list_splice_back(&left, &proc->created);
    while (!list_is_empty(&left)) { /* owner by owner, each in the order of adoption */
        const struct store_holder *holder =
            LIST_ENTRY(left.next, struct store_slot, by_creator)->holder;
        LIST_FOR_SAFE (link, next, &left) {
            struct store_slot *slot = LIST_ENTRY(link, struct store_slot, by_creator);
            if (slot->holder != holder) {
                continue;
            }
            if (!ID_EQ(holder->worker, proc->worker)) {
                const struct store_ref ref = { .generation = slot->generation,
                                               .slot = slot->number };
                on_seal(&holder->worker, &ref, &slot->id, ctx);
            }
            list_remove(&slot->by_creator);
            list_push_back(&proc->created, &slot->by_creator);
        }
    }
}

void
store_proc_drop(struct store *store, uint32_t number)
{
    struct store_proc *proc = store_proc_find(store, number);
    if (!proc) {
        return;
    }
    store_proc_dead(store, number);
    struct list *link = NULL;
    while ((link = list_first(&proc->holds)) != NULL) {
        (void)FAULT("store.drop.between_grants");
        store_hold_close(store, LIST_ENTRY(link, struct store_hold, by_proc));
    }
    const struct id_worker worker = proc->worker;
    while (list_pop_front(&proc->created)) {
    }
    map_remove(&store->procs, &proc->by_number);
    map_remove(&store->procs_by_worker, &proc->by_worker);
    list_remove(&proc->all);
    store->config.backing.ctl_close(store->config.backing.ctx, proc->number, &proc->ctl);
    slab_give(&store->proc_slab, proc);
    store_on_owner_dead(store, &worker);
    store->pins_dropped = true; /* look again at what they held */
}
