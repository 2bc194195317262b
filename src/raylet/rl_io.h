/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The raylet's process: its records, and what its *_io.c files call of one another. Only they
 * include this. One thread, one loop; nothing blocks but the starting of processes (a vfork).
 *
 *   rl_run_io      start, end, the loop          rl_conn_io     connections, hello, dispatch
 *   rl_lease_io    lease messages and outs       rl_worker_io   making workers
 *   rl_zygote_io   zygotes                       rl_death_io    reaping, evidence, order of a death
 *   rl_job_io      drivers and jobs              rl_actor_io    actors of this node
 *   rl_gcs_io      ray-gcs and its connection    rl_store_io    object store messages
 *   rl_logs_io     pipes of workers              rl_state_io    questions of people
 *   rl_session_io  directories                   rl_guard_io    the parent process
 *
 * docs/protocols/processes.md tells the order of starting and ending.
 */
#ifndef RAY_RL_IO_H
#define RAY_RL_IO_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/id.h"
#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/res.h"
#include "base/status.h"
#include "base/step.h"
#include "base/str.h"
#include "net/net_accept.h"
#include "net/net_conn.h"
#include "net/net_loop.h"
#include "net/net_msg.h"
#include "os/os_log.h"
#include "os/os_proc.h"
#include "os/os_res.h"
#include "proto/gcs.pb-c.h"
#include "proto/kinds.h"
#include "proto/node.pb-c.h"
#include "proto/zygote.h"
#include "raylet/rl_lease.h"
#include "raylet/rl_session_io.h"
#include "sched/sched_key.h"
#include "store/store_server.h"

enum {
    RL_PROCESS_MAGIC = 0x726c7001,
    RL_JOB_MAGIC_IO = 0x726c7002,
    RL_ACTOR_MAGIC = 0x726c7003,

    RL_FRAME_MAX = 64 * 1024 * 1024,  /* bytes of one message that the raylet decodes */
    RL_QUEUED_MAX = 64 * 1024 * 1024, /* bytes that one process may leave unread */
    RL_SOCKET_NAME_MAX = 32,
    RL_EVIDENCE_TEXT_MAX = 4096,
    RL_TAIL_MAX = 2048,    /* bytes of stderr kept for evidence */
    RL_GRAVES_MAX = 10000, /* dead processes that can still be asked about */
    RL_OUTS = 128,
    RL_JOBS_KEPT_MAX = 256,     /* jobs without driver and processes, for detached actors */
    RL_WORKER_OOM_SCORE = 1000, /* when memory runs out workers go before any daemon */
};

struct raylet;
struct rl_process;

/* ---- logs of one pipe ---- */
enum { RL_LOG_BACKUPS_MAX = 16 };
struct rl_log {
    struct raylet *raylet;
    struct rl_job_io *job;  /* whose driver gets the lines; NULL: none */
    struct net_watch watch; /* .fd -1 when the pipe has ended */
    bool is_stderr, forward;
    int file; /* -1 until the first byte */
    uint64_t file_size;
    uint32_t backups; /* rotated files: ".1", the newest, to ".<backups>" */
    uint64_t backup_size[RL_LOG_BACKUPS_MAX];
    struct str partial; /* a line without its end */
    char path[256];     /* within the session directory */
    int32_t pid;
    struct rl_process *process; /* for the name of its task; NULL of a zygote */
    char tail[RL_TAIL_MAX];     /* last bytes, oldest first */
    uint32_t tail_size;
    uint64_t dropped; /* bytes not sent to the driver */
};

/* ---- one interpreter of a job ---- */
struct rl_zygote {
    struct rl_job_io *job;
    pid_t pid; /* 0: not running */
    bool ready;
    struct net_watch watch; /* its socket; .fd -1 while there is none */
    struct list waiting;    /* rl_process.of_zygote: to be forked when it is ready */
    uint32_t exits;         /* in a row without having become ready */
    uint64_t unready_ns;    /* since the first end of such a row; 0 none */
    struct rl_log out, err;
};

