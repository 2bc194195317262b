/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ray.get, ray.put and ray.wait. What is ready is taken without giving up the interpreter; a wait
 * gives it up, and comes back for signals, so that Ctrl-C ends it at once.
 */
#include "_raymodule.h"

#include <math.h>
#include <string.h>
#include <time.h>

enum {
    INLINE_REFS = 64,
    ALONE_MIN = 64 * 1024, /* bytes from which copying lets other threads run */
};

int64_t
monotonic_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Starts Ray when nobody has. */
static int
ensure_session(struct state *st)
{
    if (st->session != 0) {
        return 0;
    }
    PyObject *session = call_python("ray._private.api", "ensure_session", NULL, 0);
    Py_XDECREF(session);
    return session == NULL ? -1 : 0;
}

/* A timeout in seconds as milliseconds, rounded up; -1 for none. */
static int
timeout_of(PyObject *o, bool negative_is_none, int64_t *out)
{
    *out = -1;
    if (o == NULL || o == Py_None) {
        return 0;
    }
    const double seconds = PyFloat_AsDouble(o);
    if (seconds == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    if (seconds < 0 || isnan(seconds)) {
        if (negative_is_none) {
            return 0;
        }
        PyErr_Format(PyExc_ValueError, "'timeout' argument must be nonnegative. Received %R.", o);
        return -1;
    }
    *out = seconds > 1e12 ? -1 : (int64_t)ceil(seconds * 1000);
    return 0;
}

/* The value of keyword `i` goes to the slot of its name; 0 or -1. */
static int
take_keyword(PyObject *name, PyObject *value, const char *const *names, PyObject **slots,
             size_t count, const char *function)
{
    for (size_t i = 0; i < count; i++) {
        if (PyUnicode_CompareWithASCIIString(name, names[i]) == 0) {
            if (slots[i] != NULL) {
                PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument '%U'",
                             function, name);
                return -1;
            }
            slots[i] = value;
            return 0;
        }
    }
    PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'", function, name);
    return -1;
}

/* One positional argument, and the rest by keyword. Slots are borrowed, NULL when not given. */
static int
parse(const char *function, fast_args args, Py_ssize_t nargs, PyObject *kwnames,
      const char *const *names, PyObject **slots, size_t count)
{
    memset(slots, 0, count * sizeof(*slots));
    if (nargs > 1) {
        PyErr_Format(PyExc_TypeError, "%s() takes 1 positional argument but %zd were given",
                     function, nargs);
        return -1;
    }
    if (nargs == 1) {
        slots[0] = args[0];
    }
    const Py_ssize_t nkw = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t i = 0; i < nkw; i++) {
        if (take_keyword(PyTuple_GET_ITEM(kwnames, i), args[nargs + i], names, slots, count,
                         function)) {
            return -1;
        }
    }
    if (slots[0] == NULL) {
        PyErr_Format(PyExc_TypeError, "%s() missing 1 required positional argument: '%s'", function,
                     names[0]);
        return -1;
    }
    return 0;
}

/* ---- get ------------------------------------------------------------------------------------- */

/* In a driver no wait is longer than SIGNALS_MS: a signal that comes when the interpreter has just
 * looked for one, and the wait hasn't begun, interrupts nothing. In a worker a wait lends its CPU,
 * and goes on.
 *
 * Waits until all are ready or one is an error. 1 an error is known at *error, 0 all ready, -1. */
static int
wait_for_all(const struct state *st, ray_ref *const *refs, size_t count, int64_t timeout_ms,
             size_t *error)
{
    const int64_t deadline = timeout_ms > 0 ? monotonic_ms() + timeout_ms : 0;
    *error = SIZE_MAX;
    for (;;) {
        const bool in_part = !st->is_worker && (timeout_ms < 0 || timeout_ms > SIGNALS_MS);
        int status;
        Py_BEGIN_ALLOW_THREADS status =
            ray_wait_all(refs, count, in_part ? SIGNALS_MS : timeout_ms, error);
        Py_END_ALLOW_THREADS if (status == RAY_OK)
        {
            return *error != SIZE_MAX;
        }
        if (status != RAY_E_INTERRUPTED && !(in_part && status == RAY_E_TIMED_OUT)) {
            raise_status(status);
            return -1;
        }
        if (PyErr_CheckSignals()) {
            return -1;
        }
        if (timeout_ms > 0) {
            const int64_t left = deadline - monotonic_ms();
            timeout_ms = left > 0 ? left : 0;
        }
    }
}

