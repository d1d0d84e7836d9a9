"""A framework's model: its own run and the runtime's are goldens beside the referee's, and exporters are told apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from onnxeq.golden import check, record
from onnxeq.golden.findings import CauseKind
from onnxeq.golden.values import Role, Verdict

pytestmark = pytest.mark.torch

SOURCE = """
import torch

def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.BatchNorm2d(8), torch.nn.GELU(), torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(), torch.nn.Linear(8, 10),
    ).eval()
"""


def test_exporter_and_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recorded with the older exporter, checked with the newer: within the error bar, and that is what is named.

    Another activation is a change of the program.
    """
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "models.py"
    source.write_text(SOURCE)
    golden = record("models.py:net", "net", shapes={"": (1, 3, 16, 16)}, batches=(1,), exporter="torchscript")
    assert golden.model == "../models.py:net"
    assert [e.role for e in golden.executions] == [Role.NATIVE, Role.RUNTIME, Role.REFEREE]
    assert all(a.ratio < golden.bar.limit for a in golden.agreement)
    (found,) = check(exporter="dynamo").outcomes
    assert found.verdict is Verdict.WITHIN
    assert [c.kind for c in found.causes] == [CauseKind.EXPORTER]
    assert "dynamo=False) -> torch.onnx.export(dynamo=True)" in found.causes[0].evidence
    source.write_text(SOURCE.replace("GELU", "SiLU"))
    (found,) = check(keep_pending=False).outcomes
    assert [(c.kind, c.proven) for c in found.causes] == [(CauseKind.GRAPH, True)]
    assert "with the same weights and the same framework" in found.causes[0].evidence
