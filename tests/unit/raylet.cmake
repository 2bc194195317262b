# SPDX-License-Identifier: Apache-2.0
ray_unit_test(test_gcs SOURCES test_gcs.c gcs_world.c DEPS gcs)
ray_unit_test(test_gcs_sqlite_io SOURCES test_gcs_sqlite_io.c DEPS gcs_io)
ray_unit_test(test_net_msg SOURCES test_net_msg.c DEPS net)
ray_unit_test(test_os_proc SOURCES test_os_proc.c DEPS os)
ray_unit_test(test_os_res SOURCES test_os_res.c DEPS os)
ray_unit_test(test_os_dir SOURCES test_os_dir.c DEPS os)
ray_unit_test(test_os_fault SOURCES test_os_fault.c DEPS os)
ray_unit_test(test_rl_session_io SOURCES test_rl_session_io.c DEPS raylet_io)
