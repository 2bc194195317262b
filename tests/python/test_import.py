# SPDX-License-Identifier: Apache-2.0
"""What importing ray loads, and that its names are where they should be."""

import subprocess
import sys

HEAVY = ("numpy", "asyncio", "logging", "cloudpickle", "inspect", "json", "typing", "ray._native")


def run(code):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_loads_next_to_nothing():
    loaded = run("import sys; a = {*sys.modules}; import ray; print(sorted({*sys.modules} - a))")
    for name in HEAVY:
        assert f"'{name}'" not in loaded, loaded


def test_names_are_listed():
    code = "import ray; a = ray.__all__; print(sorted(a) == a, {*a} <= {*dir(ray)})"
    assert run(code) == "True True"


def test_unknown_names():
    out = run(
        "import ray\n"
        "try:\n    ray.nonsense\n"
        "except AttributeError as e:\n    print(e)"
    )
    assert out == "module 'ray' has no attribute 'nonsense'"


def test_submodules_without_native():
    run("import ray; ray.exceptions.RayError; ray.util.log_once; ray.JobID; ray.LoggingConfig")
    run("from ray.job_config import JobConfig; JobConfig(ray_namespace='n')")
