/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker: runs tasks that libray brings, on the main thread, with the interpreter lock held
 * from one task to the next; it is given up only while libray waits for work.
 *
 * A task: find the function (a definition is unpickled once), read the arguments, call, write what
 * it returned. Anything that raises on the way fails the task with a pickled RayTaskError, built in
 * ray._private.executor. A process becomes an actor when it runs the creation of one.
 */
#include "_raymodule.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The task that this thread works on. */
static _Thread_local ray_task *current_task;
/* The thread's state of the interpreter while libray waits on it. */
static _Thread_local PyThreadState *saved_thread;

/* The interrupt: see "cancelling" below. */
enum { INTERRUPT_SIGNAL = SIGURG };
static pthread_t main_thread;
/* Code of the user's runs on the main thread, for a task of a lease: it may be interrupted. */
static bool interruptible;

/* ---- definitions ----------------------------------------------------------------------------- */

static struct definition_slot *
recent_slot(struct state *st, const uint8_t *hash)
{
    return &st->recent[hash[0] % DEFINITION_CACHE];
}

/* new. Unpickles a function or class. */
static PyObject *
load_definition(struct state *st, ray_task *task, const uint8_t *hash)
{
    ray_value *value = ray_task_definition(task);
    if (value == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the task came without the definition of its function");
        return NULL;
    }
    if (ray_value_status(value) != RAY_OK) {
        return raise_failure(value);
    }
    PyObject *args[2] = {
        value_buffer_new(st, value, ray_value_data(value), ray_value_size(value)),
        PyBytes_FromStringAndSize((const char *)hash, 20),
    };
    PyObject *target = NULL;
    if (args[0] != NULL && args[1] != NULL) {
        target = call_python("ray._private.definitions", "load", args, 2);
    }
    if (target != NULL && PyDict_SetItem(st->definitions, args[1], target)) {
        Py_CLEAR(target);
    }
    Py_XDECREF(args[0]);
    Py_XDECREF(args[1]);
    return target;
}

/* new. The function or class of a task. */
static PyObject *
find_definition(struct state *st, ray_task *task)
{
    const uint8_t *hash = ray_task_function_hash(task);
    struct definition_slot *slot = recent_slot(st, hash);
    if (slot->target != NULL && memcmp(slot->hash, hash, 20) == 0) {
        return new_ref(slot->target);
    }
    PyObject *key = PyBytes_FromStringAndSize((const char *)hash, 20);
    PyObject *target = key == NULL ? NULL : PyDict_GetItemWithError(st->definitions, key);
    Py_XINCREF(target);
    Py_XDECREF(key);
    if (target == NULL) {
        target = PyErr_Occurred() ? NULL : load_definition(st, task, hash);
    }
    if (target != NULL) {
        memcpy(slot->hash, hash, 20);
        slot->target = target; /* the dict owns it, and never lets go */
    }
    return target;
}

/* borrowed. The name of the task's method. */
static PyObject *
method_name(struct state *st, ray_task *task)
{
    const uint8_t *hash = ray_task_function_hash(task);
    struct definition_slot *slot = recent_slot(st, hash);
    if (slot->target != NULL && memcmp(slot->hash, hash, 20) == 0) {
        return slot->target;
    }
    PyObject *key = PyBytes_FromStringAndSize((const char *)hash, 20);
    PyObject *name = key == NULL ? NULL : PyDict_GetItemWithError(st->method_names, key);
    if (key != NULL && name == NULL && !PyErr_Occurred()) {
        name = PyUnicode_InternFromString(ray_task_method(task));
        if (name != NULL) {
            const int failed = PyDict_SetItem(st->method_names, key, name);
            Py_DECREF(name); /* the dict has it */
            name = failed ? NULL : name;
        }
    }
    Py_XDECREF(key);
    if (name != NULL) {
        memcpy(slot->hash, hash, 20);
        slot->target = name;
    }
    return name;
}

/* ---- cancelling ------------------------------------------------------------------------------ */

/*
 * A task is interrupted as Ctrl-C interrupts a program: a signal to the main thread, whose handler
 * for Python raises KeyboardInterrupt. The signal says only "look": whom the interrupt is for
 * stands in the task's record, and the handler reads that of the task that runs now, on the thread
 * that begins and ends tasks. So a signal that comes late, or whose handler Python runs late, finds
 * nothing to do. (docs/protocols/cancellation.md)
 */

