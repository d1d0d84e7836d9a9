"""Arithmetic, activations, comparisons, integer and boolean expressions."""

from __future__ import annotations

from typing import Any

import numpy as np

from .builder import Builder, Value

__all__ = ["activation", "binary", "comparison", "integral", "rounding", "ternary", "unary", "variadic"]

_UNARY = {
    "Abs": 6, "Neg": 6, "Exp": 6, "Sin": 7, "Cos": 7, "Tanh": 6, "Sigmoid": 6, "Erf": 9, "Sinh": 9, "Cosh": 9,
    "Asinh": 9, "Atan": 7, "Relu": 6, "Softplus": 1, "Softsign": 1, "Identity": 1, "Sign": 9,
}  # fmt: skip
_GUARDED = {
    "Sqrt": 6, "Log": 6, "Reciprocal": 6, "Asin": 7, "Acos": 7, "Atanh": 9, "Acosh": 9, "Tan": 7,
}  # fmt: skip
"""Operators with a domain; the argument is brought into it first, away from where the slope is infinite."""


def unary(b: Builder) -> Any:
    """One of the functions of one value."""
    op = b.choice(sorted(o for o, since in (_UNARY | _GUARDED).items() if since <= b.opset))
    x = b.pick()
    if op not in _GUARDED:
        return b.node(op, [x])
    bounded = op in ("Asin", "Acos", "Atanh", "Tan")
    inner = b.node("Tanh" if bounded else "Abs", [x])
    moved = inner and b.node("Mul" if bounded else "Add", [inner[0], b.constant(np.float32(0.9 if bounded else 1.5))])
    return moved and b.node(op, [moved[0]])


def partner(b: Builder, x: Value) -> Value:
    """A second operand that broadcasts with ``x``: another value of the graph, or a new one."""
    others = [v for v in b.values if v.array.dtype == x.array.dtype and v.name != x.name and _broadcasts(v, x)]
    if others and b.flag():
        return b.choice(others[::-1][:6])
    keep = b.rng().random(x.rank) < 0.7
    shape = tuple(d if k else 1 for d, k in zip(x.shape, keep, strict=True))
    shape = shape[b.integer(0, x.rank) :]
    if x.array.dtype.kind == "f":
        return b.supply(b.floats(shape))
    high = 2 if x.array.dtype.kind == "b" else 6
    return b.supply(b.rng().integers(0, high, shape).astype(x.array.dtype))


def _broadcasts(a: Value, x: Value) -> bool:
    try:
        return int(np.prod(np.broadcast_shapes(a.shape, x.shape))) <= 2000
    except ValueError:
        return False


