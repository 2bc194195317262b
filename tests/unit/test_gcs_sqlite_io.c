/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of src/gcs/gcs_sqlite_io.c: rows survive, transactions are whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/status.h"
#include "gcs/gcs_store_io.h"
#include "harness.h"

static char database[512];

static struct gcs_store *
open_store(bool durable)
{
    struct gcs_store *s = NULL;
    (void)snprintf(database, sizeof(database), "%s/gcs.db", harness_dir());
    assert_int_equal(gcs_store_open_sqlite(database, durable, &s), ST_OK);
    return s;
}

static void
put(struct gcs_store *s, enum gcs_table table, const char *key, const char *value)
{
    assert_int_equal(s->ops->put(s, table, key, strlen(key), value, strlen(value)), ST_OK);
}

struct seen {
    char text[256];
    int stop_after;
};

static int
on_row(void *ctx, const void *value, size_t size)
{
    struct seen *seen = ctx;
    const size_t at = strlen(seen->text);
    (void)snprintf(seen->text + at, sizeof(seen->text) - at, "%.*s;", (int)size,
                   (const char *)value);
    return --seen->stop_after == 0 ? ST_PROTOCOL : ST_OK;
}

static const char *
rows(struct gcs_store *s, enum gcs_table table)
{
    static struct seen seen;
    seen = (struct seen){ .stop_after = 100 };
    assert_int_equal(s->ops->each(s, table, on_row, &seen), ST_OK);
    return seen.text;
}

static void
test_rows_survive_by_table(void **state)
{
    (void)state;
    struct gcs_store *s = open_store(true);
    put(s, GCS_TABLE_JOBS, "b", "job b");
    put(s, GCS_TABLE_JOBS, "a", "job a");
    put(s, GCS_TABLE_KV, "a", "value");
    put(s, GCS_TABLE_KV, "empty", "");
    put(s, GCS_TABLE_JOBS, "b", "new b");
    assert_int_equal(s->ops->erase(s, GCS_TABLE_KV, "a", 1), ST_OK);
    assert_int_equal(s->ops->erase(s, GCS_TABLE_KV, "none", 4), ST_OK);
    assert_int_equal(s->ops->commit(s), ST_OK);
    assert_int_equal(s->ops->commit(s), ST_OK); /* nothing to do */
    s->ops->close(&s);
    assert_null(s);
    s = open_store(false);
    assert_string_equal(rows(s, GCS_TABLE_JOBS), "job a;new b;");
    assert_string_equal(rows(s, GCS_TABLE_KV), ";");
    assert_string_equal(rows(s, GCS_TABLE_ACTORS), "");
    struct seen seen = { .stop_after = 1 };
    assert_int_equal(s->ops->each(s, GCS_TABLE_JOBS, on_row, &seen), ST_PROTOCOL);
    assert_string_equal(seen.text, "job a;");
    s->ops->close(&s);
}

/* The end of the process between two writes and their commit. */
static void
write_without_commit(void *arg)
{
    (void)arg;
    struct gcs_store *s = open_store(false);
    put(s, GCS_TABLE_JOBS, "1", "first");
    if (s->ops->commit(s) != ST_OK) {
        _exit(1);
    }
    put(s, GCS_TABLE_JOBS, "1", "changed");
    put(s, GCS_TABLE_JOBS, "2", "second");
    _exit(0);
}

static void
test_what_is_not_committed_is_not_there(void **state)
{
    (void)state;
    assert_int_equal(harness_child(write_without_commit, NULL), 0);
    struct gcs_store *s = open_store(false);
    assert_string_equal(rows(s, GCS_TABLE_JOBS), "first;");
    s->ops->close(&s);
}

static void
test_no_file_no_store(void **state)
{
    (void)state;
    struct gcs_store *s = NULL;
    assert_int_equal(gcs_store_open_sqlite("/no/such/dir/gcs.db", false, &s), ST_SYSTEM);
    assert_null(s);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_survive_by_table),
        cmocka_unit_test(test_what_is_not_committed_is_not_there),
        cmocka_unit_test(test_no_file_no_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
