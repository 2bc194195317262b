# SPDX-License-Identifier: Apache-2.0
"""Turns what was measured into the table, and into the list of goals that were or were not reached.

Everything here works on plain data and prints nothing.  A ratio is always "times as good": rates
are divided as they are, times and memory the other way round, so that more is always better.
"""

import os
import statistics

CPUS = len(os.sched_getaffinity(0))

PAIR_SYNC = "python pair one by one"
PAIR_BATCH = "python pair in batches of 1000, one write for 64"
PAIR_BATCH_WRITES = "python pair in batches of 1000, one write a call"
CALL_IN = "python method call into C"
FORK = "fork from a warm zygote to the child's report"
FORK_REAPED = "fork from a warm zygote until reaped"
START = "start of an interpreter with cloudpickle"
UNIX_ROUND_TRIP = "unix socket round trip"
RING_ROUND_TRIP = "ring round trip"

# Which programs measure a limit, so that run.py can run just those beside a workload.
PROGRAM_OF_PREFIX = (
    ("python", "lim_pair"),
    ("fork", "lim_pair"),
    ("start", "lim_pair"),
    ("copy", "lim_copy"),
    ("ring", "lim_ring"),
    ("unix", "lim_socket"),
)


def _times(factor):
    return lambda value: value * factor


def _per_second(milliseconds):
    return 1000 / milliseconds


# Row -> (names of the limits, how to make one figure in the row's unit out of them).
LIMITS = {
    "single client get calls (Plasma Store)": ((CALL_IN,), _times(1)),
    "single client put calls (Plasma Store)": ((CALL_IN,), _times(1)),
    "multi client put calls (Plasma Store)": ((CALL_IN,), _times(CPUS)),
    "single client put gigabytes": (("copy 800 MB of an unwritten source",), _times(1)),
    "single client put gigabytes, written source": (
        ("copy 800 MB of a written source",),
        _times(1),
    ),
    "multi client put gigabytes": (("copy 80 MB of an unwritten source",), _times(1)),
    "single client tasks and get batch": ((PAIR_BATCH,), _times(1e-3)),
    "single client wait 1k refs": ((PAIR_BATCH,), _times(1e-3)),
    "cold start to the first result": ((START, FORK), lambda start, fork: (start + fork) / 1e3),
    "actors created, called once and dropped, in turn": ((FORK_REAPED,), _per_second),
    "500 actors alive together: creating them": ((FORK,), _per_second),
}
for _row in (
    "single client tasks sync",
    "1:1 actor calls sync",
    "1:1 async-actor calls sync",
):
    LIMITS[_row] = ((PAIR_SYNC,), _times(1))
for _row in (
    "single client tasks async",
    "multi client tasks async",
    "1:1 actor calls async",
    "1:1 actor calls concurrent",
    "1:n actor calls async",
    "n:n actor calls async",
    "n:n actor calls with arg async",
    "1:1 async-actor calls async",
    "1:1 async-actor calls with args async",
    "1:n async-actor calls async",
    "n:n async-actor calls async",
    "1,000,000 queued tasks",
):
    LIMITS[_row] = ((PAIR_BATCH,), _times(1))

# What bench/cface measures: the core's own speed, from C, in the column of ray-c. Row -> limits, as
# above.
C_BATCH = "C: tasks in batches of 1000"
C_SYNC = ("C: task calls, one by one", "C: actor calls, one by one")
C_LIMITS = {
    C_BATCH: ((), None),
    C_SYNC[0]: ((RING_ROUND_TRIP,), lambda microseconds: 1e6 / microseconds),
    "C: actor calls in batches of 1000": ((), None),
    C_SYNC[1]: ((RING_ROUND_TRIP,), lambda microseconds: 1e6 / microseconds),
    "C: put, 8 bytes": ((), None),
    "C: get, 8 bytes": ((), None),
    "C: put, 100 MB": (("copy 100 MB of a written source",), _times(1)),
    "C: put and get, 100 MB": (("copy 100 MB of a written source",), _times(1)),
}
C_PROGRAMS = ("lim_ring", "lim_copy")

