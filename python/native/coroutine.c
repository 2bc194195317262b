/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A call of an async actor, as a coroutine that an asyncio task of the actor's loop runs.
 *
 * Its first step reads the arguments and calls the method; when that gives a coroutine, this one
 * goes on with it, step by step, so that around each step libray knows which call the thread works
 * on. The end of it is the end of the call: returns or failure go out there, with no callback in
 * between. Exceptions end here (the caller has them), but for asyncio's cancellation, which the
 * asyncio task must see.
 *
 * A generator's call goes through its items the same way: between two of them it goes on with what
 * `__anext__` gave, or waits for the reader, or lets other calls of the loop have a turn.
 *
 * From its start to its end a CallCoroutine holds itself and its asyncio task: the loop alone keeps
 * only weak references to tasks that wait.
 */
#include "_raymodule.h"

#include <structmember.h>

#include <string.h>

/* What a generator's call is at. */
enum stage {
    STAGE_ITEM,  /* `inner` makes the next item */
    STAGE_ROOM,  /* `inner` is ready when the reader has caught up */
    STAGE_TURN,  /* others have had a turn */
    STAGE_CLOSE, /* `inner` is the generator's end, since nobody reads */
};

/* Items that a generator may make before other calls get a turn. */
enum { ITEMS_A_TURN = 32 };

typedef struct {
    PyObject_HEAD struct state *st;
    ray_task *task;  /* NULL: the call has ended */
    PyObject *inner; /* the method's coroutine, NULL before the first step and after the end; of a
                      * generator what is awaited for the next item, or NULL between two */
    PyObject *items; /* the generator, or NULL */
    enum stage stage;
    uint32_t item_count;
    PyObject *holder;
    PyObject *name;
    bool begun, stepping;
    bool cancelled; /* ray.cancel has cancelled its asyncio task */
    struct outcome outcome;
    uint8_t id[RAY_TASK_ID_SIZE];
} CallCoroutine;

enum step { STEP_ERROR = -1, STEP_RETURN = 0, STEP_NEXT = 1 };

/* loop.create_task of the loop that this thread runs; borrowed from the loop's frame. */
static _Thread_local PyObject *create_task;

bool
call_coroutine_in_loop(void)
{
    return create_task != NULL;
}

PyObject *
native_loop_begin(PyObject *module, PyObject *function)
{
    (void)module;
    Py_XSETREF(create_task, new_ref(function));
    Py_RETURN_NONE;
}

/* ---- the context ----------------------------------------------------------------------------- */

/* Asyncio tasks that the call makes find it here, also when it has ended. */
static int
enter_context(CallCoroutine *self)
{
    struct state *st = self->st;
    if (st->task_variable == NULL) {
        st->task_variable = PyContextVar_New("ray_task", NULL);
    }
    PyObject *token =
        st->task_variable == NULL ? NULL : PyContextVar_Set(st->task_variable, (PyObject *)self);
    Py_XDECREF(token);
    return token == NULL ? -1 : 0;
}

/* new, or NULL without an exception. */
static CallCoroutine *
of_context(struct state *st)
{
    PyObject *found = NULL;
    if (st->task_variable == NULL || PyContextVar_Get(st->task_variable, NULL, &found) < 0) {
        PyErr_Clear();
    }
    return (CallCoroutine *)found;
}

PyObject *
call_coroutine_of_context(struct state *st)
{
    CallCoroutine *self = of_context(st);
    if (self == NULL) {
        Py_RETURN_NONE;
    }
    PyObject *class_module = PyObject_GetAttr(st->actor_instance, st->str_module);
    if (class_module == NULL) {
        PyErr_Clear();
        class_module = new_ref(Py_None);
    }
    PyObject *result = Py_BuildValue("{s:O,s:O,s:N}", "name", self->name, "function", self->name,
                                     "module", class_module);
    Py_DECREF(self);
    return result;
}

PyObject *
call_coroutine_is_cancelled(struct state *st)
{
    CallCoroutine *self = of_context(st);
    const bool cancelled = self != NULL && self->task != NULL && ray_task_is_cancelled(self->task);
    Py_XDECREF(self);
    return PyBool_FromLong(cancelled);
}

