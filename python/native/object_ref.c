/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ObjectRef: a reference to an object, one local count of libray. Small and many, so dead ones are
 * kept for reuse. It holds no Python object and takes no part in garbage collection; letting one go
 * only calls ray_ref_release, which takes no lock, so that may happen anywhere.
 */
#include "_raymodule.h"

#include <structmember.h>

#include <string.h>

enum { TASK_PART = RAY_TASK_ID_SIZE, JOB_PART = 20 };

static const uint8_t nil_id[RAY_OBJECT_ID_SIZE] = {
    255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
    255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
};

const uint8_t *
object_ref_id(PyObject *o)
{
    const ObjectRef *self = (const ObjectRef *)o;
    if (self->ref != NULL) {
        return ray_ref_id(self->ref);
    }
    return self->lone_id != NULL ? self->lone_id : nil_id;
}

ray_ref *
object_ref_get(PyObject *o)
{
    ray_ref *ref = ((ObjectRef *)o)->ref;
    if (ref == NULL) {
        PyErr_Format(PyExc_ValueError, "%R is an id that stands for no object here", o);
    }
    return ref;
}

PyObject *
object_ref_new(struct state *st, ray_ref *ref)
{
    PyTypeObject *type = (PyTypeObject *)st->object_ref_type;
    ObjectRef *self;
    if (st->ref_free_count > 0) {
        self = (ObjectRef *)st->ref_free[--st->ref_free_count];
        (void)PyObject_Init((PyObject *)self, type);
    } else {
        self = (ObjectRef *)type->tp_alloc(type, 0);
        if (self == NULL) {
            ray_ref_release(ref);
            return NULL;
        }
    }
    self->ref = ref;
    self->weakrefs = NULL;
    self->lone_id = NULL;
    return (PyObject *)self;
}

static void
ref_dealloc(PyObject *o)
{
    ObjectRef *self = (ObjectRef *)o;
    PyTypeObject *type = Py_TYPE(o);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs(o);
    }
    ray_ref_release(self->ref);
    if (self->lone_id != NULL) {
        PyMem_Free(self->lone_id);
    }
    struct state *st = PyType_GetModuleState(type);
    if (st != NULL && st->ref_free_count < REF_FREE_MAX && st->object_ref_type != NULL) {
        st->ref_free[st->ref_free_count++] = o;
    } else {
        type->tp_free(o);
    }
    Py_DECREF(type);
}

void
object_ref_clear_free_list(struct state *st)
{
    while (st->ref_free_count > 0) {
        PyObject_Free(st->ref_free[--st->ref_free_count]);
    }
}

/* new. An id without an object. */
static PyObject *
lone_ref(PyTypeObject *type, const void *id)
{
    ObjectRef *self = (ObjectRef *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->lone_id = PyMem_Malloc(RAY_OBJECT_ID_SIZE);
    if (self->lone_id == NULL) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    memcpy(self->lone_id, id, RAY_OBJECT_ID_SIZE);
    return (PyObject *)self;
}

static PyObject *
ref_from_bytes(PyTypeObject *type, PyObject *id)
{
    if (!PyBytes_Check(id)) {
        PyErr_Format(PyExc_TypeError, "ObjectRef needs bytes of length %d, got %.100s",
                     RAY_OBJECT_ID_SIZE, Py_TYPE(id)->tp_name);
        return NULL;
    }
    if (PyBytes_GET_SIZE(id) != RAY_OBJECT_ID_SIZE) {
        PyErr_Format(PyExc_ValueError, "ObjectRef needs %d bytes, got %zd bytes",
                     RAY_OBJECT_ID_SIZE, PyBytes_GET_SIZE(id));
        return NULL;
    }
    return lone_ref(type, PyBytes_AS_STRING(id));
}

static PyObject *
ref_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char id_name[] = "id";
    static char *names[] = { id_name, NULL };
    PyObject *id;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:ObjectRef", names, &id)) {
        return NULL;
    }
    return ref_from_bytes(type, id);
}

static PyObject *
ref_nil(PyObject *cls, PyObject *unused)
{
    (void)unused;
    return lone_ref((PyTypeObject *)cls, nil_id);
}

