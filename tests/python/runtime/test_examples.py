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


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("actor_pool", "most frequent: [('the', 6), ('fox', 3)]"),
        ("grid_search", "best parameters: {'C': 10, 'gamma': 0.001}, accuracy 0.976"),
        ("process_pool", "861 primes between 100,000 and 110,000; the first that ends in 03: 10"),
        ("task_graph", "reading 3: 212.0 °F, 373.15 K"),
    ],
)
def test_short_ones(name, said):
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
