/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pickling: the C pickler first, and by value (cloudpickle) when that is not right.
 *
 * The C pickler writes functions and classes by name. That is right for what a worker can import,
 * and wrong for what lives in __main__, in another function, or has no name of its own: then
 * reduce_fast raises, and the whole value is pickled again by value. Large buffers go past the
 * pickle (protocol 5) and are laid, aligned, behind it. References and actor handles are written as
 * their number in the payload; only our own picklers do that, through reducer_override, so a
 * pickler that a user runs meanwhile is not confused by it.
 */
#include "_raymodule.h"

#include <string.h>

static _Thread_local struct ser *current;

struct ser *
pickle_context(void)
{
    return current;
}

/* ---- where picklers write -------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD struct ser *ser; /* NULL when the pickling is over */
} Sink;

static struct ser *
sink_ser(PyObject *self)
{
    struct ser *s = ((Sink *)self)->ser;
    if (s == NULL) {
        PyErr_SetString(PyExc_ValueError, "this pickling is over");
    }
    return s;
}

static PyObject *
sink_write(PyObject *self, PyObject *data)
{
    struct ser *s = sink_ser(self);
    if (s == NULL) {
        return NULL;
    }
    if (PyBytes_CheckExact(data)) {
        const size_t size = (size_t)PyBytes_GET_SIZE(data);
        return ser_write(s, PyBytes_AS_STRING(data), size) ? NULL : PyLong_FromSize_t(size);
    }
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)) {
        return NULL;
    }
    const int failed = ser_write(s, view.buf, (size_t)view.len);
    const Py_ssize_t size = view.len;
    PyBuffer_Release(&view);
    return failed ? NULL : PyLong_FromSsize_t(size);
}

/* The pickler's buffer_callback: false takes the buffer out of the pickle. */
static PyObject *
sink_add_buffer(PyObject *self, PyObject *buffer)
{
    struct ser *s = sink_ser(self);
    if (s == NULL) {
        return NULL;
    }
    if (s->view_count == s->view_capacity) {
        const size_t capacity = s->view_capacity == 0 ? 4 : s->view_capacity * 2;
        Py_buffer *views = PyMem_Realloc(s->views, capacity * sizeof(Py_buffer));
        if (views == NULL) {
            return PyErr_NoMemory();
        }
        s->views = views;
        s->view_capacity = capacity;
    }
    if (PyObject_GetBuffer(buffer, &s->views[s->view_count], PyBUF_ANY_CONTIGUOUS)) {
        if (!PyErr_ExceptionMatches(PyExc_BufferError)) {
            return NULL;
        }
        PyErr_Clear();
        Py_RETURN_TRUE; /* in pieces: the pickler makes one of it */
    }
    s->view_count++;
    Py_RETURN_FALSE;
}

static void
sink_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef sink_methods[] = {
    { "write", sink_write, METH_O, "Appends bytes." },
    { "add_buffer", sink_add_buffer, METH_O, "Takes a buffer out of the pickle." },
    { NULL, NULL, 0, NULL },
};

static PyType_Slot sink_slots[] = {
    { Py_tp_dealloc, (void *)sink_dealloc },
    { Py_tp_methods, sink_methods },
    { 0, NULL },
};

PyType_Spec sink_spec = {
    .name = "ray._native.Sink",
    .basicsize = sizeof(Sink),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = sink_slots,
};

/* ---- pickling -------------------------------------------------------------------------------- */

