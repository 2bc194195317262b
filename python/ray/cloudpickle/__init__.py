# SPDX-License-Identifier: Apache-2.0
"""cloudpickle, under the name that Ray programs import it by.

A reference that is pickled with this module travels outside of Ray's sight, so its object is kept
until the job ends.
"""

from __future__ import annotations

from cloudpickle import *  # noqa: F403
from cloudpickle import (  # noqa: F401
    CloudPickler,
    Pickler,
    dump,
    dumps,
    load,
    loads,
    register_pickle_by_value,
    unregister_pickle_by_value,
)
