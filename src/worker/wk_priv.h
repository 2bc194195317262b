/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The core worker: what driver and worker processes run inside libray. Private to src/worker.
 *
 * One engine a process. Everything in it is guarded by `lock`, but for what says otherwise; the
 * lock is never held while waiting. Threads: any number of the program's (they submit, wait, and
 * lead the engine while they wait), the main thread of a worker (it executes), and one background
 * thread (it leads when nobody waits). docs/ARCHITECTURE.md tells the life of a task through these
 * files:
 *
 *   wk_start_io.c   the engine's start and stop      wk_engine_io.c   lock, leader, waiting
 *   wk_outs.c       releases, outs of `own`          wk_boot_io.c     init, shutdown
 *   wk_node_io.c    talk with the raylet             wk_gcs_io.c      talk with ray-gcs
 *   wk_peer_io.c    peers and their connections      wk_link_io.c     frames, rings
 *   wk_own_io.c     messages of ownership            wk_func.c        functions, options
 *   wk_submit.c     tasks: submission, pushing       wk_reply.c       replies, retries, deaths
 *   wk_grant.c      leases: requests, grants         wk_task.c        a task's arguments, returns
 *   wk_actor.c      actors' records and handles      wk_actor_create.c  their creation
 *   wk_actor_call.c calls of actors                  wk_actor_state.c what becomes of them
 *   wk_caller.c     decides about those calls        wk_lease.c       decides about leases
 *   wk_template.c   templates from peers             wk_exec.c        receiving pushes
 *   wk_run.c        running and replying             wk_exec_face.c   a task, as the face sees it
 *   wk_group.c      several calls at once            wk_turn_io.c     event loops' turns
 *   wk_cancel.c     cancelling tasks
 *   wk_put.c        the store, put                   wk_object.c      references, get, wait
 *   wk_inbox_io.c   references for event loops       wk_lineage.c     results made again
 *   wk_generator.c  streams of their reader's        wk_yield.c       generators that run
 *
 * Tasks have a header in their owner (wk_task.h) and one where they run (wk_exec.h); actors have
 * wk_actor.h, generators wk_stream.h (pure).
 */
#ifndef RAY_WORKER_WK_PRIV_H
#define RAY_WORKER_WK_PRIV_H

#include <pthread.h>

#include "base/id.h"
#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/pages.h"
#include "base/res.h"
#include "base/status.h"
#include "base/step.h"
#include "base/str.h"
#include "net/net_accept.h"
#include "net/net_bell.h"
#include "net/net_conn.h"
#include "net/net_loop.h"
#include "net/net_ring.h"
#include "net/net_window.h"
#include "os/os_basic.h"
#include "own/own.h"
#include "proto/kinds.h"
#include "proto/node.pb-c.h"
#include "proto/peer.h"
#include "ray/ray.h"
#include "sched/sched_key.h"
#include "store/storec.h"
#include "worker/wk_lease.h"
#include "worker/wk_value.h"

enum {
    WK_RING_BYTES = 256 * 1024, /* data of one ring */
    WK_RINGS_MAX = 128,         /* pairs; 64 MiB in all */
    WK_HOT_FRAMES = 64,         /* within WK_HOT_NS: the connection gets rings */
    WK_WINDOW_WORDS = 512,      /* tasks, or calls in order, in flight on one connection */
    WK_CALLS_WORDS = NET_WINDOW_WORDS_MAX, /* the same for calls that overtake one another */
    WK_BELL_BYTES = WK_RING_BYTES / 8,     /* unread ones that wake a LAZY or DOZING receiver */
    WK_DOZE_PUSHED = 16,                   /* tasks in flight with which a waiting owner dozes */
    WK_OUTS = 24,
};
/* The request id of regions asked for ahead of need: no one waits for the answer. */
#define WK_REQUEST_AHEAD UINT64_MAX
/* How long the word of a death is waited for after a connection ended. */
#define WK_REPAIR_NS  UINT64_C(2000000000)
#define WK_HOT_NS     UINT64_C(100000000)
#define WK_SPIN_NS    UINT64_C(50000)
#define WK_BLOCKED_NS UINT64_C(1000000)
/* The guard tells how the raylet ended, a moment after its socket did: that is waited for. */
#define WK_EVIDENCE_NS UINT64_C(700000000)
#define WK_TICK_NS     UINT64_C(1000000)
/* The reply of a task that ran longer is told at once to an owner that dozes. */
#define WK_PROMPT_NS UINT64_C(20000)
/* And if it ran longer than this, and nothing more is queued, also to one that rests lazily. */
#define WK_LONG_NS UINT64_C(100000)