enum rl_process_kind { RL_DRIVER, RL_WORKER_PROCESS };

/* A driver or worker, from the decision to start it until everything of it has been reclaimed. */
struct rl_process {
    uint32_t magic;
    enum rl_process_kind kind;
    struct raylet *raylet;
    struct rl_job_io *job;
    uint64_t number;                  /* of the lease machine */
    uint8_t token[ZYGOTE_TOKEN_SIZE]; /* a worker's */
    struct id_worker id;
    int32_t pid;            /* 0 until spawned */
    struct net_watch pidfd; /* a driver's; .fd -1 for workers */
    struct net_watch birth; /* birth pair; .fd -1 when over */
    int birth_fds[3];       /* to be sent to the zygote; -1 when gone */
    struct list of_zygote;
    uint32_t births;             /* zygotes asked for it */
    struct net_conn *conn;       /* NULL before hello and after its end */
    struct net_timer conn_timer; /* a worker without a connection is killed then */
    bool hello;
    bool has_store;
    uint32_t store_proc;
    uint64_t pressed; /* the last round of pressure that it has answered */
    char peer_socket[RL_SOCKET_NAME_MAX];
    struct map_link by_number, by_pid, by_id;
    bool in_pids;
    struct list all;
    struct rl_log out, err;
    struct rl_actor *actor; /* what it serves */
    /* Its end. */
    bool dead;  /* reaped; a driver: gone, or it has left its job */
    bool dying; /* in raylet.dying */
    bool leaving_intended;
    bool leaving_told; /* `leaving` is its own word: ours, when it is killed, is better */
    char leaving[256]; /* its own reason, or ours for killing it; "" none */
    struct os_exit exit;
    char evidence[RL_EVIDENCE_TEXT_MAX];
    struct list watchers; /* rl_watcher.of_process */
    struct list watching; /* rl_watcher.of_watcher */
    struct list of_dying; /* waits for orphans */
};

/* A connection; before hello it belongs to no process. */
struct rl_link {
    struct raylet *raylet;
    struct rl_process *process;
    struct net_conn *conn;
    struct list all; /* raylet.links, before hello */
    pid_t pid;       /* peer credentials */
};

struct rl_watcher {
    struct list of_process, of_watcher;
    struct rl_process *watcher;
};

/* ---- jobs ---- */
struct rl_job_io {
    uint32_t magic;
    struct raylet *raylet;
    uint32_t number; /* of its id; 0 until ray-gcs has told it */
    struct id_job id;
    struct rl_process *driver; /* NULL once it is gone */
    struct list all;
    Ray__Node__JobConfig *config; /* own, unpacked */
    char job_namespace[512];
    uint64_t actor_owner;     /* number under which its actors' leases are asked for */
    uint64_t hello_request;   /* of the driver's Hello */
    struct rl_zygote *zygote; /* NULL for programs that are started again themselves */
    bool ended;
    bool keeps; /* has had a detached actor, which may be started again without its driver */
    bool told_gcs;
    uint64_t finish_tell; /* the number of what was told then; 0 none */
    uint32_t processes;   /* that refer to it */
    bool goodbye;         /* the driver waits for it */
    uint64_t goodbye_request;
    bool stop_runtime; /* after the goodbye */
};

/* ---- actors ---- */
enum rl_actor_state {
    RL_ACTOR_WAITING, /* its lease is asked for */
    RL_ACTOR_PLACED,  /* a worker has it */
};
struct rl_actor {
    uint32_t magic;
    enum rl_actor_state state;
    struct id_actor id;
    uint64_t incarnation;
    struct map_link by_id, by_cookie;
    struct list all;
    Ray__Gcs__CreateActor *spec; /* own, unpacked */
    struct rl_job_io *job;
    uint32_t cookie;
    uint64_t lease;
    struct rl_process *process;
    bool constructed, stopping;
};

