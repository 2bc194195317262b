/* SPDX-License-Identifier: Apache-2.0 */
/*
 * _raymodule.h: what the files of the extension `ray._native` share.
 *
 * The extension stands on Python.h and ray.h alone. It has one module state, `struct state`, whose
 * Python members are listed once, in STATE_OBJECTS. Every function here is called with the
 * interpreter lock held unless its comment says otherwise. Comments call a PyObject result "new"
 * (the caller owns it) or "borrowed".
 *
 * Locks: interpreter lock first, then whatever libray takes inside; the interpreter lock is given
 * up around every call that may wait. Functions that libray calls on its own thread (a log line, a
 * reference that became ready) only append to a queue of this extension, and never touch Python.
 */
#ifndef RAY_NATIVE_MODULE_H
#define RAY_NATIVE_MODULE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <ray/ray.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- module state ---------------------------------------------------------------------------- */

/* Every Python object that the module keeps, all strong. Those marked lazy are NULL until needed.
 */
#define STATE_OBJECTS(X)                                                                           \
    X(module_dict) /* of this module */                                                            \
    X(object_ref_type)                                                                             \
    X(value_buffer_type)                                                                           \
    X(sink_type)                                                                                   \
    X(function_type)                                                                               \
    X(options_type)                                                                                \
    X(call_target_type)                                                                            \
    X(remote_function_type)                                                                        \
    X(actor_creator_type)                                                                          \
    X(method_spec_type)                                                                            \
    X(actor_handle_type)                                                                           \
    X(actor_method_type)                                                                           \
    X(str_export)   /* "_export" */                                                                \
    X(str_dump)     /* "dump" */                                                                   \
    X(str_buffers)  /* "buffers" */                                                                \
    X(str_module)   /* "__module__" */                                                             \
    X(str_main)     /* "__main__" */                                                               \
    X(str_qualname) /* "__qualname__" */                                                           \
    X(empty_tuple)                                                                                 \
    X(load_ref)       /* _native._ref_at */                                                        \
    X(load_actor)     /* _native._actor_at */                                                      \
    X(load_weak)      /* _native.actor_from_id */                                                  \
    X(serializers)    /* dict: class -> (serializer, deserializer) */                              \
    X(pickle_loads)   /* lazy: _pickle.loads */                                                    \
    X(fast_pickler)   /* lazy: ray._private.fastpickle.FastPickler */                              \
    X(dump_by_value)  /* lazy: ray._private.serialization.dump_by_value */                         \
    X(actor_instance) /* lazy: the actor that this process is */                                   \
    X(definitions)    /* worker: dict: hash -> function or class */                                \
    X(method_names)   /* worker: dict: hash -> str */                                              \
    X(environ)        /* lazy: os.environ */                                                       \
    X(call_coroutine_type)                                                                         \
    X(inbox_type)                                                                                  \
    X(stream_type)                                                                                 \
    X(generator_class)  /* lazy: ray._private.generators.ObjectRefGenerator */                     \
    X(task_variable)    /* lazy: context variable: the CallCoroutine that runs */                  \
    X(cancelled_error)  /* lazy: asyncio.CancelledError */                                         \
    X(get_running_loop) /* lazy: asyncio.get_running_loop */                                       \
    X(name_keyword)     /* ("name",) */                                                            \
    X(str_inbox)        /* "_ray_inbox" */                                                         \
    X(str_create_future)                                                                           \
    X(str_done)                                                                                    \
    X(str_set_result)                                                                              \
    X(str_set_exception)

enum { REF_FREE_MAX = 1024, DEFINITION_CACHE = 16 };

struct log_queue;
struct ready_queue;

/* The last definitions used, found without making a key object. */
struct definition_slot {
    uint8_t hash[20];
    PyObject *target; /* borrowed from state->definitions or method_names */
};

