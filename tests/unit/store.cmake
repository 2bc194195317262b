# SPDX-License-Identifier: Apache-2.0
ray_unit_test(test_flt SOURCES test_flt.c DEPS base)