PyObject *
object_ready_value(struct state *st, ray_ref *ref)
{
    ray_value *value = NULL;
    const int status = ray_ref_value(ref, &value);
    if (status == RAY_E_WOULD_BLOCK || status == RAY_E_TIMED_OUT) {
        return NULL; /* it was lost, or another found that since it was ready: wait for it again */
    }
    if (status != RAY_OK) {
        return raise_status(status);
    }
    PyObject *result =
        ray_value_status(value) == RAY_OK ? decode_value(st, value) : raise_failure(value);
    ray_value_release(value);
    return result;
}

/* What is left of a timeout that began at `begin`, in the form of timeouts. */
static int64_t
time_left(int64_t timeout_ms, int64_t begin)
{
    const int64_t passed = monotonic_ms() - begin;
    return timeout_ms < 0 ? -1 : passed < timeout_ms ? timeout_ms - passed : 0;
}

static PyObject *
get_one(struct state *st, PyObject *o, int64_t timeout_ms)
{
    ray_ref *ref = object_ref_get(o);
    if (ref == NULL) {
        return NULL;
    }
    if (ray_ref_is_ready(ref)) {
        PyObject *result = object_ready_value(st, ref);
        if (result != NULL || PyErr_Occurred()) {
            return result;
        }
    }
    const int64_t begin = timeout_ms > 0 ? monotonic_ms() : 0;
    PyObject *result = NULL;
    int waited;
    Py_INCREF(o);
    do {
        size_t error;
        waited = wait_for_all(st, &ref, 1, time_left(timeout_ms, begin), &error);
        result = waited < 0 ? NULL : object_ready_value(st, ref);
    } while (result == NULL && waited >= 0 && !PyErr_Occurred()); /* lost: it is made again */
    Py_DECREF(o);
    return result;
}

/* Fills `refs`, one count each, with what is in the list; the list may change while we wait. */
static int
collect_refs(struct state *st, PyObject *list, ray_ref **refs, size_t *count, bool *all_ready)
{
    *all_ready = true;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        PyObject *item = PyList_GET_ITEM(list, i);
        if (!is_object_ref(st, item)) {
            PyErr_Format(PyExc_TypeError,
                         "Attempting to call `get` on the value %R, which is not an ray.ObjectRef.",
                         item);
            return -1;
        }
        ray_ref *ref = object_ref_get(item);
        if (ref == NULL) {
            return -1;
        }
        refs[(*count)++] = ray_ref_retain(ref);
        *all_ready = *all_ready && ray_ref_is_ready(ref);
    }
    return 0;
}

/* new. The list of values, or NULL: the first error in the list's order is raised, or, without one,
 * a value was lost and is to be waited for again. */
static PyObject *
get_values(struct state *st, ray_ref **refs, size_t count)
{
    PyObject *values = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; values != NULL && i < count; i++) {
        PyObject *value = object_ready_value(st, refs[i]);
        if (value == NULL) {
            Py_CLEAR(values);
        } else {
            PyList_SET_ITEM(values, (Py_ssize_t)i, value);
        }
    }
    return values;
}

static PyObject *
get_list(struct state *st, PyObject *list, int64_t timeout_ms)
{
    ray_ref *inline_refs[INLINE_REFS];
    ray_ref **refs = inline_refs;
    const size_t size = (size_t)PyList_GET_SIZE(list);
    if (size > INLINE_REFS) {
        refs = PyMem_Malloc(size * sizeof(ray_ref *));
        if (refs == NULL) {
            return PyErr_NoMemory();
        }
    }
    PyObject *values = NULL;
    size_t count = 0;
    bool all_ready = true;
    int waited = collect_refs(st, list, refs, &count, &all_ready);
    const int64_t begin = timeout_ms > 0 ? monotonic_ms() : 0;
    while (waited == 0) {
        size_t error = SIZE_MAX;
        if (!all_ready) {
            waited = wait_for_all(st, refs, count, time_left(timeout_ms, begin), &error);
        }
        if (waited == 0) {
            values = get_values(st, refs, count);
        } else if (waited > 0) {
            values = object_ready_value(st, refs[error]); /* raises */
            if (values != NULL) {
                Py_CLEAR(values);
                PyErr_SetString(PyExc_SystemError, "an error turned out to be a value");
            }
        }
        if (values != NULL || PyErr_Occurred()) {
            break;
        }
        all_ready = false; /* one was lost */
        waited = 0;
    }
    for (size_t i = 0; i < count; i++) {
        ray_ref_release(refs[i]);
    }
    if (refs != inline_refs) {
        PyMem_Free(refs);
    }
    return values;
}