static PyObject *
ref_from_random(PyObject *cls, PyObject *unused)
{
    (void)unused;
    PyObject *size = PyLong_FromLong(RAY_OBJECT_ID_SIZE);
    PyObject *id = size == NULL ? NULL : call_python("os", "urandom", &size, 1);
    Py_XDECREF(size);
    PyObject *ref = id == NULL ? NULL : ref_from_bytes((PyTypeObject *)cls, id);
    Py_XDECREF(id);
    return ref;
}

static PyObject *
ref_from_binary(PyObject *cls, PyObject *id)
{
    return ref_from_bytes((PyTypeObject *)cls, id);
}

static PyObject *
ref_from_hex(PyObject *cls, PyObject *text)
{
    PyObject *id = PyObject_CallMethod((PyObject *)&PyBytes_Type, "fromhex", "O", text);
    PyObject *ref = id == NULL ? NULL : ref_from_bytes((PyTypeObject *)cls, id);
    Py_XDECREF(id);
    return ref;
}

static PyObject *
ref_size(PyObject *cls, PyObject *unused)
{
    (void)cls;
    (void)unused;
    return PyLong_FromLong(RAY_OBJECT_ID_SIZE);
}

static PyObject *
ref_binary(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyBytes_FromStringAndSize((const char *)object_ref_id(self), RAY_OBJECT_ID_SIZE);
}

static PyObject *
ref_hex(PyObject *self, PyObject *unused)
{
    (void)unused;
    static const char digits[] = "0123456789abcdef";
    const uint8_t *id = object_ref_id(self);
    char text[2 * RAY_OBJECT_ID_SIZE];
    for (size_t i = 0; i < RAY_OBJECT_ID_SIZE; i++) {
        text[2 * i] = digits[id[i] >> 4];
        text[2 * i + 1] = digits[id[i] & 15];
    }
    return PyUnicode_FromStringAndSize(text, sizeof(text));
}

static PyObject *
ref_is_nil(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(memcmp(object_ref_id(self), nil_id, RAY_OBJECT_ID_SIZE) == 0);
}

/* new. module.name(id[from:to]) */
static PyObject *
part_as(const char *name, PyObject *self, size_t from, size_t to)
{
    PyObject *part = PyBytes_FromStringAndSize((const char *)object_ref_id(self) + from,
                                               (Py_ssize_t)(to - from));
    PyObject *id = part == NULL ? NULL : call_python("ray._private.ids", name, &part, 1);
    Py_XDECREF(part);
    return id;
}

static PyObject *
ref_task_id(PyObject *self, PyObject *unused)
{
    (void)unused;
    return part_as("TaskID", self, 0, TASK_PART);
}

static PyObject *
ref_job_id(PyObject *self, PyObject *unused)
{
    (void)unused;
    return part_as("JobID", self, JOB_PART, TASK_PART);
}

static PyObject *
ref_owner_address(PyObject *self, PyObject *unused)
{
    (void)unused;
    const ray_ref *ref = ((ObjectRef *)self)->ref;
    if (ref == NULL) {
        return PyBytes_FromStringAndSize(NULL, 0);
    }
    char address[512];
    const size_t size = ray_ref_owner_address(ref, address, sizeof(address));
    if (size <= sizeof(address)) {
        return PyBytes_FromStringAndSize(address, (Py_ssize_t)size);
    }
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (bytes != NULL) {
        (void)ray_ref_owner_address(ref, PyBytes_AS_STRING(bytes), size);
    }
    return bytes;
}

static PyObject *
ref_call_site(PyObject *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    return PyUnicode_FromString("");
}

static PyObject *
ref_future(PyObject *self, PyObject *unused)
{
    (void)unused;
    return call_python("ray._private.futures", "future", &self, 1);
}

static PyObject *
ref_as_future(PyObject *self, PyObject *unused)
{
    (void)unused;
    struct state *st = state_of_type(Py_TYPE(self));
    return st == NULL ? NULL : loop_future(st, self);
}