struct wk_engine;
struct wk_task;
struct wk_exec;
struct wk_actor;
struct wk_peer_template;
struct wk_groups;
struct ray_stream;

/* ---- functions and options (wk_func.c) ---- */

struct ray_function {
    struct atom_u32 refs;
    enum ray_function_kind kind;
    uint8_t hash[20];
    char *name, *method;          /* own memory; method "" unless a method */
    struct ray_value *definition; /* NULL: none */
    struct own_ref **captured;    /* references inside the definition, pinned for the job */
    uint32_t captured_count;
    struct wk_template *templates; /* of this function, most recently used first */
    struct wk_lease_fn lease_fn;
    uint64_t session; /* of the engine that `captured` and templates belong to */
};

struct ray_options {
    struct atom_u32 refs;
    struct map_link link; /* table of equal options */
    struct str canonical; /* what makes options equal */
    int32_t num_returns, max_retries, max_calls, max_concurrency;
    int32_t max_restarts, max_task_retries;
    int64_t max_pending_calls;
    bool retry_exceptions, get_if_exists;
    enum ray_lifetime lifetime;
    bool event_loop, unordered; /* of an actor: its calls overtake one another */
    enum ray_generator_kind generator;
    uint32_t backpressure;
    char *groups;                              /* own memory; as in struct peer_template */
    char *name, *actor_name, *actor_namespace; /* own memory, "" when none */
    uint8_t *metadata, *face_info;
    size_t metadata_size, face_info_size;
    struct wk_resource *resources; /* as given: names are interned anew in each session */
    uint32_t resource_count;
    struct wk_resource *placement;
    uint32_t placement_count;
    uint64_t session; /* for which `key` holds */
    struct wk_key *key;
    struct ray_options *unnamed; /* of a named actor: what all alike have in common; or NULL */
};
struct wk_resource {
    char name[RES_NAME_MAX];
    struct res_amount amount;
};

/* A function with its options, as peers learn it: one TEMPLATE frame. */
struct wk_template {
    uint32_t number;
    struct wk_template *next;      /* same function */
    struct ray_function *function; /* not counted: templates belong to their function */
    struct ray_options *options;   /* counted */
    bool alone;                    /* pushed with nothing before or behind it */
    struct str frame;              /* body of the TEMPLATE frame */
};

/* A lease with the peer it is on; wk_lease.user points here. */
struct wk_lease_ref {
    struct list link;
    uint64_t id;
    struct wk_lease *lease;
    struct wk_peer *peer;
};

/* A scheduling key's queue. */
struct wk_key {
    uint32_t number; /* in engine.keys */
    struct wk_lease_key *lease_key;
    struct list ready;      /* wk_task.link: arguments are here, waits for a lease */
    struct list dirty_link; /* engine.dirty_keys */
    uint32_t ready_count;
    bool warned;
};

/* ---- peers (wk_peer_io.c) ---- */

/* One connection. Tasks go from the connecting side to the accepting side. */
struct wk_link {
    struct wk_peer *peer;
    struct net_conn *conn;
    bool outgoing;  /* this process connected */
    bool rings;     /* sending goes through tx */
    bool receiving; /* rx may be read */
    bool offered;
    bool via_socket;  /* rx waits for a frame of the socket */
    struct list held; /* frames of the socket whose word in the ring isn't read yet */
    size_t held_bytes;
    uint64_t number;                /* the connecting side's; see struct peer_hello */
    bool greeted;                   /* outgoing: it has had a socket */
    bool asking;                    /* outgoing: RESUMED is awaited on the present socket */
    bool broken;                    /* for good: nothing more can be sent */
    struct net_timer repair_timer;  /* armed when it broke: its peer may be alive */
    struct net_timer connect_timer; /* armed until the next try to connect */
    uint64_t connect_pause_ns, resumed_ns;
    bool deaf;           /* it sent nonsense: nothing more is read */
    uint32_t ring_index; /* my number at which the peer marks, when offered */
    struct net_ring_tx tx;
    struct net_ring_rx rx;
    void *ring_memory;
    size_t ring_bytes; /* of the mapping */
    void *peer_bell;   /* its page */
    struct net_bell_tx bell;
    size_t peer_bell_bytes;
    struct str overflow; /* frames that wait for room in tx */
    size_t overflow_start;
    uint64_t hot_since_ns;
    uint32_t hot_frames;
    /* Pushing side. */
    void *window_memory;
    size_t window_bytes;
    struct net_window_owner *window;
    struct wk_task **inflight; /* by window word */
    uint32_t inflight_count;
    uint8_t *template_sent; /* by template number */
    uint32_t template_capacity;
    /* Executing side. */
    struct net_window_worker worker_window;
    struct pages templates; /* wk_peer_template by number: a few of those that their owner has */
};

