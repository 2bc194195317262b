# SPDX-License-Identifier: Apache-2.0
"""``ray.LoggingConfig``: how the Python loggers of a job write."""

from __future__ import annotations

from collections.abc import Sequence

_ENCODINGS = ("JSON", "TEXT")


class LoggingConfig:
    """Level, encoding and extra fields of a job's Python loggers."""

    def __init__(
        self,
        encoding: str = "TEXT",
        log_level: str = "INFO",
        additional_log_standard_attrs: Sequence[str] = (),
    ) -> None:
        if encoding not in _ENCODINGS:
            raise ValueError(
                f"Invalid encoding type: {encoding}. Valid encoding types are: {list(_ENCODINGS)}"
            )
        self.encoding = encoding
        self.log_level = log_level
        self.additional_log_standard_attrs = list(additional_log_standard_attrs)

    def __repr__(self) -> str:
        return (
            f"LoggingConfig(encoding={self.encoding!r}, log_level={self.log_level!r}, "
            f"additional_log_standard_attrs={self.additional_log_standard_attrs!r})"
        )
