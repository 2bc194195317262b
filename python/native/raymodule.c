/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The module `ray._native`: its functions, its state, and its birth and death.
 */
#include "_raymodule.h"

#include <string.h>

static struct PyModuleDef module_def;

struct state *
state_of_type(PyTypeObject *type)
{
    PyObject *mro = type->tp_mro;
    for (Py_ssize_t i = 0; mro != NULL && i < PyTuple_GET_SIZE(mro); i++) {
        PyTypeObject *base = (PyTypeObject *)PyTuple_GET_ITEM(mro, i);
        if (!PyType_HasFeature(base, Py_TPFLAGS_HEAPTYPE)) {
            continue;
        }
        PyObject *module = ((PyHeapTypeObject *)base)->ht_module;
        if (module != NULL && PyModule_GetDef(module) == &module_def) {
            return state_of_module(module);
        }
    }
    PyErr_Format(PyExc_SystemError, "%s does not belong to ray._native", type->tp_name);
    return NULL;
}

PyObject *
import_name(const char *module, const char *name)
{
    PyObject *imported = PyImport_ImportModule(module);
    if (imported == NULL) {
        return NULL;
    }
    PyObject *found = PyObject_GetAttrString(imported, name);
    Py_DECREF(imported);
    return found;
}

int
import_once(PyObject **slot, const char *module, const char *name)
{
    if (*slot == NULL) {
        *slot = import_name(module, name);
    }
    return *slot == NULL ? -1 : 0;
}

const char *
c_text(PyObject *o)
{
    Py_ssize_t size;
    const char *text = PyUnicode_AsUTF8AndSize(o, &size);
    if (text != NULL && strlen(text) != (size_t)size) {
        PyErr_Format(PyExc_ValueError, "%R has a null character in it", o);
        return NULL;
    }
    return text;
}

PyObject *
call_python(const char *module, const char *name, PyObject *const *args, size_t count)
{
    PyObject *function = import_name(module, name);
    if (function == NULL) {
        return NULL;
    }
    PyObject *result = PyObject_Vectorcall(function, args, count, NULL);
    Py_DECREF(function);
    return result;
}

#define FASTCALL(function) ((PyCFunction)(void (*)(void))(function))

PyDoc_STRVAR(get_doc,
             "get($module, /, object_refs, *, timeout=None)\n--\n\n"
             "Waits for objects and gives their values: one for a reference, a list for a list.\n\n"
             "Args:\n"
             "    object_refs: a reference or a list of references.\n"
             "    timeout: seconds to wait; None waits as long as it takes, 0 only looks.\n\n"
             "Raises GetTimeoutError when time is up, and what a task raised, as soon as it is "
             "known.");
PyDoc_STRVAR(put_doc,
             "put($module, /, value, *, _owner=None)\n--\n\n"
             "Stores a value and gives a reference to it.\n\n"
             "Args:\n"
             "    value: anything that can be serialised, but no reference.\n"
             "    _owner: an actor's handle; the object then lives and dies with that actor.");
PyDoc_STRVAR(wait_doc,
             "wait($module, /, ray_waitables, *, num_returns=1, timeout=None, fetch_local=True)\n"
             "--\n\n"
             "Waits until some of the references are ready; gives (ready, not_ready) lists.\n\n"
             "Args:\n"
             "    ray_waitables: a list of different references.\n"
             "    num_returns: how many to wait for, and at most how many to call ready.\n"
             "    timeout: seconds to wait; None waits as long as it takes.\n"
             "    fetch_local: ready means that the value is on this node.");