/* Another process. */
struct wk_peer {
    struct map_link link; /* engine.peers, by worker id */
    struct list gone;     /* engine.gone_peers, once it is dead and `own` has forgotten it */
    struct own_addr addr;
    uint32_t proc; /* own's number */
    bool dead;     /* declared, or not reachable */
    bool watched;
    bool announced; /* the raylet has declared the death */
    bool starved;   /* that there is no descriptor for a connection with it was told */
    int32_t pid;
    char socket[32]; /* name in the socket directory; "" = derived from the id */
    struct wk_link *out, *in;
    uint64_t last_out, last_in; /* numbers of the newest links, also of those that are gone */
    struct wk_actor *actor;     /* the actor that runs there, or NULL */
    char *evidence;             /* own memory, once dead */
};

/* ---- the engine ---- */

struct wk_engine {
    pthread_mutex_t lock;
    pthread_cond_t changed; /* something became ready, or the lead is free */
    uint32_t waiters;       /* threads in `changed` */
    uint64_t change_count;
    uint64_t error_count; /* values that turned out to be errors */
    uint64_t session;     /* grows with every init */
    uint64_t now_ns;      /* see wk_now; whoever gives the lock up clears it */
    bool running;         /* the engine turns */
    bool ready;           /* between init and shutdown: calls are served */
    bool is_driver;
    bool raylet_dead;
    bool ending;  /* ray_shutdown waits, also past the raylet's end */
    bool leaving; /* worker: exits after the current task */
    bool leave_now;
    bool work_over; /* worker: it leaves, and only waits until nobody needs what it owns */
    bool forked;    /* a child of the user's fork: everything is inert */

    const struct mem *mem;
    struct net_loop *loop;
    struct net_bell bell;
    void *bell_memory;
    int bell_fd;
    int kick_fd; /* eventfd: wakes the background thread */
    struct net_watch kick_watch;
    struct net_accept accept;
    int listener;
    pthread_t background;
    bool background_running, background_stop, background_ended;
    uint32_t inside;             /* the program's threads that gave the lock up within a call */
    struct atom_u32 ticking;     /* the background thread wakes every WK_TICK_NS */
    struct atom_u32 next_thread; /* numbers for leaders */
    struct atom_ptr releases;    /* lock-free list of struct wk_release */
    bool spin_allowed;
    uint64_t spin_off_until_ns;

    struct id_job job;
    struct own_addr self;
    char session_dir[256], session_name[128], socket_dir[128], node_ip[64], gcs_socket[64];
    char job_namespace[RAY_NAME_MAX + 1], raylet_socket[128];
    bool detached_by_default; /* the job's actors */
    char socket_name[32], socket_alias[32];
    uint32_t num_cpus;

    struct own own;
    struct arena out_arena;
    uint32_t out_depth;
    struct net_timer own_timer, lease_timer, evidence_timer, free_timer, stream_timer, push_timer,
        room_timer;
    struct list tells; /* ray_stream.tell_link: of those that wait for stream_timer */
    struct storec *store;
    struct str frees; /* struct store_ref[] for the raylet */

    struct res_names names;
    struct sched_keys keys;
    struct wk_key **wkeys; /* by key number */
    uint32_t wkey_count;
    struct wk_leases leases;
    struct list dirty_keys, dirty_actors;
    struct list lease_refs; /* wk_lease_ref */
    uint32_t template_count;
    struct slab task_slab;
    bool lineage_due;        /* wk_lineage_work has something to do */
    uint64_t tasks_pending;  /* submitted, not answered */
    uint32_t tasks_pushed;   /* in windows */
    struct id_source source; /* the driver's, or a worker's threads outside of tasks */
    struct map actors;       /* wk_actor by id */

