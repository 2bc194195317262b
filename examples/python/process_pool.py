#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A program for multiprocessing.Pool, with one line changed: where Pool comes from."""

from ray.util.multiprocessing import Pool

primes = None


def prepare(limit):
    """Runs in each process once: finds the primes by which candidates are divided."""
    global primes
    primes = [n for n in range(2, limit) if all(n % d for d in range(2, int(n**0.5) + 1))]


def is_prime(n):
    return all(n % p for p in primes if p * p <= n)


def main():
    candidates = range(100_001, 110_000, 2)
    with Pool(initializer=prepare, initargs=(400,)) as pool:
        found = [n for n, yes in zip(candidates, pool.map(is_prime, candidates)) if yes]
        first = next(n for n in pool.imap(abs, found) if n % 100 == 3)
    print(f"{len(found)} primes between 100,000 and 110,000; the first that ends in 03: {first}")


if __name__ == "__main__":
    main()
