"""Normalisations that a framework spells out, read as what they are, with their epsilon.

1. ``BN(x) = x * m + s`` with ``m = scale / sqrt(variance + epsilon)`` and ``s = shift - mean * m``, all of stored
   tensors. As long as those are computed in the graph, the epsilon is there to be read.
2. ``LN(x)`` is the same with the mean and variance of ``x`` itself: ``mean`` the mean over some axes, ``variance`` that
   of ``(x - mean)^2``.
3. ``LN(x) = (x - mean) / sqrt(variance + epsilon) * scale + shift``.

To be asked before constants are folded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import onnx_ir as ir

from onnxeq.compare.reading.names import reader_name
from onnxeq.compare.reading.sketch import View
from onnxeq.compare.reading.walker import Walker, rounded
from onnxeq.compare.values import Weight
from onnxeq.graph.edit import array, attribute, constant, is_standard, static_shape
from onnxeq.graph.frame import graphs

__all__ = ["Spelled", "put_spelled", "spelled_out"]


@dataclass(frozen=True)
class Spelled:
    """A normalisation that is written as arithmetic.

    Attributes:
        kind: ``batch_norm`` or ``layer_norm``.
        source: What is normalised.
        axes: Of the tensor, counted from its end: that of the channels, or those that are averaged over.
        epsilon: What is added to the variance.
        weights: Its stored tensors.
    """

    kind: str
    source: ir.Value
    axes: tuple[int, ...]
    epsilon: float
    weights: tuple[Weight, ...]


_Value: TypeAlias = "ir.Value | None"
_SHAPING = ("Reshape", "Cast", "Squeeze", "Unsqueeze", "Identity", "Expand")


def _through(value: _Value) -> _Value:
    """What a value is before it was only shaped."""
    while value is not None and (node := value.producer()) is not None and is_standard(node, *_SHAPING):
        value = node.inputs[0]
    return value


def _stored(value: _Value) -> _Value:
    """The stored tensor behind a value; ``None`` where it is computed."""
    found = _through(value)
    return found if constant(found) is not None else None


def _operands(value: _Value, *op_types: str) -> list[_Value]:
    """What a value's node reads, if that is one of these operators."""
    found = _through(value)
    node = None if found is None else found.producer()
    return list(node.inputs) if node is not None and is_standard(node, *op_types) else []


def _both_ways(pair: list[_Value]) -> Iterator[tuple[_Value, _Value]]:
    if len(pair) == 2:
        yield pair[0], pair[1]
        yield pair[1], pair[0]


def _number(value: _Value) -> float | None:
    held = array(_stored(value))
    return float(held.reshape(()).item()) if held is not None and held.size == 1 else None


def _alike(a: _Value, b: _Value) -> bool:
    """Whether two values are one, or made by equal Transposes of one: exporters write a Transpose for each reader."""
    first, second = _through(a), _through(b)
    if first is second:
        return first is not None
    makers = [None if v is None else v.producer() for v in (first, second)]
    if makers[0] is None or makers[1] is None or not all(is_standard(m, "Transpose") for m in makers if m is not None):
        return False
    turned = [attribute(m, "perm") for m in makers if m is not None]
    return turned[0] == turned[1] and _alike(makers[0].inputs[0], makers[1].inputs[0])


@dataclass(frozen=True)
class _Root:
    """``sqrt(variance + epsilon)``."""

    variance: _Value
    epsilon: float


def _root(value: _Value) -> _Root | None:
    under = _operands(value, "Sqrt")
    for variance, epsilon in _both_ways(_operands(under[0], "Add")) if under else ():
        number = _number(epsilon)
        if number is not None:
            return _Root(_through(variance), number)
    return None


def _inverse(value: _Value) -> _Root | None:
    """``1 / sqrt(variance + epsilon)``."""
    if inner := _operands(value, "Reciprocal"):
        return _root(inner[0])
    parts = _operands(value, "Div")
    return _root(parts[1]) if parts and _number(parts[0]) == 1 else None


