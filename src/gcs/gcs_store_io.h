/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the control service keeps its rows. A back end is a table of functions; SQLite is the one
 * for processes, and sim/ brings its own. One thread. Every put and erase belongs to the open
 * transaction, begun by the first of them; commit ends it.
 */
#ifndef RAY_GCS_STORE_IO_H
#define RAY_GCS_STORE_IO_H

#include <stdbool.h>
#include <stddef.h>

#include "gcs/gcs.h"

struct gcs_store;

struct gcs_store_ops {
    /* Calls on_row for each row of a table; a status of on_row ends the walk and is returned. */
    int (*each)(struct gcs_store *store, enum gcs_table table,
                int (*on_row)(void *ctx, const void *value, size_t size), void *ctx);
    int (*put)(struct gcs_store *store, enum gcs_table table, const void *key, size_t key_size,
               const void *value, size_t value_size);
    int (*erase)(struct gcs_store *store, enum gcs_table table, const void *key, size_t key_size);
    int (*commit)(struct gcs_store *store);
    void (*close)(struct gcs_store **store);
};

struct gcs_store {
    const struct gcs_store_ops *ops;
};

/* A database file, made when missing. `durable`: every commit is on the disk when it returns; else
 * only the end of this process is survived, not the end of the machine. */
int gcs_store_open_sqlite(const char *path, bool durable, struct gcs_store **out) MUST_USE;

#endif
