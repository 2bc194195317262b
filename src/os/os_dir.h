/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Directories and small files: making, removing, naming.
 */
#ifndef RAY_OS_DIR_H
#define RAY_OS_DIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/assert.h"

/* Makes a directory and those above it. One that is there already is fine. */
int os_dir_make(const char *path, unsigned mode) MUST_USE;
/* Makes one directory that must not be there: ST_EXISTS, ST_SYSTEM. */
int os_dir_make_new(const char *path, unsigned mode) MUST_USE;
/* Whether this process may make files there. */
bool os_dir_writable(const char *path);
/* Whether nobody else, root apart, can rename or remove what this process makes there. */
bool os_dir_trusted(const char *path);
/* Makes that so for a directory of this process's own user in which others may write too. */
void os_dir_make_sticky(const char *path);
/* Whether it is a real directory (no link) that belongs to this process's user and to which nobody
 * else has access. */
bool os_dir_private(const char *path);
/* Whether there is (nearly) no room on its disk. */
bool os_dir_is_full(const char *path);
/* Removes a directory and everything below it, without following links. Missing is fine. */
int os_dir_remove(const char *path) MUST_USE;
/* Calls fn for each name but . and .. until it returns false. */
int os_dir_each(const char *path, bool (*fn)(void *ctx, const char *name), void *ctx) MUST_USE;

/* Writes a whole small file by renaming, so that readers see the old or the new one. */
int os_file_write(const char *path, const void *data, size_t size, unsigned mode) MUST_USE;
/* Makes `path` a link to `target`, replacing an older link at once. */
int os_link_replace(const char *target, const char *path) MUST_USE;

/* Composes a path as printf does; ST_INVALID_ARGUMENT when it is too long. */
int os_path(char *out, size_t capacity, const char *format, ...)
    __attribute__((format(printf, 3, 4))) MUST_USE;

#endif