GIGABYTES = ("single client put gigabytes", "multi client put gigabytes")
BATCHES = (
    "single client tasks async",
    "single client tasks and get batch",
    "1:1 actor calls async",
)
SYNC = ("single client tasks sync", "1:1 actor calls sync")


def program_of(limit):
    return next(program for prefix, program in PROGRAM_OF_PREFIX if limit.startswith(prefix))


def programs_for(workload):
    """The limit programs to run beside a workload, in a fixed order."""
    rows = [row for row in LIMITS if row == workload or row.startswith(workload + ": ")]
    return sorted({program_of(limit) for row in rows for limit in LIMITS[row][0]})


def limit_of(row, limits):
    """The limit of a row in the row's unit, or None."""
    names, combine = LIMITS.get(row) or C_LIMITS.get(row, ((), None))
    values = [limits.get(name) for name in names]
    if not values or None in values:
        return None
    return combine(*values)


def ratio(value, other, better):
    """How many times as good `value` is as `other`; None where there is nothing to compare."""
    if value is None or other is None or value <= 0 or other <= 0:
        return None
    return value / other if better == "higher" else other / value


def median(values):
    return statistics.median(values) if values else None


def build_rows(results):
    """`results` = {row: {"unit", "better", "workload", "limits": {name: [..]},
    "sides": {side: [..]}, "notes": {side: text}}} -> a list of finished rows."""
    rows = []
    for name, result in results.items():
        limits = {limit: median(values) for limit, values in result["limits"].items()}
        sides = {side: median(values) for side, values in result["sides"].items()}
        limit = limit_of(name, limits)
        ours, ray = sides.get("ours"), sides.get("ray")
        rows.append(
            {
                "row": name,
                "unit": result["unit"],
                "better": result["better"],
                "ours": ours,
                "limit": limit,
                "ours_of_limit": ratio(ours, limit, result["better"]),
                "ray": ray,
                "ours_over_ray": ratio(ours, ray, result["better"]),
                "peers": {k: v for k, v in sides.items() if k not in ("ours", "ray")},
                "notes": result["notes"],
                "limits": limits,
                "samples": result["sides"],
            }
        )
    return rows


def number(value):
    if value is None:
        return "-"
    if abs(value) >= 1000:
        return "{:,.0f}".format(value)
    return "%.3g" % value


def cell(row, side):
    note = row["notes"].get(side)
    return number(row[side]) if row[side] is not None or not note else note.split(":")[0][:12]


def format_table(rows):
    """The table as text; peers at the end of a line, since their number varies."""
    heads = ["workload", "unit", "ours", "limit", "ours/limit", "Ray", "ours/Ray", "peers"]
    lines = [heads]
    for row in rows:
        peers = ", ".join(
            "%s %s" % (k, number(v)) for k, v in row["peers"].items() if v is not None
        )
        mark = "" if row["better"] == "higher" else " (less is better)"
        lines.append(
            [
                row["row"],
                row["unit"] + mark,
                cell(row, "ours"),
                number(row["limit"]),
                number(row["ours_of_limit"]),
                cell(row, "ray"),
                number(row["ours_over_ray"]),
                peers,
            ]
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads) - 1)]
    text = []
    for line in lines:
        cells = [line[i].ljust(widths[i]) if i < 2 else line[i].rjust(widths[i]) for i in range(7)]
        text.append("  ".join([*cells, line[7]]).rstrip())
    text.insert(1, "-" * max(map(len, text)))
    return "\n".join(text)


# Goals -------------------------------------------------------------------------------------------


def _goal(text, value, reached):
    return {"goal": text, "value": value, "reached": None if value is None else bool(reached)}


def _at_most(rows, name, most, unit):
    row = rows.get(name)
    value = row and row["ours"]
    return _goal(
        "%s: at most %g %s" % (name, most, unit), value, value is not None and value <= most
    )


