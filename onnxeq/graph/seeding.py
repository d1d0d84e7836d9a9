"""Random weights for a graph whose own say nothing: the light models of the standard's test-suite are filled with
one constant each, so that no output of theirs depends on its input.

What is filled with one number, be it stored or made by ConstantOfShape, gets random numbers by the role that it has
where it is read:

==================================  ===================================================================
weight of a convolution, a product  normal
scale, variance                     uniform in [0.5, 1.5)
mean, bias, what is added           normal, of standard deviation 0.1
==================================  ===================================================================

Then one run in float64 over a few inputs calibrates them: each weight is divided by the standard deviation of what its
node gives, so that values are of order one at every depth whatever the graph does to them (the data-dependent
initialisation of Mishkin and Matas, arXiv 1511.06422, without its orthogonal start).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from onnxeq.referee.executor import Executor, NodeInfo
from onnxeq.referee.registry import Value
from onnxeq.types import Array, Feed

__all__ = ["calibrated", "seeded"]

_Draw: TypeAlias = Callable[[np.random.Generator, tuple[int, ...]], Array]

_LEAST = 2
"""Elements from which on equal numbers are a filling: a single one may be an exponent or a factor."""

_HANDED_ON = frozenset({"Unsqueeze", "Reshape", "Squeeze", "Identity", "Transpose", "Flatten", "Cast", "Expand"})


def seeded(model: onnx.ModelProto, seed: int) -> tuple[onnx.ModelProto, int]:
    """A copy with random numbers in the place of every float constant that is filled with one number.

    Args:
        model: The model, its data read in; it is not changed.
        seed: Of the numbers; a constant's depend on its name too, not on what else there is.

    Returns:
        The copy, and how many constants were filled.
    """
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    graph = copied.graph
    stored = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    made = {n.output[0]: n for n in graph.node if n.op_type == "ConstantOfShape" and n.input[0] in stored}
    shapes = {name: tuple(int(d) for d in stored[node.input[0]]) for name, node in made.items() if _is_float(node)}
    shapes |= {name: value.shape for name, value in stored.items() if _filled(value)}
    draws = {name: draw for name, shape in shapes.items() if (draw := _role(graph, name)) is not None}
    for name, draw in draws.items():
        random = np.random.default_rng([seed, *name.encode()])
        tensor = numpy_helper.from_array(draw(random, shapes[name]).astype(np.float32), name)
        if name in made:
            graph.node.remove(made[name])
        else:
            graph.initializer.remove(next(i for i in graph.initializer if i.name == name))
        graph.initializer.append(tensor)
    if draws:
        _as_inputs(graph, {n: shapes[n] for n in draws if n in made}, listed=_lists_initializers(model.graph))
    return copied, len(draws)


def calibrated(model: onnx.ModelProto, feed: Feed) -> onnx.ModelProto:
    """A copy in which every weight with one reader, a convolution or a product, makes values of about unit variance.

    Args:
        model: A model whose weights are stored.
        feed: Inputs, a few of them.

    Raises:
        onnxeq.errors.OnnxeqError: It cannot be run in float64.
    """
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    readers = Counter(name for node in copied.graph.node for name in node.input)
    weights = {i.name: i for i in copied.graph.initializer if readers[i.name] == 1}
    found = _Spread({n.output[0]: n.input[1] for n in copied.graph.node if _weighted(n) and n.input[1] in weights})
    Executor(copied).run(feed, hook=found)
    for output, name in found.weights.items():
        if (spread := found.spread.get(output, 0.0)) > 0:
            value = numpy_helper.to_array(weights[name])
            weights[name].CopyFrom(numpy_helper.from_array((value / spread).astype(value.dtype), name))
    return copied


_WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def _weighted(node: onnx.NodeProto) -> bool:
    return node.op_type in _WEIGHTED


class _Spread:
    """Divides what weighted nodes give by its standard deviation, and keeps that.

    Attributes:
        weights: The output of each weighted node -> its weight.
        spread: The same output -> the standard deviation.
    """

    def __init__(self, weights: Mapping[str, str]) -> None:
        self.weights = weights
        self.spread: dict[str, float] = {}

    def constant(self, _name: str, value: NDArray[np.float64], _dtype: str) -> NDArray[np.float64]:
        return value

    def node(self, info: NodeInfo, _inputs: Sequence[Value], outputs: list[Value]) -> list[Value]:
        name = info.node.output[0]
        if name not in self.weights or not isinstance(outputs[0], np.ndarray):
            return outputs
        spread = float(np.std(outputs[0]))
        self.spread[name] = spread
        return [outputs[0] / spread, *outputs[1:]] if spread > 0 else outputs


def _is_float(node: onnx.NodeProto) -> bool:
    value = next((a.t for a in node.attribute if a.name == "value"), None)
    return value is None or value.data_type == onnx.TensorProto.FLOAT


def _filled(value: Array) -> bool:
    return value.dtype == np.float32 and value.size >= _LEAST and bool((value == value.flat[0]).all())


def _role(graph: onnx.GraphProto, name: str) -> _Draw | None:
    """How to draw a constant, by the first node that computes with it; ``None`` where no role is known."""
    names = {name}
    for node in graph.node:
        at = next((i for i, n in enumerate(node.input) if n in names), None)
        if at is None:
            continue
        if node.op_type in _HANDED_ON and at == 0:
            names.add(node.output[0])
            continue
        return _by_operator(node, at)
    return None


def _by_operator(node: onnx.NodeProto, at: int) -> _Draw | None:
    if _weighted(node):
        return _small if at == 2 else _normal
    if node.op_type in ("BatchNormalization", "InstanceNormalization", "LayerNormalization"):
        return _around_one if at in (1, 4) else _small
    return {"Mul": _around_one, "Div": _around_one, "Add": _small, "Sub": _small, "Sum": _small, "PRelu": _small}.get(
        node.op_type
    )


def _normal(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return random.standard_normal(shape)


def _around_one(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return random.uniform(0.5, 1.5, shape)


def _small(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return 0.1 * random.standard_normal(shape)


def _lists_initializers(graph: onnx.GraphProto) -> bool:
    """Whether the file calls its constants inputs as well, as files of IR version 3 must."""
    inputs = {i.name for i in graph.input}
    return any(i.name in inputs for i in graph.initializer)


def _as_inputs(graph: onnx.GraphProto, shapes: Mapping[str, tuple[int, ...]], *, listed: bool) -> None:
    """Lists what was made by a node, and is stored now, among the inputs where the file lists its constants there."""
    for name, shape in shapes.items() if listed else ():
        graph.input.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
