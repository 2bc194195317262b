/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What workers print: pipes are read here, appended to files, and sent to the job's driver.
 *
 * A file is made with its first byte. It is rotated (to ".1", ".2", ...) at RAY_ROTATION_MAX_BYTES,
 * 64 MiB, of which RAY_ROTATION_BACKUP_COUNT, 1, are kept. What a session writes is capped at
 * RAY_LOG_SESSION_MAX_BYTES, 2 GiB: the files of those that ended go first, oldest first, then the
 * rotated ones of those that live; what is left is one file a stream. A driver that doesn't read
 * fast enough loses lines on its terminal, never in the files, and is told how much.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/atom.h"
#include "os/os_basic.h"
#include "raylet/rl_io.h"

enum {
    LOG_READ = 64 * 1024,
    LOG_LINE_MAX = 64 * 1024, /* a longer line is sent in pieces */
    LOG_READS_A_ROUND = 16,   /* so that one worker can't keep the loop busy */
    LOG_DRIVER_QUEUED_MAX = 8 * 1024 * 1024,
};
#define LOG_FILE_MAX    (UINT64_C(64) << 20)
#define LOG_SESSION_MAX (UINT64_C(2) << 30)

void
rl_logs_configure(struct raylet *r)
{
    const uint64_t file = os_env_number("RAY_ROTATION_MAX_BYTES", LOG_FILE_MAX);
    const uint64_t backups = os_env_number("RAY_ROTATION_BACKUP_COUNT", 1);
    r->log_file_max = file > 0 ? file : UINT64_MAX; /* 0: never rotated, as Python has it */
    r->log_backups = backups < RL_LOG_BACKUPS_MAX ? (uint32_t)backups : RL_LOG_BACKUPS_MAX;
    r->log_session_max = os_env_number("RAY_LOG_SESSION_MAX_BYTES", LOG_SESSION_MAX);
}

/* A finished file, to be removed when the session's files get too large. */
struct rl_old_log {
    struct list all;
    uint64_t size;
    char path[300];
};

/* ---- files ----------------------------------------------------------------------------------- */

static void
full_path(const struct rl_log *log, const char *suffix, char *out, size_t capacity)
{
    (void)snprintf(out, capacity, "%s/logs/%s%s", log->raylet->session.dir, log->path, suffix);
}

static void
retire_file(struct rl_log *log, const char *suffix, uint64_t size)
{
    struct raylet *r = log->raylet;
    struct rl_old_log *old = mem_alloc(r->mem, sizeof(*old));
    if (!old) {
        return; /* this one is never removed */
    }
    *old = (struct rl_old_log){ .size = size };
    (void)snprintf(old->path, sizeof(old->path), "%s%s", log->path, suffix);
    list_push_back(&r->old_logs, &old->all);
}

static void
remove_file(struct raylet *r, const char *name, const char *suffix, uint64_t size)
{
    char path[RL_PATH_MAX + 320];
    (void)snprintf(path, sizeof(path), "%s/logs/%s%s", r->session.dir, name, suffix);
    if (unlink(path) < 0) {
        os_log(OS_LOG_WARN, "can't remove %s", path);
    }
    r->log_bytes -= size < r->log_bytes ? size : r->log_bytes;
}

static void
suffix_of(uint32_t backup, char out[16])
{
    (void)snprintf(out, 16, ".%u", backup + 1);
}

/* Removes the oldest rotated file. False: there is none. */
static bool
remove_backup(struct rl_log *log)
{
    char suffix[16];
    if (log->backups == 0) {
        return false;
    }
    log->backups--;
    suffix_of(log->backups, suffix);
    remove_file(log->raylet, log->path, suffix, log->backup_size[log->backups]);
    return true;
}

static bool
remove_some_backup(struct raylet *r)
{
    LIST_FOR (l, &r->processes) {
        struct rl_process *p = LIST_ENTRY(l, struct rl_process, all);
        if (remove_backup(&p->out) || remove_backup(&p->err)) {
            return true;
        }
    }
    return false;
}

static void
remove_oldest(struct raylet *r)
{
    while (r->log_bytes > r->log_session_max) {
        struct list *first = list_pop_front(&r->old_logs);
        if (first) {
            struct rl_old_log *old = LIST_ENTRY(first, struct rl_old_log, all);
            remove_file(r, old->path, "", old->size);
            mem_free(r->mem, old, sizeof(*old));
        } else if (!remove_some_backup(r)) {
            return;
        }
    }
}

void
rl_logs_free(struct raylet *r)
{
    for (struct list *l = list_pop_front(&r->old_logs); l; l = list_pop_front(&r->old_logs)) {
        mem_free(r->mem, LIST_ENTRY(l, struct rl_old_log, all), sizeof(struct rl_old_log));
    }
}

