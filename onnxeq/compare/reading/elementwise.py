"""Operators whose result at a place depends on the operands there: they do not care how a tensor lies.

1. One operand that is computed and one that is a constant: ``scale`` (times) or ``shift`` (plus), by the constant's
   value where it is one number, else by the axes along which it varies.
2. Two that are computed: ``add``, ``mul``, ...; one of them may be broadcast. If they lie differently, one is moved.
3. ``Clip``, ``Max`` and ``Min`` with numbers are ``clip``; between 0 and 6 ``relu6``, from 0 on ``relu``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from onnxeq.compare.reading.masks import LOWEST, pattern
from onnxeq.compare.reading.sketch import View, plain
from onnxeq.compare.reading.walker import Walker, rounded
from onnxeq.compare.values import Attribute
from onnxeq.graph.edit import array, attribute, is_standard
from onnxeq.types import Array

__all__ = ["UNARY", "binary", "clip", "prelu", "same", "softmax", "unary", "where"]

UNARY = {
    "Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "LeakyRelu": "leaky_relu", "Elu": "elu", "Selu": "selu",
    "Celu": "celu", "Softplus": "softplus", "Softsign": "softsign", "HardSigmoid": "hard_sigmoid",
    "HardSwish": "hard_swish", "Gelu": "gelu", "Mish": "mish", "Swish": "silu", "Erf": "erf", "Exp": "exp",
    "Log": "log", "Sqrt": "sqrt", "Abs": "abs", "Neg": "neg", "Reciprocal": "reciprocal", "Floor": "floor",
    "ThresholdedRelu": "thresholded_relu", "Sign": "sign", "Round": "round", "Ceil": "ceil", "Not": "not",
}  # fmt: skip
"""Operator of one operand -> the layer's kind."""

_DEFAULTS: dict[str, dict[str, float]] = {
    "LeakyRelu": {"alpha": 0.01},
    "Elu": {"alpha": 1.0},
    "Selu": {"alpha": 1.67326, "gamma": 1.0507},
    "Celu": {"alpha": 1.0},
    "HardSigmoid": {"alpha": 0.2, "beta": 0.5},
    "ThresholdedRelu": {"alpha": 1.0},
    "Swish": {"alpha": 1.0},
}
_BINARY = {"Add": "add", "Sum": "add", "Mul": "mul", "Sub": "sub", "Div": "div", "Max": "max", "Min": "min"}


def unary(walk: Walker, node: ir.Node) -> bool:
    """An operator of one operand, with its parameters."""
    source = node.inputs[0]
    if source is None or not walk.has(source) or len(node.inputs) != 1:
        return False
    attributes: dict[str, Attribute] = {
        name: rounded(float(attribute(node, name, value))) for name, value in _DEFAULTS.get(node.op_type, {}).items()
    }
    if node.op_type == "Gelu":
        attributes["approximate"] = str(attribute(node, "approximate", "none"))
    if node.op_type == "Swish" and attributes.pop("alpha") != 1.0:
        return False
    view = walk.view(source)
    draft = walk.made(node, UNARY[node.op_type], [view.draft], view.draft.shape, (), **attributes)
    walk.put(node.outputs[0], View(draft, view.axes))
    return True


def same(walk: Walker, node: ir.Node) -> bool:
    """Identity, and Dropout and Cast between floats, which compute nothing: no layer."""
    source = node.inputs[0]
    if source is None or not walk.has(source):
        return False
    walk.put(node.outputs[0], walk.view(source))
    return True


def clip(walk: Walker, node: ir.Node) -> bool:
    """Clip with constant bounds."""
    source = node.inputs[0]
    if source is None or not walk.has(source):
        return False
    bounds = [attribute(node, "min"), attribute(node, "max")]
    for index, value in enumerate(node.inputs[1:3]):
        if value is not None:
            held = array(value)
            if held is None or held.size != 1:
                return False
            bounds[index] = float(held.reshape(()).item())
    low, high = (-math.inf if bounds[0] is None else bounds[0]), (math.inf if bounds[1] is None else bounds[1])
    return _put_clip(walk, node, walk.view(source), float(low), float(high))


_LARGE = 3e38
"""A bound beyond float32's numbers is none: exporters write the largest number for it."""


def _put_clip(walk: Walker, node: ir.Node, view: View, low: float, high: float) -> bool:
    kind, attributes = bounded(low, high)
    draft = walk.made(node, kind, [view.draft], view.draft.shape, (), **attributes)
    if kind == "relu6":
        draft.say("Clip from 0 to 6 for ReLU6")
    walk.put(node.outputs[0], View(draft, view.axes))
    return True


