# SPDX-License-Identifier: Apache-2.0
ray_interleave_test(test_ilv SOURCES test_ilv.c)
