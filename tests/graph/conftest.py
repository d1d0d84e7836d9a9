"""Tiny models from text, and the two witnesses of every pass: the float64 referee and onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from onnxeq.graph.normalize import NormalizeResult, normalize
from onnxeq.referee.executor import Executor

Build = Callable[..., onnx.ModelProto]
Same = Callable[..., NormalizeResult]


@pytest.fixture
def build() -> Build:
    """``build("g (float[N,2] x) => (float[N,2] y) { y = Add(x, c) }", c=array)``: a checked model."""

    def make(graph: str, *, opset: int = 17, ir: int = 9, **constants: Any) -> onnx.ModelProto:
        header = f'<ir_version: {ir}, opset_import: ["": {opset}]> '
        model = onnx.parser.parse_model(header + graph)
        model.graph.initializer.extend(
            onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()
        )
        onnx.checker.check_model(model)
        return model

    return make


def _feed(model: onnx.ModelProto, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    feed = {}
    for spec in Executor(model).inputs:
        shape = [dim if isinstance(dim, int) else 2 for dim in spec.shape or ()]
        values = np.asarray(rng.standard_normal(shape)) * (5 if "int" in spec.dtype else 1)
        feed[spec.name] = np.asarray(values > 0 if spec.dtype == "bool" else values, dtype=spec.dtype)
    return feed


def _plain(model: onnx.ModelProto, feed: dict[str, Any]) -> list[Any]:
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feed))


def _near(got: Any, want: Any, relative: float) -> None:
    got, want = np.asarray(got, dtype=np.float64), np.asarray(want, dtype=np.float64)
    assert got.shape == want.shape
    largest = float(np.abs(want[np.isfinite(want)]).max(initial=0.0))
    np.testing.assert_allclose(got, want, rtol=0, atol=relative * largest + 1e-300, equal_nan=True)


@pytest.fixture
def same() -> Same:
    """Normalises and proves that the result computes the same, and that a second time changes nothing.

    float64: ``relative`` times the largest output; a pass that rounds no constant gets 1e-13, summation
    order. One that rounds constants once to float32 gets 2^-21: eight times the half ulp that each of its
    terms may be off. float32 in onnxruntime: 2^-18, the same with accumulation.
    """

    def prove(
        model: onnx.ModelProto, *, relative: float = 1e-13, runtime: bool = True, **options: Any
    ) -> NormalizeResult:
        result = normalize(model, **options)
        again = normalize(result.model, **options)
        assert again.model.graph == result.model.graph
        assert list(model.graph.input) == list(result.model.graph.input)
        assert list(model.graph.output) == list(result.model.graph.output)
        for seed in (0, 1):
            feed = _feed(model, seed)
            before, after = Executor(model).run(feed), Executor(result.model).run(feed)
            assert list(before) == list(after)
            for name in before:
                _near(after[name], before[name], relative)
            if runtime:
                for got, want in zip(_plain(result.model, feed), _plain(model, feed), strict=True):
                    assert got.dtype == want.dtype
                    _near(got, want, max(2.0**-18, relative))
        return result

    return prove


@pytest.fixture
def ops() -> Callable[[Any], list[str]]:
    """The operators of a result, in order."""
    return lambda result: [node.op_type for node in getattr(result, "model", result).graph.node]


@pytest.fixture
def stored() -> Callable[[Any], dict[str, Any]]:
    """The initializers of a result by name."""
    return lambda result: {
        t.name: onnx.numpy_helper.to_array(t) for t in getattr(result, "model", result).graph.initializer
    }
