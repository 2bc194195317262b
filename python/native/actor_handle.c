/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ActorHandleBase, a counted handle to an actor, and ActorMethodBase, one method of it, whose
 * `remote` makes the call. A method holds its handle weakly: only handles keep an actor alive.
 */
#include "_raymodule.h"

#include <structmember.h>

#include <string.h>

enum { INLINE_RETURNS = 8 };

/* ---- ActorHandleBase ------------------------------------------------------------------------- */

PyObject *
actor_handle_new(struct state *st, PyObject *handle_class, ray_actor *actor, PyObject *meta)
{
    PyTypeObject *type = (PyTypeObject *)handle_class;
    if (!PyType_Check(handle_class) ||
        !PyType_IsSubtype(type, (PyTypeObject *)st->actor_handle_type)) {
        ray_actor_release(actor);
        PyErr_SetString(PyExc_TypeError, "a handle class must derive from ActorHandleBase");
        return NULL;
    }
    ActorHandle *self = (ActorHandle *)type->tp_alloc(type, 0);
    if (self == NULL) {
        ray_actor_release(actor);
        return NULL;
    }
    self->st = st;
    self->actor = actor;
    self->meta = new_ref(meta);
    self->session = st->session;
    return (PyObject *)self;
}

static PyObject *
handle_refuse_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)args;
    (void)kwargs;
    PyErr_Format(PyExc_TypeError, "%s objects are made by ActorClass.remote()", type->tp_name);
    return NULL;
}

static int
handle_traverse(PyObject *o, visitproc visit, void *arg)
{
    ActorHandle *self = (ActorHandle *)o;
    Py_VISIT(Py_TYPE(o));
    Py_VISIT(self->meta);
    return 0;
}

static int
handle_clear(PyObject *o)
{
    ActorHandle *self = (ActorHandle *)o;
    Py_CLEAR(self->meta);
    return 0;
}

static void
handle_dealloc(PyObject *o)
{
    ActorHandle *self = (ActorHandle *)o;
    PyTypeObject *type = Py_TYPE(o);
    PyObject_GC_UnTrack(o);
    (void)handle_clear(o);
    ray_actor_release(self->actor);
    self->actor = NULL;
    type->tp_free(o);
    Py_DECREF(type);
}

static PyObject *
handle_id(PyObject *o, PyObject *unused)
{
    (void)unused;
    const uint8_t *id = ray_actor_id(((ActorHandle *)o)->actor);
    return PyBytes_FromStringAndSize((const char *)id, RAY_ACTOR_ID_SIZE);
}

static PyObject *
handle_as_ref(PyObject *o, PyObject *unused)
{
    (void)unused;
    ActorHandle *self = (ActorHandle *)o;
    ray_ref *ref = NULL;
    const int status = ray_actor_ref(self->actor, &ref);
    return status != RAY_OK ? raise_status(status) : object_ref_new(self->st, ref);
}

static PyObject *
handle_is_counted(PyObject *o, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(ray_actor_is_counted(((ActorHandle *)o)->actor));
}