void
call_coroutine_cancel_asked(void)
{
    for (ray_task *task; (task = ray_worker_next_cancelled()) != NULL;) {
        CallCoroutine *self = ray_task_user(task); /* lives as long as its call */
        PyObject *holder = self == NULL || self->holder == NULL ? NULL : new_ref(self->holder);
        PyObject *done = holder == NULL ? NULL : PyObject_CallMethod(holder, "cancel", NULL);
        if (holder != NULL && done == NULL) {
            PyErr_WriteUnraisable(holder);
        }
        if (done == Py_True && self->task == task) {
            self->cancelled = true;
        }
        Py_XDECREF(done);
        Py_XDECREF(holder);
    }
}

const uint8_t *
call_coroutine_id_of_context(struct state *st)
{
    static _Thread_local uint8_t id[RAY_TASK_ID_SIZE];
    ray_task *current = executor_enter(NULL);
    (void)executor_enter(current);
    CallCoroutine *self = current == NULL ? of_context(st) : NULL;
    if (self == NULL) {
        return NULL;
    }
    memcpy(id, self->id, sizeof(id));
    Py_DECREF(self);
    return id;
}

/* ---- steps ----------------------------------------------------------------------------------- */

/* After a method of a coroutine gave NULL: STEP_RETURN with its value (new), or STEP_ERROR. */
static enum step
take_stop(PyObject **result)
{
    if (!PyErr_ExceptionMatches(PyExc_StopIteration)) {
        return STEP_ERROR;
    }
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    *result = PyObject_GetAttrString(value, "value");
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    return *result == NULL ? STEP_ERROR : STEP_RETURN;
}

/* *result is new, also with STEP_RETURN. */
static enum step
send_into(PyObject *coroutine, PyObject *value, PyObject **result)
{
#if PY_VERSION_HEX >= 0x030A0000
    switch (PyIter_Send(coroutine, value, result)) {
    case PYGEN_RETURN:
        return STEP_RETURN;
    case PYGEN_NEXT:
        return STEP_NEXT;
    case PYGEN_ERROR:
    default:
        return STEP_ERROR;
    }
#else
    *result = PyObject_CallMethod(coroutine, "send", "O", value);
    return *result != NULL ? STEP_NEXT : take_stop(result);
#endif
}

/* ---- generators ------------------------------------------------------------------------------ */

/* new. What is to be awaited, from an awaitable (new, or NULL with an exception). */
static PyObject *
await_of(PyObject *awaitable)
{
    PyObject *inner = NULL;
    if (awaitable != NULL) {
        inner = PyObject_CallMethod(awaitable, "__await__", NULL);
        Py_DECREF(awaitable);
    }
    return inner;
}

/* `inner` is run, if there is one. */
static enum step
await_inner(CallCoroutine *self, PyObject **result)
{
    *result = NULL;
    return self->inner == NULL ? STEP_ERROR : send_into(self->inner, Py_None, result);
}

/* Towards the next item. */
static enum step
next_item(CallCoroutine *self, PyObject **result)
{
    self->stage = STAGE_ITEM;
    if (PyIter_Check(self->items)) {
        *result = PyIter_Next(self->items);
        if (*result == NULL && !PyErr_Occurred()) {
            PyErr_SetNone(PyExc_StopAsyncIteration);
        }
        return *result == NULL ? STEP_ERROR : STEP_RETURN;
    }
    self->inner = await_of(PyObject_CallMethod(self->items, "__anext__", NULL));
    return await_inner(self, result);
}

/* Nobody reads: the generator is closed, as by `aclose`. */
static enum step
close_items(CallCoroutine *self, PyObject **result)
{
    self->stage = STAGE_CLOSE;
    if (!PyIter_Check(self->items)) {
        self->inner = await_of(PyObject_CallMethod(self->items, "aclose", NULL));
        return await_inner(self, result);
    }
    *result = PyObject_HasAttrString(self->items, "close")
                  ? PyObject_CallMethod(self->items, "close", NULL)
                  : new_ref(Py_None);
    return *result == NULL ? STEP_ERROR : STEP_RETURN;
}

/* An item (new) is made: it goes out, and what comes next is begun. */
static enum step
take_item(CallCoroutine *self, PyObject *item, PyObject **result)
{
    *result = NULL;
    const enum yielded done = yield_item(self->st, self->task, item);
    Py_DECREF(item);
    switch (done) {
    case YIELDED_UNREAD:
        return close_items(self, result);
    case YIELDED_FULL:
        self->stage = STAGE_ROOM;
        self->inner = await_of(loop_room_future(self->st, self->task));
        return await_inner(self, result);
    case YIELDED:
        if (++self->item_count % ITEMS_A_TURN == 0) {
            self->stage = STAGE_TURN;
            *result = new_ref(Py_None);
            return STEP_NEXT;
        }
        return next_item(self, result);
    case YIELDED_ERROR:
    default:
        return STEP_ERROR;
    }
}