/* The calling thread runs an actor's event loop, which stands still meanwhile; 0 or -1. */
static int
warn_blocking(const char *what)
{
    PyObject *name = PyUnicode_FromString(what);
    PyObject *done =
        name == NULL ? NULL : call_python("ray._private.event_loop", "warn_blocking", &name, 1);
    Py_XDECREF(name);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

PyObject *
native_get(PyObject *module, fast_args args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = { "object_refs", "timeout" };
    struct state *st = state_of_module(module);
    PyObject *slots[2];
    int64_t timeout_ms = -1;
    if (st->in_event_loop && call_coroutine_in_loop() && warn_blocking("get")) {
        return NULL;
    }
    if (parse("get", args, nargs, kwnames, names, slots, 2) ||
        timeout_of(slots[1], true, &timeout_ms) || ensure_session(st)) {
        return NULL;
    }
    if (is_object_ref(st, slots[0])) {
        return get_one(st, slots[0], timeout_ms);
    }
    if (PyList_Check(slots[0])) {
        return get_list(st, slots[0], timeout_ms);
    }
    if (is_stream(st, slots[0])) {
        return new_ref(slots[0]); /* its items are got one by one */
    }
    PyErr_Format(PyExc_ValueError,
                 "Invalid type of object refs, %R, is given. 'object_refs' must either be an "
                 "ObjectRef or a list of ObjectRefs. ",
                 (PyObject *)Py_TYPE(slots[0]));
    return NULL;
}

/* ---- put ------------------------------------------------------------------------------------- */

static PyObject *
store(struct state *st, const struct ser *s, const struct ray_payload *payload, ray_actor *owner)
{
    ray_ref *ref = NULL;
    int status = RAY_OK;
    if (owner != NULL || ser_total(s) >= ALONE_MIN) {
        Py_BEGIN_ALLOW_THREADS status = ray_put(payload, owner, &ref);
        Py_END_ALLOW_THREADS
    } else {
        status = ray_put(payload, NULL, &ref);
    }
    if (status == RAY_OK) {
        return object_ref_new(st, ref);
    }
    if (owner != NULL && (status == RAY_E_ACTOR_DIED || status == RAY_E_OWNER_DIED)) {
        PyErr_Format(PyExc_RuntimeError, "The owner of the object is dead: %s", ray_error_text());
        return NULL;
    }
    return raise_status(status);
}

static void
blame_value(PyObject *value)
{
    PyObject *type, *exception, *traceback;
    PyErr_Fetch(&type, &exception, &traceback);
    PyErr_NormalizeException(&type, &exception, &traceback);
    PyObject *args[2] = { exception, value };
    PyObject *never =
        call_python("ray._private.serialization", "raise_unserializable_value", args, 2);
    Py_XDECREF(never);
    Py_XDECREF(type);
    Py_XDECREF(exception);
    Py_XDECREF(traceback);
}

PyObject *
native_put(PyObject *module, fast_args args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = { "value", "_owner" };
    struct state *st = state_of_module(module);
    PyObject *slots[2];
    if (parse("put", args, nargs, kwnames, names, slots, 2)) {
        return NULL;
    }
    if (is_object_ref(st, slots[0])) {
        PyErr_SetString(
            PyExc_TypeError,
            "Calling 'put' on an ray.ObjectRef is not allowed. If you really want to do "
            "this, you can wrap the ray.ObjectRef in a list and call 'put' on it.");
        return NULL;
    }
    ray_actor *owner = NULL;
    if (slots[1] != NULL && slots[1] != Py_None) {
        if (!is_actor_handle(st, slots[1])) {
            PyErr_Format(PyExc_TypeError,
                         "The type of the argument _owner must be an actor's handle, got %R.",
                         (PyObject *)Py_TYPE(slots[1]));
            return NULL;
        }
        owner = ((ActorHandle *)slots[1])->actor;
    }
    if (ensure_session(st)) {
        return NULL;
    }
    struct ser s;
    struct ray_payload payload;
    PyObject *ref = NULL;
    ser_init(&s, st);
    if (ser_value(&s, slots[0])) {
        blame_value(slots[0]);
    } else if (ser_payload(&s, &payload) == 0) {
        ref = store(st, &s, &payload, owner);
    }
    ser_fini(&s);
    return ref;
}

/* ---- wait ------------------------------------------------------------------------------------ */

static int
check_waitables(struct state *st, PyObject *list)
{
    if (is_object_ref(st, list) || is_stream(st, list)) {
        PyErr_Format(PyExc_TypeError,
                     "wait() expected a list of ray.ObjectRef or ray.ObjectRefGenerator, got a "
                     "single ray.%s",
                     is_stream(st, list) ? "ObjectRefGenerator" : "ObjectRef");
        return -1;
    }
    if (!PyList_Check(list)) {
        PyErr_Format(PyExc_TypeError,
                     "wait() expected a list of ray.ObjectRef or ray.ObjectRefGenerator, got %R",
                     (PyObject *)Py_TYPE(list));
        return -1;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        PyObject *item = PyList_GET_ITEM(list, i);
        if (!is_object_ref(st, item) && !is_stream(st, item)) {
            PyErr_Format(PyExc_TypeError,
                         "wait() expected a list of ray.ObjectRef or ray.ObjectRefGenerator, got "
                         "list containing %R",
                         (PyObject *)Py_TYPE(item));
            return -1;
        }
    }
    return 0;
}

/* References of one object are the same handle: an open hash table, half empty, finds it twice. */
static int
check_unique(ray_ref *const *refs, size_t count)
{
    size_t slots = 4;
    while (slots < 2 * count) {
        slots *= 2;
    }
    ray_ref **table = PyMem_Calloc(slots, sizeof(*table));
    if (table == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    bool unique = true;
    for (size_t i = 0; i < count && unique; i++) {
        size_t at = ((uintptr_t)refs[i] >> 4) * UINT64_C(0x9e3779b97f4a7c15) >> 20 & (slots - 1);
        while (table[at] != NULL && table[at] != refs[i]) {
            at = (at + 1) & (slots - 1);
        }
        unique = table[at] == NULL;
        table[at] = refs[i];
    }
    PyMem_Free(table);
    if (!unique) {
        PyErr_SetString(PyExc_ValueError, "Wait requires a list of unique object refs.");
    }
    return unique ? 0 : -1;
}

static int
count_of(PyObject *o, Py_ssize_t size, size_t *out)
{
    const Py_ssize_t count = o == NULL ? 1 : PyNumber_AsSsize_t(o, PyExc_OverflowError);
    if (count == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (count <= 0) {
        PyErr_Format(PyExc_ValueError, "Invalid number of objects to return %zd.", count);
        return -1;
    }
    if (count > size) {
        PyErr_Format(PyExc_ValueError,
                     "num_returns cannot be greater than the number of ray_waitables provided to "
                     "ray.wait (%zd > %zd).",
                     count, size);
        return -1;
    }
    *out = (size_t)count;
    return 0;
}

static size_t
count_ready(const bool *ready, size_t count)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        n += ready[i];
    }
    return n;
}

static int
wait_for_some(const struct state *st, ray_ref *const *refs, size_t count, size_t num_returns,
              int64_t timeout_ms, bool fetch_local, bool *ready)
{
    const int64_t deadline = timeout_ms > 0 ? monotonic_ms() + timeout_ms : 0;
    for (;;) {
        const bool in_part = !st->is_worker && (timeout_ms < 0 || timeout_ms > SIGNALS_MS);
        const int64_t part_ms = in_part ? SIGNALS_MS : timeout_ms;
        int status;
        Py_BEGIN_ALLOW_THREADS;
        status = ray_wait(refs, count, num_returns, part_ms, fetch_local, ready);
        Py_END_ALLOW_THREADS;
        if (status == RAY_OK || status == RAY_E_TIMED_OUT) {
            if (!in_part || count_ready(ready, count) >= num_returns) {
                return 0;
            }
        } else if (status != RAY_E_INTERRUPTED) {
            raise_status(status);
            return -1;
        }
        if (PyErr_CheckSignals()) {
            return -1;
        }
        if (timeout_ms > 0) {
            const int64_t left = deadline - monotonic_ms();
            timeout_ms = left > 0 ? left : 0;
        }
    }
}

/* new. (ready, not_ready), both in the order of the tuple of references. */
static PyObject *
split(PyObject *items, const bool *ready)
{
    const Py_ssize_t count = PyTuple_GET_SIZE(items);
    Py_ssize_t ready_count = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        ready_count += ready[i];
    }
    PyObject *yes = PyList_New(ready_count);
    PyObject *no = PyList_New(count - ready_count);
    if (yes == NULL || no == NULL) {
        Py_XDECREF(yes);
        Py_XDECREF(no);
        return NULL;
    }
    for (Py_ssize_t i = 0, to_yes = 0, to_no = 0; i < count; i++) {
        PyObject *item = PyTuple_GET_ITEM(items, i);
        Py_INCREF(item);
        if (ready[i]) {
            PyList_SET_ITEM(yes, to_yes++, item);
        } else {
            PyList_SET_ITEM(no, to_no++, item);
        }
    }
    PyObject *both = PyTuple_Pack(2, yes, no);
    Py_DECREF(yes);
    Py_DECREF(no);
    return both;
}

