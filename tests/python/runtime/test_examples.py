# SPDX-License-Identifier: Apache-2.0
"""The examples run, and say what they promise."""

import pathlib
import re
import subprocess
import sys

import pytest

EXAMPLES = pathlib.Path(__file__).parents[3] / "examples" / "python"


def test_monte_carlo_pi():
    done = subprocess.run(
        [sys.executable, EXAMPLES / "monte_carlo_pi.py", "--samples", "200000", "--tasks", "4"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "100%" in done.stdout
    pi = float(re.search(r"pi is about ([0-9.]+)", done.stdout).group(1))
    assert 3.0 < pi < 3.3
    assert re.search(r"[0-9,]+ samples/s: 200,000 samples .* by \d+ worker processes", done.stdout)


def run(path):
    """Runs an example; what it printed."""
    done = subprocess.run(
        [sys.executable, path], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("actor_pool", "most frequent: [('the', 6), ('fox', 3)]"),
        ("grid_search", "best parameters: {'C': 10, 'gamma': 0.001}, accuracy 0.976"),
        ("named_actors", "visitors: 10\nnames: ['visitors']\nnobody has that name in another"),
        ("process_pool", "861 primes between 100,000 and 110,000; the first that ends in 03: 10"),
        ("streaming", "read 5 of many: [1, 4, 9, 16, 25]; the reader has enough"),
        ("task_graph", "reading 3: 212.0 °F, 373.15 K"),
    ],
)
def test_short_ones(name, said):
    assert said in run(EXAMPLES / f"{name}.py")


# Each checks by itself what it shows; here is what must be read in its output, by program.
PATTERNS = {
    "actor_sync": ["4 tasks wait, 0 went on", "set: runner 0 starts"],
    "closure_capture_large_objects": ["captured: .* 8 MiB", "argument: .* less than 2 KiB"],
    "concurrent_operations_async_actor": ["no answer yet", "while it runs:  3 done"],
    "generators": ["returned: 8 MiB, up to 8 ", "yielded: 8 MiB, up to [12] ", "streamed: 8 MiB"],
    "global_variables": ["global variable: .* 0$", "actor: .* 10$"],
    "limit_pending_tasks": ["up to 200 outstanding", "up to 10 outstanding"],
    "limit_running_tasks": ["processor: .* [1-4] ran at once", "memory too: .* [12] ran at once"],
    "nested_tasks": ["200,000 numbers sorted by 15 tasks"],
    "pass_large_arg_by_value": ["by value: .* 50 MiB", "by reference: .* 10 MiB"],
    "pipelining": ["one_by_one: .* 0 of 20 times", "pipelined: .* 20 of 20 times"],
    "ray_get_loop": ["in the loop: 0 pairs", r"after it: \d+ pairs"],
    "ray_get_submission_order": [r"as submitted: .* \[0, 1, 2, 3, 4, 5\]", "as finished: "],
    "ray_get_too_many_objects": ["all at once: .* 40 MiB were held", "in batches: .* 4 MiB were"],
    "redefine_task_actor_loop": ["redefined: .* pickled 5 times", "once: .* pickled 1 times"],
    "return_ray_put": ["fetched 2 times", "OwnerDiedError", "still 'precious'", "yielded .* 5 "],
    "too_fine_grained_tasks": ["serial: ", "by 20000 tasks", "by 8 tasks"],
    "tree_of_actors": ["rate 10: .* replaced: 1", "released: 0 of 6 workers are left"],
    "unnecessary_ray_get": ["fetching: .* 16 MiB", "passing: .* 8 MiB"],
}


@pytest.mark.parametrize("name", PATTERNS)
def test_patterns(name):
    printed = run(EXAMPLES / "patterns" / f"{name}.py")
    for said in PATTERNS[name]:
        assert re.search(said, printed, re.MULTILINE), printed


def test_all_patterns_are_run_and_listed():
    files = {path.stem for path in (EXAMPLES / "patterns").glob("*.py")}
    listed = re.findall(r"\[(\w+)\.py\]", (EXAMPLES / "patterns" / "README.md").read_text())
    assert files == set(PATTERNS)
    assert sorted(listed) == sorted(files)
