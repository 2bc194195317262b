/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What can be called remotely: RemoteFunctionBase and ActorCreatorBase with their `remote`, and
 * MethodSpecBase, which ActorMethod calls. All are a CallTarget: a signature, and the function and
 * options that were prepared for the current session. Python classes derive from them, and have
 * `_export`, which does the preparing and ends by calling `_bind`.
 */
#include "_raymodule.h"

#include <structmember.h>

#include <string.h>

enum { INLINE_RETURNS = 8 };

static PyObject *
target_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)args;
    (void)kwargs;
    struct state *st = state_of_type(type);
    if (st == NULL) {
        return NULL;
    }
    CallTarget *self = (CallTarget *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->st = st;
        self->num_returns = 1;
    }
    return (PyObject *)self;
}

static int
target_traverse(PyObject *o, visitproc visit, void *arg)
{
    CallTarget *self = (CallTarget *)o;
    Py_VISIT(Py_TYPE(o));
    Py_VISIT(self->signature.tuple);
    Py_VISIT(self->function);
    Py_VISIT(self->options);
    Py_VISIT(self->meta);
    Py_VISIT(self->handle_class);
    return 0;
}

static int
target_clear(PyObject *o)
{
    CallTarget *self = (CallTarget *)o;
    self->session = 0;
    Py_CLEAR(self->signature.tuple);
    Py_CLEAR(self->function);
    Py_CLEAR(self->options);
    Py_CLEAR(self->meta);
    Py_CLEAR(self->handle_class);
    return 0;
}

static void
target_dealloc(PyObject *o)
{
    PyTypeObject *type = Py_TYPE(o);
    PyObject_GC_UnTrack(o);
    (void)target_clear(o);
    type->tp_free(o);
    Py_DECREF(type);
}

