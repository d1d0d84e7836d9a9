"""What must hold before numbers are compared: which output is which, its type and shape, and that it says something."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from onnxeq.arrays import dtype_name
from onnxeq.errors import BadInputs
from onnxeq.types import Array, Feed, Rung, Status, TensorSpec

__all__ = ["check_interface", "dead_outputs", "pair_inputs", "pair_outputs"]


def pair_inputs(source: Sequence[TensorSpec], target: Sequence[TensorSpec]) -> dict[str, str]:
    """Source input name -> target input name: by name where the names agree, else by position.

    Raises:
        BadInputs: The target takes inputs that the source does not have.
    """
    ours, theirs = [s.name for s in source], [t.name for t in target]
    if set(theirs) <= set(ours):
        return {name: name for name in theirs}
    if len(ours) != len(theirs):
        raise BadInputs(
            f"the artifact takes {len(theirs)} inputs ({', '.join(theirs)}), "
            f"the source {len(ours)} ({', '.join(ours)})",
            hint="give both the same inputs, or export the artifact again",
        )
    return dict(zip(ours, theirs, strict=True))


def pair_outputs(source: Sequence[str], target: Sequence[str]) -> dict[str, str]:
    """Target output name -> source output name: by name where all names agree, else by position.

    Position is part of a framework's contract (``model(x)[0]``), so values are not asked.
    """
    if set(source) == set(target):
        return {name: name for name in target}
    return dict(zip(target, source, strict=False))


def check_interface(
    source_name: str,
    target_name: str,
    source: Feed,
    target: Feed,
    inputs: Sequence[tuple[TensorSpec, TensorSpec]],
) -> Rung:
    """Attributes first: number of outputs, their types and shapes, NaN on both sides; the first that is wrong.

    Args:
        source_name: Execution that is taken as given.
        target_name: Execution that is judged.
        source: Outputs of one feed.
        target: Outputs of the same feed; those that pair with a source output carry its name.
        inputs: Paired inputs of both sides.
    """
    problems = [*_counts(source, target), *_inputs(inputs)]
    output = ""
    for name, a in source.items():
        if name in target:
            found = _tensor(name, a, target[name])
            output = output or (name if found else "")
            problems += found
    status = Status.FAIL if problems else Status.PASS
    ratio = math.inf if problems else 0.0
    return Rung(
        "interface",
        source_name,
        target_name,
        math.nan,
        math.nan,
        ratio,
        0.0,
        status,
        "; ".join(problems),
        output,
    )


def _counts(source: Feed, target: Feed) -> list[str]:
    problems = []
    if absent := [n for n in source if n not in target]:
        problems.append(f"{len(absent)} of {len(source)} outputs missing in the artifact: {', '.join(absent)}")
    if extra := [n for n in target if n not in source]:
        problems.append(f"the artifact has {len(extra)} outputs that the source has not: {', '.join(extra)}")
    return problems


def _inputs(pairs: Sequence[tuple[TensorSpec, TensorSpec]]) -> list[str]:
    return [
        f"input '{ours.name}' is {ours.dtype} in the source and {theirs.dtype} in the artifact"
        for ours, theirs in pairs
        if ours.dtype != theirs.dtype
    ]


def _tensor(name: str, a: Array, b: Array) -> list[str]:
    problems = []
    if dtype_name(a) != dtype_name(b):
        problems.append(f"output '{name}' is {dtype_name(a)} in the source and {dtype_name(b)} in the artifact")
    if a.shape != b.shape:
        problems.append(f"output '{name}' has shape {list(a.shape)} in the source and {list(b.shape)} in the artifact")
    if a.dtype.kind in "fV" and b.dtype.kind in "fV" and a.shape == b.shape:
        both = np.isnan(a.astype(np.float64)) & np.isnan(b.astype(np.float64))
        if both.any():
            problems.append(
                f"output '{name}' is NaN on both sides at {int(both.sum())} of {both.size} elements, "
                "which proves nothing about them"
            )
    return problems


def dead_outputs(trace: Sequence[Feed], unit: Sequence[Feed], live: Sequence[str]) -> list[str]:
    """Float outputs that should depend on the inputs and did not vary over any two of the samples tried.

    Args:
        trace: A float64 trace of two samples or more.
        unit: Rounding noise of the same outputs: a variation within it is none.
        live: Outputs that a path connects with an input; others may well be constant.
    """
    dead = []
    for name, first in trace[0].items():
        if name not in live or first.dtype.kind != "f" or first.size == 0:
            continue
        rows = [row for feed in trace for row in _rows(feed[name], first)]
        noise = max(float(np.max(feed[name])) for feed in unit if feed[name].size) if unit else 0.0
        if len(rows) < 2 or np.isnan(first).all():  # NaN is reported as what it is
            continue
        with np.errstate(invalid="ignore"):
            spread = max(float(np.nanmax(np.abs(row - rows[0]), initial=0.0)) for row in rows[1:])
        scale = float(np.nanmax(np.abs(first), initial=0.0))
        if spread <= max(8 * noise if math.isfinite(noise) else 0.0, 2.0**-50 * scale):
            dead.append(name)
    return dead


def _rows(value: Array, first: Array) -> list[Array]:
    """A batch's samples; the whole tensor where the first axis is no batch axis."""
    if value.ndim and value.shape[1:] == first.shape[1:] and value.shape[0] <= 64:
        return [value[i] for i in range(value.shape[0])]
    return [value] if value.shape == first.shape else []
