"""Graphs built by hand: the patterns that onnxruntime's optimiser rewrites, optimiser off against on."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from onnx import helper, numpy_helper
from operator_cases import Case

from operator_trials.feeds import feed as make_feed
from operator_trials.judge import Native, judge
from operator_trials.results import Result

__all__ = ["build", "try_case", "trying"]

OPSET = 20


def build(case: Case) -> onnx.ModelProto:
    """The model of a case: its expression is nodes in ONNX's text form, its setup the stored tensors.

    The results of the last node are the outputs, as are values whose names begin with ``out``.
    """
    nodes = [onnx.parser.parse_node(line.strip()) for line in case.expression.split(";") if line.strip()]
    first = make_feed(case.feeds[0])
    inputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in first.items()
    ]
    stored = [numpy_helper.from_array(a, n) for n, a in make_feed(case.setup).items()] if case.setup else []
    kept = [name for node in nodes for name in node.output if name.startswith("out")]
    names = dict.fromkeys([*nodes[-1].output, *kept])
    graph = helper.make_graph(nodes, "case", inputs, [onnx.ValueInfoProto(name=n) for n in names], stored)
    imports = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def try_case(case: Case) -> Iterator[Result]:
    """All feeds of a case at once: they have one shape."""
    feeds = [make_feed(text) for text in case.feeds]
    repro = f"{case.expression}  # {' ; '.join(case.feeds)}{' with ' + case.setup if case.setup else ''}"
    base = Result(case.label, "graph", repro)
    with tempfile.TemporaryDirectory() as root:
        path = Path(root) / "case.onnx"
        try:
            onnx.save(build(case), str(path))
            names = {n: n for n in feeds[0]}
            judged = judge(Native((), ()), path, path, feeds, names, {}, Path(root) / "work")
        except Exception as error:  # a case or a program that is wrong is to be seen, and not to stop the others
            yield base.with_(harness_error=" ".join(f"{type(error).__name__}: {error}".split())[:200])
            return
        if any(m.startswith("ort/cpu plain") for m in judged.missing) and not judged.findings:
            base = base.with_(native_error=next(m for m in judged.missing if m.startswith("ort/cpu plain")))
        yield base.with_(findings=tuple(judged.findings), missing=tuple(judged.missing), ratios=judged.ratios)


@contextlib.contextmanager
def trying() -> Iterator[Any]:
    """:func:`try_case`."""
    yield try_case
