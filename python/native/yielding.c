/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Generators in a worker: each item goes out as it is made. Those of tasks and of plain and
 * threaded actors are run through here; those of async actors step by step, in coroutine.c.
 */
#include "_raymodule.h"

#include <string.h>

enum yielded
yield_item(struct state *st, ray_task *task, PyObject *value)
{
    struct ser s;
    struct ray_payload payload;
    int status = RAY_E_SYSTEM;
    bool full = false;
    ser_init(&s, st);
    if (ser_value(&s, value)) {
        executor_blame_return(task, value);
    } else if (ser_payload(&s, &payload) == 0) {
        if (ser_total(&s) > RAY_INLINE_MAX) { /* may wait for memory */
            Py_BEGIN_ALLOW_THREADS status = ray_task_yield(task, &payload, &full);
            Py_END_ALLOW_THREADS
        } else {
            status = ray_task_yield(task, &payload, &full);
        }
        if (status != RAY_OK && status != RAY_E_CLOSED) {
            raise_status(status);
        }
    }
    ser_fini(&s);
    if (status == RAY_E_CLOSED) {
        return YIELDED_UNREAD;
    }
    return PyErr_Occurred() ? YIELDED_ERROR : full ? YIELDED_FULL : YIELDED;
}

/* new; NULL with an exception, or at the end without one. The task may be interrupted meanwhile. */
static PyObject *
next_of(ray_task *task, PyObject *iterator)
{
    PyObject *item = NULL;
    if (executor_interrupts_begin(task) == 0) {
        item = PyIter_Next(iterator);
        executor_interrupts_end();
    }
    return item;
}

static int
wait_in_parts(ray_task *task)
{
    int status;
    do {
        Py_BEGIN_ALLOW_THREADS status = ray_task_yield_wait(task);
        Py_END_ALLOW_THREADS if (status == RAY_E_INTERRUPTED && PyErr_CheckSignals())
        {
            return -1;
        }
    } while (status == RAY_E_INTERRUPTED);
    if (status != RAY_OK) {
        raise_status(status);
        return -1;
    }
    return 0;
}

static int
wait_for_room(ray_task *task)
{
    int failed = executor_interrupts_begin(task);
    if (!failed) {
        failed = wait_in_parts(task);
        executor_interrupts_end();
    }
    return failed;
}

/* Nobody reads any more: GeneratorExit where it stands. */
static void
close_generator(PyObject *generator)
{
    PyObject *close = PyObject_GetAttrString(generator, "close");
    PyObject *done = close == NULL ? NULL : PyObject_CallNoArgs(close);
    if (close == NULL) {
        PyErr_Clear(); /* another iterator */
    } else if (done == NULL) {
        PyErr_WriteUnraisable(generator);
    }
    Py_XDECREF(close);
    Py_XDECREF(done);
}

static int
yield_from(struct state *st, ray_task *task, PyObject *iterator)
{
    PyObject *item;
    while ((item = next_of(task, iterator)) != NULL) {
        const enum yielded done = yield_item(st, task, item);
        Py_DECREF(item);
        if (done == YIELDED_UNREAD) {
            close_generator(iterator);
            return 0;
        }
        if (done == YIELDED_ERROR || (done == YIELDED_FULL && wait_for_room(task))) {
            return -1;
        }
    }
    return PyErr_Occurred() ? -1 : 0;
}

/* new. The value of a dynamic generator's one return. */
static PyObject *
dynamic_value(struct state *st, ray_task *task)
{
    const uint32_t count = ray_task_yielded(task);
    PyObject *refs = PyList_New((Py_ssize_t)count);
    for (uint32_t i = 0; refs != NULL && i < count; i++) {
        ray_ref *ref = NULL;
        const int status = ray_task_yielded_ref(task, i, &ref);
        PyObject *item = status == RAY_OK ? object_ref_new(st, ref) : raise_status(status);
        if (item == NULL) {
            Py_CLEAR(refs);
        } else {
            PyList_SET_ITEM(refs, (Py_ssize_t)i, item);
        }
    }
    PyObject *value = refs == NULL ? NULL
                                   : call_python("ray._private.generators",
                                                 "DynamicObjectRefGenerator", &refs, 1);
    Py_XDECREF(refs);
    return value;
}