struct state {
#define STATE_MEMBER(name) PyObject *name;
    STATE_OBJECTS(STATE_MEMBER)
#undef STATE_MEMBER
    PyObject *module; /* borrowed */
    /* Number of the current session, 0 when there is none. Whatever was prepared for libray in
     * another session is prepared again. */
    uint32_t session;
    uint32_t sessions_started;
    int pid; /* that started the session: a child made by fork has none */
    struct log_queue *logs;
    struct ready_queue *ready;
    PyObject *ref_free[REF_FREE_MAX]; /* dead ObjectRefs, to be used again */
    size_t ref_free_count;
    /* Worker. */
    bool is_worker;
    int exit_code;
    bool in_event_loop;                /* an actor whose calls are coroutines */
    struct spare_inbox *spare_inboxes; /* of loops that are gone, with tokens still to come */
    struct definition_slot recent[DEFINITION_CACHE];
    char idle_title[128]; /* after "ray::" */
    bool follow_env;      /* libray may have set variables since the last task */
    char seen_cuda[256];  /* what os.environ has, so that it is written only when it changes */
    char seen_omp[32];
};

/* The state of the module that defines a type, also when `type` is a Python class derived from one.
 * NULL with an exception set when there is none. */
struct state *state_of_type(PyTypeObject *type);
static inline struct state *
state_of_module(PyObject *module)
{
    return (struct state *)PyModule_GetState(module);
}

/* ---- small things ---------------------------------------------------------------------------- */

static inline PyObject *
new_ref(PyObject *o)
{
    Py_INCREF(o);
    return o;
}

/* new. module.name, imported now. */
PyObject *import_name(const char *module, const char *name);
/* new. Calls module.name(args...) with borrowed arguments. */
PyObject *call_python(const char *module, const char *name, PyObject *const *args, size_t count);
/* Fills *slot with module.name the first time; 0 or -1. */
int import_once(PyObject **slot, const char *module, const char *name);
/* The text of a str, for C: it lasts as long as that. NULL with an exception set for anything else,
 * and for a text with a NUL in it, which would be cut there. */
const char *c_text(PyObject *o);

/* ---- errors (raise.c) ----------------------------------------------------------------------- */

/* Sets the Python exception for a status of libray, with the calling thread's error text. Gives
 * NULL. */
PyObject *raise_status(int status);
/* Sets the Python exception for a value that is an error. Gives NULL. */
PyObject *raise_failure(ray_value *value);
/* A ray_unhandled_fn. */
void unhandled_failure(void *ctx, const ray_value *failure, size_t dropped);

/* ---- signatures (signature.c) ---------------------------------------------------------------- */

/* ray._private.signature.Signature, unpacked. The object members are borrowed from `tuple`. */
struct signature {
    PyObject *tuple; /* strong; NULL: anything goes */
    PyObject *names;
    PyObject *keyword_only;
    Py_ssize_t count, positional_only, required;
    Py_ssize_t keyword_required;
    bool varargs, varkeywords;
};
int signature_set(struct signature *signature, PyObject *tuple);
/* Whether a call fits; when it doesn't, a TypeError is set. Arguments as in a vectorcall. */
bool signature_check(const struct signature *signature, PyObject *const *args, Py_ssize_t nargs,
                     PyObject *kwnames);

/* ---- serialisation (serialize.c, encode.c, pickle_bridge.c) ---------------------------------- */

enum value_format {
    FORMAT_RAW = 0,     /* bytes from C programs */
    FORMAT_COMPACT = 1, /* one value in tags, see encode.c */
    FORMAT_PICKLE = 2,  /* struct pickle_header, pickle, buffers */
    FORMAT_CALL = 3,    /* arguments of a call in tags */
    FORMAT_ERROR = 4,   /* a pickled RayTaskError */
};

/* Head of FORMAT_PICKLE, followed by `buffer_count` struct pickle_buffer, then by `slot_count`
 * uint32_t, then by the pickle, then by the buffers, each at an offset that is a multiple of 64. A
 * call pickles a list of values; slots are the places, among all arguments, of top-level
 * references, which are not in that list. */
struct pickle_header {
    uint32_t buffer_count;
    uint32_t is_call;
    uint32_t positional; /* arguments given by position */
    uint32_t keywords;
    uint32_t slot_count;
    uint32_t reserved;
    uint64_t pickle_size;
};
struct pickle_buffer {
    uint64_t offset; /* from the start of the value */
    uint64_t size;
};
_Static_assert(sizeof(struct pickle_header) == 32, "layout is shared between processes");
_Static_assert(sizeof(struct pickle_buffer) == 16, "layout is shared between processes");

