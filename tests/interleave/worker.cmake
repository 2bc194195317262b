# SPDX-License-Identifier: Apache-2.0
ray_interleave_test(model_cancel SOURCES model_cancel.c ${CMAKE_SOURCE_DIR}/src/net/net_window.c)
