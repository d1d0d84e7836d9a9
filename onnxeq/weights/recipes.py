"""The float32 recipes by which converters and simplifiers fold BatchNormalization.

In exact arithmetic all of them give ``s = gamma / sqrt(var + eps)``, ``W*s`` and ``(b - mean)*s + beta``. In float32
the order of the operations decides the last bits, so that a fold that one recipe reproduces bit for bit, but for a few
elements, was damaged in those elements.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

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


def _single(array: Array) -> NDArray[np.float32]:
    return array.astype(np.float32)


def _bare(norm: Norm, eps: float) -> Iterator[tuple[str, Array, Array]]:
    """Standard deviations and their reciprocals: how ``sqrt(var + eps)`` was rounded."""
    var = _single(norm.var)
    for name, shifted in (("", var + np.float32(eps)), ("wide sum, ", _single(var.astype(np.float64) + eps))):
        root = np.sqrt(shifted)
        yield name + "float32", root, np.float32(1) / root
        yield name + "rsqrt", root, _single(1 / np.sqrt(shifted.astype(np.float64)))


def factors(norm: Norm, eps: float) -> Iterator[tuple[str, Array]]:
    """``s`` by each recipe; float32 arrays, and one float64."""
    gamma, exact = _single(norm.gamma), norm.scale(eps)
    for name, root, reciprocal in _bare(norm, eps):
        if not name.endswith("rsqrt"):
            yield f"gamma/sqrt, {name}", gamma / root
        yield f"gamma*(1/sqrt), {name}", gamma * reciprocal
    yield "float64", exact
    stored = norm.scale(float(np.float32(eps)))  # ONNX keeps epsilon in float32
    yield "float64, stored epsilon", stored
    yield "float64 rounded", _single(exact)
    yield "float64 rounded, stored epsilon", _single(stored)
    # Roots that are not correctly rounded: torch's is off by one last place now and then, Eigen's reciprocal by two.
    shifted = _single(norm.var) + np.float32(eps)
    root, reciprocal = np.sqrt(shifted), np.float32(1) / np.sqrt(shifted)
    for name, toward in (("up", np.float32(np.inf)), ("down", np.float32(0))):
        yield f"gamma/sqrt, root {name}", gamma / np.nextafter(root, toward)
        near = np.nextafter(reciprocal, toward)
        yield f"gamma*(1/sqrt), root {name}", gamma * near
        yield f"gamma*(1/sqrt), root {name} twice", gamma * np.nextafter(near, toward)


def folded_weights(weight: Array, norm: Norm, eps: float, shape: tuple[int, ...]) -> Iterator[tuple[str, Array]]:
    """``W*s`` by each recipe, ``s`` shaped to ``shape``; in the weight's type or float32."""
    single = _single(weight)
    seen: set[bytes] = set()
    for name, factor in factors(norm, eps):
        if factor.tobytes() in seen:
            continue
        seen.add(factor.tobytes())
        if factor.dtype == np.float64:
            yield name, _single(weight.astype(np.float64) * factor.reshape(shape))
        else:
            yield name, single * factor.reshape(shape)
    for name, root, reciprocal in _bare(norm, eps):
        gamma = _single(norm.gamma).reshape(shape)
        if not name.endswith("rsqrt"):
            yield f"W*gamma/sqrt, {name}", single * gamma / root.reshape(shape)
            yield f"W/sqrt*gamma, {name}", single / root.reshape(shape) * gamma
        yield f"W*gamma*(1/sqrt), {name}", single * gamma * reciprocal.reshape(shape)
        yield f"W*(1/sqrt)*gamma, {name}", single * reciprocal.reshape(shape) * gamma


def folded_shifts(
    bias: Array | None, norm: Norm, eps: float, known: Array | None = None
) -> Iterator[tuple[str, Array]]:
    """``(b - mean)*s + beta`` by each recipe, in float32; ``known`` are the factors in the weight beside it."""
    mean, beta = _single(norm.mean), _single(norm.beta)
    b = np.zeros_like(mean) if bias is None else _single(bias)
    wide = [x.astype(np.float64) for x in (b, mean, beta)]
    own = () if known is None else (("the weight's own factor", known),)
    for name, factor in (*own, *factors(norm, eps)):
        exact = (wide[0] - wide[1]) * factor.astype(np.float64) + wide[2]
        if factor.dtype == np.float64:
            yield f"{name}, rounded once", _single(exact)
            continue
        yield f"(b-mean)*s+beta, {name}", (b - mean) * factor + beta
        yield f"{name}, rounded once", _single(exact)
        yield f"(b-mean)*s+beta fused, {name}", _single((b - mean).astype(np.float64) * factor + wide[2])
        shift = beta - mean * factor
        fused = _single(wide[2] - wide[1] * factor.astype(np.float64))
        yield f"b*s+(beta-mean*s), {name}", b * factor + shift
        yield f"b*s+(beta-mean*s) fused, {name}", _single(wide[0] * factor.astype(np.float64) + fused)
        yield f"b*s+fused(beta-mean*s), {name}", b * factor + fused
    gamma = _single(norm.gamma)
    for name, root, reciprocal in _bare(norm, eps):
        if not name.endswith("rsqrt"):
            yield f"(b-mean)/sqrt*gamma+beta, {name}", (b - mean) / root * gamma + beta
            yield f"(b-mean)*gamma/sqrt+beta, {name}", (b - mean) * gamma / root + beta
        yield f"(b-mean)*(1/sqrt)*gamma+beta, {name}", (b - mean) * reciprocal * gamma + beta
        yield f"(b-mean)*gamma*(1/sqrt)+beta, {name}", (b - mean) * gamma * reciprocal + beta


def shift_magnitude(bias: Array | None, norm: Norm, scale: Wide) -> Wide:
    """The sum of the terms' magnitudes, which the rounding error of a shift goes by, cancellation or not."""
    terms = np.abs(norm.mean.astype(np.float64) * scale) + np.abs(norm.beta.astype(np.float64))
    return terms if bias is None else terms + np.abs(bias.astype(np.float64) * scale)
