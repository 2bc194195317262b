# SPDX-License-Identifier: Apache-2.0
"""Every test gets a seed that it prints, and a world that must be clean when it ends."""

import os
import pathlib
import random

import pytest
from worlds import FULL, World

# One test in full counts may take so long: 200 deaths of ray-gcs, 3 in 10 s, are 12 minutes.
FULL_LIMIT_S = 3600


def pytest_collection_modifyitems(items):
    """Full counts have a limit of their own, above that of the command line."""
    here = pathlib.Path(__file__).parent
    for item in items:
        if FULL and here in item.path.parents:
            item.add_marker(pytest.mark.timeout(FULL_LIMIT_S))


@pytest.fixture
def rng():
    """The test's random choices; RAY_TEST_SEED replays them."""
    seed = int(os.environ.get("RAY_TEST_SEED", "0")) or random.SystemRandom().getrandbits(32)
    print(f"RAY_TEST_SEED={seed}")
    return random.Random(seed)


@pytest.fixture
def world():
    """Directories of its own; no process, socket or file is left in them at the end."""
    made = World()
    try:
        yield made
        made.check_clean()
    finally:
        made.remove()
