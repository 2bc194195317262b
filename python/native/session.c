/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting and ending a session, and asking where one stands. Arguments were checked in Python
 * (ray._private.context); here they are only handed on.
 */
#include "_raymodule.h"

#include <string.h>
#include <unistd.h>

struct init_settings {
    struct ray_init_options options;
    struct ray_resource *resources;
    const char **argv;
};

static const char *
text_setting(PyObject *settings, const char *name)
{
    PyObject *value = PyDict_GetItemString(settings, name); /* borrowed */
    return value == NULL || value == Py_None ? NULL : c_text(value);
}

static double
number_setting(PyObject *settings, const char *name)
{
    PyObject *value = PyDict_GetItemString(settings, name); /* borrowed */
    return value == NULL ? -1.0 : PyFloat_AsDouble(value);
}

static uint64_t
bytes_setting(PyObject *settings, const char *name)
{
    PyObject *value = PyDict_GetItemString(settings, name); /* borrowed */
    return value == NULL ? 0 : PyLong_AsUnsignedLongLong(value);
}

static int
take_resources(PyObject *settings, struct init_settings *out)
{
    PyObject *dict = PyDict_GetItemString(settings, "resources"); /* borrowed */
    if (dict == NULL || !PyDict_Check(dict)) {
        return 0;
    }
    out->resources = PyMem_Calloc((size_t)PyDict_GET_SIZE(dict) + 1, sizeof(struct ray_resource));
    if (out->resources == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    Py_ssize_t at = 0;
    PyObject *name, *amount;
    while (PyDict_Next(dict, &at, &name, &amount)) {
        struct ray_resource *resource = &out->resources[out->options.resource_count++];
        resource->name = c_text(name);
        resource->amount = PyFloat_AsDouble(amount);
    }
    out->options.resources = out->resources;
    return PyErr_Occurred() ? -1 : 0;
}

static int
take_argv(PyObject *settings, struct init_settings *out)
{
    PyObject *list = PyDict_GetItemString(settings, "zygote_argv"); /* borrowed */
    if (list == NULL || !PyList_Check(list)) {
        PyErr_SetString(PyExc_TypeError, "zygote_argv must be a list");
        return -1;
    }
    const Py_ssize_t count = PyList_GET_SIZE(list);
    out->argv = PyMem_Calloc((size_t)count + 1, sizeof(*out->argv));
    if (out->argv == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        out->argv[i] = c_text(PyList_GET_ITEM(list, i));
        if (out->argv[i] == NULL) {
            return -1;
        }
    }
    out->options.zygote_argv = out->argv;
    return 0;
}

static int
take_settings(struct state *st, PyObject *settings, struct init_settings *out)
{
    struct ray_init_options *o = &out->options;
    o->struct_size = sizeof(*o);
    ray_init_options_default(o);
    o->address = text_setting(settings, "address");
    o->num_cpus = number_setting(settings, "num_cpus");
    o->num_gpus = number_setting(settings, "num_gpus");
    o->object_store_memory = bytes_setting(settings, "object_store_memory");
    o->memory = bytes_setting(settings, "memory");
    o->job_namespace = text_setting(settings, "namespace");
    o->temp_dir = text_setting(settings, "temp_dir");
    o->default_lifetime = PyDict_GetItemString(settings, "detached_by_default") == Py_True
                              ? RAY_LIFETIME_DETACHED
                              : RAY_LIFETIME_COUNTED;
    o->log_to_driver = PyDict_GetItemString(settings, "log_to_driver") == Py_True;
    o->on_log = log_queue_push;
    o->on_log_ctx = st->logs;
    if (PyErr_Occurred()) {
        return -1;
    }
    return take_resources(settings, out) || take_argv(settings, out) ? -1 : 0;
}

PyObject *
native_find_runtime(PyObject *module, PyObject *args)
{
    (void)module;
    const char *address, *temp_dir;
    if (!PyArg_ParseTuple(args, "zz:find_runtime", &address, &temp_dir)) {
        return NULL;
    }
    char found[256];
    const int status = ray_find_runtime(address, temp_dir, found, sizeof(found));
    return status != RAY_OK ? raise_status(status) : PyUnicode_FromString(found);
}

PyObject *
native_init(PyObject *module, PyObject *settings)
{
    struct state *st = state_of_module(module);
    if (!PyDict_Check(settings)) {
        PyErr_SetString(PyExc_TypeError, "init needs a dict");
        return NULL;
    }
    struct init_settings taken = { .resources = NULL };
    int status = RAY_OK;
    const int failed = take_settings(st, settings, &taken);
    if (!failed) {
        Py_BEGIN_ALLOW_THREADS if (st->session != 0)
        {
            (void)ray_shutdown(); /* what is left of a session whose raylet died */
        }
        log_queue_open(st->logs);
        status = ray_init(0, NULL, &taken.options);
        if (status != RAY_OK) {
            log_queue_close(st->logs);
        }
        Py_END_ALLOW_THREADS
    }
    PyMem_Free(taken.resources);
    PyMem_Free(taken.argv);
    if (failed) {
        return NULL;
    }
    if (status != RAY_OK) {
        st->session = 0;
        return raise_status(status);
    }
    st->session = ++st->sessions_started;
    st->pid = getpid();
    Py_RETURN_NONE;
}

PyObject *
native_shutdown(PyObject *module, PyObject *unused)
{
    (void)unused;
    struct state *st = state_of_module(module);
    if (st->is_worker || st->session == 0) {
        Py_RETURN_NONE;
    }
    st->session = 0;
    if (st->pid != getpid()) {
        Py_RETURN_NONE; /* a lock may have been held when this process was forked */
    }
    int status;
    Py_BEGIN_ALLOW_THREADS status = ray_shutdown();
    log_queue_close(st->logs);
    Py_END_ALLOW_THREADS if (status != RAY_OK && status != RAY_E_NOT_INITIALIZED)
    {
        return raise_status(status);
    }
    Py_RETURN_NONE;
}

PyObject *
native_is_initialized(PyObject *module, PyObject *unused)
{
    (void)unused;
    const struct state *st = state_of_module(module);
    return PyBool_FromLong(st->session != 0 && ray_is_initialized());
}

PyObject *
native_session(PyObject *module, PyObject *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLong(state_of_module(module)->session);
}

PyObject *
native_context(PyObject *module, PyObject *unused)
{
    (void)unused;
    struct ray_context c = { .struct_size = sizeof(c) };
    const int status = ray_context_get(&c);
    if (status != RAY_OK) {
        return raise_status(status);
    }
    const uint8_t *within = call_coroutine_id_of_context(state_of_module(module));
    if (within != NULL) {
        memcpy(c.task_id, within, sizeof(c.task_id));
    }
    return Py_BuildValue(
        "{s:y#,s:y#,s:y#,s:y#,s:y#,s:O,s:I,s:K,s:s,s:s,s:s,s:s,s:s,s:s,s:s}", "job_id", c.job_id,
        (Py_ssize_t)sizeof(c.job_id), "node_id", c.node_id, (Py_ssize_t)sizeof(c.node_id),
        "worker_id", c.worker_id, (Py_ssize_t)sizeof(c.worker_id), "task_id", c.task_id,
        (Py_ssize_t)sizeof(c.task_id), "actor_id", c.actor_id, (Py_ssize_t)sizeof(c.actor_id),
        "is_driver", c.is_driver ? Py_True : Py_False, "attempt", (unsigned)c.attempt,
        "actor_incarnation", (unsigned long long)c.actor_incarnation, "session_dir", c.session_dir,
        "session_name", c.session_name, "gcs_address", c.gcs_address, "node_ip", c.node_ip,
        "raylet_socket", c.raylet_socket, "job_namespace", c.job_namespace, "actor_name",
        c.actor_name);
}

PyObject *
native_state_json(PyObject *module, PyObject *what)
{
    (void)module;
    const char *name = c_text(what);
    if (name == NULL) {
        return NULL;
    }
    char *text = NULL;
    int status;
    Py_BEGIN_ALLOW_THREADS status = ray_state_json(name, &text);
    Py_END_ALLOW_THREADS if (status != RAY_OK)
    {
        return raise_status(status);
    }
    /* Names in it may be cut within a character. */
    PyObject *json = PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
    ray_free(text);
    return json;
}

PyObject *
native_kill_actor(PyObject *module, PyObject *args)
{
    struct state *st = state_of_module(module);
    PyObject *handle;
    int no_restart;
    if (!PyArg_ParseTuple(args, "Op:kill_actor", &handle, &no_restart)) {
        return NULL;
    }
    if (!is_actor_handle(st, handle)) {
        PyErr_SetString(PyExc_TypeError, "kill_actor needs a handle");
        return NULL;
    }
    if (handle_check_session((ActorHandle *)handle)) {
        return NULL;
    }
    ray_actor *actor = ray_actor_retain(((ActorHandle *)handle)->actor);
    int status;
    Py_BEGIN_ALLOW_THREADS status = ray_actor_kill(actor, no_restart != 0);
    ray_actor_release(actor);
    Py_END_ALLOW_THREADS if (status != RAY_OK)
    {
        return raise_status(status);
    }
    Py_RETURN_NONE;
}

PyObject *
native_cancel(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *ref;
    int force, recursive;
    if (!PyArg_ParseTuple(args, "Opp:cancel", &ref, &force, &recursive)) {
        return NULL;
    }
    ray_ref *inside = object_ref_get(ref);
    if (inside == NULL) {
        return NULL;
    }
    int status;
    Py_BEGIN_ALLOW_THREADS status = ray_cancel(inside, force != 0, recursive != 0);
    Py_END_ALLOW_THREADS if (status != RAY_OK)
    {
        return raise_status(status);
    }
    Py_RETURN_NONE;
}
