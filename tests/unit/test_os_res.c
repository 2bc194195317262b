/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of src/os/os_res.c, on trees of files as kernels show them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/status.h"
#include "harness.h"
#include "os/os_dir.h"
#include "os/os_res.h"

static void
put(const char *path, const char *text)
{
    char full[512], dir[512];
    (void)snprintf(full, sizeof(full), "%s%s", harness_dir(), path);
    (void)snprintf(dir, sizeof(dir), "%s", full);
    *strrchr(dir, '/') = '\0';
    assert_int_equal(os_dir_make(dir, 0755), ST_OK);
    assert_int_equal(os_file_write(full, text, strlen(text), 0644), ST_OK);
}

static const char meminfo[] = "MemTotal:       16000000 kB\n"
                              "MemFree:         1000000 kB\n"
                              "MemAvailable:    8000000 kB\n";

static void
test_machine_without_limits(void **state)
{
    (void)state;
    struct os_machine m;
    put("/proc/meminfo", meminfo);
    put("/proc/self/cgroup", "0::/\n");
    os_res_detect(harness_dir(), &m);
    assert_true(m.cpus >= 1);
    assert_false(m.cpu_quota);
    assert_int_equal(m.memory_total, UINT64_C(16000000) * 1024);
    assert_int_equal(m.memory_available, UINT64_C(8000000) * 1024);
    assert_int_equal(m.gpus, 0);
    assert_string_equal(m.gpu_name, "");
}

static void
test_limits_of_any_level_count(void **state)
{
    (void)state;
    struct os_machine m;
    put("/proc/meminfo", meminfo);
    put("/proc/self/cgroup", "0::/pod/container\n");
    put("/sys/fs/cgroup/pod/container/cpu.max", "max 100000\n");
    put("/sys/fs/cgroup/pod/container/memory.max", "max\n");
    put("/sys/fs/cgroup/pod/cpu.max", "50000 100000\n");
    put("/sys/fs/cgroup/pod/memory.max", "4294967296\n");
    put("/sys/fs/cgroup/pod/memory.current", "1073741824\n");
    os_res_detect(harness_dir(), &m);
    assert_int_equal(m.cpus, 1); /* half a processor is still one */
    assert_true(m.cpu_quota);
    assert_int_equal(m.memory_total, UINT64_C(4) << 30);
    assert_int_equal(m.memory_available, UINT64_C(3) << 30);
}

static void
test_old_control_groups(void **state)
{
    (void)state;
    struct os_machine m;
    put("/proc/meminfo", meminfo);
    put("/proc/self/cgroup", "5:cpu,cpuacct:/job\n4:memory:/job\n1:name=systemd:/job\n");
    put("/sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "100000\n");
    put("/sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n");
    put("/sys/fs/cgroup/memory/job/memory.limit_in_bytes", "1073741824\n");
    put("/sys/fs/cgroup/memory/job/memory.usage_in_bytes", "2147483648\n");
    os_res_detect(harness_dir(), &m);
    assert_int_equal(m.cpus, 1);
    assert_int_equal(m.memory_total, UINT64_C(1) << 30);
    assert_int_equal(m.memory_available, 0);
}

static void
test_malformed_files_are_no_limit(void **state)
{
    (void)state;
    struct os_machine m;
    put("/proc/self/cgroup", "garbage\n:\n0:x\n0::/a\n");
    put("/sys/fs/cgroup/a/cpu.max", "what\n");
    put("/sys/fs/cgroup/a/memory.max", "-1\n");
    os_res_detect(harness_dir(), &m);
    assert_true(m.cpus >= 1);
    assert_false(m.cpu_quota);
    assert_int_equal(m.memory_total, 0);
}

static void
test_nvidia_gpus_are_counted_and_named(void **state)
{
    (void)state;
    struct os_machine m;
    put("/proc/driver/nvidia/gpus/0000:01:00.0/information",
        "Model: \t\t NVIDIA A100-SXM4-40GB\nIRQ: 12\n");
    put("/proc/driver/nvidia/gpus/0000:02:00.0/information", "Model: \t\t NVIDIA A100-SXM4-40GB\n");
    os_res_detect(harness_dir(), &m);
    assert_int_equal(m.gpus, 2);
    assert_string_equal(m.gpu_name, "A100");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_machine_without_limits),
        cmocka_unit_test(test_limits_of_any_level_count),
        cmocka_unit_test(test_old_control_groups),
        cmocka_unit_test(test_malformed_files_are_no_limit),
        cmocka_unit_test(test_nvidia_gpus_are_counted_and_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
