"""A few numbers for each value of a graph, so that a later failure is located without the old model.

A value is summed up by :data:`PROJECTIONS` sums with random signs, each divided by the root of the number of elements,
and by its root mean square. For errors of size ``s_i`` such a sum errs by ``rms(s)``, whatever they have in common. The
unit of a value is what rounding noise (:mod:`onnxeq.noise`) does to its sums.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from onnxeq.errors import shown
from onnxeq.noise import AMPLITUDE
from onnxeq.types import Array

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PROJECTIONS", "Layers", "digest_of", "from_arrays", "located", "to_arrays"]

PROJECTIONS = 4

_POOL = 2**20 + 7
_SLACK = 2.0
"""A unit rests on eight sums and an error on four: their ratio is this far off in one of a thousand layers."""
_EXACT = 1e-10
"""Of a value's root mean square: what float64 rounding leaves far behind, and float32's does not."""


@dataclass(frozen=True)
class Layers:
    """The digests of a graph's values, in the order in which they are computed.

    Attributes:
        names: Of the values.
        ops: The operators that make them.
        digests: ``float64[n, PROJECTIONS + 1]``, the root mean square last.
        noise: ``float64[n]``, the unit.
    """

    names: Sequence[str]
    ops: Sequence[str]
    digests: NDArray[np.float64]
    noise: NDArray[np.float64]


@functools.cache
def _signs() -> NDArray[np.float64]:
    signs = np.random.Generator(np.random.PCG64(20)).choice(np.array([-1.0, 1.0]), _POOL)
    signs.flags.writeable = False
    return signs


def digest_of(value: Array) -> NDArray[np.float64]:
    """The digest of one value; elements that are no number count as zero."""
    flat = value.reshape(-1).astype(np.float64)
    if not np.isfinite(flat).all():
        flat = np.where(np.isfinite(flat), flat, 0.0)
    sums = np.zeros(PROJECTIONS + 1)
    for begin in range(0, flat.size, 2**18):
        part = flat[begin : begin + 2**18]
        for k in range(PROJECTIONS):
            start = (begin * 7 + k * 262147) % (_POOL - 2**18)
            sums[k] += float(part @ _signs()[start : start + part.size])
    root = math.sqrt(max(1, flat.size))
    sums /= root
    sums[-1] = float(np.linalg.norm(flat)) / root
    return sums


def to_arrays(layers: Layers) -> dict[str, Array]:
    """What a golden keeps."""
    text = json.dumps([list(layers.names), list(layers.ops)], separators=(",", ":"))
    return {
        "layers/names": np.frombuffer(text.encode(), np.uint8),
        "layers/digests": layers.digests,
        "layers/noise": layers.noise,
    }


def from_arrays(arrays: Mapping[str, Array]) -> Layers | None:
    """What :func:`to_arrays` gave; ``None`` where a golden has none."""
    if "layers/names" not in arrays:
        return None
    names, ops = json.loads(arrays["layers/names"].tobytes().decode())
    return Layers(names, ops, arrays["layers/digests"], arrays["layers/noise"])


def located(before: Layers, now: Mapping[str, Array], *, exact: bool) -> str:
    """The first value that departs, in words; empty when none does, or none has its old name.

    Args:
        before: The golden's digests, of the float64 run.
        now: Value -> digest of today's run.
        exact: Whether that is in float64, too; else it is held against rounding noise.
    """
    common = sum(name in now for name in before.names)
    for name, op_type, digest, noise in zip(before.names, before.ops, before.digests, before.noise, strict=True):
        if name not in now:
            continue
        error = float(np.sqrt(np.mean(np.square(now[name][:-1] - digest[:-1]))))
        scale = max(float(digest[-1]), float(np.sqrt(np.mean(np.square(digest[:-1])))))
        if exact:
            if error > _EXACT * scale:
                return f"'{shown(name)}' ({op_type}) is the first of {common} values to depart, by {error:.2g}"
            continue
        unit = math.hypot(noise, scale * 2.0**-26)
        if error > AMPLITUDE * _SLACK * unit > 0 or (unit == 0 and error > 0):
            said = f"{error / unit:.3g}x its rounding noise" if unit else f"by {error:.2g}"
            return f"'{shown(name)}' ({op_type}) is the first of {common} values to depart, {said}"
    return ""