    struct net_conn *raylet;
    struct net_conn *gcs;
    struct net_timer gcs_timer;
    struct list asks; /* struct wk_ask: requests to the raylet or gcs in flight */
    uint64_t next_request;

    struct map peers;
    struct list gone_peers;
    struct pages peer_by_proc; /* of struct wk_peer */
    struct wk_link *rings[WK_RINGS_MAX];
    uint32_t last_ring; /* read last: most likely the one that is written next */
    struct str scratch;

    /* Executing. */
    struct list exec_queue;
    uint32_t exec_count;
    struct {
        uint32_t count_limit;        /* the queues are swept when they are longer, or */
        uint64_t bytes, bytes_limit; /* when more came since they were */
    } swept;
    struct wk_exec *current;  /* of the main thread, unless there are groups */
    struct wk_groups *groups; /* of an actor with concurrency, once it is constructed */
    struct wk_groups *groups_to_be;
    struct list begun; /* wk_exec.link: calls in groups that have begun */
    uint32_t begun_count;
    const struct ray_worker_options *worker_options; /* once ray_worker_run runs */
    uint32_t foreign_awaits; /* tokens to come into inboxes of loops that wait elsewhere */
    struct store_ctl_process *page;
    const struct store_ctl_raylet *raylet_page;
    struct {
        bool (*done)(void *ctx); /* NULL: it doesn't wait */
        void *ctx;
    } task_wait;                   /* of `current` in wk_wait */
    bool blocked;                  /* told the raylet */
    bool told_owning;              /* the same */
    bool doomed;                   /* `current` was cancelled by force: the process ends */
    bool bouncing;                 /* a blocked task runs: unstarted ones are sent back */
    void *actor_state;             /* C actors */
    struct id_actor self_actor_id; /* nil when it is none */
    uint64_t self_actor_incarnation;
    struct own_addr self_actor_owner;
    char self_actor_class[128];
    char self_actor_name[RAY_NAME_MAX + 1];
    bool self_actor_detached;
    char *self_actor_resources; /* JSON, own memory */
    char leave_reason[256];

    /* Driver. */
    int boot_fd;
    struct net_conn *boot;
    bool goodbye;
    char *raylet_evidence;
    struct wk_callbacks *callbacks;
};

/* An actor's creation as it goes through ray-gcs: this, the template's frame body, for each
 * argument the reference that it is (nil: a value), the push's body. */
struct wk_spec {
    uint32_t template_size;
    uint32_t ref_count; /* as many as arguments; 0: none is in the store */
    struct own_addr creator;
};

/* The process's engine; its storage always exists, `running` tells whether it is started. */
extern struct wk_engine wk;
/* The task that the calling thread executes, or NULL. */
extern _Thread_local struct wk_exec *wk_current;

/* Something runs here for somebody. */
static inline bool
wk_is_running(void)
{
    return wk.current || wk.begun_count > 0;
}

/* ---- wk_engine_io.c ---- */

void wk_lock(void);
/* The time, read once while the lock is held: exact enough for all that isn't measured. */
static inline uint64_t
wk_now(void)
{
    if (wk.now_ns == 0) {
        wk.now_ns = os_now_ns();
    }
    return wk.now_ns;
}
/* Also works off what was put on the release list meanwhile. */
void wk_unlock(void);
/* Takes the lock when the engine runs, else ST_NOT_INITIALIZED (or the raylet's death). */
int wk_enter(void) MUST_USE;

/* Something happened that waiting threads may wait for. Lock held. */
void wk_changed(void);
/* Waits until done(ctx) says true: ST_OK, ST_TIMED_OUT, ST_INTERRUPTED, ST_RAYLET_DIED. Called and
 * returns with the lock held, which is given up meanwhile. `deadline_ns` UINT64_MAX: none. */
int wk_wait(bool (*done)(void *ctx), void *ctx, uint64_t deadline_ns) MUST_USE;
/* The same, but it goes on waiting whatever the program's thread or task is interrupted by: what
 * ends a task's wait ends its next one. */
