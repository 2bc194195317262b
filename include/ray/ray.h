/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ray.h: tasks, actors and shared immutable objects from C.
 *
 * This is the only header that a C program, or a language face such as the Python extension, needs.
 *
 *     #include <ray/ray.h>
 *     #include <stdio.h>
 *     #include <string.h>
 *
 *     static int
 *     square(ray_task *task)
 *     {
 *         int64_t x = 0;
 *         ray_task_arg_copy(task, 0, &x, sizeof(x));
 *         x *= x;
 *         return ray_task_return_bytes(task, 0, &x, sizeof(x));
 *     }
 *     RAY_REMOTE(square);
 *
 *     int
 *     main(int argc, char **argv)
 *     {
 *         if (ray_init(argc, argv, NULL)) return 1;         // workers never come back from here
 *         int64_t x = 12;
 *         ray_ref *ref = NULL;
 *         ray_call_bytes(ray_remote_square, &x, sizeof(x), &ref);
 *         ray_value *value = NULL;
 *         if (ray_get(ref, -1, &value)) { fprintf(stderr, "%s\n", ray_error_text()); return 1; }
 *         memcpy(&x, ray_value_data(value), sizeof(x));     // 144
 *         ray_value_release(value);
 *         ray_ref_release(ref);
 *         return ray_shutdown();
 *     }
 *
 * Conventions
 *   - Every `int` result is a status: RAY_OK (0) or a negative RAY_E_ number. On failure
 *     ray_error_text() has a sentence for the calling thread, until its next failing call.
 *   - Outputs come last, are set to NULL or 0 on entry, and carry a value only on RAY_OK.
 *   - Handles are opaque and thread safe. `_release` gives up one count; NULL is allowed there.
 *   - Timeouts are in milliseconds, negative for none.
 *   - A wait that a signal interrupts returns RAY_E_INTERRUPTED; the caller deals with the signal
 *     and calls again with the time that is left. Where several threads wait, those that don't
 *     drive the connections return so every 100 ms, signal or not. ray_get_bytes waits on by
 * itself.
 *   - In a child made by fork in user code every call returns RAY_E_NOT_INITIALIZED.
 *   - Structs that callers fill begin with struct_size, so that they can grow: set it to sizeof.
 */
#ifndef RAY_RAY_H
#define RAY_RAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define RAY_API           __attribute__((visibility("default")))
#define RAY_VERSION_MAJOR 0
#define RAY_VERSION_MINOR 1
#define RAY_VERSION_PATCH 0

/* ---- status ---------------------------------------------------------------------------------- */

enum ray_status {
    RAY_OK = 0,
    RAY_E_INVALID_ARGUMENT = -1,
    RAY_E_WRONG_TYPE = -2,
    RAY_E_OUT_OF_MEMORY = -3,
    RAY_E_NOT_INITIALIZED = -4,
    RAY_E_ALREADY_INITIALIZED = -5,
    RAY_E_TIMED_OUT = -6,
    RAY_E_INTERRUPTED = -7,
    RAY_E_SYSTEM = -8,
    RAY_E_CONNECTION = -9,
    RAY_E_PROTOCOL = -10,
    RAY_E_NOT_FOUND = -11,
    RAY_E_EXISTS = -12,
    RAY_E_LIMIT = -13,
    RAY_E_CLOSED = -14,
    RAY_E_NOT_SUPPORTED = -15,
    RAY_E_WOULD_BLOCK = -16, /* not yet: wait again */
    RAY_E_END_OF_STREAM = -17,
    RAY_E_TASK_FAILED = -20, /* the function raised; the value carries the face's bytes */
    RAY_E_WORKER_CRASHED = -21,
    RAY_E_TASK_CANCELLED = -22,
    RAY_E_TASK_UNSCHEDULABLE = -23,
    RAY_E_PROCESS_CAP = -24,
    RAY_E_ACTOR_DIED = -30,
    RAY_E_ACTOR_UNAVAILABLE = -31,
    RAY_E_ACTOR_INIT_FAILED = -32,
    RAY_E_PENDING_CALLS_LIMIT = -33,
    RAY_E_OBJECT_LOST = -40,
    RAY_E_OWNER_DIED = -41,
    RAY_E_OBJECT_FREED = -42,
    RAY_E_OBJECT_GONE = -43,
    RAY_E_STORE_FULL = -44,
    RAY_E_OBJECT_UNRECONSTRUCTABLE = -46,
    RAY_E_OBJECT_MAX_ATTEMPTS = -47,
    RAY_E_OBJECT_LINEAGE_EVICTED = -48,
    RAY_E_RAYLET_DIED = -50,
    RAY_E_NODE_DIED = -51,
    RAY_E_GCS_UNAVAILABLE = -52,
    RAY_E_RUNTIME_ENV = -53,
};

