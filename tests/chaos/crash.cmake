# SPDX-License-Identifier: Apache-2.0
# Needs a build with RAY_FAULT_STEPS (`make crash`); in others its tests are skipped.
if(NOT RAY_BUILD_TESTS OR NOT TARGET raylet)
  return()
endif()

ray_unit_test(crash_protocols SOURCES crash_protocols.c crash_load.c crash_check.c
  DEPS store storec net os base LIBS ray TIMEOUT 1800 LABELS crash SERIAL)
add_dependencies(crash_protocols raylet ray-gcs)