enum { BUFFER_ALIGN = 64, SER_INLINE = 512, SER_REFS = 8, SER_PIECES = 4, SER_CONTAINERS = 32 };

/* A run of bytes that is not copied into the writer: `at` is the writer's size when it came. */
struct piece {
    size_t at;
    const void *data;
    size_t size;
};

/* One serialisation. Lives on the C stack: ser_init, one of the writers, ser_payload, the call of
 * libray, ser_fini. While it runs, the thread's pickling context points to it. */
struct ser {
    struct state *st;
    struct ser *outer; /* the context that this one hides */
    uint8_t *data;
    size_t size, capacity;
    ray_ref **refs; /* one count each */
    size_t ref_count, ref_capacity;
    struct piece *pieces;
    size_t piece_count, piece_capacity;
    PyObject *kept;   /* list: what pieces point into */
    Py_buffer *views; /* of pickled buffers */
    size_t view_count, view_capacity;
    uint8_t *head; /* of FORMAT_PICKLE */
    size_t head_size;
    struct ray_buf *bufs; /* the payload's pieces */
    enum value_format format;
    uint32_t positional, keywords;
    const uint32_t *slots;
    uint32_t slot_count;
    bool is_call;
    unsigned depth, items;
    unsigned container_count;
    const void *containers[SER_CONTAINERS];
    uint8_t inline_data[SER_INLINE];
    ray_ref *inline_refs[SER_REFS];
    struct piece inline_pieces[SER_PIECES];
    struct ray_buf inline_bufs[2 * SER_PIECES + 2];
};

void ser_init(struct ser *s, struct state *st);
void ser_fini(struct ser *s);
/* Forgets everything written, to start again. */
void ser_reset(struct ser *s);
/* All of these give 0, or -1 with an exception set. */
int ser_reserve(struct ser *s, size_t size);
int ser_write(struct ser *s, const void *data, size_t size);
int ser_add_piece(struct ser *s, const void *data, size_t size);
/* Adds a reference (taking a count of its own); *index is its number. */
int ser_add_ref(struct ser *s, ray_ref *ref, uint32_t *index);
/* Serialises one value, by the cheapest way that is right. */
int ser_value(struct ser *s, PyObject *value);
/* The result, valid until ser_fini. */
int ser_payload(struct ser *s, struct ray_payload *out);
size_t ser_total(const struct ser *s);

static inline int
ser_byte(struct ser *s, uint8_t byte)
{
    if (s->size == s->capacity && ser_reserve(s, 1)) {
        return -1;
    }
    s->data[s->size++] = byte;
    return 0;
}
int ser_varint(struct ser *s, uint64_t n);

/* Writes a value in tags: 1 done, 0 not a value for tags, -1 an exception. `top`: it stands alone,
 * so its size doesn't matter. */
int encode_value(struct ser *s, PyObject *o, bool top);

/* Pickles; 0 or -1. */
int pickle_value(struct ser *s, PyObject *o);
/* The thread's current serialisation, NULL outside of one. */
struct ser *pickle_context(void);

/* ---- reading (decode.c) ---------------------------------------------------------------------- */

/* new. The Python value of a finished, good ray_value. */
PyObject *decode_value(struct state *st, ray_value *value);

/* Arguments of a call, for a vectorcall. */
struct call_args {
    PyObject **items; /* items[0] is free for the callee; arguments start at items[1]; new */
    Py_ssize_t positional;
    PyObject *kwnames; /* new, or NULL */
    Py_ssize_t count;  /* positional and keyword ones */
    PyObject *inline_items[9];
};
/* Reads the arguments of a task: `task` argument 0 has the call, the others are references. -1 with
 * an exception set; then *failed_argument says whether it is that of an argument that is an error.
 */
int decode_call(struct state *st, ray_task *task, struct call_args *out, bool *failed_argument);
void call_args_fini(struct call_args *args);

/* ---- objects (object_ref.c, value_buffer.c) -------------------------------------------------- */

typedef struct {
    PyObject_HEAD ray_ref *ref; /* NULL for an id that stands for no object */
    PyObject *weakrefs;
    uint8_t *lone_id; /* RAY_OBJECT_ID_SIZE bytes when ref is NULL */
} ObjectRef;