/* Goes on from the end of what was awaited, `done` with *result, until something else is: NEXT; or
 * to the end of the generator: RETURN (with None), or ERROR. */
static enum step
go_through_items(CallCoroutine *self, enum step done, PyObject **result)
{
    while (done != STEP_NEXT) {
        const enum stage stage = self->stage;
        PyObject *made = *result;
        *result = NULL;
        Py_CLEAR(self->inner);
        if (stage == STAGE_CLOSE) {
            if (done == STEP_ERROR) {
                PyErr_WriteUnraisable(self->items);
            }
            Py_XDECREF(made);
            *result = new_ref(Py_None);
            return STEP_RETURN;
        }
        if (done == STEP_ERROR) {
            if (stage != STAGE_ITEM || !PyErr_ExceptionMatches(PyExc_StopAsyncIteration)) {
                return STEP_ERROR;
            }
            PyErr_Clear();
            *result = new_ref(Py_None);
            return STEP_RETURN;
        }
        if (stage == STAGE_ITEM) {
            done = take_item(self, made, result);
        } else {
            Py_XDECREF(made);
            done = next_item(self, result);
        }
    }
    return done;
}

/* *result (taken) is what the method gave. */
static enum step
begin_items(CallCoroutine *self, PyObject **result)
{
    PyObject *made = *result;
    *result = NULL;
    self->items = PyAsyncGen_CheckExact(made) || PyObject_HasAttrString(made, "__anext__")
                      ? new_ref(made)
                      : PyObject_GetIter(made);
    Py_DECREF(made);
    return self->items == NULL ? STEP_ERROR
                               : go_through_items(self, next_item(self, result), result);
}

/* The value is in for the generator, or the call of it is told of the failure; 0 or -1. */
static int
give_items_back(CallCoroutine *self, enum step step)
{
    return step == STEP_ERROR ? yield_failed(self->st, self->task, &self->outcome)
                              : yield_end(self->st, self->task);
}

/* ---- the first step, the end ------------------------------------------------------------------
 */

static enum step
first_step(CallCoroutine *self, PyObject **result)
{
    self->begun = true;
    *result = enter_context(self) ? NULL : executor_run(self->st, self->task, &self->outcome);
    if (*result == NULL) {
        return STEP_ERROR;
    }
    if (ray_task_generator(self->task) != RAY_GENERATOR_NONE) {
        return begin_items(self, result);
    }
    if (!PyCoro_CheckExact(*result)) {
        return STEP_RETURN; /* a plain method */
    }
    self->inner = *result;
    *result = NULL;
    return send_into(self->inner, Py_None, result);
}

static int
fail_cancelled(CallCoroutine *self)
{
    char text[256];
    snprintf(text, sizeof(text), "%.200s was cancelled", ray_task_function_name(self->task));
    return ray_task_fail(self->task, RAY_E_TASK_CANCELLED, false, text, NULL);
}

/* The asyncio task was cancelled, and nobody caught it. */
static bool
is_cancellation(struct state *st)
{
    if (st->cancelled_error == NULL) {
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        if (import_once(&st->cancelled_error, "asyncio", "CancelledError")) {
            PyErr_Clear();
        }
        PyErr_Restore(type, value, traceback);
    }
    return st->cancelled_error != NULL && PyErr_ExceptionMatches(st->cancelled_error);
}

/* The call has ended, with `result` (new) or the exception that is set. What the asyncio task is
 * told: STEP_RETURN, or STEP_ERROR when it was cancelled. */
static enum step
end(CallCoroutine *self, enum step step, PyObject *result)
{
    struct state *st = self->st;
    PyObject *type = NULL, *value = NULL, *traceback = NULL;
    int status = RAY_OK;
    Py_CLEAR(self->inner);
    if (step == STEP_ERROR && is_cancellation(st)) {
        PyErr_Fetch(&type, &value, &traceback);
        status = fail_cancelled(self);
    } else if (self->cancelled) { /* the caller is not told what the method made of it */
        PyErr_Clear();
        status = fail_cancelled(self);
    } else if (self->items != NULL
                   ? give_items_back(self, step)
                   : step == STEP_ERROR ||
                         executor_give_back(st, self->task, result, &self->outcome)) {
        status = executor_fail(st, self->task, &self->outcome);
    }
    Py_XDECREF(result);
    Py_CLEAR(self->items);
    ray_task *task = self->task;
    self->task = NULL;
    (void)ray_task_finish(task, status);
    Py_CLEAR(self->holder);
    Py_DECREF(self); /* the one of the start; who steps it has another */
    PyErr_Restore(type, value, traceback);
    return type == NULL ? STEP_RETURN : STEP_ERROR;
}

