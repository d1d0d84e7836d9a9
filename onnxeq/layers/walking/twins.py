"""Which values of the reference are made with the weights that a node of the artifact reads.

Weights tell nodes apart where names and inputs do not: exporters count their names up, and a value may stand in two
places.
"""

from __future__ import annotations

import numpy as np

from onnxeq.layers.walking.alignment import Alignment

__all__ = ["twins", "weighty"]

_WEIGHTY = 8
"""Elements from which on a constant is a weight that tells which node it belongs to."""

_SAME_WEIGHTS = 1e-5
"""Relative difference of moments up to which weights are the same: exporters fold them each in its own way."""


def weighty(value: object) -> bool:
    """Whether a value is so large a float array."""
    return isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.size >= _WEIGHTY


def twins(found: Alignment, position: int) -> frozenset[str]:
    """Values that the reference makes with the weights that a node of the artifact reads; empty without any."""
    if position not in found.twins:
        found.twins[position] = _twins(found, position)
    return found.twins[position]


def _twins(found: Alignment, position: int) -> frozenset[str]:
    reference = found.reference
    made: list[set[str]] = []
    for name in found.artifact.reads(position):
        value = found.values[name].value if name in found.artifact.constant and name in found.values else None
        if isinstance(value, np.ndarray) and weighty(value):
            alike = found.weights.near(value, _SAME_WEIGHTS)
            readers = {p for other in alike for p in reference.readers.get(other, ())}
            made.append({o for p in readers for o in reference.nodes[p].output if o and o not in reference.constant})
    return frozenset(set.intersection(*made)) if made else frozenset()