/* A process that is gone, for late questions. */
struct rl_grave {
    struct map_link by_id;
    struct list all;
    struct id_worker id;
    int32_t pid, exit_code, signal;
    bool expected;
    struct id_actor actor;
    bool had_actor;
    char *evidence;
};

/* Object-store requests that wait for memory. */
struct rl_store_wait {
    struct list all;
    struct rl_process *process;
    uint64_t request, size, until_ns;
    uint64_t round;    /* of the pressure that was sent for it */
    uint64_t freed;    /* store_freed_count, and */
    uint64_t still_ns; /* since when it has not changed */
};

struct rl_gcs_link {
    int listener; /* kept, so that connecting never fails */
    pid_t pid;
    struct net_conn *conn;
    bool registered;
    uint64_t next_request;
    struct map requests; /* rl_gcs_request.link */
    struct list untold;  /* gcs_tell.all: not known to be stored, oldest first */
    size_t untold_bytes;
    uint64_t restarts[4]; /* times of the latest, oldest first */
    uint32_t restart_count;
    struct net_timer reconnect;
};

struct raylet {
    const struct mem *mem;
    struct net_loop *loop;
    struct rl_session session;
    struct os_machine machine;
    struct id_node node_id;
    char node_ip[64], host_name[128];
    uint64_t store_size;

    struct net_accept accept;
    int listener;
    struct net_watch signals, boot;
    struct net_watch driver_pidfd; /* of the driver that started the runtime; .fd -1 none */
    pid_t guard;
    bool standalone; /* ends with that driver */
    bool stopping;
    int failed; /* status: it ends because of this */
    char failure[512];
    struct net_timer stop_timer;
    uint32_t stop_phase;

    struct list links; /* connections before hello: rl_link.all */
    struct list processes, jobs, actors, dying, graves, store_waits;
    struct map by_number, by_pid, by_id, actors_by_id, actors_by_cookie, graves_by_id;
    uint32_t grave_count;
    uint32_t next_cookie;

    struct res_names names;
    struct sched_keys keys;
    struct rl_lease lease;
    struct arena arena;
    struct net_timer lease_timer;
    bool pumping, pump_again;

    struct store_shm *shm;
    struct store *store;
    struct net_timer store_timer;
    uint64_t press_round; /* times that everybody was asked to give memory back */
    uint64_t store_freed;

    struct rl_gcs_link gcs;
    uint64_t log_file_max, log_session_max;
    uint32_t log_backups;
    uint64_t log_bytes;   /* of all files of this session */
    struct list old_logs; /* rl_old_log: finished files, oldest first */
};

/* A set of outs of the lease machine, with its memory. */
struct rl_outs {
    struct step_out v[RL_OUTS];
    struct step_outs outs;
};

/* Arms a timer; a daemon may end on a small allocation. */
static inline void
rl_arm(struct raylet *r, struct net_timer *timer, uint64_t when_ns)
{
    const int status = net_loop_arm(r->loop, timer, when_ns);
    ASSERT(status == ST_OK);
}

/* rl_run_io.c */
void rl_stop(struct raylet *r, const char *why);
/* As rl_stop, because of an error: the exit code tells, and so does the guard's report. */
void rl_fail(struct raylet *r, int status, const char *why);
/* Called when a process, zygote or job is gone: goes on with stopping. */
void rl_stop_check(struct raylet *r);

/* rl_conn_io.c */
int rl_conn_listen(struct raylet *r);
void rl_conn_close_all(struct raylet *r);
/* Sends, or ends the connection. */
void rl_send(struct rl_process *p, uint16_t kind, uint64_t request, const ProtobufCMessage *m);
/* Reads what the process sent before its end, then closes. */
void rl_conn_finish(struct rl_process *p);
void rl_conn_drop(struct rl_process *p);
void rl_send_hello_reply(struct rl_process *p, uint64_t request);
void rl_refuse_process(struct rl_process *p, uint64_t request, int status, const char *text);
struct rl_process *rl_find_number(const struct raylet *r, uint64_t number);
struct rl_process *rl_find_pid(const struct raylet *r, pid_t pid);
struct rl_process *rl_find_id(const struct raylet *r, const struct id_worker *id);
bool rl_take_id(const ProtobufCBinaryData *from, void *to, size_t size);
ProtobufCBinaryData rl_bytes(const void *data, size_t size);
/* A string field of a message that is only read (packed) afterwards. */
char *rl_text(const char *text);

