"""Conversion to another version of the standard operator set.

``onnx.version_converter`` knows the adapters. It is written in C++ against serialised models, so tensors
of more than ``tensors.KEEP_ELEMENTS`` are set aside meanwhile (they stand in as inputs): what it needs to
read, such as axes, is small.
"""

from __future__ import annotations

import onnx
import onnx.version_converter
import onnx_ir as ir

from onnxeq.errors import CannotRun
from onnxeq.graph.edit import normal_opset
from onnxeq.graph.frame import ANY, Options, Outcome, Pass
from onnxeq.graph.tensors import light

__all__ = ["CONVERT_OPSET"]


def _run(model: ir.Model, options: Options) -> Outcome:
    wanted, present = options.opset, normal_opset(model)
    if wanted is None or wanted == present:
        return Outcome(0)
    newest = onnx.defs.onnx_opset_version()
    if not 7 <= wanted <= newest:
        raise CannotRun(f"cannot convert to opset {wanted}: allowed 7 to {newest}")
    whole = ir.serde.serialize_model(model)
    proto = light(whole)
    try:
        converted = onnx.version_converter.convert_version(proto, wanted)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise CannotRun(
            f"cannot convert from opset {present} to {wanted}: {reason}",
            hint="Choose another --opset, or export the model again with it.",
        ) from error
    inputs = list(whole.graph.input)
    converted.graph.ClearField("input")
    converted.graph.input.extend(inputs)
    converted.graph.ClearField("output")
    converted.graph.output.extend(whole.graph.output)
    kept = {tensor.name for tensor in proto.graph.initializer}
    converted.graph.initializer.extend(t for t in whole.graph.initializer if t.name not in kept)
    converted.ClearField("metadata_props")
    converted.metadata_props.extend(whole.metadata_props)
    converted.ir_version = max(
        whole.ir_version, onnx.helper.find_min_ir_version_for(list(converted.opset_import), True)
    )
    try:
        onnx.checker.check_model(light(converted))
    except onnx.checker.ValidationError as error:
        reason = str(error).strip().splitlines()[0]
        raise CannotRun(
            f"cannot convert from opset {present} to {wanted}: the result is no valid model ({reason})",
            hint="Choose another --opset, or export the model again with it.",
        ) from error
    return Outcome(1, f"opset {present} to {wanted}", ir.serde.deserialize_model(converted))


CONVERT_OPSET = Pass(
    name="convert-opset",
    does="Converts the model to the asked-for version of the standard operator set.",
    run=_run,
    adds=ANY,
    removes=ANY,
    changes_opsets=True,
)
