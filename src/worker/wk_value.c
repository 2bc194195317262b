/* SPDX-License-Identifier: Apache-2.0 */
/* Values, their pieces on the wire, and failure records. See wk_value.h. */
#include "worker/wk_value.h"

#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "worker/wk_priv.h"

/* How a failure lies in memory and on the wire; the strings follow with their NULs, then the data.
 */
struct failure_head {
    int32_t status;
    int32_t pid;
    uint32_t format;
    uint8_t actor_init_failed, never_started;
    uint8_t zero[2];
    uint32_t text_size, function_size, node_size, class_size; /* with the NUL */
    uint64_t data_size;
    struct id_actor actor;
    struct id_task task;
    struct id_object object;
    uint8_t pad[4];
};
_Static_assert(sizeof(struct failure_head) == 112, "fixed layout");

struct ray_value *
wk_value_create(enum wk_value_kind kind, size_t size, uint32_t item_count, uint8_t **data,
                struct own_item **items)
{
    const size_t items_size = wk_pad8((size_t)item_count * sizeof(struct own_item));
    /* A NUL after the bytes makes texts in them safe to print. */
    struct ray_value *v = malloc(sizeof(*v) + items_size + size + 1);
    if (!v) {
        return NULL;
    }
    memset(v, 0, sizeof(*v));
    atom_u32_store(&v->refs, 1, ATOM_RELAXED);
    v->kind = (uint8_t)kind;
    v->size = size;
    v->item_count = item_count;
    struct own_item *at = (struct own_item *)(v + 1);
    uint8_t *bytes = (uint8_t *)(v + 1) + items_size;
    v->items = at;
    v->data = bytes;
    bytes[size] = 0;
    if (items) {
        *items = at;
    }
    *data = bytes;
    return v;
}

struct ray_value *
wk_value_create_hint(const struct store_hint *hint, uint32_t format, const struct own_item *items,
                     uint32_t item_count)
{
    uint8_t *data;
    struct own_item *room;
    struct ray_value *v = wk_value_create(WK_VALUE_HINT, 0, item_count, &data, &room);
    if (v) {
        v->hint = *hint;
        v->size = hint->size;
        v->format = format;
        if (item_count > 0) {
            memcpy(room, items, item_count * sizeof(*items));
        }
    }
    return v;
}

RAY_API ray_value *
ray_value_retain(ray_value *value)
{
    (void)atom_u32_fetch_add(&value->refs, 1, ATOM_RELAXED);
    return value;
}

RAY_API void
ray_value_release(ray_value *value)
{
    while (value && atom_u32_fetch_add(&value->refs, UINT32_MAX, ATOM_ACQ_REL) == 1) {
        if (value->unheard && wk_unhandled_take(value)) {
            break;
        }
        if (value->kind == WK_VALUE_VIEW) {
            storec_unpin(&value->view);
        }
        if (value->outer) {
            ray_ref_release((ray_ref *)value->outer);
        }
        struct ray_value *base = value->base;
        if (!value->embedded) {
            free(value);
        }
        value = base;
    }
}

RAY_API const void *
ray_value_data(const ray_value *value)
{
    return value->data;
}

RAY_API size_t
ray_value_size(const ray_value *value)
{
    return value->size;
}

RAY_API uint32_t
ray_value_format(const ray_value *value)
{
    return value->format;
}

RAY_API bool
ray_value_is_shared(const ray_value *value)
{
    return value->kind == WK_VALUE_VIEW;
}

RAY_API size_t
ray_value_ref_count(const ray_value *value)
{
    return value->item_count;
}

RAY_API int
ray_value_status(const ray_value *value)
{
    return value->status;
}

/* ---- pieces ---- */

size_t
wk_value_piece_bytes(const struct ray_value *value)
{
    const uint64_t size = value->kind == WK_VALUE_HINT ? sizeof(struct store_hint) : value->size;
    return wk_piece_bytes(size, value->item_count);
}

static uint8_t *
put_padded(uint8_t *at, const void *bytes, size_t size)
{
    if (size > 0) {
        memcpy(at, bytes, size);
    }
    memset(at + size, 0, wk_pad8(size) - size);
    return at + wk_pad8(size);
}