/* One step: sends a value, or throws (when `throw` is a tuple). *result is new with STEP_NEXT. */
static enum step
step(CallCoroutine *self, PyObject *value, PyObject *thrown, PyObject **result)
{
    *result = NULL;
    if (self->task == NULL || self->stepping) {
        PyErr_SetString(PyExc_RuntimeError, self->stepping
                                                ? "coroutine already executing"
                                                : "cannot reuse already awaited coroutine");
        return STEP_ERROR;
    }
    ray_task *outer = executor_enter(self->task);
    ray_task *outer_inside = ray_task_enter(self->task);
    enum step done;
    bool settled = !self->begun; /* a generator's items are gone through, as far as it can be */
    self->stepping = true;
    if (thrown != NULL && self->inner == NULL) {
        PyObject *type = PyTuple_GET_ITEM(thrown, 0);
        self->begun = settled = true;
        if (PyExceptionInstance_Check(type)) {
            PyErr_SetObject((PyObject *)Py_TYPE(type), type);
        } else {
            PyErr_SetObject(type,
                            PyTuple_GET_SIZE(thrown) > 1 ? PyTuple_GET_ITEM(thrown, 1) : NULL);
        }
        done = STEP_ERROR;
    } else if (thrown != NULL) {
        PyObject *method = PyObject_GetAttrString(self->inner, "throw");
        *result = method == NULL ? NULL : PyObject_Call(method, thrown, NULL);
        Py_XDECREF(method);
        done = *result != NULL ? STEP_NEXT : take_stop(result);
    } else {
        done = !self->begun          ? first_step(self, result)
               : self->inner == NULL ? STEP_RETURN /* a generator's turn */
                                     : send_into(self->inner, value, result);
    }
    if (self->items != NULL && done != STEP_NEXT && !settled) {
        done = go_through_items(self, done, result);
    }
    self->stepping = false;
    if (done != STEP_NEXT) {
        done = end(self, done, *result);
        *result = NULL;
    }
    (void)ray_task_enter(outer_inside);
    (void)executor_enter(outer);
    return done;
}

#if PY_VERSION_HEX >= 0x030A0000
static PySendResult
coroutine_am_send(PyObject *o, PyObject *value, PyObject **result)
{
    switch (step((CallCoroutine *)o, value, NULL, result)) {
    case STEP_NEXT:
        return PYGEN_NEXT;
    case STEP_RETURN:
        *result = new_ref(Py_None);
        return PYGEN_RETURN;
    case STEP_ERROR:
    default:
        return PYGEN_ERROR;
    }
}
#endif

static PyObject *
as_method(enum step done, PyObject *result)
{
    if (done == STEP_RETURN) {
        PyErr_SetNone(PyExc_StopIteration);
    }
    return done == STEP_NEXT ? result : NULL;
}

static PyObject *
coroutine_send(PyObject *o, PyObject *value)
{
    PyObject *result;
    const enum step done = step((CallCoroutine *)o, value, NULL, &result);
    return as_method(done, result);
}

static PyObject *
coroutine_next(PyObject *o)
{
    return coroutine_send(o, Py_None);
}

static PyObject *
coroutine_throw(PyObject *o, PyObject *args)
{
    PyObject *result;
    if (PyTuple_GET_SIZE(args) < 1) {
        PyErr_SetString(PyExc_TypeError, "throw expected at least 1 argument, got 0");
        return NULL;
    }
    const enum step done = step((CallCoroutine *)o, NULL, args, &result);
    return as_method(done, result);
}

static PyObject *
coroutine_close(PyObject *o, PyObject *unused)
{
    CallCoroutine *self = (CallCoroutine *)o;
    (void)unused;
    return self->inner == NULL ? new_ref(Py_None) : PyObject_CallMethod(self->inner, "close", NULL);
}

static PyObject *
coroutine_self(PyObject *o)
{
    return new_ref(o);
}

/* cr_frame, cr_code and so on are those of the method's coroutine. */
static PyObject *
coroutine_getattro(PyObject *o, PyObject *name)
{
    const CallCoroutine *self = (const CallCoroutine *)o;
    PyObject *found = PyObject_GenericGetAttr(o, name);
    if (found == NULL && self->inner != NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
        found = PyObject_GetAttr(self->inner, name);
    }
    return found;
}

