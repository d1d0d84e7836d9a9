"""A layer's stored tensors in its own order, out of its file, as :class:`onnxeq.compare.values.Weight` tells it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from onnxeq.compare.values import Layer, Weight
from onnxeq.referee import Executor


class File:
    """A file's stored values, and those that it computes from constants."""

    def __init__(self, path: Path) -> None:
        model = onnx.load(str(path))
        self._stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self._executor = Executor(model)
        self._feed = {
            spec.name: np.zeros([n if isinstance(n, int) else 1 for n in spec.shape or ()], spec.dtype)
            for spec in self._executor.inputs
        }

    def value(self, name: str) -> np.ndarray:
        """By the name that a weight has."""
        if name in self._stored:
            return self._stored[name]
        bare = name.removesuffix(".folded")
        return np.asarray(self._executor.run(self._feed, outputs=[bare])[bare])

    def in_order(self, weight: Weight) -> np.ndarray:
        """One stored tensor, flat."""
        held = self.value(weight.name)
        held = held.reshape(weight.viewed) if weight.viewed else held
        held = held.transpose(np.argsort(weight.axes)) if weight.axes else held
        held = held if weight.part is None else held[slice(*weight.part)]
        assert held.size == weight.elements
        return held.reshape(-1)

    def of_layer(self, layer: Layer) -> dict[str, np.ndarray]:
        """All of a layer's tensors by role; of several in one role one after another."""
        roles = dict.fromkeys(w.role for w in layer.weights)
        return {r: np.concatenate([self.in_order(w) for w in layer.weights if w.role == r]) for r in roles}