/* The name of a status ("STORE_FULL"), its one-phrase text, and the name of the Python exception
 * class that stands for it. Static strings, never NULL. */
RAY_API const char *ray_status_name(int status);
RAY_API const char *ray_status_text(int status);
RAY_API const char *ray_status_python_class(int status);

/* The calling thread's last error: what happened, where, what to do. Static to the thread. */
RAY_API const char *ray_error_text(void);

/* ---- handles and plain data ------------------------------------------------------------------ */

typedef struct ray_ref ray_ref;           /* a reference to an object: one local count */
typedef struct ray_value ray_value;       /* bytes of a finished object, kept alive */
typedef struct ray_function ray_function; /* a registered function, class or method */
typedef struct ray_options ray_options;   /* checked, prepared options */
typedef struct ray_actor ray_actor;       /* a handle to an actor */
typedef struct ray_task ray_task;         /* the task that is being executed */
typedef struct ray_inbox ray_inbox;       /* ready references, for an event loop */
typedef struct ray_stream ray_stream;     /* what a streaming task yields, for its one reader */

enum {
    RAY_JOB_ID_SIZE = 4,
    RAY_ACTOR_ID_SIZE = 16,
    RAY_TASK_ID_SIZE = 24,
    RAY_OBJECT_ID_SIZE = 28,
    RAY_NODE_ID_SIZE = 28,
    RAY_WORKER_ID_SIZE = 28,
    RAY_INLINE_MAX = 100 * 1024, /* bytes; larger values live in the shared-memory store */
    RAY_NAME_MAX = 500,          /* bytes of an actor's name, or of a namespace */
};

/* A piece of memory that is only read during the call that gets it. */
struct ray_buf {
    const void *data;
    size_t size; /* bytes */
};

/* Bytes of a value about to be sent or stored. The pieces are laid one after another. `format`
 * belongs to the face: it comes back with the value. `refs` are the references whose numbers occur
 * inside the bytes; they are kept alive by the value. No memory named here is referenced after the
 * call that gets it. */
struct ray_payload {
    const struct ray_buf *bufs;
    size_t buf_count;
    ray_ref *const *refs;
    size_t ref_count;
    uint32_t format;
};

/* ---- starting and stopping ------------------------------------------------------------------- */

/* How long an actor lives: while its creator, its job and a handle do, or until it is killed. */
enum ray_lifetime {
    RAY_LIFETIME_OF_JOB = 0, /* as ray_init_options.default_lifetime says */
    RAY_LIFETIME_COUNTED = 1,
    RAY_LIFETIME_DETACHED = 2,
};

struct ray_resource {
    const char *name; /* "CPU", "GPU", "memory", or any other */
    double amount;    /* >= 0, in units of 0.0001 */
};

/* Lines that a worker printed. Called by one thread of the library, in order for each process. */
typedef void (*ray_log_fn)(void *ctx, const char *actor_or_task_name, int pid, bool is_stderr,
                           const char *text, size_t size);

struct ray_init_options {
    size_t struct_size;
    const char *address;       /* as for ray_find_runtime; NULL: start one when there is none */
    double num_cpus, num_gpus; /* negative: detect */
    const struct ray_resource *resources;
    size_t resource_count;
    uint64_t object_store_memory; /* bytes, 0: 30 % of memory */
    uint64_t memory;              /* bytes, 0: detect */
    const char *job_namespace;    /* NULL: an anonymous one */
    const char *temp_dir;         /* NULL: /tmp/ray, or one of the user's own */
    /* How workers of this job are made. argv of a zygote (which calls ray_zygote_run), NULL
     * terminated; NULL: this program's own binary is started again with its own arguments. */
    const char *const *zygote_argv;
    ray_log_fn on_log; /* NULL: lines go to this process's stdout and stderr */
    void *on_log_ctx;
    bool log_to_driver;
    /* Of actors that say nothing themselves; RAY_LIFETIME_OF_JOB is RAY_LIFETIME_COUNTED here. */
    enum ray_lifetime default_lifetime;
};

/* Fills in the defaults: everything detected, log_to_driver on. */
RAY_API void ray_init_options_default(struct ray_init_options *options);

/* Where ray_init would join a runtime: the first of `address`; RAY_ADDRESS, which also stands in
 * for "auto"; the one that `ray start` left in ray_current_cluster of `temp_dir` (NULL: RAY_TMPDIR,
 * then /tmp/ray). RAY_OK with "" in `out`: ray_init would start one of its own, since "local" says
 * so, or nothing was given and found. RAY_E_CONNECTION: "auto", and there is none. */
RAY_API int ray_find_runtime(const char *address, const char *temp_dir, char *out, size_t capacity);

/* Starts a runtime, or joins one, and makes this process a driver. In a process that the runtime
 * started as a worker of a C program it runs the worker and exits instead of returning: call it
 * first in main. argc and argv are kept for starting the binary again; options may be NULL. */
