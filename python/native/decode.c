/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading values back. The bytes come from another process, so everything is checked against their
 * end; what is wrong with them becomes a RaySystemError-like ValueError, never a crash.
 */
#include "_raymodule.h"

#include <string.h>

/* The value whose pickle is being read by this thread: references in it are numbers. */
struct reading {
    ray_value *value;
    struct reading *outer;
};
static _Thread_local struct reading *current;

struct reader {
    const uint8_t *at, *end;
    struct state *st;
    ray_value *value; /* whose references are meant */
    ray_task *task;   /* calls: whose arguments are meant; NULL */
    unsigned depth;
    bool failed_argument;
};

enum { MAX_READ_DEPTH = 64 };

static PyObject *
malformed(void)
{
    PyErr_SetString(PyExc_ValueError, "malformed bytes of a Python value");
    return NULL;
}

static bool
has(const struct reader *r, uint64_t size)
{
    return (uint64_t)(r->end - r->at) >= size;
}

static int
read_varint(struct reader *r, uint64_t *out)
{
    uint64_t n = 0;
    for (unsigned shift = 0; shift < 64 && r->at < r->end; shift += 7) {
        const uint8_t byte = *r->at++;
        n |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *out = n;
            return 0;
        }
    }
    malformed();
    return -1;
}

static PyObject *read_value(struct reader *r);

/* new. Item `i` of what came before is filled, the rest is NULL: the container can be dropped. */
static PyObject *
read_items(struct reader *r, bool is_tuple)
{
    uint64_t count = 0;
    if (read_varint(r, &count)) {
        return NULL;
    }
    if (!has(r, count)) {
        return malformed();
    }
    PyObject *items = is_tuple ? PyTuple_New((Py_ssize_t)count) : PyList_New((Py_ssize_t)count);
    for (Py_ssize_t i = 0; items != NULL && i < (Py_ssize_t)count; i++) {
        PyObject *item = read_value(r);
        if (item == NULL) {
            Py_CLEAR(items);
        } else if (is_tuple) {
            PyTuple_SET_ITEM(items, i, item);
        } else {
            PyList_SET_ITEM(items, i, item);
        }
    }
    return items;
}

static PyObject *
read_dict(struct reader *r)
{
    uint64_t count = 0;
    if (read_varint(r, &count)) {
        return NULL;
    }
    PyObject *dict = PyDict_New();
    for (uint64_t i = 0; dict != NULL && i < count; i++) {
        PyObject *key = read_value(r);
        PyObject *value = key == NULL ? NULL : read_value(r);
        if (value == NULL || PyDict_SetItem(dict, key, value)) {
            Py_CLEAR(dict);
        }
        Py_XDECREF(key);
        Py_XDECREF(value);
    }
    return dict;
}

static PyObject *
read_run(struct reader *r, uint8_t tag)
{
    uint64_t size = 0;
    if (tag == 's' || tag == 'b') {
        if (!has(r, 1)) {
            return malformed();
        }
        size = *r->at++;
    } else if (read_varint(r, &size)) {
        return NULL;
    }
    if (!has(r, size)) {
        return malformed();
    }
    const char *data = (const char *)r->at;
    r->at += size;
    if (tag == 's' || tag == 'S') {
        return PyUnicode_DecodeUTF8(data, (Py_ssize_t)size, NULL);
    }
    return PyBytes_FromStringAndSize(data, (Py_ssize_t)size);
}

/* new. Reference `index` of a value. */
static PyObject *
ref_of_value(struct state *st, ray_value *value, uint64_t index)
{
    ray_ref *ref = NULL;
    const int status = ray_value_ref(value, index, &ref);
    return status != RAY_OK ? raise_status(status) : object_ref_new(st, ref);
}

/* new. The value of the task's argument `index`. An argument that is an error is raised. */
static PyObject *
read_argument(struct reader *r, uint64_t index)
{
    if (r->task == NULL || index == 0 || index >= ray_task_arg_count(r->task)) {
        return malformed();
    }
    ray_value *value = ray_task_arg(r->task, index);
    if (value == NULL) {
        return malformed();
    }
    if (ray_value_status(value) != RAY_OK) {
        r->failed_argument = true;
        return raise_failure(value);
    }
    return decode_value(r->st, value);
}