/* rl_lease_io.c */
void rl_outs_begin(struct raylet *r, struct rl_outs *o);
/* Carries out, pumps, and carries out what follows. */
void rl_outs_finish(struct raylet *r, struct rl_outs *o);
void rl_pump(struct raylet *r);
int rl_on_lease_request(struct rl_process *p, const Ray__Node__LeaseRequest *m);
int rl_on_lease_cancel(struct rl_process *p, const Ray__Node__LeaseCancel *m);
int rl_on_lease_return(struct rl_process *p, const Ray__Node__LeaseReturn *m);
int rl_on_blocked(struct rl_process *p, uint64_t epoch, bool blocked);
/* Interns resources of a message. */
int rl_key_set(struct raylet *r, Ray__Node__Resource *const *from, size_t count,
               struct res_set *out);
void rl_lease_on_timer(void *ctx);

/* rl_worker_io.c */
struct rl_process *rl_process_new(struct raylet *r, enum rl_process_kind kind, uint64_t number,
                                  struct rl_job_io *job);
/* Everything of it is gone but the memory. */
void rl_process_free(struct rl_process *p);
int rl_process_set_pid(struct rl_process *p, pid_t pid);
void rl_process_forget_pid(struct rl_process *p);
void rl_worker_start(struct raylet *r, const struct rl_pool_start *start);
void rl_worker_go(struct rl_process *p);
void rl_worker_kill(struct rl_process *p, const char *why);
void rl_worker_exit(struct rl_process *p, const char *why);
/* It never came to be. */
void rl_worker_start_failed(struct rl_process *p, const char *evidence);
/* Environment of a worker beside its job's, as NAME=value strings with their NULs. */
size_t rl_worker_environment(const struct rl_process *p, char *out, size_t capacity);

/* rl_zygote_io.c */
int rl_zygote_start(struct rl_job_io *job);
void rl_zygote_fork(struct rl_zygote *z, struct rl_process *p);
/* True when the child that ended was a zygote. */
bool rl_zygote_on_exit(struct raylet *r, const struct os_exit *exit);
void rl_zygote_end(struct rl_zygote *z);
void rl_zygote_free(struct rl_zygote **z);
bool rl_is_zygote(const struct raylet *r, pid_t pid);

/* rl_death_io.c */
void rl_on_signals(void *ctx, uint32_t events);
void rl_reap_all(struct raylet *r);
void rl_driver_died(struct rl_process *driver);
void rl_death_collect(struct rl_process *owner, struct rl_process *dead);
int rl_on_watch(struct rl_process *p, const Ray__Node__Watch *m);
void rl_kill_everything(struct raylet *r);
void rl_graves_free(struct raylet *r);

/* rl_job_io.c */
struct rl_job_io *rl_job_new(struct raylet *r, const Ray__Node__JobConfig *config);
struct rl_job_io *rl_job_find(const struct raylet *r, const struct id_job *id);
struct rl_job_io *rl_job_by_number(const struct raylet *r, uint32_t number);
void rl_job_added(struct rl_job_io *job, const Ray__Gcs__JobAdded *m);
void rl_job_end(struct rl_job_io *job);
/* ray-gcs has stored what was told under that number: of the end of a job, perhaps. */
void rl_job_told(struct raylet *r, uint64_t tell);
int rl_on_end_job(struct rl_process *p, uint64_t request, const Ray__Node__EndJob *m);
/* Whether there are still to be processes of the job. */
bool rl_job_goes_on(const struct rl_job_io *job);
/* After each process that went: whoever waits for the job's end is told. */
void rl_job_check(struct rl_job_io *job);
/* Frees jobs of which nothing is left. From callbacks of the loop only. */
void rl_jobs_sweep(struct raylet *r);

