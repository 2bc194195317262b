# SPDX-License-Identifier: Apache-2.0
"""Identifiers: sizes, compositions, and what they can do."""

import pickle

import pytest
from ray._private import ids

SIZES = {
    ids.JobID: 4,
    ids.ActorID: 16,
    ids.TaskID: 24,
    ids.PlacementGroupID: 18,
    ids.NodeID: 28,
    ids.WorkerID: 28,
    ids.UniqueID: 28,
    ids.FunctionID: 28,
    ids.ActorClassID: 28,
    ids.ClusterID: 28,
}


@pytest.mark.parametrize(("cls", "size"), SIZES.items())
def test_common(cls, size):
    one = cls.from_random()
    assert len(one.binary()) == size == cls.size()
    assert one.hex() == one.binary().hex()
    assert cls.from_hex(one.hex()) == one == cls.from_binary(one.binary())
    assert hash(cls(one.binary())) == hash(one)
    assert pickle.loads(pickle.dumps(one)) == one
    assert repr(one) == f"{cls.__name__}({one.hex()})"
    assert not one.is_nil() and cls.nil().is_nil()
    assert one != cls.nil() and one != one.binary()
    with pytest.raises(ValueError):
        cls(b"x")
    with pytest.raises(TypeError):
        cls("x" * size)


def test_types_differ():
    assert ids.NodeID(b"\1" * 28) != ids.WorkerID(b"\1" * 28)


def test_compositions():
    job = ids.JobID.from_int(1)
    assert job.hex() == "01000000" and job.int() == 1
    driver = ids.TaskID.for_driver_task(job)
    assert driver.hex() == "f" * 40 + "01000000"
    assert driver.job_id() == job
    assert driver.actor_id() == ids.ActorID.nil_from_job(job)
    actor = ids.ActorID(b"\2" * 12 + job.binary())
    assert actor.job_id == job
    creation = ids.TaskID.for_actor_creation_task(actor)
    assert creation.actor_id() == actor and creation.hex().startswith("f" * 16)
    assert ids.PlacementGroupID.of(job).job_id() == job
