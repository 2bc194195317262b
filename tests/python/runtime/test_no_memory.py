# SPDX-License-Identifier: Apache-2.0
"""What a driver does when memory runs out where a fault point says so."""

import os

PROGRAM = """
    import ray
    ray.init(num_cpus=2, log_to_driver=False)

    @ray.remote
    def make(x):
        return x

    @ray.remote
    def wait_for(*xs):
        return sum(xs)

    @ray.remote
    class Sum:
        def __init__(self, *xs):
            self.value = sum(xs)
        def add(self, *xs):
            self.value += sum(xs)
            return self.value

    def pending():
        return [make.remote(i) for i in range(4)]

    def attempt(f):
        refs = pending()
        try:
            got = f(*refs)
        except Exception as e:
            # Nothing hangs on the arguments: they come, and all is given up.
            assert ray.get(refs) == [0, 1, 2, 3]
            return type(e).__name__
        return ray.get(got.add.remote(0) if isinstance(got, ray.actor.ActorHandle) else got)

"""


def run(run_program, fault, code):
    env = dict(os.environ, RAY_FAULT=fault)
    code, out, err = run_program(PROGRAM + code, env=env)
    assert code == 0, err
    return out.split()


def test_waiting_for_arguments(run_program):
    # The third of four waiters can't be made, thrice over.
    out = run(
        run_program,
        "driver/worker.args.waiter:error=OUT_OF_MEMORY:every=7",
        """
    counter = Sum.remote()
    assert ray.get(counter.add.remote()) == 0
    for _ in range(20):
        for f in (wait_for.remote, Sum.remote):
            print(attempt(f))
    """,
    )
    assert set(out) == {"6", "MemoryError"}


def test_an_argument_that_is_gone(run_program):
    # Its error can't be made at first: the push is tried again, with what it needs.
    out = run(
        run_program,
        "driver/worker.args.value:error=OUT_OF_MEMORY:nth=1",
        """
    @ray.remote
    class Owner:
        def own(self):
            return [ray.put(1)]

    owner = Owner.remote()
    lost = ray.get(owner.own.remote())[0]
    ray.kill(owner)
    while True:
        try:
            ray.get(lost, timeout=30)
        except ray.exceptions.OwnerDiedError:
            break
    try:
        ray.get(wait_for.remote(1, lost), timeout=60)
    except ray.exceptions.RayError as e:
        print(type(e).__name__)
    """,
    )
    assert len(out) == 1 and "OwnerDiedError" in out[0]


def test_references_in_returns(run_program):
    # What was stored for a return that can't be taken is freed: each is a fifth of the store.
    out = run(
        run_program,
        "driver/worker.returns.frame:error=OUT_OF_MEMORY",
        """
    import numpy as np
    ray.shutdown()
    ray.init(num_cpus=1, object_store_memory=80 << 20, log_to_driver=False)

    @ray.remote(num_returns=2)
    def both():
        return [np.ones((15 << 20) // 8), ray.put(1)], 5

    for _ in range(20):
        with_refs, plain = both.remote()
        assert ray.get(plain) == 5
        try:
            ray.get(with_refs)
        except Exception as e:
            print(type(e).__name__)
    """,
    )
    assert out == ["MemoryError"] * 20
