# SPDX-License-Identifier: Apache-2.0
"""Measures ray-c, the machine's own limits, the real Ray and other peers, and prints one table.

    bench/run.py [--quick] [--only SUBSTR] [--no-ray] [--no-peers] [--rounds N]

For each workload the sides take turns, round after round, one process at a time, and medians are
shown; the limits that a workload is held against are measured in the same turns.  The real Ray is
installed by pip in an environment of its own under the build directory.  Every measured process has
a time limit, and what it leaves behind is ended and reported.  Standard library only; see README.md
for how to read the table.
"""

import argparse
import ctypes
import fcntl
import json
import os
import platform
import shutil
import signal
import site
import subprocess
import sys
import tempfile
import time

import peers
import processes
import table
import workloads

BENCH = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(BENCH)
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
GONE_S = 5
INSTALL_S = 300
BUSY_LOAD = 0.5
# The real Ray without the network: an environment of its own, and only the loopback address.
RAY_ENVIRONMENT = {"PYTHONPATH": "", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
LIBC = ctypes.CDLL(None, use_errno=True)


def say(text):
    print(text, file=sys.stderr, flush=True)


def die_with_parent():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class Runner:
    """Runs one measured process at a time, in a process group, with a time limit and a home."""

    def __init__(self):
        self.left_behind = []
        if LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")

    def run(self, name, command, timeout_s, extra_environment=None):
        """Returns (objects printed, reason it failed or None)."""
        with tempfile.TemporaryDirectory(prefix="rb-", ignore_cleanup_errors=True) as folder:
            environment = {
                **os.environ,
                "HOME": folder,
                "TMPDIR": folder,
                "PYTHONUSERBASE": site.getuserbase(),
                "PYTHONDONTWRITEBYTECODE": "1",
                "RAY_BENCH_REAPER": str(os.getpid()),
                "RAY_TMPDIR": folder,
                "RAY_USAGE_STATS_ENABLED": "0",
                **(extra_environment or {}),
            }
            output, errors = os.path.join(folder, "out"), os.path.join(folder, "err")
            try:
                with open(output, "w") as out, open(errors, "w") as err:
                    reason = self._run_group(command, timeout_s, environment, out, err)
            finally:
                self._sweep(name)
            with open(output) as out, open(errors, errors="replace") as err:
                objects = [json.loads(line) for line in out if line.startswith("{")]
                tail = err.read().strip().splitlines()[-1:]
        if reason and tail:
            reason += " (%s)" % tail[0][:200]
        return objects, reason

    @staticmethod
    def _run_group(command, timeout_s, environment, out, err):
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=environment,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        try:
            status = process.wait(timeout=timeout_s)
            return None if status == 0 else "failed with status %d" % status
        except subprocess.TimeoutExpired:
            return "timed out after %g s" % timeout_s
        finally:
            for number, grace_s in ((signal.SIGTERM, 3), (signal.SIGKILL, GONE_S)):
                if process.returncode is not None:
                    break
                os.killpg(process.pid, number)
                try:
                    process.wait(timeout=grace_s)
                except subprocess.TimeoutExpired:
                    continue

    def _sweep(self, name):
        """Waits for what the process had started to end by itself; ends and reports the rest."""
        left = processes.wait_until_gone(lambda: processes.descendants(os.getpid()), GONE_S)
        entries = [
            {"after": name, "pid": pid, "command": processes.command(pid)[:100]} for pid in left
        ]
        self.left_behind.extend(entries)
        for entry in entries:
            say("  left behind by %(after)s: process %(pid)d, %(command)s" % entry)
        while left:  # killing a parent hands its children to us
            processes.kill(left)
            left = processes.wait_until_gone(lambda: processes.descendants(os.getpid()), 1)


def run_quietly(command, timeout_s, **options):
    """(true if it succeeded, what it printed)."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
            text=True,
            check=False,
            **options,
        )
    except subprocess.TimeoutExpired:
        return False, "timed out after %g s" % timeout_s
    except OSError as error:
        return False, str(error)
    return done.returncode == 0, done.stdout.strip()


def last_line(text):
    return text.rpartition("\n")[2]


# The sides ---------------------------------------------------------------------------------------


def build_limits(options):
    """Builds the limit programs; the directory they are in."""
    folder = os.path.join(options.build, "bench-limits")
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    python = ["-DPython3_EXECUTABLE=" + options.python]
    for command in (
        ["cmake", "-S", BENCH, "-B", folder, *generator, *python],
        ["cmake", "--build", folder, "--target", "bench_limits"],
    ):
        good, text = run_quietly(command, INSTALL_S)
        if not good:
            say("limits: can not be built:\n%s" % text)
            return None
    return os.path.join(folder, "limits")


def build_c(options):
    """Builds the C benchmark in the build it belongs to; its path, or None."""
    if not os.path.exists(os.path.join(options.build, "CMakeCache.txt")):
        say("ours (C): %s holds no build of ray-c" % options.build)
        return None
    command = ["cmake", "--build", options.build, "--target", "cface_bench"]
    good, text = run_quietly(command, INSTALL_S)
    if not good:
        say("ours (C): can not be built:\n%s" % text)
        return None
    return os.path.join(options.build, "bench", "cface_bench")


def import_ray(python, environment):
    """(true if it can be imported, version, path and version of Python; or what went wrong)."""
    program = "import ray, sys; print(ray.__version__, ray.__file__, sys.version.split()[0])"
    environment = {**os.environ, **environment}
    good, text = run_quietly([python, "-c", program], 60, env=environment, cwd="/")
    return good, last_line(text)


def find_ours(options):
    """(interpreter, environment, description), or None if ray-c has not been built."""
    tried = [options.ours_path] if options.ours_path else []
    tried += [os.path.join(options.build, "python"), os.path.join(ROOT, "python")]
    line = "no such directory"
    for path in filter(os.path.isdir, tried):
        environment = {"PYTHONPATH": os.path.abspath(path)}
        good, line = import_ray(options.python, environment)
        if good and line.split()[1].startswith(os.path.abspath(path)):
            return options.python, environment, line
    say("ours: `import ray` does not work from %s: %s" % (" or ".join(tried), line))
    return None


def candidate_pythons(options):
    names = [options.python, sys.executable]
    names += [shutil.which("python3.%d" % minor) for minor in range(13, 8, -1)]
    return list(dict.fromkeys(filter(None, names)))


def install_ray(folder, python):
    """Makes the environment with this interpreter; (true if it worked, what was printed)."""
    shutil.rmtree(folder, ignore_errors=True)
    inside = os.path.join(folder, "bin", "python")
    wanted = ["install", "--quiet", "--only-binary", ":all:", "--timeout", "8", "--retries", "1"]
    wanted += ["--no-input", "--disable-pip-version-check", "ray", "numpy"]
    good, text = run_quietly([python, "-m", "venv", "--without-pip", folder], 60)
    if not good:
        return good, text
    good, text = run_quietly([python, "-m", "pip", "--python", inside, *wanted], INSTALL_S)
    if good or not ("no such option" in text or "No module named pip" in text):
        return good, text
    # No pip, or one too old to install elsewhere; the environment may bring one of its own.
    has_pip, _text = run_quietly([inside, "-m", "ensurepip"], 60)
    if not has_pip:
        return good, text
    return run_quietly([inside, "-m", "pip", *wanted], INSTALL_S)


def find_ray(options):
    """(interpreter, environment, description) of the real Ray, installed if need be, or None."""
    folder = os.path.join(options.build, "bench-ray")
    inside = os.path.join(folder, "bin", "python")
    if os.path.exists(inside):
        good, line = import_ray(inside, RAY_ENVIRONMENT)
        if good:
            return inside, RAY_ENVIRONMENT, line
    for python in candidate_pythons(options):
        say("Ray: installing with pip, using %s" % python)
        good, text = install_ray(folder, python)
        if good:
            good, text = import_ray(inside, RAY_ENVIRONMENT)
            if good:
                return inside, RAY_ENVIRONMENT, text
        say("Ray: not installed: %s" % last_line(text))
        if "connection broken" in text.lower() or "timed out" in text.lower():
            say("Ray: PyPI does not answer")
            break
    shutil.rmtree(folder, ignore_errors=True)
    say("Ray: left out of the table")
    return None


# Measuring ---------------------------------------------------------------------------------------


class Session:
    """All turns of one run of the benchmark, and what they gave."""

    def __init__(self, options, limits_folder, sides, c_program=None):
        self.options = options
        self.c_program = c_program
        self.limits_folder = limits_folder
        self.sides = sides
        self.runner = Runner()
        self.results = {}
        self.limits = {}
        self.runs = []
        self.load = os.getloadavg()[0]

    def arguments(self, once):
        if self.options.quick:
            return ["--quick"], 90
        rounds = "5" if once else "2"
        least = ["--warmup", "1", "--seconds", "1.5", "--rounds", rounds]
        return [*least, "--limit", "120" if once else "20"], 1500 if once else 300

    def row(self, name, workload):
        empty = {"unit": "", "better": "higher", "workload": workload}
        empty.update(limits={}, sides={}, notes={})
        return self.results.setdefault(name, empty)

    def run_limit(self, program, workload):
        """Runs one limit program and counts its figures for the rows of the workload."""
        if self.limits_folder is None:
            return
        seconds = "0.2" if self.options.quick else "0.5"
        command = [os.path.join(self.limits_folder, program), seconds]
        if program == "lim_pair":
            script = os.path.join(BENCH, "limits", "lim_pair.py")
            command = [self.options.python, script, seconds]
        elif not os.path.exists(command[0]):
            return
        objects, reason = self.runner.run(
            program, command, 60, {"LIM_PAIR_DIR": self.limits_folder}
        )
        if reason:
            say("  %s: %s" % (program, reason))
        for found in objects:
            entry = self.limits.setdefault(found["name"], {"unit": found["unit"], "samples": []})
            entry["samples"].append(found["value"])
            for result in self.results.values():
                if result["workload"] == workload:
                    result["limits"].setdefault(found["name"], []).append(found["value"])

    def run_side(self, side, workload, command, environment, features, prefix=""):
        arguments, timeout_s = self.arguments(features.get("once"))
        full = [*command, "--exact", prefix + workload, *arguments]
        began = time.time()
        objects, reason = self.runner.run("%s, %s" % (side, workload), full, timeout_s, environment)
        self.runs.append(
            {"side": side, "workload": workload, "began": began, "took_s": time.time() - began}
        )
        for found in objects:
            name = found["name"][len(prefix) :]
            result = self.row(name, workload)
            problem = found.get("error") or found.get("skipped")
            if problem:
                kind = "failed" if "error" in found else "not there"
                result["notes"][side] = "%s: %s" % (kind, problem)
                reason = reason or ("not there: " + problem)
                continue
            result["unit"], result["better"] = found["unit"], found["better"]
            result["sides"].setdefault(side, []).append(found["value"])
        if reason:
            result = self.row(workload, workload)
            result["notes"].setdefault(side, reason)
            say("  %s: %s" % (side, result["notes"][side]))

    def turns(self, workload, features):
        """The sides of one workload, each as a function that runs it once."""
        found = []
        for side, (python, environment, _text) in self.sides.items():
            command = [python, os.path.join(BENCH, "workloads.py")]
            found.append((self.run_side, (side, workload, command, environment, features)))
        if self.options.peers:
            command = [self.options.python, os.path.join(BENCH, "peers.py")]
            for _function, peer in peers.REGISTRY.workloads.values():
                if peer["row"] == workload:
                    prefix = peer["peer"] + ": "
                    arguments = (peer["peer"], workload, command, {}, peer, prefix)
                    found.append((self.run_side, arguments))
        return found

    def measure(self, workload, features):
        rounds = 1 if features.get("once") or self.options.quick else self.options.rounds
        programs = table.programs_for(workload)
        if workload in table.SYNC and "lim_socket" not in programs:
            programs.append("lim_socket")
        turns = self.turns(workload, features)
        for number in range(rounds):
            say("%s, round %d of %d" % (workload, number + 1, rounds))
            for function, arguments in turns if number % 2 == 0 else reversed(turns):
                if number and arguments[0] in self.row(workload, workload)["notes"]:
                    continue  # what failed once is not tried again
                function(*arguments)
            for program in programs:
                self.run_limit(program, workload)

    def run_c(self, program):
        """Runs the C benchmark once and counts its figures as ours."""
        seconds = "0.2" if self.options.quick else "2"
        objects, reason = self.runner.run("ours (C)", [program, seconds], 120)
        for found in objects:
            result = self.row(found["name"], "ours (C)")
            result["unit"] = found["unit"]
            result["sides"].setdefault("ours", []).append(found["value"])
        if reason:
            say("  ours (C): %s" % reason)
            self.row("C: the benchmark", "ours (C)")["notes"]["ours"] = reason
        return reason is None

    def measure_c(self, program):
        rounds = 1 if self.options.quick else self.options.rounds
        for number in range(rounds):
            say("ours (C), round %d of %d" % (number + 1, rounds))
            if not self.run_c(program):
                break
            for limit in table.C_PROGRAMS:
                self.run_limit(limit, "ours (C)")

    def measure_all(self):
        if self.c_program and (not self.options.only or self.options.only in "C: "):
            self.measure_c(self.c_program)
        selected = workloads.REGISTRY.select(self.options.only)
        if not selected and not self.results:
            say("no workload has %r in its name" % self.options.only)
        if not self.options.only:
            say("limits that no workload is held against")
            for program in ("lim_ring", "lim_socket"):
                self.run_limit(program, None)
        for name in selected:
            self.measure(name, workloads.REGISTRY.workloads[name][1])

    def finished_rows(self):
        """Rows with something in them, or with a reason why there is nothing."""
        rows = table.build_rows(self.results)
        return [row for row in rows if row["unit"] or row["notes"]]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="SUBSTR", help="workloads that contain this")
    parser.add_argument("--quick", action="store_true", help="a smoke run; its figures mean little")
    parser.add_argument("--no-ray", dest="ray", action="store_false", help="without the real Ray")
    parser.add_argument("--no-ours", dest="ours", action="store_false", help="without ray-c")
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="without the peers")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side (3)")
    parser.add_argument("--python", help="interpreter of ray-c and the peers (the build's own)")
    parser.add_argument("--ours-path", help="directory that holds ray-c's package `ray`")
    parser.add_argument("--build", default=os.path.join(ROOT, "build"), help="build directory")
    options = parser.parse_args()
    options.build = os.path.abspath(options.build)
    own = os.path.join(options.build, "venv", "bin", "python")
    options.python = options.python or next(
        filter(os.path.exists, (own, "/usr/bin/python3")), sys.executable
    )
    return options


def lock(folder):
    """One benchmark at a time on this build directory: two would measure each other."""
    file = open(os.path.join(folder, "bench.lock"), "w")  # noqa: SIM115  (held until the end)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit("another benchmark is running; two would measure each other")
    return file


def on_terminate(_number, _frame):
    raise SystemExit(143)


def write_json(path, session, rows, judged):
    document = {
        "machine": {
            "cpus": table.CPUS,
            "kernel": platform.release(),
            "architecture": platform.machine(),
            "load_at_start": session.load,
            "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        },
        "quick": session.options.quick,
        "rounds": session.options.rounds,
        "sides": {side: text for side, (_python, _env, text) in session.sides.items()},
        "rows": rows,
        "limits": session.limits,
        "goals": judged,
        "left_behind": session.runner.left_behind,
        "runs": session.runs,
    }
    with open(path + ".new", "w") as file:
        json.dump(document, file, indent=1)
    os.replace(path + ".new", path)


def print_report(session, rows, judged):
    for side, (_python, _environment, text) in session.sides.items():
        version, path, python = text.split()
        print("%s: ray %s, Python %s, %s" % (side, version, python, os.path.relpath(path, ROOT)))
    print("\n" + table.format_table(rows))
    if session.options.quick:
        print(
            "\nThis was a quick run: one short round at 2 % of the size.  Its figures mean little."
        )
    if session.load > BUSY_LOAD:
        print(
            "\nThe machine was busy (load %.1f at the start): take no figure at its word."
            % session.load
        )
    print("\nLimits of this machine (median of all turns)")
    shown = [item for item in sorted(session.limits.items()) if " thread" not in item[0]]
    for name, entry in shown:
        print(
            "  %12s %-10s %s" % (table.number(table.median(entry["samples"])), entry["unit"], name)
        )
    if session.options.only:
        judged = [goal for goal in judged if goal["value"] is not None]
    if ("ours" in session.sides or session.c_program) and judged:
        print("\nGoals\n" + table.format_goals(judged))
    for row in rows:
        for side, note in row["notes"].items():
            print("note: %s, %s: %s" % (row["row"], side, note))
    if session.runner.left_behind:
        print("%d processes were left behind and ended" % len(session.runner.left_behind))


def main():
    options = parse_arguments()
    os.makedirs(options.build, exist_ok=True)
    signal.signal(signal.SIGTERM, on_terminate)
    held = lock(options.build)
    sides = {}
    limits_folder = build_limits(options)
    for side, wanted, find in (("ours", options.ours, find_ours), ("ray", options.ray, find_ray)):
        found = find(options) if wanted else None
        if found:
            sides[side] = found
            say("%s: ray %s" % (side, found[2]))
    c_program = build_c(options) if options.ours else None
    session = Session(options, limits_folder, sides, c_program)
    try:
        session.measure_all()
    except KeyboardInterrupt:
        say("interrupted; what was measured so far:")
    rows = session.finished_rows()
    judged = [] if options.quick else table.goals(rows)
    path = os.path.join(options.build, "bench.json")
    write_json(path, session, rows, judged)
    print_report(session, rows, judged)
    print("written to %s" % os.path.relpath(path, os.getcwd()))
    held.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
