# SPDX-License-Identifier: Apache-2.0
ray_unit_test(test_flt SOURCES test_flt.c DEPS base)
ray_unit_test(test_store_space SOURCES test_store_space.c DEPS store)
ray_unit_test(test_store_server SOURCES test_store_server.c DEPS store storec)
ray_unit_test(test_storec SOURCES test_storec.c DEPS store storec)
ray_unit_test(test_store_random SOURCES test_store_random.c DEPS store storec)