static PyObject *
target_set_signature(PyObject *o, PyObject *tuple)
{
    if (signature_set(&((CallTarget *)o)->signature, tuple)) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* _bind(function, options, num_returns, session), and for actor classes
 * _bind(function, options, meta, handle_class, session). */
static PyObject *
target_bind(PyObject *o, PyObject *args)
{
    CallTarget *self = (CallTarget *)o;
    const bool is_creator = PyObject_TypeCheck(o, (PyTypeObject *)self->st->actor_creator_type);
    PyObject *function, *options;
    PyObject *meta = NULL;
    PyObject *handle_class = NULL;
    int num_returns = 1;
    unsigned session;
    const bool parsed =
        is_creator
            ? PyArg_ParseTuple(args, "O!O!OOI:_bind", self->st->function_type, &function,
                               self->st->options_type, &options, &meta, &handle_class, &session)
            : PyArg_ParseTuple(args, "O!O!iI:_bind", self->st->function_type, &function,
                               self->st->options_type, &options, &num_returns, &session);
    if (!parsed) {
        return NULL;
    }
    Py_INCREF(function);
    Py_XSETREF(self->function, function);
    Py_INCREF(options);
    Py_XSETREF(self->options, options);
    Py_XINCREF(meta);
    Py_XSETREF(self->meta, meta);
    Py_XINCREF(handle_class);
    Py_XSETREF(self->handle_class, handle_class);
    self->num_returns = num_returns;
    self->session = session;
    Py_RETURN_NONE;
}

int
call_target_ready(CallTarget *target)
{
    if (target->session == target->st->session && target->session != 0) {
        return 0;
    }
    PyObject *done = PyObject_CallMethodNoArgs((PyObject *)target, target->st->str_export);
    if (done == NULL) {
        return -1;
    }
    Py_DECREF(done);
    if (target->function == NULL || target->options == NULL ||
        target->session != target->st->session) {
        PyErr_SetString(PyExc_RuntimeError, "_export did not prepare the call");
        return -1;
    }
    return 0;
}

static PyObject *
target_get_signature(PyObject *o, void *unused)
{
    (void)unused;
    PyObject *tuple = ((CallTarget *)o)->signature.tuple;
    return new_ref(tuple == NULL ? Py_None : tuple);
}

static PyMethodDef target_methods[] = {
    { "_set_signature", target_set_signature, METH_O, "Sets what calls are checked against." },
    { "_bind", target_bind, METH_VARARGS, "Sets what was prepared for a session." },
    { NULL, NULL, 0, NULL },
};

static PyGetSetDef target_getset[] = {
    { "_signature", target_get_signature, NULL, "What calls are checked against.", NULL },
    { NULL, NULL, NULL, NULL, NULL },
};

static PyType_Slot target_slots[] = {
    { Py_tp_new, (void *)target_new },
    { Py_tp_dealloc, (void *)target_dealloc },
    { Py_tp_traverse, (void *)target_traverse },
    { Py_tp_clear, (void *)target_clear },
    { Py_tp_methods, target_methods },
    { Py_tp_getset, target_getset },
    { 0, NULL },
};

PyType_Spec call_target_spec = {
    .name = "ray._native.CallTarget",
    .basicsize = sizeof(CallTarget),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = target_slots,
};

/* new. Checks a call, writes its arguments, and sends them off. */
static inline PyObject *
call_remote(CallTarget *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
            PyObject *(*send)(CallTarget *self, const struct call_frame *frame))
{
    if (!signature_check(&self->signature, args, nargs, kwnames) || call_target_ready(self)) {
        return NULL;
    }
    struct call_frame frame;
    PyObject *result = NULL;
    if (call_frame_build(&frame, self->st, (PyObject *)self, args, nargs, kwnames) == 0) {
        result = send(self, &frame);
    }
    call_frame_fini(&frame);
    // cppcheck-suppress returnDanglingLifetime ; what `send` gives doesn't refer to the frame
    return result;
}

/* ---- RemoteFunctionBase ---------------------------------------------------------------------- */

static PyObject *
submit(CallTarget *self, const struct call_frame *frame)
{
    if (self->num_returns == RETURNS_STREAM) {
        ray_stream *stream = NULL;
        const int status = ray_stream_submit(((Function *)self->function)->function,
                                             ((Options *)self->options)->options, frame->args,
                                             frame->arg_count, &stream);
        return status == RAY_OK ? stream_new(self->st, stream) : raise_status(status);
    }
    ray_ref *inline_refs[INLINE_RETURNS];
    ray_ref **refs = inline_refs;
    if (self->num_returns > INLINE_RETURNS) {
        refs = PyMem_Malloc((size_t)self->num_returns * sizeof(ray_ref *));
        if (refs == NULL) {
            return PyErr_NoMemory();
        }
    }
    const int status =
        ray_task_submit(((Function *)self->function)->function, ((Options *)self->options)->options,
                        frame->args, frame->arg_count, refs);
    PyObject *result =
        status == RAY_OK ? call_result(self->st, refs, self->num_returns) : raise_status(status);
    if (refs != inline_refs) {
        PyMem_Free(refs);
    }
    return result;
}

static PyObject *
function_remote(PyObject *o, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return call_remote((CallTarget *)o, args, nargs, kwnames, submit);
}

PyDoc_STRVAR(
    function_remote_doc,
    "remote($self, /, *args, **kwargs)\n--\n\n"
    "Submits a task and returns at once: one reference, a list of them when num_returns is "
    "above 1, None when it is 0, an ObjectRefGenerator for a generator function.");

static PyMethodDef remote_function_methods[] = {
    { "remote", (PyCFunction)(void (*)(void))function_remote, METH_FASTCALL | METH_KEYWORDS,
      function_remote_doc },
    { NULL, NULL, 0, NULL },
};

static PyType_Slot remote_function_slots[] = {
    { Py_tp_dealloc, (void *)target_dealloc },
    { Py_tp_traverse, (void *)target_traverse },
    { Py_tp_clear, (void *)target_clear },
    { Py_tp_methods, remote_function_methods },
    { 0, NULL },
};

PyType_Spec remote_function_spec = {
    .name = "ray._native.RemoteFunctionBase",
    .basicsize = sizeof(CallTarget),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = remote_function_slots,
};

/* ---- ActorCreatorBase ------------------------------------------------------------------------ */

static PyObject *
create_actor(CallTarget *self, const struct call_frame *frame)
{
    ray_function *function = ((Function *)self->function)->function;
    const Options *options = (Options *)self->options;
    ray_actor *actor = NULL;
    int status;
    if (!ray_options_wait(options->options)) {
        status =
            ray_actor_create(function, options->options, frame->args, frame->arg_count, &actor);
        return status == RAY_OK ? actor_handle_new(self->st, self->handle_class, actor, self->meta)
                                : raise_status(status);
    }
    /* Meanwhile another thread may prepare this for another session. */
    PyObject *held[3] = { new_ref(self->function), new_ref(self->options), new_ref(self->meta) };
    Py_BEGIN_ALLOW_THREADS status =
        ray_actor_create(function, options->options, frame->args, frame->arg_count, &actor);
    Py_END_ALLOW_THREADS PyObject *result =
        status == RAY_OK ? found_handle_new(self->st, actor, held[2]) : raise_status(status);
    for (size_t i = 0; i < 3; i++) {
        Py_DECREF(held[i]);
    }
    return result;
}

static PyObject *
creator_remote(PyObject *o, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return call_remote((CallTarget *)o, args, nargs, kwnames, create_actor);
}

PyDoc_STRVAR(creator_remote_doc, "remote($self, /, *args, **kwargs)\n--\n\n"
                                 "Starts an actor and returns its handle at once.");

static PyMethodDef actor_creator_methods[] = {
    { "remote", (PyCFunction)(void (*)(void))creator_remote, METH_FASTCALL | METH_KEYWORDS,
      creator_remote_doc },
    { NULL, NULL, 0, NULL },
};

static PyType_Slot actor_creator_slots[] = {
    { Py_tp_dealloc, (void *)target_dealloc },
    { Py_tp_traverse, (void *)target_traverse },
    { Py_tp_clear, (void *)target_clear },
    { Py_tp_methods, actor_creator_methods },
    { 0, NULL },
};

PyType_Spec actor_creator_spec = {
    .name = "ray._native.ActorCreatorBase",
    .basicsize = sizeof(CallTarget),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = actor_creator_slots,
};

/* ---- MethodSpecBase -------------------------------------------------------------------------- */

static PyType_Slot method_spec_slots[] = {
    { Py_tp_dealloc, (void *)target_dealloc },
    { Py_tp_traverse, (void *)target_traverse },
    { Py_tp_clear, (void *)target_clear },
    { 0, NULL },
};

PyType_Spec method_spec_spec = {
    .name = "ray._native.MethodSpecBase",
    .basicsize = sizeof(CallTarget),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = method_spec_slots,
};
