/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What libray's thread has for Python: lines of workers, and references that became ready. That
 * thread must never wait for the interpreter, so it appends here; Python threads that were started
 * for it wait on the other end, without the interpreter, and do the rest.
 */
#include "_raymodule.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LOG_BYTES_MAX = 16 << 20 }; /* lines beyond are dropped, and counted */

struct log_entry {
    struct log_entry *next;
    int pid;
    bool is_stderr;
    size_t name_size, text_size;
    char bytes[]; /* name, then text */
};

struct log_queue {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct log_entry *first, **last;
    size_t bytes, dropped;
    bool open;
};

static void
lock_init(pthread_mutex_t *lock, pthread_cond_t *changed)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(lock, NULL);
    pthread_cond_init(changed, &attributes);
    pthread_condattr_destroy(&attributes);
}

struct log_queue *
log_queue_create(void)
{
    struct log_queue *q = calloc(1, sizeof(*q));
    if (q != NULL) {
        lock_init(&q->lock, &q->changed);
        q->last = &q->first;
    }
    return q;
}

void
log_queue_open(struct log_queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->open = true;
    pthread_mutex_unlock(&q->lock);
}

void
log_queue_close(struct log_queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->open = false;
    pthread_cond_broadcast(&q->changed);
    pthread_mutex_unlock(&q->lock);
}

void
log_queue_push(void *queue, const char *name, int pid, bool is_stderr, const char *text,
               size_t size)
{
    struct log_queue *q = queue;
    const size_t name_size = name == NULL ? 0 : strlen(name);
    struct log_entry *entry = malloc(sizeof(*entry) + name_size + size);
    if (entry != NULL) {
        entry->next = NULL;
        entry->pid = pid;
        entry->is_stderr = is_stderr;
        entry->name_size = name_size;
        entry->text_size = size;
        memcpy(entry->bytes, name == NULL ? "" : name, name_size);
        memcpy(entry->bytes + name_size, text, size);
    }
    pthread_mutex_lock(&q->lock);
    if (entry == NULL || q->bytes + size > LOG_BYTES_MAX) {
        q->dropped++;
        free(entry);
    } else {
        q->bytes += size;
        *q->last = entry;
        q->last = &entry->next;
        pthread_cond_signal(&q->changed);
    }
    pthread_mutex_unlock(&q->lock);
}

static void
deadline_after(struct timespec *at, long timeout_ms)
{
    clock_gettime(CLOCK_MONOTONIC, at);
    at->tv_sec += timeout_ms / 1000;
    at->tv_nsec += timeout_ms % 1000 * 1000000;
    if (at->tv_nsec >= 1000000000) {
        at->tv_sec++;
        at->tv_nsec -= 1000000000;
    }
}

/* Takes all entries, waiting for some; runs without the interpreter. False: closed and empty. */
static bool
take_entries(struct log_queue *q, long timeout_ms, struct log_entry **out, size_t *dropped)
{
    struct timespec deadline;
    deadline_after(&deadline, timeout_ms < 0 ? 0 : timeout_ms);
    pthread_mutex_lock(&q->lock);
    while (q->first == NULL && q->open) {
        if (timeout_ms < 0) {
            pthread_cond_wait(&q->changed, &q->lock);
        } else if (pthread_cond_timedwait(&q->changed, &q->lock, &deadline)) {
            break;
        }
    }
    *out = q->first;
    *dropped = q->dropped;
    q->first = NULL;
    q->last = &q->first;
    q->bytes = 0;
    q->dropped = 0;
    const bool more = *out != NULL || q->open;
    pthread_mutex_unlock(&q->lock);
    return more;
}

static PyObject *
entry_tuple(const struct log_entry *e)
{
    PyObject *name = PyUnicode_DecodeUTF8(e->bytes, (Py_ssize_t)e->name_size, "replace");
    PyObject *text =
        PyUnicode_DecodeUTF8(e->bytes + e->name_size, (Py_ssize_t)e->text_size, "replace");
    if (name == NULL || text == NULL) {
        Py_XDECREF(name);
        Py_XDECREF(text);
        return NULL;
    }
    return Py_BuildValue("(NiON)", name, e->pid, e->is_stderr ? Py_True : Py_False, text);
}

static int
append_new(PyObject *list, PyObject *item)
{
    const int failed = item == NULL || PyList_Append(list, item);
    Py_XDECREF(item);
    return failed ? -1 : 0;
}

