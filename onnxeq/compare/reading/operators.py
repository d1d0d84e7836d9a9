"""Which function reads which operator. One that is not here becomes a layer of its own kind."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from onnxeq.compare.reading import attending, einsum, elementwise, fused, linear, moving, norms, pooling, recurrent
from onnxeq.compare.reading.walker import Walker
from onnxeq.graph.edit import attribute

__all__ = ["OF_RUNTIMES", "OPERATORS"]

_FLOATS = frozenset({1, 10, 11, 16})


def _cast(walk: Walker, node: ir.Node) -> bool:
    """A cast between floating types changes the precision, not the architecture."""
    source = node.inputs[0]
    held = None if source is None or source.dtype is None else int(source.dtype.value)
    to = int(attribute(node, "to", 0))
    return (held == to or (held in _FLOATS and to in _FLOATS)) and elementwise.same(walk, node)


def _inference(walk: Walker, node: ir.Node) -> bool:
    """Dropout, whose mask nobody reads, in inference."""
    if any(v.uses() or v.is_graph_output() for v in node.outputs[1:]) or (
        walk.opset < 7 and not attribute(node, "is_test", 0)
    ):
        return False
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        return False
    return elementwise.same(walk, node)


OPERATORS: dict[str, Callable[[Walker, ir.Node], bool]] = {
    **dict.fromkeys(elementwise.UNARY, elementwise.unary),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum"), elementwise.binary),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), moving.reshape),
    **dict.fromkeys(("MaxPool", "AveragePool"), pooling.pool),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool"), pooling.global_pool),
    **dict.fromkeys(("ReduceMean", "ReduceMax", "ReduceSum", "ReduceMin"), pooling.reduce),
    **dict.fromkeys(("Softmax", "LogSoftmax"), elementwise.softmax),
    **dict.fromkeys(("GRU", "LSTM", "RNN"), recurrent.recurrent),
    "Attention": attending.attention,
    "BatchNormalization": norms.batch_norm,
    "Cast": _cast,
    "Clip": elementwise.clip,
    "Concat": moving.concat,
    "Conv": linear.conv,
    "ConvTranspose": linear.conv_transpose,
    "Dropout": _inference,
    "Gather": moving.gather,
    "Gemm": linear.gemm,
    "Einsum": einsum.einsum,
    "GroupNormalization": norms.group_norm,
    "Identity": elementwise.same,
    "InstanceNormalization": norms.instance_norm,
    "LRN": norms.local_response,
    "LayerNormalization": norms.layer_norm,
    "MatMul": linear.matmul,
    "PRelu": elementwise.prelu,
    "Pad": moving.pad,
    "SequenceAt": moving.sequence_at,
    "Slice": moving.slices,
    "Split": moving.split,
    "Transpose": moving.transpose,
    "Where": elementwise.where,
}
"""Operator of the standard domain -> what makes its layer; false where it cannot."""

OF_RUNTIMES: dict[tuple[str, str], Callable[[Walker, ir.Node], bool]] = {
    ("com.microsoft", "Attention"): attending.fused_attention,
    ("com.microsoft", "BiasGelu"): fused.bias_gelu,
    ("com.microsoft", "FastGelu"): fused.bias_gelu,
    ("com.microsoft", "Gelu"): fused.bias_gelu,
    ("com.microsoft", "MultiHeadAttention"): attending.multi_head_attention,
    ("com.microsoft", "SkipLayerNormalization"): fused.skip_layer_norm,
}
"""The same for operators of a runtime's own domain."""