def bounded(low: float, high: float) -> tuple[str, dict[str, Attribute]]:
    """The layer that keeps values between two bounds."""
    if low == 0 and high >= _LARGE:
        return "relu", {}
    if low == 0 and high == 6:
        return "relu6", {}
    return "clip", {
        "min": rounded(low) if low > -_LARGE else -math.inf,
        "max": rounded(high) if high < _LARGE else math.inf,
    }


def prelu(walk: Walker, node: ir.Node) -> bool:
    """PRelu with a constant slope."""
    source, slope = node.inputs[0], node.inputs[1]
    if source is None or slope is None or not walk.has(source) or walk.has(slope) or (held := array(slope)) is None:
        return False
    view = walk.view(source)
    axes = _varying(view, held)
    if axes is None:
        return False
    draft = walk.made(
        node, "prelu", [view.draft], view.draft.shape, [walk.weight("weight", slope, _lying(view, held))], along=axes
    )
    walk.put(node.outputs[0], View(draft, view.axes))
    return True


def softmax(walk: Walker, node: ir.Node) -> bool:
    """Softmax and LogSoftmax along one axis; before opset 13 over all axes from it on, where the others are 1."""
    source = node.inputs[0]
    if source is None or not walk.has(source):
        return False
    view = walk.view(source)
    axis = int(attribute(node, "axis", -1 if walk.opset >= 13 else 1)) % max(len(view.axes), 1)
    if walk.opset < 13 and math.prod(view.shape[axis:]) != view.shape[axis]:
        if axis != len(view.axes) - 1 and view.shape[axis] != 1:
            return False
        axis = next((i for i in range(axis, len(view.axes)) if view.shape[i] != 1), axis)
        if math.prod(view.shape[int(attribute(node, "axis", 1)) :]) != view.shape[axis]:
            return False
    along = view.axes[axis]
    if along is None:
        return False
    kind = "softmax" if node.op_type == "Softmax" else "log_softmax"
    draft = walk.made(node, kind, [view.draft], view.draft.shape, axis=along)
    walk.put(node.outputs[0], View(draft, view.axes))
    return True


def binary(walk: Walker, node: ir.Node) -> bool:
    """Add, Sub, Mul, Div, Max, Min, Sum by rules 1 to 3."""
    values = [v for v in node.inputs if v is not None]
    computed = [v for v in values if walk.has(v)]
    if walk.opset < 7 and attribute(node, "axis") is not None:  # broadcasting that is told by an attribute
        return False
    if len(values) == 2 and len(computed) == 1:
        constant_first = computed[0] is values[1]
        held = array(values[0] if constant_first else values[1])
        return held is not None and _with_constant(walk, node, computed[0], values[not constant_first], held)
    if len(computed) == len(values) and len(values) >= 2:
        return _together(walk, node, values)
    return False


def _with_constant(walk: Walker, node: ir.Node, source: ir.Value, other: ir.Value, held: Array) -> bool:
    view, first = walk.view(source), node.inputs[0] is other
    if held.dtype.kind != "f" or (held.ndim > len(view.axes) and held.size > 1):
        return False
    if node.op_type in ("Max", "Min") and held.size == 1:
        number = float(held.reshape(()).item())
        bounds = (number, math.inf) if node.op_type == "Max" else (-math.inf, number)
        return _put_clip(walk, node, view, *bounds)
    rule = _CONSTANT.get((node.op_type, first))
    if rule is None or (axes := _varying(view, held)) is None:
        return False
    kind, change = rule
    if held.size == 1:
        number = change(float(held.reshape(()).item()))
        if not math.isfinite(number):
            return False
        draft = walk.made(node, kind, [view.draft], view.draft.shape, by=rounded(number))
        draft.number = number
    else:
        seen = pattern(held) if kind == "shift" and node.op_type == "Add" and _on_scores(view) else ""
        weights = [] if seen else [walk.weight("constant", other, _lying(view, held))]
        draft = walk.made(node, kind, [view.draft], view.draft.shape, weights, along=axes)
        if seen:
            draft.attributes["mask"] = seen
    walk.put(node.outputs[0], View(draft, view.axes))
    return True


def _on_scores(view: View) -> bool:
    """Whether a tensor's axes lie as its layer's do, and its last two are the layer's last two: queries and keys."""
    rank = len(view.draft.shape)
    return view.ordered and rank > 1 and view.axes[-2:] == (rank - 2, rank - 1)