/* rl_actor_io.c */
void rl_on_start_actor(struct raylet *r, const Ray__Gcs__StartActor *m);
void rl_on_stop_actor(struct raylet *r, const Ray__Gcs__StopActor *m);
int rl_on_actor_constructed(struct rl_process *p, const Ray__Node__ActorConstructed *m);
/* Whether it outlives its job's driver: it is detached, or made by what does. */
bool rl_actor_outlives(const struct raylet *r, const Ray__Gcs__CreateActor *spec);
bool rl_actor_granted(struct raylet *r, uint64_t owner, const struct sched_lease_grant *grant);
bool rl_actor_failed(struct raylet *r, uint64_t owner, const struct sched_lease_failed *failed);
bool rl_actor_pending(struct raylet *r, uint64_t owner, const struct sched_lease_pending *m);
void rl_actor_process_died(struct rl_process *p);
void rl_actor_forget(struct raylet *r, struct rl_actor *a);
/* Tells ray-gcs again what runs here. */
void rl_actor_tell_all(struct raylet *r, Ray__Gcs__RegisterNode *m);

/* rl_gcs_io.c */
int rl_gcs_open(struct raylet *r);
void rl_gcs_close(struct raylet *r);
bool rl_gcs_on_exit(struct raylet *r, const struct os_exit *exit);
/* Kept until ray-gcs has stored it. Its number; 0 when it can't be told. */
uint64_t rl_gcs_tell(struct raylet *r, uint16_t kind, const ProtobufCMessage *m);
void rl_gcs_tell_exit(struct raylet *r, const Ray__Gcs__ActorExited *m);
/* ray-gcs isn't known to have stored that this life of the actor has ended. */
bool rl_gcs_exit_is_untold(const struct raylet *r, const struct id_actor *id, uint64_t incarnation);
int rl_gcs_add_job(struct rl_job_io *job);
int rl_gcs_forward_state(struct rl_process *p, uint64_t request, const char *what);
/* Questions of a process that is gone need no answer. */
void rl_gcs_forget_process(struct raylet *r, const struct rl_process *p);
void rl_gcs_forget_job(struct rl_job_io *job);

/* rl_store_io.c */
int rl_store_open(struct raylet *r);
void rl_store_close(struct raylet *r);
int rl_on_store_ask(struct rl_process *p, uint64_t request, const Ray__Node__StoreAsk *m);
int rl_on_store_free(struct rl_process *p, const Ray__Node__StoreFree *m);
int rl_on_store_return(struct rl_process *p, uint64_t round, const Ray__Node__StoreReturn *m);
int rl_on_store_check(struct rl_process *p, uint64_t request, const Ray__Node__StoreCheck *m);
void rl_store_work_soon(struct raylet *r);
void rl_store_forget_process(struct rl_process *p);

/* rl_logs_io.c */
void rl_log_init(struct rl_log *log, struct raylet *r);
/* Takes the reading end of a pipe. */
int rl_log_open(struct rl_log *log, int fd, struct rl_job_io *job, struct rl_process *process,
                bool is_stderr);
/* Where the lines go; once the process's number is known. */
void rl_log_name(struct rl_log *log, int32_t pid, const char *path);
/* Reads what is there now. */
void rl_log_drain(struct rl_log *log);
void rl_log_close(struct rl_log *log);
/* The last lines, NUL terminated; "" when nothing was written. */
const char *rl_log_tail(struct rl_log *log, char *out, size_t capacity);
/* From the environment. */
void rl_logs_configure(struct raylet *r);
void rl_logs_free(struct raylet *r);

/* rl_state_io.c */
int rl_on_state_ask(struct rl_process *p, uint64_t request, const Ray__Node__StateAsk *m);
/* Of the command line, which is no driver. */
int rl_on_state_ask_of_link(struct rl_link *link, uint64_t request, const Ray__Node__StateAsk *m);

#endif