static PyObject *
read_number(struct reader *r, uint8_t tag)
{
    if (!has(r, tag == 'i' ? 1 : 8)) {
        return malformed();
    }
    if (tag == 'i') {
        return PyLong_FromLong((int8_t)*r->at++);
    }
    if (tag == 'I') {
        int64_t n = 0;
        memcpy(&n, r->at, sizeof(n));
        r->at += sizeof(n);
        return PyLong_FromLongLong(n);
    }
    double d = 0;
    memcpy(&d, r->at, sizeof(d));
    r->at += sizeof(d);
    return PyFloat_FromDouble(d);
}

static PyObject *
read_container(struct reader *r, uint8_t tag)
{
    if (r->depth == MAX_READ_DEPTH) {
        return malformed();
    }
    r->depth++;
    PyObject *container = tag == '{' ? read_dict(r) : read_items(r, tag == '(');
    r->depth--;
    return container;
}

static PyObject *
read_value(struct reader *r)
{
    if (!has(r, 1)) {
        return malformed();
    }
    const uint8_t tag = *r->at++;
    uint64_t index = 0;
    switch (tag) {
    case 'N':
        return new_ref(Py_None);
    case 'T':
        return new_ref(Py_True);
    case 'F':
        return new_ref(Py_False);
    case 'i':
    case 'I':
    case 'd':
        return read_number(r, tag);
    case 's':
    case 'S':
    case 'b':
    case 'B':
        return read_run(r, tag);
    case '(':
    case '[':
    case '{':
        return read_container(r, tag);
    case 'r':
        return read_varint(r, &index) ? NULL : ref_of_value(r->st, r->value, index);
    case 'R':
        return read_varint(r, &index) ? NULL : read_argument(r, index);
    default:
        return malformed();
    }
}

/* ---- pickles --------------------------------------------------------------------------------- */

struct pickle_view {
    struct pickle_header header;
    const uint8_t *base;
    size_t size; /* of everything */
    size_t pickle_at;
};

static int
open_pickle(ray_value *value, struct pickle_view *out)
{
    out->base = ray_value_data(value);
    out->size = ray_value_size(value);
    if (out->size < sizeof(out->header)) {
        malformed();
        return -1;
    }
    memcpy(&out->header, out->base, sizeof(out->header));
    const uint64_t tables = sizeof(out->header) +
                            (uint64_t)out->header.buffer_count * sizeof(struct pickle_buffer) +
                            (uint64_t)out->header.slot_count * sizeof(uint32_t);
    if (tables > out->size || out->header.pickle_size > out->size - tables) {
        malformed();
        return -1;
    }
    out->pickle_at = tables;
    return 0;
}

/* new. The list of buffers that go to pickle.loads. */
static PyObject *
pickle_buffers(struct state *st, ray_value *value, const struct pickle_view *view)
{
    PyObject *list = PyList_New((Py_ssize_t)view->header.buffer_count);
    for (uint32_t i = 0; list != NULL && i < view->header.buffer_count; i++) {
        struct pickle_buffer entry;
        memcpy(&entry, view->base + sizeof(view->header) + i * sizeof(entry), sizeof(entry));
        PyObject *buffer = NULL;
        if (entry.offset > view->size || entry.size > view->size - entry.offset) {
            malformed();
        } else {
            buffer = value_buffer_new(st, value, view->base + entry.offset, entry.size);
        }
        if (buffer == NULL) {
            Py_CLEAR(list);
        } else {
            PyList_SET_ITEM(list, (Py_ssize_t)i, buffer);
        }
    }
    return list;
}

static PyObject *
loads(struct state *st, ray_value *value, const struct pickle_view *view)
{
    if (import_once(&st->pickle_loads, "pickle", "loads")) {
        return NULL;
    }
    PyObject *data =
        value_buffer_new(st, value, view->base + view->pickle_at, view->header.pickle_size);
    if (data == NULL) {
        return NULL;
    }
    PyObject *result = NULL;
    struct reading reading = { .value = value, .outer = current };
    current = &reading;
    if (view->header.buffer_count == 0) {
        result = PyObject_CallOneArg(st->pickle_loads, data);
    } else {
        PyObject *buffers = pickle_buffers(st, value, view);
        PyObject *kwargs = buffers == NULL ? NULL : PyDict_New();
        PyObject *args = kwargs == NULL ? NULL : PyTuple_Pack(1, data);
        if (args != NULL && PyDict_SetItem(kwargs, st->str_buffers, buffers) == 0) {
            result = PyObject_Call(st->pickle_loads, args, kwargs);
        }
        Py_XDECREF(args);
        Py_XDECREF(kwargs);
        Py_XDECREF(buffers);
    }
    current = reading.outer;
    Py_DECREF(data);
    return result;
}

