"""Reports with layers, made from a few words."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from onnxeq.types import (
    Cause,
    CauseKind,
    Coverage,
    Layer,
    LayerError,
    OutputSummary,
    PairedBy,
    Report,
    Role,
    Rung,
    Status,
    Verdict,
    Where,
)

MakeLayer = Callable[..., Layer]
MakeReport = Callable[..., Report]


def _layer(index: int, role: Role = Role.QUIET, *, propagated: float = 1.0, local: float = 0.5, **more: Any) -> Layer:
    facts: dict[str, Any] = {
        "node": f"/layer{index}/Conv", "op_type": "Conv", "value": f"v{index}", "native": f"layer{index}.conv",
        "source_value": f"s{index}", "region": (), "paired_by": PairedBy.STRUCTURE, "confidence": 1.0,
        "dtype": "float32", "shape": (1, 8), "source_ratio": 0.5, "target_ratio": local, "condition": math.nan,
    }  # fmt: skip
    errors = [LayerError(max_abs=ratio * 1e-6, noise=1e-6, ratio=ratio) for ratio in (propagated, local)]
    return Layer(index=index, role=role, propagated=errors[0], local=errors[1], **{**facts, **more})


def _report(layers: Sequence[Layer], **more: Any) -> Report:
    bad = [x for x in layers if x.role is Role.CREATES]
    ratio = max((x.local.ratio for x in bad), default=1.0)
    facts: dict[str, Any] = {
        "verdict": Verdict.DIVERGENT if bad else Verdict.EQUIVALENT,
        "source": {"ref": "net.py:build", "kind": "factory"}, "target": {"ref": "net.onnx", "nodes": len(layers)},
        "environment": {},
        "causes": tuple(
            Cause(CauseKind.RUNTIME, "kernels", x.local.ratio, Where(node=x.node), f"the kernel of {x.node} is wrong")
            for x in bad
        ),
        "rungs": (
            Rung("kernels", "native/f32", "ort/cpu", 1e-3, 1e-6, ratio, 6.0, Status.FAIL if bad else Status.PASS),
        ),
        "outputs": (OutputSummary("logits", "float32", (1, 10), 1e-3, 1e-3, 1.0, 60.0, 1.0),),
        "coverage": Coverage(1, 1, 2, len(layers), len(layers), 4, 4),
    }  # fmt: skip
    return Report(layers=tuple(layers), **{**facts, **more})


@pytest.fixture
def layer() -> MakeLayer:
    """Makes a layer at an index, with a role and its propagated and local ratio; more by the names of its fields."""
    return _layer


@pytest.fixture
def report() -> MakeReport:
    """Makes a report of layers, divergent where one of them creates error; more by the names of its fields."""
    return _report
