/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory files (memfd) and their mappings: what the object store and the rings are made of.
 *
 * Nothing here has a name in a file system, so nothing is left when the last process that holds a
 * descriptor or a mapping ends. All functions are thread-safe; errors are ST_SYSTEM (or
 * ST_OUT_OF_MEMORY) with the thread's st_error filled.
 */
#ifndef RAY_OS_SHM_H
#define RAY_OS_SHM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/assert.h"

enum os_shm_access {
    OS_SHM_NONE, /* address space only */
    OS_SHM_READ,
    OS_SHM_WRITE, /* and read */
};

/* A zeroed file of fixed size: it can't be shrunk or grown by anyone. `name` is shown in
 * /proc/<pid>/maps. Close-on-exec. */
int os_shm_create(const char *name, uint64_t size, int *fd) MUST_USE;

/* A second, read-only descriptor of the same file: mappings made of it can't be made writable. */
int os_shm_reopen_read(int fd, int *out) MUST_USE;

/* The size of the file. */
int os_shm_size(int fd, uint64_t *size) MUST_USE;

/* Memory that the file occupies now, in bytes. */
int os_shm_resident(int fd, uint64_t *bytes) MUST_USE;

/* Maps a part of the file, shared, nothing made present. `align`: a power of two that the address
 * is a multiple of (0: a page). Offset and size are multiples of a page. */
int os_shm_map(int fd, uint64_t offset, size_t size, enum os_shm_access access, size_t align,
               void **out) MUST_USE;
void os_shm_unmap(void *address, size_t size);

/* Changes what may be done with pages of a mapping. */
int os_shm_protect(void *address, size_t size, enum os_shm_access access) MUST_USE;

/* Children made by fork don't get this mapping. */
int os_shm_no_fork(void *address, size_t size) MUST_USE;

/* Takes the pages out of this process's page tables; their contents stay in the file. */
void os_shm_forget(void *address, size_t size);

/* Gives the part's memory back to the system; it reads as zeroes after. */
int os_shm_punch(int fd, uint64_t offset, uint64_t size) MUST_USE;

/* Gives a part memory now, in huge pages, through a writable mapping of it; the address is a
 * multiple of the huge page. ST_NOT_SUPPORTED where the kernel won't. (fallocate would leave the
 * clearing of pages, which is what takes the time, to the first touch.) */
int os_shm_populate_huge(void *address, size_t size) MUST_USE;

/* Closes a descriptor; negative numbers are ignored. */
void os_shm_close(int fd);

#endif