static PyObject *
ref_await(PyObject *self)
{
    struct state *st = state_of_type(Py_TYPE(self));
    PyObject *future = st == NULL ? NULL : loop_future(st, self);
    if (future == NULL) {
        return NULL;
    }
    const PyAsyncMethods *methods = Py_TYPE(future)->tp_as_async;
    PyObject *iterator = methods != NULL && methods->am_await != NULL
                             ? methods->am_await(future)
                             : PyObject_CallMethod(future, "__await__", NULL);
    Py_DECREF(future);
    return iterator;
}

static PyObject *
ref_done(PyObject *self, PyObject *unused)
{
    (void)unused;
    ray_ref *ref = object_ref_get(self);
    return ref == NULL ? NULL : PyBool_FromLong(ray_ref_is_ready(ref));
}

static PyObject *
ref_add_done_callback(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char fn_name[] = "fn", context_name[] = "context";
    static char *names[] = { fn_name, context_name, NULL };
    PyObject *all[3] = { self, NULL, Py_None };
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$O:add_done_callback", names, &all[1],
                                     &all[2])) {
        return NULL;
    }
    return call_python("ray._private.futures", "add_done_callback", all, 3);
}

static PyObject *
ref_remove_done_callback(PyObject *self, PyObject *callback)
{
    (void)self;
    (void)callback;
    return PyLong_FromLong(0);
}

static PyObject *
ref_cancelled(PyObject *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    return new_ref(Py_False);
}

static PyObject *
ref_result(PyObject *self, PyObject *unused)
{
    (void)unused;
    return call_python("ray._private.futures", "result", &self, 1);
}

static PyObject *
ref_exception(PyObject *self, PyObject *unused)
{
    (void)unused;
    return call_python("ray._private.futures", "exception", &self, 1);
}

static PyObject *
ref_on_completed(PyObject *self, PyObject *callback)
{
    PyObject *args[2] = { self, callback };
    return call_python("ray._private.futures", "on_completed", args, 2);
}

/* Outside of a value: the object is kept until the job ends. */
static PyObject *
ref_reduce(PyObject *self, PyObject *unused)
{
    (void)unused;
    ray_ref *ref = ((ObjectRef *)self)->ref;
    PyObject *id = ref_binary(self, NULL);
    if (id == NULL) {
        return NULL;
    }
    if (ref == NULL) {
        return Py_BuildValue("O(N)", (PyObject *)Py_TYPE(self), id);
    }
    PyObject *allowed = call_python("ray._private.serialization", "check_out_of_band", &self, 1);
    PyObject *load = allowed == NULL ? NULL : import_name("ray._native", "ref_from_parts");
    PyObject *owner = load == NULL ? NULL : ref_owner_address(self, NULL);
    Py_XDECREF(allowed);
    if (owner == NULL) {
        Py_XDECREF(load);
        Py_DECREF(id);
        return NULL;
    }
    ray_ref_pin_for_job(ref);
    return Py_BuildValue("N(NN)", load, id, owner);
}

PyObject *
native_ref_from_parts(PyObject *module, PyObject *args)
{
    const char *id, *owner;
    Py_ssize_t id_size, owner_size;
    if (!PyArg_ParseTuple(args, "y#y#:ref_from_parts", &id, &id_size, &owner, &owner_size)) {
        return NULL;
    }
    if (id_size != RAY_OBJECT_ID_SIZE) {
        PyErr_SetString(PyExc_ValueError, "malformed reference");
        return NULL;
    }
    ray_ref *ref = NULL;
    const int status = ray_ref_from_address((const uint8_t *)id, owner, (size_t)owner_size, &ref);
    return status != RAY_OK ? raise_status(status) : object_ref_new(state_of_module(module), ref);
}

static PyObject *
ref_repr(PyObject *self)
{
    PyObject *hex = ref_hex(self, NULL);
    PyObject *text = hex == NULL ? NULL : PyUnicode_FromFormat("ObjectRef(%U)", hex);
    Py_XDECREF(hex);
    return text;
}

static Py_hash_t
ref_hash(PyObject *self)
{
    const uint8_t *id = object_ref_id(self);
    uint64_t unique;
    uint32_t index;
    memcpy(&unique, id, sizeof(unique));
    memcpy(&index, id + TASK_PART, sizeof(index));
    const uint64_t mixed = (unique ^ index) * 0x9e3779b97f4a7c15u;
    const Py_hash_t hash = (Py_hash_t)(mixed ^ (mixed >> 32));
    return hash == -1 ? -2 : hash;
}

