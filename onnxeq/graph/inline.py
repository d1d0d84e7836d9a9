"""Model-local functions inlined, so that every later pass sees plain operators."""

from __future__ import annotations

import onnx.inliner
import onnx_ir as ir

from onnxeq.errors import CannotRun
from onnxeq.graph.frame import ANY, Options, Outcome, Pass

__all__ = ["INLINE"]


def _run(model: ir.Model, options: Options) -> Outcome:
    """``onnx.inliner`` converts a function written for another opset; ``onnx_ir`` refuses it."""
    del options
    if not model.functions:
        return Outcome(0)
    count = len(model.functions)
    try:
        inlined = onnx.inliner.inline_local_functions(ir.serde.serialize_model(model), convert_version=True)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise CannotRun(f"the model's functions cannot be inlined: {reason}") from error
    return Outcome(count, f"{count} functions", ir.serde.deserialize_model(inlined))


INLINE = Pass(
    name="inline-functions",
    does="Replaces calls of model-local functions by their bodies.",
    run=_run,
    adds=ANY,
    removes=ANY,
    changes_opsets=True,
)
