/* SPDX-License-Identifier: Apache-2.0 */
/* The status words that the raylet and tools read: a sequence lock with one writer. */
#include "store/storec_priv.h"

#include <string.h>

#include "base/flt.h"

/* Odd: being written. The words themselves are released one by one, so that a reader that sees any
 * of them also sees the odd number. */
static void
open_status(struct store_status *status)
{
    const uint32_t seq = atom_u32_load(&status->seq, ATOM_RELAXED);
    FAULT_STEP("lease.status.before_odd");
    atom_u32_store(&status->seq, seq + 1, ATOM_RELAXED);
    FAULT_STEP("lease.status.after_odd");
}

static void
close_status(struct store_status *status)
{
    const uint32_t seq = atom_u32_load(&status->seq, ATOM_RELAXED);
    FAULT_STEP("lease.status.before_even");
    atom_u32_store(&status->seq, seq + 1, ATOM_RELEASE);
    FAULT_STEP("lease.status.after_even");
}

static void
copy_name(struct atom_u64 *to, const char *name)
{
    char text[STORE_NAME_MAX] = { 0 };
    memcpy(text, name, strnlen(name, sizeof(text) - 1));
    for (unsigned i = 0; i < STORE_NAME_MAX / 8; i++) {
        uint64_t word = 0;
        memcpy(&word, text + (size_t)i * 8, sizeof(word));
        atom_u64_store(&to[i], word, ATOM_RELEASE);
        FAULT_STEP("lease.status.after_name_word");
    }
}

static void
write_task(struct store_status *status, const struct id_task *task)
{
    uint64_t words[3];
    memcpy(words, task->b, sizeof(words));
    for (unsigned i = 0; i < 3; i++) {
        atom_u64_store(&status->task[i], words[i], ATOM_RELEASE);
        FAULT_STEP("lease.status.after_task_word");
    }
}

void
storec_status_begin(struct storec *store, const struct id_task *task, uint32_t attempt,
                    uint32_t flags, uint64_t start_ns, uint64_t name_key, const char *name)
{
    struct store_status *status = &store->process->status;
    const uint32_t at = (uint32_t)(name_key % STORE_NAMES);
    open_status(status);
    if (name_key == 0 || store->name_keys[at] != name_key) {
        copy_name(store->process->names[at], name);
        store->name_keys[at] = name_key;
    }
    write_task(status, task);
    atom_u64_store(&status->start_ns, start_ns, ATOM_RELEASE);
    FAULT_STEP("lease.status.after_start");
    atom_u32_store(&status->name, at, ATOM_RELEASE);
    FAULT_STEP("lease.status.after_name");
    atom_u32_store(&status->attempt, attempt, ATOM_RELEASE);
    FAULT_STEP("lease.status.after_attempt");
    const uint32_t owning = atom_u32_load(&status->flags, ATOM_RELAXED) & STORE_STATUS_OWNING;
    atom_u32_store(&status->flags, flags | owning | STORE_STATUS_BUSY, ATOM_RELEASE);
    close_status(status);
}

void
storec_status_flags(struct storec *store, uint32_t set, uint32_t clear)
{
    struct store_status *status = &store->process->status;
    const uint32_t flags = atom_u32_load(&status->flags, ATOM_RELAXED);
    open_status(status);
    atom_u32_store(&status->flags, (flags | set) & ~clear, ATOM_RELEASE);
    close_status(status);
}

void
storec_status_end(struct storec *store)
{
    struct store_status *status = &store->process->status;
    struct id_task none;
    ID_SET_NIL(&none);
    open_status(status);
    write_task(status, &none);
    atom_u64_store(&status->start_ns, 0, ATOM_RELEASE);
    FAULT_STEP("lease.status.after_start_end");
    const uint32_t name = atom_u32_load(&status->name, ATOM_RELAXED);
    if (name < STORE_NAMES) {
        atom_u32_store(&status->name, STORE_NAMES + name, ATOM_RELEASE);
    }
    FAULT_STEP("lease.status.after_name_end");
    const uint32_t owning = atom_u32_load(&status->flags, ATOM_RELAXED) & STORE_STATUS_OWNING;
    atom_u32_store(&status->flags, owning, ATOM_RELEASE);
    close_status(status);
}