static int
coroutine_traverse(PyObject *o, visitproc visit, void *arg)
{
    CallCoroutine *self = (CallCoroutine *)o;
    Py_VISIT(self->inner);
    Py_VISIT(self->items);
    Py_VISIT(self->holder);
    Py_VISIT(self->name);
    Py_VISIT(Py_TYPE(o));
    return 0;
}

static int
coroutine_clear(PyObject *o)
{
    CallCoroutine *self = (CallCoroutine *)o;
    Py_CLEAR(self->inner);
    Py_CLEAR(self->items);
    Py_CLEAR(self->holder);
    Py_CLEAR(self->name);
    return 0;
}

static void
coroutine_dealloc(PyObject *o)
{
    PyTypeObject *type = Py_TYPE(o);
    PyObject_GC_UnTrack(o);
    (void)coroutine_clear(o);
    type->tp_free(o);
    Py_DECREF(type);
}

static int
refuse_call(ray_task *task)
{
    PyErr_WriteUnraisable(NULL);
    return ray_task_fail(task, RAY_E_SYSTEM, false, "the actor's event loop takes no more calls",
                         NULL);
}

int
call_coroutine_start(struct state *st, ray_task *task)
{
    PyTypeObject *type = (PyTypeObject *)st->call_coroutine_type;
    CallCoroutine *self = create_task == NULL ? NULL : (CallCoroutine *)type->tp_alloc(type, 0);
    PyObject *name = self == NULL ? NULL : PyUnicode_FromString(ray_task_name(task));
    if (name == NULL) {
        Py_XDECREF(self);
        return refuse_call(task);
    }
    self->st = st;
    self->task = task;
    self->name = name;
    memcpy(self->id, ray_task_id(task), sizeof(self->id));
    ray_task_set_user(task, self);
    (void)ray_task_defer(task); /* the task factory may run the call, also to its end */
    Py_INCREF(self);
    /* With a name, or each task would make one up. */
    PyObject *args[2] = { (PyObject *)self, name };
    PyObject *holder = PyObject_Vectorcall(create_task, args, 1, st->name_keyword);
    if (self->task == NULL) {
        if (holder == NULL) {
            PyErr_WriteUnraisable(name);
        }
        Py_XDECREF(holder);
    } else if (holder == NULL) {
        const int status = refuse_call(task);
        self->task = NULL;
        (void)ray_task_finish(task, status);
        Py_DECREF(self); /* the one of the start */
    } else {
        self->holder = holder;
    }
    Py_DECREF(self);
    return RAY_OK;
}

static PyMemberDef coroutine_members[] = {
    { "__name__", T_OBJECT, offsetof(CallCoroutine, name), READONLY, "The method." },
    { "__qualname__", T_OBJECT, offsetof(CallCoroutine, name), READONLY, "The method." },
    { "cr_running", T_BOOL, offsetof(CallCoroutine, stepping), READONLY, "Whether it runs." },
    { NULL, 0, 0, 0, NULL },
};

static PyMethodDef coroutine_methods[] = {
    { "send", coroutine_send, METH_O, "Runs the call to where it waits next." },
    { "throw", coroutine_throw, METH_VARARGS, "The same, with an exception where it waits." },
    { "close", coroutine_close, METH_NOARGS, "Ends the method's coroutine." },
    { NULL, NULL, 0, NULL },
};

static char coroutine_doc[] = "A call of an async actor's method.";

static PyType_Slot coroutine_slots[] = {
    { Py_tp_doc, coroutine_doc },
    { Py_tp_dealloc, (void *)coroutine_dealloc },
    { Py_tp_traverse, (void *)coroutine_traverse },
    { Py_tp_clear, (void *)coroutine_clear },
    { Py_tp_getattro, (void *)coroutine_getattro },
    { Py_tp_iternext, (void *)coroutine_next },
    { Py_tp_methods, coroutine_methods },
    { Py_tp_members, coroutine_members },
    { Py_am_await, (void *)coroutine_self },
#if PY_VERSION_HEX >= 0x030A0000
    { Py_am_send, (void *)coroutine_am_send },
#endif
    { 0, NULL },
};

PyType_Spec call_coroutine_spec = {
    .name = "ray._native.CallCoroutine",
    .basicsize = sizeof(CallCoroutine),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = coroutine_slots,
};
