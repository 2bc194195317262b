# SPDX-License-Identifier: Apache-2.0
"""What stands behind the public names of ``ray``. Nothing here is an interface for users.

Layout
    api.py           init, shutdown, remote, get, put, wait, kill: the functions of ``import ray``
    options.py       every option of ``@ray.remote``: types, ranges, defaults, and what they become
    signature.py     signatures of functions and classes, reduced to what a call check needs
    errors.py        failures of the runtime turned into the classes of ``ray.exceptions``
    serialization.py picklers, and what happens to references and handles inside values
    fastpickle.py    the C pickler with our hooks
    futures.py       references as futures and awaitables
    definitions.py   how functions and classes travel to workers
    executor.py      the worker's slow paths: loading definitions, reporting exceptions
    worker_main.py   what a worker does before its first task and after its last
    zygote.py        the warmed interpreter that forks workers
    logs.py          lines of workers on the driver's terminal: prefixes, colours, folding
    context.py       RayContext, and gathering the arguments of ``ray.init``
    ids.py           JobID, TaskID and the other identifiers
    unbuilt.py       one place that says which parts of Ray this version doesn't have yet

The hot path (submitting, getting, running a task) is C, in ``ray._native``; it enters these modules
only when something is made for the first time or has failed. Modules import one another lazily:
``import ray`` must stay cheap, and so must the first call.
"""
