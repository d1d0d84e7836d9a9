"""ONNX files by tf2onnx: the one that users get, and the same without its optimizers.

A TensorFlow Lite operator may add a bias and apply an activation to its own result. tf2onnx makes nodes of these and
leaves the tensor's name on what comes *before* them. In the unfolded export the value that the tensor really is gets a
name of its own, ``NAME/fused``, so that it can be told from the other.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnxeq.errors import ExportFailed
from onnxeq.types import ExportForm
from onnxeq_converters.from_tensorflow.exporting import refuse_unconverted, without_folding
from onnxeq_converters.from_tensorflow.framework import first_line, quiet_stdout, require
from onnxeq_converters.from_tflite.reading import Contents, Operator

__all__ = ["converted", "has_open_batch", "value_name"]


def converted(path: Path, contents: Contents, form: ExportForm, opset: int | None) -> Any:
    """The ``onnx.ModelProto`` that tf2onnx makes of a file.

    Raises:
        onnxeq.errors.ExportFailed: tf2onnx raised, or left an operator unconverted.
    """
    from_tflite = require("tf2onnx.convert").from_tflite
    scope = without_folding if form is ExportForm.UNFOLDED else contextlib.nullcontext
    try:
        with quiet_stdout(), scope():
            proto = from_tflite(str(path), opset=opset)[0]
    except ExportFailed:
        raise
    except Exception as error:  # tf2onnx raises anything
        raise ExportFailed(f"tf2onnx failed: {type(error).__name__}: {first_line(error)}") from error
    refuse_unconverted(proto)
    if form is ExportForm.UNFOLDED:
        _name_fused(proto.graph, contents)
    return proto


def has_open_batch(proto: Any) -> bool:
    """Whether the first axis of every input may vary."""
    shapes = [v.type.tensor_type.shape.dim for v in proto.graph.input]
    return all(len(dims) and not dims[0].HasField("dim_value") for dims in shapes)


def value_name(contents: Contents, op: Operator, index: int) -> str:
    """What the unfolded export calls a tensor that ``op`` makes."""
    name = contents.names[index]
    # A quantised tensor's name is on the node that quantises, behind everything else.
    return f"{name}/fused" if op.fused and index not in contents.quantized else name


def _name_fused(graph: Any, contents: Contents) -> None:
    """Gives the values behind fused operators their names; outputs have theirs already."""
    readers: dict[str, list[Any]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    outputs = {o.name for o in graph.output}
    renamed: dict[str, str] = {}
    for op in contents.operators:
        if not op.fused or len(op.outputs) != 1:
            continue
        last = _behind(contents.names[op.outputs[0]], op.fused, readers)
        if last and last not in outputs:
            renamed[last] = value_name(contents, op, op.outputs[0])
    for node in graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                names[place] = renamed.get(name, name)
    for info in graph.value_info:
        info.name = renamed.get(info.name, info.name)


def _behind(name: str, kinds: tuple[str, ...], readers: Mapping[str, list[Any]]) -> str:
    """The value behind a row of operators, each the only reader of the one before; empty where there is no such row."""
    for kind in kinds:
        while True:
            behind = readers.get(name, [])
            if len(behind) != 1 or behind[0].op_type not in (kind, "Transpose"):
                return ""
            name = str(behind[0].output[0])
            if behind[0].op_type == kind:
                break
    return name
