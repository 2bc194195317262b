/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store's memory files. One thread: the raylet's loop. See store_server.h.
 */
#include "base/list.h"
#include "base/status.h"
#include "os/os_shm.h"
#include "store/store_priv.h"

struct ctl_file {
    struct map_link link;
    uint32_t proc;
    int fd, fixed_fd;
};

struct store_shm {
    const struct mem *mem;
    uint64_t capacity;
    uint32_t slot_count;
    bool huge;
    int data_fd, slots_fd, slots_read_fd;
    void *data; /* for huge pages only; its pages are forgotten at once */
    struct store_row *rows;
    struct map files; /* struct ctl_file by process number */
};

static size_t
rows_size(const struct store_shm *shm)
{
    return (size_t)store_round((uint64_t)shm->slot_count * sizeof(struct store_row), STORE_PAGE);
}

static int
open_files(struct store_shm *shm)
{
    void *rows = NULL;
    TRY(os_shm_create("ray-store-data", shm->capacity, &shm->data_fd));
    TRY(os_shm_create("ray-store-slots", rows_size(shm), &shm->slots_fd));
    TRY(os_shm_reopen_read(shm->slots_fd, &shm->slots_read_fd));
    TRY(os_shm_map(shm->slots_fd, 0, rows_size(shm), OS_SHM_WRITE, 0, &rows));
    shm->rows = rows;
    if (shm->huge) {
        TRY(os_shm_map(shm->data_fd, 0, shm->capacity, OS_SHM_WRITE, STORE_CHUNK, &shm->data));
    }
    return ST_OK;
}

int
store_shm_open(const struct store_shm_config *config, struct store_shm **out)
{
    *out = NULL;
    struct store_shm *shm = mem_alloc(config->mem, sizeof(*shm));
    if (!shm) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for the object store");
    }
    *shm = (struct store_shm){
        .mem = config->mem,
        .capacity = store_round(config->capacity, STORE_CHUNK),
        .huge = config->huge,
        .data_fd = -1,
        .slots_fd = -1,
        .slots_read_fd = -1,
    };
    shm->slot_count = config->slot_count ? config->slot_count : store_slots_for(shm->capacity);
    map_init(&shm->files, config->mem);
    const int status = open_files(shm);
    if (status != ST_OK) {
        store_shm_close(&shm);
        return status;
    }
    *out = shm;
    return ST_OK;
}

static struct ctl_file *
file_find(const struct store_shm *shm, uint32_t proc)
{
    struct map_link *link = NULL;
    MAP_FOR_HASH (link, &shm->files, id_mix64(proc)) {
        struct ctl_file *file = CONTAINER_OF(link, struct ctl_file, link);
        if (file->proc == proc) {
            return file;
        }
    }
    return NULL;
}

static void
file_delete(struct store_shm *shm, struct ctl_file *file)
{
    os_shm_close(file->fd);
    os_shm_close(file->fixed_fd);
    mem_free(shm->mem, file, sizeof(*file));
}

static int
ctl_map(const struct ctl_file *file, struct store_ctl_map *out)
{
    void *raylet = NULL;
    void *process = NULL;
    TRY(os_shm_map(file->fd, 0, sizeof(struct store_ctl_raylet), OS_SHM_WRITE, 0, &raylet));
    const int status = os_shm_map(file->fd, sizeof(struct store_ctl_raylet),
                                  sizeof(struct store_ctl_process), OS_SHM_READ, 0, &process);
    if (status != ST_OK) {
        os_shm_unmap(raylet, sizeof(struct store_ctl_raylet));
        return status;
    }
    *out = (struct store_ctl_map){ .raylet = raylet, .process = process };
    return ST_OK;
}

static int
ctl_open(void *ctx, uint32_t proc, struct store_ctl_map *out)
{
    struct store_shm *shm = ctx;
    struct ctl_file *file = mem_alloc(shm->mem, sizeof(*file));
    if (!file) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for a control file");
    }
    *file = (struct ctl_file){ .proc = proc, .fd = -1, .fixed_fd = -1 };
    int status = os_shm_create("ray-control", STORE_CTL_SIZE, &file->fd);
    if (status != ST_OK) {
        goto delete_file;
    }
    status = os_shm_reopen_read(file->fd, &file->fixed_fd);
    if (status != ST_OK) {
        goto delete_file;
    }
    status = map_insert(&shm->files, &file->link, id_mix64(proc));
    if (status != ST_OK) {
        goto delete_file;
    }
    status = ctl_map(file, out);
    if (status != ST_OK) {
        goto unlink_file;
    }
    return ST_OK;

unlink_file:
    map_remove(&shm->files, &file->link);
delete_file:
    file_delete(shm, file);
    return status;
}

static void
ctl_close(void *ctx, uint32_t proc, const struct store_ctl_map *map)
{
    struct store_shm *shm = ctx;
    struct ctl_file *file = file_find(shm, proc);
    ASSERT(file);
    os_shm_unmap(map->raylet, sizeof(*map->raylet));
    os_shm_unmap(map->process, sizeof(*map->process));
    map_remove(&shm->files, &file->link);
    file_delete(shm, file);
}

static int
punch(void *ctx, uint64_t offset, uint64_t size)
{
    const struct store_shm *shm = ctx;
    return os_shm_punch(shm->data_fd, offset, size);
}

static int
prefault(void *ctx, uint64_t offset, uint64_t size)
{
    const struct store_shm *shm = ctx;
    if (!shm->data) {
        return ST_NOT_SUPPORTED; /* small pages are not worth the raylet's time */
    }
    void *at = (char *)shm->data + offset;
    const int status = os_shm_populate_huge(at, size);
    os_shm_forget(at, size);
    return status;
}

void
store_shm_configure(struct store_shm *shm, struct store_config *config)
{
    config->backing = (struct store_backing){
        .ctx = shm,
        .ctl_open = ctl_open,
        .ctl_close = ctl_close,
        .punch = punch,
        .prefault = prefault,
    };
    config->rows = shm->rows;
    config->slot_count = shm->slot_count;
    config->capacity = shm->capacity;
}

int
store_shm_fds(struct store_shm *shm, uint32_t proc, struct store_fds *out)
{
    const struct ctl_file *file = file_find(shm, proc);
    if (!file) {
        return st_fail(ST_NOT_FOUND, "no process %u is known to the object store", proc);
    }
    *out = (struct store_fds){
        .data = shm->data_fd,
        .slots = shm->slots_read_fd,
        .ctl = file->fd,
        .ctl_fixed = file->fixed_fd,
    };
    return ST_OK;
}

void
store_shm_close(struct store_shm **pointer)
{
    struct store_shm *shm = *pointer;
    if (!shm) {
        return;
    }
    ASSERT(shm->files.count == 0);
    map_fini(&shm->files);
    if (shm->data) {
        os_shm_unmap(shm->data, shm->capacity);
    }
    if (shm->rows) {
        os_shm_unmap(shm->rows, rows_size(shm));
    }
    os_shm_close(shm->data_fd);
    os_shm_close(shm->slots_fd);
    os_shm_close(shm->slots_read_fd);
    mem_free(shm->mem, shm, sizeof(*shm));
    *pointer = NULL;
}
