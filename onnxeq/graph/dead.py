"""Nodes and initializers that nothing reads, removed; graph inputs stay, read or not."""

from __future__ import annotations

import onnx_ir as ir

from onnxeq.graph.frame import ANY, Options, Outcome, Pass, graphs, inner_graphs

__all__ = ["REMOVE_DEAD"]


def _run(model: ir.Model, options: Options) -> Outcome:
    """Own loop: the pass of ``onnx_ir`` also rewrites optional outputs and attributes of live nodes."""
    del options
    changes = 0
    # Inner graphs first: what only a dead inner node read is dead outside.
    for graph in reversed(list(graphs(model))):
        for node in reversed(list(graph)):
            if all(not v.uses() and not v.is_graph_output() for v in node.outputs):
                changes += 1 + _detach_inner(node)
                graph.remove(node, safe=True)
    for graph in graphs(model):
        for name, value in list(graph.initializers.items()):
            if not value.uses() and not value.is_graph_output() and not value.is_graph_input():
                graph.initializers.pop(name)
                changes += 1
    return Outcome(changes)


def _detach_inner(node: ir.Node) -> int:
    """Takes the nodes of a removed node's sub-graphs off the values that they captured."""
    removed = 0
    for graph in inner_graphs(node):
        graph.outputs.clear()
        for child in reversed(list(graph)):
            removed += 1 + _detach_inner(child)
            graph.remove(child, safe=True)
    return removed


REMOVE_DEAD = Pass(
    name="remove-dead",
    does="Removes nodes and initializers that nothing reads.",
    run=_run,
    removes=ANY,
)