int wk_wait_on(bool (*done)(void *ctx), void *ctx, uint64_t deadline_ns) MUST_USE;
/* The main thread's task waits for something that has not come yet. Lock held. */
bool wk_task_waits(void);
/* Reads what peers have published, if anything, without waiting. Lock held. */
void wk_poll(void);
/* Keeps replies coming while the program does other things. Lock held. */
void wk_keep_ticking(void);
/* The opposite: an event loop that sleeps elsewhere awaits something. Lock held. */
void wk_rest_awaited(void);
void wk_kick(void);
/* wk_changed, and also a leader that sleeps looks again. */
void wk_nudge(void);
/* A kick has come: on_ready of its watch. */
void wk_on_kick(void *ctx, uint32_t events);
/* Nobody leads or sleeps: as it is when the engine starts. */
void wk_lead_begin(void);
/* What the background thread runs. */
void *wk_background_main(void *arg);

/* ---- wk_start_io.c ---- */

int wk_engine_start(void) MUST_USE;
void wk_engine_stop_thread(void);
void wk_engine_stop(void);

/* ---- wk_outs.c ---- */

/* Works the release list off. Lock held. */
void wk_flush_releases(void);
/* The same, for who has seen that there is something on it. */
void wk_drain_releases(void);
void wk_own_end(void);

/* Room for the outs of one call of `own`. */
struct wk_outs {
    struct step_outs outs;
    struct step_out v[WK_OUTS];
};
/* Whether a handle belongs to this session; handles of an earlier one are dead but harmless. */
bool wk_ref_is_stale(const struct own_ref *ref);
struct step_outs *wk_outs_begin(struct wk_outs *o);
/* Carries them out, continuing the machine while it has more. */
void wk_outs_end(struct wk_outs *o);

/* ---- wk_peer_io.c ---- */

/* The peer's record, made when new. NULL: no memory. */
struct wk_peer *wk_peer_get(const struct own_addr *addr);
struct wk_peer *wk_peer_of_proc(uint32_t proc);
/* The raylet tells of its death, also when there is no connection with it. */
void wk_peer_watch(struct wk_peer *peer);
/* The connection that tasks are pushed on, made when there is none. NULL: the peer can't be
 * reached; its death will be announced. */
struct wk_link *wk_peer_link(struct wk_peer *peer);
/* The connection for messages of ownership. */
struct wk_link *wk_peer_any_link(struct wk_peer *peer);
/* Nothing more can be sent: if no death is announced soon, the connection is given up. A socket
 * that ends is no reason: another one takes its place (docs/protocols/connections.md). */
void wk_link_mark_broken(struct wk_link *link);
/* It has no rings any more. */
void wk_link_unmap(struct wk_link *link);
/* The other side says who it is. A failure ends the connection. */
int wk_peer_on_hello(struct wk_link *link, const struct net_frame *frame) MUST_USE;
/* The other side wants to go on with an earlier link over this socket; unless it fails, `link` is
 * that link, or gone. */
int wk_peer_on_resume(struct wk_link *link, const struct net_frame *frame) MUST_USE;
/* It is answered so, or the link is given up. */
int wk_peer_on_resumed(struct wk_link *link, const struct net_frame *frame) MUST_USE;
void wk_peer_on_death(const struct id_worker *worker, const char *evidence, int32_t pid);
/* Forgets the dead that nothing refers to any more. Whoever calls has no peer in hand. */
void wk_peers_sweep(void);
/* The living have been sent all that they are owed: this process may end. */
bool wk_peers_are_served(void *ctx);
void wk_peers_close(void);
/* Listens; connections are accepted from wk_peer_accept on. */
int wk_peer_listen(void) MUST_USE;
int wk_peer_accept(void) MUST_USE;
/* Nobody finds this process any more. */
void wk_peer_unlisten(void);
/* And nobody who has found it gets through. */
void wk_peer_listen_end(void);

/* ---- wk_link_io.c ---- */

/* It sent nonsense, or can't go on: says so, and ends it for good. */
void wk_link_break(struct wk_link *link, const char *what);
/* The connection's window of pushed tasks is there after it. */
int wk_link_window(struct wk_link *link) MUST_USE;

/* A frame under construction, in the ring or beside it. */
struct wk_frame {
    struct wk_link *link;
    uint8_t *body;
    size_t size;
    bool in_ring;
};
int wk_frame_begin(struct wk_frame *frame, struct wk_link *link, uint16_t kind, size_t size)
    MUST_USE;
void wk_frame_end(struct wk_frame *frame, enum net_bell_need need);

