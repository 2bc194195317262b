/* SPDX-License-Identifier: Apache-2.0 */
/* ray status: what the runtime has and what is in use. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/cli_priv.h"
#include "os/os_basic.h"

static const char *const line = "---------------------------------------------------------------";

static int
usage(FILE *to)
{
    (void)fputs(
        "Usage: ray status [OPTIONS]\n\n  What the runtime has and what is in use.\n\n"
        "Options:\n"
        "  --address TEXT  The runtime's address; by default RAY_ADDRESS, then the one that\n"
        "                  `ray start` left on this machine.\n"
        "  -v, --verbose   Accepted; there is one node.\n"
        "  --help          Show this message and exit.\n",
        to);
    return to == stdout ? 0 : CLI_USAGE;
}

static void
print_amount(const char *name, double used, double total)
{
    const bool bytes = strcmp(name, "memory") == 0 || strcmp(name, "object_store_memory") == 0;
    static const char *const units[] = { "B", "KiB", "MiB", "GiB" };
    if (!bytes) {
        (void)printf(" %.1f/%.1f %s\n", used, total, name);
        return;
    }
    const double amounts[2] = { used, total };
    char texts[2][64];
    for (int i = 0; i < 2; i++) {
        double amount = amounts[i];
        int unit = 0;
        while (amount >= 1024 && unit < 3) {
            amount /= 1024;
            unit++;
        }
        (void)snprintf(texts[i], sizeof(texts[i]), unit ? "%.2f%s" : "%.0f%s", amount, units[unit]);
    }
    (void)printf(" %s/%s %s\n", texts[0], texts[1], name);
}

static void
print_status(const struct cli_pair *total, int totals, const struct cli_pair *free_, int frees,
             const struct cli_pair *node, int nodes)
{
    char when[64] = "";
    const time_t now = (time_t)(os_wall_ns() / 1000000000);
    struct tm local;
    if (localtime_r(&now, &local)) {
        (void)strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &local);
    }
    (void)printf("======== Autoscaler status: %s ========\nNode status\n%s\nActive:\n", when, line);
    for (int i = 0; i < nodes; i++) {
        if (strcmp(node[i].name, "pending") != 0) {
            (void)printf(" 1 node_%s\n", node[i].name);
        }
    }
    (void)printf("Pending:\n (no pending nodes)\nRecent failures:\n (no failures)\n\n"
                 "Resources\n%s\nUsage:\n",
                 line);
    for (int i = 0; i < totals; i++) {
        if (strncmp(total[i].name, "node:", 5) != 0) {
            const double left = cli_pair_get(free_, frees, total[i].name, 0);
            print_amount(total[i].name, total[i].value - left, total[i].value);
        }
    }
    const double pending = cli_pair_get(node, nodes, "pending", 0);
    if (pending > 0) {
        (void)printf("\nDemands:\n %.0f+ pending tasks/actors\n", pending);
    } else {
        (void)printf("\nDemands:\n (no resource demands)\n");
    }
}

int
cli_status(int argc, char **argv)
{
    static const struct option options[] = {
        { "address", required_argument, NULL, 'a' },
        { "verbose", no_argument, NULL, 'v' },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    const char *given = NULL;
    for (int c = getopt_long(argc, argv, "v", options, NULL); c != -1;
         c = getopt_long(argc, argv, "v", options, NULL)) {
        if (c == 'a') {
            given = optarg;
        } else if (c != 'v') {
            return usage(c == 'h' ? stdout : stderr);
        }
    }
    if (optind != argc) {
        return usage(stderr);
    }
    char address[CLI_ADDRESS_MAX];
    if (cli_find_runtime(given, address) != ST_OK) {
        return cli_error(1, "%s", st_last()->text);
    }
    struct cli_pair total[CLI_PAIRS_MAX], free_[CLI_PAIRS_MAX], node[2];
    const int totals = cli_ask_pairs(address, "node_total", total, CLI_PAIRS_MAX);
    const int frees = cli_ask_pairs(address, "available_resources", free_, CLI_PAIRS_MAX);
    const int nodes = cli_ask_pairs(address, "node", node, 2);
    if (totals < 0 || frees < 0 || nodes < 0) {
        return cli_failed("the runtime doesn't tell its status");
    }
    print_status(total, totals, free_, frees, node, nodes);
    return 0;
}
