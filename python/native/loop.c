/* SPDX-License-Identifier: Apache-2.0 */
/*
 * References in event loops: each loop has an Inbox, in which libray puts what became ready, and
 * which sets the results of asyncio futures. The loop of an async actor waits in libray itself
 * (loop_turn); any other reads a descriptor of its inbox's.
 */
#include "_raymodule.h"

#include <string.h>

typedef struct {
    PyObject_HEAD struct state *st;
    ray_inbox *inbox;
} Inbox;

/* What stands in an inbox for a reference. */
struct token {
    PyObject *ref;    /* strong; NULL: the future only tells that it is time */
    PyObject *future; /* strong */
    bool only_ready;  /* the future gets None, not the value */
};

/* An inbox of a loop that is gone, in which tokens are still to come. */
struct spare_inbox {
    struct spare_inbox *next;
    ray_inbox *inbox;
};

enum { TAKEN_AT_ONCE = 64 };

static void
token_free(struct token *token)
{
    Py_XDECREF(token->ref);
    Py_DECREF(token->future);
    PyMem_Free(token);
}

/* ---- inboxes --------------------------------------------------------------------------------- */

/* Forgets what came into the inboxes of loops that are gone, and those to which nothing more will.
 */
static void
clear_spares(struct state *st)
{
    struct spare_inbox **at = &st->spare_inboxes;
    while (*at != NULL) {
        struct spare_inbox *spare = *at;
        void *tokens[TAKEN_AT_ONCE];
        size_t n;
        while ((n = ray_inbox_take(spare->inbox, tokens, TAKEN_AT_ONCE)) > 0) {
            for (size_t i = 0; i < n; i++) {
                token_free(tokens[i]);
            }
        }
        if (ray_inbox_is_awaited(spare->inbox)) {
            at = &spare->next;
        } else {
            *at = spare->next;
            ray_inbox_release(spare->inbox);
            PyMem_Free(spare);
        }
    }
}

static PyObject *
inbox_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)args;
    (void)kwargs;
    struct state *st = state_of_type(type);
    Inbox *self = st == NULL ? NULL : (Inbox *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    clear_spares(st);
    self->st = st;
    const int status = ray_inbox_create(&self->inbox);
    if (status != RAY_OK) {
        Py_DECREF(self);
        return raise_status(status);
    }
    return (PyObject *)self;
}

static void
inbox_dealloc(PyObject *o)
{
    Inbox *self = (Inbox *)o;
    PyTypeObject *type = Py_TYPE(o);
    struct spare_inbox *spare = NULL;
    if (self->inbox != NULL && ray_inbox_is_awaited(self->inbox)) {
        spare = PyMem_Malloc(sizeof(*spare)); /* without memory its tokens are lost */
    }
    if (spare != NULL) {
        *spare = (struct spare_inbox){ self->st->spare_inboxes, self->inbox };
        self->st->spare_inboxes = spare;
    } else {
        ray_inbox_release(self->inbox);
    }
    type->tp_free(o);
    Py_DECREF(type);
}

static PyObject *
inbox_fd(PyObject *o, PyObject *unused)
{
    (void)unused;
    const int fd = ray_inbox_fd(((Inbox *)o)->inbox);
    return fd < 0 ? raise_status(fd) : PyLong_FromLong(fd);
}

/* Gives the exception that is set to a future; 0, or -1 with another one set. */
static int
set_exception(struct state *st, PyObject *future)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL) {
        PyException_SetTraceback(value, traceback);
    }
    if (PyErr_GivenExceptionMatches(value, PyExc_StopIteration)) { /* no future takes it */
        PyObject *other =
            PyObject_CallFunction(PyExc_RuntimeError, "s", "the task raised StopIteration");
        if (other != NULL) {
            PyException_SetCause(other, value);
            value = other;
        }
    }
    PyObject *done = PyObject_CallMethodOneArg(future, st->str_set_exception, value);
    Py_XDECREF(done);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    return done == NULL ? -1 : 0;
}

