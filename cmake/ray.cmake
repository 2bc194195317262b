# SPDX-License-Identifier: Apache-2.0
# Build helpers: one call declares a module library, a program or a unit test with the house flags.

set(RAY_WARNINGS
  -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith
  -Wcast-qual -Wcast-align -Wwrite-strings -Wundef -Wvla -Wformat=2 -Wimplicit-fallthrough
  -Wswitch-enum -Wnull-dereference -Wconversion)

find_package(Threads REQUIRED)

# Applies language options, warnings and sanitizers to one target.
function(ray_target_options target)
  target_compile_options(${target} PRIVATE ${RAY_WARNINGS} -fno-common -fvisibility=hidden
    -fno-omit-frame-pointer -ffile-prefix-map=${CMAKE_SOURCE_DIR}=.)
  target_include_directories(${target} PUBLIC ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR}/include)
  target_compile_definitions(${target} PRIVATE _GNU_SOURCE)
  if(RAY_SANITIZE)
    target_compile_options(${target} PRIVATE -fsanitize=${RAY_SANITIZE} -fno-sanitize-recover=all)
    target_link_options(${target} PUBLIC -fsanitize=${RAY_SANITIZE})
  endif()
endfunction()

# ray_library(<name> [PURE] SOURCES <file>... [DEPS <target>...])
# A static module library. PURE modules are checked at link level by tools/purity.py.
function(ray_library name)
  cmake_parse_arguments(ARG "PURE" "" "SOURCES;DEPS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  ray_target_options(${name})
  if(ARG_DEPS)
    target_link_libraries(${name} PUBLIC ${ARG_DEPS})
  endif()
  if(ARG_PURE)
    set_property(GLOBAL APPEND PROPERTY RAY_PURE_LIBRARIES ${name})
  endif()
endfunction()

# ray_executable(<name> SOURCES <file>... [DEPS <target>...])
function(ray_executable name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  ray_target_options(${name})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS})
endfunction()

# ray_unit_test(<name> SOURCES <file>... [DEPS <target>...])
# A cmocka program, registered with CTest.
function(ray_unit_test name)
  if(NOT RAY_BUILD_TESTS)
    return()
  endif()
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  ray_target_options(${name})
  target_compile_options(${name} PRIVATE -Wno-cast-qual)
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} cmocka Threads::Threads)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES TIMEOUT 120)
endfunction()
