# SPDX-License-Identifier: Apache-2.0
# Build helpers: one call declares a module library, a program or a unit test with the house flags.

set(RAY_WARNINGS
  -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith
  -Wcast-qual -Wcast-align -Wwrite-strings -Wundef -Wvla -Wformat=2 -Wimplicit-fallthrough
  -Wswitch-enum -Wnull-dereference -Wconversion)

option(RAY_FUZZ "Build the fuzz targets as libFuzzer programs (clang)" OFF)

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
  if(RAY_FUZZ)
    target_compile_options(${target} PRIVATE -fsanitize=fuzzer-no-link)
    target_link_options(${target} PUBLIC -fsanitize=fuzzer-no-link)
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
  set_property(GLOBAL APPEND PROPERTY RAY_LIBRARIES ${name})
  if(ARG_PURE)
    set_property(GLOBAL APPEND PROPERTY RAY_PURE_LIBRARIES ${name})
  endif()
endfunction()

# In the build and in the wheel (there in ray/_runtime) programs lie in bin/ and libray.so in lib/,
# so that each finds the other by the same relative path.
function(ray_install_runtime target)
  set_target_properties(${target} PROPERTIES
    BUILD_RPATH_USE_ORIGIN ON INSTALL_RPATH "$ORIGIN/../lib")
  install(TARGETS ${target} COMPONENT python
    RUNTIME DESTINATION ray/_runtime/bin LIBRARY DESTINATION ray/_runtime/lib)
endfunction()

# ray_executable(<name> SOURCES <file>... [DEPS <target>...])
# A program; those of src/ become part of the wheel.
function(ray_executable name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  ray_target_options(${name})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS})
  file(RELATIVE_PATH directory ${CMAKE_SOURCE_DIR} ${CMAKE_CURRENT_SOURCE_DIR})
  if(directory MATCHES "^src/")
    ray_install_runtime(${name})
  endif()
endfunction()

# ray_shared_library(<name> SOURCES <file>... [DEPS <target>...])
# A shared library (lib<name>.so) that becomes part of the wheel. Only what is marked is exported.
function(ray_shared_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_library(${name} SHARED ${ARG_SOURCES})
  ray_target_options(${name})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS})
  # Nothing else is exported: not what comes from archives, nor the bounds of the fault points'
  # section, which the linker makes.
  file(WRITE ${CMAKE_CURRENT_BINARY_DIR}/${name}.map "{ global: ray_*; local: *; };\n")
  target_link_options(${name} PRIVATE -Wl,--exclude-libs,ALL
    -Wl,--version-script=${CMAKE_CURRENT_BINARY_DIR}/${name}.map)
  if(NOT RAY_SANITIZE)  # A sanitizer's own symbols come from the program.
    target_link_options(${name} PRIVATE -Wl,-z,defs)
  endif()
  ray_install_runtime(${name})
endfunction()

# ray_python_extension(<name> SOURCES <file>... [DEPS <target>...])
# An extension of the package `ray` for the Python that CMake was told (Python_EXECUTABLE). It is
# built into build/python/ray, beside links to the Python files (tools/venv.sh).
function(ray_python_extension name)
  if(NOT RAY_BUILD_PYTHON)
    return()
  endif()
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  find_package(Python 3.9 REQUIRED COMPONENTS Interpreter Development.Module)
  Python_add_library(${name} MODULE WITH_SOABI ${ARG_SOURCES})
  ray_target_options(${name})
  # Python's own headers and its tables of methods don't live up to these.
  target_compile_options(${name} PRIVATE -Wno-cast-qual -Wno-undef)
  target_link_libraries(${name} PRIVATE ${ARG_DEPS})
  set_target_properties(${name} PROPERTIES INSTALL_RPATH "$ORIGIN/_runtime/lib"
    LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/python/ray)
  install(TARGETS ${name} COMPONENT python LIBRARY DESTINATION ray)
endfunction()

