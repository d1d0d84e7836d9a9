"""Faults of an exporter itself: which native operator, and what of it was lost."""

from __future__ import annotations

from typing import Any

import pytest

import onnxeq
from onnxeq.attribution.exporter import differences
from onnxeq.types import CauseKind, Verdict


def _row(explicit: dict[str, str], *nodes: tuple[str, dict[str, Any], dict[str, Any]]) -> dict[str, Any]:
    shown = [{"node": "n", "op_type": kind, "attributes": a, "constants": c} for kind, a, c in nodes]
    return {"arguments": explicit, "explicit": list(explicit), "nodes": shown}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (_row({"divisor_override": "3"}, ("AveragePool", {"kernel_shape": [2, 2]}, {})), "divisor_override=3 has no"),
        (_row({"eps": "0.001"}, ("LayerNormalization", {"epsilon": 1e-5}, {})), "eps is 0.001 natively"),
        (_row({"approximate": "'tanh'"}, ("Erf", {}, {})), "approximate='tanh' has no counterpart in Erf"),
        (_row({"alpha": "0.3"}, ("Add", {}, {"c": [0.5]}), ("Elu", {"alpha": 1.0}, {})), "alpha is 0.3 natively"),
    ],
)
def test_what_the_nodes_lack_is_told(row: dict[str, Any], said: str) -> None:
    """A native argument without a counterpart, or with another value, is named with both."""
    (found,) = differences(row)
    assert found.startswith(said)


@pytest.mark.parametrize(
    "row",
    [
        _row({"padding": "[1, 1]"}, ("Conv", {"pads": [1, 1, 1, 1]}, {})),
        _row({"alpha": "0.3"}, ("Mul", {}, {"c": 0.30000001192092896})),
        _row({"dtype": "torch.float32", "keepdim": "True"}, ("ReduceSum", {"keepdims": 1}, {})),
        _row({"size": "[sym_size_int, 4]"}, ("Reshape", {}, {})),
    ],
)
def test_what_has_a_counterpart_is_not(row: dict[str, Any]) -> None:
    """The same number in an attribute or a constant, a float32 image of it, or a computed size is no difference."""
    assert differences(row) == []


@pytest.mark.torch
def test_two_faults_of_an_exporter_are_both_named() -> None:
    """Two pools whose divisor the dynamo exporter drops, with different divisors, are two causes, each at its node."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3),
        torch.nn.AvgPool2d(2, divisor_override=3),
        torch.nn.Tanh(),
        torch.nn.AvgPool2d(2, divisor_override=5),
    )
    report = onnxeq.check(model, shapes={"input": (1, 3, 10, 10)}, batches=(1,))
    assert report.verdict is Verdict.DIVERGENT
    assert {(c.cause, c.where.op_type, c.where.native) for c in report.causes} == {
        (CauseKind.GRAPH, "AveragePool", "1"),
        (CauseKind.GRAPH, "AveragePool", "3"),
    }
    assert all("has no counterpart in AveragePool" in c.evidence for c in report.causes)