RAY_API int ray_init(int argc, char **argv, const struct ray_init_options *options);

/* Ends the driver's job and, if ray_init started it, the runtime. Values still held stay readable.
 * Does nothing when not initialized. */
RAY_API int ray_shutdown(void);
RAY_API bool ray_is_initialized(void);

struct ray_context {
    size_t struct_size;
    uint8_t job_id[RAY_JOB_ID_SIZE];
    uint8_t node_id[RAY_NODE_ID_SIZE];
    uint8_t worker_id[RAY_WORKER_ID_SIZE];
    uint8_t task_id[RAY_TASK_ID_SIZE];   /* the driver's own task in a driver */
    uint8_t actor_id[RAY_ACTOR_ID_SIZE]; /* nil (all ones) when in no actor */
    bool is_driver;
    uint32_t attempt;           /* 0 for the first try of the current task */
    uint64_t actor_incarnation; /* how often this actor was restarted before */
    char session_dir[256];
    char session_name[128];
    char gcs_address[64];
    char node_ip[64];
    char raylet_socket[128];
    char job_namespace[RAY_NAME_MAX + 1];
    char actor_name[RAY_NAME_MAX + 1]; /* "" for none */
};
/* Where the calling thread stands. */
RAY_API int ray_context_get(struct ray_context *out);

/* State of the cluster as JSON text, in the shapes of Ray's ray.nodes(), ray.cluster_resources(),
 * ray.available_resources(): what = "nodes", "cluster_resources", "available_resources", and
 * "assigned_resources", "accelerator_ids" for the current task. Free with ray_free. */
RAY_API int ray_state_json(const char *what, char **out);
RAY_API void ray_free(void *p);

/* ---- references and values ------------------------------------------------------------------- */

/* Stores a value owned by this process. `owner` NULL, or an actor that becomes the owner. */
RAY_API int ray_put(const struct ray_payload *payload, ray_actor *owner, ray_ref **out);

RAY_API ray_ref *ray_ref_retain(ray_ref *ref);
/* Lock free; may be called from anywhere, also within a garbage collection. */
RAY_API void ray_ref_release(ray_ref *ref);
RAY_API const uint8_t *ray_ref_id(const ray_ref *ref); /* RAY_OBJECT_ID_SIZE bytes */
/* The owner's address as bytes: worker id, node id, socket name. Returns the size used, or needed
 * when `capacity` is too small. */
RAY_API size_t ray_ref_owner_address(const ray_ref *ref, void *out, size_t capacity);
/* A reference from its id and owner address, for references that travelled outside of values. */
RAY_API int ray_ref_from_address(const uint8_t *id, const void *owner, size_t owner_size,
                                 ray_ref **out);
/* Keeps the object for the life of the job; for references serialised outside of values. */
RAY_API void ray_ref_pin_for_job(ray_ref *ref);

/* Whether the value is here and a ray_ref_value would succeed at once. */
RAY_API bool ray_ref_is_ready(ray_ref *ref);
/* The value of a ready reference, without waiting; RAY_E_TIMED_OUT when it isn't ready;
 * RAY_E_WOULD_BLOCK when it turns out to have been lost: then it isn't ready any more, and either
 * made again or an error soon. A value that is an error is a value like others: see
 * ray_value_status. */
RAY_API int ray_ref_value(ray_ref *ref, ray_value **out);

/* Waits until every reference is ready, or one of them is known to be an error: then *error_index
 * is its place (SIZE_MAX when none). */
RAY_API int ray_wait_all(ray_ref *const *refs, size_t count, int64_t timeout_ms,
                         size_t *error_index);
/* Waits until at least num_returns are ready or time is up, and marks at most num_returns of them,
 * lowest index first. fetch_local: ready means that the value is on this node. */
RAY_API int ray_wait(ray_ref *const *refs, size_t count, size_t num_returns, int64_t timeout_ms,
                     bool fetch_local, bool *ready);
/* Waits for one value. A value that is an error gives its status, and no value. */
RAY_API int ray_get(ray_ref *ref, int64_t timeout_ms, ray_value **out);

/* Drops the value now, for everybody: the references stay, and read RAY_E_OBJECT_FREED. */
RAY_API int ray_ref_free(ray_ref *ref);
/* For tests of recovery: the store loses the only copy of the value, as if the memory that had it
 * had gone, and nobody is told. The owner's, of a value that is in the store. */
RAY_API int ray_ref_lose(ray_ref *ref);

/* Calls fn(ctx, ref) once, when the reference is ready, from a thread of the library (not the
 * caller's, and never within this call). `cancel` true at shutdown. Must not wait. */
typedef void (*ray_ready_fn)(void *ctx, bool cancelled);
RAY_API int ray_ref_on_ready(ray_ref *ref, ray_ready_fn fn, void *ctx);