PyObject *
native_take_logs(PyObject *module, PyObject *timeout_ms)
{
    struct log_queue *q = state_of_module(module)->logs;
    const long timeout = PyLong_AsLong(timeout_ms);
    if (timeout == -1 && PyErr_Occurred()) {
        return NULL;
    }
    struct log_entry *entries = NULL;
    size_t dropped = 0;
    bool more;
    Py_BEGIN_ALLOW_THREADS more = take_entries(q, timeout, &entries, &dropped);
    Py_END_ALLOW_THREADS PyObject *list = more ? PyList_New(0) : new_ref(Py_None);
    while (entries != NULL) {
        struct log_entry *entry = entries;
        entries = entry->next;
        if (list != NULL && append_new(list, entry_tuple(entry))) {
            Py_CLEAR(list);
        }
        free(entry);
    }
    if (dropped > 0 && list != NULL && list != Py_None) {
        PyObject *text = PyUnicode_FromFormat(
            "%zu writes of workers came faster than they could be shown, and were dropped here. "
            "They are in the session's log files.",
            dropped);
        PyObject *item = text == NULL ? NULL : Py_BuildValue("(siON)", "ray", 0, Py_True, text);
        if (append_new(list, item)) {
            Py_CLEAR(list);
        }
    }
    return list;
}

/* ---- references that became ready ------------------------------------------------------------ */

struct ready_entry {
    struct ready_entry *next;
    struct ready_queue *queue;
    PyObject *callback; /* strong; touched by Python threads only */
    bool cancelled;
};

struct ready_queue {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct ready_entry *first, **last;
};

struct ready_queue *
ready_queue_create(void)
{
    struct ready_queue *q = calloc(1, sizeof(*q));
    if (q != NULL) {
        lock_init(&q->lock, &q->changed);
        q->last = &q->first;
    }
    return q;
}

/* A ray_ready_fn. Runs on libray's thread. */
static void
on_ready(void *ctx, bool cancelled)
{
    struct ready_entry *entry = ctx;
    struct ready_queue *q = entry->queue;
    entry->cancelled = cancelled;
    pthread_mutex_lock(&q->lock);
    *q->last = entry;
    q->last = &entry->next;
    pthread_cond_signal(&q->changed);
    pthread_mutex_unlock(&q->lock);
}

PyObject *
native_on_ready(PyObject *module, PyObject *args)
{
    struct state *st = state_of_module(module);
    PyObject *ref_object, *callback;
    if (!PyArg_ParseTuple(args, "O!O:on_ready", st->object_ref_type, &ref_object, &callback)) {
        return NULL;
    }
    ray_ref *ref = object_ref_get(ref_object);
    struct ready_entry *entry = ref == NULL ? NULL : calloc(1, sizeof(*entry));
    if (entry == NULL) {
        return ref == NULL ? NULL : PyErr_NoMemory();
    }
    entry->queue = st->ready;
    entry->callback = new_ref(callback);
    const int status = ray_ref_on_ready(ref, on_ready, entry);
    if (status != RAY_OK) {
        Py_DECREF(entry->callback);
        free(entry);
        return raise_status(status);
    }
    Py_RETURN_NONE;
}

/* Runs without the interpreter. */
static struct ready_entry *
take_ready(struct ready_queue *q)
{
    pthread_mutex_lock(&q->lock);
    while (q->first == NULL) {
        pthread_cond_wait(&q->changed, &q->lock);
    }
    struct ready_entry *entries = q->first;
    q->first = NULL;
    q->last = &q->first;
    pthread_mutex_unlock(&q->lock);
    return entries;
}

PyObject *
native_take_ready(PyObject *module, PyObject *unused)
{
    (void)unused;
    struct ready_queue *q = state_of_module(module)->ready;
    struct ready_entry *entries;
    Py_BEGIN_ALLOW_THREADS entries = take_ready(q);
    Py_END_ALLOW_THREADS PyObject *list = PyList_New(0);
    while (entries != NULL) {
        struct ready_entry *entry = entries;
        entries = entry->next;
        if (list != NULL) {
            PyObject *item =
                PyTuple_Pack(2, entry->callback, entry->cancelled ? Py_True : Py_False);
            if (append_new(list, item)) {
                Py_CLEAR(list);
            }
        }
        Py_DECREF(entry->callback);
        free(entry);
    }
    return list;
}