def _at_least(rows, name, least, unit):
    row = rows.get(name)
    value = row and row["ours"]
    return _goal(
        "%s: at least %g %s" % (name, least, unit), value, value is not None and value >= least
    )


CALL_RATES = ("calls/s", "batches/s", "rounds/s", "gets/s", "items/s", "pairs/s")


def _against_ray(rows):
    for name, row in rows.items():
        if name not in C_LIMITS and row["unit"] in CALL_RATES:
            times = row["ours_over_ray"]
            yield _goal("%s: 10 times Ray" % name, times, times is not None and times >= 10)
    for name in GIGABYTES:
        row = rows.get(name)
        if row is None or row["ours"] is None or row["ray"] is None or row["limit"] is None:
            yield _goal("%s: 1.5 times Ray or 0.85 of the limit" % name, None, False)
            continue
        wanted = min(1.5 * row["ray"], 0.85 * row["limit"])
        text = "%s: at least %.3g GB/s (the smaller of 1.5 times Ray and 0.85 of the limit)"
        yield _goal(text % (name, wanted), row["ours"], row["ours"] >= wanted)
    cold = rows.get("cold start to the first result")
    times = cold and cold["ours_over_ray"]
    yield _goal("cold start: 15 times sooner than Ray", times, times is not None and times >= 15)


def _against_machine(rows):
    for name in BATCHES:
        row = rows.get(name)
        pair = row and row["limits"].get(PAIR_BATCH_WRITES)
        per_call = 1e-3 if row and row["unit"] == "batches/s" else 1
        part = ratio(row["ours"], pair * per_call, "higher") if pair else None
        text = "%s: 0.25 of the %s" % (name, PAIR_BATCH_WRITES)
        yield _goal(text, part, part is not None and part >= 0.25)
    for name in SYNC:
        row = rows.get(name)
        part = row and row["ours_of_limit"]
        yield _goal(
            "%s: half of the %s" % (name, PAIR_SYNC), part, part is not None and part >= 0.5
        )
        trip_us = row and row["limits"].get(UNIX_ROUND_TRIP)
        call_us = 1e6 / row["ours"] if row and row["ours"] else None
        if trip_us is None or call_us is None:
            yield _goal("%s: below the unix socket round trip" % name, None, False)
        else:
            text = "%s: below the unix socket round trip of %.3g us"
            yield _goal(text % (name, trip_us), call_us, call_us < trip_us)


def _of_the_core(rows):
    yield _at_least(rows, C_BATCH, 500_000, "calls/s")
    for name in C_SYNC:
        row = rows.get(name)
        part = row and row["ours_of_limit"]
        text = "%s: a third of what the spinning ring makes"
        yield _goal(text % name, part, part is not None and part >= 1 / 3)


def goals(finished_rows):
    """What the project set itself, judged on this run.  `reached` is None where not measured."""
    rows = {row["row"]: row for row in finished_rows}
    queued = "1,000,000 queued tasks"
    return [
        *_against_ray(rows),
        *_against_machine(rows),
        *_of_the_core(rows),
        _at_most(rows, "cold start to the first result", 0.15, "s"),
        _at_most(rows, "import ray", 40, "ms"),
        _at_least(rows, "actors created, called once and dropped, in turn", 400, "actors/s"),
        _at_least(rows, "500 actors alive together", 500, "actors"),
        _at_most(rows, queued + ": the driver's memory", 2000, "MB"),
        _at_most(rows, queued + ": a new actor answers while they wait", 1, "s"),
        _at_most(rows, queued + ": a new actor answers while they run", 1, "s"),
        _at_most(rows, "idle memory before any put", 60, "MB"),
        _at_most(rows, "idle memory after a freed 1 GB put", 60, "MB"),
        _at_most(rows, "idle processor use", 0.1, "% of a core"),
    ]


def format_goals(judged):
    words = {True: "reached", False: "NOT reached", None: "not measured"}
    return "\n".join(
        "  %-12s %-10s %s" % (words[goal["reached"]], number(goal["value"]), goal["goal"])
        for goal in judged
    )
