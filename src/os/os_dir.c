/* SPDX-License-Identifier: Apache-2.0 */
/* Directories and small files. See os_dir.h. */
#include "os/os_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/status.h"
#include "os/os_basic.h"

int
os_dir_make_new(const char *path, unsigned mode)
{
    if (mkdir(path, (mode_t)mode) == 0) {
        return ST_OK;
    }
    if (errno == EEXIST) {
        return st_fail(ST_EXISTS, "%s exists already", path);
    }
    return st_fail_errno(ST_SYSTEM, errno, "can't make directory %s", path);
}

int
os_dir_make(const char *path, unsigned mode)
{
    char part[PATH_MAX];
    const size_t length = strlen(path);
    if (length == 0 || length >= sizeof(part)) {
        return st_fail(ST_INVALID_ARGUMENT, "the path of a directory has %zu bytes", length);
    }
    memcpy(part, path, length + 1);
    for (size_t i = 1; i <= length; i++) {
        if (part[i] != '/' && part[i] != '\0') {
            continue;
        }
        const char kept = part[i];
        part[i] = '\0';
        if (mkdir(part, (mode_t)mode) < 0 && errno != EEXIST && errno != EISDIR) {
            return st_fail_errno(ST_SYSTEM, errno, "can't make directory %s", part);
        }
        part[i] = kept;
    }
    struct stat st;
    if (stat(path, &st) < 0) {
        return st_fail_errno(ST_SYSTEM, errno, "can't look at directory %s", path);
    }
    if (!S_ISDIR(st.st_mode)) {
        return st_fail(ST_SYSTEM, "%s is no directory", path);
    }
    return ST_OK;
}

bool
os_dir_writable(const char *path)
{
    return access(path, W_OK | X_OK) == 0;
}

bool
os_dir_trusted(const char *path)
{
    struct stat link, st;
    if (lstat(path, &link) < 0 || stat(path, &st) < 0 || !S_ISDIR(st.st_mode)) {
        return false;
    }
    const uid_t self = geteuid();
    return (link.st_uid == 0 || link.st_uid == self) && (st.st_uid == 0 || st.st_uid == self) &&
           ((st.st_mode & 022) == 0 || (st.st_mode & S_ISVTX) != 0);
}

void
os_dir_make_sticky(const char *path)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, &st) == 0 && st.st_uid == geteuid() && (st.st_mode & 022) != 0) {
        (void)fchmod(fd, (st.st_mode & 07777) | S_ISVTX); /* else it isn't trusted */
    }
    os_close(&fd);
}

bool
os_dir_private(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid() &&
           (st.st_mode & 077) == 0;
}

bool
os_dir_is_full(const char *path)
{
    enum { LEAST = 256 * 1024 };
    struct statvfs st;
    return statvfs(path, &st) == 0 && (uint64_t)st.f_bavail * st.f_frsize < LEAST;
}

/* Removes what is in an open directory. Goes at most `depth` levels down. */
static int
remove_inside(int fd, int depth)
{
    DIR *dir = fdopendir(fd);
    if (!dir) {
        const int error = errno;
        os_close(&fd);
        return error;
    }
    int failed = 0;
    for (const struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) {
            continue;
        }
        if (unlinkat(dirfd(dir), e->d_name, 0) == 0) {
            continue;
        }
        if (errno != EISDIR && errno != EPERM) {
            failed = errno;
            continue;
        }
        const int inner = depth > 0 ? openat(dirfd(dir), e->d_name,
                                             O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
                                    : -1;
        if (inner < 0) {
            failed = depth > 0 ? errno : ELOOP;
            continue;
        }
        const int below = remove_inside(inner, depth - 1);
        if (below) {
            failed = below;
        } else if (unlinkat(dirfd(dir), e->d_name, AT_REMOVEDIR) < 0) {
            failed = errno;
        }
    }
    (void)closedir(dir);
    return failed;
}

int
os_dir_remove(const char *path)
{
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? ST_OK
                               : st_fail_errno(ST_SYSTEM, errno, "can't remove directory %s", path);
    }
    enum { DEPTH_MAX = 32 };
    int failed = remove_inside(fd, DEPTH_MAX);
    if (!failed && rmdir(path) < 0) {
        failed = errno;
    }
    return failed ? st_fail_errno(ST_SYSTEM, failed, "can't remove directory %s", path) : ST_OK;
}

int
os_dir_each(const char *path, bool (*fn)(void *ctx, const char *name), void *ctx)
{
    DIR *dir = opendir(path);
    if (!dir) {
        return st_fail_errno(ST_SYSTEM, errno, "can't list directory %s", path);
    }
    for (const struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) {
            continue;
        }
        if (!fn(ctx, e->d_name)) {
            break;
        }
    }
    (void)closedir(dir);
    return ST_OK;
}

int
os_file_write(const char *path, const void *data, size_t size, unsigned mode)
{
    char temporary[PATH_MAX];
    const int n = snprintf(temporary, sizeof(temporary), "%s.%d", path, (int)getpid());
    if (n < 0 || (size_t)n >= sizeof(temporary)) {
        return st_fail(ST_INVALID_ARGUMENT, "the name of a file is too long");
    }
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, (mode_t)mode);
    if (fd < 0) {
        return st_fail_errno(ST_SYSTEM, errno, "can't make %s", temporary);
    }
    int failed = 0;
    for (size_t done = 0; done < size && !failed;) {
        const ssize_t wrote = write(fd, (const char *)data + done, size - done);
        if (wrote > 0) {
            done += (size_t)wrote;
        } else if (wrote == 0 || errno != EINTR) {
            failed = wrote == 0 ? EIO : errno;
        }
    }
    os_close(&fd);
    if (!failed && rename(temporary, path) < 0) {
        failed = errno;
    }
    if (failed) {
        (void)unlink(temporary);
        return st_fail_errno(ST_SYSTEM, failed, "can't write %s", path);
    }
    return ST_OK;
}

int
os_link_replace(const char *target, const char *path)
{
    char temporary[PATH_MAX];
    const int n = snprintf(temporary, sizeof(temporary), "%s.%d", path, (int)getpid());
    if (n < 0 || (size_t)n >= sizeof(temporary)) {
        return st_fail(ST_INVALID_ARGUMENT, "the name of a link is too long");
    }
    (void)unlink(temporary);
    if (symlink(target, temporary) < 0) {
        return st_fail_errno(ST_SYSTEM, errno, "can't make the link %s", temporary);
    }
    if (rename(temporary, path) < 0) {
        const int error = errno;
        (void)unlink(temporary);
        return st_fail_errno(ST_SYSTEM, error, "can't make the link %s", path);
    }
    return ST_OK;
}

int
os_path(char *out, size_t capacity, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    /* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): version 14 loses va_start here */
    const int n = vsnprintf(out, capacity, format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= capacity) {
        return st_fail(ST_INVALID_ARGUMENT, "a path has more than %zu bytes: %s", capacity - 1,
                       out);
    }
    return ST_OK;
}
