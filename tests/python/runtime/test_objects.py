# SPDX-License-Identifier: Apache-2.0
"""get, put, wait; values read without a copy; identity; references inside values."""

import datetime
import decimal
import gc
import pickle
import threading
import time
import weakref

import numpy as np
import pytest
import ray
from ray.exceptions import GetTimeoutError

pytestmark = pytest.mark.usefixtures("session")


@ray.remote
class Gate:
    """Opens once; tasks that wait on it hold no processor."""

    def __init__(self):
        self.open = False

    def set(self):
        self.open = True

    def is_open(self):
        return self.open


@ray.remote
def after(gate, value):
    while not ray.get(gate.is_open.remote()):
        time.sleep(0.01)
    return value


LONG = "x" * 1000

VALUES = [
    None,
    True,
    0,
    -129,
    2**63,
    1.25,
    float("inf"),
    "text",
    "\ud800",
    "x" * 100_000,
    b"bytes" * 100_000,
    bytearray(b"mutable"),
    (),
    [],
    {},
    [[1, 2], (3, {"k": [None]})],
    {1: 2, (1, 2): "tuple key", None: b""},
    set(range(5)),
    list(range(10_000)),
    [float(i) for i in range(200_000)],
    [LONG] * 5000,
    {i: str(i) for i in range(5000)},
    [[i] for i in range(100)],
    complex(1, 2),
    decimal.Decimal("1.5"),
    datetime.datetime(2020, 1, 2),
    range(3),
    Ellipsis,
    int,
    len,
]


@pytest.mark.parametrize("value", VALUES, ids=lambda v: repr(v)[:30])
def test_round_trip(value):
    got = ray.get(ray.put(value))
    assert got == value and type(got) is type(value)


def test_subclasses_keep_their_type():
    class MyInt(int):
        pass

    class MyList(list):
        pass

    for value in (MyInt(3), MyList([1])):
        got = ray.get(ray.put(value))
        assert got == value and type(got).__name__ == type(value).__name__


def test_identity_inside_one_object():
    inner = [1]
    outer = ray.get(ray.put([inner, inner, (inner,)]))
    assert outer[0] is outer[1] and outer[2][0] is outer[0]
    loop = []
    loop.append(loop)
    got = ray.get(ray.put(loop))
    assert got[0] is got


def test_identity_of_arrays():
    array = np.zeros(42)
    got = ray.get(ray.put([array] * 99))
    assert got[0] is got[98]


def test_zero_copy_and_read_only():
    array = np.arange(1_000_000, dtype=np.float64)
    ref = ray.put(array)
    got = ray.get(ref)
    assert (got == array).all() and not got.flags.writeable and not got.flags.owndata
    assert got.ctypes.data % 64 == 0
    with pytest.raises(ValueError, match="read-only"):
        got[0] = 1
    again = ray.get(ref)
    assert again.ctypes.data == got.ctypes.data  # the same memory


def test_arrays_of_all_kinds():
    arrays = [
        np.zeros((3, 4), order="F"),
        np.arange(20)[::2],
        np.array([]),
        np.array(5),
        np.array(["a", None], dtype=object),
        np.zeros(3, dtype=[("a", "i4"), ("b", "f8")]),
        np.ones((2, 3, 4), dtype=np.int8),
    ]
    for array, got in zip(arrays, ray.get([ray.put(a) for a in arrays])):
        assert got.dtype == array.dtype and got.shape == array.shape
        assert np.array_equal(got, array)
    for array, got in zip(arrays, ray.get(ray.put(arrays))):
        assert np.array_equal(got, array)


def test_small_arrays_are_read_only_too():
    got = ray.get(ray.put(np.zeros(3)))
    assert not got.flags.writeable


def test_an_array_outlives_its_reference():
    got = ray.get(ray.put(np.full(500_000, 7.0)))
    gc.collect()
    for _ in range(20):
        ray.put(np.zeros(500_000))
    assert (got == 7.0).all()


def test_get_of_lists():
    refs = [ray.put(i) for i in range(200)]
    assert ray.get(refs) == list(range(200))
    assert ray.get([]) == []
    assert ray.get([refs[0], refs[0]]) == [0, 0]


def test_get_refuses():
    with pytest.raises(ValueError, match="Invalid type of object refs"):
        ray.get((ray.put(1),))
    with pytest.raises(ValueError, match="Invalid type of object refs"):
        ray.get(1)
    with pytest.raises(TypeError, match="Attempting to call `get` on the value"):
        ray.get([ray.put(1), 2])
    with pytest.raises(TypeError):
        ray.get()
    with pytest.raises(TypeError):
        ray.get(ray.put(1), 1)
    with pytest.raises(TypeError):
        ray.get(ray.put(1), nope=1)
    with pytest.raises(ValueError):
        ray.get(ray.ObjectRef.from_random())


def test_get_timeout():
    gate = Gate.remote()
    ref = after.remote(gate, "done")
    for timeout in (0, 0.05):
        with pytest.raises(GetTimeoutError):
            ray.get(ref, timeout=timeout)
    with pytest.raises(TimeoutError):
        ray.get([ray.put(1), ref], timeout=0.01)
    ray.get(gate.set.remote())
    assert ray.get(ref, timeout=30) == "done"
    assert ray.get(ref, timeout=0) == "done"
    assert ray.get(ref, timeout=-1) == "done"