/* libray's, on any of its threads. */
static void
interrupt(void *ctx)
{
    (void)ctx;
    (void)pthread_kill(main_thread, INTERRUPT_SIGNAL);
}

/* 0; or -1 with KeyboardInterrupt set, when the task was cancelled before it came here. */
int
executor_interrupts_begin(ray_task *task)
{
    if (ray_task_get_kind(task) != RAY_TASK_NORMAL) {
        return 0; /* calls of actors are not interrupted */
    }
    if (ray_task_take_interrupt(task)) {
        PyErr_SetNone(PyExc_KeyboardInterrupt);
        return -1;
    }
    interruptible = true;
    return 0;
}

void
executor_interrupts_end(void)
{
    interruptible = false;
}

/* Python's handler of the signal, on the main thread. */
PyObject *
native_on_interrupt(PyObject *module, PyObject *args)
{
    (void)module;
    (void)args;
    if (interruptible && current_task != NULL && ray_task_take_interrupt(current_task)) {
        PyErr_SetNone(PyExc_KeyboardInterrupt);
        return NULL;
    }
    Py_RETURN_NONE;
}

static int
catch_interrupts(PyObject *module)
{
    main_thread = pthread_self();
    PyObject *handler = PyObject_GetAttrString(module, "on_interrupt");
    PyObject *function = handler == NULL ? NULL : import_name("signal", "signal");
    PyObject *before = function == NULL
                           ? NULL
                           : PyObject_CallFunction(function, "iO", (int)INTERRUPT_SIGNAL, handler);
    Py_XDECREF(handler);
    Py_XDECREF(function);
    Py_XDECREF(before);
    return before == NULL ? -1 : 0;
}

PyObject *
native_is_cancelled(PyObject *module, PyObject *unused)
{
    (void)unused;
    const ray_task *task = current_task;
    return task != NULL ? PyBool_FromLong(ray_task_is_cancelled(task))
                        : call_coroutine_is_cancelled(state_of_module(module));
}

/* ---- calling --------------------------------------------------------------------------------- */

static PyObject *
call_plain(PyObject *callable, struct call_args *args)
{
    return PyObject_Vectorcall(callable, args->items + 1,
                               (size_t)args->positional | PY_VECTORCALL_ARGUMENTS_OFFSET,
                               args->kwnames);
}

static bool
is_implicit(const char *name)
{
    return strcmp(name, "__ray_ready__") == 0 || strcmp(name, "__ray_terminate__") == 0 ||
           strcmp(name, "__ray_call__") == 0;
}

/* Positional arguments as a tuple, the others as a dict; 0 or -1. */
static int
call_args_split(const struct call_args *args, PyObject **positional, PyObject **keywords)
{
    *positional = PyTuple_New(args->positional);
    *keywords = PyDict_New();
    if (*positional == NULL || *keywords == NULL) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < args->positional; i++) {
        PyTuple_SET_ITEM(*positional, i, new_ref(args->items[1 + i]));
    }
    int failed = 0;
    const Py_ssize_t nkw = args->kwnames == NULL ? 0 : PyTuple_GET_SIZE(args->kwnames);
    for (Py_ssize_t i = 0; !failed && i < nkw; i++) {
        failed = PyDict_SetItem(*keywords, PyTuple_GET_ITEM(args->kwnames, i),
                                args->items[1 + args->positional + i]);
    }
    return failed;
}

static PyObject *
call_implicit(struct state *st, const char *name, struct call_args *args)
{
    PyObject *positional = NULL, *keywords = NULL;
    PyObject *text = PyUnicode_FromString(name);
    PyObject *result = NULL;
    if (text != NULL && call_args_split(args, &positional, &keywords) == 0) {
        PyObject *all[4] = { st->actor_instance, text, positional, keywords };
        result = call_python("ray._private.executor", "call_implicit", all, 4);
    }
    Py_XDECREF(positional);
    Py_XDECREF(keywords);
    Py_XDECREF(text);
    return result;
}

static PyObject *
call_method(struct state *st, ray_task *task, struct call_args *args)
{
    if (st->actor_instance == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the actor's constructor has not run");
        return NULL;
    }
    const char *name = ray_task_method(task);
    if (name[0] == '_' && is_implicit(name)) {
        return call_implicit(st, name, args);
    }
    PyObject *attribute = method_name(st, task);
    if (attribute == NULL) {
        return NULL;
    }
    args->items[0] = st->actor_instance;
    return PyObject_VectorcallMethod(attribute, args->items, (size_t)args->positional + 1,
                                     args->kwnames);
}