/* References that became ready, for one event loop, which is told without a thread in between. An
 * inbox takes a pointer of the caller's for each reference; pointers still to come when it is
 * given up are passed to nobody, but to who takes from the inbox meanwhile. */
RAY_API int ray_inbox_create(ray_inbox **out);
/* A descriptor that is readable while something may be in the inbox, made at the first call. */
RAY_API int ray_inbox_fd(ray_inbox *inbox);
/* `token` comes into the inbox once, when the reference is ready, or when it is known that it never
 * will be (shutdown). */
RAY_API int ray_ref_notify(ray_ref *ref, ray_inbox *inbox, void *token);
/* Takes what is there, the oldest first: the number of tokens, at most `capacity`. */
RAY_API size_t ray_inbox_take(ray_inbox *inbox, void **tokens, size_t capacity);
/* Whether tokens are there or to come: then the inbox should be kept for somebody to take them. */
RAY_API bool ray_inbox_is_awaited(ray_inbox *inbox);
RAY_API void ray_inbox_release(ray_inbox *inbox);

RAY_API ray_value *ray_value_retain(ray_value *value);
/* May be called from anywhere and after ray_shutdown. */
RAY_API void ray_value_release(ray_value *value);
RAY_API const void *ray_value_data(const ray_value *value); /* read only memory */
RAY_API size_t ray_value_size(const ray_value *value);
RAY_API uint32_t ray_value_format(const ray_value *value);
/* Whether the bytes lie in the shared store (then zero-copy use is worth it). */
RAY_API bool ray_value_is_shared(const ray_value *value);
/* References within the bytes, by their number. The result is one more count for the caller. */
RAY_API size_t ray_value_ref_count(const ray_value *value);
RAY_API int ray_value_ref(ray_value *value, size_t index, ray_ref **out);

/* RAY_OK for a proper value, else why there is none. */
RAY_API int ray_value_status(const ray_value *value);
/* What a failed value tells. Strings belong to the value, "" when unknown. */
struct ray_failure {
    size_t struct_size;
    int status;
    const char *text;     /* the whole story, several lines */
    const char *function; /* task or method */
    int pid;              /* the process where it happened, 0 unknown */
    const char *node_ip;
    uint8_t actor_id[RAY_ACTOR_ID_SIZE]; /* nil when no actor */
    uint8_t task_id[RAY_TASK_ID_SIZE];
    uint8_t object_id[RAY_OBJECT_ID_SIZE];
    const char *class_name; /* of the actor */
    bool actor_init_failed;
    bool never_started;
    const void *data; /* face bytes of the exception (RAY_E_TASK_FAILED); of an object without a
                       * value the address of its owner (ray_ref_owner_address); or NULL */
    size_t data_size;
    uint32_t format;
};
RAY_API int ray_value_failure(const ray_value *value, struct ray_failure *out);

/* What is told of a task's failure when the last reference to it goes before anybody in any process
 * has looked at it (got it, waited for it, or passed it to a task): of tasks and calls that failed
 * by themselves or with their worker, not of cancelled ones, nor of an actor's death. Called by one
 * thread of the library, at the owner; the failure is borrowed. `dropped`: so many came faster than
 * they could be told since the last. Set before ray_init; NULL: a line on stderr, unless the
 * environment has RAY_IGNORE_UNHANDLED_ERRORS. */
typedef void (*ray_unhandled_fn)(void *ctx, const ray_value *failure, size_t dropped);
RAY_API void ray_on_unhandled(ray_unhandled_fn fn, void *ctx);

/* ---- functions and options ------------------------------------------------------------------- */

/* What is registered: a function, a class (its constructor), or a method of one. */
enum ray_function_kind { RAY_FUNCTION = 0, RAY_CLASS = 1, RAY_METHOD = 2 };

/* A definition to register. Nothing named here is referenced after ray_function_create. */
struct ray_function_desc {
    size_t struct_size;
    enum ray_function_kind kind;
    const char *name; /* shown to people: "f", "Counter", "Counter.add" */
    uint8_t hash[20]; /* identifies the definition; equal hashes are equal definitions */
    struct ray_payload definition; /* what a worker of the face needs; empty for methods */
    const char *method;            /* RAY_METHOD: the method's name */
};
RAY_API int ray_function_create(const struct ray_function_desc *desc, ray_function **out);
RAY_API ray_function *ray_function_retain(ray_function *function);
RAY_API void ray_function_release(ray_function *function);

/* Calls of an actor that may run side by side: at most so many at once. */
struct ray_concurrency_group {
    const char *name; /* one line, not empty */
    int32_t max_concurrency;
};
/* max_concurrency of an actor with in_event_loop, when 0 is given. */
#define RAY_EVENT_LOOP_CONCURRENCY 1000