def where(walk: Walker, node: ir.Node) -> bool:
    """Where, as a mask: what is not to be seen becomes a number as good as minus infinity; or as 0 for what is NaN."""
    chosen, yes, no = node.inputs[:3]
    held = array(chosen)
    asked = None if chosen is None else chosen.producer()
    if asked is not None and is_standard(asked, "IsNaN") and asked.inputs[0] is no and no is not None and walk.has(no):
        number, view = array(yes), walk.view(no)
        if walk.has(yes) or number is None or number.size != 1 or number.any():
            return False
        walk.put(node.outputs[0], View(walk.made(node, "zero_for_nan", [view.draft], view.draft.shape), view.axes))
        return True
    if walk.has(chosen) or held is None or held.dtype.kind != "b" or yes is None or no is None:
        return False
    source, other = (yes, no) if walk.has(yes) else (no, yes)
    number = array(other)
    if not walk.has(source) or walk.has(other) or number is None or number.size != 1 or number.dtype.kind != "f":
        return False
    view = walk.as_lies(source)
    seen = pattern(held if source is yes else ~held)
    value = float(number.reshape(()).item())
    if not seen or value > LOWEST or view.shape != walk.shape(node.outputs[0]) or view.shape != view.draft.shape:
        return False
    walk.put(node.outputs[0], plain(walk.made(node, "masked", [view.draft], view.draft.shape, (), mask=seen)))
    return True


def _inverse(number: float) -> float:
    return 1 / number if number else math.inf


_CONSTANT: dict[tuple[str, bool], tuple[str, Callable[[float], float]]] = {
    ("Mul", False): ("scale", lambda n: n),
    ("Mul", True): ("scale", lambda n: n),
    ("Div", False): ("scale", _inverse),
    ("Add", False): ("shift", lambda n: n),
    ("Add", True): ("shift", lambda n: n),
    ("Sum", False): ("shift", lambda n: n),
    ("Sum", True): ("shift", lambda n: n),
    ("Sub", False): ("shift", lambda n: -n),
    ("Sub", True): ("rsub", lambda n: n),
    ("Div", True): ("rdiv", lambda n: n),
}
"""Operator, and whether the constant is the first operand -> the layer, and its number from the constant."""


def _varying(view: View, held: Array) -> tuple[int, ...] | None:
    """The axes of the layer's result along which a constant varies; ``None`` where it broadcasts the result."""
    if held.size == 1:
        return ()
    full = (1,) * (len(view.axes) - held.ndim) + held.shape
    axes = []
    for size, own, axis in zip(full, view.shape, view.axes, strict=True):
        if size == 1:
            continue
        if axis is None or size != own:
            return None
        axes.append(axis)
    return tuple(sorted(axes))


def _lying(view: View, held: Array) -> tuple[int, ...]:
    """Which axis of the layer's result each axis of a constant is; -1 for one of size 1."""
    if held.size == 1:
        return ()
    behind = view.axes[len(view.axes) - held.ndim :]
    return tuple(-1 if axis is None or size == 1 else axis for size, axis in zip(held.shape, behind, strict=True))


def _together(walk: Walker, node: ir.Node, values: list[ir.Value]) -> bool:
    """Rule 2: the operand with the most elements tells how the result lies."""
    views = [walk.view(v) for v in values]
    if any(n < 0 for view in views for n in view.shape):
        return False
    main = max(views, key=lambda v: (int(np.prod(v.shape, dtype=np.int64)), v.ordered))
    result = walk.shape(node.outputs[0])
    if node.outputs[0].shape is None and all(n >= 0 for v in views for n in v.shape):
        result = np.broadcast_shapes(*(v.shape for v in views))
    if math.prod(result) != math.prod(main.shape) or any(n < 0 for n in result):
        return False
    shapes = ""
    drafts = [view.draft for view in views]
    if not all(_lies_like(view, main) for view in views):  # then what is paired with what is told by the shapes
        drafts, shapes = [walk.moved(view) for view in views], str([list(view.shape) for view in views])
        main = main if main.ordered else plain(walk.moved(main))
    draft = walk.made(node, _BINARY[node.op_type], drafts, main.draft.shape)
    draft.operands = tuple(view.shape for view in views)
    if shapes:
        draft.attributes["operands"] = shapes
    walk.put(node.outputs[0], View(draft, (*[None] * (len(result) - len(main.axes)), *main.axes)))
    return True


def _lies_like(view: View, main: View) -> bool:
    """Whether each axis of one tensor is the other's axis there: in their layers, too."""
    aligned = [*[None] * (len(main.axes) - len(view.axes)), *view.axes]
    if len(aligned) != len(main.axes):
        return False
    for own, theirs in zip(aligned, main.axes, strict=True):
        if own is None or view.draft.shape[own] == 1:
            continue
        if own != theirs:
            return False
    return True
