"""A quantised file seen through float32: what it takes is quantised first, what it gives is dequantised.

A float model and its 8-bit file have different interfaces, and each is fed by whoever deploys it in its own way:
``q = clip(round(x / scale) + zero_point)`` in front, ``(q - zero_point) * scale`` behind, with the scale and the zero
point that the file stores for the tensor. Held against a float model, the file is seen through both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from onnxeq.types import Array, TensorSpec, ValueRange

__all__ = ["Scale", "scale_of", "widen_interface"]


@dataclass(frozen=True)
class Scale:
    """How a tensor is quantised: ``x = (q - zero_point) * scale``.

    Attributes:
        scale: Of one step, in the tensor's own unit.
        zero_point: The integer that stands for 0.
        dtype: Of the integers.
    """

    scale: float
    zero_point: int
    dtype: DTypeLike

    def quantized(self, value: Array) -> Array:
        """The nearest step, ties to even, at the ends of the type where it has no further; as ONNX QuantizeLinear."""
        limits = np.iinfo(np.dtype(self.dtype))
        steps = np.rint(value.astype(np.float32) / np.float32(self.scale)) + self.zero_point
        quantized: Array = np.clip(steps, limits.min, limits.max).astype(self.dtype)
        return quantized

    def dequantized(self, value: Array) -> Array:
        """In float32, as ONNX DequantizeLinear."""
        return (value.astype(np.float32) - np.float32(self.zero_point)) * np.float32(self.scale)

    def spec(self, spec: TensorSpec) -> TensorSpec:
        """The tensor in float32, with the values that it can tell apart."""
        limits = np.iinfo(np.dtype(self.dtype))
        low, high = ((int(n) - self.zero_point) * self.scale for n in (limits.min, limits.max))
        return TensorSpec(spec.name, "float32", spec.shape, ValueRange(low, high))


def scale_of(detail: Mapping[str, Any]) -> Scale | None:
    """How the interpreter's tensor is quantised; ``None`` where it is no integer, or integers mean themselves."""
    scale, zero_point = detail["quantization"]
    dtype = np.dtype(detail["dtype"])
    return Scale(float(scale), int(zero_point), dtype) if dtype.kind in "iu" and scale else None


def widen_interface(proto: Any, inputs: Mapping[str, Scale], outputs: Mapping[str, Scale]) -> None:
    """Puts QuantizeLinear behind inputs and DequantizeLinear before outputs of an ``onnx.ModelProto``, in place.

    Args:
        proto: The model.
        inputs: Input name -> how it is quantised.
        outputs: The same of outputs.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph = proto.graph
    first, last = [], []
    for name, scale in {**inputs, **outputs}.items():
        graph.initializer.append(numpy_helper.from_array(np.asarray(scale.scale, np.float32), f"{name}/scale"))
        zero_point = np.asarray(scale.zero_point, scale.dtype)
        graph.initializer.append(numpy_helper.from_array(zero_point, f"{name}/zero_point"))
        parameters = [f"{name}/scale", f"{name}/zero_point"]
        if name in inputs:
            first.append(
                helper.make_node("QuantizeLinear", [name, *parameters], [f"{name}/quantized"], f"{name}/quantize")
            )
        else:
            last.append(
                helper.make_node("DequantizeLinear", [f"{name}/quantized", *parameters], [name], f"{name}/dequantize")
            )
    for node in graph.node:
        node.input[:] = [f"{n}/quantized" if n in inputs or n in outputs else n for n in node.input]
        node.output[:] = [f"{n}/quantized" if n in outputs else n for n in node.output]
    nodes = [*first, *graph.node, *last]
    del graph.node[:]
    graph.node.extend(nodes)
    for value in (*graph.input, *graph.output):
        if value.name in inputs or value.name in outputs:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
