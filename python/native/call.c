/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arguments of a call. They become one run of bytes, argument 0 of the task; each reference
 * that stands alone as an argument is a further argument, whose value the task gets. A call of
 * plain values needs no memory but the stack's.
 *
 *     FORMAT_CALL:   n positional, n keywords, the keywords' names, then the values, in tags
 *     FORMAT_PICKLE: the same as a pickle of ([values but references], (names...)), see ser
 *
 * When they don't fit into a message they are put into the store, and argument 0 is a reference.
 */
#include "_raymodule.h"

#include <string.h>

static int
reserve_args(struct call_frame *f, size_t count)
{
    f->args = f->inline_args;
    if (count + 1 > sizeof(f->inline_args) / sizeof(f->inline_args[0])) {
        f->args = PyMem_Malloc((count + 1) * sizeof(struct ray_arg));
        if (f->args == NULL) {
            PyErr_NoMemory();
            return -1;
        }
    }
    return 0;
}

/* In tags: 1 done, 0 not possible, -1 an exception. */
static int
build_tags(struct call_frame *f, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    struct ser *s = &f->ser;
    const Py_ssize_t nkw = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    f->arg_count = 1;
    s->format = FORMAT_CALL;
    if (ser_varint(s, (uint64_t)nargs) || ser_varint(s, (uint64_t)nkw)) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < nkw; i++) {
        const int done = encode_value(s, PyTuple_GET_ITEM(kwnames, i), true);
        if (done <= 0) {
            return done;
        }
    }
    for (Py_ssize_t i = 0; i < nargs + nkw; i++) {
        PyObject *o = args[i];
        if (is_object_ref(s->st, o)) {
            ray_ref *ref = object_ref_get(o);
            if (ref == NULL || ser_byte(s, 'R') || ser_varint(s, f->arg_count)) {
                return -1;
            }
            f->args[f->arg_count++] = (struct ray_arg){ .ref = ref };
            continue;
        }
        const int done = encode_value(s, o, true);
        if (done <= 0) {
            return done;
        }
    }
    return 1;
}

/* new. Everything but the references, which are noted in slots and args. */
static PyObject *
collect_values(struct call_frame *f, PyObject *const *args, Py_ssize_t count)
{
    PyObject *values = PyList_New(0);
    f->arg_count = 1;
    for (Py_ssize_t i = 0; values != NULL && i < count; i++) {
        if (!is_object_ref(f->ser.st, args[i])) {
            if (PyList_Append(values, args[i])) {
                Py_CLEAR(values);
            }
            continue;
        }
        ray_ref *ref = object_ref_get(args[i]);
        if (ref == NULL) {
            Py_CLEAR(values);
            break;
        }
        f->slots[f->arg_count - 1] = (uint32_t)i;
        f->args[f->arg_count++] = (struct ray_arg){ .ref = ref };
    }
    return values;
}

static int
build_pickle(struct call_frame *f, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    struct ser *s = &f->ser;
    const Py_ssize_t nkw = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    const size_t count = (size_t)(nargs + nkw);
    ser_reset(s);
    if (count > sizeof(f->inline_slots) / sizeof(f->inline_slots[0])) {
        f->slots = PyMem_Malloc(count * sizeof(uint32_t));
        if (f->slots == NULL) {
            f->slots = f->inline_slots;
            PyErr_NoMemory();
            return -1;
        }
    }
    PyObject *values = collect_values(f, args, nargs + nkw);
    PyObject *pair =
        values == NULL ? NULL : PyTuple_Pack(2, values, nkw > 0 ? kwnames : s->st->empty_tuple);
    Py_XDECREF(values);
    if (pair == NULL) {
        return -1;
    }
    s->format = FORMAT_PICKLE;
    s->is_call = true;
    s->positional = (uint32_t)nargs;
    s->keywords = (uint32_t)nkw;
    s->slots = f->slots;
    s->slot_count = (uint32_t)(f->arg_count - 1);
    const int failed = pickle_value(s, pair);
    /* Buffers of temporary objects are held by their views. */
    Py_DECREF(pair);
    return failed;
}

