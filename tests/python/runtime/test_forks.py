# SPDX-License-Identifier: Apache-2.0
"""Children that user code makes by fork, in drivers and workers."""

import multiprocessing
import os
import signal
import subprocess

import numpy as np
import pytest
import ray

MIB = 1 << 20


@pytest.fixture(autouse=True)
def small_store(fresh):
    ray.init(num_cpus=2, object_store_memory=80 * MIB, log_to_driver=False)
    # A connection of each kind.
    assert ray.get(ray.put(1)) == 1

    @ray.remote
    def hello():
        return 1

    assert ray.get([hello.remote() for _ in range(10)]) == [1] * 10


def ours():
    """Descriptors of this process that are the runtime's: sockets, loops, bells, memory."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        if target.startswith(("socket:", "anon_inode:", "/memfd:")):
            found.append(target)
    return found


def in_child(function):
    """What `function` returns in a child made by fork, as text."""
    here, there = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(there, repr(function()).encode())
        finally:
            os._exit(0)
    os.close(there)
    with os.fdopen(here) as f:
        text = f.read()
    os.waitpid(pid, 0)
    return text


def test_a_child_has_nothing_of_ours_open():
    before = ours()
    assert before
    assert in_child(ours) == "[]"
    assert ours() == before

    @ray.remote
    def in_worker():
        return in_child(ours)

    assert ray.get(in_worker.remote()) == "[]"
    assert in_child(lambda: isinstance(attempt(), RuntimeError)) == "True"


def attempt():
    try:
        ray.put(1)
    except Exception as e:
        return e
    return None


def test_views_of_a_child_outlive_the_parents():
    array = ray.get(ray.put(np.full(10 * MIB // 8, 7.0)))
    go_child, go_parent = os.pipe()
    result_parent, result_child = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(go_parent)
        os.read(go_child, 1)  # until the parent has written over all that is free
        os.write(result_child, b"y" if (array == 7.0).all() else b"n")
        os._exit(0)
    os.close(result_child)
    os.close(go_child)
    del array
    for i in range(20):
        assert ray.get(ray.put(np.full(10 * MIB // 8, float(i))))[0] == i
    whole = np.ones(70 * MIB // 8)
    with pytest.raises(ray.exceptions.ObjectStoreFullError):
        ray.put(whole)
    os.write(go_parent, b"x")
    os.close(go_parent)
    assert os.read(result_parent, 1) == b"y"
    os.close(result_parent)
    os.waitpid(pid, 0)
    assert ray.get(ray.put(whole))[0] == 1.0  # nothing is held for it any more


def test_a_childs_next_program_holds_nothing():
    array = ray.get(ray.put(np.ones(50 * MIB // 8)))
    # preexec_fn makes subprocess use fork, not vfork.
    child = subprocess.Popen(["sleep", "100"], preexec_fn=lambda: None)
    del array
    assert ray.get(ray.put(np.ones(60 * MIB // 8)))[0] == 1.0
    child.kill()
    child.wait()


def test_multiprocessing_by_fork_beside_tasks():
    @ray.remote
    def square(x):
        return x * x

    refs = [square.remote(i) for i in range(100)]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(abs, range(-50, 0)) == list(range(50, 0, -1))
    assert ray.get(refs) == [i * i for i in range(100)]


def test_death_of_a_worker_whose_child_lives_is_told():
    @ray.remote(max_retries=0)
    def fork_and_die():
        child = os.fork()
        if child == 0:
            os.setsid()
            signal.pause()
        os.kill(os.getpid(), signal.SIGKILL)

    for _ in range(3):
        with pytest.raises(ray.exceptions.WorkerCrashedError):
            ray.get(fork_and_die.remote(), timeout=30)

    @ray.remote
    class Forker:
        def fork(self):
            child = os.fork()
            if child == 0:
                signal.pause()
            return os.getpid(), child

    actor = Forker.remote()
    pid, child = ray.get(actor.fork.remote())
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(actor.fork.remote(), timeout=30)
    while os.path.exists(f"/proc/{child}"):  # what a dead worker leaves is ended
        os.sched_yield()


def test_a_drivers_child_does_not_keep_the_runtime(run_program):
    ray.shutdown()
    code, out, err = run_program(
        """
        import os, signal, sys, ray
        ray.init(num_cpus=1, log_to_driver=False)
        ray.get(ray.remote(lambda: 1).remote())
        child = os.fork()
        if child == 0:
            for fd in (0, 1, 2):
                os.close(fd)
            signal.pause()
        print(child, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    child = int(out.split()[0])
    assert code == -signal.SIGKILL, err
    try:
        # Whoever waits for the runtime's end waits for no descriptor of that child.
        names = os.listdir(f"/proc/{child}/fd")
        targets = [os.readlink(f"/proc/{child}/fd/{name}") for name in names]
        assert not [t for t in targets if t.startswith(("socket:", "anon_inode:", "/memfd:"))]
    finally:
        os.kill(child, signal.SIGKILL)