static int
dump_fast(struct state *st, PyObject *sink, PyObject *callback, PyObject *o)
{
    if (import_once(&st->fast_pickler, "ray._private.fastpickle", "make_pickler")) {
        return -1;
    }
    PyObject *args[2] = { sink, callback };
    PyObject *dump = PyObject_Vectorcall(st->fast_pickler, args, 2, NULL);
    if (dump == NULL) {
        return -1;
    }
    PyObject *done = PyObject_CallMethodObjArgs(dump, st->str_dump, o, NULL);
    Py_DECREF(dump);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

static int
dump_by_value(struct state *st, PyObject *sink, PyObject *callback, PyObject *o)
{
    if (import_once(&st->dump_by_value, "ray._private.serialization", "dump_by_value")) {
        return -1;
    }
    PyObject *args[3] = { o, sink, callback };
    PyObject *done = PyObject_Vectorcall(st->dump_by_value, args, 3, NULL);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Whether modules were registered to be pickled by value, which only cloudpickle knows about. */
static bool
by_value_modules(void)
{
    PyObject *modules = PyImport_GetModuleDict(); /* borrowed */
    PyObject *module = PyDict_GetItemString(modules, "cloudpickle.cloudpickle");
    if (module == NULL) {
        return false;
    }
    PyObject *registered = PyObject_GetAttrString(module, "_PICKLE_BY_VALUE_MODULES");
    if (registered == NULL) {
        PyErr_Clear();
        return false;
    }
    const bool any = PyObject_IsTrue(registered) == 1;
    Py_DECREF(registered);
    return any;
}

static int
pickle_into(struct ser *s, PyObject *sink, PyObject *callback, PyObject *o)
{
    if (!by_value_modules()) {
        if (dump_fast(s->st, sink, callback, o) == 0) {
            return 0;
        }
        if (!PyErr_ExceptionMatches(PyExc_Exception)) {
            return -1;
        }
        PyErr_Clear();
        ser_reset(s);
    }
    return dump_by_value(s->st, sink, callback, o);
}

int
pickle_value(struct ser *s, PyObject *o)
{
    PyTypeObject *type = (PyTypeObject *)s->st->sink_type;
    Sink *sink = (Sink *)type->tp_alloc(type, 0);
    if (sink == NULL) {
        return -1;
    }
    sink->ser = s;
    PyObject *callback = PyObject_GetAttrString((PyObject *)sink, "add_buffer");
    int failed = -1;
    if (callback != NULL) {
        s->outer = current;
        current = s;
        failed = pickle_into(s, (PyObject *)sink, callback, o);
        current = s->outer;
    }
    sink->ser = NULL;
    Py_XDECREF(callback);
    Py_DECREF(sink);
    return failed;
}

/* ---- what is written differently ------------------------------------------------------------- */

static PyObject *
reduce_ref(struct ser *s, ray_ref *ref)
{
    uint32_t index = 0;
    if (ser_add_ref(s, ref, &index)) {
        return NULL;
    }
    return Py_BuildValue("O(I)", s->st->load_ref, (unsigned)index);
}

static PyObject *
reduce_handle(struct ser *s, ActorHandle *handle)
{
    if (!ray_actor_is_counted(handle->actor)) {
        return Py_BuildValue("O(y#O)", s->st->load_weak, ray_actor_id(handle->actor),
                             (Py_ssize_t)RAY_ACTOR_ID_SIZE, handle->meta);
    }
    ray_ref *ref = NULL;
    const int status = ray_actor_ref(handle->actor, &ref);
    if (status != RAY_OK) {
        return raise_status(status);
    }
    uint32_t index = 0;
    const int failed = ser_add_ref(s, ref, &index);
    ray_ref_release(ref);
    if (failed) {
        return NULL;
    }
    return Py_BuildValue("O(IO)", s->st->load_actor, (unsigned)index, handle->meta);
}

/* The way of a registered serialiser: (deserializer, (serializer(o),)). */
static PyObject *
reduce_registered(struct state *st, PyObject *o)
{
    PyObject *pair = PyDict_GetItemWithError(st->serializers, (PyObject *)Py_TYPE(o));
    if (pair == NULL) {
        return PyErr_Occurred() ? NULL : new_ref(Py_NotImplemented);
    }
    Py_INCREF(pair);
    PyObject *written = PyObject_CallOneArg(PyTuple_GET_ITEM(pair, 0), o);
    PyObject *result =
        written == NULL ? NULL : Py_BuildValue("O(N)", PyTuple_GET_ITEM(pair, 1), written);
    Py_DECREF(pair);
    return result;
}

static PyObject *
reduce_special(struct state *st, PyObject *o)
{
    struct ser *s = current;
    if (s != NULL && is_object_ref(st, o) && ((ObjectRef *)o)->ref != NULL) {
        return reduce_ref(s, ((ObjectRef *)o)->ref);
    }
    if (s != NULL && is_actor_handle(st, o)) {
        return reduce_handle(s, (ActorHandle *)o);
    }
    if (PyDict_GET_SIZE(st->serializers) > 0) {
        return reduce_registered(st, o);
    }
    return new_ref(Py_NotImplemented);
}

PyObject *
native_reduce_in_context(PyObject *module, PyObject *o)
{
    return reduce_special(state_of_module(module), o);
}

/* Whether a class or function can't be written by name. */
static int
needs_value(struct state *st, PyObject *o)
{
    PyObject *module = PyObject_GetAttr(o, st->str_module);
    if (module == NULL) {
        return -1;
    }
    const bool in_main = module == st->str_main ||
                         (PyUnicode_Check(module) && PyUnicode_Compare(module, st->str_main) == 0);
    Py_DECREF(module);
    return in_main;
}

PyObject *
native_reduce_fast(PyObject *module, PyObject *o)
{
    struct state *st = state_of_module(module);
    const bool is_heap_class =
        PyType_Check(o) && PyType_HasFeature((PyTypeObject *)o, Py_TPFLAGS_HEAPTYPE);
    if (is_heap_class || PyFunction_Check(o)) {
        const int by_value = needs_value(st, o);
        if (by_value != 0) {
            if (by_value > 0) {
                PyErr_SetString(PyExc_ValueError, "must be pickled by value");
            }
            return NULL;
        }
        return new_ref(Py_NotImplemented);
    }
    return reduce_special(st, o);
}

PyObject *
native_set_serializer(PyObject *module, PyObject *args)
{
    struct state *st = state_of_module(module);
    PyObject *cls, *serializer, *deserializer;
    if (!PyArg_ParseTuple(args, "OOO:set_serializer", &cls, &serializer, &deserializer)) {
        return NULL;
    }
    if (serializer == Py_None) {
        if (PyDict_DelItem(st->serializers, cls)) {
            if (!PyErr_ExceptionMatches(PyExc_KeyError)) {
                return NULL;
            }
            PyErr_Clear();
        }
        Py_RETURN_NONE;
    }
    PyObject *pair = PyTuple_Pack(2, serializer, deserializer);
    const int failed = pair == NULL || PyDict_SetItem(st->serializers, cls, pair);
    Py_XDECREF(pair);
    if (failed) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyObject *
native_try_serialize(PyObject *module, PyObject *value)
{
    struct ser s;
    ser_init(&s, state_of_module(module));
    PyObject *size = ser_value(&s, value) ? NULL : PyLong_FromSize_t(ser_total(&s));
    ser_fini(&s);
    return size;
}
