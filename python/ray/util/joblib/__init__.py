# SPDX-License-Identifier: Apache-2.0
"""joblib's parallelism on Ray, for scikit-learn and whatever else uses joblib::

    from ray.util.joblib import register_ray

    register_ray()
    with joblib.parallel_backend("ray"):
        search.fit(X, y)
"""

from __future__ import annotations

__all__ = ["register_ray"]


def register_ray() -> None:
    """Makes the backend "ray" known to joblib: ``with joblib.parallel_backend("ray"):``.

    Raises ImportError when joblib isn't there.
    """
    try:
        from joblib.parallel import register_parallel_backend

        from ray.util.joblib.ray_backend import RayBackend
    except ImportError as exc:
        raise ImportError(
            "To use the ray backend you must install joblib, for example with 'apt install "
            "python3-joblib' or 'pip install joblib'."
        ) from exc
    register_parallel_backend("ray", RayBackend)
