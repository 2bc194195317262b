# SPDX-License-Identifier: Apache-2.0
"""``multiprocessing.Pool`` whose processes are actors, anywhere in the cluster.

Programs change one line: ``from ray.util.multiprocessing import Pool``.
"""

from __future__ import annotations

from multiprocessing import TimeoutError

from ray.util.multiprocessing.pool import AsyncResult, Pool

__all__ = ["AsyncResult", "Pool", "TimeoutError"]