static void
rotate(struct rl_log *log)
{
    char from[RL_PATH_MAX + 320], to[RL_PATH_MAX + 320], suffix[16];
    os_close(&log->file);
    if (log->raylet->log_backups == 0) {
        remove_file(log->raylet, log->path, "", log->file_size);
        log->file_size = 0;
        return;
    }
    if (log->backups == log->raylet->log_backups) {
        (void)remove_backup(log);
    }
    for (uint32_t i = log->backups; i > 0; i--) {
        suffix_of(i - 1, suffix);
        full_path(log, suffix, from, sizeof(from));
        suffix_of(i, suffix);
        full_path(log, suffix, to, sizeof(to));
        if (rename(from, to) < 0) {
            os_log(OS_LOG_WARN, "can't rotate %s", from);
        }
        log->backup_size[i] = log->backup_size[i - 1];
    }
    full_path(log, "", from, sizeof(from));
    full_path(log, ".1", to, sizeof(to));
    if (rename(from, to) < 0) {
        os_log(OS_LOG_WARN, "can't rotate %s", from);
    }
    log->backup_size[0] = log->file_size;
    log->backups++;
    log->file_size = 0;
}

static void
write_file(struct rl_log *log, const char *data, size_t size)
{
    if (log->path[0] == '\0') {
        return; /* no name yet: the process isn't known; what it says is kept for evidence */
    }
    if (log->file >= 0 && log->file_size >= log->raylet->log_file_max) {
        rotate(log);
    }
    if (log->file < 0) {
        char path[RL_PATH_MAX + 320];
        full_path(log, "", path, sizeof(path));
        log->file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        if (log->file < 0) {
            os_log(OS_LOG_WARN, "can't write %s", path);
            return;
        }
    }
    for (size_t done = 0; done < size;) {
        const ssize_t n = write(log->file, data + done, size - done);
        if (n > 0) {
            done += (size_t)n;
        } else if (errno != EINTR) {
            return; /* the disk is full: the lines still reach the driver */
        }
    }
    log->file_size += size;
    log->raylet->log_bytes += size;
    remove_oldest(log->raylet);
}

/* ---- lines ----------------------------------------------------------------------------------- */

static void
send_text(struct rl_log *log, const char *name, const char *data, size_t size)
{
    struct rl_process *driver = log->job ? log->job->driver : NULL;
    if (!driver || !driver->conn || size == 0) {
        return;
    }
    if (net_conn_queued(driver->conn) > LOG_DRIVER_QUEUED_MAX) {
        log->dropped += size;
        return;
    }
    Ray__Node__LogLines m = RAY__NODE__LOG_LINES__INIT;
    m.name = rl_text(name);
    m.pid = log->pid;
    m.is_stderr = log->is_stderr;
    char note[160];
    if (log->dropped > 0) {
        const int n =
            snprintf(note, sizeof(note),
                     "[%llu bytes of output were not shown here; they are in the log file]\n",
                     (unsigned long long)log->dropped);
        m.text = rl_bytes(note, n > 0 ? (size_t)n : 0);
        rl_send(driver, NODE_LOG_LINES, 0, &m.base);
        log->dropped = 0;
    }
    m.text = rl_bytes(data, size);
    rl_send(driver, NODE_LOG_LINES, 0, &m.base);
}

/* The function that runs or ran last: what it printed may be read when it has ended, and while the
 * next one is begun, when the status can't be read as a whole. */
static void
last_name(const struct rl_process *p, char out[STORE_NAME_MAX])
{
    const struct store_ctl_process *half = store_proc_process_half(p->raylet->store, p->store_proc);
    const uint32_t at = atom_u32_load(&half->status.name, ATOM_ACQUIRE);
    if (at >= 2 * STORE_NAMES) {
        return;
    }
    for (size_t i = 0; i < STORE_NAME_MAX / sizeof(uint64_t); i++) {
        const uint64_t word = atom_u64_load(&half->names[at % STORE_NAMES][i], ATOM_ACQUIRE);
        memcpy(out + i * sizeof(word), &word, sizeof(word));
    }
    out[STORE_NAME_MAX - 1] = '\0';
}

/* The actor's class, or the function that runs or ran last. */
static void
find_name(const struct rl_log *log, char *out, size_t capacity)
{
    const struct rl_process *p = log->process;
    struct store_status_copy status;
    out[0] = '\0';
    if (!p) {
        return;
    }
    if (p->actor) {
        (void)snprintf(out, capacity, "%s", p->actor->spec->class_name);
    } else if (p->has_store) {
        if (!store_proc_status(p->raylet->store, p->store_proc, &status) ||
            status.name[0] == '\0') {
            last_name(p, status.name);
        }
        (void)snprintf(out, capacity, "%s", status.name);
    }
}

