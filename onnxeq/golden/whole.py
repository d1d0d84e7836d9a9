"""Whether a golden's arrays are what its record speaks of: a digest that was changed along with them proves nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from onnxeq.arrays import dtype_name
from onnxeq.errors import UnusableGolden
from onnxeq.golden.codec import MEND
from onnxeq.golden.values import Golden, Role
from onnxeq.types import Array

__all__ = ["hold"]


def hold(golden: Golden, arrays: Mapping[str, Array]) -> None:
    """Holds the arrays against the record.

    Raises:
        UnusableGolden: One is missing, or is of another type, shape or form than the record says.
    """
    for problem in (*_executions(golden, arrays), *_texts(golden, arrays)):
        raise UnusableGolden(f"{golden.arrays}: {problem}", hint=MEND)


def _executions(golden: Golden, arrays: Mapping[str, Array]) -> Iterator[str]:
    for output in golden.outputs:
        if not 0 <= output.feed < golden.inputs.feeds:
            yield f"output '{output.name}' is of input {output.feed}, there are {golden.inputs.feeds}"
        for born in golden.executions:
            key = f"{born.role}/{output.feed}/{output.name}"
            if key not in arrays:
                yield f"it lacks {key}"
                continue
            value = arrays[key]
            if not output.sampled and value.shape != output.shape:
                yield f"{key} has the shape {list(value.shape)}, its record says {list(output.shape)}"
            elif not output.sampled and born.role is not Role.REFEREE and dtype_name(value) != output.dtype:
                yield f"{key} is {dtype_name(value)}, its record says {output.dtype}"
        for unit in () if golden.bar.missing else ("unit", "floor"):
            key, against = (f"{kind}/{output.feed}/{output.name}" for kind in (unit, Role.REFEREE))
            if key not in arrays or against not in arrays or arrays[key].shape != arrays[against].shape:
                yield f"{key} is missing, or of another shape than the output"
    if any(len(born.sha256) != len(golden.outputs) for born in golden.executions):
        yield "an execution has as many digests as there are outputs"


def _texts(golden: Golden, arrays: Mapping[str, Array]) -> Iterator[str]:
    """What is stored as text: the marks of weights and nodes, and the names of layers."""
    try:
        if "marks" in arrays:
            held = json.loads(arrays["marks"].tobytes().decode())
            good = all(len(row) == 2 for row in held["weights"].values()) and all(len(n) == 4 for n in held["nodes"])
            if not good:
                yield "its marks are damaged"
        if golden.layers:
            names, ops = json.loads(arrays["layers/names"].tobytes().decode())
            rows = {len(names), len(ops), len(arrays["layers/digests"]), len(arrays["layers/noise"]), golden.layers}
            if len(rows) != 1 or arrays["layers/digests"].ndim != 2:
                yield "its digests of layers are damaged"
    except (ValueError, KeyError, TypeError, AttributeError):
        yield "its marks or its digests of layers are damaged"
