/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ray-gcs: the control service. Started by a raylet, which gives it the listening socket (so nobody
 * who connects while it is being started again is turned away) and ends it with SIGTERM.
 *
 *     ray-gcs --listen-fd N --database PATH [--durable]
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/status.h"
#include "gcs/gcs_server_io.h"
#include "os/os_basic.h"
#include "os/os_fault.h"
#include "os/os_log.h"

static int
usage(void)
{
    (void)fputs("usage: ray-gcs --listen-fd N --database PATH [--durable]\n"
                "Part of ray; started by the raylet, not by people.\n",
                stderr);
    return 2;
}

int
main(int argc, char **argv)
{
    static const struct option options[] = {
        { "listen-fd", required_argument, NULL, 'l' },
        { "database", required_argument, NULL, 'd' },
        { "durable", no_argument, NULL, 's' },
        { NULL, 0, NULL, 0 },
    };
    struct gcs_server_config config = { .listen_fd = -1 };
    for (int c = getopt_long(argc, argv, "", options, NULL); c != -1;
         c = getopt_long(argc, argv, "", options, NULL)) {
        switch (c) {
        case 'l':
            config.listen_fd = (int)strtol(optarg, NULL, 10);
            break;
        case 'd':
            config.database = optarg;
            break;
        case 's':
            config.durable = true;
            break;
        default:
            return usage();
        }
    }
    if (config.listen_fd < 0 || !config.database || optind != argc) {
        return usage();
    }
    os_panic_install();
    os_log_init("gcs");
    os_log_own_file();
    os_raise_fd_limit();
    if (os_fault_init("gcs") != ST_OK || gcs_server_run(&config) != ST_OK) {
        os_log(OS_LOG_ERROR, "ends: %s", st_last()->text);
        return 1;
    }
    return 0;
}
