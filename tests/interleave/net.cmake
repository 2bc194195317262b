# SPDX-License-Identifier: Apache-2.0
ray_interleave_test(model_ring SOURCES model_ring.c ${CMAKE_SOURCE_DIR}/src/net/net_ring.c)
ray_interleave_test(model_bell SOURCES model_bell.c ${CMAKE_SOURCE_DIR}/src/net/net_bell.c)
ray_interleave_test(model_bell_threads
  SOURCES model_bell_threads.c ${CMAKE_SOURCE_DIR}/src/net/net_bell.c)
ray_interleave_test(model_window SOURCES model_window.c ${CMAKE_SOURCE_DIR}/src/net/net_window.c)
ray_interleave_test(model_transport SOURCES model_transport.c ${CMAKE_SOURCE_DIR}/src/net/net_ring.c
  ${CMAKE_SOURCE_DIR}/src/net/net_bell.c)