/* A future gets what its reference has become, unless it was cancelled; 0 or -1; 1: the value was
 * lost, and is to be waited for again. */
static int
settle(struct state *st, PyObject *ref, PyObject *future, bool only_ready)
{
    PyObject *done = PyObject_CallMethodNoArgs(future, st->str_done);
    if (done == NULL || done == Py_True) {
        Py_XDECREF(done);
        return done == NULL ? -1 : 0;
    }
    Py_DECREF(done);
    ray_ref *inside = only_ready ? NULL : object_ref_get(ref);
    PyObject *value = only_ready ? new_ref(Py_None) : NULL;
    if (inside != NULL && ray_ref_is_ready(inside)) {
        value = object_ready_value(st, inside);
    } else if (inside != NULL) { /* it never will be, and this tells why */
        size_t error;
        raise_status(ray_wait_all(&inside, 1, 0, &error));
    }
    if (value == NULL) {
        return PyErr_Occurred() ? set_exception(st, future) : 1;
    }
    done = PyObject_CallMethodOneArg(future, st->str_set_result, value);
    Py_DECREF(value);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

static int announce(PyObject *inbox, PyObject *ref, PyObject *future, bool only_ready);

static PyObject *
inbox_drain(PyObject *o, PyObject *unused)
{
    (void)unused;
    Inbox *self = (Inbox *)o;
    void *tokens[TAKEN_AT_ONCE];
    size_t n;
    do {
        n = ray_inbox_take(self->inbox, tokens, TAKEN_AT_ONCE);
        for (size_t i = 0; i < n; i++) {
            struct token *token = tokens[i];
            const int settled = settle(self->st, token->ref, token->future, token->only_ready);
            if (settled < 0 ||
                (settled > 0 && announce(o, token->ref, token->future, token->only_ready))) {
                PyErr_WriteUnraisable(token->future);
            }
            token_free(token);
        }
    } while (n == TAKEN_AT_ONCE);
    Py_RETURN_NONE;
}

static PyMethodDef inbox_methods[] = {
    { "fd", inbox_fd, METH_NOARGS, "A descriptor that is readable while something is there." },
    { "drain", inbox_drain, METH_NOARGS, "Sets the results of futures whose values came." },
    { NULL, NULL, 0, NULL },
};

static char inbox_doc[] = "Ready references of one event loop.";

static PyType_Slot inbox_slots[] = {
    { Py_tp_doc, inbox_doc },
    { Py_tp_new, (void *)inbox_new },
    { Py_tp_dealloc, (void *)inbox_dealloc },
    { Py_tp_methods, inbox_methods },
    { 0, NULL },
};

PyType_Spec inbox_spec = {
    .name = "ray._native.Inbox",
    .basicsize = sizeof(Inbox),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = inbox_slots,
};

/* ---- futures --------------------------------------------------------------------------------- */

/* new. The inbox of a loop, made when it has none. */
static PyObject *
inbox_of(struct state *st, PyObject *loop)
{
    PyObject *inbox = PyObject_GetAttr(loop, st->str_inbox);
    if (inbox == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
        inbox = call_python("ray._private.futures", "make_inbox", &loop, 1);
    }
    if (inbox != NULL && (PyObject *)Py_TYPE(inbox) != st->inbox_type) {
        PyErr_SetString(PyExc_TypeError, "the loop's _ray_inbox is not one");
        Py_CLEAR(inbox);
    }
    return inbox;
}

/* The future is settled when the reference is ready; 0 or -1. */
static int
announce(PyObject *inbox, PyObject *ref, PyObject *future, bool only_ready)
{
    ray_ref *inside = object_ref_get(ref);
    struct token *token = inside == NULL ? NULL : PyMem_Malloc(sizeof(*token));
    if (token == NULL) {
        if (inside != NULL) {
            PyErr_NoMemory();
        }
        return -1;
    }
    *token = (struct token){ new_ref(ref), new_ref(future), only_ready };
    const int status = ray_ref_notify(inside, ((Inbox *)inbox)->inbox, token);
    if (status != RAY_OK) {
        token_free(token);
        raise_status(status);
        return -1;
    }
    return 0;
}

/* new. The running loop, and a future of it. */
static PyObject *
future_of_loop(struct state *st, PyObject **loop)
{
    *loop = NULL;
    if (import_once(&st->get_running_loop, "asyncio", "get_running_loop") == 0) {
        *loop = PyObject_CallNoArgs(st->get_running_loop);
    }
    return *loop == NULL ? NULL : PyObject_CallMethodNoArgs(*loop, st->str_create_future);
}

static PyObject *
future_for(struct state *st, PyObject *ref, bool only_ready)
{
    PyObject *loop = NULL;
    ray_ref *inside = object_ref_get(ref);
    PyObject *future = inside == NULL ? NULL : future_of_loop(st, &loop);
    int failed = future == NULL             ? -1
                 : ray_ref_is_ready(inside) ? settle(st, ref, future, only_ready)
                                            : 1;
    if (failed > 0) {
        PyObject *inbox = inbox_of(st, loop);
        failed = inbox == NULL ? -1 : announce(inbox, ref, future, only_ready);
        Py_XDECREF(inbox);
    }
    if (failed) {
        Py_CLEAR(future);
    }
    Py_XDECREF(loop);
    return future;
}

PyObject *
loop_future(struct state *st, PyObject *ref)
{
    return future_for(st, ref, false);
}

PyObject *
native_ready_future(PyObject *module, PyObject *ref)
{
    struct state *st = state_of_module(module);
    if (!is_object_ref(st, ref)) {
        PyErr_SetString(PyExc_TypeError, "ready_future needs an ObjectRef");
        return NULL;
    }
    return future_for(st, ref, true);
}

PyObject *
loop_room_future(struct state *st, ray_task *task)
{
    PyObject *loop = NULL;
    PyObject *future = future_of_loop(st, &loop);
    PyObject *inbox = future == NULL ? NULL : inbox_of(st, loop);
    struct token *token = inbox == NULL ? NULL : PyMem_Malloc(sizeof(*token));
    if (token != NULL) {
        *token = (struct token){ NULL, new_ref(future), true };
        const int status = ray_task_yield_notify(task, ((Inbox *)inbox)->inbox, token);
        if (status != RAY_OK) {
            token_free(token);
            token = NULL;
            raise_status(status);
        }
    } else if (inbox != NULL) {
        PyErr_NoMemory();
    }
    Py_XDECREF(inbox);
    Py_XDECREF(loop);
    if (token == NULL) {
        Py_CLEAR(future);
    }
    return future;
}

/* ---- turns ----------------------------------------------------------------------------------- */

PyObject *
native_loop_turn(PyObject *module, PyObject *args)
{
    struct state *st = state_of_module(module);
    PyObject *inbox;
    int fd;
    double timeout;
    if (!PyArg_ParseTuple(args, "O!id:loop_turn", st->inbox_type, &inbox, &fd, &timeout)) {
        return NULL;
    }
    bool readable;
    const int64_t timeout_ns = timeout < 0 ? -1 : timeout > 1e9 ? -1 : (int64_t)(timeout * 1e9);
    const int status = ray_worker_turn(((Inbox *)inbox)->inbox, fd, timeout_ns, &readable);
    if (status != RAY_OK && status != RAY_E_CLOSED) {
        return raise_status(status);
    }
    PyObject *drained = inbox_drain(inbox, NULL);
    Py_XDECREF(drained);
    call_coroutine_cancel_asked();
    return PyLong_FromLong((status == RAY_E_CLOSED ? 1 : 0) | (readable ? 2 : 0));
}
