# SPDX-License-Identifier: Apache-2.0
"""Identifiers: fixed-size byte strings with a type, in the sizes and compositions of Ray.

JobID 4 bytes; ActorID 16 = 12 unique + JobID; TaskID 24 = 8 unique + ActorID; PlacementGroupID 18 =
14 + JobID; the UniqueID family 28. Nil is all ones.
"""

from __future__ import annotations

import os
from typing import Any, ClassVar, TypeVar

Id = TypeVar("Id", bound="BaseID")


class BaseID:
    """A typed, immutable, hashable byte string of a fixed length."""

    __slots__ = ("_bytes",)
    SIZE: ClassVar[int] = 28

    def __init__(self, id: bytes) -> None:
        if not isinstance(id, bytes):
            raise TypeError(
                f"{type(self).__name__} needs bytes of length {self.SIZE}, got {type(id).__name__}"
            )
        if len(id) != self.SIZE:
            raise ValueError(
                f"{type(self).__name__} needs {self.SIZE} bytes, got {len(id)} bytes: {id!r}"
            )
        self._bytes = id

    @classmethod
    def from_binary(cls: type[Id], id_bytes: bytes) -> Id:
        """The id with these bytes."""
        return cls(id_bytes)

    @classmethod
    def from_hex(cls: type[Id], hex_id: str | bytes) -> Id:
        """The id written as hexadecimal digits."""
        text = hex_id.decode("ascii") if isinstance(hex_id, bytes) else hex_id
        return cls(bytes.fromhex(text))

    @classmethod
    def from_random(cls: type[Id]) -> Id:
        """A fresh id."""
        return cls(os.urandom(cls.SIZE))

    @classmethod
    def nil(cls: type[Id]) -> Id:
        """The id that stands for none: all ones."""
        return cls(b"\xff" * cls.SIZE)

    @classmethod
    def size(cls) -> int:
        """Length in bytes."""
        return cls.SIZE

    def is_nil(self) -> bool:
        """Whether this is the nil id."""
        return self._bytes == b"\xff" * self.SIZE

    def binary(self) -> bytes:
        """The bytes."""
        return self._bytes

    def hex(self) -> str:
        """The bytes as lowercase hexadecimal digits."""
        return self._bytes.hex()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BaseID) and (
            type(self) is type(other) and self._bytes == other._bytes
        )

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self._bytes)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.hex()})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._bytes,)


class UniqueID(BaseID):
    """28 random bytes."""

    __slots__ = ()


class NodeID(UniqueID):
    """A node of the cluster."""

    __slots__ = ()


class WorkerID(UniqueID):
    """A worker or driver process."""

    __slots__ = ()


class ClusterID(UniqueID):
    """A cluster."""

    __slots__ = ()


class FunctionID(UniqueID):
    """A remote function's definition."""

    __slots__ = ()


class ActorClassID(UniqueID):
    """An actor class's definition."""

    __slots__ = ()


class JobID(BaseID):
    """A job: one driver and everything it started."""

    __slots__ = ()
    SIZE = 4

    @classmethod
    def from_int(cls, value: int) -> JobID:
        """The job with this number."""
        return cls(value.to_bytes(4, "little"))

    def int(self) -> "int":
        """The job's number."""
        return int.from_bytes(self._bytes, "little")


class ActorID(BaseID):
    """An actor."""

    __slots__ = ()
    SIZE = 16

    @classmethod
    def nil_from_job(cls, job_id: JobID) -> ActorID:
        """The actor part of the ids of a job's tasks that belong to no actor."""
        return cls(b"\xff" * 12 + job_id.binary())

    @property
    def job_id(self) -> JobID:
        """The job that made the actor."""
        return JobID(self._bytes[12:])


class TaskID(BaseID):
    """A task."""

    __slots__ = ()
    SIZE = 24

    def actor_id(self) -> ActorID:
        """The actor that runs the task (nil in its unique part when none does)."""
        return ActorID(self._bytes[8:])

    def job_id(self) -> JobID:
        """The job of the task."""
        return JobID(self._bytes[20:])

    @classmethod
    def for_driver_task(cls, job_id: JobID) -> TaskID:
        """The task that a driver itself is."""
        return cls(b"\xff" * 20 + job_id.binary())

    @classmethod
    def for_actor_creation_task(cls, actor_id: ActorID) -> TaskID:
        """The task that ran an actor's constructor."""
        return cls(b"\xff" * 8 + actor_id.binary())


class PlacementGroupID(BaseID):
    """A placement group."""

    __slots__ = ()
    SIZE = 18

    @classmethod
    def of(cls, job_id: JobID) -> PlacementGroupID:
        """A fresh id for a group of this job."""
        return cls(os.urandom(14) + job_id.binary())

    def job_id(self) -> JobID:
        """The job that made the group."""
        return JobID(self._bytes[14:])