PyObject *
decode_value(struct state *st, ray_value *value)
{
    const uint32_t format = ray_value_format(value);
    if (format == FORMAT_COMPACT) {
        struct reader r = {
            .at = ray_value_data(value),
            .st = st,
            .value = value,
        };
        r.end = r.at + ray_value_size(value);
        return read_value(&r);
    }
    if (format == FORMAT_PICKLE) {
        struct pickle_view view;
        return open_pickle(value, &view) ? NULL : loads(st, value, &view);
    }
    if (format == FORMAT_RAW) {
        return PyBytes_FromStringAndSize(ray_value_data(value), (Py_ssize_t)ray_value_size(value));
    }
    PyErr_Format(PyExc_ValueError, "a value of unknown format %u", (unsigned)format);
    return NULL;
}

PyObject *
native_decode(PyObject *module, PyObject *buffer)
{
    struct state *st = state_of_module(module);
    ray_value *value = value_buffer_value(st, buffer);
    if (value == NULL) {
        PyErr_SetString(PyExc_TypeError, "decode needs a value buffer");
        return NULL;
    }
    return decode_value(st, value);
}

PyObject *
native_ref_at(PyObject *module, PyObject *index)
{
    const size_t at = PyLong_AsSize_t(index);
    if (at == (size_t)-1 && PyErr_Occurred()) {
        return NULL;
    }
    if (current == NULL) {
        PyErr_SetString(PyExc_ValueError,
                        "a reference inside a value can only be read together with that value");
        return NULL;
    }
    return ref_of_value(state_of_module(module), current->value, at);
}

PyObject *
native_actor_at(PyObject *module, PyObject *args)
{
    Py_ssize_t index = 0;
    PyObject *meta;
    if (!PyArg_ParseTuple(args, "nO:_actor_at", &index, &meta)) {
        return NULL;
    }
    PyObject *number = PyLong_FromSsize_t(index);
    PyObject *ref = number == NULL ? NULL : native_ref_at(module, number);
    Py_XDECREF(number);
    PyObject *both = ref == NULL ? NULL : PyTuple_Pack(2, ref, meta);
    Py_XDECREF(ref);
    PyObject *handle = both == NULL ? NULL : native_actor_from_ref(module, both);
    Py_XDECREF(both);
    return handle;
}

/* ---- calls ----------------------------------------------------------------------------------- */

static int
args_reserve(struct call_args *out, uint64_t count)
{
    if (count > UINT32_MAX) {
        malformed();
        return -1;
    }
    if (count + 1 > sizeof(out->inline_items) / sizeof(out->inline_items[0])) {
        out->items = PyMem_Calloc(count + 1, sizeof(PyObject *));
        if (out->items == NULL) {
            PyErr_NoMemory();
            return -1;
        }
    }
    return 0;
}

static int
read_call(struct reader *r, struct call_args *out)
{
    uint64_t positional = 0;
    uint64_t keywords = 0;
    if (read_varint(r, &positional) || read_varint(r, &keywords)) {
        return -1;
    }
    if (!has(r, positional) || !has(r, keywords) || args_reserve(out, positional + keywords)) {
        if (!PyErr_Occurred()) {
            malformed();
        }
        return -1;
    }
    out->positional = (Py_ssize_t)positional;
    if (keywords > 0) {
        out->kwnames = PyTuple_New((Py_ssize_t)keywords);
        for (Py_ssize_t i = 0; out->kwnames != NULL && i < (Py_ssize_t)keywords; i++) {
            PyObject *name = read_value(r);
            if (name == NULL || !PyUnicode_CheckExact(name)) {
                Py_XDECREF(name);
                return PyErr_Occurred() ? -1 : (malformed(), -1);
            }
            PyUnicode_InternInPlace(&name);
            PyTuple_SET_ITEM(out->kwnames, i, name);
        }
        if (out->kwnames == NULL) {
            return -1;
        }
    }
    for (uint64_t i = 0; i < positional + keywords; i++) {
        PyObject *item = read_value(r);
        if (item == NULL) {
            return -1;
        }
        out->items[1 + out->count++] = item;
    }
    return 0;
}

