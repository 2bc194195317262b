/* SPDX-License-Identifier: Apache-2.0 */
/* The key-value table. A row's key is the table's name, a NUL, and the key. */
#include <string.h>

#include "gcs/gcs_priv.h"
#include "proto/kinds.h"

struct kv_name {
    uint8_t bytes[GCS_KV_TABLE_MAX + 1 + GCS_KV_KEY_MAX];
    uint32_t size, table_size;
    uint64_t hash;
};

/* Composes the row's key; ST_PROTOCOL when a part is beyond its bound. */
static int
name_make(struct kv_name *name, const char *table, const ProtobufCBinaryData *key)
{
    const size_t table_size = strlen(table);
    if (table_size > GCS_KV_TABLE_MAX || key->len > GCS_KV_KEY_MAX) {
        (void)st_fail(ST_PROTOCOL, "a key of %zu bytes in a table named by %zu", key->len,
                      table_size);
        return ST_PROTOCOL;
    }
    memcpy(name->bytes, table, table_size + 1);
    if (key->len > 0) {
        memcpy(name->bytes + table_size + 1, key->data, key->len);
    }
    name->table_size = (uint32_t)table_size;
    name->size = (uint32_t)(table_size + 1 + key->len);
    name->hash = id_hash(name->bytes, name->size);
    return ST_OK;
}

static struct gcs_kv *
kv_find(const struct gcs *gcs, const struct kv_name *name)
{
    struct map_link *l;
    MAP_FOR_HASH (l, &gcs->kv, name->hash) {
        struct gcs_kv *kv = CONTAINER_OF(l, struct gcs_kv, link);
        if (kv->table_size + 1 + kv->key_size == name->size &&
            memcmp(kv->name, name->bytes, name->size) == 0) {
            return kv;
        }
    }
    return NULL;
}

static size_t
kv_struct_size(const struct gcs_kv *kv)
{
    return sizeof(*kv) + kv->table_size + 1 + kv->key_size;
}

void
gcs_kv_free(struct gcs *gcs, struct gcs_kv *kv)
{
    gcs->kv_bytes -= kv->value_size + kv_struct_size(kv);
    list_remove(&kv->all);
    mem_free(gcs->mem, kv->value, kv->value_size);
    mem_free(gcs->mem, kv, kv_struct_size(kv));
}

static int
kv_set(struct gcs *gcs, const struct kv_name *name, const ProtobufCBinaryData *value)
{
    uint8_t *bytes = NULL;
    if (value->len > 0) {
        bytes = mem_alloc(gcs->mem, value->len);
        if (!bytes) {
            return st_fail(ST_OUT_OF_MEMORY, "no memory for a value of %zu bytes", value->len);
        }
        memcpy(bytes, value->data, value->len);
    }
    struct gcs_kv *kv = kv_find(gcs, name);
    if (!kv) {
        kv = mem_alloc(gcs->mem, sizeof(*kv) + name->size);
        if (!kv) {
            mem_free(gcs->mem, bytes, value->len);
            return st_fail(ST_OUT_OF_MEMORY, "no memory for a key");
        }
        memset(kv, 0, sizeof(*kv));
        memcpy(kv->name, name->bytes, name->size);
        kv->table_size = name->table_size;
        kv->key_size = name->size - name->table_size - 1;
        if (map_insert(&gcs->kv, &kv->link, name->hash)) {
            mem_free(gcs->mem, bytes, value->len);
            mem_free(gcs->mem, kv, kv_struct_size(kv));
            return st_fail(ST_OUT_OF_MEMORY, "no memory for a key");
        }
        list_push_back(&gcs->kv_list, &kv->all);
        gcs->kv_bytes += kv_struct_size(kv);
    }
    gcs->kv_bytes -= kv->value_size;
    mem_free(gcs->mem, kv->value, kv->value_size);
    kv->value = bytes;
    kv->value_size = value->len;
    gcs->kv_bytes += kv->value_size;
    return ST_OK;
}

