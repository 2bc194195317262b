# SPDX-License-Identifier: Apache-2.0
"""Tests of the benchmark's own machinery: what it computes, and that it leaves nothing behind."""

import json
import os
import subprocess
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import measure
import peers
import table
import workloads

HERE = os.path.dirname(os.path.abspath(__file__))


def row_results(workload, better="higher", unit="calls/s", limits=None, **sides):
    return {
        "unit": unit,
        "better": better,
        "workload": workload,
        "limits": limits or {},
        "sides": sides,
        "notes": {},
    }


def test_ratio_is_times_as_good():
    assert table.ratio(10.0, 5.0, "higher") == 2.0
    assert table.ratio(10.0, 5.0, "lower") == 0.5
    assert table.ratio(None, 5.0, "higher") is None
    assert table.ratio(10.0, 0.0, "higher") is None


def test_every_limit_names_a_program_and_a_row_that_exists():
    for row, (names, _combine) in table.LIMITS.items():
        assert isinstance(names, tuple)
        assert row.split(": creating")[0] in workloads.REGISTRY.workloads
        for name in names:
            assert table.program_of(name).startswith("lim_")


def test_limits_and_goals_of_the_c_rows():
    for names, _combine in table.C_LIMITS.values():
        for name in names:
            assert table.program_of(name) in table.C_PROGRAMS
    sync = row_results("ours (C)", limits={table.RING_ROUND_TRIP: [1.0]}, ours=[400e3])
    batch = row_results("ours (C)", ours=[450e3])
    rows = table.build_rows({table.C_SYNC[0]: sync, table.C_BATCH: batch})
    assert rows[0]["limit"] == pytest.approx(1e6)
    judged = {goal["goal"]: goal["reached"] for goal in table.goals(rows)}
    assert [judged[text] for text in judged if text.startswith(table.C_SYNC[0])] == [True]
    assert [judged[text] for text in judged if text.startswith(table.C_BATCH)] == [False]


def test_every_peer_row_is_a_workload():
    for _function, features in peers.REGISTRY.workloads.values():
        assert features["row"] in workloads.REGISTRY.workloads


def test_rows_hold_medians_and_ratios():
    name = "single client tasks sync"
    limits = {table.PAIR_SYNC: [90.0, 100.0, 110.0]}
    result = row_results(name, limits=limits, ours=[40.0, 50.0, 60.0], ray=[5.0], Pool=[7.0])
    (row,) = table.build_rows({name: result})
    assert (row["ours"], row["limit"], row["ours_of_limit"]) == (50.0, 100.0, 0.5)
    assert row["ours_over_ray"] == 10.0
    assert row["peers"] == {"Pool": 7.0}
    assert "single client tasks sync" in table.format_table([row])


def test_limit_of_a_time_is_combined_from_two():
    name = "cold start to the first result"
    limits = {table.START: [24.0], table.FORK: [1.0]}
    result = row_results(name, "lower", "s", limits, ours=[0.1], ray=[2.0])
    (row,) = table.build_rows({name: result})
    assert row["limit"] == pytest.approx(0.025)
    assert row["ours_of_limit"] == pytest.approx(0.25)
    assert row["ours_over_ray"] == pytest.approx(20.0)


def test_goals_tell_reached_missed_and_unmeasured():
    name = "single client put gigabytes"
    limits = {"copy 800 MB of an unwritten source": [20.0]}
    result = row_results(name, unit="GB/s", limits=limits, ours=[9.0], ray=[5.0])
    fast = row_results("import ray", "lower", "ms", ours=[50.0])
    judged = table.goals(table.build_rows({name: result, "import ray": fast}))
    by_text = {goal["goal"]: goal["reached"] for goal in judged}
    assert [reached for text, reached in by_text.items() if text.startswith(name + ":")] == [True]
    assert by_text["import ray: at most 40 ms"] is False
    assert by_text["idle memory before any put: at most 60 MB"] is None


def test_a_workload_is_timed_skipped_or_failed(capsys):
    registry = measure.Registry()

    @registry.workload("counts")
    def counts(bench):
        bench.rate(lambda: None, 2)

    @registry.workload("absent")
    def absent(_bench):
        raise measure.Skip("no such thing")

    @registry.workload("broken")
    def broken(_bench):
        raise ValueError("out of order")

    options = measure.parse_arguments("", ["--warmup", "0", "--seconds", "0", "--rounds", "2"])
    good = [
        measure.Bench(name, options).run(registry.workloads[name][0])
        for name in registry.select("")
    ]
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert good == [True, True, False]
    assert len(lines[0]["samples"]) == 2 and lines[0]["value"] > 0
    assert lines[1]["skipped"] == "no such thing"
    assert lines[2]["error"] == "ValueError: out of order"


RUNNER_PROGRAM = """
import json, os, sys
import processes, run
runner = run.Runner()
run.GONE_S = 0
printed, reason = runner.run("test", [sys.executable, "-c", sys.argv[1]], float(sys.argv[2]))
print(json.dumps({
    "printed": printed,
    "reason": reason,
    "left": len(runner.left_behind),
    "still there": processes.descendants(os.getpid()),
}))
"""

DAEMON = """
import json, os
if os.fork() == 0:
    os.setsid()
    if os.fork() != 0:
        os._exit(0)
    os.execvp("sleep", ["sleep", "1000"])
os.wait()
print(json.dumps({"name": "done"}), flush=True)
"""


def run_under_runner(program, timeout_s):
    done = subprocess.run(
        [sys.executable, "-c", RUNNER_PROGRAM, program, str(timeout_s)],
        cwd=HERE,
        stdout=subprocess.PIPE,
        timeout=120,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_a_daemon_that_stays_is_ended_and_reported():
    found = run_under_runner(DAEMON, 60)
    assert found == {"printed": [{"name": "done"}], "reason": None, "left": 1, "still there": []}


def test_a_process_that_hangs_is_ended():
    found = run_under_runner(DAEMON + "import time; time.sleep(1000)", 2)
    assert found["reason"].startswith("timed out")
    assert found["printed"] == [{"name": "done"}]
    assert found["still there"] == []


def test_a_failure_is_reported_with_its_last_words():
    found = run_under_runner("import sys; sys.exit('it broke')", 60)
    assert found["reason"] == "failed with status 1 (it broke)"
