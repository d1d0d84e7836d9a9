"""The native-rounding rung: what in the framework itself makes its float32 run differ from its float64 run.

A shortcut that the framework takes in inference mode is tried first. Then every operator of the float32 run is judged
alone, on its own float32 inputs: a kernel that rounds badly is one whose own error is too large, whatever its inputs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from onnxeq import ladder
from onnxeq.attribution import runtime
from onnxeq.errors import OnnxeqError
from onnxeq.evidence import Evidence
from onnxeq.jobs import Jobs
from onnxeq.ladder import RungPlan, Units
from onnxeq.noise import AMPLITUDE
from onnxeq.protocols import KernelError
from onnxeq.types import Cause, Status, Where

__all__ = ["locate"]

_MOST = 4
"""Operators that one broken rung is split into."""

_COMPARABLE = 0.01
"""Of the worst kernel's ratio, from which on another one is a cause of its own and not its aftermath."""


def locate(jobs: Jobs, found: Evidence, cause: Cause, units: Units) -> tuple[Cause, ...]:
    """The cause, with the framework's shortcut named if the error goes away without it, else with its kernels.

    An ONNX file that is the source was run by the runtime.
    """
    if found.shortcut:
        plain = RungPlan("native-rounding", "native/f64", "native/f32 plain")
        (without,) = ladder.climb([plain], found.executions, units, ladder.Rules())
        if without.status is Status.PASS:
            said = f"it is {found.shortcut}: without it the native float32 run agrees ({without.max_abs:.2g})"
            return (replace(cause, evidence=f"{cause.evidence}; {said}"),)
    if found.native is None:
        return runtime.locate_source(jobs, found, cause)
    try:
        judged = found.native.kernels()
    except OnnxeqError as error:
        return (replace(cause, evidence=f"{cause.evidence}; its kernels could not be judged: {error.line()}"),)
    groups = _bad(judged)
    return tuple(_cause(cause, group, len(judged)) for group in groups) if groups else (cause,)


def _bad(judged: Sequence[KernelError]) -> list[list[KernelError]]:
    """The kernels that rounding does not explain, those of one layer together, worst layer first.

    In a layer the operator that computes comes first, and the casts around it after it.
    """
    worst: dict[tuple[str, str], KernelError] = {}
    for kernel in judged:
        key = (kernel.native, kernel.op)
        if kernel.ratio > AMPLITUDE and (key not in worst or kernel.ratio > worst[key].ratio):
            worst[key] = kernel
    layers: dict[str, list[KernelError]] = {}
    for kernel in sorted(worst.values(), key=lambda k: (_is_cast(k), -k.ratio)):
        layers.setdefault(kernel.native, []).append(kernel)
    found = sorted(layers.values(), key=lambda group: -max(k.ratio for k in group))
    largest = max((k.ratio for group in found for k in group), default=0.0)
    near = [g for g in found if math.isinf(largest) or max(k.ratio for k in g) >= _COMPARABLE * largest]
    return near[:_MOST]


def _is_cast(kernel: KernelError) -> bool:
    return "_to_copy" in kernel.op or kernel.op == "Cast"


def _cause(cause: Cause, group: Sequence[KernelError], count: int) -> Cause:
    kernel = group[0]
    place = f" of {kernel.native}" if kernel.native else " of the model's own code"
    source = f" ({kernel.source})" if kernel.source else ""
    others = f"; in the same layer {', '.join(k.op for k in group[1:])}" if len(group) > 1 else ""
    said = (
        f"the kernel of {kernel.op}{place}{source} is {kernel.max_abs:.3g} away from float64 arithmetic on its own"
        f" inputs, {kernel.ratio:.3g}x what rounding does there ({AMPLITUDE:g}x allowed; {count} operators judged)"
    )
    where = Where(op_type=kernel.op, value=cause.where.value, native=kernel.native)
    return replace(cause, where=where, evidence=f"{cause.evidence}; {said}{others}")
