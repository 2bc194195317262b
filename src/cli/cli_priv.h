/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command `ray`: what its files share. One thread; every command blocks until it is done, talks
 * to raylets over their unix sockets, frame by frame, and gives an exit code: 0, 1 for what went
 * wrong, 2 for a command line that makes no sense.
 */
#ifndef RAY_CLI_PRIV_H
#define RAY_CLI_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "base/str.h"
#include "net/net_frame.h"
#include "net/net_msg.h"

enum { CLI_ADDRESS_MAX = 256, CLI_PAIRS_MAX = 64, CLI_NAME_MAX = 128, CLI_USAGE = 2 };

/* One member of a flat JSON object of numbers. */
struct cli_pair {
    char name[CLI_NAME_MAX];
    double value;
};

/* cli_json.c: how many members, -1 when the text is anything else. */
int cli_parse_pairs(const char *text, struct cli_pair *out, int capacity);
/* The value of a name, `otherwise` when it isn't there. */
double cli_pair_get(const struct cli_pair *pairs, int count, const char *name, double otherwise);

/* cli_node_io.c */
int cli_send(int fd, uint16_t kind, uint64_t request, const ProtobufCMessage *message) MUST_USE;
/* The next frame, of that kind, unpacked; the caller frees it with protobuf-c. */
int cli_receive(int fd, uint16_t kind, const ProtobufCMessageDescriptor *type, int timeout_ms,
                ProtobufCMessage **out) MUST_USE;
/* Asks a raylet a question of people; the pairs of its answer, or -1 with st_last(). */
int cli_ask_pairs(const char *address, const char *what, struct cli_pair *out, int capacity);
/* The runtime that a command is about: `given`, RAY_ADDRESS, the standing one. */
int cli_find_runtime(const char *given, char out[CLI_ADDRESS_MAX]) MUST_USE;
/* --temp-dir, else RAY_TMPDIR; NULL for the default. */
const char *cli_temp_dir(const char *given);

/* Commands: argv[0] is the command's name. */
int cli_start(int argc, char **argv);
int cli_stop(int argc, char **argv);
int cli_status(int argc, char **argv);

/* Prints "Error: ..." to stderr; gives `code`. */
int cli_error(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The status text of the last failure, after `what`; gives 1. */
int cli_failed(const char *what);

#endif
