/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deaths: reaping, evidence, announcement, orphans, reclaiming. The order is that of
 * docs/protocols/processes.md: reap, announce, kill and wait for orphans, drop pins and reclaim,
 * release resources.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/atom.h"
#include "os/os_basic.h"
#include "raylet/rl_io.h"

enum { CHILDREN_MAX = 16384 };

/* ---- graves ---------------------------------------------------------------------------------- */

static void
grave_free(struct raylet *r, struct rl_grave *g)
{
    map_remove(&r->graves_by_id, &g->by_id);
    list_remove(&g->all);
    r->grave_count--;
    mem_free(r->mem, g->evidence, strlen(g->evidence) + 1);
    mem_free(r->mem, g, sizeof(*g));
}

/* Remembers who is gone, so that a late question is answered with the evidence. */
static void
bury(struct rl_process *p)
{
    struct raylet *r = p->raylet;
    struct rl_grave *g = mem_alloc(r->mem, sizeof(*g));
    char *evidence = mem_alloc(r->mem, strlen(p->evidence) + 1);
    if (!g || !evidence) {
        mem_free(r->mem, g, sizeof(*g));
        mem_free(r->mem, evidence, strlen(p->evidence) + 1);
        return; /* a late question is answered with "unknown" */
    }
    memcpy(evidence, p->evidence, strlen(p->evidence) + 1);
    *g = (struct rl_grave){
        .id = p->id,
        .pid = p->pid,
        .exit_code = p->exit.code,
        .signal = p->exit.signal,
        .expected = p->leaving_intended,
        .had_actor = p->actor != NULL,
        .evidence = evidence,
    };
    if (p->actor) {
        g->actor = p->actor->id;
    }
    if (map_insert(&r->graves_by_id, &g->by_id, id_hash(g->id.b, sizeof(g->id.b))) != ST_OK) {
        mem_free(r->mem, evidence, strlen(evidence) + 1);
        mem_free(r->mem, g, sizeof(*g));
        return;
    }
    list_push_back(&r->graves, &g->all);
    r->grave_count++;
    struct list *oldest = list_first(&r->graves);
    if (r->grave_count > RL_GRAVES_MAX && oldest) {
        grave_free(r, LIST_ENTRY(oldest, struct rl_grave, all));
    }
}

void
rl_graves_free(struct raylet *r)
{
    for (struct list *l = list_first(&r->graves); l; l = list_first(&r->graves)) {
        grave_free(r, LIST_ENTRY(l, struct rl_grave, all));
    }
}

/* ---- who is told ----------------------------------------------------------------------------- */

void
rl_death_collect(struct rl_process *owner, struct rl_process *dead)
{
    struct raylet *r = dead->raylet;
    LIST_FOR (l, &dead->watchers) {
        if (LIST_ENTRY(l, struct rl_watcher, of_process)->watcher == owner) {
            return;
        }
    }
    struct rl_watcher *w = mem_alloc(r->mem, sizeof(*w));
    if (!w) {
        os_log(OS_LOG_ERROR, "no memory to tell process %d of a death", owner->pid);
        return;
    }
    w->watcher = owner;
    list_push_back(&dead->watchers, &w->of_process);
    list_push_back(&owner->watching, &w->of_watcher);
}

static void
send_from_grave(struct rl_process *p, const struct rl_grave *g, const struct id_worker *id)
{
    Ray__Node__ProcessDied m = RAY__NODE__PROCESS_DIED__INIT;
    m.worker_id = rl_bytes(id->b, sizeof(id->b));
    if (g) {
        m.pid = g->pid;
        m.exit_code = g->exit_code;
        m.signal = g->signal;
        m.evidence = g->evidence;
        m.expected = g->expected;
        if (g->had_actor) {
            m.actor_id = rl_bytes(g->actor.b, sizeof(g->actor.b));
        }
    } else {
        m.evidence =
            rl_text("this node knows no such process; it ended long ago, or never was here");
    }
    rl_send(p, NODE_PROCESS_DIED, 0, &m.base);
}