def _factor(value: _Value) -> tuple[_Root, _Value] | None:
    """``m`` -> the root, and the scale if there is one."""
    if (bare := _inverse(value)) is not None:
        return bare, None
    for root, scale in _both_ways(_operands(value, "Mul")):
        found, held = _inverse(root), _stored(scale)
        if found is not None and held is not None:
            return found, held
    return None


def _offset(value: _Value, factor: _Value) -> tuple[_Value, _Value] | None:
    """``s`` -> the mean, and the shift if there is one; ``factor`` is ``m``."""
    for shift, product, negative in _sums(value):
        for mean, other in _both_ways(_operands(product, "Mul")):
            if other is not factor:
                continue
            negated = _operands(mean, "Neg")
            if negative != bool(negated):
                return (negated[0] if negated else mean), shift
    return None


def _sums(value: _Value) -> Iterator[tuple[_Value, _Value, bool]]:
    """Ways to read ``shift - product``: the shift, the product, and whether that is taken away."""
    parts = _operands(value, "Sub")
    if len(parts) == 2 and _stored(parts[0]) is not None:
        yield _stored(parts[0]), parts[1], True
    for product, shift in _both_ways(_operands(value, "Add")):
        if _stored(shift) is not None:
            yield _stored(shift), product, False
    yield None, value, False


def _mean_axes(value: _Value, of: _Value) -> tuple[int, ...] | None:
    """The axes of ``ReduceMean(of)``, counted from the end."""
    found = _through(value)
    node = None if found is None else found.producer()
    if node is None or not is_standard(node, "ReduceMean") or not _alike(node.inputs[0], of):
        return None
    listed = attribute(node, "axes")
    if listed is None and len(node.inputs) > 1 and (held := array(node.inputs[1])) is not None:
        listed = held.reshape(-1).tolist()
    rank = None if of is None or of.shape is None else len(of.shape)
    return None if not listed or rank is None else tuple(sorted(int(a) % rank - rank for a in listed))


def _own_variance(variance: _Value, mean: _Value, of: _Value) -> tuple[int, ...] | None:
    """The axes, if ``mean`` is the mean of ``of`` over them and ``variance`` its variance."""
    axes = _mean_axes(mean, of)
    node = None if variance is None else variance.producer()
    if axes is None or node is None or not is_standard(node, "ReduceMean"):
        return None
    squared = node.inputs[0]
    product, power = _operands(squared, "Mul"), _operands(squared, "Pow")
    if len(product) == 2 and _through(product[0]) is _through(product[1]):
        away = product[0]
    elif len(power) == 2 and _number(power[1]) == 2:
        away = power[0]
    else:
        return None
    parts = _operands(away, "Sub")
    same = len(parts) == 2 and _alike(parts[0], of) and _mean_axes(parts[1], of) == axes
    return axes if same and _mean_axes(variance, squared) == axes else None


def _varies(value: _Value) -> tuple[int, ...] | None:
    """The axes along which a value varies, counted from the end."""
    shape = static_shape(value)
    return None if shape is None else tuple(i - len(shape) for i, n in enumerate(shape) if n != 1)


def _weights(**held: _Value) -> tuple[Weight, ...]:
    return tuple(
        Weight(role, str(v.name), int(tensor.size))
        for role, v in held.items()
        if v is not None and (tensor := constant(v)) is not None
    )


