# SPDX-License-Identifier: Apache-2.0
ray_unit_test(test_own SOURCES test_own.c DEPS own base)