/* new. Constructs within the running event loop that the actor's calls will have. */
static PyObject *
construct_in_loop(struct state *st, PyObject *class, struct call_args *args)
{
    PyObject *positional = NULL, *keywords = NULL, *done = NULL, *instance = NULL;
    if (call_args_split(args, &positional, &keywords) == 0) {
        PyObject *all[3] = { class, positional, keywords };
        done = call_python("ray._private.event_loop", "construct", all, 3);
    }
    if (done != NULL && PyTuple_GET_ITEM(done, 0) == Py_True) {
        instance = new_ref(PyTuple_GET_ITEM(done, 1));
        st->in_event_loop = true;
    } else if (done != NULL) { /* what the constructor raised, with its own traceback */
        PyObject *exception = PyTuple_GET_ITEM(done, 1);
        PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
    }
    Py_XDECREF(done);
    Py_XDECREF(positional);
    Py_XDECREF(keywords);
    return instance;
}

/* new. None; the instance stays in the state. */
static PyObject *
create_actor(struct state *st, ray_task *task, struct call_args *args)
{
    PyObject *class = find_definition(st, task);
    PyObject *instance = NULL;
    if (class != NULL) {
        instance = ray_task_in_event_loop(task) ? construct_in_loop(st, class, args)
                                                : call_plain(class, args);
    }
    Py_XDECREF(class);
    PyObject *done = NULL;
    if (instance != NULL) {
        Py_XSETREF(st->actor_instance, instance);
        done = call_python("ray._private.executor", "set_actor", &instance, 1);
        snprintf(st->idle_title, sizeof(st->idle_title), "%s", ray_task_function_name(task));
    }
    return done;
}

static PyObject *
call_function(struct state *st, ray_task *task, struct call_args *args)
{
    PyObject *function = find_definition(st, task);
    PyObject *result = NULL;
    if (function != NULL && executor_interrupts_begin(task) == 0) {
        result = call_plain(function, args);
        executor_interrupts_end();
    }
    Py_XDECREF(function);
    return result;
}

PyObject *
executor_run(struct state *st, ray_task *task, struct outcome *outcome)
{
    struct call_args args;
    PyObject *result = NULL;
    if (decode_call(st, task, &args, &outcome->from_argument) == 0) {
        switch (ray_task_get_kind(task)) {
        case RAY_TASK_ACTOR_CREATION:
            result = create_actor(st, task, &args);
            break;
        case RAY_TASK_ACTOR_METHOD:
            result = call_method(st, task, &args);
            break;
        case RAY_TASK_NORMAL:
        default:
            result = call_function(st, task, &args);
            break;
        }
    }
    call_args_fini(&args);
    return result;
}

/* ---- returning ------------------------------------------------------------------------------- */

void
executor_blame_return(ray_task *task, PyObject *value)
{
    PyObject *type, *exception, *traceback;
    PyErr_Fetch(&type, &exception, &traceback);
    PyErr_NormalizeException(&type, &exception, &traceback);
    PyObject *name = PyUnicode_FromString(ray_task_function_name(task));
    if (name != NULL) {
        PyObject *args[3] = { exception, name, value };
        PyObject *never =
            call_python("ray._private.serialization", "raise_unserializable_return", args, 3);
        Py_XDECREF(never);
        Py_DECREF(name);
    }
    Py_XDECREF(type);
    Py_XDECREF(exception);
    Py_XDECREF(traceback);
}

int
executor_return_one(struct state *st, ray_task *task, int32_t index, PyObject *value)
{
    struct ser s;
    struct ray_payload payload;
    int failed = -1;
    ser_init(&s, st);
    if (ser_value(&s, value)) {
        executor_blame_return(task, value);
    } else if (ser_payload(&s, &payload) == 0) {
        int status = RAY_OK;
        if (ser_total(&s) > RAY_INLINE_MAX) { /* may wait for memory */
            Py_BEGIN_ALLOW_THREADS status = ray_task_return(task, index, &payload);
            Py_END_ALLOW_THREADS
        } else {
            status = ray_task_return(task, index, &payload);
        }
        if (status == RAY_OK) {
            failed = 0;
        } else {
            raise_status(status);
        }
    }
    ser_fini(&s);
    return failed;
}

