# SPDX-License-Identifier: Apache-2.0
"""Logging something once, or once in a while."""

from __future__ import annotations

import time

_logged: set[str] = set()
_disabled = False
_periodic = False
_last_reset = 0.0
_PERIOD_S = 60.0


def log_once(key: str) -> bool:
    """True the first time it is called with a key, so that a message is logged only once.

    After `enable_periodic_logging` it is True again each minute.
    """
    global _last_reset
    if _disabled:
        return False
    if key not in _logged:
        _logged.add(key)
        _last_reset = _last_reset or time.monotonic()
        return True
    if _periodic and time.monotonic() - _last_reset > _PERIOD_S:
        _logged.clear()
        _last_reset = time.monotonic()
    return False


def disable_log_once_globally() -> None:
    """Makes `log_once` false for every key."""
    global _disabled
    _disabled = True


def enable_periodic_logging() -> None:
    """Makes `log_once` true again for each key every minute."""
    global _disabled, _periodic
    _disabled = False
    _periodic = True
