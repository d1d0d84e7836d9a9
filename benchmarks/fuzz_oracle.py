"""Whether a mutated ONNX file still computes what the original does, decided without onnxeq.

``python fuzz_oracle.py`` is a process of its own, since onnxruntime may die of a mutant: each line on its standard
input is a JSON list of two paths, each line on its standard output one of :class:`Truth`'s values.
"""

from __future__ import annotations

import enum
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx

__all__ = ["Truth", "canonical", "decide", "differs"]

BEYOND_ROUNDING = 1e-3
"""Share of an output's largest value by which two runs of one float32 program on one machine never differ."""

INPUTS = 4


class Truth(enum.Enum):
    """What is known of a mutant."""

    SAME = "same"
    """Names, documentation and metadata apart, the files say the same."""
    UNREADABLE = "unreadable"
    """It is no model any more."""
    REFUSED = "refused"
    """onnxruntime does not run it, or dies of it."""
    CHANGED = "changed"
    """Its outputs differ beyond rounding, in number, shape, type or value."""
    UNDECIDED = "undecided"
    """It differs, and no input that was tried shows it beyond rounding."""


def canonical(model: onnx.ModelProto) -> bytes:
    """The model's bytes without what computes nothing: names of nodes and graphs, documentation, metadata, producer."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.DiscardUnknownFields()
    for field in ("producer_name", "producer_version", "model_version", "domain", "doc_string", "metadata_props"):
        copy.ClearField(field)
    for graph in _graphs(copy.graph):
        for field in ("name", "doc_string", "metadata_props", "value_info", "quantization_annotation"):
            graph.ClearField(field)
        for node in graph.node:
            for field in ("name", "doc_string", "metadata_props"):
                node.ClearField(field)
            for attribute in node.attribute:
                attribute.ClearField("doc_string")
                attribute.t.ClearField("doc_string") if attribute.HasField("t") else None
                attribute.t.ClearField("name") if attribute.HasField("t") else None
        for value in (*graph.input, *graph.output, *graph.initializer):
            value.ClearField("doc_string")
    return bytes(copy.SerializeToString(deterministic=True))


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _graphs(inner)


def differs(first: list[Any], second: list[Any]) -> bool:
    """Whether two runs' outputs differ beyond rounding."""
    if len(first) != len(second):
        return True
    for a, b in zip(first, second, strict=True):
        if isinstance(a, list) or isinstance(b, list):
            if type(a) is not type(b) or differs(list(a or ()), list(b or ())):
                return True
            continue
        a, b = np.asarray(a), np.asarray(b)
        if a.shape != b.shape or a.dtype != b.dtype:
            return True
        if a.dtype.kind not in "fc":
            if not np.array_equal(a, b):
                return True
            continue
        if not np.array_equal(np.isfinite(a), np.isfinite(b)):
            return True
        finite = np.isfinite(a)
        scale = float(np.max(np.abs(a[finite]), initial=0.0))
        if float(np.max(np.abs(a[finite] - b[finite]), initial=0.0)) > BEYOND_ROUNDING * scale:
            return True
    return False


def _feeds(session: Any) -> list[dict[str, Any]]:
    """Random inputs of several magnitudes, and whole numbers of a small range."""
    feeds = []
    for index in range(INPUTS):
        rng = np.random.default_rng(index)
        feed = {}
        for given in session.get_inputs():
            shape = [size if isinstance(size, int) else 2 for size in given.shape]
            kind = given.type.removeprefix("tensor(").removesuffix(")")
            if kind in ("float", "double", "float16"):
                dtype = {"float": np.float32, "double": np.float64, "float16": np.float16}[kind]
                feed[given.name] = (rng.standard_normal(shape) * 10.0 ** (index - 1)).astype(dtype)
            elif kind == "bool":
                feed[given.name] = rng.integers(0, 2, shape).astype(bool)
            elif kind == "string":
                feed[given.name] = np.full(shape, "a", dtype=object)
            else:
                feed[given.name] = rng.integers(0, 3, shape).astype(kind)
        feeds.append(feed)
    return feeds


def _session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _runs(path: Path) -> bool:
    try:
        session = _session(path)
        return all(bool(session.run(None, feed)) for feed in _feeds(session))
    except Exception:  # onnxruntime's exceptions share no base class
        return False


def decide(original: Path, mutant: Path) -> Truth:
    """What is known of ``mutant``; of a model as its own mutant, whether it runs (``SAME``) or not (``REFUSED``)."""
    try:
        model = onnx.ModelProto.FromString(mutant.read_bytes())
    except Exception:  # the parser's own kinds
        return Truth.UNREADABLE
    if not model.HasField("graph") or not model.graph.output:
        return Truth.UNREADABLE
    if original == mutant:
        return Truth.SAME if _runs(original) else Truth.REFUSED
    if canonical(model) == canonical(onnx.ModelProto.FromString(original.read_bytes())):
        return Truth.SAME
    ours = _session(original)
    try:
        theirs = _session(mutant)
        if [o.name for o in ours.get_outputs()] != [o.name for o in theirs.get_outputs()]:
            return Truth.UNDECIDED  # another name is no other computation
        renamed = dict(zip([i.name for i in ours.get_inputs()], [i.name for i in theirs.get_inputs()], strict=True))
        for feed in _feeds(ours):
            found = theirs.run(None, {renamed[name]: value for name, value in feed.items()})
            if differs(ours.run(None, feed), found):
                return Truth.CHANGED
    except Exception:  # onnxruntime's exceptions share no base class
        return Truth.REFUSED
    return Truth.UNDECIDED


def _serve() -> None:
    # onnxruntime prints, too: answers alone go where they are expected.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        original, mutant = json.loads(line)
        try:
            truth = decide(Path(original), Path(mutant))
        except Exception:  # the original itself cannot be run on these inputs: nothing is known
            truth = Truth.UNDECIDED
        print(truth.value, file=answers, flush=True)


if __name__ == "__main__":
    _serve()
