"""The recipes by which converters and simplifiers fold BatchNormalization.

In exact arithmetic all of them give ``s = gamma / sqrt(var + eps)``, ``W*s`` and ``(b - mean)*s + beta``. In float32
the order of the operations decides the last bits, so that a fold that one recipe reproduces bit for bit, but for a few
elements, was damaged in those elements. A model in half precision is folded in float32 and rounded, or in its own type:
torch's exporter does the latter.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxeq.types import Array

__all__ = ["Norm", "factors", "folded_shifts", "folded_weights", "shift_magnitude"]

Wide = NDArray[np.float64]


@dataclass(frozen=True)
class Norm:
    """The parameters of one BatchNormalization.

    Attributes:
        name: What its native tensors have in common.
        natives: Names of those that exist, in the order gamma, beta, mean, var.
        gamma: ``float[C]``, ones where there is none.
        beta: ``float[C]``, zeros where there is none.
        mean: ``float[C]``.
        var: ``float[C]``.
        eps: Where it is known.
    """

    name: str
    natives: tuple[str, ...]
    gamma: Array
    beta: Array
    mean: Array
    var: Array
    eps: float | None = None

    def scale(self, eps: float) -> Wide:
        """``gamma / sqrt(var + eps)`` in float64."""
        scale: Wide = self.gamma.astype(np.float64) / np.sqrt(self.var.astype(np.float64) + eps)
        return scale


_FLOAT32 = np.dtype(np.float32)


def _kinds(stored: np.dtype[Any]) -> tuple[np.dtype[Any], ...]:
    """The types in which a constant of a type may have been computed."""
    return (_FLOAT32, stored) if stored.name in ("float16", "bfloat16") else (_FLOAT32,)


def _single(array: Array, kind: np.dtype[Any] = _FLOAT32) -> Array:
    return array.astype(kind)


def _bare(norm: Norm, eps: float, kind: np.dtype[Any] = _FLOAT32) -> Iterator[tuple[str, Array, Array]]:
    """Standard deviations and their reciprocals: how ``sqrt(var + eps)`` was rounded."""
    var = _single(norm.var, kind)
    for name, shifted in (("", var + kind.type(eps)), ("wide sum, ", _single(var.astype(np.float64) + eps, kind))):
        root = np.sqrt(shifted)
        yield f"{name}{kind.name}", root, kind.type(1) / root
        yield f"{name}{_of(kind)}rsqrt", root, _single(1 / np.sqrt(shifted.astype(np.float64)), kind)


def _of(kind: np.dtype[Any]) -> str:
    return "" if kind == _FLOAT32 else f"{kind.name} "


def factors(norm: Norm, eps: float, stored: np.dtype[Any] = _FLOAT32) -> Iterator[tuple[str, Array]]:
    """``s`` by each recipe; arrays in float32, one in float64, and for a half-precision constant in its own type.

    Args:
        norm: The normalisation.
        eps: Its epsilon.
        stored: The type of the constant that holds them, or what they went into.
    """
    for kind in _kinds(stored)[1:]:
        gamma = _single(norm.gamma, kind)
        for name, root, reciprocal in _bare(norm, eps, kind):
            if not name.endswith("rsqrt"):
                yield f"gamma/sqrt, {name}", gamma / root
            yield f"gamma*(1/sqrt), {name}", gamma * reciprocal
    gamma, exact = _single(norm.gamma), norm.scale(eps)
    for name, root, reciprocal in _bare(norm, eps):
        if not name.endswith("rsqrt"):
            yield f"gamma/sqrt, {name}", gamma / root
        yield f"gamma*(1/sqrt), {name}", gamma * reciprocal
    yield "float64", exact
    kept = norm.scale(float(np.float32(eps)))  # ONNX keeps epsilon in float32
    yield "float64, stored epsilon", kept
    yield "float64 rounded", _single(exact)
    yield "float64 rounded, stored epsilon", _single(kept)
    # Roots that are not correctly rounded: torch's is off by one last place now and then, Eigen's reciprocal by two.
    shifted = _single(norm.var) + np.float32(eps)
    root, reciprocal = np.sqrt(shifted), np.float32(1) / np.sqrt(shifted)
    for name, toward in (("up", np.float32(np.inf)), ("down", np.float32(0))):
        yield f"gamma/sqrt, root {name}", gamma / np.nextafter(root, toward)
        near = np.nextafter(reciprocal, toward)
        yield f"gamma*(1/sqrt), root {name}", gamma * near
        yield f"gamma*(1/sqrt), root {name} twice", gamma * np.nextafter(near, toward)


def folded_weights(
    weight: Array, norm: Norm, eps: float, shape: tuple[int, ...], stored: np.dtype[Any] = _FLOAT32
) -> Iterator[tuple[str, Array]]:
    """``W*s`` by each recipe, ``s`` shaped to ``shape``; in the type of the factor, which is float32 or ``stored``."""
    seen: set[bytes] = set()
    for name, factor in factors(norm, eps, stored):
        if factor.tobytes() in seen:
            continue
        seen.add(factor.tobytes())
        if factor.dtype == np.float64:
            yield name, _single(weight.astype(np.float64) * factor.reshape(shape))
        else:
            yield name, weight.astype(factor.dtype) * factor.reshape(shape)
    for kind in _kinds(stored):
        single, gamma = _single(weight, kind), _single(norm.gamma, kind).reshape(shape)
        for name, root, reciprocal in _bare(norm, eps, kind):
            if not name.endswith("rsqrt"):
                yield f"W*gamma/sqrt, {name}", single * gamma / root.reshape(shape)
                yield f"W/sqrt*gamma, {name}", single / root.reshape(shape) * gamma
            yield f"W*gamma*(1/sqrt), {name}", single * gamma * reciprocal.reshape(shape)
            yield f"W*(1/sqrt)*gamma, {name}", single * reciprocal.reshape(shape) * gamma


def folded_shifts(
    bias: Array | None, norm: Norm, eps: float, known: Array | None = None, stored: np.dtype[Any] = _FLOAT32
) -> Iterator[tuple[str, Array]]:
    """``(b - mean)*s + beta`` by each recipe, in the factor's type; ``known`` are those in the weight beside it."""
    wide = [x.astype(np.float64) for x in (np.zeros_like(norm.mean) if bias is None else bias, norm.mean, norm.beta)]
    own = () if known is None else (("the weight's own factor", known),)
    for name, factor in (*own, *factors(norm, eps, stored)):
        kind = _FLOAT32 if factor.dtype == np.float64 else factor.dtype
        exact = (wide[0] - wide[1]) * factor.astype(np.float64) + wide[2]
        if factor.dtype == np.float64:
            yield f"{name}, rounded once", _single(exact)
            continue
        b, mean, beta = (_single(x, kind) for x in wide)
        yield f"(b-mean)*s+beta, {name}", (b - mean) * factor + beta
        yield f"{name}, rounded once", _single(exact, kind)
        yield f"(b-mean)*s+beta fused, {name}", _single((b - mean).astype(np.float64) * factor + wide[2], kind)
        shift = beta - mean * factor
        fused = _single(wide[2] - wide[1] * factor.astype(np.float64), kind)
        yield f"b*s+(beta-mean*s), {name}", b * factor + shift
        yield f"b*s+(beta-mean*s) fused, {name}", _single(wide[0] * factor.astype(np.float64) + fused, kind)
        yield f"b*s+fused(beta-mean*s), {name}", b * factor + fused
    for kind in _kinds(stored):
        b, mean, beta, gamma = (_single(x, kind) for x in (*wide, norm.gamma))
        for name, root, reciprocal in _bare(norm, eps, kind):
            if not name.endswith("rsqrt"):
                yield f"(b-mean)/sqrt*gamma+beta, {name}", (b - mean) / root * gamma + beta
                yield f"(b-mean)*gamma/sqrt+beta, {name}", (b - mean) * gamma / root + beta
            yield f"(b-mean)*(1/sqrt)*gamma+beta, {name}", (b - mean) * reciprocal * gamma + beta
            yield f"(b-mean)*gamma*(1/sqrt)+beta, {name}", (b - mean) * gamma * reciprocal + beta


def shift_magnitude(bias: Array | None, norm: Norm, scale: Wide) -> Wide:
    """The sum of the terms' magnitudes, which the rounding error of a shift goes by, cancellation or not."""
    terms = np.abs(norm.mean.astype(np.float64) * scale) + np.abs(norm.beta.astype(np.float64))
    return terms if bias is None else terms + np.abs(bias.astype(np.float64) * scale)