static PyObject *
handle_compare(PyObject *a, PyObject *b, int op)
{
    const ActorHandle *left = (const ActorHandle *)a;
    if ((op != Py_EQ && op != Py_NE) || !is_actor_handle(left->st, b)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    const ActorHandle *right = (const ActorHandle *)b;
    const bool equal =
        memcmp(ray_actor_id(left->actor), ray_actor_id(right->actor), RAY_ACTOR_ID_SIZE) == 0;
    return PyBool_FromLong(equal == (op == Py_EQ));
}

static Py_hash_t
handle_hash(PyObject *o)
{
    uint64_t unique;
    memcpy(&unique, ray_actor_id(((ActorHandle *)o)->actor), sizeof(unique));
    const Py_hash_t hash = (Py_hash_t)(unique * 0x9e3779b97f4a7c15u);
    return hash == -1 ? -2 : hash;
}

PyObject *
native_actor_from_ref(PyObject *module, PyObject *args)
{
    struct state *st = state_of_module(module);
    PyObject *ref_object, *meta;
    if (!PyArg_ParseTuple(args, "O!O:actor_from_ref", st->object_ref_type, &ref_object, &meta)) {
        return NULL;
    }
    ray_ref *ref = object_ref_get(ref_object);
    if (ref == NULL) {
        return NULL;
    }
    ray_actor *actor = NULL;
    const int status = ray_actor_from_ref(ref, &actor);
    if (status != RAY_OK) {
        return raise_status(status);
    }
    PyObject *handle_class = import_name("ray.actor", "ActorHandle");
    if (handle_class == NULL) {
        ray_actor_release(actor);
        return NULL;
    }
    PyObject *handle = actor_handle_new(st, handle_class, actor, meta);
    Py_DECREF(handle_class);
    return handle;
}

static PyMethodDef handle_methods[] = {
    { "_ray_id", handle_id, METH_NOARGS, "The actor's id as bytes." },
    { "_ray_is_counted", handle_is_counted, METH_NOARGS,
      "Whether the handle, passed on as a reference, keeps the actor alive." },
    { "_ray_as_ref", handle_as_ref, METH_NOARGS, "The handle as a reference." },
    { NULL, NULL, 0, NULL },
};

static PyMemberDef handle_members[] = {
    { "_ray_meta", T_OBJECT, offsetof(ActorHandle, meta), READONLY, "What is known of the class." },
    { NULL, 0, 0, 0, NULL },
};

static PyType_Slot handle_slots[] = {
    { Py_tp_new, (void *)handle_refuse_new },
    { Py_tp_dealloc, (void *)handle_dealloc },
    { Py_tp_traverse, (void *)handle_traverse },
    { Py_tp_clear, (void *)handle_clear },
    { Py_tp_richcompare, (void *)handle_compare },
    { Py_tp_hash, (void *)handle_hash },
    { Py_tp_methods, handle_methods },
    { Py_tp_members, handle_members },
    { 0, NULL },
};

PyType_Spec actor_handle_spec = {
    .name = "ray._native.ActorHandleBase",
    .basicsize = sizeof(ActorHandle),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = handle_slots,
};

/* ---- ActorMethodBase ------------------------------------------------------------------------- */

static PyObject *
method_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)args;
    (void)kwargs;
    struct state *st = state_of_type(type);
    if (st == NULL) {
        return NULL;
    }
    ActorMethod *self = (ActorMethod *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->st = st;
    }
    return (PyObject *)self;
}

static int
method_traverse(PyObject *o, visitproc visit, void *arg)
{
    ActorMethod *self = (ActorMethod *)o;
    Py_VISIT(Py_TYPE(o));
    Py_VISIT(self->handle);
    Py_VISIT(self->spec);
    return 0;
}

static int
method_clear(PyObject *o)
{
    ActorMethod *self = (ActorMethod *)o;
    Py_CLEAR(self->handle);
    Py_CLEAR(self->spec);
    return 0;
}

static void
method_dealloc(PyObject *o)
{
    PyTypeObject *type = Py_TYPE(o);
    PyObject_GC_UnTrack(o);
    (void)method_clear(o);
    type->tp_free(o);
    Py_DECREF(type);
}

static PyObject *
method_init(PyObject *o, PyObject *args)
{
    ActorMethod *self = (ActorMethod *)o;
    PyObject *handle, *spec;
    if (!PyArg_ParseTuple(args, "OO!:_init", &handle, self->st->method_spec_type, &spec)) {
        return NULL;
    }
    if (!PyWeakref_Check(handle)) {
        PyErr_SetString(PyExc_TypeError, "a method needs a weak reference to its handle");
        return NULL;
    }
    Py_XSETREF(self->handle, new_ref(handle));
    Py_XSETREF(self->spec, new_ref(spec));
    Py_RETURN_NONE;
}

/* new. What a weak reference refers to, None when that is gone. */
static PyObject *
weak_target(PyObject *weak)
{
#if PY_VERSION_HEX >= 0x030d0000
    PyObject *target = NULL;
    const int found = PyWeakref_GetRef(weak, &target);
    return found == 0 ? new_ref(Py_None) : target;
#else
    PyObject *target = PyWeakref_GetObject(weak); /* borrowed */
    return target == NULL ? NULL : new_ref(target);
#endif
}

