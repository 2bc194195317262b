# SPDX-License-Identifier: Apache-2.0
set(store_words ${CMAKE_SOURCE_DIR}/src/store/store_words.c
  ${CMAKE_SOURCE_DIR}/src/store/storec_words.c)
ray_interleave_test(store_pin SOURCES store_pin.c ${store_words})
ray_interleave_test(store_seal SOURCES store_seal.c ${store_words})
ray_interleave_test(store_fork SOURCES store_fork.c ${CMAKE_SOURCE_DIR}/src/store/storec_pin.c
  ${CMAKE_SOURCE_DIR}/src/store/storec_words.c)