/* A frame of the socket; `ctx` is the link. */
void wk_link_on_frame(void *ctx, struct net_conn *conn, const struct net_frame *frame);
/* Frames of the socket that were never due. */
void wk_link_free_held(struct wk_link *link);
/* Reads everything that the peer has sent. */
void wk_peer_drain(struct wk_peer *peer);
void wk_rings_drain(void);
/* A bell is set: fetches what most likely set it. */
void wk_rings_expect(void);
bool wk_rings_any(void);
void wk_link_flush_room(struct wk_link *link);

/* ---- wk_own_io.c ---- */

void wk_peer_send_own(const struct step_out *out);
/* A frame of ownership; `kind` is that of the frame. */
int wk_on_own_message(struct wk_link *link, uint16_t kind, const uint8_t *body, size_t size)
    MUST_USE;

/* ---- wk_func.c ---- */

struct wk_template *wk_template_get(struct ray_function *function, struct ray_options *options);
struct ray_options *wk_options_default(void);
/* Whether an actor made with them outlives its creator, in this job. */
bool wk_options_detached(const struct ray_options *options);
/* `name` may be NULL: then it isn't given. wk_actor_name.c */
int wk_check_name(const char *what, const char *name) MUST_USE;
/* Whether it is one; its amount. */
int wk_check_resource(const struct ray_resource *from, struct res_amount *amount) MUST_USE;
struct wk_key *wk_options_key(struct ray_options *options);
struct wk_key *wk_key_by_number(uint32_t number);
void wk_func_session_end(void);

/* ---- wk_put.c ---- */

/* A value from a payload; large ones go to the store under `id`. Lock held, but for a small one
 * without references, which needs neither id nor owner; it may be given up while the raylet is
 * asked for memory. */
int wk_value_of_payload(const struct ray_payload *payload, const struct id_object *id,
                        const struct id_worker *owner, struct ray_value **out) MUST_USE;
enum own_state wk_state_of(const struct ray_value *value);
void wk_value_drop(uint64_t handle, uint64_t state);
/* Frees what a hint names: as its owner, or as its creator who has told nobody of it. */
void wk_value_free_stored(const struct ray_value *value);
/* The value for a program: pinned when it is in the store. */
int wk_value_open(struct ray_value *value, struct own_ref *outer, struct ray_value **out) MUST_USE;
void wk_flush_frees(void);
void wk_on_region_ahead(const uint8_t *body, size_t size);
/* Frees those of the slots in which no value of this process lies. */
void wk_free_unknown_slots(struct store_ref *slots, size_t count);

/* ---- wk_object.c ---- */

static inline struct own_ref *
wk_ref_of(ray_ref *handle)
{
    return (struct own_ref *)handle;
}
struct ray_value *wk_ref_value(const struct own_ref *ref);
/* Somebody looks at the value, or gets it: if it is a failure, it is heard of. */
void wk_ref_heard(const struct own_ref *ref);
/* The value of a reference that is borrowed is asked for. */
void wk_ref_want(struct own_ref *ref);
/* Whether an object stands for an actor: its value, in the owner, is a struct wk_actor. */
static inline bool
wk_id_is_actor(const struct id_object *id)
{
    return id_load64(id->b) == UINT64_MAX;
}
/* Whether the program may use these references: all are of this session and, with `values`, none is
 * an actor's. Lock held. */
int wk_refs_check(ray_ref *const *refs, size_t count, bool values) MUST_USE;
struct ray_value *wk_failure_of_status(int status, const char *text);
/* What is read in place of an object's value: which one, whose, and what became of the owner. */
struct ray_value *wk_failure_of_ref(const struct own_ref *ref, int status);

/* ---- wk_node_io.c ---- */

enum wk_ask_state { WK_ASK_WAITING, WK_ASK_ANSWERED, WK_ASK_FAILED };
/* A question whose asker waits. Lives on its stack. */
struct wk_ask {
    struct list link;
    uint64_t request;
    uint16_t kind; /* of the answer */
    enum wk_ask_state state;
    struct str answer;
};
int wk_node_connect(const char *socket_path, const Ray__Node__Hello *hello, int pidfd) MUST_USE;
/* ST_RAYLET_DIED, with the evidence. */
int wk_raylet_gone(void) MUST_USE;
int wk_node_send(uint16_t kind, const ProtobufCMessage *message, uint64_t request) MUST_USE;
/* Sends and waits; the packed answer is in ask->answer. Lock held, given up meanwhile. */
int wk_node_ask(uint16_t kind, const ProtobufCMessage *message, struct wk_ask *ask,
                uint64_t deadline_ns) MUST_USE;
