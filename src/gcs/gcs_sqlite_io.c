/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows of the control service in SQLite: one table of (table, key, value), write-ahead log,
 * prepared statements. The only file that includes sqlite3.h.
 */
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "gcs/gcs_store_io.h"

enum statement { STMT_PUT, STMT_ERASE, STMT_EACH, STMT_BEGIN, STMT_COMMIT, STMT_COUNT };

struct sqlite_store {
    struct gcs_store base;
    sqlite3 *db;
    sqlite3_stmt *stmt[STMT_COUNT];
    bool in_transaction;
};

static struct sqlite_store *
of(struct gcs_store *store)
{
    return CONTAINER_OF(store, struct sqlite_store, base);
}

static int
fail(const struct sqlite_store *s, const char *what)
{
    return st_fail(ST_SYSTEM, "the control service's database can't %s: %s", what,
                   s->db ? sqlite3_errmsg(s->db) : "no memory");
}

static int
run(struct sqlite_store *s, sqlite3_stmt *stmt, const char *what)
{
    const int rc = sqlite3_step(stmt);
    const int status = rc == SQLITE_DONE || rc == SQLITE_ROW ? ST_OK : fail(s, what);
    (void)sqlite3_reset(stmt); /* repeats the error of the step */
    return status;
}

static int
begin(struct sqlite_store *s)
{
    if (!s->in_transaction) {
        TRY(run(s, s->stmt[STMT_BEGIN], "begin"));
        s->in_transaction = true;
    }
    return ST_OK;
}

static int
bind_key(struct sqlite_store *s, sqlite3_stmt *stmt, enum gcs_table table, const void *key,
         size_t key_size)
{
    if (sqlite3_bind_int(stmt, 1, (int)table) != SQLITE_OK ||
        sqlite3_bind_blob64(stmt, 2, key, key_size, SQLITE_STATIC) != SQLITE_OK) {
        return fail(s, "bind");
    }
    return ST_OK;
}

static int
sqlite_put(struct gcs_store *store, enum gcs_table table, const void *key, size_t key_size,
           const void *value, size_t value_size)
{
    struct sqlite_store *s = of(store);
    TRY(begin(s));
    sqlite3_stmt *stmt = s->stmt[STMT_PUT];
    TRY(bind_key(s, stmt, table, key, key_size));
    if (sqlite3_bind_blob64(stmt, 3, value, value_size, SQLITE_STATIC) != SQLITE_OK) {
        return fail(s, "bind");
    }
    return run(s, stmt, "write");
}

static int
sqlite_erase(struct gcs_store *store, enum gcs_table table, const void *key, size_t key_size)
{
    struct sqlite_store *s = of(store);
    TRY(begin(s));
    TRY(bind_key(s, s->stmt[STMT_ERASE], table, key, key_size));
    return run(s, s->stmt[STMT_ERASE], "erase");
}

static int
sqlite_commit(struct gcs_store *store)
{
    struct sqlite_store *s = of(store);
    if (!s->in_transaction) {
        return ST_OK;
    }
    s->in_transaction = false;
    return run(s, s->stmt[STMT_COMMIT], "commit");
}

static int
sqlite_each(struct gcs_store *store, enum gcs_table table,
            int (*on_row)(void *ctx, const void *value, size_t size), void *ctx)
{
    struct sqlite_store *s = of(store);
    sqlite3_stmt *stmt = s->stmt[STMT_EACH];
    if (sqlite3_bind_int(stmt, 1, (int)table) != SQLITE_OK) {
        return fail(s, "bind");
    }
    int status = ST_OK;
    int rc = sqlite3_step(stmt);
    while (rc == SQLITE_ROW && status == ST_OK) {
        const void *value = sqlite3_column_blob(stmt, 0);
        status = on_row(ctx, value ? value : "", (size_t)sqlite3_column_bytes(stmt, 0));
        rc = status == ST_OK ? sqlite3_step(stmt) : rc;
    }
    if (status == ST_OK && rc != SQLITE_DONE) {
        status = fail(s, "read");
    }
    (void)sqlite3_reset(stmt);
    return status;
}

static void
sqlite_close(struct gcs_store **store)
{
    if (!*store) {
        return;
    }
    struct sqlite_store *s = of(*store);
    for (int i = 0; i < STMT_COUNT; i++) {
        (void)sqlite3_finalize(s->stmt[i]);
    }
    (void)sqlite3_close(s->db);
    free(s);
    *store = NULL;
}

static const struct gcs_store_ops sqlite_ops = {
    .each = sqlite_each,
    .put = sqlite_put,
    .erase = sqlite_erase,
    .commit = sqlite_commit,
    .close = sqlite_close,
};

static int
prepare(struct sqlite_store *s)
{
    static const char *const texts[STMT_COUNT] = {
        [STMT_PUT] = "INSERT OR REPLACE INTO rows VALUES (?1, ?2, ?3)",
        [STMT_ERASE] = "DELETE FROM rows WHERE tab = ?1 AND key = ?2",
        [STMT_EACH] = "SELECT value FROM rows WHERE tab = ?1 ORDER BY key",
        [STMT_BEGIN] = "BEGIN IMMEDIATE",
        [STMT_COMMIT] = "COMMIT",
    };
    for (int i = 0; i < STMT_COUNT; i++) {
        if (sqlite3_prepare_v3(s->db, texts[i], -1, SQLITE_PREPARE_PERSISTENT, &s->stmt[i], NULL) !=
            SQLITE_OK) {
            return fail(s, "prepare");
        }
    }
    return ST_OK;
}

int
gcs_store_open_sqlite(const char *path, bool durable, struct gcs_store **out)
{
    *out = NULL;
    struct sqlite_store *s = calloc(1, sizeof(*s));
    if (!s) {
        return st_fail(ST_OUT_OF_MEMORY, "no memory for a database");
    }
    s->base.ops = &sqlite_ops;
    struct gcs_store *base = &s->base;
    /* One process has the file: exclusive locking needs no shared-memory file beside it. */
    static const char setup[] = "PRAGMA locking_mode=EXCLUSIVE;"
                                "PRAGMA journal_mode=WAL;"
                                "PRAGMA cache_size=-512;"
                                "PRAGMA temp_store=MEMORY;"
                                "CREATE TABLE IF NOT EXISTS rows (tab INTEGER NOT NULL,"
                                " key BLOB NOT NULL, value BLOB NOT NULL, PRIMARY KEY (tab, key))"
                                " WITHOUT ROWID;";
    const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    int status = ST_OK;
    if (sqlite3_open_v2(path, &s->db, flags, NULL) != SQLITE_OK ||
        sqlite3_exec(s->db, durable ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=OFF", NULL,
                     NULL, NULL) != SQLITE_OK ||
        sqlite3_exec(s->db, setup, NULL, NULL, NULL) != SQLITE_OK) {
        status = fail(s, "open its file");
    }
    if (status == ST_OK) {
        status = prepare(s);
    }
    if (status != ST_OK) {
        sqlite_close(&base);
        return status;
    }
    *out = base;
    return ST_OK;
}
