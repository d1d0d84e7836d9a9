"""Error along depth as a picture."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from importlib import util
from pathlib import Path
from typing import Any

import pytest

from onnxeq.errors import FrameworkMissing, UsageError
from onnxeq.report import plot
from onnxeq.types import Report, Role

from .conftest import MakeLayer, MakeReport

needs_matplotlib = pytest.mark.skipif(util.find_spec("matplotlib") is None, reason="matplotlib is not installed")


@pytest.fixture
def mixed(layer: MakeLayer, report: MakeReport) -> Report:
    """Layers with zero, infinite and unknown ratios, and one that creates error."""
    ratios = [0.0, 0.3, math.nan, 40.0, math.inf]
    return report(
        [
            layer(i, Role.CREATES if i == 3 else Role.QUIET, propagated=r, local=r, node=f"$node${i}_")
            for i, r in enumerate(ratios)
        ]
    )


def _texts(svg: Path) -> list[str]:
    """The texts of a picture: matplotlib writes each one as a comment above its outline."""
    return re.findall(r"<!-- (.*?) -->", svg.read_text())


@needs_matplotlib
@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_two_pictures_of_one_report_are_the_same_bytes(mixed: Report, tmp_path: Path, suffix: str) -> None:
    """Nothing in the file depends on the time, on chance, or on what was drawn before."""
    first, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    plot.write_plot(mixed, first)
    plot.write_plot(mixed, second)
    assert first.read_bytes() == second.read_bytes()
    assert sorted(tmp_path.iterdir()) == [first, second]


@needs_matplotlib
@pytest.mark.parametrize("count", [1, 2, 10, 1000])
def test_the_picture_names_what_creates_error(layer: MakeLayer, report: MakeReport, tmp_path: Path, count: int) -> None:
    """The limit and each creating layer are named, for few layers and for many; few are all named on the axis."""
    bad = count // 2
    layers = [layer(i, Role.CREATES if i == bad else Role.PASSES, local=50.0 if i == bad else 1) for i in range(count)]
    plot.write_plot(report(layers), tmp_path / "p.svg")
    texts = _texts(tmp_path / "p.svg")
    assert "limit 6" in texts
    assert f" /layer{bad}/Conv (Conv)" in texts
    assert sum(text in {f"/layer{i}/Conv" for i in range(count)} for text in texts) == (count if count <= 24 else 0)


@needs_matplotlib
def test_only_the_worst_of_many_are_named(layer: MakeLayer, report: MakeReport, tmp_path: Path) -> None:
    """Ten labels stay readable; the picture says that there are more."""
    plot.write_plot(report([layer(i, Role.CREATES, local=10.0 + i) for i in range(40)]), tmp_path / "p.svg")
    texts = _texts(tmp_path / "p.svg")
    assert {t for t in texts if t.endswith("(Conv)")} == {f" /layer{i}/Conv (Conv)" for i in range(30, 40)}
    assert any(text.endswith("the worst 10 are named") for text in texts)


@needs_matplotlib
def test_zero_and_infinity_have_places_of_their_own(mixed: Report, tmp_path: Path) -> None:
    """Both have a tick, outside of the decades that hold the finite ratios; a name with dollars is no formula."""
    plot.write_plot(mixed, tmp_path / "p.svg")
    texts = _texts(tmp_path / "p.svg")
    assert {"0", "inf", "$node$3_", " $node$3_ (Conv)"} <= set(texts)
    scale = plot._scale(mixed)
    assert scale.height(0.0) < scale.low <= 0.3
    assert 40.0 <= scale.high < scale.height(math.inf)
    assert math.isnan(scale.height(math.nan))


@needs_matplotlib
def test_without_zero_or_infinity_there_is_no_tick_for_them(
    layer: MakeLayer, report: MakeReport, tmp_path: Path
) -> None:
    """A place that nothing takes is not marked."""
    plot.write_plot(report([layer(i) for i in range(30)]), tmp_path / "p.svg")
    assert "inf" not in _texts(tmp_path / "p.svg")


STEPS = [
    ([0.5, 0.5, 0.5], [2, 1, 0]), ([0.0, 0.1, 0.9, 1.0], [1, 0, 1, 0]),
    ([0.0, 0.01, 0.02, 0.6, 0.61], [2, 1, 0, 1, 0]), ([0.0, 0.5, 1.0], [0, 0, 0]), ([], []),
]  # fmt: skip


@pytest.mark.parametrize(("places", "lines"), STEPS)
def test_no_leader_crosses_a_label(places: list[float], lines: list[int]) -> None:
    """A label begins at its layer, one line above those that begin below its text, and no higher than that."""
    texts = ["a label that is a quarter wide"] * len(places)
    assert plot._label_lines(places, texts) == lines


@needs_matplotlib
def test_neither_pyplot_nor_the_users_settings_are_touched(tmp_path: Path) -> None:
    """Drawing loads no pyplot, chooses no backend, and leaves every setting as it was."""
    code = f"""
import sys, matplotlib
sys.path.insert(0, {str(Path(__file__).parent)!r})
matplotlib.rcParams['font.size'] = 31
before = matplotlib.rcParams.copy()
import conftest
from pathlib import Path
from onnxeq.report.plot import write_plot
write_plot(conftest._report([conftest._layer(0)]), Path({str(tmp_path / "p.svg")!r}))
write_plot(conftest._report([conftest._layer(0)]), Path({str(tmp_path / "p.png")!r}))
assert 'matplotlib.pyplot' not in sys.modules
assert matplotlib.rcParams.copy() == before
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@needs_matplotlib
def test_the_look_is_not_the_users(mixed: Report, tmp_path: Path) -> None:
    """With other settings of the user's the picture is the same."""
    import matplotlib

    plot.write_plot(mixed, tmp_path / "a.svg")
    with matplotlib.rc_context({"font.size": 31, "axes.edgecolor": "red", "svg.hashsalt": "theirs"}):
        plot.write_plot(mixed, tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_a_wrong_name_is_refused_before_the_work(tmp_path: Path) -> None:
    """An unknown suffix and a missing folder are wrong usage, each with what to do."""
    with pytest.raises(UsageError, match=r"unknown kind '.jpg'") as suffix:
        plot.check_name(tmp_path / "p.jpg")
    assert ".svg" in suffix.value.hint
    with pytest.raises(UsageError, match="no folder"):
        plot.check_name(tmp_path / "missing" / "p.svg")


def test_without_matplotlib_the_install_command_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The error names the extra, and nothing is written."""

    def absent(name: str, *_: Any) -> None:
        assert name == "matplotlib"

    monkeypatch.setattr(plot.util, "find_spec", absent)
    with pytest.raises(FrameworkMissing) as missing:
        plot.check_name(tmp_path / "p.svg")
    assert missing.value.hint == "pip install 'onnxeq[plot]'"
    assert not list(tmp_path.iterdir())


@needs_matplotlib
def test_a_failed_drawing_leaves_the_old_picture(
    mixed: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture is replaced as a whole or not at all, and no half of one stays behind."""
    path = tmp_path / "p.svg"
    path.write_text("old")

    def fails(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(OSError, match="disk full"):
        plot.write_plot(mixed, path)
    assert [p.name for p in tmp_path.iterdir()] == ["p.svg"]
    assert path.read_text() == "old"
