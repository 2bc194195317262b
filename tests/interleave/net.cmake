# SPDX-License-Identifier: Apache-2.0
ray_interleave_test(model_ring SOURCES model_ring.c ${CMAKE_SOURCE_DIR}/src/net/net_ring.c)
