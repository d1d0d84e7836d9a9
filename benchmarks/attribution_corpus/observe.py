"""onnxruntime as the builder's witness: every value of a graph, and whether a change can be seen in its outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from onnx import helper

from .bases import Built, feeds
from .edit import Array
from .faults import Subject

__all__ = ["Effect", "effect", "outputs", "relative", "subject", "tremor"]

onnxruntime.set_default_logger_severity(4)


def _session(model: onnx.ModelProto, *, optimize: bool) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def outputs(
    model: onnx.ModelProto, given: Sequence[Mapping[str, Array]], *, optimize: bool = False
) -> list[dict[str, Array]]:
    """The outputs for every feed, by name, without optimisations unless asked.

    Raises:
        Exception: Whatever onnxruntime raises.
    """
    session = _session(model, optimize=optimize)
    names = [o.name for o in session.get_outputs()]
    wanted = {i.name for i in session.get_inputs()}
    return [
        dict(zip(names, session.run(None, {k: v for k, v in feed.items() if k in wanted}), strict=True))
        for feed in given
    ]


def subject(found: Built, state: Mapping[str, Array]) -> Subject:
    """An artifact with all of its values for one feed of two samples."""
    model = found.model()
    feed = feeds(model, 2, words=found.base.words or 61)[1]
    shown = onnx.ModelProto.FromString(model.SerializeToString())
    there = {o.name for o in shown.graph.output}
    for made in shown.graph.node:
        for name in made.output:
            if name and name not in there:
                shown.graph.output.append(helper.make_empty_tensor_value_info(name))
    try:
        (values,) = outputs(shown, [feed])
    except Exception:  # a value that cannot be an output (a sequence): shown one by one
        values = _one_by_one(model, feed)
    arrays = {k: v for k, v in values.items() if isinstance(v, np.ndarray)}
    return Subject(model, {**feed, **arrays}, state, found.base.framework != "file")


def _one_by_one(model: onnx.ModelProto, feed: Mapping[str, Array]) -> dict[str, Array]:
    values: dict[str, Array] = {}
    sequences = ("SplitToSequence", "SequenceConstruct", "SequenceInsert", "Loop", "If")
    names = [o for n in model.graph.node if n.op_type not in sequences for o in n.output if o]
    shown = onnx.ModelProto.FromString(model.SerializeToString())
    there = {o.name for o in shown.graph.output}
    shown.graph.output.extend(helper.make_empty_tensor_value_info(n) for n in names if n not in there)
    values.update(outputs(shown, [feed])[0])
    return values


@dataclass(frozen=True)
class Effect:
    """What a change does to the outputs.

    Attributes:
        loads: Whether onnxruntime takes the file at all.
        fails: Whether it then fails on an input that the healthy file takes, or gives other names, types or shapes.
        same: Whether all outputs have the same bits.
        relative: Largest difference by the largest output, where both are finite; infinite where one is not.
    """

    loads: bool
    fails: bool
    same: bool
    relative: float


def effect(
    healthy: Sequence[Mapping[str, Array]], model: onnx.ModelProto, given: Sequence[Mapping[str, Array]]
) -> Effect:
    """Runs the changed model on the inputs of the healthy one."""
    try:
        _session(model, optimize=False)
        _session(model, optimize=True)
    except Exception:  # onnxruntime has no narrower class for an invalid graph
        return Effect(loads=False, fails=True, same=False, relative=np.inf)
    try:
        found = outputs(model, given)
    except Exception:  # the same
        return Effect(loads=True, fails=True, same=False, relative=np.inf)
    pairs = [(h, f.get(k)) for hs, f in zip(healthy, found, strict=True) for k, h in hs.items()]
    if any(b is None or a.shape != b.shape or a.dtype != b.dtype for a, b in pairs) or len(found[0]) != len(healthy[0]):
        return Effect(loads=True, fails=True, same=False, relative=np.inf)
    same = all(a.tobytes() == b.tobytes() for a, b in pairs if b is not None)
    swapped = [list(h) for h in healthy] != [list(f) for f in found]
    return Effect(True, swapped, same and not swapped, max(relative(a, b) for a, b in pairs if b is not None))


def relative(a: Array, b: Array) -> float:
    """Largest difference by the largest of the first; infinite where one of the two has a number that is none."""
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("inf")
    x, y = a.astype(np.float64), b.astype(np.float64)
    return float(np.abs(x - y).max(initial=0) / max(np.abs(x).max(initial=0), 1e-30))


def tremor(model: onnx.ModelProto, given: Sequence[Mapping[str, Array]]) -> float:
    """The relative difference that onnxruntime's own optimisations make: what is much larger is no rounding."""
    plain, fast = outputs(model, given), outputs(model, given, optimize=True)
    return max(relative(a[k], b[k]) for a, b in zip(plain, fast, strict=True) for k in a)
