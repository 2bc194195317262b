# SPDX-License-Identifier: Apache-2.0
"""The examples run, and say what they promise."""

import pathlib
import re
import subprocess
import sys

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
