"""The rung ``versions``: one model under two versions of a framework, and what makes them differ."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import onnxeq
from onnxeq.cli.main import run
from onnxeq.diff import diff as run_diff
from onnxeq.envs import Environment
from onnxeq.errors import UsageError
from onnxeq.types import CauseKind, Report, Rung, Status, Verdict

from .numpy_framework import install


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


def check(name: str, **options: object) -> tuple[Report, Rung]:
    report = onnxeq.check(f"numfw:{name}", against_env="tiny", **options)  # type: ignore[arg-type]
    return report, report.rungs[-1]


def test_two_versions_that_compute_the_same_are_equivalent(second: Environment) -> None:
    """The rung compares the float32 runs of both, bit for bit the same here, and the report names both."""
    report, rung = check("same")
    assert report.verdict is Verdict.EQUIVALENT, report.causes
    assert (rung.name, rung.source, rung.target) == ("versions", "native/f32", "native/f32 in tiny")
    assert (rung.status, rung.max_abs) == (Status.PASS, 0.0)
    assert report.environment["against"]["versions"]["packaging"] == "24.0"
    assert "env" not in report.environment


@pytest.mark.parametrize(
    ("name", "kind", "says"),
    [
        ("half", CauseKind.RUNTIME, "in float64 the two agree"),
        ("leaky", CauseKind.GRAPH, "with the same weights it is"),
        ("drawn", CauseKind.WEIGHTS, "'w1' first"),
    ],
)
def test_what_differs_is_told_by_its_cause(second: Environment, name: str, kind: CauseKind, says: str) -> None:
    """A kernel (float64 agrees), the meaning (float64 does not), the weights (other bytes): each breaks the rung."""
    report, rung = check(name)
    assert report.verdict is Verdict.DIVERGENT
    assert rung.status is Status.FAIL
    assert rung.ratio > rung.limit == 6.0
    assert [(c.cause, c.rung) for c in report.causes] == [(kind, "versions")]
    assert says in report.causes[0].evidence
    assert f"{rung.max_abs:.3g}" in report.causes[0].evidence
    assert all(r.status is not Status.FAIL for r in report.rungs[:-1])


@pytest.mark.parametrize("options", [{"accept": ["float16"]}, {"rtol": 1e-2, "atol": 1e-2}])
def test_what_the_user_accepts_passes_here_too(second: Environment, options: dict[str, object]) -> None:
    """A version that computes in float16 is fine for who says so, or within a tolerance that was asked for."""
    report, rung = check("half", **options)
    assert report.verdict is Verdict.EQUIVALENT
    assert rung.status is Status.PASS
    assert rung.max_abs > 0


def test_what_float32_does_not_show_is_a_note(second: Environment) -> None:
    """A billionth more, in float64 only: the rung passes, and the report says that the versions compute otherwise."""
    report, rung = check("slight")
    assert report.verdict is Verdict.EQUIVALENT
    assert rung.status is Status.PASS
    assert any("more than float64 rounding" in note for note in report.notes)


def test_other_names_are_paired_by_position(second: Environment) -> None:
    """Frameworks count their names up: the same model is the same model."""
    report, rung = check("named")
    assert report.verdict is Verdict.EQUIVALENT, rung
    assert (rung.status, rung.max_abs) == (Status.PASS, 0.0)


def test_what_cannot_be_run_there_is_said_and_not_decided(second: Environment) -> None:
    """The rung is not run, with the other version's reason, and the verdict is inconclusive."""
    report, rung = check("gone")
    assert report.verdict is Verdict.INCONCLUSIVE
    assert rung.status is Status.NOT_RUN
    assert "numfw 2 lacks the operator" in rung.reason


def test_env_runs_the_source_inside(second: Environment, capfd: pytest.CaptureFixture[str]) -> None:
    """With ``--env`` the second version is the native side: its provenance, its versions, and a note of where."""
    report = onnxeq.check("numfw:leaky", env="tiny")
    assert report.source["framework"] == "numfw 2"
    assert report.environment["env"]["name"] == "tiny"
    assert any(n.startswith("in the environment 'tiny'") for n in report.notes)
    assert [c.rung for c in report.causes if c.cause is CauseKind.GRAPH][:1] == ["graph"]  # its export says Relu
    assert run(["zoo", "list", "numfw", "--env", "tiny"]) == 0
    assert "numfw:leaky  numfw 2" in capfd.readouterr().out
    assert run(["zoo", "list", "numfw"]) == 0
    assert "numfw:leaky  numfw 1" in capfd.readouterr().out


def test_convert_ledger_and_diff_run_inside_too(second: Environment, tmp_path: Path) -> None:
    """Each takes ``env`` and hands it to its jobs: version 2 draws the weights that are written and compared."""
    inside, outside = tmp_path / "inside.onnx", tmp_path / "outside.onnx"
    onnxeq.convert("numfw:drawn", inside, env="tiny")
    onnxeq.convert("numfw:drawn", outside)
    assert onnxeq.ledger("numfw:drawn", inside, env="tiny").faults == ()
    assert onnxeq.ledger("numfw:drawn", outside, env="tiny").faults
    assert onnxeq.check("numfw:drawn", inside, env="tiny", weights_only=True).verdict is Verdict.EQUIVALENT
    assert run_diff("numfw:drawn", rung="kernels", env="tiny").source["framework"] == "numfw 2"


def test_a_live_model_stays_where_it_is(second: Environment) -> None:
    """An object of this process cannot cross to another Python."""
    import numfw  # type: ignore[import-not-found]

    with pytest.raises(UsageError, match="a live model cannot be handed to the environment 'tiny'"):
        onnxeq.check(numfw.Model("same"), env="tiny")
    with pytest.raises(UsageError, match="a live model cannot be handed to the environment 'tiny'"):
        onnxeq.check(numfw.Model("same"), against_env="tiny")
