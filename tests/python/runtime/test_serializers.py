# SPDX-License-Identifier: Apache-2.0
"""Registered serialisers, and finding out what can't be serialised."""

import io
import threading

import pytest
import ray
from ray.util import deregister_serializer, inspect_serializability, register_serializer

pytestmark = pytest.mark.usefixtures("session")


class Locked:
    def __init__(self, x):
        self.x = x
        self.lock = threading.Lock()


def test_register_and_deregister():
    with pytest.raises(TypeError):
        ray.put(Locked(1))
    register_serializer(Locked, serializer=lambda a: a.x, deserializer=lambda x: Locked(x))
    try:
        assert ray.get(ray.put(Locked(1))).x == 1
        assert [a.x for a in ray.get(ray.put([Locked(1), Locked(2)]))] == [1, 2]

        @ray.remote
        def read(a):
            return a.x

        assert ray.get(read.remote(Locked(7))) == 7
    finally:
        deregister_serializer(Locked)
    with pytest.raises(TypeError):
        ray.put(Locked(1))
    deregister_serializer(Locked)  # nothing happens


def test_register_refuses():
    with pytest.raises(TypeError):
        register_serializer(1, serializer=len, deserializer=len)
    with pytest.raises(TypeError):
        register_serializer(Locked, serializer=1, deserializer=len)


def test_inspect():
    out = io.StringIO()
    lock = threading.Lock()

    def captures():
        return lock

    good, failures = inspect_serializability(captures, name="captures", print_file=out)
    assert not good and [f.name for f in failures] == ["lock"]
    assert "lock" in out.getvalue() and "non-serializable" in out.getvalue()
    good, failures = inspect_serializability([1, 2], print_file=io.StringIO())
    assert good and failures == set()


def test_inspect_looks_deep():
    out = io.StringIO()
    held = Locked(1)
    good, failures = inspect_serializability({"key": [held]}, print_file=out)
    assert not good and {f.name for f in failures} == {"lock"}
    assert next(iter(failures)).parent is held


def test_inspect_names_only_what_is_wrong():
    lock = threading.Lock()

    class Actor:
        def uses(self):
            return lock

        def uses_too(self):
            return lock

        def makes_another(self):
            return remote_class.remote()

    remote_class = ray.remote(Actor)
    out = io.StringIO()
    good, failures = inspect_serializability(remote_class, depth=5, print_file=out)
    assert not good and {f.name for f in failures} == {"lock"}
    assert "_creator" not in out.getvalue()
    loop = {"lock": lock}
    loop["self"] = loop
    good, failures = inspect_serializability(loop, print_file=io.StringIO())
    assert not good and {f.name for f in failures} == {"'lock'"}


def test_errors_name_the_culprit():
    with pytest.raises(TypeError) as info:
        ray.put({"fine": 1, "wrong": threading.Lock()})
    assert "'wrong'" in str(info.value)
