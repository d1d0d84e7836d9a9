"""What a case should give, in float64, and how far rounding moves it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from onnxeq.errors import OnnxeqError
from onnxeq.noise import AMPLITUDE, RoundingNoise
from onnxeq.referee import Executor, Value
from onnxeq.referee.elements import restore
from onnxeq.types import Array, Feed

__all__ = ["computed", "spread", "stored_values"]

_DRAWS = 8


def computed(model: onnx.ModelProto, inputs: Feed) -> Array | None:
    """The model's one output in float64; ``None`` when it cannot be computed or is no tensor."""
    try:
        value = next(iter(Executor(model).run(inputs).values()))
    except OnnxeqError:
        return None
    return _tensor(value)


def stored_values(model: onnx.ModelProto, inputs: Feed, names: Sequence[str]) -> dict[str, Array]:
    """Values of the main graph, computed in float64 and rounded to the types in which a runtime stores them.

    Those that are no tensor, or of a type that numpy's files do not hold, are left out.
    """
    try:
        entries = Executor(model).run_entries(inputs, outputs=list(names))
    except OnnxeqError:
        return {}
    found = {}
    for name, entry in entries.items():
        value = _tensor(restore(entry.value, entry.dtype))
        if value is not None and value.dtype.kind != "V":
            found[name] = value
    return found


def spread(model: onnx.ModelProto, inputs: Feed) -> Array:
    """One unit of rounding noise for each element of the model's output; one zero where none can be computed.

    ``s_i = sqrt(mean_d (y_i^(d) - y_i)^2) / A`` over draws in which every computed value was moved by ``A`` times its
    rounding; of an output that is no float, the root of the share of draws that changed it.
    """
    exact = computed(model, inputs)
    if exact is None:
        return np.zeros(())
    total = np.zeros(exact.shape)
    executor = Executor(model)
    for draw in range(_DRAWS):
        try:
            moved = _tensor(next(iter(executor.run(inputs, hook=RoundingNoise(draw)).values())))
        except OnnxeqError:
            return np.zeros(())
        if moved is None or moved.shape != exact.shape:
            return np.zeros(())
        if exact.dtype.kind == "f":
            with np.errstate(invalid="ignore", over="ignore"):
                total += np.nan_to_num(np.square((moved - exact) / AMPLITUDE), posinf=0.0) / _DRAWS
        else:
            total += (moved != exact) / _DRAWS
    return np.sqrt(total)


def _tensor(value: Value) -> Array | None:
    return None if value is None or isinstance(value, list) else np.asarray(value)