/* new. Takes over one count of `ref`. */
PyObject *object_ref_new(struct state *st, ray_ref *ref);
/* Whether `o` is an ObjectRef. */
static inline bool
is_object_ref(const struct state *st, PyObject *o)
{
    return (PyObject *)Py_TYPE(o) == st->object_ref_type;
}
/* Borrowed; NULL with an exception set for an id that stands for no object. */
ray_ref *object_ref_get(PyObject *o);
const uint8_t *object_ref_id(PyObject *o);
void object_ref_clear_free_list(struct state *st);

/* new. A read-only buffer over part of a value, which it keeps alive. */
PyObject *value_buffer_new(struct state *st, ray_value *value, const void *data, size_t size);
/* Borrowed: the value behind a buffer made by value_buffer_new; NULL for anything else. */
ray_value *value_buffer_value(struct state *st, PyObject *o);

/* ---- functions and options (functions.c) ----------------------------------------------------- */

typedef struct {
    PyObject_HEAD ray_function *function;
} Function;

typedef struct {
    PyObject_HEAD ray_options *options;
} Options;

PyObject *native_export_definition(PyObject *module, PyObject *args);
PyObject *native_export_method(PyObject *module, PyObject *args);
PyObject *native_make_options(PyObject *module, PyObject *settings);

/* ---- calling (call_target.c, call.c, actor_handle.c) ----------------------------------------- */

enum { RETURNS_STREAM = -1 };

/* Base of RemoteFunction, ActorCreator and MethodSpec: a signature and what was prepared for it. */
typedef struct {
    PyObject_HEAD struct state *st;
    struct signature signature;
    PyObject *function;     /* Function, or NULL before the first call */
    PyObject *options;      /* Options */
    PyObject *meta;         /* actors: ActorMeta */
    PyObject *handle_class; /* actors: ActorHandle */
    int32_t num_returns;    /* RETURNS_STREAM: a generator's */
    uint32_t session;       /* that function and options belong to */
} CallTarget;

typedef struct {
    PyObject_HEAD struct state *st;
    ray_actor *actor;
    PyObject *meta; /* ActorMeta */
    uint32_t session;
} ActorHandle;

typedef struct {
    PyObject_HEAD struct state *st;
    PyObject *handle; /* weak reference to an ActorHandle */
    PyObject *spec;   /* MethodSpec */
} ActorMethod;

