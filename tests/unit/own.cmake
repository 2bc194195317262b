# SPDX-License-Identifier: Apache-2.0
ray_unit_test(test_own SOURCES test_own.c own_world.c DEPS own base)
ray_unit_test(test_own_fault SOURCES test_own_fault.c own_world.c DEPS own base)
