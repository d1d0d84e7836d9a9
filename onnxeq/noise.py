"""The two units that errors are measured in, as hooks of the referee.

*Rounding noise*: what float32 arithmetic (or the type that a value is stored in) does to the outputs.
Every intermediate of the float64 run is perturbed by a random amount of the size that a kernel's
rounding has; the spread of the outputs is the unit of the float32 rungs. It carries the model's
conditioning, so a well-conditioned model gets a tight limit and an ill-conditioned one a wide limit.

*Constant floor*: what storing constants in float32 does. Every stored constant is moved by half a unit
in the last place, at random; the spread of the outputs is the unit of the float64 rungs wherever a
converter had to round a constant that the native program holds exactly (a folded weight, an epsilon).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from onnxeq.accumulation import ONE, Size, terms
from onnxeq.perturbation import Signs
from onnxeq.rounding import is_rounded, size_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from onnxeq.accumulation import Shared
    from onnxeq.referee import NodeInfo, Value

__all__ = [
    "AMPLITUDE",
    "UNIT_ROUNDOFF",
    "ConstantFloor",
    "OwnFloor",
    "RoundingNoise",
    "SingleRounding",
]

Real: TypeAlias = "NDArray[np.float64]"
UNIT_ROUNDOFF: dict[str, float] = {
    "float64": 2.0**-53,
    "float32": 2.0**-24,
    "float16": 2.0**-11,
    "bfloat16": 2.0**-8,
}
"""Half the distance from 1 to the next number of the type."""

AMPLITUDE = 6.0
"""Rounding draws are made this many times larger, and scaled back: an integer output that flips under
them is within the limit's reach of a discontinuity, and float outputs respond linearly."""

_LARGE = 2**16
"""Elements from which on a result is overwritten: of smaller ones the executor may hold an exact twin."""


class ConstantFloor:
    """Moves every stored float constant by half a unit in the last place, up or down.

    A number of twelve significant bits or fewer (0.5, 3, 2^-10) is left alone in small constants: it was
    stored exactly, so nothing was rounded.
    """

    def __init__(self, seed: int, *, stored: bool = False) -> None:
        self._signs = Signs(seed)
        self._stored = stored

    def constant(self, name: str, value: Real, dtype: str) -> Real:
        """The constant, moved by ``u`` of float32, or of its own type with ``stored``."""
        u = UNIT_ROUNDOFF.get(dtype, 2.0**-24) if self._stored else 2.0**-24
        signs = self._signs(value.shape)
        if value.size <= 64:
            mantissa, _ = np.frexp(value)
            signs = np.where(mantissa * 4096 == np.rint(mantissa * 4096), 0.0, signs)
        moved = np.multiply(signs, u)
        moved += 1.0
        with np.errstate(invalid="ignore"):
            moved *= value
        return moved

    def node(self, info: NodeInfo, inputs: Sequence[Value], outputs: list[Value]) -> list[Value]:
        """Leaves intermediates alone."""
        return outputs


class OwnFloor(ConstantFloor):
    """The constant floor of what an exporter has added: constants that are the native ones bit by bit stay.

    What the graph computes of constants alone moves as well: the native program may have computed it beforehand, and
    held it in a float32 number.

    Args:
        seed: Of the draw.
        native: Names of the constants that stay.
        stored: As for :class:`ConstantFloor`.
    """

    def __init__(self, seed: int, native: Collection[str], *, stored: bool = False) -> None:
        super().__init__(seed, stored=stored)
        self._native = frozenset(native)

    def constant(self, name: str, value: Real, dtype: str) -> Real:
        """The constant, moved by ``u`` of float32 unless it is a native one."""
        return value if name in self._native else super().constant(name, value, dtype)

    def node(self, info: NodeInfo, inputs: Sequence[Value], outputs: list[Value]) -> list[Value]:
        """Moves what was computed of constants."""
        if not info.constant or info.exact or not is_rounded(info):
            return outputs
        real = [isinstance(v, np.ndarray) and v.dtype == np.float64 for v in outputs]
        return [
            super(OwnFloor, self).constant("", v, "float32") if r and isinstance(v, np.ndarray) else v
            for v, r in zip(outputs, real, strict=True)
        ]