def _as_product(scaled: _Value, offset: _Value) -> Spelled | None:
    """Rules 1 and 2: ``x * m`` and ``s``."""
    for source, factor in _both_ways(_operands(scaled, "Mul")):
        rooted = _factor(factor) if source is not None and _stored(source) is None else None
        moved = None if rooted is None else _offset(offset, factor)
        if rooted is None or moved is None or source is None:
            continue
        (root, scale), (mean, shift) = rooted, moved
        if (held := _stored(root.variance)) is not None:
            axes = _varies(factor)
            if axes is None or len(axes) > 1 or axes != _varies(offset) or _stored(mean) is None:
                return None
            weights = _weights(scale=scale, shift=shift, mean=_stored(mean), variance=held)
            return Spelled("batch_norm", source, axes, root.epsilon, weights)
        own = _own_variance(root.variance, mean, source)
        if own is not None and _fit(own, scale, shift):
            return Spelled("layer_norm", source, own, root.epsilon, _weights(scale=scale, shift=shift))
    return None


def _as_quotient(scaled: _Value, shift: _Value) -> Spelled | None:
    """Rule 3: ``(x - mean) / root * scale`` and the shift."""
    for quotient, scale in _both_ways(_operands(scaled, "Mul")):
        parts = _operands(quotient, "Div")
        away = _operands(parts[0], "Sub") if len(parts) == 2 else []
        root = _root(parts[1]) if len(away) == 2 else None
        if root is None or _stored(scale) is None or _stored(shift) is None or away[0] is None:
            continue
        own = _own_variance(root.variance, away[1], away[0])
        if own is not None and _fit(own, _stored(scale), _stored(shift)):
            weights = _weights(scale=_stored(scale), shift=_stored(shift))
            return Spelled("layer_norm", away[0], own, root.epsilon, weights)
    return None


def _fit(axes: tuple[int, ...], *held: _Value) -> bool:
    """Whether stored tensors vary along the axes that are averaged over and no others."""
    return all(v is None or set(_varies_stored(v)) <= set(axes) for v in held)


def _varies_stored(value: ir.Value) -> tuple[int, ...]:
    tensor = constant(value)
    shape = () if tensor is None else tuple(int(n) for n in tensor.shape)
    return tuple(i - len(shape) for i, n in enumerate(shape) if n != 1)


def spelled_out(model: ir.Model) -> Mapping[ir.Value, Spelled]:
    """Every spelled-out normalisation by the value that it gives."""
    found: dict[ir.Value, Spelled] = {}
    for graph in graphs(model):
        for node in graph:
            if not is_standard(node, "Add"):
                continue
            for scaled, other in _both_ways(list(node.inputs)):
                spelled = _as_product(scaled, other) or _as_quotient(scaled, other)
                if spelled is not None:
                    found[node.outputs[0]] = spelled
                    break
    return found


def put_spelled(walk: Walker, node: ir.Node, spelled: Spelled) -> bool:
    """A layer for a spelled-out normalisation; false where it cannot be told what it runs over."""
    if not walk.has(spelled.source):
        return False
    view = walk.view(spelled.source)
    places = [len(view.axes) + a for a in spelled.axes]
    if any(p < 0 for p in places):
        return False
    over = [view.axes[p] for p in places]
    known = tuple(sorted(a for a in over if a is not None))
    if len(known) != len(over) or (spelled.kind == "batch_norm" and len(known) > 1):
        return False
    weights, shape = list(spelled.weights), view.draft.shape
    if spelled.kind == "batch_norm":
        axis = known[0] if known else 1
        draft = walk.made(
            node, "batch_norm", [view.draft], shape, weights, epsilon=rounded(spelled.epsilon), channels=shape[axis]
        )
        if axis != 1:
            draft.attributes["axis"] = axis
        draft.say("BatchNormalization as a multiplication and an addition")
        if not any(w.role == "scale" for w in weights):
            draft.say("BatchNormalization without a scale of its own")
    else:
        roles = {w.role for w in weights}
        draft = walk.made(
            node, "layer_norm", [view.draft], shape, weights, epsilon=rounded(spelled.epsilon), axes=known,
            scaled="scale" in roles, shifted="shift" in roles,
        )  # fmt: skip
        draft.say("LayerNormalization as arithmetic")
    if weights:
        draft.name = reader_name(weights[0].name, node)
    walk.put(node.outputs[0], View(draft, view.axes))
    return True
