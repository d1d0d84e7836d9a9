"""Fixtures for the referee's tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from onnxeq.referee.executor import Executor

SLACK = 64
"""float32 rounding steps allowed, relative to the largest element: onnxruntime computes in float32."""


def _model(
    op: str, opset: int, inputs: tuple[Any, ...], attributes: Mapping[str, Any], outputs: int, domain: str
) -> onnx.ModelProto:
    names = [f"x{i}" if value is not None else "" for i, value in enumerate(inputs)]
    results = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, names, results, domain=domain, **attributes)
    infos = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for n, v in zip(names, inputs, strict=True)
        if n
    ]
    graph = helper.make_graph([node], "case", infos, [onnx.ValueInfoProto(name=n) for n in results])
    imports = [helper.make_opsetid(domain, opset)]
    if domain:
        imports.append(helper.make_opsetid("", 17))
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def _witness(model: onnx.ModelProto, feed: dict[str, Any]) -> list[Any]:
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        if "NOT_IMPLEMENTED" in str(error) or "NotImplemented" in type(error).__name__:
            pytest.skip("onnxruntime has no kernel for this form")
        raise
    return list(session.run(None, feed))


def _compare(name: str, have: Any, want: Any) -> None:
    assert have.shape == want.shape, f"{name}: shape {have.shape} for {want.shape}"
    if want.dtype.kind != "f":
        assert have.dtype == want.dtype, f"{name}: {have.dtype} for {want.dtype}"
        np.testing.assert_array_equal(have, want)
        return
    finite = np.isfinite(want)
    np.testing.assert_array_equal(have[~finite], want[~finite])
    if finite.any():
        step = max(float(np.finfo(want.dtype).eps), 2.0**-23)
        allowed = SLACK * step * max(float(np.abs(want[finite]).max()), 1e-30)
        error = float(np.abs(have[finite] - want[finite]).max())
        assert error <= allowed, f"{name}: off by {error:.3g}, {allowed:.3g} allowed"


@pytest.fixture
def against_onnxruntime() -> Callable[..., None]:
    """Runs a one-node model in the referee and in onnxruntime CPU and compares the outputs.

    Integers and booleans must be equal, floats within float32's noise.
    """

    def check(
        op: str,
        opset: int,
        inputs: tuple[Any, ...],
        attributes: Mapping[str, Any] | None = None,
        outputs: int = 1,
        domain: str = "",
    ) -> None:
        model = _model(op, opset, inputs, attributes or {}, outputs, domain)
        feed = {f"x{i}": v for i, v in enumerate(inputs) if v is not None}
        expected = _witness(model, feed)
        got = Executor(model).run(feed)
        for (name, have), want in zip(got.items(), expected, strict=True):
            _compare(name, have, want)

    return check


@pytest.fixture
def run_node() -> Callable[..., list[Any]]:
    """Runs a one-node model in the referee and gives its outputs in order."""

    def run(
        op: str,
        opset: int,
        inputs: tuple[Any, ...],
        attributes: Mapping[str, Any] | None = None,
        outputs: int = 1,
        domain: str = "",
    ) -> list[Any]:
        model = _model(op, opset, inputs, attributes or {}, outputs, domain)
        feed = {f"x{i}": v for i, v in enumerate(inputs) if v is not None}
        return list(Executor(model).run(feed).values())

    return run
