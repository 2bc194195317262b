/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Functions and options as libray knows them: pickling and naming definitions, and turning a dict
 * of checked options into ray_options. Each happens once a function and session.
 */
#include "_raymodule.h"

#include <string.h>

/* ---- the two types --------------------------------------------------------------------------- */

static void
function_dealloc(PyObject *o)
{
    PyTypeObject *type = Py_TYPE(o);
    ray_function_release(((Function *)o)->function);
    type->tp_free(o);
    Py_DECREF(type);
}

static PyType_Slot function_slots[] = {
    { Py_tp_dealloc, (void *)function_dealloc },
    { 0, NULL },
};

PyType_Spec function_spec = {
    .name = "ray._native.Function",
    .basicsize = sizeof(Function),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = function_slots,
};

static void
options_dealloc(PyObject *o)
{
    PyTypeObject *type = Py_TYPE(o);
    ray_options_release(((Options *)o)->options);
    type->tp_free(o);
    Py_DECREF(type);
}

static PyType_Slot options_slots[] = {
    { Py_tp_dealloc, (void *)options_dealloc },
    { 0, NULL },
};

PyType_Spec options_spec = {
    .name = "ray._native.Options",
    .basicsize = sizeof(Options),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = options_slots,
};

/* new. A Function, from a description that is only read now. */
static PyObject *
function_create(struct state *st, const struct ray_function_desc *desc)
{
    PyTypeObject *type = (PyTypeObject *)st->function_type;
    Function *self = (Function *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    const int status = ray_function_create(desc, &self->function);
    if (status != RAY_OK) {
        Py_DECREF(self);
        return raise_status(status);
    }
    return (PyObject *)self;
}

/* ---- names of definitions -------------------------------------------------------------------- */

static int
hash_update(PyObject *hash, const void *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    PyObject *view = PyMemoryView_FromMemory((char *)(uintptr_t)data, (Py_ssize_t)size, PyBUF_READ);
    PyObject *done = view == NULL ? NULL : PyObject_CallMethod(hash, "update", "O", view);
    Py_XDECREF(view);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* new. An empty SHA-1. The small module is there long before hashlib and OpenSSL are loaded. */
static PyObject *
hash_new(void)
{
    PyObject *make = import_name("_sha1", "sha1");
    if (make == NULL) {
        PyErr_Clear();
        make = import_name("hashlib", "sha1");
    }
    PyObject *hash = make == NULL ? NULL : PyObject_CallNoArgs(make);
    Py_XDECREF(make);
    return hash;
}

static int
hash_finish(PyObject *hash, uint8_t out[20])
{
    PyObject *digest = PyObject_CallMethod(hash, "digest", NULL);
    const bool fits = digest != NULL && PyBytes_Check(digest) && PyBytes_GET_SIZE(digest) == 20;
    if (fits) {
        memcpy(out, PyBytes_AS_STRING(digest), 20);
    }
    Py_XDECREF(digest);
    return fits ? 0 : -1;
}

/* Equal bytes with other references captured are another definition. */
static int
hash_definition(const struct ray_payload *payload, const char *name, uint8_t out[20])
{
    PyObject *hash = hash_new();
    int failed = hash == NULL || hash_update(hash, name, strlen(name) + 1);
    for (size_t i = 0; !failed && i < payload->buf_count; i++) {
        failed = hash_update(hash, payload->bufs[i].data, payload->bufs[i].size);
    }
    for (size_t i = 0; !failed && i < payload->ref_count; i++) {
        failed = hash_update(hash, ray_ref_id(payload->refs[i]), RAY_OBJECT_ID_SIZE);
    }
    failed = failed || hash_finish(hash, out);
    Py_XDECREF(hash);
    return failed ? -1 : 0;
}

PyObject *
native_export_definition(PyObject *module, PyObject *args)
{
    struct state *st = state_of_module(module);
    PyObject *target, *known;
    const char *name;
    int is_class;
    if (!PyArg_ParseTuple(args, "OspO:export_definition", &target, &name, &is_class, &known)) {
        return NULL;
    }
    struct ser s;
    ser_init(&s, st);
    s.format = FORMAT_PICKLE;
    struct ray_function_desc desc = {
        .struct_size = sizeof(desc),
        .kind = is_class ? RAY_CLASS : RAY_FUNCTION,
        .name = name,
    };
    PyObject *result = NULL;
    int failed = pickle_value(&s, target) || ser_payload(&s, &desc.definition);
    if (!failed && PyBytes_Check(known) && PyBytes_GET_SIZE(known) == 20) {
        memcpy(desc.hash, PyBytes_AS_STRING(known), 20);
    } else if (!failed) {
        failed = hash_definition(&desc.definition, name, desc.hash);
    }
    PyObject *function = failed ? NULL : function_create(st, &desc);
    if (function != NULL) {
        result =
            Py_BuildValue("Ny#n", function, desc.hash, (Py_ssize_t)20, (Py_ssize_t)ser_total(&s));
    }
    ser_fini(&s);
    return result;
}

PyObject *
native_export_method(PyObject *module, PyObject *args)
{
    const char *name, *method;
    if (!PyArg_ParseTuple(args, "ss:export_method", &name, &method)) {
        return NULL;
    }
    struct ray_function_desc desc = {
        .struct_size = sizeof(desc),
        .kind = RAY_METHOD,
        .name = name,
        .method = method,
    };
    const struct ray_buf buf = { method, strlen(method) };
    const struct ray_payload identity = { .bufs = &buf, .buf_count = 1 };
    if (hash_definition(&identity, name, desc.hash)) {
        return NULL;
    }
    return function_create(state_of_module(module), &desc);
}

/* ---- options --------------------------------------------------------------------------------- */

/* A list of resources made of a dict. 0 or -1; *out is the caller's to free with PyMem_Free. */
static int
resources_of(PyObject *dict, struct ray_resource **out, size_t *count)
{
    *out = NULL;
    *count = 0;
    if (dict == NULL || dict == Py_None) {
        return 0;
    }
    if (!PyDict_Check(dict)) {
        PyErr_SetString(PyExc_TypeError, "resources must be a dict");
        return -1;
    }
    struct ray_resource *list =
        PyMem_Calloc((size_t)PyDict_GET_SIZE(dict) + 1, sizeof(struct ray_resource));
    if (list == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    *out = list;
    Py_ssize_t at = 0;
    PyObject *name, *amount;
    while (PyDict_Next(dict, &at, &name, &amount)) {
        list[*count].name = c_text(name);
        list[*count].amount = PyFloat_AsDouble(amount);
        if (list[*count].name == NULL || PyErr_Occurred()) {
            return -1;
        }
        (*count)++;
    }
    return 0;
}

static long long
int_option(PyObject *settings, const char *name, long long otherwise)
{
    PyObject *value = PyDict_GetItemString(settings, name); /* borrowed */
    return value == NULL || value == Py_None ? otherwise : PyLong_AsLongLong(value);
}

static const char *
text_option(PyObject *settings, const char *name)
{
    PyObject *value = PyDict_GetItemString(settings, name); /* borrowed */
    return value == NULL || value == Py_None ? NULL : c_text(value);
}

/* A list of groups made of a dict: as resources_of. */
static int
groups_of(PyObject *dict, struct ray_concurrency_group **out, size_t *count)
{
    *out = NULL;
    *count = 0;
    if (dict == NULL || !PyDict_Check(dict)) {
        return 0;
    }
    struct ray_concurrency_group *list =
        PyMem_Calloc((size_t)PyDict_GET_SIZE(dict) + 1, sizeof(*list));
    if (list == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    *out = list;
    Py_ssize_t at = 0;
    PyObject *name, *limit;
    while (PyDict_Next(dict, &at, &name, &limit)) {
        list[*count].name = c_text(name);
        list[*count].max_concurrency = (int32_t)PyLong_AsLong(limit);
        if (list[*count].name == NULL || PyErr_Occurred()) {
            return -1;
        }
        (*count)++;
    }
    return 0;
}

static int
fill_options(PyObject *settings, struct ray_task_options *options)
{
    options->num_returns = (int32_t)int_option(settings, "num_returns", 1);
    options->max_retries = (int32_t)int_option(settings, "max_retries", 0);
    options->max_calls = (int32_t)int_option(settings, "max_calls", 0);
    options->max_restarts = (int32_t)int_option(settings, "max_restarts", 0);
    options->max_task_retries = (int32_t)int_option(settings, "max_task_retries", 0);
    options->max_pending_calls = int_option(settings, "max_pending_calls", -1);
    options->max_concurrency = (int32_t)int_option(settings, "max_concurrency", 0);
    options->call_order = (enum ray_call_order)int_option(settings, "call_order", 0);
    options->generator = (enum ray_generator_kind)int_option(settings, "generator", 0);
    options->generator_backpressure = (uint32_t)int_option(settings, "generator_backpressure", 0);
    options->name = text_option(settings, "name");
    options->concurrency_group = text_option(settings, "concurrency_group");
    options->in_event_loop = PyDict_GetItemString(settings, "in_event_loop") == Py_True;
    options->actor_name = text_option(settings, "actor_name");
    options->actor_namespace = text_option(settings, "actor_namespace");
    options->lifetime = (enum ray_lifetime)int_option(settings, "lifetime", RAY_LIFETIME_OF_JOB);
    options->get_if_exists = PyDict_GetItemString(settings, "get_if_exists") == Py_True;
    PyObject *info = PyDict_GetItemString(settings, "face_info"); /* borrowed */
    if (info != NULL && PyBytes_Check(info)) {
        options->face_info = PyBytes_AS_STRING(info);
        options->face_info_size = (size_t)PyBytes_GET_SIZE(info);
    }
    PyObject *retry = PyDict_GetItemString(settings, "retry_exceptions"); /* borrowed */
    options->retry_exceptions = retry == Py_True;
    PyObject *metadata = PyDict_GetItemString(settings, "metadata"); /* borrowed */
    if (metadata != NULL && PyBytes_Check(metadata)) {
        options->metadata = PyBytes_AS_STRING(metadata);
        options->metadata_size = (size_t)PyBytes_GET_SIZE(metadata);
    }
    return PyErr_Occurred() ? -1 : 0;
}

PyObject *
native_make_options(PyObject *module, PyObject *settings)
{
    struct state *st = state_of_module(module);
    if (!PyDict_Check(settings)) {
        PyErr_SetString(PyExc_TypeError, "make_options needs a dict");
        return NULL;
    }
    struct ray_task_options options;
    options.struct_size = sizeof(options);
    ray_task_options_default(&options);
    struct ray_resource *held = NULL;
    struct ray_resource *placement = NULL;
    struct ray_concurrency_group *groups = NULL;
    PyTypeObject *type = (PyTypeObject *)st->options_type;
    Options *self = NULL;
    if (fill_options(settings, &options) == 0 &&
        resources_of(PyDict_GetItemString(settings, "resources"), &held, &options.resource_count) ==
            0 &&
        resources_of(PyDict_GetItemString(settings, "placement_resources"), &placement,
                     &options.placement_resource_count) == 0 &&
        groups_of(PyDict_GetItemString(settings, "concurrency_groups"), &groups,
                  &options.group_count) == 0) {
        options.groups = groups;
        options.resources = held;
        options.placement_resources = placement;
        self = (Options *)type->tp_alloc(type, 0);
    }
    if (self != NULL) {
        const int status = ray_options_create(&options, &self->options);
        if (status != RAY_OK) {
            Py_CLEAR(self);
            raise_status(status);
        }
    }
    PyMem_Free(held);
    PyMem_Free(placement);
    PyMem_Free(groups);
    return (PyObject *)self;
}
