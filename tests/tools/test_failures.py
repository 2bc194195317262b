# SPDX-License-Identifier: Apache-2.0
"""What tools/failures.sh picks out of the output of a run."""

import os
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

CTEST = """
        Start 1: test_a.good
1/5 Test #1: test_a.good ...............   Passed    0.01 sec
        Start 2: test_a.bad
2/5 Test #2: test_a.bad ................***Failed    0.20 sec
[  ERROR   ] here is why
harness: test_a.bad failed, exit status 1

        Start 3: test_a.hangs
        Start 4: test_a.skipped
4/5 Test #4: test_a.skipped ............***Skipped   0.01 sec
not wanted here
3/5 Test #3: test_a.hangs ..............***Timeout  60.00 sec
it waits

80% tests passed, 2 tests failed out of 5
The following tests FAILED:
"""


def failures(tmp_path, text):
    log = tmp_path / "log"
    log.write_text(text)
    command = [os.path.join(ROOT, "tools", "failures.sh"), str(log)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_what_failed_in_ctest_and_what_it_said(tmp_path):
    assert failures(tmp_path, CTEST) == (
        "--- test_a.bad: Failed    0.20 sec\n"
        "    [  ERROR   ] here is why\n"
        "    harness: test_a.bad failed, exit status 1\n"
        "    \n"
        "--- test_a.hangs: Timeout  60.00 sec\n"
        "    it waits\n"
        "    \n"
    )


def test_of_much_output_only_the_end(tmp_path):
    lines = "".join(f"line {i}\n" for i in range(100))
    said = failures(tmp_path, f"1/1 Test #1: t.t .....***Failed 1 sec\n{lines}")
    assert said.startswith("--- t.t: Failed 1 sec\n(40 lines before these)\n    line 40\n")
    assert said.endswith("    line 99\n")


def test_names_of_what_failed_in_pytest(tmp_path):
    text = "..F\nFAILED tests/x/test_y.py::test_z - AssertionError: no\nFAILED elsewhere\n"
    assert failures(tmp_path, text) == (
        "--- FAILED tests/x/test_y.py::test_z - AssertionError: no\n"
    )


def test_nothing_of_what_passed(tmp_path):
    assert failures(tmp_path, "1/1 Test #1: t.t .....   Passed    0.01 sec\n") == ""
