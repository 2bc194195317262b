# SPDX-License-Identifier: Apache-2.0
ray_unit_test(test_wk_value SOURCES test_wk_value.c DEPS worker_engine)
