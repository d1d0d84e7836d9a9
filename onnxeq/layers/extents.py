"""Types and sizes of a graph's values before anything runs, by ONNX's own shape inference."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx

from onnxeq.graph.tensors import light
from onnxeq.layers.probes import Extent
from onnxeq.referee.elements import element_name
from onnxeq.types import Feed

__all__ = ["extents_of"]

_UNKNOWN = 8 << 20
"""Bytes that a value of unknown size is taken to have."""


def extents_of(model: onnx.ModelProto, feeds: Sequence[Feed]) -> dict[str, Extent]:
    """Every value of the main graph, with its size on the largest of the feeds; never less than nothing known."""
    copy = light(model)
    del copy.graph.value_info[:]
    for value in copy.graph.input:
        given = [np.asarray(feed[value.name]) for feed in feeds if value.name in feed]
        if given:
            _fix(value, max(given, key=lambda a: a.size).shape)
    for value in copy.graph.output:
        value.type.tensor_type.ClearField("shape")  # an export's example sizes need not be these
    try:
        inferred = onnx.shape_inference.infer_shapes(copy, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        inferred = copy.graph
    known = {v.name: _extent(v) for v in (*inferred.value_info, *inferred.output)}
    names = (name for node in model.graph.node for name in node.output if name)
    return {name: known.get(name, Extent("", _UNKNOWN)) for name in names}


def _fix(value: onnx.ValueInfoProto, shape: tuple[int, ...]) -> None:
    dims = value.type.tensor_type.shape
    del dims.dim[:]
    for size in shape:
        dims.dim.add().dim_value = size


def _extent(value: onnx.ValueInfoProto) -> Extent:
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not tensor.elem_type:
        return Extent("", _UNKNOWN)
    dtype = element_name(tensor.elem_type)
    if not tensor.HasField("shape") or not all(d.HasField("dim_value") for d in tensor.shape.dim):
        return Extent(dtype, _UNKNOWN)
    size_of = {
        "float64": 8,
        "int64": 8,
        "uint64": 8,
        "float32": 4,
        "int32": 4,
        "uint32": 4,
        "float16": 2,
        "bfloat16": 2,
    }
    shape = tuple(int(d.dim_value) for d in tensor.shape.dim)
    return Extent(dtype, math.prod(shape) * size_of.get(dtype, 1), shape)
