"""Goldens made by hand, for tests of what keeps them: no model is run."""

from __future__ import annotations

import numpy as np

from onnxeq.golden.values import (
    Bar,
    Born,
    Golden,
    How,
    Identity,
    Inputs,
    InputsKind,
    Origin,
    OutputRecord,
    Pending,
    Role,
    Tensor,
    Verdict,
)
from onnxeq.types import Array

__all__ = ["arrays", "golden", "waiting"]


def golden(name: str = "net", mark: str = "a") -> Golden:
    """A golden of one output of two elements; ``mark`` tells two of them apart."""
    return Golden(
        name=name,
        model="../net.onnx",
        origin=Origin.RECORDED,
        on="2026-01-02",
        arrays="",
        arrays_sha256="",
        how=How(0, (1, 3), {"x": "1x2"}),
        inputs=Inputs(
            InputsKind.SEED, "0" * 64, 1, seed=7, batches=(1,), tensors=(Tensor("x", "float32", ("N", "2")),)
        ),
        identity=Identity("1" * 64, "2" * 64, mark),
        provenance={"onnxruntime": "1.22.0", "opset": "17"},
        executions=(Born(Role.RUNTIME, "ort/cpu", ("3" * 64,)), Born(Role.REFEREE, "referee/f64", ("4" * 64,))),
        outputs=(
            OutputRecord(0, "y", "float32", (1, 2), False, -1.0, 2.0, 0.5, 2.23607, (1, 0), (2.0, -1.0), 1e-7, 5e-8),
        ),
        agreement=(),
        bar=Bar(6.0, 4.0),
        notes=('a "quoted" note\twith a tab', "ünïcode"),
    )


def arrays(value: float = 1.0) -> dict[str, Array]:
    """Its arrays."""
    exact = np.array([[-1.0, 2.0]]) * value
    return {
        "runtime/0/y": exact.astype(np.float32),
        "referee/0/y": exact,
        "unit/0/y": np.full((1, 2), 1e-7, np.float32),
        "floor/0/y": np.full((1, 2), 5e-8, np.float32),
    }


def waiting(against: str) -> tuple[Pending, ...]:
    """What a pending record says."""
    return (Pending(against, Verdict.CHANGED, 25.0, ("weights: w2",), ("onnxruntime 1.22.0 -> 1.23.0",)),)