static PyMethodDef module_methods[] = {
    { "get", FASTCALL(native_get), METH_FASTCALL | METH_KEYWORDS, get_doc },
    { "put", FASTCALL(native_put), METH_FASTCALL | METH_KEYWORDS, put_doc },
    { "wait", FASTCALL(native_wait), METH_FASTCALL | METH_KEYWORDS, wait_doc },
    { "free", native_free, METH_O, "Drops an object's value now, for everybody." },
    { "lose", native_lose, METH_O, "The store loses an object's value; for tests." },
    { "decode", native_decode, METH_O, "The Python value of a value buffer." },
    { "try_serialize", native_try_serialize, METH_O, "Serialises a value; gives its size." },
    { "reduce_in_context", native_reduce_in_context, METH_O,
      "How a reference or handle is pickled inside a value; NotImplemented for anything else." },
    { "reduce_fast", native_reduce_fast, METH_O,
      "reducer_override of the C pickler: raises for what must be pickled by value." },
    { "_ref_at", native_ref_at, METH_O, "The reference of that number in the value being read." },
    { "_actor_at", native_actor_at, METH_VARARGS, "As _ref_at, for an actor's handle." },
    { "ref_from_parts", native_ref_from_parts, METH_VARARGS,
      "A reference from its id and its owner's address." },
    { "actor_from_ref", native_actor_from_ref, METH_VARARGS, "The handle behind a reference." },
    { "actor_from_id", native_actor_from_id, METH_VARARGS, "A weak handle to an actor." },
    { "find_actor", native_find_actor, METH_VARARGS, "A weak handle to the actor of a name." },
    { "list_actor_names", native_list_actor_names, METH_O,
      "(name, namespace) of named actors: of None the job's, of '' all." },
    { "set_serializer", native_set_serializer, METH_VARARGS,
      "Registers a class's serialiser and deserialiser, or removes them." },
    { "export_definition", native_export_definition, METH_VARARGS,
      "Pickles a function or class; gives (Function, hash, size)." },
    { "export_method", native_export_method, METH_VARARGS, "The Function for an actor's method." },
    { "make_options", native_make_options, METH_O, "The runtime's form of options." },
    { "find_runtime", native_find_runtime, METH_VARARGS,
      "The address of the runtime to join; empty to start one." },
    { "init", native_init, METH_O, "Starts a session." },
    { "shutdown", native_shutdown, METH_NOARGS, "Ends the session." },
    { "is_initialized", native_is_initialized, METH_NOARGS, "Whether a session is on." },
    { "session", native_session, METH_NOARGS, "The session's number, 0 when there is none." },
    { "context", native_context, METH_NOARGS, "Where the calling thread stands." },
    { "state_json", native_state_json, METH_O, "State of the cluster as JSON." },
    { "kill_actor", native_kill_actor, METH_VARARGS, "Ends an actor at once, for good or not." },
    { "cancel", native_cancel, METH_VARARGS, "Cancels the task that makes an object." },
    { "on_interrupt", native_on_interrupt, METH_VARARGS,
      "Handler of the signal that asks to look whether the running task was cancelled." },
    { "is_cancelled", native_is_cancelled, METH_NOARGS, "Whether the running task was cancelled." },
    { "current_actor", native_current_actor, METH_VARARGS, "A weak handle to this actor." },
    { "in_actor", native_in_actor, METH_NOARGS, "Whether this process is an actor." },
    { "current_task", native_current_task, METH_NOARGS, "The running task, or None." },
    { "take_logs", native_take_logs, METH_O,
      "Waits for lines of workers: a list of (name, pid, is_stderr, text), None at the end." },
    { "on_ready", native_on_ready, METH_VARARGS,
      "Queues a callback for when a reference is ready." },
    { "take_ready", native_take_ready, METH_NOARGS, "Waits for queued callbacks." },
    { "loop_begin", native_loop_begin, METH_O,
      "This thread runs a loop of the actor's, whose create_task is given." },
    { "loop_turn", native_loop_turn, METH_VARARGS,
      "A turn of the thread's event loop: 1 it is over, 2 the descriptor is readable." },
    { "ready_future", native_ready_future, METH_O,
      "A future of the running loop that is done when the reference is ready." },
    { "zygote_run", native_zygote_run, METH_NOARGS, "Serves fork requests; 1 in a worker." },
    { "worker_run", native_worker_run, METH_NOARGS, "Runs tasks; gives the exit code." },
    { NULL, NULL, 0, NULL },
};

struct type_entry {
    PyType_Spec *spec;
    size_t slot;      /* of the state */
    size_t base_slot; /* of the state, or SIZE_MAX */
    const char *name; /* in the module, or NULL */
};

#define SLOT(name) offsetof(struct state, name)

static const struct type_entry type_entries[] = {
    { &object_ref_spec, SLOT(object_ref_type), SIZE_MAX, "ObjectRef" },
    { &value_buffer_spec, SLOT(value_buffer_type), SIZE_MAX, "ValueBuffer" },
    { &sink_spec, SLOT(sink_type), SIZE_MAX, NULL },
    { &function_spec, SLOT(function_type), SIZE_MAX, "Function" },
    { &options_spec, SLOT(options_type), SIZE_MAX, "Options" },
    { &call_target_spec, SLOT(call_target_type), SIZE_MAX, NULL },
    { &remote_function_spec, SLOT(remote_function_type), SLOT(call_target_type),
      "RemoteFunctionBase" },
    { &actor_creator_spec, SLOT(actor_creator_type), SLOT(call_target_type), "ActorCreatorBase" },
    { &method_spec_spec, SLOT(method_spec_type), SLOT(call_target_type), "MethodSpecBase" },
    { &actor_handle_spec, SLOT(actor_handle_type), SIZE_MAX, "ActorHandleBase" },
    { &actor_method_spec, SLOT(actor_method_type), SIZE_MAX, "ActorMethodBase" },
    { &call_coroutine_spec, SLOT(call_coroutine_type), SIZE_MAX, NULL },
    { &inbox_spec, SLOT(inbox_type), SIZE_MAX, "Inbox" },
    { &stream_spec, SLOT(stream_type), SIZE_MAX, "StreamBase" },
};

