# SPDX-License-Identifier: Apache-2.0
"""Every test gets a seed that it prints, and a world that must be clean when it ends."""

import os
import random

import pytest
from worlds import World


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