size_t
wk_value_encode(const struct ray_value *value, uint8_t *out)
{
    const bool is_hint = value->kind == WK_VALUE_HINT;
    const struct peer_piece head = {
        .size = is_hint ? sizeof(struct store_hint) : value->size,
        .format = value->format,
        .item_count = value->item_count,
        .kind = is_hint                         ? PEER_HINT
                : value->kind == WK_VALUE_ERROR ? PEER_ERROR
                                                : PEER_INLINE,
    };
    uint8_t *at = out;
    memcpy(at, &head, sizeof(head));
    at += sizeof(head);
    at = put_padded(at, is_hint ? (const void *)&value->hint : value->data, head.size);
    at = put_padded(at, value->items, value->item_count * sizeof(struct own_item));
    return (size_t)(at - out);
}

int
wk_piece_decode(const uint8_t **at, const uint8_t *end, struct wk_piece *out)
{
    size_t left = (size_t)(end - *at);
    if (left < sizeof(out->head)) {
        return st_fail(ST_PROTOCOL, "a value is cut off");
    }
    memcpy(&out->head, *at, sizeof(out->head));
    left -= sizeof(out->head);
    out->data = *at + sizeof(out->head);
    if (out->head.size > left || wk_pad8(out->head.size) > left) {
        return st_fail(ST_PROTOCOL, "a value of %zu bytes is cut off", (size_t)out->head.size);
    }
    left -= wk_pad8(out->head.size);
    out->items = out->data + wk_pad8(out->head.size);
    if (out->head.item_count > OWN_ITEMS_MAX) {
        return st_fail(ST_PROTOCOL, "a value with %u references", out->head.item_count);
    }
    const size_t items = wk_pad8(out->head.item_count * sizeof(struct own_item));
    if (items > left) {
        return st_fail(ST_PROTOCOL, "a value's references are cut off");
    }
    *at = out->items + items;
    return ST_OK;
}

static bool
text_at(const char *base, size_t *used, size_t total, uint32_t size)
{
    if (size == 0 || size > total - *used || base[*used + size - 1] != '\0') {
        return false;
    }
    *used += size;
    return true;
}

static bool
failure_is_sound(const uint8_t *data, uint64_t size)
{
    struct failure_head head;
    if (size < sizeof(head)) {
        return false;
    }
    memcpy(&head, data, sizeof(head));
    const char *texts = (const char *)data + sizeof(head);
    const size_t total = size - sizeof(head);
    size_t used = 0;
    return head.status < 0 && text_at(texts, &used, total, head.text_size) &&
           text_at(texts, &used, total, head.function_size) &&
           text_at(texts, &used, total, head.node_size) &&
           text_at(texts, &used, total, head.class_size) && head.data_size == total - used;
}

/* `data` is where the piece's bytes are now: what a peer can still rewrite is not to be checked. */
static bool
fill_of_piece(const struct wk_piece *piece, const uint8_t *data, struct ray_value *v)
{
    v->format = piece->head.format;
    switch ((enum peer_piece_kind)piece->head.kind) {
    case PEER_INLINE:
        v->kind = WK_VALUE_INLINE;
        return true;
    case PEER_HINT:
        if (piece->head.size != sizeof(struct store_hint)) {
            return false;
        }
        v->kind = WK_VALUE_HINT;
        memcpy(&v->hint, data, sizeof(v->hint));
        v->size = v->hint.size;
        return true;
    case PEER_ERROR: {
        struct failure_head head;
        if (!failure_is_sound(data, piece->head.size)) {
            return false;
        }
        memcpy(&head, data, sizeof(head));
        v->kind = WK_VALUE_ERROR;
        v->status = head.status;
        return true;
    }
    }
    return false;
}

struct ray_value *
wk_value_of_piece(const struct wk_piece *piece)
{
    uint8_t *data;
    struct own_item *items;
    const bool is_hint = piece->head.kind == PEER_HINT;
    struct ray_value *v = wk_value_create(WK_VALUE_INLINE, is_hint ? 0 : piece->head.size,
                                          piece->head.item_count, &data, &items);
    if (!v) {
        return NULL;
    }
    if (!is_hint) {
        memcpy(data, piece->data, piece->head.size);
    }
    memcpy(items, piece->items, piece->head.item_count * sizeof(*items));
    if (!fill_of_piece(piece, is_hint ? piece->data : data, v)) {
        free(v);
        return NULL;
    }
    return v;
}

