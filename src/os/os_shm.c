/* SPDX-License-Identifier: Apache-2.0 */
/* Memory files by memfd_create. See os_shm.h. */
#include "os/os_shm.h"

#include "base/flt.h"
#include "base/status.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Newer than the C library's headers; the numbers are the kernel's. */
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

enum { PAGE = 4096 };

int
os_shm_create(const char *name, uint64_t size, int *fd)
{
    *fd = -1;
    TRY(FAULT("os.shm.create"));
    if (size > INT64_MAX) {
        return st_fail(ST_INVALID_ARGUMENT, "a memory file of %llu bytes",
                       (unsigned long long)size);
    }
    int f = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (f < 0 && errno == EINVAL) { /* kernel before 6.3 */
        f = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    }
    if (f < 0) {
        return st_fail_errno(ST_SYSTEM, errno, "memfd_create(%s)", name);
    }
    if (ftruncate(f, (off_t)size) != 0) {
        const int error = errno;
        (void)close(f);
        return st_fail_errno(ST_SYSTEM, error, "sizing memory file %s to %llu bytes", name,
                             (unsigned long long)size);
    }
    if (fcntl(f, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        const int error = errno;
        (void)close(f);
        return st_fail_errno(ST_SYSTEM, error, "sealing memory file %s", name);
    }
    *fd = f;
    return ST_OK;
}

int
os_shm_reopen_read(int fd, int *out)
{
    char path[64];
    *out = -1;
    TRY(FAULT("os.shm.reopen"));
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    const int f = open(path, O_RDONLY | O_CLOEXEC);
    if (f < 0) {
        return st_fail_errno(ST_SYSTEM, errno, "reopening a memory file read-only through %s",
                             path);
    }
    *out = f;
    return ST_OK;
}

int
os_shm_size(int fd, uint64_t *size)
{
    struct stat st;
    *size = 0;
    if (fstat(fd, &st) != 0) {
        return st_fail_errno(ST_SYSTEM, errno, "fstat of a memory file");
    }
    *size = (uint64_t)st.st_size;
    return ST_OK;
}

int
os_shm_resident(int fd, uint64_t *bytes)
{
    struct stat st;
    *bytes = 0;
    if (fstat(fd, &st) != 0) {
        return st_fail_errno(ST_SYSTEM, errno, "fstat of a memory file");
    }
    *bytes = (uint64_t)st.st_blocks * 512;
    return ST_OK;
}

static int
protection(enum os_shm_access access)
{
    switch (access) {
    case OS_SHM_NONE:
        return PROT_NONE;
    case OS_SHM_READ:
        return PROT_READ;
    case OS_SHM_WRITE:
        return PROT_READ | PROT_WRITE;
    }
    UNREACHABLE();
}

int
os_shm_map(int fd, uint64_t offset, size_t size, enum os_shm_access access, size_t align,
           void **out)
{
    *out = NULL;
    TRY(FAULT("os.shm.map"));
    ASSERT(align == 0 || (align & (align - 1)) == 0);
    const size_t extra = align > PAGE ? align - PAGE : 0;
    /* Reserve enough for an aligned part, put the file there, give the ends back. */
    void *reserved =
        mmap(NULL, size + extra, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reserved == MAP_FAILED) {
        return st_fail_errno(ST_OUT_OF_MEMORY, errno, "reserving %zu bytes of address space",
                             size + extra);
    }
    const uintptr_t start = (uintptr_t)reserved;
    const uintptr_t at = extra ? (start + align - 1) & ~((uintptr_t)align - 1) : start;
    void *p = mmap((char *)reserved + (at - start), size, protection(access),
                   MAP_SHARED | MAP_FIXED, fd, (off_t)offset);
    if (p == MAP_FAILED) {
        const int error = errno;
        (void)munmap(reserved, size + extra);
        return st_fail_errno(ST_SYSTEM, error, "mapping %zu bytes of a memory file", size);
    }
    if (at > start) {
        (void)munmap(reserved, at - start);
    }
    if (at - start < extra) {
        (void)munmap((char *)p + size, extra - (at - start));
    }
    *out = p;
    return ST_OK;
}

void
os_shm_unmap(void *address, size_t size)
{
    if (address) {
        const int failed = munmap(address, size);
        ASSERT(!failed);
    }
}

int
os_shm_protect(void *address, size_t size, enum os_shm_access access)
{
    TRY(FAULT("os.shm.protect"));
    if (mprotect(address, size, protection(access)) != 0) {
        return st_fail_errno(ST_SYSTEM, errno, "mprotect of %zu bytes", size);
    }
    return ST_OK;
}

int
os_shm_no_fork(void *address, size_t size)
{
    if (madvise(address, size, MADV_DONTFORK) != 0) {
        return st_fail_errno(ST_SYSTEM, errno, "MADV_DONTFORK of %zu bytes", size);
    }
    return ST_OK;
}

void
os_shm_forget(void *address, size_t size)
{
    (void)madvise(address, size, MADV_DONTNEED);
}

int
os_shm_punch(int fd, uint64_t offset, uint64_t size)
{
    TRY(FAULT("os.shm.punch"));
    if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)size) !=
        0) {
        return st_fail_errno(ST_SYSTEM, errno, "giving %llu bytes of a memory file back",
                             (unsigned long long)size);
    }
    return ST_OK;
}

int
os_shm_populate_huge(void *address, size_t size)
{
    enum { HUGE = 2 * 1024 * 1024 };
    ASSERT((uintptr_t)address % HUGE == 0 && size % HUGE == 0);
    TRY(FAULT("os.shm.populate_huge"));
    volatile unsigned char *bytes = address;
    for (size_t i = 0; i < size; i += HUGE) {
        const unsigned char same = bytes[i];
        bytes[i] = same; /* the kernel collapses only what has a page */
    }
    if (madvise(address, size, MADV_COLLAPSE) != 0) {
        return st_fail_errno(ST_NOT_SUPPORTED, errno, "MADV_COLLAPSE of %zu bytes", size);
    }
    return ST_OK;
}

void
os_shm_close(int fd)
{
    if (fd >= 0) {
        (void)close(fd);
    }
}
