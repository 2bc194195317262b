/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What ps and top show of a worker: ray::IDLE, ray::<task>.
 *
 * The kernel shows the memory in which exec laid the arguments, so that is written over; what is
 * shown already isn't written again. When the module setproctitle is loaded (the zygote tries to),
 * it does the writing, so that its getproctitle agrees: it keeps a copy of its own.
 */
#include "_raymodule.h"

#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

struct title_area {
    char *start;
    size_t size;
    bool looked;
};

/* Where the arguments lie: fields 48 and 49 of /proc/self/stat. */
static void
find_area(struct title_area *area)
{
    area->looked = true;
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
    if (at != NULL && sscanf(at, " %lu %lu", &start, &end) == 2 && end > start + 1) {
        area->start = (char *)start;
        area->size = end - start;
    }
}

static void
write_area(const char *title)
{
    static struct title_area area;
    if (!area.looked) {
        find_area(&area);
    }
    if (area.start != NULL) {
        size_t size = strlen(title);
        if (size > area.size - 1) {
            size = area.size - 1;
        }
        memcpy(area.start, title, size);
        memset(area.start + size, 0, area.size - size);
    }
    (void)prctl(PR_SET_NAME, title, 0, 0, 0);
}

/* Gives the title to the module setproctitle; false when it isn't loaded. */
static bool
write_by_module(struct state *st, const char *title)
{
    if (st->set_title == NULL) {
        PyObject *module =
            PyDict_GetItemString(PyImport_GetModuleDict(), "setproctitle"); /* borrowed */
        if (module == NULL) {
            return false;
        }
        st->set_title = PyObject_GetAttrString(module, "setproctitle");
    }
    PyObject *text = st->set_title == NULL
                         ? NULL
                         : PyUnicode_DecodeUTF8(title, (Py_ssize_t)strlen(title), "replace");
    PyObject *done = text == NULL ? NULL : PyObject_CallOneArg(st->set_title, text);
    Py_XDECREF(text);
    if (done == NULL) {
        PyErr_Clear(); /* a title is not worth failing a task for */
        return false;
    }
    Py_DECREF(done);
    return true;
}

void
process_title_set(struct state *st, const char *title)
{
    if (strncmp(st->shown_title, title, sizeof(st->shown_title) - 1) == 0) {
        return;
    }
    snprintf(st->shown_title, sizeof(st->shown_title), "%s", title);
    if (!write_by_module(st, st->shown_title)) {
        write_area(st->shown_title);
    }
}
