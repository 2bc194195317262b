#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A graph of tasks, built once and executed for several inputs.

A thermometer's readings go through two conversions side by side; an actor that was made before
counts them all. Nothing runs before ``execute``.
"""

import ray
from ray.dag import InputNode, MultiOutputNode


@ray.remote
def to_fahrenheit(celsius):
    return f"{celsius * 9 / 5 + 32:.1f} °F"


@ray.remote
def to_kelvin(celsius):
    return f"{celsius + 273.15:.2f} K"


@ray.remote
def line(number, *texts):
    return f"reading {number}: {', '.join(texts)}"


@ray.remote
class Counter:
    """Counts readings; it lives as long as somebody has a handle."""

    def __init__(self):
        self.count = 0

    def next(self, reading):
        self.count += 1
        return self.count


def main():
    ray.init()
    counter = Counter.remote()
    with InputNode() as celsius:
        fahrenheit, kelvin = to_fahrenheit.bind(celsius), to_kelvin.bind(celsius)
        number = counter.next.bind(celsius)
        graph = MultiOutputNode([line.bind(number, fahrenheit, kelvin), number])
    for reading in (0, 37, 100):
        text, _ = ray.get(graph.execute(reading))
        print(text)


if __name__ == "__main__":
    main()
