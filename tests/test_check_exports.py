"""The order of our own exports: the unfolded form first, so that the referee runs while the exporter goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from onnxeq.evidence import framework
from onnxeq.sides import Request
from onnxeq.types import Export, ExportForm, TensorSpec


class _Exporter:
    """A native side whose deployed form may come out with a fixed batch; notes what is asked for, in order."""

    def __init__(self, *, deployed_is_dynamic: bool) -> None:
        self.asked: list[str] = []
        self._deployed = _export(ExportForm.DEPLOYED, dynamic=deployed_is_dynamic)

    def prepare(self, *, forms: Sequence[ExportForm], dynamic_batch: bool | None = None) -> Any:
        self.asked.append(f"prepare {forms[0].value}, dynamic {dynamic_batch}")
        dynamic = dynamic_batch is not False

        def exported(later: Sequence[ExportForm], _opset: int | None) -> tuple[Export, ...]:
            self.asked.append(f"export {later[0].value}")
            return (self._deployed,)

        return SimpleNamespace(
            feeds=Path("feeds" if dynamic else "feeds of one"),
            inputs=(TensorSpec("x", "float32", ("N", 3)),),
            export=lambda form: _export(form, dynamic=True),
            exported=exported,
        )

    def run_unfolded(self, _jobs: Any, export: Export, feeds: Path, inputs: Sequence[str], _seed: int) -> Any:
        self.asked.append(f"run {export.form.value} on {feeds}")
        return dict(zip(inputs, export.input_names, strict=True))


def _export(form: ExportForm, *, dynamic: bool) -> Export:
    return Export(Path(f"{form.value}.onnx"), form, dynamic, (f"{form.value}_x",), (f"{form.value}_y",), ())


@pytest.mark.parametrize("dynamic", [True, False])
def test_the_unfolded_form_is_run_while_the_deployed_one_is_made(
    monkeypatch: pytest.MonkeyPatch, dynamic: bool
) -> None:
    """The referee is started before the deployed form is asked for; where that form takes one batch size only, what
    was begun is begun again with feeds that suit both.
    """
    exporter = _Exporter(deployed_is_dynamic=dynamic)
    monkeypatch.setattr(framework, "start_unfolded", exporter.run_unfolded)
    monkeypatch.setattr(framework.sides, "open_artifact", lambda path, _root: path)
    native, judged = framework._own_export(exporter.prepare, SimpleNamespace(root=Path()), replace(Request(), seed=3))
    begun = ["prepare unfolded, dynamic None", "run unfolded on feeds", "export deployed"]
    again = ["prepare unfolded, dynamic False", "run unfolded on feeds of one"]
    assert exporter.asked == begun + ([] if dynamic else again)
    assert native.feeds == Path("feeds" if dynamic else "feeds of one")
    assert judged.names == {"x": "deployed_x"}
    assert (judged.unfolded, judged.ahead) == (Path("unfolded.onnx"), {"x": "unfolded_x"})
    assert judged.pair([{"logits": np.zeros(1)}], SimpleNamespace())[:2] == (
        {"deployed_y": "logits"},
        {"unfolded_y": "logits"},
    )
