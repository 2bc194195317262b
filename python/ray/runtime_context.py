# SPDX-License-Identifier: Apache-2.0
"""``ray.get_runtime_context()``: where the code that asks is running."""

from __future__ import annotations

import json
from typing import Any

from ray import _native
from ray._private.unbuilt import not_built


def _hex_or_none(raw: bytes) -> str | None:
    return None if raw == b"\xff" * len(raw) else raw.hex()


class RuntimeContext:
    """Answers about the current process, task and actor, looked up when asked for."""

    @staticmethod
    def _context() -> dict[str, Any]:
        assert _native.is_initialized(), "Ray has not been initialized yet. Call ray.init() first."
        return _native.context()

    def get_job_id(self) -> str:
        """The job, as hexadecimal digits."""
        return str(self._context()["job_id"].hex())

    def get_node_id(self) -> str:
        """The node, as hexadecimal digits."""
        return str(self._context()["node_id"].hex())

    def get_worker_id(self) -> str:
        """The worker or driver process, as hexadecimal digits."""
        return str(self._context()["worker_id"].hex())

    def get_task_id(self) -> str | None:
        """The running task, as hexadecimal digits; None in a driver."""
        context = self._context()
        return None if context["is_driver"] else _hex_or_none(context["task_id"])

    def get_actor_id(self) -> str | None:
        """The actor that runs this, as hexadecimal digits; None outside of one."""
        return _hex_or_none(self._context()["actor_id"])

    def get_task_name(self) -> str | None:
        """The running task's name: its option ``name``, or the function's; None in a driver."""
        task = _native.current_task()
        return None if task is None else task["name"]

    def get_task_function_name(self) -> str | None:
        """The running function, with its module; None in a driver."""
        task = _native.current_task()
        return None if task is None else _full_name(task)

    def get_actor_name(self) -> str | None:
        """The actor's name, "" when it has none; None outside of an actor."""
        context = self._context()
        return None if _hex_or_none(context["actor_id"]) is None else str(context["actor_name"])

    def is_canceled(self) -> bool:
        """Whether the running task was cancelled by ``ray.cancel``; False in a driver."""
        return _native.is_cancelled()

    @property
    def namespace(self) -> str:
        """The namespace of the job's named actors."""
        return str(self._context()["job_namespace"])

    @property
    def was_current_actor_reconstructed(self) -> bool:
        """Whether the current actor was restarted."""
        assert self.get_actor_id() is not None, "This method should only be called in an actor."
        return int(self._context()["actor_incarnation"]) > 0

    @property
    def current_actor(self) -> Any:
        """A handle to the actor that runs this; it does not keep the actor alive."""
        from ray._private import executor

        return executor.current_actor()

    def get_placement_group_id(self) -> str | None:
        """The placement group, as hexadecimal digits; None outside of one."""
        self._context()
        return None

    @property
    def should_capture_child_tasks_in_placement_group(self) -> bool:
        """Whether tasks submitted here go to the current placement group."""
        return False

    def get_assigned_resources(self) -> dict[str, float]:
        """What the running task or actor holds, by resource name."""
        assert not self._context()["is_driver"], "This method can't be called in a driver."
        found: dict[str, float] = json.loads(_native.state_json("assigned_resources"))
        return {name: float(amount) for name, amount in found.items()}

    def get_accelerator_ids(self) -> dict[str, list[str]]:
        """The accelerators that the running task or actor was given, by kind."""
        ids: dict[str, list[str]] = {"GPU": []}
        if not self._context()["is_driver"]:
            from ray._private import executor

            ids.update(json.loads(_native.state_json("accelerator_ids")))
            ids["GPU"] = executor.name_devices(ids["GPU"]) or ids["GPU"]
        return ids

    def get_runtime_env_string(self) -> str:
        """The runtime environment as JSON."""
        return "{}"

    @property
    def runtime_env(self) -> dict[str, Any]:
        """The runtime environment."""
        return {}

    @property
    def gcs_address(self) -> str:
        """The address of the runtime, which other drivers may give to ``ray.init``."""
        return str(self._context()["raylet_socket"])

    def get_session_name(self) -> str:
        """The name of the session: the last part of its directory."""
        return str(self._context()["session_name"])

    def get_dashboard_url(self) -> str:
        """Where the dashboard is; "" when there is none."""
        return ""

    def get_node_labels(self) -> dict[str, str]:
        """The labels of this node."""
        raise not_built("get_node_labels()")

    # Older spellings.

    @property
    def job_id(self) -> Any:
        """The job's id. Use `get_job_id`."""
        from ray._private.ids import JobID

        return JobID(self._context()["job_id"])

    @property
    def node_id(self) -> Any:
        """The node's id. Use `get_node_id`."""
        from ray._private.ids import NodeID

        return NodeID(self._context()["node_id"])

    @property
    def task_id(self) -> Any:
        """The running task's id. Use `get_task_id`."""
        from ray._private.ids import TaskID

        return TaskID(self._context()["task_id"])

    @property
    def actor_id(self) -> Any:
        """The current actor's id, nil outside of one. Use `get_actor_id`."""
        from ray._private.ids import ActorID

        return ActorID(self._context()["actor_id"])

    def get(self) -> dict[str, Any]:
        """The ids in a dict. Use the single getters."""
        context: dict[str, Any] = {"job_id": self.job_id, "node_id": self.node_id}
        if self.get_task_id() is not None:
            context["task_id"] = self.task_id
        if self.get_actor_id() is not None:
            context["actor_id"] = self.actor_id
        return context

    def get_resource_ids(self) -> dict[str, list[str]]:
        """Use `get_accelerator_ids`."""
        return self.get_accelerator_ids()


def _full_name(task: dict[str, Any]) -> str:
    module = task["module"]
    return f"{module}.{task['function']}" if module else str(task["function"])


_runtime_context = RuntimeContext()


def get_runtime_context() -> RuntimeContext:
    """The runtime context of the current process."""
    return _runtime_context
