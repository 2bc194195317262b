# SPDX-License-Identifier: Apache-2.0
ray_unit_test(test_sched SOURCES test_sched.c DEPS sched)
ray_unit_test(test_rl_pool SOURCES test_rl_pool.c DEPS raylet_pure)
ray_unit_test(test_rl_lease SOURCES test_rl_lease.c DEPS raylet_pure)
ray_unit_test(test_wk_lease SOURCES test_wk_lease.c DEPS worker_pure)
ray_unit_test(test_wk_caller SOURCES test_wk_caller.c DEPS worker_pure)
ray_unit_test(test_wk_stream SOURCES test_wk_stream.c DEPS worker_pure)
