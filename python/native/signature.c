/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checking a call against a signature: a few comparisons when it fits. When it doesn't, the words
 * of the error come from ray._private.signature.explain.
 */
#include "_raymodule.h"

enum {
    FIELD_NAMES,
    FIELD_POSITIONAL_ONLY,
    FIELD_DEFAULTS,
    FIELD_KEYWORD_ONLY,
    FIELD_KEYWORD_REQUIRED,
    FIELD_VARARGS,
    FIELD_VARKEYWORDS,
    FIELD_COUNT
};

int
signature_set(struct signature *signature, PyObject *tuple)
{
    if (!PyTuple_Check(tuple) || PyTuple_GET_SIZE(tuple) != FIELD_COUNT ||
        !PyTuple_Check(PyTuple_GET_ITEM(tuple, FIELD_NAMES)) ||
        !PyTuple_Check(PyTuple_GET_ITEM(tuple, FIELD_KEYWORD_ONLY)) ||
        !PyTuple_Check(PyTuple_GET_ITEM(tuple, FIELD_KEYWORD_REQUIRED))) {
        PyErr_SetString(PyExc_TypeError, "a signature must be a ray._private.signature.Signature");
        return -1;
    }
    const Py_ssize_t positional_only =
        PyLong_AsSsize_t(PyTuple_GET_ITEM(tuple, FIELD_POSITIONAL_ONLY));
    const Py_ssize_t defaults = PyLong_AsSsize_t(PyTuple_GET_ITEM(tuple, FIELD_DEFAULTS));
    if (PyErr_Occurred()) {
        return -1;
    }
    PyObject *old = signature->tuple;
    signature->tuple = new_ref(tuple);
    signature->names = PyTuple_GET_ITEM(tuple, FIELD_NAMES);
    signature->keyword_only = PyTuple_GET_ITEM(tuple, FIELD_KEYWORD_ONLY);
    signature->count = PyTuple_GET_SIZE(signature->names);
    signature->positional_only = positional_only;
    signature->required = signature->count - defaults;
    signature->keyword_required = PyTuple_GET_SIZE(PyTuple_GET_ITEM(tuple, FIELD_KEYWORD_REQUIRED));
    signature->varargs = PyTuple_GET_ITEM(tuple, FIELD_VARARGS) == Py_True;
    signature->varkeywords = PyTuple_GET_ITEM(tuple, FIELD_VARKEYWORDS) == Py_True;
    Py_XDECREF(old);
    return 0;
}

/* The place of `name` in a tuple of strings, or -1. */
static Py_ssize_t
find_name(PyObject *names, PyObject *name)
{
    const Py_ssize_t count = PyTuple_GET_SIZE(names);
    for (Py_ssize_t i = 0; i < count; i++) {
        if (PyTuple_GET_ITEM(names, i) == name) {
            return i;
        }
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        if (PyUnicode_Compare(PyTuple_GET_ITEM(names, i), name) == 0) {
            return i;
        }
    }
    return -1;
}

/* Whether a call with keywords fits. Counting is enough: no name is given twice, so every required
 * parameter is there when as many of them were named as were missing. */
static bool
keywords_fit(const struct signature *s, Py_ssize_t nargs, PyObject *kwnames)
{
    const Py_ssize_t given = nargs < s->count ? nargs : s->count;
    Py_ssize_t required = s->required > given ? s->required - given : 0;
    Py_ssize_t keyword_required = s->keyword_required;
    PyObject *required_names = PyTuple_GET_ITEM(s->tuple, FIELD_KEYWORD_REQUIRED);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(kwnames); i++) {
        PyObject *name = PyTuple_GET_ITEM(kwnames, i);
        const Py_ssize_t at = find_name(s->names, name);
        if (at >= s->positional_only) {
            if (at < given) {
                return false; /* given by position too */
            }
            required -= at < s->required ? 1 : 0;
        } else if (find_name(s->keyword_only, name) >= 0) {
            keyword_required -= find_name(required_names, name) >= 0 ? 1 : 0;
        } else if (!s->varkeywords) {
            return false;
        }
    }
    return required == 0 && keyword_required == 0;
}

/* Sets the TypeError for a call that doesn't fit. Gives true when Python finds that it does. */
static bool
explain(const struct signature *s, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *positional = PyTuple_New(nargs);
    PyObject *keywords = PyDict_New();
    PyObject *result = NULL;
    if (positional != NULL && keywords != NULL) {
        for (Py_ssize_t i = 0; i < nargs; i++) {
            PyTuple_SET_ITEM(positional, i, new_ref(args[i]));
        }
        const Py_ssize_t count = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
        int failed = 0;
        for (Py_ssize_t i = 0; i < count && !failed; i++) {
            failed = PyDict_SetItem(keywords, PyTuple_GET_ITEM(kwnames, i), args[nargs + i]);
        }
        PyObject *all[3] = { s->tuple, positional, keywords };
        result = failed ? NULL : call_python("ray._private.signature", "explain", all, 3);
    }
    Py_XDECREF(positional);
    Py_XDECREF(keywords);
    Py_XDECREF(result);
    return result != NULL;
}

bool
signature_check(const struct signature *s, PyObject *const *args, Py_ssize_t nargs,
                PyObject *kwnames)
{
    if (s->tuple == NULL) {
        return true;
    }
    if (nargs <= s->count || s->varargs) {
        if (kwnames == NULL || PyTuple_GET_SIZE(kwnames) == 0) {
            if (nargs >= s->required && s->keyword_required == 0) {
                return true;
            }
        } else if (keywords_fit(s, nargs, kwnames)) {
            return true;
        }
    }
    return explain(s, args, nargs, kwnames);
}