/* How a task gives what it yields (ray_task_yield). Its num_returns is 1: a reference that is ready
 * when the task has ended. */
enum ray_generator_kind {
    RAY_GENERATOR_NONE = 0,
    RAY_GENERATOR_STREAMING = 1, /* item by item, to a ray_stream */
    RAY_GENERATOR_DYNAMIC = 2,   /* at its end: the value that it returns refers to the items */
};

/* Whether a call of an actor may overtake earlier ones of its caller whose arguments are late. */
enum ray_call_order {
    RAY_CALL_ORDER_DEFAULT = 0, /* free if the actor runs several calls at once, else kept */
    RAY_CALL_ORDER_KEPT = 1,    /* refused with max_concurrency above 1 and with in_event_loop */
    RAY_CALL_ORDER_FREE = 2,
};

struct ray_task_options {
    size_t struct_size;
    int32_t num_returns;                  /* >= 0 */
    const struct ray_resource *resources; /* everything asked for, CPU too */
    size_t resource_count;
    int32_t max_retries;   /* after a worker's death; -1 for ever */
    bool retry_exceptions; /* also after RAY_E_TASK_FAILED that the executor allows */
    int32_t max_calls;     /* the worker leaves after so many; 0 never */
    const char *name;      /* shown instead of the function's; NULL */
    const struct ray_resource *placement_resources; /* needed to be placed, if more than held */
    size_t placement_resource_count;
    int32_t max_restarts;      /* of the actor, after its process's death; -1 for ever */
    int32_t max_task_retries;  /* of a call: after the process's death while it ran, and with
                                * retry_exceptions as for tasks; -1 for ever, 0 at most once */
    int64_t max_pending_calls; /* of one process that calls; beyond it
                                * RAY_E_PENDING_CALLS_LIMIT. -1, 0: no limit */
    int32_t max_concurrency;   /* calls that run at once, each on a thread; 1. 0: the default */
    /* Actors: a name, unique among the living actors of its namespace (NULL: the job's). */
    const char *actor_name, *actor_namespace;
    enum ray_lifetime lifetime;
    bool get_if_exists; /* when the name is taken ray_actor_create gives that actor instead */
    /* Opaque bytes of the face for whoever finds the actor by its name (ray_actor_face_info). */
    const void *face_info;
    size_t face_info_size;
    /* Opaque bytes of the face that the executor sees (ray_task_metadata): exception lists etc. */
    const void *metadata;
    size_t metadata_size;
    /* Actors: further groups, each with threads of its own. An actor with groups, with
     * max_concurrency above 1 or with in_event_loop starts calls in no certain order; groups alone
     * keep it with RAY_CALL_ORDER_KEPT. */
    const struct ray_concurrency_group *groups;
    size_t group_count;
    /* Actors: calls run in event loops of the face, one a group (ray_worker_options.serve);
     * max_concurrency 0 is RAY_EVENT_LOOP_CONCURRENCY then. */
    bool in_event_loop;
    /* Calls: the group; NULL or "": the one that max_concurrency is for. */
    const char *concurrency_group;
    enum ray_generator_kind generator;
    uint32_t generator_backpressure; /* at most so many items unread; 0: no limit */
    enum ray_call_order call_order;  /* of an actor */
};
RAY_API void ray_task_options_default(struct ray_task_options *options);
RAY_API int ray_options_create(const struct ray_task_options *options, ray_options **out);
RAY_API ray_options *ray_options_retain(ray_options *options);
RAY_API void ray_options_release(ray_options *options);
/* Whether ray_actor_create with them waits until the actor is stored: it has a name, or it outlives
 * this process (by the job's default, perhaps). */
RAY_API bool ray_options_wait(const ray_options *options);

/* One argument: a reference, whose value the task gets (and waits for), or bytes. */
struct ray_arg {
    ray_ref *ref; /* NULL: `value` */
    struct ray_payload value;
};

/* ---- tasks and actors ------------------------------------------------------------------------ */

/* Submits a task and returns at once. `refs` gets num_returns references. options may be NULL. */
RAY_API int ray_task_submit(ray_function *function, ray_options *options,
                            const struct ray_arg *args, size_t arg_count, ray_ref **refs);

/* The same for options with RAY_GENERATOR_STREAMING, which ray_task_submit and ray_actor_call don't
 * take: a stream of what the task yields. */
RAY_API int ray_stream_submit(ray_function *function, ray_options *options,
                              const struct ray_arg *args, size_t arg_count, ray_stream **out);
RAY_API int ray_stream_call(ray_actor *actor, ray_function *method, ray_options *options,
                            const struct ray_arg *args, size_t arg_count, ray_stream **out);

/* A stream has one reader, and its functions are called by one thread at a time. The next item's
 * reference; RAY_E_TIMED_OUT when it has not come yet, RAY_E_END_OF_STREAM when all are taken. The
 * failure of a task comes as the last item: a reference whose value is that failure. */
