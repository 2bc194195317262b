# SPDX-License-Identifier: Apache-2.0
# Run after a test program is linked: asks it for its tests (--list), writes a CTest entry for each.
# A program that isn't one of the harness's gets a single entry.
# Input: NAME, PROGRAM, OUTPUT, TIMEOUT (seconds for one test), LABELS, SERIAL.
execute_process(COMMAND ${PROGRAM} --list
  OUTPUT_VARIABLE listing ERROR_VARIABLE errors RESULT_VARIABLE result TIMEOUT 60)
string(REGEX MATCHALL "test: [A-Za-z0-9_]+" tests "${listing}")

# The harness keeps the limit (with its multiplier) and says where the test hung; CTest's own is the
# net below it.
math(EXPR outer "${TIMEOUT} * 60 + 60")
string(REPLACE ";" "\\;" labels "${LABELS}")
set(text "# SPDX-License-Identifier: Apache-2.0\n# Written after ${NAME} was linked.\n")
set(properties "TIMEOUT ${outer} RUN_SERIAL ${SERIAL} LABELS \"${labels}\"")
string(APPEND properties " SKIP_REGULAR_EXPRESSION \"  SKIPPED \"")
if(NOT result EQUAL 0 OR NOT tests)
  string(APPEND text "add_test(${NAME} \"${PROGRAM}\")\n")
  string(APPEND text "set_tests_properties(${NAME} PROPERTIES ${properties})\n")
else()
  foreach(line ${tests})
    string(REPLACE "test: " "" test ${line})
    set(command "\"${PROGRAM}\" --test ${test} --timeout ${TIMEOUT}")
    string(APPEND text "add_test(${NAME}.${test} ${command})\n")
    string(APPEND text "set_tests_properties(${NAME}.${test} PROPERTIES ${properties})\n")
  endforeach()
endif()
file(WRITE ${OUTPUT} "${text}")