/* Puts the unpickled values where no reference stands, and the references' values where one does.
 */
static int
merge_slots(struct reader *r, const struct pickle_view *view, PyObject *values,
            struct call_args *out)
{
    const uint64_t total = (uint64_t)view->header.positional + view->header.keywords;
    const uint8_t *slots = view->base + sizeof(view->header) +
                           view->header.buffer_count * sizeof(struct pickle_buffer);
    uint32_t next_slot = 0;
    Py_ssize_t next_value = 0;
    for (uint64_t i = 0; i < total; i++) {
        uint32_t slot = UINT32_MAX;
        if (next_slot < view->header.slot_count) {
            memcpy(&slot, slots + next_slot * sizeof(slot), sizeof(slot));
        }
        PyObject *item;
        if (slot == i) {
            item = read_argument(r, ++next_slot);
        } else if (next_value < PyList_GET_SIZE(values)) {
            item = new_ref(PyList_GET_ITEM(values, next_value));
            next_value++;
        } else {
            item = malformed();
        }
        if (item == NULL) {
            return -1;
        }
        out->items[1 + out->count++] = item;
    }
    return 0;
}

static int
read_pickled_call(struct reader *r, struct call_args *out)
{
    struct pickle_view view;
    if (open_pickle(r->value, &view)) {
        return -1;
    }
    PyObject *pair = loads(r->st, r->value, &view);
    if (pair == NULL) {
        return -1;
    }
    int failed = -1;
    if (!PyTuple_CheckExact(pair) || PyTuple_GET_SIZE(pair) != 2 ||
        !PyList_CheckExact(PyTuple_GET_ITEM(pair, 0)) ||
        !PyTuple_CheckExact(PyTuple_GET_ITEM(pair, 1)) ||
        PyTuple_GET_SIZE(PyTuple_GET_ITEM(pair, 1)) != (Py_ssize_t)view.header.keywords) {
        malformed();
    } else if (args_reserve(out, (uint64_t)view.header.positional + view.header.keywords) == 0) {
        out->positional = (Py_ssize_t)view.header.positional;
        if (view.header.keywords > 0) {
            out->kwnames = new_ref(PyTuple_GET_ITEM(pair, 1));
        }
        failed = merge_slots(r, &view, PyTuple_GET_ITEM(pair, 0), out);
    }
    Py_DECREF(pair);
    return failed;
}

int
decode_call(struct state *st, ray_task *task, struct call_args *out, bool *failed_argument)
{
    out->items = out->inline_items;
    out->positional = 0;
    out->kwnames = NULL;
    out->count = 0;
    *failed_argument = false;
    if (ray_task_arg_count(task) == 0) {
        return 0;
    }
    ray_value *value = ray_task_arg(task, 0);
    if (value == NULL) {
        malformed();
        return -1;
    }
    if (ray_value_status(value) != RAY_OK) {
        *failed_argument = true;
        raise_failure(value);
        return -1;
    }
    struct reader r = { .st = st, .value = value, .task = task };
    r.at = ray_value_data(value);
    r.end = r.at + ray_value_size(value);
    int failed;
    if (ray_value_format(value) == FORMAT_CALL) {
        failed = read_call(&r, out);
    } else if (ray_value_format(value) == FORMAT_PICKLE) {
        failed = read_pickled_call(&r, out);
    } else {
        PyErr_Format(PyExc_ValueError, "arguments of unknown format %u",
                     (unsigned)ray_value_format(value));
        failed = -1;
    }
    *failed_argument = r.failed_argument;
    return failed;
}

void
call_args_fini(struct call_args *args)
{
    for (Py_ssize_t i = 0; i < args->count; i++) {
        Py_DECREF(args->items[1 + i]);
    }
    Py_XDECREF(args->kwnames);
    if (args->items != args->inline_items) {
        PyMem_Free(args->items);
    }
    args->count = 0;
    args->kwnames = NULL;
    args->items = args->inline_items;
}