static PyObject *
wait_list(const struct state *st, PyObject *list, size_t num_returns, int64_t timeout_ms,
          bool fetch_local)
{
    PyObject *items = PyList_AsTuple(list); /* the list may change while we wait */
    if (items == NULL) {
        return NULL;
    }
    const size_t count = (size_t)PyTuple_GET_SIZE(items);
    ray_ref **refs = PyMem_Malloc(count * sizeof(*refs));
    bool *ready = PyMem_Calloc(count, sizeof(*ready));
    PyObject *result = NULL;
    int failed = 0;
    if (refs == NULL || ready == NULL) {
        PyErr_NoMemory();
        failed = -1;
    }
    size_t filled = 0; /* one count each: generators make theirs for the wait */
    for (; !failed && filled < count; filled++) {
        PyObject *item = PyTuple_GET_ITEM(items, (Py_ssize_t)filled);
        ray_ref *ref = is_stream(st, item) ? stream_peek(item) : object_ref_get(item);
        if (ref == NULL) {
            failed = -1;
            break;
        }
        refs[filled] = is_stream(st, item) ? ref : ray_ref_retain(ref);
    }
    failed = failed ? failed : check_unique(refs, count);
    if (!failed &&
        wait_for_some(st, refs, count, num_returns, timeout_ms, fetch_local, ready) == 0) {
        result = split(items, ready);
    }
    for (size_t i = 0; i < filled; i++) {
        ray_ref_release(refs[i]);
    }
    PyMem_Free(refs);
    PyMem_Free(ready);
    Py_DECREF(items);
    return result;
}

