/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One serialisation: a growing run of bytes, the references named in it, and large pieces that are
 * handed to libray where they lie. All memory of a small value is inside `struct ser`, on the
 * stack.
 */
#include "_raymodule.h"

#include <string.h>

static const uint8_t padding[BUFFER_ALIGN];

void
ser_init(struct ser *s, struct state *st)
{
    s->st = st;
    s->outer = NULL;
    s->data = s->inline_data;
    s->size = 0;
    s->capacity = sizeof(s->inline_data);
    s->refs = s->inline_refs;
    s->ref_count = 0;
    s->ref_capacity = SER_REFS;
    s->pieces = s->inline_pieces;
    s->piece_count = 0;
    s->piece_capacity = SER_PIECES;
    s->kept = NULL;
    s->views = NULL;
    s->view_count = 0;
    s->view_capacity = 0;
    s->head = NULL;
    s->head_size = 0;
    s->bufs = s->inline_bufs;
    s->format = FORMAT_COMPACT;
    s->positional = 0;
    s->keywords = 0;
    s->slots = NULL;
    s->slot_count = 0;
    s->is_call = false;
    s->depth = 0;
    s->items = 0;
    s->container_count = 0;
}

void
ser_reset(struct ser *s)
{
    for (size_t i = 0; i < s->ref_count; i++) {
        ray_ref_release(s->refs[i]);
    }
    for (size_t i = 0; i < s->view_count; i++) {
        PyBuffer_Release(&s->views[i]);
    }
    Py_CLEAR(s->kept);
    s->size = 0;
    s->ref_count = 0;
    s->piece_count = 0;
    s->view_count = 0;
    s->depth = 0;
    s->items = 0;
    s->container_count = 0;
}

void
ser_fini(struct ser *s)
{
    ser_reset(s);
    if (s->data != s->inline_data) {
        PyMem_Free(s->data);
    }
    if (s->refs != s->inline_refs) {
        PyMem_Free(s->refs);
    }
    if (s->pieces != s->inline_pieces) {
        PyMem_Free(s->pieces);
    }
    if (s->bufs != s->inline_bufs) {
        PyMem_Free(s->bufs);
    }
    PyMem_Free(s->views);
    PyMem_Free(s->head);
}