/* new. The handle; RuntimeError when it is gone. */
static ActorHandle *
method_handle(ActorMethod *self)
{
    PyObject *handle = self->handle == NULL ? new_ref(Py_None) : weak_target(self->handle);
    if (handle != NULL && !is_actor_handle(self->st, handle)) {
        Py_CLEAR(handle);
        PyErr_SetString(PyExc_RuntimeError,
                        "Lost reference to actor: its handle went out of scope. Keep the handle in "
                        "a variable for as long as its methods are called.");
    }
    return (ActorHandle *)handle;
}

static PyObject *
method_actor(PyObject *o, PyObject *unused)
{
    (void)unused;
    return (PyObject *)method_handle((ActorMethod *)o);
}

static PyObject *
call_actor(struct state *st, ActorHandle *handle, CallTarget *spec, const struct call_frame *frame)
{
    if (spec->num_returns == RETURNS_STREAM) {
        ray_stream *stream = NULL;
        const int status = ray_stream_call(handle->actor, ((Function *)spec->function)->function,
                                           ((Options *)spec->options)->options, frame->args,
                                           frame->arg_count, &stream);
        return status == RAY_OK ? stream_new(st, stream) : raise_status(status);
    }
    ray_ref *inline_refs[INLINE_RETURNS];
    ray_ref **refs = inline_refs;
    if (spec->num_returns > INLINE_RETURNS) {
        refs = PyMem_Malloc((size_t)spec->num_returns * sizeof(ray_ref *));
        if (refs == NULL) {
            return PyErr_NoMemory();
        }
    }
    const int status =
        ray_actor_call(handle->actor, ((Function *)spec->function)->function,
                       ((Options *)spec->options)->options, frame->args, frame->arg_count, refs);
    PyObject *result =
        status == RAY_OK ? call_result(st, refs, spec->num_returns) : raise_status(status);
    if (refs != inline_refs) {
        PyMem_Free(refs);
    }
    return result;
}

int
handle_check_session(const ActorHandle *handle)
{
    if (handle->session == handle->st->session) {
        return 0;
    }
    PyObject *class = import_name("ray.exceptions", "ActorHandleNotFoundError");
    if (class != NULL) {
        PyErr_SetString(class, "ActorHandle objects are not valid across Ray sessions: this actor "
                               "ended when its session was shut down.");
        Py_DECREF(class);
    }
    return -1;
}

static PyObject *
method_remote(PyObject *o, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    ActorMethod *self = (ActorMethod *)o;
    ActorHandle *handle = method_handle(self);
    if (handle == NULL) {
        return NULL;
    }
    CallTarget *spec = (CallTarget *)self->spec;
    PyObject *result = NULL;
    if (signature_check(&spec->signature, args, nargs, kwnames) &&
        handle_check_session(handle) == 0 && call_target_ready(spec) == 0) {
        struct call_frame frame;
        if (call_frame_build(&frame, self->st, (PyObject *)spec, args, nargs, kwnames) == 0) {
            result = call_actor(self->st, handle, spec, &frame);
        }
        call_frame_fini(&frame);
    }
    Py_DECREF(handle);
    return result;
}

PyDoc_STRVAR(method_remote_doc,
             "remote($self, /, *args, **kwargs)\n--\n\n"
             "Calls the method and returns at once: one reference, a list of them when num_returns "
             "is above 1, None when it is 0. Calls of one thread run in the order they were made.");

static PyMethodDef method_methods[] = {
    { "_init", method_init, METH_VARARGS, "Sets handle and spec." },
    { "_actor", method_actor, METH_NOARGS, "The handle." },
    { "remote", (PyCFunction)(void (*)(void))method_remote, METH_FASTCALL | METH_KEYWORDS,
      method_remote_doc },
    { NULL, NULL, 0, NULL },
};

static PyMemberDef method_members[] = {
    { "_spec", T_OBJECT, offsetof(ActorMethod, spec), READONLY, "What all handles share." },
    { NULL, 0, 0, 0, NULL },
};

static PyType_Slot method_slots[] = {
    { Py_tp_new, (void *)method_new },
    { Py_tp_dealloc, (void *)method_dealloc },
    { Py_tp_traverse, (void *)method_traverse },
    { Py_tp_clear, (void *)method_clear },
    { Py_tp_methods, method_methods },
    { Py_tp_members, method_members },
    { 0, NULL },
};

PyType_Spec actor_method_spec = {
    .name = "ray._native.ActorMethodBase",
    .basicsize = sizeof(ActorMethod),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = method_slots,
};
