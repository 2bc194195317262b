# SPDX-License-Identifier: Apache-2.0
"""ray.util.as_completed and ray.util.map_unordered."""

import itertools
import os

import pytest
import ray
from ray.util import as_completed, map_unordered

pytestmark = pytest.mark.usefixtures("session")


@ray.remote
def square(x):
    return x * x


@ray.remote
def read(path):
    with open(path) as file:
        return file.read()


@pytest.mark.parametrize("chunk_size", [1, 3, 100])
def test_as_completed(chunk_size):
    refs = [square.remote(x) for x in range(20)]
    expected = [x * x for x in range(20)]
    assert sorted(as_completed(refs, chunk_size=chunk_size)) == expected
    found = list(as_completed(refs, chunk_size=chunk_size, yield_obj_refs=True))
    assert set(found) == set(refs) and len(refs) == 20
    assert list(as_completed([], chunk_size=chunk_size)) == []


def test_what_is_there_comes_first(tmp_path):
    path = str(tmp_path / "pipe")
    os.mkfifo(path)
    results = as_completed([read.remote(path), square.remote(3)], chunk_size=1)
    assert next(results) == 9
    with open(path, "w") as file:
        file.write("late")
    assert list(results) == ["late"]


@pytest.mark.parametrize("backpressure_size", [1, 5, None])
def test_map_unordered(backpressure_size):
    results = map_unordered(square, range(30), backpressure_size=backpressure_size)
    assert sorted(results) == [x * x for x in range(30)]
    assert list(map_unordered(square, [], backpressure_size=backpressure_size)) == []
    refs = list(map_unordered(square, [2], yield_obj_refs=True))
    assert ray.get(refs) == [4]


def test_map_unordered_of_endless_items():
    results = map_unordered(square, itertools.count(), backpressure_size=8, chunk_size=2)
    assert len(list(itertools.islice(results, 50))) == 50


def test_bad_arguments():
    for call in (
        lambda **options: as_completed([], **options),
        lambda **options: map_unordered(square, [], **options),
    ):
        with pytest.raises(ValueError, match="`chunk_size` must be >= 1"):
            call(chunk_size=0)
        with pytest.raises(ValueError, match="num_returns"):
            call(num_returns=2)
    with pytest.raises(ValueError, match="`backpressure_size` must be >= 1"):
        map_unordered(square, [], backpressure_size=0)