/* Turns the exception of a failed pickling into one that names the argument. */
static void
blame_argument(PyObject *callee, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *type, *exception, *traceback;
    PyErr_Fetch(&type, &exception, &traceback);
    PyErr_NormalizeException(&type, &exception, &traceback);
    PyObject *positional = PyTuple_New(nargs);
    PyObject *keywords = PyDict_New();
    if (positional != NULL && keywords != NULL && exception != NULL) {
        for (Py_ssize_t i = 0; i < nargs; i++) {
            PyTuple_SET_ITEM(positional, i, new_ref(args[i]));
        }
        int failed = 0;
        for (Py_ssize_t i = 0; kwnames != NULL && !failed && i < PyTuple_GET_SIZE(kwnames); i++) {
            failed = PyDict_SetItem(keywords, PyTuple_GET_ITEM(kwnames, i), args[nargs + i]);
        }
        PyObject *all[4] = { exception, callee, positional, keywords };
        PyObject *never =
            failed ? NULL
                   : call_python("ray._private.serialization", "raise_unserializable_call", all, 4);
        Py_XDECREF(never);
    }
    Py_XDECREF(positional);
    Py_XDECREF(keywords);
    if (PyErr_Occurred()) {
        Py_XDECREF(type);
        Py_XDECREF(exception);
        Py_XDECREF(traceback);
    } else {
        PyErr_Restore(type, exception, traceback);
    }
}

/* Stores the arguments as an object of their own. The copy may wait for memory. */
static int
put_args(struct call_frame *f, const struct ray_payload *payload)
{
    int status;
    Py_BEGIN_ALLOW_THREADS status = ray_put(payload, NULL, &f->put);
    Py_END_ALLOW_THREADS if (status != RAY_OK)
    {
        raise_status(status);
        return -1;
    }
    f->args[0] = (struct ray_arg){ .ref = f->put };
    return 0;
}

int
call_frame_build(struct call_frame *f, struct state *st, PyObject *callee, PyObject *const *args,
                 Py_ssize_t nargs, PyObject *kwnames)
{
    const Py_ssize_t nkw = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    ser_init(&f->ser, st);
    f->args = f->inline_args;
    f->slots = f->inline_slots;
    f->put = NULL;
    f->arg_count = 0;
    if (nargs + nkw == 0) {
        return 0;
    }
    if (reserve_args(f, (size_t)(nargs + nkw))) {
        return -1;
    }
    const int done = build_tags(f, args, nargs, kwnames);
    if (done < 0) {
        return -1;
    }
    if (done == 0 && build_pickle(f, args, nargs, kwnames)) {
        blame_argument(callee, args, nargs, kwnames);
        return -1;
    }
    f->args[0].ref = NULL;
    if (ser_payload(&f->ser, &f->args[0].value)) {
        return -1;
    }
    if (ser_total(&f->ser) > RAY_INLINE_MAX) {
        const struct ray_payload payload = f->args[0].value;
        return put_args(f, &payload);
    }
    return 0;
}

void
call_frame_fini(struct call_frame *f)
{
    ray_ref_release(f->put);
    if (f->args != f->inline_args) {
        PyMem_Free(f->args);
    }
    if (f->slots != f->inline_slots) {
        PyMem_Free(f->slots);
    }
    ser_fini(&f->ser);
}

PyObject *
call_result(struct state *st, ray_ref **refs, int32_t count)
{
    if (count == 1) {
        return object_ref_new(st, refs[0]);
    }
    if (count == 0) {
        return new_ref(Py_None);
    }
    PyObject *list = PyList_New(count);
    for (int32_t i = 0; i < count; i++) {
        PyObject *ref = list == NULL ? NULL : object_ref_new(st, refs[i]);
        if (list == NULL) {
            ray_ref_release(refs[i]);
        } else if (ref == NULL) {
            Py_CLEAR(list);
        } else {
            PyList_SET_ITEM(list, i, ref);
        }
    }
    return list;
}
