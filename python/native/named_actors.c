/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handles that were found by a name or travelled as an id. They are weak: they don't keep their
 * actor alive. What is known of the class comes from ray-gcs, where its creator left it, pickled.
 */
#include "_raymodule.h"

/* new. The class of handles. */
static PyObject *
handle_class(void)
{
    return import_name("ray.actor", "ActorHandle");
}

PyObject *
found_handle_new(struct state *st, ray_actor *actor, PyObject *meta)
{
    size_t size = 0;
    const void *info = ray_actor_face_info(actor, &size);
    PyObject *own = NULL; /* strong; what came with the actor wins over what the caller thinks */
    if (info != NULL) {
        PyObject *bytes = PyBytes_FromStringAndSize(info, (Py_ssize_t)size);
        own = bytes == NULL ? NULL : call_python("ray.actor", "_load_info", &bytes, 1);
        Py_XDECREF(bytes);
    } else {
        own = meta == NULL ? call_python("ray.actor", "_no_info", NULL, 0) : new_ref(meta);
    }
    PyObject *class = own == NULL ? NULL : handle_class();
    if (class == NULL) {
        Py_XDECREF(own);
        ray_actor_release(actor);
        return NULL;
    }
    PyObject *handle = actor_handle_new(st, class, actor, own);
    Py_DECREF(class);
    Py_DECREF(own);
    return handle;
}

PyObject *
native_find_actor(PyObject *module, PyObject *args)
{
    const char *name, *space;
    if (!PyArg_ParseTuple(args, "sz:find_actor", &name, &space)) {
        return NULL;
    }
    ray_actor *actor = NULL;
    int status;
    Py_BEGIN_ALLOW_THREADS status = ray_actor_find(name, space, &actor);
    Py_END_ALLOW_THREADS return status != RAY_OK
        ? raise_status(status)
        : found_handle_new(state_of_module(module), actor, NULL);
}

PyObject *
native_actor_from_id(PyObject *module, PyObject *args)
{
    struct state *st = state_of_module(module);
    const char *id;
    Py_ssize_t size;
    PyObject *meta;
    if (!PyArg_ParseTuple(args, "y#O:actor_from_id", &id, &size, &meta)) {
        return NULL;
    }
    if (size != RAY_ACTOR_ID_SIZE) {
        PyErr_Format(PyExc_ValueError, "an actor's id has %d bytes, not %zd", RAY_ACTOR_ID_SIZE,
                     size);
        return NULL;
    }
    ray_actor *actor = NULL;
    const int status = ray_actor_from_id((const uint8_t *)id, &actor);
    if (status != RAY_OK) {
        return raise_status(status);
    }
    PyObject *class = handle_class();
    if (class == NULL) {
        ray_actor_release(actor);
        return NULL;
    }
    PyObject *handle = actor_handle_new(st, class, actor, meta);
    Py_DECREF(class);
    return handle;
}

PyObject *
native_list_actor_names(PyObject *module, PyObject *space)
{
    (void)module;
    const char *text = space == Py_None ? NULL : c_text(space);
    if (text == NULL && PyErr_Occurred()) {
        return NULL;
    }
    struct ray_actor_name *names = NULL;
    size_t count = 0;
    int status;
    Py_BEGIN_ALLOW_THREADS status = ray_actor_list_names(text, &names, &count);
    Py_END_ALLOW_THREADS if (status != RAY_OK)
    {
        return raise_status(status);
    }
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < count; i++) {
        PyObject *pair = Py_BuildValue("(ss)", names[i].name, names[i].actor_namespace);
        if (pair == NULL || PyList_Append(list, pair)) {
            Py_CLEAR(list);
        }
        Py_XDECREF(pair);
    }
    ray_free(names);
    return list;
}
