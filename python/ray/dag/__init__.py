# SPDX-License-Identifier: Apache-2.0
"""Graphs of tasks and actor calls that are built first and executed later.

``.bind(...)`` on a remote function, an actor class or a method takes what ``.remote(...)`` takes,
but only makes a node. Nodes are arguments of other nodes. ``node.execute(...)`` submits everything
that the node depends on, each node once::

    with InputNode() as x:
        graph = add.bind(double.bind(x), increment.bind(x))
    assert ray.get(graph.execute(2)) == 7
"""

from __future__ import annotations

from ray.dag.class_node import ClassMethodNode, ClassNode
from ray.dag.dag_node import DAGNode
from ray.dag.function_node import FunctionNode
from ray.dag.input_node import DAGInputData, InputAttributeNode, InputNode
from ray.dag.output_node import MultiOutputNode

__all__ = [
    "ClassMethodNode",
    "ClassNode",
    "DAGInputData",
    "DAGNode",
    "FunctionNode",
    "InputAttributeNode",
    "InputNode",
    "MultiOutputNode",
]
