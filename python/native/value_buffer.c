/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ValueBuffer: a read-only buffer over bytes of a value. Arrays that were read without a copy stand
 * on it, so it keeps the value alive for as long as the last of them lives, also past ray.shutdown.
 */
#include "_raymodule.h"

typedef struct {
    PyObject_HEAD ray_value *value;
    const void *data;
    Py_ssize_t size;
} ValueBuffer;

PyObject *
value_buffer_new(struct state *st, ray_value *value, const void *data, size_t size)
{
    PyTypeObject *type = (PyTypeObject *)st->value_buffer_type;
    ValueBuffer *self = (ValueBuffer *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->value = ray_value_retain(value);
    self->data = data;
    self->size = (Py_ssize_t)size;
    return (PyObject *)self;
}

ray_value *
value_buffer_value(struct state *st, PyObject *o)
{
    return (PyObject *)Py_TYPE(o) == st->value_buffer_type ? ((ValueBuffer *)o)->value : NULL;
}

static void
buffer_dealloc(PyObject *o)
{
    PyTypeObject *type = Py_TYPE(o);
    ray_value_release(((ValueBuffer *)o)->value);
    type->tp_free(o);
    Py_DECREF(type);
}

static int
buffer_get(PyObject *o, Py_buffer *view, int flags)
{
    ValueBuffer *self = (ValueBuffer *)o;
    /* The C API has no const here; the view is marked read only, and the memory is. */
    return PyBuffer_FillInfo(view, o, (void *)(uintptr_t)self->data, self->size, 1, flags);
}

static Py_ssize_t
buffer_length(PyObject *o)
{
    return ((ValueBuffer *)o)->size;
}

static char buffer_doc[] = "Read-only bytes of a value, kept alive by this object.";

static PyType_Slot buffer_slots[] = {
    { Py_tp_doc, buffer_doc },
    { Py_tp_dealloc, (void *)buffer_dealloc },
    { Py_sq_length, (void *)buffer_length },
    { Py_bf_getbuffer, (void *)buffer_get },
    { 0, NULL },
};

PyType_Spec value_buffer_spec = {
    .name = "ray._native.ValueBuffer",
    .basicsize = sizeof(ValueBuffer),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = buffer_slots,
};