bool
wk_value_embed(const struct wk_piece *piece, struct ray_value *base, struct ray_value *out)
{
    memset(out, 0, sizeof(*out));
    atom_u32_store(&out->refs, 1, ATOM_RELAXED);
    out->embedded = true;
    out->size = piece->head.size;
    out->data = piece->data;
    out->item_count = piece->head.item_count;
    /* own_item holds bytes only, so any address is aligned for it. */
    _Static_assert(_Alignof(struct own_item) == 1, "items are read in place");
    out->items = (const struct own_item *)(const void *)piece->items;
    if (!fill_of_piece(piece, piece->data, out)) {
        return false;
    }
    out->base = ray_value_retain(base);
    return true;
}

/* ---- failures ---- */

static uint32_t
text_size(const char *text)
{
    return text ? (uint32_t)strlen(text) + 1 : 1;
}

static uint8_t *
put_text(uint8_t *at, const char *text, uint32_t size)
{
    memcpy(at, text ? text : "", size);
    return at + size;
}

struct ray_value *
wk_value_create_failure(const struct wk_failure *f)
{
    struct failure_head head = {
        .status = f->status,
        .pid = f->pid,
        .format = f->format,
        .actor_init_failed = f->actor_init_failed,
        .never_started = f->never_started,
        .text_size = text_size(f->text),
        .function_size = text_size(f->function),
        .node_size = text_size(f->node_ip),
        .class_size = text_size(f->class_name),
        .data_size = f->data_size,
    };
    ASSERT(f->status < 0);
    memset(&head.actor, 0xff, sizeof(head.actor));
    memset(&head.task, 0xff, sizeof(head.task));
    memset(&head.object, 0xff, sizeof(head.object));
    if (f->actor_id) {
        memcpy(head.actor.b, f->actor_id, sizeof(head.actor.b));
    }
    if (f->task_id) {
        memcpy(head.task.b, f->task_id, sizeof(head.task.b));
    }
    if (f->object_id) {
        memcpy(head.object.b, f->object_id, sizeof(head.object.b));
    }
    const size_t size = sizeof(head) + head.text_size + head.function_size + head.node_size +
                        head.class_size + f->data_size;
    uint8_t *at;
    struct ray_value *v = wk_value_create(WK_VALUE_ERROR, size, 0, &at, NULL);
    if (!v) {
        return NULL;
    }
    v->status = f->status;
    v->format = f->format;
    memcpy(at, &head, sizeof(head));
    at = put_text(at + sizeof(head), f->text, head.text_size);
    at = put_text(at, f->function, head.function_size);
    at = put_text(at, f->node_ip, head.node_size);
    at = put_text(at, f->class_name, head.class_size);
    if (f->data_size > 0) {
        memcpy(at, f->data, f->data_size);
    }
    return v;
}

void
wk_value_read_failure(const struct ray_value *value, struct wk_failure *out)
{
    ASSERT(value->kind == WK_VALUE_ERROR);
    const uint8_t *base = value->data;
    struct failure_head head;
    memcpy(&head, base, sizeof(head));
    const char *text = (const char *)base + sizeof(head);
    *out = (struct wk_failure){
        .status = head.status,
        .pid = head.pid,
        .actor_init_failed = head.actor_init_failed,
        .never_started = head.never_started,
        .format = head.format,
        .actor_id = base + offsetof(struct failure_head, actor),
        .task_id = base + offsetof(struct failure_head, task),
        .object_id = base + offsetof(struct failure_head, object),
        .text = text,
        .function = text + head.text_size,
        .node_ip = text + head.text_size + head.function_size,
        .class_name = text + head.text_size + head.function_size + head.node_size,
        .data_size = head.data_size,
    };
    out->data = out->class_name + head.class_size;
}

RAY_API int
ray_value_failure(const ray_value *value, struct ray_failure *out)
{
    if (value->kind != WK_VALUE_ERROR) {
        return st_fail(ST_INVALID_ARGUMENT, "the value is no failure");
    }
    struct wk_failure f;
    wk_value_read_failure(value, &f);
    out->status = f.status;
    out->text = f.text;
    out->function = f.function;
    out->pid = f.pid;
    out->node_ip = f.node_ip;
    memcpy(out->actor_id, f.actor_id, sizeof(out->actor_id));
    memcpy(out->task_id, f.task_id, sizeof(out->task_id));
    memcpy(out->object_id, f.object_id, sizeof(out->object_id));
    out->class_name = f.class_name;
    out->actor_init_failed = f.actor_init_failed;
    out->never_started = f.never_started;
    out->data = f.data_size > 0 ? f.data : NULL;
    out->data_size = f.data_size;
    out->format = f.format;
    return RAY_OK;
}
