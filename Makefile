# SPDX-License-Identifier: Apache-2.0
# The contract of names; everything real is in CMake and tools/.
.PHONY: all
all:
	cmake -S . -B build -G Ninja
	cmake --build build