/* Grows an array that begins inside the struct. `*items` has `used` elements of `size` bytes. */
static int
grow(void **items, const void *inline_items, size_t used, size_t *capacity, size_t needed,
     size_t size)
{
    size_t wanted = *capacity < 16 ? 16 : *capacity * 2;
    while (wanted < needed) {
        wanted *= 2;
    }
    if (wanted > (size_t)PY_SSIZE_T_MAX / size) {
        PyErr_NoMemory();
        return -1;
    }
    const bool was_inline = *items == inline_items;
    void *grown = PyMem_Realloc(was_inline ? NULL : *items, wanted * size);
    if (grown == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    if (was_inline && used > 0) {
        memcpy(grown, inline_items, used * size);
    }
    *items = grown;
    *capacity = wanted;
    return 0;
}

int
ser_reserve(struct ser *s, size_t size)
{
    if (s->capacity - s->size >= size) {
        return 0;
    }
    void *data = s->data;
    if (size > (size_t)PY_SSIZE_T_MAX / 4 ||
        grow(&data, s->inline_data, s->size, &s->capacity, s->size + size, 1)) {
        PyErr_NoMemory();
        return -1;
    }
    s->data = data;
    return 0;
}

int
ser_write(struct ser *s, const void *data, size_t size)
{
    if (ser_reserve(s, size)) {
        return -1;
    }
    memcpy(s->data + s->size, data, size);
    s->size += size;
    return 0;
}

int
ser_varint(struct ser *s, uint64_t n)
{
    if (ser_reserve(s, 10)) {
        return -1;
    }
    while (n >= 0x80) {
        s->data[s->size++] = (uint8_t)(n | 0x80);
        n >>= 7;
    }
    s->data[s->size++] = (uint8_t)n;
    return 0;
}

int
ser_add_piece(struct ser *s, const void *data, size_t size)
{
    if (s->piece_count == s->piece_capacity) {
        void *pieces = s->pieces;
        if (grow(&pieces, s->inline_pieces, s->piece_count, &s->piece_capacity, s->piece_count + 1,
                 sizeof(struct piece))) {
            return -1;
        }
        s->pieces = pieces;
    }
    s->pieces[s->piece_count++] = (struct piece){ s->size, data, size };
    return 0;
}

int
ser_add_ref(struct ser *s, ray_ref *ref, uint32_t *index)
{
    if (s->ref_count == s->ref_capacity) {
        void *refs = s->refs;
        if (grow(&refs, s->inline_refs, s->ref_count, &s->ref_capacity, s->ref_count + 1,
                 sizeof(ray_ref *))) {
            return -1;
        }
        s->refs = refs;
    }
    *index = (uint32_t)s->ref_count;
    s->refs[s->ref_count++] = ray_ref_retain(ref);
    return 0;
}

int
ser_value(struct ser *s, PyObject *value)
{
    const int done = encode_value(s, value, true);
    if (done > 0) {
        s->format = FORMAT_COMPACT;
        return 0;
    }
    if (done < 0) {
        return -1;
    }
    ser_reset(s);
    s->format = FORMAT_PICKLE;
    return pickle_value(s, value);
}

size_t
ser_total(const struct ser *s)
{
    size_t total = s->size + s->head_size;
    for (size_t i = 0; i < s->piece_count; i++) {
        total += s->pieces[i].size;
    }
    for (size_t i = 0; i < s->view_count; i++) {
        total += (size_t)s->views[i].len + BUFFER_ALIGN;
    }
    return total;
}

static size_t
pad_of(size_t offset)
{
    return (BUFFER_ALIGN - offset % BUFFER_ALIGN) % BUFFER_ALIGN;
}

/* Builds the head of a pickle: it is known only when all buffers are. */
static int
build_head(struct ser *s)
{
    const size_t slots_size = s->slot_count * sizeof(uint32_t);
    const size_t table_size = s->view_count * sizeof(struct pickle_buffer);
    s->head_size = sizeof(struct pickle_header) + table_size + slots_size;
    s->head = PyMem_Malloc(s->head_size);
    if (s->head == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    const struct pickle_header header = {
        .buffer_count = (uint32_t)s->view_count,
        .is_call = s->is_call,
        .positional = s->positional,
        .keywords = s->keywords,
        .slot_count = s->slot_count,
        .pickle_size = s->size,
    };
    memcpy(s->head, &header, sizeof(header));
    size_t offset = s->head_size + s->size;
    for (size_t i = 0; i < s->view_count; i++) {
        offset += pad_of(offset);
        const struct pickle_buffer entry = { offset, (uint64_t)s->views[i].len };
        memcpy(s->head + sizeof(header) + i * sizeof(entry), &entry, sizeof(entry));
        offset += (size_t)s->views[i].len;
    }
    if (slots_size > 0) {
        memcpy(s->head + sizeof(header) + table_size, s->slots, slots_size);
    }
    return 0;
}

static int
reserve_bufs(struct ser *s, size_t count)
{
    if (count <= sizeof(s->inline_bufs) / sizeof(s->inline_bufs[0])) {
        return 0;
    }
    s->bufs = PyMem_Malloc(count * sizeof(struct ray_buf));
    if (s->bufs == NULL) {
        s->bufs = s->inline_bufs;
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

/* Head, pickle, then each buffer behind its padding. */
static size_t
lay_pickle(struct ser *s)
{
    size_t count = 0;
    s->bufs[count++] = (struct ray_buf){ s->head, s->head_size };
    s->bufs[count++] = (struct ray_buf){ s->data, s->size };
    size_t offset = s->head_size + s->size;
    for (size_t i = 0; i < s->view_count; i++) {
        const size_t pad = pad_of(offset);
        s->bufs[count++] = (struct ray_buf){ padding, pad };
        s->bufs[count++] = (struct ray_buf){ s->views[i].buf, (size_t)s->views[i].len };
        offset += pad + (size_t)s->views[i].len;
    }
    return count;
}

/* The written bytes, cut where pieces belong. */
static size_t
lay_pieces(struct ser *s)
{
    size_t count = 0;
    size_t from = 0;
    for (size_t i = 0; i < s->piece_count; i++) {
        const struct piece *piece = &s->pieces[i];
        s->bufs[count++] = (struct ray_buf){ s->data + from, piece->at - from };
        s->bufs[count++] = (struct ray_buf){ piece->data, piece->size };
        from = piece->at;
    }
    s->bufs[count++] = (struct ray_buf){ s->data + from, s->size - from };
    return count;
}

int
ser_payload(struct ser *s, struct ray_payload *out)
{
    size_t count;
    if (s->format == FORMAT_PICKLE) {
        if (build_head(s) || reserve_bufs(s, 2 + 2 * s->view_count)) {
            return -1;
        }
        count = lay_pickle(s);
    } else {
        if (reserve_bufs(s, 1 + 2 * s->piece_count)) {
            return -1;
        }
        count = lay_pieces(s);
    }
    *out = (struct ray_payload){
        .bufs = s->bufs,
        .buf_count = count,
        .refs = s->refs,
        .ref_count = s->ref_count,
        .format = (uint32_t)s->format,
    };
    return 0;
}
