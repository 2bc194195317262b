/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The barest thing that can call a Python function in another process: Python -> C -> one unix
 * socket -> C -> Python and back.  No retries, no references, no scheduling: whatever does those
 * can be compared with it.  The module has
 *
 *   Client(fd, k)  call(i)     one call and its answer
 *                  submit(i)   queues a call; k of them go out in one write
 *                  collect(n)  sends what is left and returns the answers of n calls as a list
 *                  encode(i)   a method call that only serialises, to show the cost of the way in
 *   serve(fd, f, k) answers calls with f(i) until the stream ends, at most k answers in one write
 *   fork_child(fn) forks, runs fn in the child, which reports by a pipe; returns seconds until the
 *                  report arrived and until the child was reaped
 *
 * How many frames share a write decides the rate of batches: with k = 1 each call costs a system
 * call on either side.  Both ends run in one thread and block in read; nothing spins, and neither
 * end waits for room without reading, since both may have filled the socket.  A frame has the head
 * that a real protocol needs, so that the comparison is fair:
 *
 *   | length u32 | kind u16 | flags u16 | request u64 | type u64 | value i64 |     32 bytes
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LIM_FLUSH_FRAMES_MAX 64u
#define LIM_READ_FRAMES      1024u
#define LIM_KIND_CALL        1u
#define LIM_KIND_DONE        2u
#define LIM_TYPE_INT         7u

struct lim_call {
    uint32_t length;
    uint16_t kind;
    uint16_t flags;
    uint64_t request;
    uint64_t type;
    int64_t value;
};

_Static_assert(sizeof(struct lim_call) == 32, "frames are packed");

struct lim_stream {
    int fd;
    unsigned flush_frames; /* frames that share a write, 1 to LIM_FLUSH_FRAMES_MAX */
    size_t out_count;
    size_t in_at;   /* bytes of `in` already used */
    size_t in_have; /* bytes of `in` that were read */
    struct lim_call out[LIM_FLUSH_FRAMES_MAX];
    unsigned char in[LIM_READ_FRAMES * sizeof(struct lim_call)];
};

struct lim_client {
    PyObject_HEAD struct lim_stream stream;
    uint64_t sent;
    uint64_t received;
};

/* After EINTR: 0 to try again, else -1 with the Python exception of the error or the signal. */
static int
check_errno(void)
{
    if (errno == EINTR) {
        return PyErr_CheckSignals();
    }
    PyErr_SetFromErrno(PyExc_OSError);
    return -1;
}

/* Moves what is unused to the front and reads once; bytes read, 0 at the end, -1 with errno. */
static ssize_t
stream_fill(struct lim_stream *stream, int flags)
{
    const size_t left = stream->in_have - stream->in_at;
    memmove(stream->in, stream->in + stream->in_at, left);
    stream->in_at = 0;
    stream->in_have = left;
    const ssize_t n = recv(stream->fd, stream->in + left, sizeof(stream->in) - left, flags);
    stream->in_have += n > 0 ? (size_t)n : 0;
    return n;
}

/* The socket is full: waits for room, and reads meanwhile what the peer may be stuck with. */
static int
stream_wait_for_room(struct lim_stream *stream)
{
    const int can_read = stream->in_have - stream->in_at < sizeof(stream->in);
    struct pollfd entry = { .fd = stream->fd,
                            .events = (short)(can_read ? POLLOUT | POLLIN : POLLOUT) };
    if (poll(&entry, 1, -1) < 0) {
        return check_errno();
    }
    if ((entry.revents & POLLIN) != 0 && stream_fill(stream, MSG_DONTWAIT) < 0 && errno != EAGAIN) {
        return check_errno();
    }
    return 0;
}

