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

/* What follows a backslash: one character, up to U+07FF. How many bytes of UTF-8 it has, 0 for
 * anything else. */
static size_t
take_escape(const char **p, char out[2])
{
    static const char plain[] = "\"\\/bfnrt", means[] = "\"\\/\b\f\n\r\t";
    const char *found = **p ? strchr(plain, **p) : NULL;
    if (found) {
        out[0] = means[found - plain];
        *p += 1;
        return 1;
    }
    char digits[5] = "";
    if (**p != 'u' || strspn(*p + 1, "0123456789abcdefABCDEF") < 4) {
        return 0;
    }
    memcpy(digits, *p + 1, 4);
    *p += 5;
    const unsigned long code = strtoul(digits, NULL, 16);
    if (code >= 0x80) {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3f));
        return code < 0x800 ? 2 : 0;
    }
    out[0] = (char)code;
    return code != 0;
}

/* A string that isn't empty. NULL when it is anything else. */
static const char *
take_name(const char *p, char out[CLI_NAME_MAX])
{
    size_t length = 0;
    if (*p++ != '"') {
        return NULL;
    }
    while (*p != '"') {
        char bytes[2] = { *p, 0 };
        const bool escaped = *p == '\\';
        p += *p ? 1 : 0;
        const size_t size = escaped ? take_escape(&p, bytes) : bytes[0] != '\0';
        if (size == 0 || length + size >= CLI_NAME_MAX) {
            return NULL;
        }
        memcpy(out + length, bytes, size);
        length += size;
    }
    out[length] = '\0';
    return length > 0 ? p + 1 : NULL;
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
    /* Not all that C takes for a number is one in JSON: no 0x1p3, no infinity. */
    const bool is_number = end != p && (size_t)(end - p) <= strspn(p, "0123456789+-.eE");
    return is_number ? skip_space(end) : NULL;
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
            if (*p == '}') {
                return -1;
            }
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