int
yield_end(struct state *st, ray_task *task)
{
    PyObject *value = ray_task_generator(task) == RAY_GENERATOR_DYNAMIC ? dynamic_value(st, task)
                                                                        : new_ref(Py_None);
    const int failed = value == NULL ? -1 : executor_return_one(st, task, 0, value);
    Py_XDECREF(value);
    return failed;
}

/* A failure of which only a part of the returns is to tell; but one that leads to another attempt
 * is the task's. */
static bool
is_retried(const ray_task *task, const struct failure *failure)
{
    return failure->retry && ray_task_may_retry(task);
}

static int
give_as_item(ray_task *task, void *ctx, const struct failure *failure)
{
    bool *failed = ctx;
    *failed = is_retried(task, failure);
    if (*failed) {
        return ray_task_fail(task, failure->status, true, failure->text, failure->payload);
    }
    return ray_task_yield_failure(task, failure->status, failure->text, failure->payload);
}

int
yield_failed(struct state *st, ray_task *task, const struct outcome *outcome)
{
    if (ray_task_generator(task) != RAY_GENERATOR_DYNAMIC) {
        return -1;
    }
    bool failed = false;
    const int status = executor_tell_failure(st, task, outcome, give_as_item, &failed);
    if (status != RAY_OK && status != RAY_E_CLOSED) {
        raise_status(status);
        return -1;
    }
    return failed ? 0 : yield_end(st, task);
}

int
yield_all(struct state *st, ray_task *task, PyObject *generator, const struct outcome *outcome)
{
    PyObject *iterator = PyObject_GetIter(generator);
    if (iterator == NULL) {
        return -1;
    }
    const int failed = yield_from(st, task, iterator);
    Py_DECREF(iterator);
    return failed ? yield_failed(st, task, outcome) : yield_end(st, task);
}

/* ---- a fixed number of returns --------------------------------------------------------------- */

struct rest {
    int32_t first, count;
};

static int
give_to_rest(ray_task *task, void *ctx, const struct failure *failure)
{
    const struct rest *rest = ctx;
    if (is_retried(task, failure)) {
        return ray_task_fail(task, failure->status, true, failure->text, failure->payload);
    }
    int status = RAY_OK;
    for (int32_t i = rest->first; i < rest->count && status == RAY_OK; i++) {
        status = ray_task_return_failure(task, i, failure->status, failure->text, failure->payload);
    }
    return status;
}

static void
raise_wrong_count(ray_task *task, int32_t expected, int32_t given)
{
    PyObject *args = Py_BuildValue("(sii)", ray_task_function_name(task), expected, given);
    PyObject *function =
        args == NULL ? NULL : import_name("ray._private.executor", "raise_wrong_yields");
    PyObject *never = function == NULL ? NULL : PyObject_CallObject(function, args);
    Py_XDECREF(never);
    Py_XDECREF(function);
    Py_XDECREF(args);
}

/* An exception, after some returns were given: the others become that. With all given it is only
 * shown. */
static int
fail_rest(struct state *st, ray_task *task, const struct outcome *outcome, struct rest rest)
{
    if (PyErr_ExceptionMatches(PyExc_SystemExit)) {
        return -1;
    }
    if (rest.first == rest.count) {
        PySys_WriteStderr("%s raised after it had yielded all of its %d return values:\n",
                          ray_task_function_name(task), rest.count);
        PyErr_PrintEx(0);
        return 0;
    }
    const int status = executor_tell_failure(st, task, outcome, give_to_rest, &rest);
    if (status != RAY_OK) {
        raise_status(status);
        return -1;
    }
    return 0;
}

int
yield_returns(struct state *st, ray_task *task, PyObject *generator, const struct outcome *outcome)
{
    struct rest rest = { 0, ray_task_num_returns(task) };
    PyObject *item;
    while ((item = next_of(task, generator)) != NULL) {
        int failed = 0;
        if (rest.first == rest.count) {
            raise_wrong_count(task, rest.count, rest.count + 1);
            failed = -1;
        } else {
            failed = executor_return_one(st, task, rest.first, item);
            rest.first++;
        }
        Py_DECREF(item);
        if (failed) {
            return -1; /* of all: none of them went out */
        }
    }
    if (!PyErr_Occurred() && rest.first < rest.count) {
        raise_wrong_count(task, rest.count, rest.first);
    }
    return PyErr_Occurred() ? fail_rest(st, task, outcome, rest) : 0;
}