/* Sends the queued frames; 0, or -1 with a Python exception. */
static int
stream_flush(struct lim_stream *stream)
{
    const unsigned char *next = (const unsigned char *)stream->out;
    size_t left = stream->out_count * sizeof(stream->out[0]);
    stream->out_count = 0;
    while (left > 0) {
        const ssize_t n = send(stream->fd, next, left, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0) {
            next += n;
            left -= (size_t)n;
        } else if ((errno == EAGAIN ? stream_wait_for_room(stream) : check_errno()) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
stream_put(struct lim_stream *stream, unsigned kind, uint64_t request, PyObject *number)
{
    const int64_t value = PyLong_AsLongLong(number);
    if (value == -1 && PyErr_Occurred()) {
        return -1;
    }
    stream->out[stream->out_count++] = (struct lim_call){ .length = sizeof(struct lim_call),
                                                          .kind = (uint16_t)kind,
                                                          .request = request,
                                                          .type = LIM_TYPE_INT,
                                                          .value = value };
    return stream->out_count == stream->flush_frames ? stream_flush(stream) : 0;
}

/* True if a whole frame has already been read. */
static inline int
stream_has_frame(const struct lim_stream *stream)
{
    return stream->in_have - stream->in_at >= sizeof(struct lim_call);
}

/* The next frame: 1, 0 at the end of the stream, -1 with a Python exception. */
static int
stream_next(struct lim_stream *stream, struct lim_call *call)
{
    while (!stream_has_frame(stream)) {
        ssize_t n = 0;
        Py_BEGIN_ALLOW_THREADS n = stream_fill(stream, 0);
        Py_END_ALLOW_THREADS if (n == 0)
        {
            return 0;
        }
        if (n < 0 && check_errno() < 0) {
            return -1;
        }
    }
    memcpy(call, stream->in + stream->in_at, sizeof(*call));
    stream->in_at += sizeof(*call);
    if (call->length != sizeof(*call) || call->type != LIM_TYPE_INT) {
        PyErr_SetString(PyExc_ValueError, "malformed frame");
        return -1;
    }
    return 1;
}

/* The value of the next answer as a new reference. */
static PyObject *
client_receive(struct lim_client *client)
{
    struct lim_call call;
    const int got = stream_next(&client->stream, &call);
    if (got < 0) {
        return NULL;
    }
    if (got == 0 || call.kind != LIM_KIND_DONE || call.request != client->received) {
        PyErr_SetString(PyExc_ConnectionError, "the peer left or answered out of order");
        return NULL;
    }
    client->received++;
    return PyLong_FromLongLong(call.value);
}

static PyObject *
client_call(PyObject *self, PyObject *number)
{
    struct lim_client *client = (struct lim_client *)self;
    if (stream_put(&client->stream, LIM_KIND_CALL, client->sent++, number) < 0 ||
        stream_flush(&client->stream) < 0) {
        return NULL;
    }
    return client_receive(client);
}

static PyObject *
client_submit(PyObject *self, PyObject *number)
{
    struct lim_client *client = (struct lim_client *)self;
    if (stream_put(&client->stream, LIM_KIND_CALL, client->sent++, number) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
client_collect(PyObject *self, PyObject *number)
{
    struct lim_client *client = (struct lim_client *)self;
    const Py_ssize_t count = PyLong_AsSsize_t(number);
    if ((count == -1 && PyErr_Occurred()) || stream_flush(&client->stream) < 0) {
        return NULL;
    }
    PyObject *values = PyList_New(count); /* strong, given to the caller */
    for (Py_ssize_t i = 0; values != NULL && i < count; i++) {
        PyObject *value = client_receive(client);
        if (value == NULL) {
            Py_CLEAR(values);
            break;
        }
        PyList_SET_ITEM(values, i, value);
    }
    return values;
}

static PyObject *
client_encode(PyObject *self, PyObject *number)
{
    struct lim_client *client = (struct lim_client *)self;
    const int64_t value = PyLong_AsLongLong(number);
    if (value == -1 && PyErr_Occurred()) {
        return NULL;
    }
    struct lim_call *slot = &client->stream.out[client->stream.out_count];
    *slot = (struct lim_call){ .length = sizeof(*slot), .type = LIM_TYPE_INT, .value = value };
    return PyLong_FromLongLong(slot->value);
}

static int
check_flush_frames(unsigned flush_frames)
{
    if (flush_frames >= 1 && flush_frames <= LIM_FLUSH_FRAMES_MAX) {
        return 0;
    }
    PyErr_Format(PyExc_ValueError, "frames in one write: 1 to %u", LIM_FLUSH_FRAMES_MAX);
    return -1;
}

static PyObject *
client_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    int fd = -1;
    unsigned flush_frames = 0;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "iI", &fd, &flush_frames) || check_flush_frames(flush_frames) < 0) {
        return NULL;
    }
    struct lim_client *client = (struct lim_client *)type->tp_alloc(type, 0);
    if (client != NULL) {
        client->stream.fd = fd;
        client->stream.flush_frames = flush_frames;
    }
    return (PyObject *)client;
}

static void
client_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef client_methods[] = {
    { "call", client_call, METH_O, "One call and its answer." },
    { "submit", client_submit, METH_O, "Queues one call." },
    { "collect", client_collect, METH_O, "Returns the answers of that many calls." },
    { "encode", client_encode, METH_O, "Serialises and returns a number without sending it." },
    { NULL, NULL, 0, NULL },
};

static PyType_Slot client_slots[] = {
    { Py_tp_new, (void *)client_new },
    { Py_tp_dealloc, (void *)client_dealloc },
    { Py_tp_methods, client_methods },
    { 0, NULL },
};

static PyType_Spec client_spec = {
    .name = "_limpair.Client",
    .basicsize = sizeof(struct lim_client),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = client_slots,
};

static PyObject *
pair_serve(PyObject *module, PyObject *args)
{
    static struct lim_stream stream;
    PyObject *function = NULL; /* borrowed */
    (void)module;
    memset(&stream, 0, sizeof(stream));
    if (!PyArg_ParseTuple(args, "iOI", &stream.fd, &function, &stream.flush_frames) ||
        check_flush_frames(stream.flush_frames) < 0) {
        return NULL;
    }
    for (;;) {
        struct lim_call call;
        if (!stream_has_frame(&stream) && stream_flush(&stream) < 0) {
            return NULL;
        }
        const int got = stream_next(&stream, &call);
        if (got < 0) {
            return NULL;
        }
        if (got == 0) {
            Py_RETURN_NONE;
        }
        PyObject *argument = PyLong_FromLongLong(call.value);
        if (argument == NULL) {
            return NULL;
        }
        PyObject *value = PyObject_CallFunctionObjArgs(function, argument, NULL);
        Py_DECREF(argument);
        if (value == NULL) {
            return NULL;
        }
        const int sent = stream_put(&stream, LIM_KIND_DONE, call.request, value);
        Py_DECREF(value);
        if (sent < 0) {
            return NULL;
        }
    }
}

static double
now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* The child's whole life; it reports by one byte and never returns to the interpreter. */
static void
run_child(int report_fd, PyObject *function)
{
    PyOS_AfterFork_Child();
    PyObject *value = PyObject_CallFunctionObjArgs(function, NULL);
    const char byte = value != NULL ? 'y' : 'n';
    _exit(write(report_fd, &byte, 1) == 1 ? 0 : 1);
}

static PyObject *
pair_fork_child(PyObject *module, PyObject *function)
{
    int fds[2];
    (void)module;
    if (pipe(fds) != 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    const double begin_s = now_s();
    PyOS_BeforeFork();
    const pid_t pid = fork();
    if (pid == 0) {
        run_child(fds[1], function);
    }
    PyOS_AfterFork_Parent();
    close(fds[1]);
    char byte = 0;
    ssize_t got = -1;
    if (pid > 0) {
        do {
            got = read(fds[0], &byte, 1);
        } while (got < 0 && errno == EINTR);
    }
    const double reported_s = now_s();
    close(fds[0]);
    int status = -1;
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    const double reaped_s = now_s();
    if (got != 1 || byte != 'y' || status != 0) {
        PyErr_SetString(PyExc_RuntimeError, "the forked child did not report");
        return NULL;
    }
    return Py_BuildValue("(dd)", reported_s - begin_s, reaped_s - begin_s);
}

static PyMethodDef pair_methods[] = {
    { "serve", pair_serve, METH_VARARGS, "Answers calls on a socket until it ends." },
    { "fork_child", pair_fork_child, METH_O, "Forks once and times the child's report." },
    { NULL, NULL, 0, NULL },
};

static int
pair_exec(PyObject *module)
{
    PyObject *type = PyType_FromSpec(&client_spec); /* strong */
    if (type == NULL) {
        return -1;
    }
    const int status = PyModule_AddType(module, (PyTypeObject *)type);
    Py_DECREF(type);
    return status;
}

static PyModuleDef_Slot pair_slots[] = {
    { Py_mod_exec, (void *)pair_exec },
    { 0, NULL },
};

static struct PyModuleDef pair_module = {
    PyModuleDef_HEAD_INIT,     .m_name = "_limpair",  .m_doc = "The bare two-process Python pair.",
    .m_methods = pair_methods, .m_slots = pair_slots,
};

PyMODINIT_FUNC PyInit__limpair(void);

PyMODINIT_FUNC
PyInit__limpair(void)
{
    return PyModuleDef_Init(&pair_module);
}