RAY_API int ray_stream_next(ray_stream *stream, int64_t timeout_ms, ray_ref **out);
/* A reference, one more count, that is ready as soon as ray_stream_next would not wait. */
RAY_API int ray_stream_peek(ray_stream *stream, ray_ref **out);
enum ray_stream_state {
    RAY_STREAM_PENDING = 0, /* ray_stream_next would wait */
    RAY_STREAM_READY = 1,   /* it gives an item at once */
    RAY_STREAM_OVER = 2,    /* there are no more */
};
RAY_API enum ray_stream_state ray_stream_look(ray_stream *stream);
/* The reference that is ready when the task has ended; borrowed. */
RAY_API ray_ref *ray_stream_completed(ray_stream *stream);
/* The reader goes: items that were not taken are freed, and the task is ended at its next item,
 * unless somebody else holds the reference of its end. */
RAY_API void ray_stream_release(ray_stream *stream);

/* options may be NULL: an actor that holds no resources. With a name it returns when the name is
 * taken for good: it survives the control service. RAY_E_EXISTS: a living actor has it. */
RAY_API int ray_actor_create(ray_function *class_function, ray_options *options,
                             const struct ray_arg *args, size_t arg_count, ray_actor **out);
RAY_API int ray_actor_call(ray_actor *actor, ray_function *method, ray_options *options,
                           const struct ray_arg *args, size_t arg_count, ray_ref **refs);
RAY_API ray_actor *ray_actor_retain(ray_actor *actor);
/* When the last counted handle anywhere goes, the actor ends after its queued calls. */
RAY_API void ray_actor_release(ray_actor *actor);
RAY_API const uint8_t *ray_actor_id(const ray_actor *actor); /* RAY_ACTOR_ID_SIZE bytes */
/* The handle as a reference that can go into a payload; one more count for the caller. */
RAY_API int ray_actor_ref(ray_actor *actor, ray_ref **out);
/* The handle behind such a reference. */
RAY_API int ray_actor_from_ref(ray_ref *ref, ray_actor **out);
/* The living actor of that name (namespace NULL: the job's), by a weak handle: one that doesn't
 * keep its actor alive. RAY_E_NOT_FOUND: there is none. Weak handles have no ray_actor_ref; their
 * id travels instead. */
RAY_API int ray_actor_find(const char *name, const char *actor_namespace, ray_actor **out);
/* A weak handle to the actor of that id; whether there is one shows when it is called. */
RAY_API int ray_actor_from_id(const uint8_t *id, ray_actor **out);
/* Whether passing the handle on with ray_actor_ref keeps the actor alive. No: a weak handle, or one
 * of a detached actor, which should be passed on as an id, so that nothing depends on its maker. */
RAY_API bool ray_actor_is_counted(const ray_actor *actor);
/* The bytes given as face_info, of an actor that was found by its name (also by get_if_exists);
 * NULL for others. Valid as long as the handle. */
RAY_API const void *ray_actor_face_info(const ray_actor *actor, size_t *size);
/* One living actor that has a name. */
struct ray_actor_name {
    const char *name, *actor_namespace;
};
/* The names taken in a namespace (NULL: the job's; "": in all). Free the list with ray_free. */
RAY_API int ray_actor_list_names(const char *actor_namespace, struct ray_actor_name **out,
                                 size_t *count);
/* The actor that this process is; a handle that doesn't keep it alive. RAY_E_NOT_FOUND elsewhere.
 */
RAY_API int ray_actor_current(ray_actor **out);
RAY_API int ray_actor_kill(ray_actor *actor, bool no_restart);
/*
 * Cancels the task whose return `ref` is; its other returns go the same way. Best effort: what has
 * ended stays as it is, and how the task did end is what ray_get of its returns tells. RAY_OK also
 * when there is nothing to cancel (a put, a task that has ended, an owner that is dead).
 *
 *   not begun    it never runs, and its returns are RAY_E_TASK_CANCELLED
 *   running      a task: its wait in this library ends with RAY_E_INTERRUPTED, and its face raises
 *                the language's interrupt in it (Python: KeyboardInterrupt); a C function asks
 *                ray_task_is_cancelled. A call of an actor: in an event loop it is cancelled there;
 *                any other isn't interrupted, but ray_task_is_cancelled tells
 *   `force`      the process that runs the task is ended, and the returns are
 *                RAY_E_WORKER_CRASHED. RAY_E_INVALID_ARGUMENT for calls of actors
 *   `recursive`  also what the running task has submitted and is not answered, and so on
 *
 * It isn't tried again whatever retries it has left. A borrowed reference: its owner is asked, and
 * the call returns before that has acted.
 */
RAY_API int ray_cancel(ray_ref *ref, bool force, bool recursive);