int
rl_on_watch(struct rl_process *p, const Ray__Node__Watch *m)
{
    struct raylet *r = p->raylet;
    struct id_worker id;
    if (!rl_take_id(&m->worker_id, id.b, sizeof(id.b))) {
        return st_fail(ST_PROTOCOL, "a worker id of %zu bytes", m->worker_id.len);
    }
    struct rl_process *about = rl_find_id(r, &id);
    if (about && !about->dead) {
        rl_death_collect(p, about);
        return ST_OK;
    }
    const struct rl_grave *grave = NULL;
    struct map_link *l;
    MAP_FOR_HASH (l, &r->graves_by_id, id_hash(id.b, sizeof(id.b))) {
        const struct rl_grave *g = CONTAINER_OF(l, struct rl_grave, by_id);
        if (ID_EQ(g->id, id)) {
            grave = g;
            break;
        }
    }
    send_from_grave(p, grave, &id);
    return ST_OK;
}

/* ---- evidence -------------------------------------------------------------------------------- */

static void add(char *text, size_t capacity, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void
add(char *text, size_t capacity, const char *format, ...)
{
    const size_t at = strlen(text);
    va_list args;
    va_start(args, format);
    /* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): version 14 loses va_start here */
    (void)vsnprintf(text + at, capacity - at, format, args);
    va_end(args);
}

static void
write_evidence(struct rl_process *p)
{
    char *e = p->evidence;
    const size_t room = sizeof(p->evidence);
    char how[128], tail[RL_TAIL_MAX + 1];
    e[0] = '\0';
    struct store_status_copy status;
    const bool known = p->has_store && store_proc_status(p->raylet->store, p->store_proc, &status);
    add(e, room, "%s process %d on node %s", p->kind == RL_DRIVER ? "driver" : "worker", p->pid,
        p->raylet->node_ip);
    if (p->kind == RL_DRIVER) {
        add(e, room, " has ended or has left its job.");
        return;
    }
    add(e, room, " ended: %s", os_exit_text(&p->exit, how, sizeof(how)));
    if (p->leaving[0]) {
        add(e, room, " (%s)", p->leaving);
    } else if (p->exit.signal == SIGKILL) {
        add(e, room, " (by the kernel for lack of memory, or by a person: see dmesg)");
    }
    if (known && (status.flags & STORE_STATUS_BUSY)) {
        add(e, room, "; it was running %s", status.name[0] ? status.name : "a task");
    }
    add(e, room, "; it had used at most %" PRIu64 " MiB of memory.", p->exit.memory_peak >> 20);
    if (!p->leaving_intended && rl_log_tail(&p->err, tail, sizeof(tail))[0]) {
        add(e, room, " The last lines of its stderr:\n%s", tail);
    }
    for (char *c = e; *c; c++) { /* a cut or foreign character would make messages unreadable */
        const unsigned char byte = (unsigned char)*c;
        if (byte >= 0x80 || (byte < 0x20 && byte != '\n' && byte != '\t')) {
            *c = '?';
        }
    }
}

/* ---- announcement ---------------------------------------------------------------------------- */

struct seal {
    struct id_worker owner;
    struct store_ref ref;
};
struct seals {
    struct rl_process *dead;
    struct str list; /* of struct seal, ordered by owner */
};

static void
on_seal(const struct id_worker *owner, const struct store_ref *ref, const struct id_object *id,
        void *ctx)
{
    (void)id;
    struct seals *seals = ctx;
    const struct seal seal = { .owner = *owner, .ref = *ref };
    str_append(&seals->list, &seal, sizeof(seal));
    struct rl_process *process = rl_find_id(seals->dead->raylet, owner);
    if (process && !process->dead) {
        rl_death_collect(process, seals->dead);
    }
}

/* The task words for owners on other nodes, without the unused end. How many. */
static size_t
copy_windows(const struct rl_process *p, uint64_t out[STORE_WINDOW_WORDS])
{
    if (!p->has_store) {
        return 0;
    }
    const struct store_ctl_process *own = store_proc_process_half(p->raylet->store, p->store_proc);
    size_t used = 0;
    for (size_t i = 0; i < STORE_WINDOW_WORDS; i++) {
        out[i] = atom_u64_load(&own->window[i], ATOM_ACQUIRE);
        used = out[i] ? i + 1 : used;
    }
    return used;
}

static void
tell_watchers(struct rl_process *p, const struct seals *seals)
{
    uint64_t windows[STORE_WINDOW_WORDS];
    Ray__Node__ProcessDied m = RAY__NODE__PROCESS_DIED__INIT;
    m.worker_id = rl_bytes(p->id.b, sizeof(p->id.b));
    m.pid = p->pid;
    m.exit_code = p->exit.code;
    m.signal = p->exit.signal;
    m.evidence = p->evidence;
    m.expected = p->leaving_intended;
    m.n_windows = copy_windows(p, windows);
    m.windows = windows;
    if (p->actor) {
        m.actor_id = rl_bytes(p->actor->id.b, sizeof(p->actor->id.b));
    }
    const size_t count = seals->list.size / sizeof(struct seal);
    LIST_FOR_SAFE (l, next, &p->watchers) {
        struct rl_watcher *w = LIST_ENTRY(l, struct rl_watcher, of_process);
        struct str refs;
        str_init(&refs, p->raylet->mem);
        for (size_t i = 0; i < count; i++) {
            struct seal seal;
            memcpy(&seal, seals->list.data + i * sizeof(seal), sizeof(seal));
            if (ID_EQ(seal.owner, w->watcher->id)) {
                str_append(&refs, &seal.ref, sizeof(seal.ref));
            }
        }
        m.sealed = rl_bytes(refs.data, refs.size);
        rl_send(w->watcher, NODE_PROCESS_DIED, 0, &m.base);
        str_fini(&refs);
        list_remove(&w->of_process);
        list_remove(&w->of_watcher);
        mem_free(p->raylet->mem, w, sizeof(*w));
    }
}

static void
announce(struct rl_process *p)
{
    struct raylet *r = p->raylet;
    struct seals seals = { .dead = p };
    str_init(&seals.list, r->mem);
    if (p->has_store && p->kind == RL_WORKER_PROCESS) {
        store_proc_dead(r->store, p->store_proc);
        store_proc_seals(r->store, p->store_proc, on_seal, &seals);
    }
    write_evidence(p);
    struct rl_outs o;
    rl_outs_begin(r, &o);
    rl_lease_on_dead(&r->lease, os_now_ns(), p->number, p->evidence, &o.outs);
    rl_outs_finish(r, &o);
    tell_watchers(p, &seals);
    str_fini(&seals.list);
    bury(p);
    if (p->kind == RL_WORKER_PROCESS) {
        rl_actor_process_died(p);
        Ray__Gcs__ProcessGone gone = RAY__GCS__PROCESS_GONE__INIT;
        gone.worker_id = rl_bytes(p->id.b, sizeof(p->id.b));
        gone.evidence = p->evidence;
        rl_gcs_tell(r, GCS_PROCESS_GONE, &gone.base);
    }
}

/* ---- reclaiming ------------------------------------------------------------------------------ */

/* The two names of its socket: its own choice, and that by which others derive it from its id (as
 * wk_node_io.c makes it). A process that ended well has removed them itself. */
static void
remove_names(const struct rl_process *p)
{
    char hex[17], path[RL_PATH_MAX + 64];
    if (!p->peer_socket[0]) {
        return;
    }
    const char *dir = p->raylet->session.socket_dir;
    (void)snprintf(path, sizeof(path), "%s/%s", dir, p->peer_socket);
    (void)unlink(path);
    (void)snprintf(path, sizeof(path), "%s/w%s", dir, id_hex(p->id.b, 8, hex));
    (void)unlink(path);
}

/* Its children are gone: what it held in memory can go, then its resources. */
static void
reclaim(struct rl_process *p)
{
    struct raylet *r = p->raylet;
    if (p->has_store) {
        if (p->kind == RL_DRIVER) {
            store_proc_dead(r->store, p->store_proc);
        }
        store_proc_drop(r->store, p->store_proc);
        p->has_store = false;
        store_on_owner_dead(r->store, &p->id);
    }
    remove_names(p);
    rl_log_drain(&p->out);
    rl_log_drain(&p->err);
    rl_lease_on_reclaimed(&r->lease, os_now_ns(), p->number);
    list_remove(&p->of_dying);
    p->dying = false;
    rl_process_free(p);
}

static bool
is_ours(const struct raylet *r, pid_t pid)
{
    const struct rl_process *p = rl_find_pid(r, pid);
    return p || pid == r->gcs.pid || rl_is_zygote(r, pid);
}

/* Kills children that nobody registered: what dead workers left. How many there are. */
static size_t
kill_orphans(struct raylet *r)
{
    pid_t *pids = malloc(sizeof(*pids) * CHILDREN_MAX);
    if (!pids) {
        return 0;
    }
    const int64_t n = os_proc_children(pids, CHILDREN_MAX);
    size_t orphans = 0;
    for (int64_t i = 0; i < n && i < CHILDREN_MAX; i++) {
        if (!is_ours(r, pids[i])) {
            os_log(OS_LOG_INFO, "kills process %d, which a dead worker left", (int)pids[i]);
            os_proc_signal(pids[i], SIGKILL);
            orphans++;
        }
    }
    free(pids);
    return orphans;
}

void
rl_kill_everything(struct raylet *r)
{
    pid_t *pids = malloc(sizeof(*pids) * CHILDREN_MAX);
    const int64_t n = pids ? os_proc_children(pids, CHILDREN_MAX) : 0;
    for (int64_t i = 0; i < n && i < CHILDREN_MAX; i++) {
        os_proc_signal(pids[i], SIGKILL);
    }
    free(pids);
    (void)r;
}

/* ---- reaping --------------------------------------------------------------------------------- */

static void
on_worker_exit(struct rl_process *p, const struct os_exit *exit)
{
    struct raylet *r = p->raylet;
    os_log(OS_LOG_DEBUG, "worker %d is reaped", p->pid);
    p->exit = *exit;
    p->dead = true;
    rl_process_forget_pid(p);
    net_loop_disarm(r->loop, &p->conn_timer);
    rl_conn_finish(p);
    rl_log_drain(&p->out);
    rl_log_drain(&p->err);
    p->dying = true;
    list_push_back(&r->dying, &p->of_dying);
    announce(p);
}

static void
on_exit_of(struct raylet *r, const struct os_exit *exit)
{
    struct rl_process *p = rl_find_pid(r, exit->pid);
    if (p && p->kind == RL_WORKER_PROCESS) {
        on_worker_exit(p, exit);
    } else if (!rl_gcs_on_exit(r, exit) && !rl_zygote_on_exit(r, exit)) {
        os_log(OS_LOG_DEBUG, "orphan %d has ended", (int)exit->pid);
    }
}

void
rl_reap_all(struct raylet *r)
{
    struct os_exit exit;
    bool any = false;
    while (os_proc_reap(&exit) == ST_OK) {
        on_exit_of(r, &exit);
        any = true;
    }
    if (!any) {
        return;
    }
    if (kill_orphans(r) == 0) {
        LIST_FOR_SAFE (l, next, &r->dying) {
            reclaim(LIST_ENTRY(l, struct rl_process, of_dying));
        }
        rl_pump(r);
    }
    rl_stop_check(r);
}

void
rl_on_signals(void *ctx, uint32_t events)
{
    (void)events;
    struct raylet *r = ctx;
    for (int s = os_signal_next(r->signals.fd); s != 0; s = os_signal_next(r->signals.fd)) {
        if (s == SIGTERM || s == SIGINT) {
            rl_stop(r, getppid() == r->guard ? "it was told to" : "its guard has died");
        }
    }
    rl_reap_all(r);
    rl_jobs_sweep(r);
}

/* ---- drivers --------------------------------------------------------------------------------- */

/* Called when its connection ends, and again when the process has ended; either may come first. Its
 * views of objects live as long as the process. */
void
rl_driver_died(struct rl_process *driver)
{
    struct raylet *r = driver->raylet;
    struct rl_job_io *job = driver->job;
    if (!driver->dead) {
        driver->dead = true;
        rl_process_forget_pid(driver); /* the same process may come with another job */
        rl_conn_finish(driver);
        announce(driver);
        if (driver->has_store) {
            store_adopt(r->store, driver->store_proc);
            store_on_owner_dead(r->store, &driver->id);
            rl_store_work_soon(r);
        }
        rl_job_end(job);
        if (job->config->standalone) {
            rl_stop(r, "its driver has gone");
        }
    }
    if (driver->pidfd.fd < 0 || os_pidfd_is_dead(driver->pidfd.fd)) {
        reclaim(driver);
        rl_pump(r);
    }
}
