"""Reports as files."""

from __future__ import annotations

import json
import math
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest

from onnxeq.errors import UsageError
from onnxeq.report.files import FORMATS, check_name, write
from onnxeq.types import Report, Role

from .conftest import MakeLayer, MakeReport


@pytest.fixture
def found(layer: MakeLayer, report: MakeReport) -> Report:
    """Fifty layers: two create error, one amplifies it."""
    roles = {20: Role.CREATES, 30: Role.CREATES, 40: Role.AMPLIFIES}
    return report(
        [
            layer(
                i, roles.get(i, Role.PASSES if i > 20 else Role.QUIET), local={20: 41.0, 30: math.inf}.get(i, 1.0),
                node=f"a|<{i}>", condition=120.0 if i == 40 else math.nan, region=("Relu",) if i == 20 else (),
            )
            for i in range(50)
        ]
    )  # fmt: skip


def _written(report: Report, folder: Path, suffix: str) -> str:
    path = folder / f"report{suffix}"
    write(report, path)
    assert list(folder.iterdir()) == [path]
    return path.read_text()


def test_markdown_shows_the_layers_that_matter(found: Report, tmp_path: Path) -> None:
    """Creating layers worst first, then the amplifying one; the rest is counted; a bar in a name breaks no table."""
    text = _written(found, tmp_path, ".md")
    section = text.partition("## Layers")[2]
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    assert [row.split(" | ")[0] for row in rows] == ["| 30", "| 20", "| 40"]
    assert rows[1] == r"| 20 | a\|<20> (Conv) | layer20.conv | 1 | 41 | creates | target | + Relu |"
    assert "Of the others 27 pass it on, 20 are quiet." in section
    assert "2 layers create error" in section


def test_html_shows_them_first_and_all_in_a_fold(found: Report, tmp_path: Path) -> None:
    """The table before the fold has three rows, the one inside all fifty; names are escaped."""
    text = _written(found, tmp_path, ".html")
    before, _, folded = text.partition("<details>")
    first = before.partition("<h2>Layers</h2>")[2]
    assert [first.count(f'<tr class="{role}">') for role in ("creates", "amplifies", "passes")] == [2, 1, 0]
    assert first.index("a|&lt;30&gt;") < first.index("a|&lt;20&gt;") < first.index("a|&lt;40&gt;")
    assert folded.count("<tr class=") == 50
    assert "<30>" not in text
    assert "<td>x120</td>" in first


def test_each_creating_layer_fails_a_build(found: Report, tmp_path: Path) -> None:
    """JUnit: one failed case for each, with measured against allowed, the side and the evidence; the counts agree."""
    suite = Xml.fromstring(_written(found, tmp_path, ".xml"))  # noqa: S314 - our own
    cases = {c.attrib["name"]: c for c in suite if c.attrib["classname"] == "onnxeq.layers"}
    assert list(cases) == ["layer 30: a|<30> (Conv)", "layer 20: a|<20> (Conv)"]
    message = cases["layer 20: a|<20> (Conv)"][0].attrib["message"]
    assert message == ("creates error, 41x noise, 6x allowed; by the target; + Relu; the kernel of a|<20> is wrong")
    assert int(suite.attrib["tests"]) == len(suite)
    assert int(suite.attrib["failures"]) == len(suite.findall("testcase/failure")) == 4


def test_json_holds_every_layer(found: Report, tmp_path: Path) -> None:
    """All fifty, infinity as a word."""
    layers = json.loads(_written(found, tmp_path, ".json"))["layers"]
    assert len(layers) == 50
    assert layers[30]["local"]["ratio"] == "inf"
    assert layers[30]["role"] == "creates"


@pytest.mark.parametrize("suffix", [".md", ".html", ".xml"])
def test_a_report_without_layers_says_nothing_of_them(report: MakeReport, tmp_path: Path, suffix: str) -> None:
    """A check's report is what it was."""
    text = _written(report([]), tmp_path, suffix)
    assert not any(said in text for said in ("Layers", "<details", 'classname="onnxeq.layers', "creates error"))


def test_a_wrong_name_is_refused_before_the_work(tmp_path: Path) -> None:
    """An unknown suffix names the known ones; a missing folder is named."""
    with pytest.raises(UsageError, match=r"--report .*unknown kind '.pdf'") as suffix:
        check_name(tmp_path / "r.pdf")
    assert all(kind in suffix.value.hint for kind in FORMATS)
    with pytest.raises(UsageError, match="no folder"):
        check_name(tmp_path / "missing" / "r.md")