/* ---- executing ------------------------------------------------------------------------------- */

/* Runs one task: reads its arguments, gives its returns. RAY_OK or a status. */
typedef int (*ray_execute_fn)(void *ctx, ray_task *task);

/* How a face executes. The functions are called on the thread of ray_worker_run, and for actors
 * with concurrency also on threads of the library's own, several at once. */
struct ray_worker_options {
    size_t struct_size;
    ray_execute_fn execute; /* runs the task and gives its returns; RAY_OK or a status */
    void *ctx;
    /* The thread waits in the library between tasks; called around every such wait. NULL: nothing
     * is to be done. */
    void (*before_wait)(void *ctx);
    void (*after_wait)(void *ctx);
    /* A thread of the library's begins to execute, before anything else. It never ends. NULL. */
    void (*thread_begin)(void *ctx);
    /* Runs the event loop of one group of an actor made with in_event_loop, until ray_worker_turn
     * says RAY_E_CLOSED: on the main thread for the group "", once the constructor is through, and
     * on a thread of its own for each other group, at its first call. */
    void (*serve)(void *ctx, const char *group);
    /* The task that `execute` works on, on the thread of ray_worker_run, was cancelled: makes that
     * thread ask ray_task_take_interrupt, say by a signal. It says "look", not what to stop: it may
     * come to the thread when the task has ended. Called on any thread, with the library's lock
     * held: must not wait, nor call the library. NULL: tasks are not interrupted. */
    void (*interrupt)(void *ctx);
};
/* Turns a process that the runtime started into a worker and serves until told to leave. Returns
 * the process's exit code. */
RAY_API int ray_worker_run(const struct ray_worker_options *options);
/* A turn of an event loop, in `serve`: passes calls that may begin to `execute`, which returns when
 * the call has begun, having said ray_task_defer. When none may, waits until one does, something is
 * in `inbox` (may be NULL), `fd` (-1: none) became readable since the last turn, `timeout_ns`
 * (negative: none) is over, or a signal came. RAY_OK; RAY_E_CLOSED: the process is to leave. Called
 * outside of `serve`, it waits only. *readable: `fd` did. */
RAY_API int ray_worker_turn(ray_inbox *inbox, int fd, int64_t timeout_ns, bool *readable);
/* Within `execute`: the end of that callback is not the end of the task. */
RAY_API int ray_task_defer(ray_task *task);
/* Ends a deferred task, once, from any thread, after its returns or failure were given; `status` as
 * what `execute` returns. The task is gone after it. */
RAY_API int ray_task_finish(ray_task *task, int status);
/* Makes a deferred task the one that the calling thread works on (NULL: none), and gives the one
 * that was: what the thread submits is the task's child, and ray_context_get tells of it. */
RAY_API ray_task *ray_task_enter(ray_task *task);
/* Whether ray_cancel was asked of the task, also by a parent's; it never goes back. From any
 * thread, until the task ends. */
RAY_API bool ray_task_is_cancelled(const ray_task *task);
/* The same, but true only once for each ray_cancel: whoever gets it interrupts the task. */
RAY_API bool ray_task_take_interrupt(ray_task *task);
/* In `serve`, after a turn: a call that has begun in this thread's loop and was cancelled, each
 * once for every ray_cancel; NULL: no more. */
RAY_API ray_task *ray_worker_next_cancelled(void);
/* A pointer that the face keeps with a task. */
RAY_API void ray_task_set_user(ray_task *task, void *user);
RAY_API void *ray_task_user(const ray_task *task);
/* In the current process: leave after the current task (ray.actor.exit_actor). */
RAY_API int ray_worker_exit_soon(void);

enum ray_task_kind { RAY_TASK_NORMAL = 0, RAY_TASK_ACTOR_CREATION = 1, RAY_TASK_ACTOR_METHOD = 2 };
RAY_API enum ray_task_kind ray_task_get_kind(const ray_task *task);
RAY_API const uint8_t *ray_task_id(const ray_task *task); /* RAY_TASK_ID_SIZE bytes */
RAY_API const char *ray_task_name(const ray_task *task);  /* options' name or function's */
RAY_API const char *ray_task_function_name(const ray_task *task);
RAY_API const char *ray_task_method(const ray_task *task);           /* "" unless a method */
RAY_API const uint8_t *ray_task_function_hash(const ray_task *task); /* 20 bytes */
RAY_API ray_value *ray_task_definition(ray_task *task); /* borrowed; NULL for methods */
RAY_API const void *ray_task_metadata(const ray_task *task, size_t *size);
RAY_API int32_t ray_task_num_returns(const ray_task *task);
RAY_API uint32_t ray_task_attempt(const ray_task *task);
/* Whether the task would be run again if it failed, and its options covered the failure. */
RAY_API bool ray_task_may_retry(const ray_task *task);
/* Of an actor's creation: it was made with in_event_loop. */
RAY_API bool ray_task_in_event_loop(const ray_task *task);
RAY_API size_t ray_task_arg_count(const ray_task *task);
/* Borrowed until the task ends; retain it to keep it longer. An argument that is a failure is a
 * value with a status. */