def binary(b: Builder) -> Any:
    """Arithmetic of two values with broadcasting; divisors and powers are kept away from 0."""
    op = b.choice(("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "PRelu", "Mod"))
    x = b.pick()
    if op == "Mod" and b.opset >= 10:
        return b.node(op, [x, b.constant(np.float32(b.choice((1.5, 2.0, 0.7))))], fmod=1)
    if op in ("Max", "Min") and b.opset < 8:
        op = "Add"
    if op == "Div":
        inner = b.node("Abs", [partner(b, x)])
        inner = inner and b.node("Add", [inner[0], b.constant(np.float32(0.5))])
        return inner and b.node("Div", [x, inner[0]])
    if op == "Pow":
        if b.flag():
            return b.node("Pow", [x, b.constant(np.float32(b.choice((2.0, 3.0, 1.0, 0.0))))])
        inner = b.node("Abs", [x])
        inner = inner and b.node("Add", [inner[0], b.constant(np.float32(0.25))])
        return inner and b.node("Pow", [inner[0], b.constant(np.float32(b.choice((0.5, -1.0, 1.7, -0.3))))])
    if op in ("PRelu", "Mod"):
        slope = tuple(d if k else 1 for d, k in zip(x.shape, b.rng().random(x.rank) < 0.5, strict=True))
        return b.node("PRelu", [x, b.supply(b.healthy(slope, 0.3))])
    return b.node(op, [x, partner(b, x)] if b.flag() else [partner(b, x), x])


def variadic(b: Builder) -> Any:
    """``Sum``, ``Mean``, ``Max``, ``Min`` of one to four values."""
    x = b.pick()
    op = b.choice(("Sum", "Mean", "Max", "Min"))
    wide = b.opset >= 8
    others = [partner(b, x) if wide else b.constant(b.floats(x.shape)) for _ in range(b.integer(0, 3))]
    return b.node(op, [x, *others])


def activation(b: Builder) -> Any:
    """An activation with its attributes, given or left at the default."""
    x = b.pick()
    table: dict[str, tuple[int, dict[str, Any]]] = {
        "LeakyRelu": (6, {"alpha": b.choice((None, 0.2, 1.5))}),
        "Elu": (6, {"alpha": b.choice((None, 0.5, 2.0))}),
        "Selu": (6, {"alpha": b.choice((None, 1.1)), "gamma": b.choice((None, 0.7))}),
        "HardSigmoid": (6, {"alpha": b.choice((None, 0.5)), "beta": b.choice((None, 0.1))}),
        "ThresholdedRelu": (10, {"alpha": b.choice((None, 0.0, 0.3))}),
        "Celu": (12, {"alpha": b.choice((None, 0.5, 2.0))}),
        "HardSwish": (14, {}),
        "Mish": (18, {}),
        "Gelu": (20, {"approximate": b.choice((None, "tanh", "none"))}),
        "Swish": (24, {"alpha": b.choice((None, 1.702))}),
        "Clip": (6, {}),
        "Shrink": (9, {"lambd": b.choice((None, 0.1)), "bias": b.choice((None, 0.05))}),
    }
    op = b.choice(sorted(o for o, (since, _) in table.items() if since <= b.opset))
    if op == "Clip":
        low, high = b.choice(((None, None), (-0.5, 0.5), (0.0, 6.0), (None, 1.0), (-1.0, None)))
        if b.opset < 11:
            return b.node(op, [x], min=low, max=high)
        bounds = [None if v is None else b.constant(np.float32(v)) for v in (low, high)]
        return b.node(op, [x, *bounds])
    return b.node(op, [x], **table[op][1])


def comparison(b: Builder) -> Any:
    """A boolean from two floats, perhaps combined with another, and perhaps used."""
    ops = ["Greater", "Less"] + (["GreaterOrEqual", "LessOrEqual"] if b.opset >= 12 else [])
    ops += ["Equal"] if b.opset >= 11 else []
    x = b.pick()
    made = b.node(b.choice(ops), [x, partner(b, x)])
    if made and b.flag():
        other = partner(b, made[0])
        made = b.node(b.choice(("And", "Or", "Xor")), [made[0], other])
    if made and b.flag():
        made = b.node("Not", [made[0]])
    return made


def ternary(b: Builder) -> Any:
    """``Where`` with a boolean of the graph."""
    if b.opset < 9:
        return None
    flags = [v for v in b.values if v.array.dtype.kind == "b" and v.rank <= 5]
    if not flags:
        x = b.pick()
        made = b.node("Greater", [x, b.constant(np.float32(b.choice((0.01, 0.3))))])
        if not made:
            return None
        flags = made
    condition = b.choice(flags[::-1])
    like = [v for v in b.values if v.array.dtype.kind == "f" and _broadcasts(v, condition)]
    x = b.choice(like[::-1]) if like else b.supply(b.floats(condition.shape))
    return b.node("Where", [condition, x, b.supply(b.floats(x.shape[1:]))])


def rounding(b: Builder) -> Any:
    """Discontinuous functions: the product judges them by what the draws flip."""
    op = b.choice(("Floor", "Ceil", "Round", "Cast"))
    x = b.pick()
    if op == "Round" and b.opset < 11:
        op = "Floor"
    if op == "Cast":
        made = b.node("Cast", [x], to=b.choice((6, 7, 9, 1)))
        back = made and b.flag() and b.node("Cast", [made[0]], to=1)
        return back or made
    return b.node(op, [x])


def integral(b: Builder) -> Any:
    """Arithmetic of int64 values: shapes, indices and constants."""
    found = [v for v in b.values if v.array.dtype == np.int64 and v.array.size]
    if found and b.flag():
        x = b.choice(found[::-1])
    else:
        made = b.node(b.choice(("Shape", "Size")), [b.pick()])
        if not made:
            return None
        x = made[0]
    op = b.choice(("Add", "Sub", "Mul", "Div", "Mod", "Cast", "Neg", "Abs", "Equal", "ReduceSum", "Min"))
    if op == "Cast":
        return b.node("Cast", [x], to=b.choice((1, 6)))
    if op in ("Neg", "Abs"):
        return b.node(op, [x])
    if op == "ReduceSum":
        return b.node(op, [x], keepdims=b.choice((None, 0)))
    if (op == "Mod" and b.opset < 10) or (op == "Min" and b.opset < 12):
        op = "Add"
    other = b.integers(b.choice((2, 3, -3, 1))) if op in ("Div", "Mod") else partner(b, x)
    return b.node(op, [x, other])
