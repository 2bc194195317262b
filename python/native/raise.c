/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Statuses and failures of libray as Python exceptions. The classes are those of status.def; how
 * each is filled is Python, in ray._private.errors: an error is never on the fast path.
 */
#include "_raymodule.h"

#include <string.h>

/* Sets the exception object that the Python function made, or the error it failed with. */
static PyObject *
raise_made(PyObject *exception)
{
    if (exception != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
        Py_DECREF(exception);
    }
    return NULL;
}

PyObject *
raise_status(int status)
{
    if (status == RAY_E_OUT_OF_MEMORY) {
        return PyErr_NoMemory();
    }
    if (status == RAY_E_INTERRUPTED && (PyErr_CheckSignals() || PyErr_Occurred())) {
        return NULL;
    }
    const char *text = ray_error_text();
    PyObject *args[3] = {
        PyLong_FromLong(status),
        PyUnicode_FromString(ray_status_python_class(status)),
        PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace"),
    };
    PyObject *exception = NULL;
    if (args[0] != NULL && args[1] != NULL && args[2] != NULL) {
        exception = call_python("ray._private.errors", "from_status", args, 3);
    }
    for (size_t i = 0; i < 3; i++) {
        Py_XDECREF(args[i]);
    }
    return raise_made(exception);
}

static PyObject *
text_of(const char *text)
{
    if (text == NULL) {
        text = "";
    }
    return PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
}

static PyObject *
bytes_of(const uint8_t *data, size_t size)
{
    return PyBytes_FromStringAndSize((const char *)data, (Py_ssize_t)size);
}

/* new. The fields of a failure as a dict. */
static PyObject *
failure_dict(const struct ray_failure *failure)
{
    PyObject *data = new_ref(Py_None);
    if (failure->data != NULL) {
        Py_SETREF(data, bytes_of((const uint8_t *)failure->data, failure->data_size));
    }
    return Py_BuildValue("{s:i,s:N,s:N,s:N,s:N,s:i,s:N,s:N,s:N,s:N,s:N,s:O,s:O,s:N}", "status",
                         failure->status, "status_name", text_of(ray_status_name(failure->status)),
                         "python_class", text_of(ray_status_python_class(failure->status)), "text",
                         text_of(failure->text), "function", text_of(failure->function), "pid",
                         failure->pid, "node_ip", text_of(failure->node_ip), "actor_id",
                         bytes_of(failure->actor_id, RAY_ACTOR_ID_SIZE), "task_id",
                         bytes_of(failure->task_id, RAY_TASK_ID_SIZE), "object_id",
                         bytes_of(failure->object_id, RAY_OBJECT_ID_SIZE), "class_name",
                         text_of(failure->class_name), "actor_init_failed",
                         failure->actor_init_failed ? Py_True : Py_False, "never_started",
                         failure->never_started ? Py_True : Py_False, "data", data);
}

/* new. */
static PyObject *
fields_of(const ray_value *value)
{
    struct ray_failure failure = { .struct_size = sizeof(failure) };
    const int status = ray_value_failure(value, &failure);
    return status != RAY_OK ? raise_status(status) : failure_dict(&failure);
}

/* Runs on libray's thread for callbacks, which has ended before the interpreter does: ray.shutdown
 * waits for it, without the interpreter. */
void
unhandled_failure(void *ctx, const ray_value *failure, size_t dropped)
{
    (void)ctx;
    const PyGILState_STATE held = PyGILState_Ensure();
    PyObject *args[2] = { fields_of(failure), PyLong_FromSize_t(dropped) };
    PyObject *done = NULL;
    if (args[0] != NULL && args[1] != NULL) {
        done = call_python("ray._private.errors", "tell_unhandled", args, 2);
    }
    if (done == NULL) {
        PyErr_WriteUnraisable(NULL);
    }
    Py_XDECREF(done);
    Py_XDECREF(args[0]);
    Py_XDECREF(args[1]);
    PyGILState_Release(held);
}

PyObject *
raise_failure(ray_value *value)
{
    PyObject *fields = fields_of(value);
    if (fields == NULL) {
        return NULL;
    }
    PyObject *exception = call_python("ray._private.errors", "from_failure", &fields, 1);
    Py_DECREF(fields);
    return raise_made(exception);
}
