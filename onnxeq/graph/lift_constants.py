"""Constant nodes stored as initializers, so that a constant has one form."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass

from onnxeq.graph.frame import Options, Outcome, Pass, graphs

__all__ = ["LIFT_CONSTANTS"]


def _run(model: ir.Model, options: Options) -> Outcome:
    """The pass of ``onnx_ir`` does it; it leaves a Constant that is a graph output."""
    del options
    before = sum(1 for graph in graphs(model) for _ in graph)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    return Outcome(before - sum(1 for graph in graphs(model) for _ in graph))


LIFT_CONSTANTS = Pass(
    name="lift-constants",
    does="Stores Constant nodes as initializers.",
    run=_run,
    removes=frozenset({"Constant"}),
)
