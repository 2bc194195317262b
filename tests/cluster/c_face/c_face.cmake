# SPDX-License-Identifier: Apache-2.0
# The C face against a real runtime: every test starts one of its own and looks at what it leaves.
if(NOT RAY_BUILD_TESTS OR NOT TARGET raylet)
  return()
endif()

foreach(test test_c_tasks test_c_objects test_c_actors test_c_groups test_c_generators
             test_c_cancel test_c_deaths test_c_examples)
  ray_unit_test(${test} SOURCES c_face/${test}.c c_face/c_face.c LIBS ray TIMEOUT 60 LABELS cluster)
  target_include_directories(${test} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/c_face)
  add_dependencies(${test} raylet ray-gcs)
endforeach()
add_dependencies(test_c_examples example_hello example_monte_carlo_pi)
target_compile_definitions(test_c_examples PRIVATE
  EXAMPLES_DIR="${CMAKE_BINARY_DIR}/bin/examples")