RAY_API ray_value *ray_task_arg(ray_task *task, size_t index);
/* Copies up to `size` bytes of an argument; the number copied, or a status. */
RAY_API int64_t ray_task_arg_copy(ray_task *task, size_t index, void *out, size_t size);
/* Gives return value `index`; each exactly once. */
RAY_API int ray_task_return(ray_task *task, int32_t index, const struct ray_payload *payload);
RAY_API int ray_task_return_bytes(ray_task *task, int32_t index, const void *data, size_t size);
/* Fails the whole task (all returns): RAY_E_TASK_FAILED with the face's bytes and a text. `retry`:
 * the options' retry_exceptions cover this failure; or, with RAY_E_WORKER_CRASHED from a task that
 * ends its process (ray_worker_exit_soon), it is tried again as after a crash. */
RAY_API int ray_task_fail(ray_task *task, int status, bool retry, const char *text,
                          const struct ray_payload *payload);

/* The same for return value `index` alone. */
RAY_API int ray_task_return_failure(ray_task *task, int32_t index, int status, const char *text,
                                    const struct ray_payload *payload);

/* What a task made with ray_task_options.generator does with each item. RAY_E_CLOSED: nobody will
 * read it, nor any later one: the task should end. *full: the reader is behind by the limit, and
 * ray_task_yield_wait comes before the next item is begun. */
RAY_API enum ray_generator_kind ray_task_generator(const ray_task *task);
RAY_API int ray_task_yield(ray_task *task, const struct ray_payload *payload, bool *full);
/* A failure as an item. */
RAY_API int ray_task_yield_failure(ray_task *task, int status, const char *text,
                                   const struct ray_payload *payload);
/* Waits until the reader has caught up, or is gone. */
RAY_API int ray_task_yield_wait(ray_task *task);
/* The same for an event loop: `token` comes into the inbox, once. */
RAY_API int ray_task_yield_notify(ray_task *task, ray_inbox *inbox, void *token);
/* Items that were yielded so far, and a reference to one of them, for the value that a task with
 * RAY_GENERATOR_DYNAMIC returns. */
RAY_API uint32_t ray_task_yielded(const ray_task *task);
RAY_API int ray_task_yielded_ref(ray_task *task, uint32_t index, ray_ref **out);

/* ---- zygotes --------------------------------------------------------------------------------- */

/* Serves fork requests on the descriptor that the raylet gave (environment RAY_ZYGOTE_FD), single
 * threaded. Returns 1 in a forked worker (which then calls ray_worker_run), 0 when the raylet has
 * gone, or a status. */
RAY_API int ray_zygote_run(void);

/* ---- C functions as tasks -------------------------------------------------------------------- */

/* What RAY_REMOTE makes of a C function. The registration is static and kept by the library. */
typedef int (*ray_c_function)(ray_task *task);
struct ray_c_registration {
    const char *name;
    ray_c_function function;
    ray_function **handle;
    struct ray_c_registration *next;
};
RAY_API void ray_register_c_function(struct ray_c_registration *registration);

/* Registers `int function(ray_task *)` before main and declares ray_remote_<function>. */
#define RAY_REMOTE(function)                                                                       \
    static ray_function *ray_remote_##function;                                                    \
    __attribute__((constructor)) static void ray_register_##function(void)                         \
    {                                                                                              \
        static struct ray_c_registration registration = { #function, function,                     \
                                                          &ray_remote_##function, NULL };          \
        ray_register_c_function(&registration);                                                    \
    }                                                                                              \
    struct ray_semicolon_##function

/* Actors in C: the constructor is a function whose state is set with ray_task_set_state; methods
 * are functions too and find it with ray_task_state. Create with ray_actor_create(ray_remote_ctor)
 * and call with ray_actor_call(actor, ray_remote_method). */
RAY_API void ray_task_set_state(ray_task *task, void *state);
RAY_API void *ray_task_state(ray_task *task);

/* Submits with one argument of bytes and default options. */
RAY_API int ray_call_bytes(ray_function *function, const void *data, size_t size, ray_ref **out);
/* The same for a method of an actor. */
RAY_API int ray_actor_call_bytes(ray_actor *actor, ray_function *method, const void *data,
                                 size_t size, ray_ref **out);
/* ray_get, and copies up to `size` bytes of the value. Waits on when a signal interrupts. */
RAY_API int ray_get_bytes(ray_ref *ref, int64_t timeout_ms, void *out, size_t size);

#ifdef __cplusplus
}
#endif

#endif