# ray_unit_test(<name> SOURCES <file>... [DEPS <target>...] [LIBS <target>...] [TIMEOUT <seconds>]
#               [LABELS <label>...] [SERIAL])
# A cmocka program under the harness of tests/lib: one CTest entry, <name>.<test>, and one process
# for each test in it. TIMEOUT is the limit for one test. SERIAL tests run beside no other.
# Sanitizer runs leave the label "nosan" out.
function(ray_unit_test name)
  if(NOT RAY_BUILD_TESTS)
    return()
  endif()
  cmake_parse_arguments(ARG "SERIAL" "TIMEOUT" "SOURCES;DEPS;LIBS;LABELS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 30)
  endif()
  if(NOT ARG_LABELS)
    set(ARG_LABELS unit)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  ray_target_options(${name})
  target_compile_options(${name} PRIVATE -Wno-cast-qual)
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} ${ARG_LIBS} harness Threads::Threads)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)

  # The program itself says what tests it has, when it has been built; CTest reads that file.
  set(list ${CMAKE_CURRENT_BINARY_DIR}/${name}_tests.cmake)
  add_custom_command(TARGET ${name} POST_BUILD
    COMMAND ${CMAKE_COMMAND} -D NAME=${name} -D PROGRAM=$<TARGET_FILE:${name}> -D OUTPUT=${list}
      -D TIMEOUT=${ARG_TIMEOUT} -D "LABELS=${ARG_LABELS}" -D SERIAL=${ARG_SERIAL}
      -P ${CMAKE_SOURCE_DIR}/cmake/ray_list_tests.cmake
    BYPRODUCTS ${list}
    VERBATIM)
  set(include ${CMAKE_CURRENT_BINARY_DIR}/${name}_include.cmake)
  file(WRITE ${include} "if(EXISTS \"${list}\")\n  include(\"${list}\")\n"
    "else()\n  add_test(${name}_was_not_built false)\nendif()\n")
  set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES ${include})
endfunction()

# ray_fuzz_target(<name> SOURCES <file>... [DEPS <target>...])
# A decoder's fuzz target (LLVMFuzzerTestOneInput). With RAY_FUZZ a libFuzzer program; else one that
# replays tests/fuzz/corpus/<name> once, as a test, so that what fuzzing found stays found.
function(ray_fuzz_target name)
  if(NOT RAY_BUILD_TESTS)
    return()
  endif()
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  ray_target_options(${name})
  target_compile_options(${name} PRIVATE -Wno-missing-prototypes)
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} Threads::Threads)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz)
  if(RAY_FUZZ)
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  else()
    target_link_libraries(${name} PRIVATE fuzz_replay)
    add_test(NAME ${name}.corpus
      COMMAND ${name} ${CMAKE_SOURCE_DIR}/tests/fuzz/corpus/${name})
    set_tests_properties(${name}.corpus PROPERTIES TIMEOUT 300 LABELS fuzz)
  endif()
endfunction()

# Collects the targets below the top directory, but for those whose directory matches `skip`.
function(ray_collect_targets directory skip out)
  set(found "")
  get_property(children DIRECTORY ${directory} PROPERTY SUBDIRECTORIES)
  foreach(child ${children})
    file(RELATIVE_PATH path ${CMAKE_SOURCE_DIR} ${child})
    if(NOT path MATCHES "${skip}")
      ray_collect_targets(${child} "${skip}" below)
      list(APPEND found ${below})
    endif()
  endforeach()
  get_property(own DIRECTORY ${directory} PROPERTY BUILDSYSTEM_TARGETS)
  list(APPEND found ${own})
  set(${out} ${found} PARENT_SCOPE)
endfunction()

# Called when every module has been read.
# - Target `runtime`: all that a user's program needs; not tests, simulator and benchmarks.
# - libraries.txt: kind (pure or other), name, source directory and archive of each module library,
#   for tools/purity.py.
function(ray_finish)
  ray_collect_targets(${CMAKE_SOURCE_DIR} "^(tests|sim|bench)" targets)
  add_custom_target(runtime)
  if(targets)
    add_dependencies(runtime ${targets})
  endif()

  get_property(libraries GLOBAL PROPERTY RAY_LIBRARIES)
  get_property(pure GLOBAL PROPERTY RAY_PURE_LIBRARIES)
  set(text "")
  foreach(library ${libraries})
    get_target_property(directory ${library} SOURCE_DIR)
    file(RELATIVE_PATH directory ${CMAKE_SOURCE_DIR} ${directory})
    set(kind other)
    if(library IN_LIST pure)
      set(kind pure)
    endif()
    string(APPEND text "${kind} ${library} ${directory} $<TARGET_FILE:${library}>\n")
  endforeach()
  file(GENERATE OUTPUT ${CMAKE_BINARY_DIR}/libraries.txt CONTENT "${text}")
endfunction()
cmake_language(DEFER DIRECTORY ${CMAKE_SOURCE_DIR} CALL ray_finish)
