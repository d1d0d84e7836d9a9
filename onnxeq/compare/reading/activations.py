"""Activations that are spelled out, read as what they are.

1. Bounds one after another: ``min(max(x, 0), 6)`` is ``relu6``.
2. ``relu6(x + 3) / 6`` and ``clip(a x + b, 0, 1)`` are ``hard_sigmoid``.
3. ``x * sigmoid(x)`` is ``silu``, ``x * hard_sigmoid(x)`` with 1/6 and 1/2 ``hard_swish``, ``x * tanh(softplus(x))``
   ``mish``.
4. ``x (1 + erf(x / sqrt 2)) / 2`` is ``gelu``, wherever its half stands; with ``tanh(sqrt(2 / pi) (x + 0.044715 x^3))``
   in place of erf it is the one that is approximate. How the polynomial is written does not matter.
5. ``max(x, a x)`` with ``0 < a < 1`` is ``leaky_relu``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from onnxeq.compare.reading.elementwise import bounded
from onnxeq.compare.reading.sketch import Draft, Sketch

__all__ = ["merge_activations"]

_SPELLED = "{} spelled out"
_NEAR = 2e-6
"""Relative, between numbers that a program writes: exporters store them in float32."""


def _near(value: object, wanted: float) -> bool:
    return isinstance(value, (int, float)) and math.isclose(value, wanted, rel_tol=_NEAR)


def _bounds(draft: Draft) -> tuple[float, float] | None:
    if draft.kind == "clip":
        low, high = draft.attributes["min"], draft.attributes["max"]
        return (float(low), float(high)) if isinstance(low, (int, float)) and isinstance(high, (int, float)) else None
    return {"relu": (0.0, math.inf), "relu6": (0.0, 6.0)}.get(draft.kind)


def _by(draft: Draft, kind: str) -> float | None:
    value = draft.attributes.get("by")
    return float(value) if draft.kind == kind and isinstance(value, (int, float)) else None


Found = tuple[Draft, str, dict[str, float | str]]
"""What is activated, the kind, and its attributes."""


def _clips(draft: Draft) -> Found | None:
    """Rule 1."""
    outer, inner = _bounds(draft), _bounds(draft.inputs[0]) if draft.inputs else None
    if outer is None or inner is None or outer[0] > inner[1] or outer[1] < inner[0]:
        return None
    kind, attributes = bounded(max(outer[0], inner[0]), min(outer[1], inner[1]))
    return draft.inputs[0].inputs[0], kind, {k: float(v) for k, v in attributes.items() if isinstance(v, (int, float))}


def _hard_sigmoid(draft: Draft) -> Found | None:
    """Rule 2."""
    if (sixth := _by(draft, "scale")) is not None and _near(sixth, 1 / 6) and draft.inputs[0].kind == "relu6":
        inner = draft.inputs[0].inputs[0]
        return (inner.inputs[0], "hard_sigmoid", {"alpha": 0.166667, "beta": 0.5}) if _by(inner, "shift") == 3 else None
    beta = _by(draft.inputs[0], "shift") if _bounds(draft) == (0.0, 1.0) else None
    alpha = None if beta is None else _by(draft.inputs[0].inputs[0], "scale")
    if alpha is None or beta is None:
        return None
    return draft.inputs[0].inputs[0].inputs[0], "hard_sigmoid", {"alpha": alpha, "beta": beta}


def _gated(draft: Draft) -> Found | None:
    """Rule 3, and rule 4 where the half stands with the gate or with ``x``."""
    if draft.kind != "mul" or len(draft.inputs) != 2:
        return None
    for source, gate in (draft.inputs, draft.inputs[::-1]):
        if gate.kind == "sigmoid" and gate.inputs[0] is source:
            return source, "silu", {}
        if gate.kind == "hard_sigmoid" and gate.inputs[0] is source and _sixth(gate):
            return source, "hard_swish", {}
        if gate.kind == "tanh" and gate.inputs[0].kind == "softplus" and gate.inputs[0].inputs[0] is source:
            return source, "mish", {}
        if _by(gate, "scale") == 0.5 and (form := _gelu_gate(gate.inputs[0], source)):
            return source, "gelu", {"approximate": form}
        if _by(source, "scale") == 0.5 and (form := _gelu_gate(gate, source.inputs[0])):
            return source.inputs[0], "gelu", {"approximate": form}
    return None


def _sixth(gate: Draft) -> bool:
    """Whether a hard sigmoid is that of the hard swish."""
    return _near(gate.attributes["alpha"], 1 / 6) and gate.attributes["beta"] == 0.5


def _one_and_erf(draft: Draft) -> Draft | None:
    """``1 + erf(x / sqrt 2)`` or ``1 - erf(-x / sqrt 2)`` -> ``x``."""
    if _by(draft, "shift") != 1 and _by(draft, "rsub") != 1:
        return None
    step, factor = draft.inputs[0], 1.0 if draft.kind == "shift" else -1.0
    if step.kind != "erf":
        return None
    step = step.inputs[0]
    while step.kind in ("neg", "scale") and (number := -1.0 if step.kind == "neg" else _by(step, "scale")) is not None:
        step, factor = step.inputs[0], factor * number
    return step if _near(factor, math.sqrt(0.5)) else None


def _gelu_gate(gate: Draft, source: Draft) -> str:
    """Which form of GELU has such a gate of ``source``: ``none``, ``tanh``; empty where none has."""
    if _one_and_erf(gate) is source:
        return "none"
    if _by(gate, "shift") != 1 or gate.inputs[0].kind != "tanh":
        return ""
    inner = _polynomial(gate.inputs[0].inputs[0], source, _MOST_STEPS)
    wanted = {1: _ROOT, 3: _ROOT * _CUBIC}
    near = inner is not None and inner.keys() == wanted.keys() and all(_near(inner[k], wanted[k]) for k in wanted)
    return "tanh" if near else ""


_ROOT = math.sqrt(2 / math.pi)
_CUBIC = 0.044715
_MOST_STEPS = 8
_HIGHEST = 3


def _polynomial(draft: Draft, x: Draft, depth: int) -> dict[int, float] | None:
    """The coefficients by power of a polynomial in ``x``; ``None`` where a draft is none."""
    if draft is x:
        return {1: 1.0}
    if depth == 0 or not draft.inputs:
        return None
    parts = [_polynomial(d, x, depth - 1) for d in draft.inputs]
    known = [p for p in parts if p is not None]
    number = draft.number
    if len(known) != len(parts) or draft.kind not in ("add", "mul", "scale", "shift", "Pow"):
        return None
    if draft.kind in ("scale", "shift"):
        if number is None:
            return None
        held = {0: number} if draft.kind == "shift" else {}
        factor = number if draft.kind == "scale" else 1.0
        return _summed([*((k, v * factor) for k, v in known[0].items()), *held.items()])
    if draft.kind == "Pow":
        power = draft.attributes.get("input 1")
        if draft.attributes.get("reads") != "x c" or power not in (2, 3):
            return None
        known = known * int(power)
    if draft.kind == "add":
        return _summed([pair for p in known for pair in p.items()])
    product = {0: 1.0}
    for part in known:
        product = _summed([(a + b, m * n) for a, m in product.items() for b, n in part.items()])
    return product if max(product) <= _HIGHEST else None


def _summed(pairs: list[tuple[int, float]]) -> dict[int, float]:
    found: dict[int, float] = {}
    for power, number in pairs:
        found[power] = found.get(power, 0.0) + number
    return {power: number for power, number in found.items() if number}


def _scaled_product(draft: Draft) -> Found | None:
    """Rules 3 and 4 where the factor stands behind the product."""
    factor = _by(draft, "scale")
    if factor is None or draft.inputs[0].kind != "mul" or len(draft.inputs[0].inputs) != 2:
        return None
    product = draft.inputs[0].inputs
    for source, gate in (product, product[::-1]):
        if factor == 0.5 and (form := _gelu_gate(gate, source)):
            return source, "gelu", {"approximate": form}
        shifted = gate.inputs[0] if _near(factor, 1 / 6) and gate.kind == "relu6" else None
        if shifted is not None and _by(shifted, "shift") == 3 and shifted.inputs[0] is source:
            return source, "hard_swish", {}
    return None


def _leaky(draft: Draft) -> Found | None:
    """Rule 5."""
    if draft.kind != "max" or len(draft.inputs) != 2:
        return None
    for source, scaled in (draft.inputs, draft.inputs[::-1]):
        slope = _by(scaled, "scale")
        if slope is not None and 0 < slope < 1 and scaled.inputs[0] is source:
            return source, "leaky_relu", {"alpha": slope}
    return None


_RULES: tuple[Callable[[Draft], Found | None], ...] = (_clips, _hard_sigmoid, _gated, _scaled_product, _leaky)


def merge_activations(sketch: Sketch) -> None:
    """Applies the rules, inner forms before those that they are part of."""
    readers = sketch.readers()
    for draft in sketch.drafts():
        if not draft.inputs:
            continue
        found = next((f for rule in _RULES if (f := rule(draft)) is not None), None)
        if found is None:
            continue
        source, kind, attributes = found
        nodes = _between(draft, source)
        merged = Draft(kind, [source], dict(attributes), draft.shape, draft.name, nodes)
        merged.say(_SPELLED.format(kind))
        readers.setdefault(id(source), []).append(merged)
        sketch.replace(draft, merged, readers)


def _between(draft: Draft, source: Draft) -> list[str]:
    """The nodes of all that lies between a draft and what it is computed from."""
    nodes: list[str] = []
    pending, seen = [draft], {id(source)}
    while pending:
        current = pending.pop()
        if id(current) not in seen:
            seen.add(id(current))
            nodes += current.nodes
            pending += current.inputs
    return nodes
