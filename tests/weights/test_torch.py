"""Ledgers of what torch's exporters write."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxeq
from onnxeq.types import CauseKind, Status, Verdict
from onnxeq.weights import Relation, match

pytestmark = pytest.mark.torch


def _module() -> Any:
    import torch
    from torch import nn

    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8, eps=1e-3),
        nn.Flatten(2), nn.GRU(16, 6, batch_first=True, bidirectional=True),
    )  # fmt: skip
    for layer in net:
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_var, 0.2, 3)
            nn.init.normal_(layer.running_mean)
            nn.init.normal_(layer.weight)
    return net.eval()


def _exported(module: Any) -> onnx.ModelProto:
    """By the TorchScript exporter, whose folded constants have numbers for names."""
    import torch

    file = io.BytesIO()
    torch.onnx.export(module, (torch.zeros(1, 3, 8, 8),), file, dynamo=False, opset_version=17)
    return onnx.load_from_string(file.getvalue())


@pytest.mark.filterwarnings("ignore")
def test_the_torchscript_exporter_is_accounted_for() -> None:
    """Folded convolutions and packed gates: every tensor of the state dict has its place, no constant is left over."""
    module = _module()
    native = {k: v.numpy() for k, v in module.state_dict().items()}
    artifact = _exported(module)
    found = match(native, artifact)
    assert [e.evidence for e in found.faults] == []
    assert found.natives_accounted == found.natives_total == len(native)
    assert found.initializers_accounted == found.initializers_total
    assert sum(e.relation is Relation.FOLDED for e in found.entries) == 4
    assert sum(e.relation is Relation.CONCATENATED for e in found.entries) == 3


@pytest.mark.filterwarnings("ignore")
def test_gates_in_torchs_order_are_a_near_miss() -> None:
    """``r, z, n`` where ONNX wants ``z, r, h``: the order is named."""
    module = _module()
    artifact = _exported(module)
    (tensor,) = [t for t in artifact.graph.initializer if list(t.dims) == [2, 18, 16]]
    held = numpy_helper.to_array(tensor).reshape(2, 3, 6, 16)[:, [1, 0, 2]].reshape(2, 18, 16)
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(held), tensor.name))
    (fault,) = match({k: v.numpy() for k, v in module.state_dict().items()}, artifact).faults
    assert "gates in the wrong order" in fault.evidence
    assert "(1, 0, 2)" in fault.evidence


@pytest.mark.filterwarnings("ignore")
def test_a_nameless_destroyed_weight_is_found_through_the_unfolded_export(tmp_path: Path) -> None:
    """Both convolutions' constants have no names and one is flipped: check asks the exporter what belongs there."""
    import torch
    from torch import nn

    torch.manual_seed(1)
    module = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Tanh(), nn.Conv2d(4, 4, 3), nn.Tanh(), nn.Conv2d(4, 4, 3)).eval()
    file = io.BytesIO()
    torch.onnx.export(module, (torch.zeros(1, 4, 9, 9),), file, dynamo=False, opset_version=17)
    artifact = onnx.load_from_string(file.getvalue())
    weights = [t for t in artifact.graph.initializer if len(t.dims) == 4]
    first, second = (numpy_helper.to_array(t).copy() for t in weights[:2])
    weights[0].CopyFrom(numpy_helper.from_array(second, weights[0].name))
    weights[1].CopyFrom(numpy_helper.from_array(first, weights[1].name))
    names = {t.name: f"t{i}" for i, t in enumerate(artifact.graph.initializer)}
    for tensor in artifact.graph.initializer:
        tensor.name = names[tensor.name]
    for node in artifact.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = names.get(name, name)
    report = onnxeq.check(module, artifact)
    assert report.verdict is Verdict.DIVERGENT
    assert {c.cause for c in report.causes} == {CauseKind.WEIGHTS}
    assert {c.where.native for c in report.causes if c.rung == "ledger"} >= {"0.weight", "2.weight"}
    assert next(r.status for r in report.rungs if r.name == "graph") is Status.PASS
