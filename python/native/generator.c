/* SPDX-License-Identifier: Apache-2.0 */
/*
 * StreamBase, what a call of a streaming generator gives: `next` waits for the next item's
 * reference. ray._private.generators derives ObjectRefGenerator from it, with what isn't on the
 * fast path.
 */
#include "_raymodule.h"

typedef struct {
    PyObject_HEAD struct state *st;
    ray_stream *stream;
} Stream;

PyObject *
stream_new(struct state *st, ray_stream *stream)
{
    if (import_once(&st->generator_class, "ray._private.generators", "ObjectRefGenerator")) {
        ray_stream_release(stream);
        return NULL;
    }
    PyTypeObject *type = (PyTypeObject *)st->generator_class;
    Stream *self = (Stream *)type->tp_alloc(type, 0);
    if (self == NULL) {
        ray_stream_release(stream);
        return NULL;
    }
    self->st = st;
    self->stream = stream;
    return (PyObject *)self;
}

static PyObject *
refuse_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)args;
    (void)kwargs;
    PyErr_Format(PyExc_TypeError, "%s objects are made by calls of generators", type->tp_name);
    return NULL;
}

static void
stream_dealloc(PyObject *o)
{
    PyTypeObject *type = Py_TYPE(o);
    ray_stream_release(((Stream *)o)->stream);
    type->tp_free(o);
    Py_DECREF(type);
}

ray_ref *
stream_peek(PyObject *o)
{
    ray_ref *ref = NULL;
    const int status = ray_stream_peek(((Stream *)o)->stream, &ref);
    if (status != RAY_OK) {
        raise_status(status);
    }
    return ref;
}

/* new; NULL with an exception, or, when *over, without one. None when time is up. */
static PyObject *
take(Stream *self, int64_t timeout_ms, bool *over)
{
    ray_ref *ref = NULL;
    *over = false;
    int status = ray_stream_next(self->stream, 0, &ref);
    const int64_t deadline = timeout_ms > 0 ? monotonic_ms() + timeout_ms : 0;
    while ((status == RAY_E_TIMED_OUT && timeout_ms != 0) || status == RAY_E_INTERRUPTED) {
        if (PyErr_CheckSignals()) {
            return NULL;
        }
        if (timeout_ms > 0) {
            const int64_t left = deadline - monotonic_ms();
            timeout_ms = left > 0 ? left : 0;
        }
        /* As every wait of a driver's: see wait_for_all. */
        const bool in_part = !self->st->is_worker && (timeout_ms < 0 || timeout_ms > SIGNALS_MS);
        Py_BEGIN_ALLOW_THREADS status =
            ray_stream_next(self->stream, in_part ? SIGNALS_MS : timeout_ms, &ref);
        Py_END_ALLOW_THREADS
    }
    *over = status == RAY_E_END_OF_STREAM;
    if (status == RAY_OK) {
        return object_ref_new(self->st, ref);
    }
    if (status == RAY_E_TIMED_OUT) {
        Py_RETURN_NONE;
    }
    return *over ? NULL : raise_status(status);
}

static PyObject *
stream_next(PyObject *o)
{
    bool over;
    return take((Stream *)o, -1, &over);
}

static PyObject *
stream_take(PyObject *o, PyObject *timeout)
{
    bool over;
    const double seconds = timeout == Py_None ? -1.0 : PyFloat_AsDouble(timeout);
    if (seconds == -1.0 && PyErr_Occurred()) {
        return NULL;
    }
    PyObject *ref =
        take((Stream *)o, seconds < 0 || seconds > 1e12 ? -1 : (int64_t)(seconds * 1000), &over);
    if (ref == NULL && over) {
        PyErr_SetNone(PyExc_StopIteration);
    }
    return ref;
}

static PyObject *
stream_peek_method(PyObject *o, PyObject *unused)
{
    (void)unused;
    ray_ref *ref = stream_peek(o);
    return ref == NULL ? NULL : object_ref_new(((Stream *)o)->st, ref);
}

static PyObject *
stream_state(PyObject *o, PyObject *unused)
{
    (void)unused;
    return PyLong_FromLong((long)ray_stream_look(((Stream *)o)->stream));
}

static PyObject *
stream_completed(PyObject *o, PyObject *unused)
{
    (void)unused;
    ray_ref *ref = ray_stream_completed(((Stream *)o)->stream);
    return object_ref_new(((Stream *)o)->st, ray_ref_retain(ref));
}

static PyObject *
stream_self(PyObject *o)
{
    return new_ref(o);
}

static PyMethodDef stream_methods[] = {
    { "completed", stream_completed, METH_NOARGS,
      "A reference that is ready when the task has ended: None, or its failure." },
    { "_take", stream_take, METH_O,
      "The next item's reference; None after so many seconds, StopIteration at the end." },
    { "_peek", stream_peek_method, METH_NOARGS, "A reference that is ready when `next` is." },
    { "_state", stream_state, METH_NOARGS, "0: `next` would wait; 1: it wouldn't; 2: the end." },
    { NULL, NULL, 0, NULL },
};

static PyType_Slot stream_slots[] = {
    { Py_tp_new, (void *)refuse_new },   { Py_tp_dealloc, (void *)stream_dealloc },
    { Py_tp_iter, (void *)stream_self }, { Py_tp_iternext, (void *)stream_next },
    { Py_tp_methods, stream_methods },   { 0, NULL },
};

PyType_Spec stream_spec = {
    .name = "ray._native.StreamBase",
    .basicsize = sizeof(Stream),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = stream_slots,
};