/* Sends whole lines; keeps the rest. */
static void
forward(struct rl_log *log, const char *data, size_t size)
{
    if (!log->forward) {
        return;
    }
    char name[STORE_NAME_MAX + 1];
    find_name(log, name, sizeof(name));
    const char *last = memrchr(data, '\n', size);
    const size_t whole = last ? (size_t)(last - data) + 1 : 0;
    if (whole > 0 && log->partial.size == 0) {
        send_text(log, name, data, whole);
    } else {
        str_append(&log->partial, data, whole);
        if (whole > 0) {
            send_text(log, name, log->partial.data, log->partial.size);
            str_clear(&log->partial);
        }
    }
    str_append(&log->partial, data + whole, size - whole);
    if (log->partial.size >= LOG_LINE_MAX || log->partial.failed) {
        send_text(log, name, log->partial.data, log->partial.size);
        str_clear(&log->partial);
    }
}

static void
keep_tail(struct rl_log *log, const char *data, size_t size)
{
    if (size >= RL_TAIL_MAX) {
        memcpy(log->tail, data + size - RL_TAIL_MAX, RL_TAIL_MAX);
        log->tail_size = RL_TAIL_MAX;
        return;
    }
    const size_t over =
        log->tail_size + size > RL_TAIL_MAX ? log->tail_size + size - RL_TAIL_MAX : 0;
    memmove(log->tail, log->tail + over, log->tail_size - over);
    memcpy(log->tail + log->tail_size - over, data, size);
    log->tail_size = (uint32_t)(log->tail_size - over + size);
}

const char *
rl_log_tail(struct rl_log *log, char *out, size_t capacity)
{
    size_t size = log->tail_size;
    while (size > 0 && log->tail[size - 1] == '\n') {
        size--;
    }
    const size_t from = size >= capacity ? size - (capacity - 1) : 0;
    memcpy(out, log->tail + from, size - from);
    out[size - from] = '\0';
    return out;
}

/* ---- the pipe -------------------------------------------------------------------------------- */

static void
end_of_pipe(struct rl_log *log)
{
    net_loop_remove(log->raylet->loop, &log->watch);
    os_close(&log->watch.fd);
    if (log->partial.size > 0) {
        char name[STORE_NAME_MAX + 1];
        find_name(log, name, sizeof(name));
        str_append(&log->partial, "\n", 1);
        send_text(log, name, log->partial.data, log->partial.size);
        str_clear(&log->partial);
    }
}

/* Reads at most `rounds` buffers. */
static void
read_pipe(struct rl_log *log, int rounds)
{
    static char buffer[LOG_READ]; /* one thread */
    for (int i = 0; i < rounds && log->watch.fd >= 0; i++) {
        const ssize_t n = read(log->watch.fd, buffer, sizeof(buffer));
        if (n == 0) {
            end_of_pipe(log);
            return;
        }
        if (n < 0) {
            if (errno != EAGAIN && errno != EINTR) {
                end_of_pipe(log);
            }
            return;
        }
        keep_tail(log, buffer, (size_t)n);
        write_file(log, buffer, (size_t)n);
        forward(log, buffer, (size_t)n);
    }
}

static void
on_pipe(void *ctx, uint32_t events)
{
    (void)events;
    read_pipe(ctx, LOG_READS_A_ROUND);
}

void
rl_log_drain(struct rl_log *log)
{
    if (log->watch.fd >= 0) {
        read_pipe(log,
                  1024); /* a pipe holds at most 1 MiB; more comes only from what still lives */
    }
}

void
rl_log_init(struct rl_log *log, struct raylet *r)
{
    memset(log, 0, sizeof(*log));
    log->raylet = r;
    log->file = -1;
    log->watch.fd = -1;
    str_init(&log->partial, r->mem);
}

int
rl_log_open(struct rl_log *log, int fd, struct rl_job_io *job, struct rl_process *process,
            bool is_stderr)
{
    rl_log_close(log);
    log->tail_size = 0;
    log->path[0] = '\0';
    log->job = job;
    log->process = process;
    log->is_stderr = is_stderr;
    log->forward = job->config->log_to_driver;
    log->watch = (struct net_watch){ .fd = fd, .on_ready = on_pipe, .ctx = log };
    const int status = net_loop_add(log->raylet->loop, &log->watch, EPOLLIN);
    if (status != ST_OK) {
        os_close(&log->watch.fd);
    }
    return status;
}

void
rl_log_name(struct rl_log *log, int32_t pid, const char *path)
{
    log->pid = pid;
    (void)snprintf(log->path, sizeof(log->path), "%s", path);
}

void
rl_log_close(struct rl_log *log)
{
    if (log->watch.fd >= 0) {
        rl_log_drain(log);
    }
    if (log->watch.fd >= 0) {
        end_of_pipe(log);
    }
    if (log->file >= 0) {
        os_close(&log->file); /* its rotated files are older */
        for (uint32_t i = log->backups; i > 0; i--) {
            char suffix[16];
            suffix_of(i - 1, suffix);
            retire_file(log, suffix, log->backup_size[i - 1]);
        }
        log->backups = 0;
        retire_file(log, "", log->file_size);
        log->file_size = 0;
    }
    str_fini(&log->partial);
}