static int
kv_put(struct gcs *gcs, const Ray__Gcs__KvPut *msg, const struct kv_name *name,
       struct step_outs *outs)
{
    if (kv_find(gcs, name) && !msg->overwrite) {
        return st_fail(ST_EXISTS, "the key exists already");
    }
    if (msg->value.len > GCS_KV_VALUE_MAX ||
        gcs->kv_bytes + msg->value.len > gcs->config.kv_bytes_max) {
        return st_fail(ST_LIMIT, "the key-value table has %llu bytes, %zu more are too many",
                       (unsigned long long)gcs->kv_bytes, msg->value.len);
    }
    TRY(kv_set(gcs, name, &msg->value));
    Ray__Gcs__KvRow *row = arena_alloc(outs->arena, sizeof(*row));
    ASSERT(row);
    ray__gcs__kv_row__init(row);
    row->table = msg->table;
    row->key = msg->key;
    row->value = msg->value;
    gcs_emit_put(outs, GCS_TABLE_KV, name->bytes, name->size, row);
    return ST_OK;
}

int
gcs_on_kv_put(struct gcs *gcs, const struct step_in *in, struct step_outs *outs)
{
    const Ray__Gcs__KvPut *msg = in->msg;
    struct kv_name name;
    TRY(name_make(&name, msg->table, &msg->key));
    const int status = kv_put(gcs, msg, &name, outs);
    gcs_emit_done(outs, in, status, status == ST_OK ? NULL : st_last()->text);
    return ST_OK;
}

int
gcs_on_kv_get(struct gcs *gcs, const struct step_in *in, struct step_outs *outs)
{
    const Ray__Gcs__KvGet *msg = in->msg;
    struct kv_name name;
    TRY(name_make(&name, msg->table, &msg->key));
    const struct gcs_kv *kv = kv_find(gcs, &name);
    Ray__Gcs__KvValue *m =
        gcs_emit(outs, GCS_KV_VALUE, in->peer, in->payload, &ray__gcs__kv_value__descriptor);
    if (m) {
        m->status = kv ? ST_OK : ST_NOT_FOUND;
        if (kv) {
            m->value.data = kv->value;
            m->value.len = kv->value_size;
        }
    }
    return ST_OK;
}

int
gcs_on_kv_delete(struct gcs *gcs, const struct step_in *in, struct step_outs *outs)
{
    const Ray__Gcs__KvDelete *msg = in->msg;
    struct kv_name name;
    TRY(name_make(&name, msg->table, &msg->key));
    struct gcs_kv *kv = kv_find(gcs, &name);
    if (kv) {
        gcs_emit_put(outs, GCS_TABLE_KV, name.bytes, name.size, NULL);
        map_remove(&gcs->kv, &kv->link);
        gcs_kv_free(gcs, kv);
    }
    gcs_emit_done(outs, in, kv ? ST_OK : ST_NOT_FOUND, NULL);
    return ST_OK;
}

static bool
kv_matches(const struct gcs_kv *kv, const struct kv_name *prefix)
{
    return kv->table_size == prefix->table_size &&
           kv->table_size + 1 + kv->key_size >= prefix->size &&
           memcmp(kv->name, prefix->bytes, prefix->size) == 0;
}

int
gcs_on_kv_keys(struct gcs *gcs, const struct step_in *in, struct step_outs *outs)
{
    const Ray__Gcs__KvKeys *msg = in->msg;
    struct kv_name prefix;
    TRY(name_make(&prefix, msg->table, &msg->prefix));
    size_t count = 0;
    LIST_FOR (l, &gcs->kv_list) {
        count += kv_matches(LIST_ENTRY(l, struct gcs_kv, all), &prefix);
    }
    Ray__Gcs__KvValue *m =
        gcs_emit(outs, GCS_KV_VALUE, in->peer, in->payload, &ray__gcs__kv_value__descriptor);
    if (!m) {
        return ST_OK;
    }
    m->keys = arena_alloc(outs->arena, sizeof(*m->keys) * (count + 1));
    if (!m->keys) {
        m->status = ST_OUT_OF_MEMORY;
        return ST_OK;
    }
    LIST_FOR (l, &gcs->kv_list) {
        struct gcs_kv *kv = LIST_ENTRY(l, struct gcs_kv, all);
        if (kv_matches(kv, &prefix)) {
            m->keys[m->n_keys].data = kv->name + kv->table_size + 1;
            m->keys[m->n_keys].len = kv->key_size;
            m->n_keys++;
        }
    }
    return ST_OK;
}

int
gcs_on_load_kv(struct gcs *gcs, const Ray__Gcs__KvRow *row)
{
    struct kv_name name;
    TRY(name_make(&name, row->table, &row->key));
    return kv_set(gcs, &name, &row->value);
}