/* What a call is about to send. */
struct call_frame {
    struct ser ser;
    struct ray_arg *args;
    size_t arg_count;
    ray_ref *put; /* the arguments as an object, when they are large */
    uint32_t *slots;
    struct ray_arg inline_args[9];
    uint32_t inline_slots[8];
};
/* Serialises arguments for a call of `callee`, which is only used to name it in errors; 0 or -1. */
int call_frame_build(struct call_frame *frame, struct state *st, PyObject *callee,
                     PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
void call_frame_fini(struct call_frame *frame);
/* new. What `.remote` gives for `count` references, of which it takes over one count each. */
PyObject *call_result(struct state *st, ray_ref **refs, int32_t count);
/* Makes sure that the target is ready for the current session; 0 or -1. */
int call_target_ready(CallTarget *target);

/* new. A handle of class `handle_class`, taking over one count of `actor`. */
PyObject *actor_handle_new(struct state *st, PyObject *handle_class, ray_actor *actor,
                           PyObject *meta);
/* new. As actor_handle_new, of an actor that may have been found by its name: then its creator's
 * `meta` counts, else the one given (borrowed, may be NULL). */
PyObject *found_handle_new(struct state *st, ray_actor *actor, PyObject *meta);
/* Whether the handle is of the current session: 0, or -1 with ActorHandleNotFoundError. */
int handle_check_session(const ActorHandle *handle);
static inline bool
is_actor_handle(const struct state *st, PyObject *o)
{
    return PyObject_TypeCheck(o, (PyTypeObject *)st->actor_handle_type);
}

/* ---- module functions ------------------------------------------------------------------------ */

typedef PyObject *const *fast_args;

PyObject *native_get(PyObject *module, fast_args args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *native_put(PyObject *module, fast_args args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *native_wait(PyObject *module, fast_args args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *native_free(PyObject *module, PyObject *o);
PyObject *native_lose(PyObject *module, PyObject *o);
PyObject *native_decode(PyObject *module, PyObject *buffer);
PyObject *native_try_serialize(PyObject *module, PyObject *value);
PyObject *native_reduce_in_context(PyObject *module, PyObject *o);
PyObject *native_reduce_fast(PyObject *module, PyObject *o);
PyObject *native_ref_at(PyObject *module, PyObject *index);
PyObject *native_actor_at(PyObject *module, PyObject *args);
PyObject *native_ref_from_parts(PyObject *module, PyObject *args);
PyObject *native_actor_from_ref(PyObject *module, PyObject *args);
PyObject *native_set_serializer(PyObject *module, PyObject *args);
PyObject *native_init(PyObject *module, PyObject *settings);
PyObject *native_find_runtime(PyObject *module, PyObject *args);
PyObject *native_shutdown(PyObject *module, PyObject *unused);
PyObject *native_is_initialized(PyObject *module, PyObject *unused);
PyObject *native_session(PyObject *module, PyObject *unused);
PyObject *native_context(PyObject *module, PyObject *unused);
PyObject *native_state_json(PyObject *module, PyObject *what);
PyObject *native_kill_actor(PyObject *module, PyObject *args);
PyObject *native_cancel(PyObject *module, PyObject *args);
PyObject *native_on_interrupt(PyObject *module, PyObject *args);
PyObject *native_is_cancelled(PyObject *module, PyObject *unused);
PyObject *native_find_actor(PyObject *module, PyObject *args);
PyObject *native_actor_from_id(PyObject *module, PyObject *args);
PyObject *native_list_actor_names(PyObject *module, PyObject *space);
PyObject *native_current_actor(PyObject *module, PyObject *args);
PyObject *native_in_actor(PyObject *module, PyObject *unused);
PyObject *native_current_task(PyObject *module, PyObject *unused);
PyObject *native_take_logs(PyObject *module, PyObject *timeout_ms);
PyObject *native_on_ready(PyObject *module, PyObject *args);
PyObject *native_take_ready(PyObject *module, PyObject *unused);
PyObject *native_ready_future(PyObject *module, PyObject *ref);
PyObject *native_zygote_run(PyObject *module, PyObject *unused);
PyObject *native_worker_run(PyObject *module, PyObject *unused);

/* Specs of the types, one a file. */
extern PyType_Spec object_ref_spec;
extern PyType_Spec value_buffer_spec;
extern PyType_Spec sink_spec;
extern PyType_Spec function_spec;
extern PyType_Spec options_spec;
extern PyType_Spec call_target_spec;
extern PyType_Spec remote_function_spec;
extern PyType_Spec actor_creator_spec;
extern PyType_Spec method_spec_spec;
extern PyType_Spec actor_handle_spec;
extern PyType_Spec actor_method_spec;
extern PyType_Spec call_coroutine_spec;
extern PyType_Spec inbox_spec;
extern PyType_Spec stream_spec;

/* ---- executing (executor.c, coroutine.c) ----------------------------------------------------- */

/* What went wrong is told to the caller; from_argument when an argument was an error already. */
struct outcome {
    bool from_argument;
};
/* What is told of an exception. */
struct failure {
    int status;
    bool retry; /* the options' retry_exceptions cover it */
    const char *text;
    const struct ray_payload *payload; /* NULL: it could not be pickled */
};
/* Passes the exception that is set, and clears it, to `give`, whose status it gives. */
int executor_tell_failure(struct state *st, ray_task *task, const struct outcome *outcome,
                          int (*give)(ray_task *task, void *ctx, const struct failure *failure),
                          void *ctx);
/* Gives one return value; 0 or -1. */
int executor_return_one(struct state *st, ray_task *task, int32_t index, PyObject *value);
/* Turns the exception of a failed pickling into one that names the value. */
void executor_blame_return(ray_task *task, PyObject *value);
/* new. What the task's function returned. */
PyObject *executor_run(struct state *st, ray_task *task, struct outcome *outcome);
/* Gives the task's returns; 0 or -1. */
int executor_give_back(struct state *st, ray_task *task, PyObject *result,
                       const struct outcome *outcome);
/* Tells the caller of the exception that is set, and clears it; the status for libray. */
int executor_fail(struct state *st, ray_task *task, const struct outcome *outcome);
/* The task that the thread works on from now on; gives the one before. */
ray_task *executor_enter(ray_task *task);
/* Around code of the user's: until the second, the main thread's task may be interrupted. The first
 * gives 0, or -1 with KeyboardInterrupt set. */
int executor_interrupts_begin(ray_task *task);
void executor_interrupts_end(void);
/* Begins a call as an asyncio task of the thread's loop; the status for libray. */
int call_coroutine_start(struct state *st, ray_task *task);
/* new. As current_task, for an asyncio task that a call has made; None when there is none. */
PyObject *call_coroutine_of_context(struct state *st);
/* The id of that call, or NULL. */
const uint8_t *call_coroutine_id_of_context(struct state *st);
/* new. Whether that call was cancelled; False when there is none. */
PyObject *call_coroutine_is_cancelled(struct state *st);
/* Cancels the asyncio tasks of this loop's calls that libray says were cancelled. */
void call_coroutine_cancel_asked(void);
/* Whether this thread runs the loop of an actor: it should not block. */
bool call_coroutine_in_loop(void);
PyObject *native_loop_begin(PyObject *module, PyObject *function);

/* ---- generators (generator.c, yielding.c) ---------------------------------------------------- */

/* new. What a call of a streaming generator gives; takes over `stream`. */
PyObject *stream_new(struct state *st, ray_stream *stream);
static inline bool
is_stream(const struct state *st, PyObject *o)
{
    return PyObject_TypeCheck(o, (PyTypeObject *)st->stream_type);
}
/* One count of a reference that is ready when `next` of the stream is; NULL with an exception. */
ray_ref *stream_peek(PyObject *o);

enum yielded {
    YIELDED_ERROR = -1, /* with an exception */
    YIELDED = 0,
    YIELDED_FULL,   /* the reader is behind: wait before the next */
    YIELDED_UNREAD, /* nobody reads any more */
};
/* Sends one item of the task's. */
enum yielded yield_item(struct state *st, ray_task *task, PyObject *value);
/* Sends what a generator yields, then what the task returns; 0 or -1. */
int yield_all(struct state *st, ray_task *task, PyObject *generator, const struct outcome *outcome);
/* The return of a generator's task, after its items; 0 or -1. */
int yield_end(struct state *st, ray_task *task);
/* The generator raised. 0: that has been told as an item; -1: it is the task's failure. */
int yield_failed(struct state *st, ray_task *task, const struct outcome *outcome);
/* The returns of a task with a fixed number of them, from a generator; 0 or -1. */
int yield_returns(struct state *st, ray_task *task, PyObject *generator,
                  const struct outcome *outcome);

/* ---- event loops (loop.c) -------------------------------------------------------------------- */

struct spare_inbox;
/* new. An asyncio future of the running loop for the reference. */
PyObject *loop_future(struct state *st, PyObject *ref);
PyObject *native_loop_turn(PyObject *module, PyObject *args);
/* new. An asyncio future of the running loop for the time when the task's reader has caught up. */
PyObject *loop_room_future(struct state *st, ray_task *task);
enum { SIGNALS_MS = 100 }; /* the longest wait of a driver's; see wait_for_all */
/* Milliseconds of the monotonic clock. */
int64_t monotonic_ms(void);
/* new. The value of a reference that is ready. NULL without an error: it turns out to be lost, and
 * comes again, or becomes an error. */
PyObject *object_ready_value(struct state *st, ray_ref *ref);

/* ---- queues between libray's thread and Python's (queues.c) ---------------------------------- */

struct log_queue *log_queue_create(void);
void log_queue_open(struct log_queue *queue);
/* No more lines will come; whoever waits for some is told. */
void log_queue_close(struct log_queue *queue);
/* A ray_log_fn. Runs on libray's thread. */
void log_queue_push(void *queue, const char *name, int pid, bool is_stderr, const char *text,
                    size_t size);
struct ready_queue *ready_queue_create(void);

/* ---- process title (proctitle.c) ------------------------------------------------------------- */

/* Shows ray::`name` as this process's title; cheap when it is shown already. */
void process_title_set(const char *name);
/* Learns where the title lies, ahead of need: each reading of /proc costs a forked worker some. */
void process_title_find(void);

#endif
