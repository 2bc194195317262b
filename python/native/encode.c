/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values in tags: what most arguments and results are, without pickle.
 *
 * A value is one tag byte and what belongs to it, all little-endian, n a varint:
 *
 *     N T F         None, True, False
 *     i <1>  I <8>  an int of one signed byte, of eight
 *     d <8>         a float
 *     s <1> bytes   a str of less than 256 bytes in UTF-8;   S n bytes   any str
 *     b <1> bytes   a bytes of less than 256;                B n bytes   any bytes
 *     ( n values    a tuple;   [ n values   a list;   { n pairs   a dict
 *     r n           reference number n of the value
 *     R n           calls only: argument n of the task, a reference's value
 *
 * Only exact types: a subclass goes through pickle. A container that occurs twice goes through
 * pickle too, since the copy must have the same shape; so does anything large or deep, for which
 * the C pickler is as fast.
 */
#include "_raymodule.h"

#include <string.h>

enum {
    MAX_DEPTH = 16,
    MAX_ITEMS = 1 << 20,
    MAX_INNER_BYTES = 1024,    /* of a str or bytes inside a container: it may occur many times */
    MAX_OUTER_BYTES = 1 << 20, /* of everything in containers, for the same reason */
    PIECE_MIN = 16 * 1024,     /* larger bytes are not copied into the writer */
};

static int
encode_int(struct ser *s, PyObject *o)
{
    int overflow = 0;
    const long long n = PyLong_AsLongLongAndOverflow(o, &overflow);
    if (overflow != 0) {
        return 0;
    }
    if (n == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (ser_reserve(s, 9)) {
        return -1;
    }
    if (n >= INT8_MIN && n <= INT8_MAX) {
        s->data[s->size++] = 'i';
        s->data[s->size++] = (uint8_t)(int8_t)n;
        return 1;
    }
    const int64_t wide = n;
    s->data[s->size++] = 'I';
    memcpy(s->data + s->size, &wide, sizeof(wide));
    s->size += sizeof(wide);
    return 1;
}

static int
encode_run(struct ser *s, uint8_t short_tag, uint8_t long_tag, const void *data, size_t size)
{
    if (size < 256) {
        if (ser_reserve(s, 2 + size)) {
            return -1;
        }
        s->data[s->size++] = short_tag;
        s->data[s->size++] = (uint8_t)size;
        memcpy(s->data + s->size, data, size);
        s->size += size;
        return 1;
    }
    if (ser_byte(s, long_tag) || ser_varint(s, size)) {
        return -1;
    }
    if (size >= PIECE_MIN) {
        return ser_add_piece(s, data, size) ? -1 : 1;
    }
    return ser_write(s, data, size) ? -1 : 1;
}

static int
encode_str(struct ser *s, PyObject *o, bool top)
{
    Py_ssize_t size = 0;
    const char *text = PyUnicode_AsUTF8AndSize(o, &size);
    if (text == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_UnicodeError)) {
            return -1;
        }
        PyErr_Clear(); /* lone surrogates: pickle can */
        return 0;
    }
    if (!top && size > MAX_INNER_BYTES) {
        return 0;
    }
    return encode_run(s, 's', 'S', text, (size_t)size);
}

/* Whether a container was met before; else remembers it. */
static bool
met_before(struct ser *s, const void *container)
{
    for (unsigned i = 0; i < s->container_count; i++) {
        if (s->containers[i] == container) {
            return true;
        }
    }
    if (s->container_count == SER_CONTAINERS) {
        return true;
    }
    s->containers[s->container_count++] = container;
    return false;
}

static int
encode_items(struct ser *s, uint8_t tag, PyObject *const *items, Py_ssize_t count)
{
    if (ser_byte(s, tag) || ser_varint(s, (uint64_t)count)) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        const int done = encode_value(s, items[i], false);
        if (done <= 0 || s->size > MAX_OUTER_BYTES) {
            return done < 0 ? -1 : 0;
        }
    }
    return 1;
}

static int
encode_dict(struct ser *s, PyObject *o)
{
    if (ser_byte(s, '{') || ser_varint(s, (uint64_t)PyDict_GET_SIZE(o))) {
        return -1;
    }
    Py_ssize_t at = 0;
    PyObject *key, *value;
    while (PyDict_Next(o, &at, &key, &value)) {
        int done = encode_value(s, key, false);
        if (done > 0) {
            done = encode_value(s, value, false);
        }
        if (done <= 0 || s->size > MAX_OUTER_BYTES) {
            return done < 0 ? -1 : 0;
        }
    }
    return 1;
}

/* No Python code runs in here, since all types are exact: containers can't change meanwhile. */
static int
encode_container(struct ser *s, PyObject *o, Py_ssize_t count)
{
    if (s->depth >= MAX_DEPTH || count > MAX_ITEMS || s->items + (unsigned)count > MAX_ITEMS) {
        return 0;
    }
    if (o != s->st->empty_tuple && met_before(s, o)) {
        return 0;
    }
    s->items += (unsigned)count;
    s->depth++;
    int done;
    if (PyTuple_CheckExact(o)) {
        done = encode_items(s, '(', &PyTuple_GET_ITEM(o, 0), count);
    } else if (PyList_CheckExact(o)) {
        done = encode_items(s, '[', ((PyListObject *)o)->ob_item, count);
    } else {
        done = encode_dict(s, o);
    }
    s->depth--;
    return done;
}

static int
encode_ref(struct ser *s, PyObject *o)
{
    ray_ref *ref = ((ObjectRef *)o)->ref;
    uint32_t index = 0;
    if (ref == NULL) {
        return 0;
    }
    if (ser_add_ref(s, ref, &index) || ser_byte(s, 'r') || ser_varint(s, index)) {
        return -1;
    }
    return 1;
}

int
encode_value(struct ser *s, PyObject *o, bool top)
{
    PyTypeObject *type = Py_TYPE(o);
    if (o == Py_None) {
        return ser_byte(s, 'N') ? -1 : 1;
    }
    if (type == &PyLong_Type) {
        return encode_int(s, o);
    }
    if (type == &PyUnicode_Type) {
        return encode_str(s, o, top);
    }
    if (type == &PyFloat_Type) {
        const double d = PyFloat_AS_DOUBLE(o);
        return ser_byte(s, 'd') || ser_write(s, &d, sizeof(d)) ? -1 : 1;
    }
    if (type == &PyBool_Type) {
        return ser_byte(s, o == Py_True ? 'T' : 'F') ? -1 : 1;
    }
    if (type == &PyTuple_Type) {
        return encode_container(s, o, PyTuple_GET_SIZE(o));
    }
    if (type == &PyList_Type) {
        return encode_container(s, o, PyList_GET_SIZE(o));
    }
    if (type == &PyDict_Type) {
        return encode_container(s, o, PyDict_GET_SIZE(o));
    }
    if (type == &PyBytes_Type) {
        const size_t size = (size_t)PyBytes_GET_SIZE(o);
        if (!top && size > MAX_INNER_BYTES) {
            return 0;
        }
        return encode_run(s, 'b', 'B', PyBytes_AS_STRING(o), size);
    }
    if (is_object_ref(s->st, o)) {
        return encode_ref(s, o);
    }
    return 0;
}
