/* SPDX-License-Identifier: Apache-2.0 */
/* Flat JSON objects of numbers: resources on the command line, and the raylet's answers. */
#include <stdlib.h>
#include <string.h>

#include "cli/cli_priv.h"

static const char *
skip_space(const char *p)
{
    return p + strspn(p, " \t\r\n");
}

/* A string without escapes. NULL when it is anything else. */
static const char *
take_name(const char *p, char out[CLI_NAME_MAX])
{
    if (*p != '"') {
        return NULL;
    }
    const size_t length = strcspn(++p, "\"\\");
    if (p[length] != '"' || length == 0 || length >= CLI_NAME_MAX) {
        return NULL;
    }
    memcpy(out, p, length);
    out[length] = '\0';
    return p + length + 1;
}

static const char *
take_pair(const char *p, struct cli_pair *out)
{
    p = take_name(skip_space(p), out->name);
    p = p ? skip_space(p) : NULL;
    if (!p || *p != ':') {
        return NULL;
    }
    char *end = NULL;
    p = skip_space(p + 1);
    out->value = strtod(p, &end);
    return end == p ? NULL : skip_space(end);
}

int
cli_parse_pairs(const char *text, struct cli_pair *out, int capacity)
{
    const char *p = skip_space(text);
    int count = 0;
    if (*p != '{') {
        return -1;
    }
    p = skip_space(p + 1);
    while (*p != '}') {
        p = count < capacity ? take_pair(p, &out[count]) : NULL;
        if (!p || (*p != ',' && *p != '}')) {
            return -1;
        }
        count++;
        if (*p == ',') {
            p = skip_space(p + 1);
        }
    }
    return *skip_space(p + 1) == '\0' ? count : -1;
}

double
cli_pair_get(const struct cli_pair *pairs, int count, const char *name, double otherwise)
{
    for (int i = 0; i < count; i++) {
        if (strcmp(pairs[i].name, name) == 0) {
            return pairs[i].value;
        }
    }
    return otherwise;
}
