/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What ps and top show of a worker: ray::IDLE, ray::<task>.
 *
 * The kernel shows the memory in which exec laid the arguments, so that is written over, and only
 * when the title changes: it happens twice in every call that somebody waits for. The module
 * setproctitle reads the same memory, if it was loaded before anybody wrote (the zygote loads it),
 * so its getproctitle agrees. The name of the thread, which ps shows with -C and takes a system
 * call to change, stays "ray::worker".
 */
#include "_raymodule.h"

#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

enum { PREFIX = 5, TITLE_MAX = 256 }; /* of "ray::" */

static struct {
    bool looked; /* for the area; forked children have it from their zygote */
    bool begun;
    char *area; /* NULL: not found */
    size_t area_size;
    char shown[TITLE_MAX];
    size_t shown_size;
} title;

/* Fields 48 and 49 of /proc/self/stat tell where the arguments lie. */
void
process_title_find(void)
{
    title.looked = true;
    FILE *f = fopen("/proc/self/stat", "re");
    if (f == NULL) {
        return;
    }
    char text[2048];
    const size_t size = fread(text, 1, sizeof(text) - 1, f);
    fclose(f);
    text[size] = '\0';
    const char *at = strrchr(text, ')'); /* the name may hold anything */
    for (int field = 2; at != NULL && field < 48; field++) {
        at = strchr(at + 1, ' ');
    }
    unsigned long start = 0;
    unsigned long end = 0;
    if (at != NULL && sscanf(at, " %lu %lu", &start, &end) == 2 && end > start + PREFIX + 1) {
        title.area = (char *)start;
        title.area_size = end - start;
    }
}

static void
begin(void)
{
    title.begun = true;
    (void)prctl(PR_SET_NAME, "ray::worker", 0, 0, 0);
    if (!title.looked) {
        process_title_find();
    }
    if (title.area != NULL) {
        memset(title.area, 0, title.area_size);
        memcpy(title.shown, "ray::", PREFIX);
    }
}

void
process_title_set(const char *name)
{
    if (title.begun && strncmp(title.shown + PREFIX, name, TITLE_MAX - PREFIX - 1) == 0) {
        return;
    }
    if (!title.begun) {
        begin();
    }
    if (title.area == NULL) {
        return;
    }
    size_t size = strlen(name);
    size = size < TITLE_MAX - PREFIX - 1 ? size : TITLE_MAX - PREFIX - 1;
    memcpy(title.shown + PREFIX, name, size);
    size += PREFIX;
    title.shown[size] = '\0';
    size_t fits = size < title.area_size ? size : title.area_size - 1;
    memcpy(title.area, title.shown, fits);
    if (title.shown_size > fits) {
        memset(title.area + fits, 0, title.shown_size - fits);
    }
    title.area[fits] = '\0';
    title.shown_size = fits;
}