void wk_ask_fini(struct wk_ask *ask);
void wk_node_close(void);
void wk_set_blocked(bool blocked);
/* Every wait ends. */
void wk_raylet_died(void);
void wk_watch(const struct id_worker *worker);
int wk_ask_wait(struct wk_ask *ask, uint64_t deadline_ns) MUST_USE;
void wk_ask_answer(const struct net_frame *frame);
void wk_send_packed(struct net_conn *conn, uint16_t kind, const ProtobufCMessage *message,
                    uint64_t request, int *status);

/* ---- wk_submit.c ---- */

/* ---- wk_gcs_io.c ---- */

int wk_gcs_send(uint16_t kind, const ProtobufCMessage *message) MUST_USE;
/* Sends, also over a later connection, until it is answered. on_answer may be NULL. */
typedef void (*wk_gcs_answer_fn)(void *ctx, uint16_t kind, const uint8_t *body, size_t size);
int wk_gcs_request(uint16_t kind, const ProtobufCMessage *message, wk_gcs_answer_fn on_answer,
                   void *ctx) MUST_USE;
void wk_gcs_on_timer(void *ctx);
int wk_gcs_ask(uint16_t kind, const ProtobufCMessage *message, struct wk_ask *ask,
               uint64_t deadline_ns) MUST_USE;
void wk_gcs_close(void);

/* ---- wk_actor.c ---- */

void wk_actor_out_of_scope(struct wk_actor *actor);
void wk_actors_rewatch(void);
/* Waits until the actor has a process. ST_OWNER_DIED when it is dead. Lock held, given up. */
int wk_actor_wait_peer(struct wk_actor *actor, struct wk_peer **out) MUST_USE;
void wk_actors_fini(void);

/* ---- wk_actor_call.c ---- */

void wk_actors_leave(void);
/* A worker: tells the raylet, and its own page, when it begins or ceases to own what others need.
 */
void wk_tell_owning(void);
void wk_actors_pump(void);
/* A call, or the creation, has all its arguments. */
void wk_actor_ready(struct wk_actor *actor, struct wk_task *task);
/* It is answered: the actor client forgets it. */
void wk_actor_call_done(struct wk_task *task);
/* A call whose method has failed, and is called again: before those that are queued. */
void wk_actor_queue_again(struct wk_task *task);

/* ---- wk_actor_state.c ---- */

void wk_actor_on_update(const uint8_t *body, size_t size);
void wk_actor_on_peer_death(struct wk_actor *actor, struct wk_peer *peer);
/* What wk_tasks_on_link_failed is for tasks: what hadn't begun goes again over a new connection. */
void wk_actor_on_link_failed(struct wk_actor *actor, struct wk_link *link);

/* ---- wk_boot_io.c ---- */

/* In a process that the raylet started: connects, once. */
int wk_boot_worker(void) MUST_USE;
/* The raylet's greeting has told this process's ids. */
int wk_begin_session(void) MUST_USE;

/* ---- wk_cancel.c ---- */

/* A failure ends the connection. */
int wk_on_cancel(struct wk_link *link, const uint8_t *body, size_t size) MUST_USE;
int wk_on_cancel_ref(const uint8_t *body, size_t size) MUST_USE;
/* wk.doomed: the process ends, as soon as nothing is lost with it. */
void wk_end_doomed(void);

/* ---- wk_cface.c ---- */

int wk_c_functions_start(void) MUST_USE;
int wk_c_worker_main(void);

/* ---- wk_env.c ---- */

/* Sets the environment variables that this worker's lease decides, when the lease is a new one. */
void wk_env_apply(void);

/* ---- wk_logs.c ---- */

void wk_logs_start(ray_log_fn fn, void *ctx);
void wk_logs_push(const Ray__Node__LogLines *lines);
void wk_logs_stop(void);
void wk_callback_push(ray_ready_fn fn, void *ctx, bool cancelled);
/* The last count of a failure went before anybody had looked at it. Lock held. True: it is told of,
 * and its memory is the callback thread's. */
bool wk_unhandled_take(struct ray_value *failure);
void wk_unhandled_start(void);

#endif
