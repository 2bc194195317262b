# SPDX-License-Identifier: Apache-2.0
ray_unit_test(test_net_ring SOURCES test_net_ring.c DEPS net)
ray_unit_test(test_net_bell SOURCES test_net_bell.c DEPS net)
ray_unit_test(test_net_window SOURCES test_net_window.c DEPS net)