static PyObject **
state_slot(struct state *st, size_t offset)
{
    return (PyObject **)(void *)((char *)st + offset);
}

static int
add_types(PyObject *module, struct state *st)
{
    for (size_t i = 0; i < sizeof(type_entries) / sizeof(type_entries[0]); i++) {
        const struct type_entry *entry = &type_entries[i];
        PyObject *bases = NULL;
        if (entry->base_slot != SIZE_MAX) {
            bases = PyTuple_Pack(1, *state_slot(st, entry->base_slot));
            if (bases == NULL) {
                return -1;
            }
        }
        PyObject *type = PyType_FromModuleAndSpec(module, entry->spec, bases);
        Py_XDECREF(bases);
        if (type == NULL) {
            return -1;
        }
        *state_slot(st, entry->slot) = type;
        if (entry->name != NULL && PyModule_AddType(module, (PyTypeObject *)type)) {
            return -1;
        }
    }
    Py_INCREF(st->object_ref_type);
    return PyModule_AddObject(module, "ObjectID", st->object_ref_type);
}

static int
add_strings(struct state *st)
{
    static const struct {
        size_t slot;
        const char *text;
    } strings[] = {
        { SLOT(str_export), "_export" },
        { SLOT(str_dump), "dump" },
        { SLOT(str_buffers), "buffers" },
        { SLOT(str_module), "__module__" },
        { SLOT(str_main), "__main__" },
        { SLOT(str_qualname), "__qualname__" },
        { SLOT(str_inbox), "_ray_inbox" },
        { SLOT(str_create_future), "create_future" },
        { SLOT(str_done), "done" },
        { SLOT(str_set_result), "set_result" },
        { SLOT(str_set_exception), "set_exception" },
    };
    for (size_t i = 0; i < sizeof(strings) / sizeof(strings[0]); i++) {
        PyObject *text = PyUnicode_InternFromString(strings[i].text);
        if (text == NULL) {
            return -1;
        }
        *state_slot(st, strings[i].slot) = text;
    }
    return 0;
}

static int
module_exec(PyObject *module)
{
    struct state *st = state_of_module(module);
    memset(st, 0, sizeof(*st));
    st->module = module;
    st->module_dict = new_ref(PyModule_GetDict(module));
    if (add_types(module, st) || add_strings(st)) {
        return -1;
    }
    st->empty_tuple = PyTuple_New(0);
    st->name_keyword = Py_BuildValue("(s)", "name");
    st->serializers = PyDict_New();
    st->definitions = PyDict_New();
    st->method_names = PyDict_New();
    st->load_ref = PyObject_GetAttrString(module, "_ref_at");
    st->load_actor = PyObject_GetAttrString(module, "_actor_at");
    st->load_weak = PyObject_GetAttrString(module, "actor_from_id");
    ray_on_unhandled(unhandled_failure, NULL);
    st->logs = log_queue_create();
    st->ready = ready_queue_create();
    if (st->empty_tuple == NULL || st->name_keyword == NULL || st->serializers == NULL ||
        st->definitions == NULL || st->method_names == NULL || st->load_ref == NULL ||
        st->load_actor == NULL || st->load_weak == NULL) {
        return -1;
    }
    if (st->logs == NULL || st->ready == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    struct state *st = state_of_module(module);
    if (st != NULL) {
#define STATE_VISIT(name) Py_VISIT(st->name);
        STATE_OBJECTS(STATE_VISIT)
#undef STATE_VISIT
    }
    return 0;
}

static int
module_clear(PyObject *module)
{
    struct state *st = state_of_module(module);
    if (st != NULL) {
        memset(st->recent, 0, sizeof(st->recent));
        object_ref_clear_free_list(st);
#define STATE_CLEAR(name) Py_CLEAR(st->name);
        STATE_OBJECTS(STATE_CLEAR)
#undef STATE_CLEAR
    }
    return 0;
}

static void
module_free(void *module)
{
    /* The queues stay: a thread of libray may still hold them, and the process is ending. */
    (void)module_clear((PyObject *)module);
}

static PyModuleDef_Slot module_slots[] = {
    { Py_mod_exec, (void *)module_exec },
    { 0, NULL },
};

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "ray._native",
    .m_doc = "The compiled part of ray: submitting, getting, running tasks. Over ray.h.",
    .m_size = sizeof(struct state),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__native(void);

PyMODINIT_FUNC
PyInit__native(void)
{
    return PyModuleDef_Init(&module_def);
}