def test_first_error_is_raised_at_once():
    gate = Gate.remote()

    @ray.remote
    def fail():
        raise KeyError("early")

    waiting = after.remote(gate, 1)
    with pytest.raises(KeyError):
        ray.get([waiting, fail.remote()], timeout=30)
    ray.get(gate.set.remote())
    assert ray.get(waiting) == 1


def test_put_refuses():
    with pytest.raises(TypeError, match="Calling 'put' on an ray.ObjectRef is not allowed"):
        ray.put(ray.put(1))
    with pytest.raises(TypeError, match="_owner"):
        ray.put(1, _owner="someone")
    with pytest.raises(TypeError, match="Could not serialize the put value"):
        ray.put(threading.Lock())
    with pytest.raises(TypeError):
        ray.put()


def test_wait():
    gate = Gate.remote()
    slow = after.remote(gate, 1)
    fast = [ray.put(i) for i in range(3)]
    assert ray.wait([slow, *fast], num_returns=3, timeout=30) == (fast, [slow])
    assert ray.wait([slow, *fast], num_returns=1, timeout=30) == (fast[:1], [slow, *fast[1:]])
    assert ray.wait([slow], timeout=0) == ([], [slow])
    assert ray.wait([slow], timeout=0.02) == ([], [slow])
    ray.get(gate.set.remote())
    assert ray.wait([slow], fetch_local=False) == ([slow], [])


def test_wait_refuses():
    one, two = ray.put(1), ray.put(2)
    assert ray.wait([]) == ([], [])
    assert ray.wait([], num_returns=0) == ([], [])
    for wrong in (one, (one,), {one}, [1], "x"):
        with pytest.raises(TypeError):
            ray.wait(wrong)
    with pytest.raises(ValueError, match="unique"):
        ray.wait([one, one])
    for count in (0, -1, 3):
        with pytest.raises(ValueError):
            ray.wait([one, two], num_returns=count)
    with pytest.raises(ValueError, match="nonnegative"):
        ray.wait([one], timeout=-1)


def test_errors_are_ready():
    @ray.remote
    def fail():
        raise KeyError("x")

    ref = fail.remote()
    assert ray.wait([ref], timeout=30) == ([ref], [])


def test_references_inside_values():
    inner = ray.put("inner")
    outer = ray.put({"refs": [inner, (inner,)], "x": {1}})
    key = inner.hex()
    del inner
    gc.collect()
    got = ray.get(outer)
    assert got["refs"][0].hex() == key and ray.get(got["refs"][1][0]) == "inner"


def test_explicit_pickle_of_a_reference():
    ref = ray.put("kept")
    for dumps in (ray.cloudpickle.dumps, pickle.dumps):
        data = dumps([ref])
        assert ray.get(ray.cloudpickle.loads(data)[0]) == "kept"
    data = ray.cloudpickle.dumps(ref)
    del ref
    gc.collect()

    @ray.remote
    def load(data):
        return ray.get(ray.cloudpickle.loads(data))

    assert ray.get(load.remote(data)) == "kept"


def test_out_of_band_pickling_can_be_forbidden(monkeypatch):
    monkeypatch.setenv("RAY_allow_out_of_band_object_ref_serialization", "0")
    ref = ray.put(1)
    with pytest.raises(ray.exceptions.OufOfBandObjectRefSerializationException):
        pickle.dumps(ref)
    assert ray.get(ray.get(ray.put([ref]))[0]) == 1


def test_a_pickle_made_while_serialising_is_independent():
    class Nested:
        def __init__(self, ref):
            self.ref = ref

        def __reduce__(self):
            return ray.cloudpickle.loads, (ray.cloudpickle.dumps(("nested", self.ref)),)

    ref = ray.put(5)
    name, got = ray.get(ray.put([ref, Nested(ref)]))[1]
    assert name == "nested" and ray.get(got) == 5


def test_put_while_serialising():
    class PutsItself:
        def __reduce__(self):
            return list, ((ray.put({"deep"}),),)

    outer = ray.get(ray.put([PutsItself(), {1}]))
    assert ray.get(outer[0][0]) == {"deep"}


def test_get_in_del():
    seen = []

    class GetsWhenDropped:
        def __init__(self, ref):
            self.ref = ref

        def __del__(self):
            seen.append(ray.get(self.ref))

    thing = GetsWhenDropped(ray.put(3))
    cycle = [thing]
    cycle.append(cycle)
    del thing, cycle
    gc.collect()
    assert seen == [3]


def test_weak_references_and_hash():
    ref = ray.put(1)
    weak = weakref.ref(ref)
    assert weak() is ref and {ref: 1}[ref] == 1 and ref != ray.put(1) and ref != 1
    del ref
    assert weak() is None


def test_many_threads():
    results = []

    def work(n):
        refs = [ray.put((n, i)) for i in range(100)]
        results.append(ray.get(refs) == [(n, i) for i in range(100)])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == [True] * 4


def test_large_arguments_and_returns():
    @ray.remote
    def total(array, factor):
        return array * factor, array.flags.writeable

    big = np.ones(300_000)
    doubled, writeable = ray.get(total.remote(big, 2))
    assert doubled.sum() == 600_000 and not writeable
    ref = ray.put(big)
    assert ray.get(total.remote(ref, factor=3))[0][0] == 3


def test_large_bytes():
    data = bytes(range(256)) * 8192
    assert ray.get(ray.put(data)) == data
    assert ray.get(ray.put([data, 1]))[0] == data