PyObject *
native_wait(PyObject *module, fast_args args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = { "ray_waitables", "num_returns", "timeout", "fetch_local" };
    struct state *st = state_of_module(module);
    PyObject *slots[4];
    int64_t timeout_ms = -1;
    size_t num_returns = 1;
    if (st->in_event_loop && call_coroutine_in_loop() && warn_blocking("wait")) {
        return NULL;
    }
    if (parse("wait", args, nargs, kwnames, names, slots, 4) || check_waitables(st, slots[0]) ||
        timeout_of(slots[2], false, &timeout_ms)) {
        return NULL;
    }
    const int fetch_local = slots[3] == NULL ? 1 : PyObject_IsTrue(slots[3]);
    if (fetch_local < 0 || ensure_session(st)) {
        return NULL;
    }
    if (PyList_GET_SIZE(slots[0]) == 0) {
        return Py_BuildValue("([][])");
    }
    if (count_of(slots[1], PyList_GET_SIZE(slots[0]), &num_returns)) {
        return NULL;
    }
    return wait_list(st, slots[0], num_returns, timeout_ms, fetch_local != 0);
}

/* ---- by hand --------------------------------------------------------------------------------- */

static PyObject *
apply(PyObject *o, int (*fn)(ray_ref *ref))
{
    ray_ref *ref = object_ref_get(o);
    if (ref == NULL) {
        return NULL;
    }
    int status;
    Py_BEGIN_ALLOW_THREADS status = fn(ref);
    Py_END_ALLOW_THREADS if (status != RAY_OK)
    {
        return raise_status(status);
    }
    Py_RETURN_NONE;
}

PyObject *
native_free(PyObject *module, PyObject *o)
{
    (void)module;
    return apply(o, ray_ref_free);
}

PyObject *
native_lose(PyObject *module, PyObject *o)
{
    (void)module;
    return apply(o, ray_ref_lose);
}
