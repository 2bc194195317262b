# SPDX-License-Identifier: Apache-2.0
"""``ray.job_config.JobConfig``: what a driver says about its job as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class JobConfig:
    """Settings of a job: its namespace, runtime environment, metadata and actor defaults."""

    def __init__(
        self,
        jvm_options: Sequence[str] | None = None,
        code_search_path: Sequence[str] | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        _client_job: bool = False,
        metadata: Mapping[str, str] | None = None,
        ray_namespace: str | None = None,
        default_actor_lifetime: str = "non_detached",
    ) -> None:
        self.jvm_options = list(jvm_options or ())
        self.code_search_path = list(code_search_path or ())
        self.client_job = _client_job
        self.metadata: dict[str, str] = dict(metadata or {})
        self.ray_namespace = ray_namespace
        self.runtime_env: dict[str, Any] = dict(runtime_env or {})
        self.set_default_actor_lifetime(default_actor_lifetime)

    def set_metadata(self, key: str, value: str) -> None:
        """Adds one pair of metadata."""
        self.metadata[key] = value

    def set_runtime_env(
        self, runtime_env: Mapping[str, Any] | None, validate: bool = False
    ) -> None:
        """Replaces the runtime environment."""
        self.runtime_env = dict(runtime_env or {})

    def set_ray_namespace(self, ray_namespace: str) -> None:
        """Sets the namespace of the job's named actors."""
        self.ray_namespace = ray_namespace

    def set_default_actor_lifetime(self, default_actor_lifetime: str) -> None:
        """Sets how long actors live that say nothing about it."""
        if default_actor_lifetime not in ("detached", "non_detached"):
            raise ValueError(
                "The default actor lifetime must be 'detached' or 'non_detached', got "
                f"{default_actor_lifetime!r}."
            )
        self.default_actor_lifetime = default_actor_lifetime