class RoundingNoise:
    """Perturbs every computed float value by the size of its kernel's rounding, :data:`AMPLITUDE` times."""

    def __init__(self, seed: int, amplitude: float = AMPLITUDE) -> None:
        self._signs = Signs(seed)
        self._amplitude = amplitude

    def constant(self, name: str, value: Real, dtype: str) -> Real:
        """Leaves constants alone: both executions read the same stored ones."""
        return value

    def node(self, info: NodeInfo, inputs: Sequence[Value], outputs: list[Value]) -> list[Value]:
        """The node's float outputs, perturbed; outputs that nothing rounded stay."""
        if not is_rounded(info):
            return outputs
        if info.node.op_type in _RECURRENT:
            outputs = self._rounded_sequence(info, inputs, outputs)
        moved: list[Value] = []
        for value, dtype in zip(outputs, info.dtypes, strict=True):
            if not isinstance(value, np.ndarray) or value.dtype != np.float64 or value.size == 0:
                moved.append(value)
                continue
            u = UNIT_ROUNDOFF.get(dtype, 2.0**-24) * self._amplitude
            relative, absolute, shared = self._size(info, inputs, value)
            if isinstance(relative, np.ndarray):  # a factor of its own for each element
                relative, absolute = 0.0, np.hypot(relative * value, absolute)
            size = np.multiply(absolute, u, dtype=np.float64)
            if not np.isfinite(size).all():  # values that overflowed have no rounding of their own
                size = np.nan_to_num(size, nan=0.0, posinf=0.0)
            with np.errstate(all="ignore"):
                # A kernel's own large result is nobody else's; what is a view, or was handed through, may be.
                fresh = value.size > _LARGE and value.base is None and not any(value is other for other in inputs)
                noisy = self._signs.move(value, u * relative, np.asarray(size), in_place=fresh)
                moved.append(self._move_alike(noisy, shared, u))
        return moved

    def _size(self, info: NodeInfo, inputs: Sequence[Value], value: Real) -> Size:
        return size_of(info.node.op_type, info, inputs, value)

    def _move_alike(self, value: Real, shared: Sequence[Shared], u: float) -> Real:
        """What all elements of a group have in common moves them with one sign."""
        for pattern, signs in shared:
            delta = self._signs(signs) * pattern
            delta *= u
            if not np.isfinite(delta).all():
                delta = np.nan_to_num(delta, nan=0.0, posinf=0.0, neginf=0.0)
            value += delta.reshape(value.shape) if delta.size == value.size else delta  # what was moved is our own
        return value

    def _rounded_sequence(self, info: NodeInfo, inputs: Sequence[Value], outputs: list[Value]) -> list[Value]:
        """What the layer gives when its gates' sums round: the sequence is moved by as much, relatively.

        Terms that are moved independently by ``d`` move their sum by ``d*sqrt(q)``, as rounding does; how far that
        goes depends on which gates are saturated, which only the layer itself knows.
        """
        from onnxeq.referee.again import compute_again

        x = np.asarray(inputs[0])
        u = UNIT_ROUNDOFF.get(info.dtypes[0] or "float32", 2.0**-24) * self._amplitude
        size = u * (1 / 3 + terms(x.shape[-1]) / 6) ** 0.5
        moved = compute_again(info, [x * (1.0 + size * self._signs(x.shape)), *inputs[1:]]) if x.size else None
        return outputs if moved is None else [n if o is not None else o for o, n in zip(outputs, moved, strict=False)]


class SingleRounding(RoundingNoise):
    """Perturbs every computed float value as if its kernel had rounded the exact result, once.

    What the graph itself makes of rounding, whatever kernels run it.
    """

    def _size(self, info: NodeInfo, inputs: Sequence[Value], value: Real) -> Size:
        return Size(ONE, 0.0)

    def _rounded_sequence(self, info: NodeInfo, inputs: Sequence[Value], outputs: list[Value]) -> list[Value]:
        return outputs


_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