static int
return_none(ray_task *task, PyObject *result)
{
    if (result == Py_None) {
        return 0;
    }
    PyObject *name = PyUnicode_FromString(ray_task_function_name(task));
    PyObject *done =
        name == NULL ? NULL : call_python("ray._private.executor", "warn_ignored_return", &name, 1);
    Py_XDECREF(name);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

static int
return_many(struct state *st, ray_task *task, int32_t count, PyObject *result)
{
    PyObject *args[3] = {
        PyUnicode_FromString(ray_task_function_name(task)),
        PyLong_FromLong(count),
        result,
    };
    PyObject *values = NULL;
    if (args[0] != NULL && args[1] != NULL && executor_interrupts_begin(task) == 0) {
        values = call_python("ray._private.executor", "as_values", args, 3); /* runs generators */
        executor_interrupts_end();
    }
    Py_XDECREF(args[0]);
    Py_XDECREF(args[1]);
    PyObject *items = values == NULL ? NULL : PySequence_Tuple(values);
    Py_XDECREF(values);
    int failed = items == NULL ? -1 : 0;
    for (int32_t i = 0; !failed && i < count; i++) {
        failed = executor_return_one(st, task, i, PyTuple_GET_ITEM(items, i));
    }
    Py_XDECREF(items);
    return failed;
}

int
executor_give_back(struct state *st, ray_task *task, PyObject *result,
                   const struct outcome *outcome)
{
    const int32_t count = ray_task_num_returns(task);
    if (ray_task_generator(task) != RAY_GENERATOR_NONE) {
        return yield_all(st, task, result, outcome);
    }
    if (ray_task_get_kind(task) == RAY_TASK_ACTOR_CREATION) {
        return count > 0 ? executor_return_one(st, task, 0, Py_None) : 0;
    }
    if (count == 1) {
        return executor_return_one(st, task, 0, result);
    }
    if (count > 0 && PyGen_CheckExact(result)) {
        return yield_returns(st, task, result, outcome);
    }
    return count == 0 ? return_none(task, result) : return_many(st, task, count, result);
}

/* ---- failing --------------------------------------------------------------------------------- */

/* The task asked to leave: sys.exit, exit_actor. */
static void
fail_by_exit(struct state *st, ray_task *task, PyObject *exception)
{
    const bool in_actor = ray_task_get_kind(task) != RAY_TASK_NORMAL;
    PyObject *code = call_python("ray._private.executor", "exit_code", &exception, 1);
    st->exit_code = code == NULL ? 1 : (int)PyLong_AsLong(code);
    Py_XDECREF(code);
    PyErr_Clear();
    char text[256];
    if (strcmp(Py_TYPE(exception)->tp_name, "_ActorExit") == 0) {
        snprintf(text, sizeof(text), "The actor exited by its own will: exit_actor() is called.");
    } else {
        snprintf(text, sizeof(text),
                 "The %s's process called sys.exit() and left with exit code %d.",
                 in_actor ? "actor" : "task", st->exit_code);
    }
    (void)ray_worker_exit_soon();
    (void)ray_task_fail(task, in_actor ? RAY_E_ACTOR_DIED : RAY_E_WORKER_CRASHED, !in_actor, text,
                        NULL); /* a task is tried again, as after any end of its worker */
}

/* Whether the exception is how a cancelled task ends: its own interrupt, or a cancelled child's. A
 * KeyboardInterrupt is that whoever raised it, but in a constructor, which nobody cancels. */
static bool
is_cancellation(const ray_task *task, PyObject *exception)
{
    if (PyErr_GivenExceptionMatches(exception, PyExc_KeyboardInterrupt)) {
        return ray_task_get_kind(task) != RAY_TASK_ACTOR_CREATION;
    }
    if (!ray_task_is_cancelled(task)) {
        return false;
    }
    PyObject *error = import_name("ray.exceptions", "TaskCancelledError");
    const bool matches = error != NULL && PyErr_GivenExceptionMatches(exception, error);
    PyErr_Clear();
    Py_XDECREF(error);
    return matches;
}

/* new. (pickle, text, retry) of an exception, or NULL. */
static PyObject *
describe(struct state *st, ray_task *task, PyObject *exception, bool from_argument)
{
    struct ray_context c = { .struct_size = sizeof(c) };
    if (ray_context_get(&c) != RAY_OK) {
        memset(c.actor_id, 255, sizeof(c.actor_id));
        c.node_ip[0] = '\0';
    }
    size_t size = 0;
    const void *metadata = ray_task_metadata(task, &size);
    PyObject *args = Py_BuildValue(
        "(OsOy#y#Os)", exception, ray_task_function_name(task),
        st->actor_instance == NULL ? Py_None : st->actor_instance, c.actor_id,
        (Py_ssize_t)sizeof(c.actor_id), metadata == NULL ? "" : metadata,
        (Py_ssize_t)(metadata == NULL ? 0 : size), from_argument ? Py_True : Py_False, c.node_ip);
    PyObject *function =
        args == NULL ? NULL : import_name("ray._private.executor", "describe_failure");
    PyObject *described = function == NULL ? NULL : PyObject_CallObject(function, args);
    Py_XDECREF(function);
    Py_XDECREF(args);
    return described;
}

int
executor_tell_failure(struct state *st, ray_task *task, const struct outcome *outcome,
                      int (*give)(ray_task *task, void *ctx, const struct failure *failure),
                      void *ctx)
{
    PyObject *type, *exception, *traceback;
    PyErr_Fetch(&type, &exception, &traceback);
    PyErr_NormalizeException(&type, &exception, &traceback);
    if (traceback != NULL) {
        PyException_SetTraceback(exception, traceback);
    }
    int status;
    if (PyErr_GivenExceptionMatches(exception, PyExc_SystemExit)) {
        fail_by_exit(st, task, exception);
        status = RAY_OK;
    } else if (is_cancellation(task, exception)) {
        char text[256];
        snprintf(text, sizeof(text), "%.200s %s", ray_task_function_name(task),
                 ray_task_is_cancelled(task) ? "was interrupted" : "raised KeyboardInterrupt");
        status = ray_task_fail(task, RAY_E_TASK_CANCELLED, false, text, NULL);
    } else {
        PyObject *described = describe(st, task, exception, outcome->from_argument);
        const char *data = NULL;
        const char *text = "an exception that could not be described";
        Py_ssize_t size = 0;
        int retry = 0;
        if (described != NULL &&
            !PyArg_ParseTuple(described, "y#sp", &data, &size, &text, &retry)) {
            data = NULL;
        }
        const struct ray_buf buf = { data, (size_t)size };
        const struct ray_payload payload = { .bufs = &buf, .buf_count = 1, .format = FORMAT_ERROR };
        if (PyErr_Occurred()) {
            PyErr_WriteUnraisable(NULL);
        }
        const struct failure failure = { RAY_E_TASK_FAILED, retry != 0, text,
                                         data == NULL ? NULL : &payload };
        status = give(task, ctx, &failure);
        Py_XDECREF(described);
    }
    Py_XDECREF(type);
    Py_XDECREF(exception);
    Py_XDECREF(traceback);
    return status;
}

static int
give_as_end(ray_task *task, void *ctx, const struct failure *failure)
{
    (void)ctx;
    return ray_task_fail(task, failure->status, failure->retry, failure->text, failure->payload);
}

int
executor_fail(struct state *st, ray_task *task, const struct outcome *outcome)
{
    return executor_tell_failure(st, task, outcome, give_as_end, NULL);
}

/* ---- the environment ------------------------------------------------------------------------- */

/* libray sets variables for the task; os.environ is a copy, and must follow. */
static void
follow_variable(struct state *st, const char *name, char *seen, size_t size)
{
    const char *value = getenv(name);
    if (value == NULL || (seen[0] != '\0' && strncmp(value, seen, size - 1) == 0)) {
        return;
    }
    snprintf(seen, size, "%s", value);
    if (import_once(&st->environ, "os", "environ") == 0) {
        PyObject *text = PyUnicode_DecodeFSDefault(value);
        if (text != NULL) {
            (void)PyMapping_SetItemString(st->environ, name, text);
            Py_DECREF(text);
        }
    }
    PyErr_Clear();
}

/* ---- what libray calls ----------------------------------------------------------------------- */

ray_task *
executor_enter(ray_task *task)
{
    ray_task *outer = current_task;
    current_task = task;
    return outer;
}

static int
execute(void *ctx, ray_task *task)
{
    struct state *st = ctx;
    if (st->in_event_loop) {
        return call_coroutine_start(st, task);
    }
    ray_task *outer = executor_enter(task);
    struct outcome outcome = { .from_argument = false };
    if (st->follow_env) {
        st->follow_env = false;
        follow_variable(st, "CUDA_VISIBLE_DEVICES", st->seen_cuda, sizeof(st->seen_cuda));
        follow_variable(st, "OMP_NUM_THREADS", st->seen_omp, sizeof(st->seen_omp));
    }
    process_title_set(ray_task_name(task));
    int status = RAY_OK;
    PyObject *result = executor_run(st, task, &outcome);
    if (result == NULL || executor_give_back(st, task, result, &outcome)) {
        status = executor_fail(st, task, &outcome);
    }
    Py_XDECREF(result);
    current_task = outer;
    return status;
}

static void
before_wait(void *ctx)
{
    const struct state *st = ctx;
    process_title_set(st->idle_title);
    saved_thread = PyEval_SaveThread();
}

static void
after_wait(void *ctx)
{
    struct state *st = ctx;
    PyEval_RestoreThread(saved_thread);
    saved_thread = NULL;
    st->follow_env = true; /* a lease changes hands only while we wait */
}

/* A thread of libray's becomes one of the interpreter's, for good. */
static void
thread_begin(void *ctx)
{
    (void)ctx;
    (void)PyGILState_Ensure();
}

static void
serve(void *ctx, const char *group)
{
    (void)ctx;
    PyObject *name = PyUnicode_FromString(group);
    PyObject *done =
        name == NULL ? NULL : call_python("ray._private.event_loop", "serve", &name, 1);
    if (done == NULL) {
        PyErr_WriteUnraisable(name);
    }
    Py_XDECREF(name);
    Py_XDECREF(done);
}

PyObject *
native_worker_run(PyObject *module, PyObject *unused)
{
    (void)unused;
    struct state *st = state_of_module(module);
    if (catch_interrupts(module)) {
        return NULL;
    }
    st->is_worker = true;
    st->session = ++st->sessions_started;
    snprintf(st->idle_title, sizeof(st->idle_title), "IDLE");
    st->follow_env = true;
    const struct ray_worker_options options = {
        .struct_size = sizeof(options),
        .execute = execute,
        .ctx = st,
        .before_wait = before_wait,
        .after_wait = after_wait,
        .thread_begin = thread_begin,
        .serve = serve,
        .interrupt = interrupt,
    };
    int code = ray_worker_run(&options);
    if (st->exit_code != 0) {
        code = st->exit_code;
    }
    return PyLong_FromLong(code);
}

PyObject *
native_zygote_run(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    PyOS_BeforeFork();
    process_title_find();
    const int outcome = ray_zygote_run();
    if (outcome == 1) {
        PyOS_AfterFork_Child();
    } else {
        PyOS_AfterFork_Parent();
    }
    return PyLong_FromLong(outcome);
}

/* ---- what Python asks ------------------------------------------------------------------------ */

PyObject *
native_in_actor(PyObject *module, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(state_of_module(module)->actor_instance != NULL);
}

PyObject *
native_current_actor(PyObject *module, PyObject *args)
{
    struct state *st = state_of_module(module);
    PyObject *meta, *handle_class;
    if (!PyArg_ParseTuple(args, "OO:current_actor", &meta, &handle_class)) {
        return NULL;
    }
    ray_actor *actor = NULL;
    const int status = ray_actor_current(&actor);
    return status != RAY_OK ? raise_status(status)
                            : actor_handle_new(st, handle_class, actor, meta);
}

PyObject *
native_current_task(PyObject *module, PyObject *unused)
{
    (void)unused;
    struct state *st = state_of_module(module);
    const ray_task *task = current_task;
    if (task == NULL) {
        return call_coroutine_of_context(st);
    }
    PyObject *owner = st->actor_instance;
    PyObject *found = NULL;
    if (owner == NULL) {
        const uint8_t *hash = ray_task_function_hash(task);
        const struct definition_slot *slot = recent_slot(st, hash);
        owner = memcmp(slot->hash, hash, 20) == 0 ? slot->target : NULL;
    }
    if (owner != NULL) {
        found = PyObject_GetAttr(owner, st->str_module);
        if (found == NULL) {
            PyErr_Clear();
        }
    }
    PyObject *result =
        Py_BuildValue("{s:s,s:s,s:O}", "name", ray_task_name(task), "function",
                      ray_task_function_name(task), "module", found == NULL ? Py_None : found);
    Py_XDECREF(found);
    return result;
}
