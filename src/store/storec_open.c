/* SPDX-License-Identifier: Apache-2.0 */
/* Mapping the store, and its end. See storec.h. */
#include "base/status.h"
#include "os/os_shm.h"
#include "store/storec_priv.h"

#include <string.h>

static size_t
rows_size(uint64_t slot_count)
{
    const uint64_t bytes = slot_count * sizeof(struct store_row);
    return (size_t)((bytes + STORE_PAGE - 1) / STORE_PAGE * STORE_PAGE);
}

static int
check_file(int fd, uint64_t least, const char *what)
{
    uint64_t size = 0;
    TRY(os_shm_size(fd, &size));
    if (size < least) {
        return st_fail(ST_PROTOCOL, "the object store's %s file has %llu bytes instead of %llu",
                       what, (unsigned long long)size, (unsigned long long)least);
    }
    return ST_OK;
}

static int
map_control(struct storec *store, const struct storec_config *config)
{
    void *at = NULL;
    TRY(check_file(config->ctl_fd, STORE_CTL_SIZE, "control"));
    TRY(check_file(config->ctl_fixed_fd, STORE_CTL_SIZE, "control"));
    TRY(os_shm_map(config->ctl_fixed_fd, 0, sizeof(*store->raylet), OS_SHM_READ, 0, &at));
    store->raylet = at;
    TRY(os_shm_no_fork(at, sizeof(*store->raylet)));
    if (store->raylet->magic != STORE_CTL_MAGIC || store->raylet->version != STORE_LAYOUT_VERSION) {
        return st_fail(ST_PROTOCOL, "the object store's layout is version %u, this library's is %d",
                       store->raylet->version, STORE_LAYOUT_VERSION);
    }
    TRY(os_shm_map(config->ctl_fd, sizeof(*store->raylet), sizeof(*store->process), OS_SHM_WRITE, 0,
                   &at));
    store->process = at;
    return os_shm_no_fork(at, sizeof(*store->process));
}

static int
map_all(struct storec *store, const struct storec_config *config)
{
    enum { HUGE = 2 * 1024 * 1024 };
    void *at = NULL;
    TRY(map_control(store, config));
    store->data_size = store->raylet->data_size;
    store->slot_count = store->raylet->slot_count;
    store->epoch = store->raylet->store_epoch;
    if (store->slot_count == 0 || store->slot_count > STORE_SLOT_MAX) {
        return st_fail(ST_PROTOCOL, "an object store of %llu slots",
                       (unsigned long long)store->slot_count);
    }
    TRY(check_file(config->data_fd, store->data_size, "data"));
    TRY(check_file(config->slots_fd, store->slot_count * sizeof(struct store_row), "slot"));
    TRY(os_shm_map(config->data_fd, 0, store->data_size, OS_SHM_READ, HUGE, &at));
    store->data = at;
    TRY(os_shm_map(config->data_fd, 0, store->data_size, OS_SHM_NONE, HUGE, &at));
    store->writable = at;
    TRY(os_shm_no_fork(at, store->data_size));
    TRY(os_shm_map(config->slots_fd, 0, rows_size(store->slot_count), OS_SHM_READ, 0, &at));
    store->rows = at;
    return ST_OK;
}

int
storec_open(const struct storec_config *config, struct storec **out)
{
    *out = NULL;
    struct storec *store = mem_alloc(config->mem, sizeof(*store));
    if (!store) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for the object store's client");
    }
    memset(store, 0, sizeof(*store));
    store->mem = config->mem;
    store->helper = config->helper;
    slab_init(&store->grants, config->mem, sizeof(struct storec_grant));
    list_init(&store->regions);
    list_init(&store->closing);
    list_init(&store->larges);
    list_init(&store->returns);
    list_init(&store->forks);
    store->ahead = 1;
    atom_u64_store(&store->refs, STOREC_OPEN, ATOM_RELAXED);
    const int status = map_all(store, config);
    if (status != ST_OK) {
        storec_destroy(store);
        return status;
    }
    store->pins = (struct store_pins){
        .pages = &store->process->pin_pages,
        .pins = store->process->pins,
        .per_page = STORE_PINS_PER_PAGE,
        .pages_max = STORE_PIN_PAGES,
    };
    *out = store;
    return ST_OK;
}

/* os_shm_unmap takes plain pointers; what is mapped read-only is only unmapped through them. */
static void
unmap(const void *at, size_t size)
{
    os_shm_unmap((void *)(uintptr_t)at, size);
}

void
storec_destroy(struct storec *store)
{
    unmap(store->data, store->data_size);
    unmap(store->writable, store->data_size);
    unmap(store->rows, rows_size(store->slot_count));
    unmap(store->raylet, sizeof(*store->raylet));
    unmap(store->process, sizeof(*store->process));
    for (uint32_t i = 0; i < STORE_PIN_PAGES; i++) {
        mem_free(store->mem, store->pin_pages[i],
                 STORE_PINS_PER_PAGE * sizeof(struct storec_pin_entry));
    }
    storec_forks_fini(store);
    slab_fini(&store->grants);
    mem_free(store->mem, store, sizeof(*store));
}

void
storec_close(struct storec **pointer)
{
    struct storec *store = *pointer;
    *pointer = NULL;
    if (!store || atom_u32_load(&store->forked, ATOM_RELAXED)) {
        return; /* a child keeps what it inherited: its views are in there */
    }
    store->closed = true;
    if (store->making == 0) {
        unmap(store->writable, store->data_size);
        store->writable = NULL;
    }
    /* From a count of unpins to a count of what is left; whoever brings it to 0 ends the store. */
    const uint64_t change = store->pinned + store->making - STOREC_OPEN;
    if (atom_u64_fetch_add(&store->refs, change, ATOM_ACQ_REL) + change == 0) {
        storec_destroy(store);
    }
}

const struct store_ctl_raylet *
storec_raylet_half(const struct storec *store)
{
    return store->raylet;
}

struct store_ctl_process *
storec_process_half(struct storec *store)
{
    return store->process;
}

void
storec_after_fork_child(struct storec *store)
{
    atom_u32_store(&store->forked, 1, ATOM_RELAXED);
}
