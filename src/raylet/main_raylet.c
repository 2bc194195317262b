/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raylet: the node daemon. Started by ray_init or by `ray start`, which hand it one end of a socket
 * pair and, when the runtime is to end with its driver, a descriptor of that process.
 *
 *     raylet --boot-fd N [--driver-pidfd M]
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/status.h"
#include "os/os_basic.h"
#include "os/os_fault.h"
#include "os/os_log.h"
#include "raylet/rl_run_io.h"

static int
usage(void)
{
    (void)fputs("usage: raylet --boot-fd N [--driver-pidfd M]\n"
                "Part of ray; started by ray.init() or `ray start`, not by people.\n",
                stderr);
    return 2;
}

int
main(int argc, char **argv)
{
    static const struct option options[] = {
        { "boot-fd", required_argument, NULL, 'b' },
        { "driver-pidfd", required_argument, NULL, 'd' },
        { NULL, 0, NULL, 0 },
    };
    int boot_fd = -1, driver_pidfd = -1;
    for (int c = getopt_long(argc, argv, "", options, NULL); c != -1;
         c = getopt_long(argc, argv, "", options, NULL)) {
        if (c != 'b' && c != 'd') {
            return usage();
        }
        const long fd = strtol(optarg, NULL, 10);
        if (fd < 3 || fd > 1 << 20) {
            return usage();
        }
        *(c == 'b' ? &boot_fd : &driver_pidfd) = (int)fd;
    }
    if (boot_fd < 0 || optind != argc) {
        return usage();
    }
    os_panic_install();
    os_log_init("raylet");
    os_log_own_file();
    os_raise_fd_limit();
    if (os_fault_init("raylet") != ST_OK) {
        os_log(OS_LOG_ERROR, "%s", st_last()->text);
        return 1;
    }
    return rl_guard_main(boot_fd, driver_pidfd);
}
