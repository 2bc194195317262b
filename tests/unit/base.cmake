# SPDX-License-Identifier: Apache-2.0
ray_unit_test(test_base SOURCES test_base.c DEPS base)
