"""Recorded under one version of a framework, checked under another, in two environments."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from onnxeq.envs import Environment
from onnxeq.golden import check, record, store
from onnxeq.golden.findings import CauseKind
from onnxeq.golden.values import Role, Verdict

from ..numpy_framework import install


@pytest.fixture(scope="module")
def second(tiny_env: Environment) -> Iterator[Environment]:
    """An environment with version 2 of the framework."""
    placed = install(tiny_env.folder / tiny_env.packages[0], 2)
    yield tiny_env
    for path in placed:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.fixture(autouse=True)
def _first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Version 1 where the tests run."""
    folder = tmp_path / "installed"
    folder.mkdir()
    install(folder, 1)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))


def test_another_version_of_the_framework(second: Environment, tmp_path: Path) -> None:
    """Four models that version 2 runs as before, in float16, with other weights, and not at all.

    Each is told by its own cause.
    """
    folder = tmp_path / "golden"
    names = ("same", "half", "drawn", "gone")
    for name in names:
        golden = record(f"numfw:{name}", name, folder=folder, batches=(1,))
        assert [e.role for e in golden.executions] == [Role.NATIVE, Role.RUNTIME, Role.REFEREE]
        assert len(golden.agreement) == 3
    assert all(o.verdict is Verdict.UNCHANGED for o in check(folder=folder).outcomes)
    checked = check(folder=folder, env=second.name)
    found = {o.name: o for o in checked.outcomes}
    assert found["same"].verdict is Verdict.UNCHANGED
    assert [c.text() for c in found["same"].changes] == ["framework numfw 1 -> numfw 2"]
    for name, kind, says in (
        ("half", CauseKind.FRAMEWORK, "framework numfw 1 -> numfw 2"),
        ("drawn", CauseKind.WEIGHTS, "2 of 2 weights changed: 'w1' float32[64,32]"),
    ):
        assert found[name].verdict is Verdict.CHANGED, name
        assert [(c.kind, c.proven) for c in found[name].causes] == [(kind, True)], found[name].causes
        assert says in found[name].causes[0].evidence
    assert found["gone"].verdict is Verdict.NOT_RUN
    assert "numfw 2 lacks the operator" in found["gone"].notes[0]
    assert checked.exit_status == 1
    assert store.pending_names(folder) == ["drawn", "half"]