static PyObject *
ref_compare(PyObject *a, PyObject *b, int op)
{
    if ((op != Py_EQ && op != Py_NE) || Py_TYPE(a) != Py_TYPE(b)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    const bool equal = memcmp(object_ref_id(a), object_ref_id(b), RAY_OBJECT_ID_SIZE) == 0;
    return PyBool_FromLong(equal == (op == Py_EQ));
}

static PyMethodDef ref_methods[] = {
    { "nil", ref_nil, METH_CLASS | METH_NOARGS, "The reference that stands for none." },
    { "from_random", ref_from_random, METH_CLASS | METH_NOARGS, "A random id." },
    { "from_binary", ref_from_binary, METH_CLASS | METH_O, "The id with these bytes." },
    { "from_hex", ref_from_hex, METH_CLASS | METH_O, "The id with these hexadecimal digits." },
    { "size", ref_size, METH_CLASS | METH_NOARGS, "Length of an id in bytes." },
    { "binary", ref_binary, METH_NOARGS, "The id as bytes." },
    { "hex", ref_hex, METH_NOARGS, "The id as hexadecimal digits." },
    { "is_nil", ref_is_nil, METH_NOARGS, "Whether this stands for no object." },
    { "task_id", ref_task_id, METH_NOARGS, "The task that makes, or made, the object." },
    { "job_id", ref_job_id, METH_NOARGS, "The job that the object belongs to." },
    { "owner_address", ref_owner_address, METH_NOARGS, "Where the object's owner is, as bytes." },
    { "call_site", ref_call_site, METH_NOARGS, "Where the reference was created, if recorded." },
    { "future", ref_future, METH_NOARGS, "A concurrent.futures.Future for the value." },
    { "as_future", ref_as_future, METH_NOARGS, "An asyncio future for the value." },
    /* What asyncio.wait asks of a future. */
    { "done", ref_done, METH_NOARGS, "Whether the value is here." },
    { "result", ref_result, METH_NOARGS, "The value, which is here, or raises its exception." },
    { "exception", ref_exception, METH_NOARGS, "The exception of what is here, or None." },
    { "cancelled", ref_cancelled, METH_NOARGS, "False: a reference is never cancelled." },
    { "add_done_callback", (PyCFunction)(void (*)(void))ref_add_done_callback,
      METH_VARARGS | METH_KEYWORDS,
      "The running event loop calls fn(ref) when the value is here." },
    { "remove_done_callback", ref_remove_done_callback, METH_O,
      "Removes nothing: the callback is called all the same." },
    { "_on_completed", ref_on_completed, METH_O, "Calls back with the value, from a thread." },
    { "__reduce__", ref_reduce, METH_NOARGS, "How it is pickled outside of Ray's values." },
    { "__class_getitem__", Py_GenericAlias, METH_CLASS | METH_O, "ObjectRef[T], for type hints." },
    { NULL, NULL, 0, NULL },
};

static PyMemberDef ref_members[] = {
    { "__weaklistoffset__", T_PYSSIZET, offsetof(ObjectRef, weakrefs), READONLY, NULL },
    { NULL, 0, 0, 0, NULL },
};

static char ref_doc[] =
    "A reference to an object that exists or will exist. ray.get gives its value.";

static PyType_Slot ref_slots[] = {
    { Py_tp_doc, ref_doc },
    { Py_tp_new, (void *)ref_new },
    { Py_tp_dealloc, (void *)ref_dealloc },
    { Py_tp_repr, (void *)ref_repr },
    { Py_tp_hash, (void *)ref_hash },
    { Py_tp_richcompare, (void *)ref_compare },
    { Py_tp_methods, ref_methods },
    { Py_tp_members, ref_members },
    { Py_am_await, (void *)ref_await },
    { 0, NULL },
};

PyType_Spec object_ref_spec = {
    .name = "ray.ObjectRef",
    .basicsize = sizeof(ObjectRef),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = ref_slots,
};
