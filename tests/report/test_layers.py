"""The screen of a layer-by-layer comparison."""

from __future__ import annotations

import dataclasses
import io
import math
import re

import pytest
from rich.console import Console

from onnxeq.report.layers import LINES, render, show
from onnxeq.types import Layer, PairedBy, Report, Role, Verdict

from .conftest import MakeLayer, MakeReport

LONG = "/model/encoder/layers.{}/self_attn/out_proj/MatMul_{}"


def _screen(report: Report, width: int = 100, *, every: bool = False) -> list[str]:
    file = io.StringIO()
    show(report, Console(width=width, file=file, force_terminal=False), every=every)
    return file.getvalue().splitlines()


def _rows(lines: list[str]) -> list[int]:
    """The indices of the table's rows, in the order in which they stand there."""
    head = next(i for i, line in enumerate(lines) if re.match(r" *# node", line))
    found = []
    for line in lines[head + 1 :]:
        if not (index := re.match(r" *(\d+) ", line)):
            break
        found.append(int(index[1]))
    return found


@pytest.fixture
def thousand(layer: MakeLayer, report: MakeReport) -> Report:
    """1,000 layers with long names: every 20th creates error, every 27th amplifies it; all that a report can say."""
    layers: list[Layer] = []
    for i in range(1000):
        role = Role.CREATES if i % 20 == 9 else Role.AMPLIFIES if i % 27 == 5 else Role.PASSES if i > 9 else Role.QUIET
        layers.append(
            layer(
                i, role, propagated=1.02**i, local=7.0 + i if role is Role.CREATES else 1.0, condition=20.0 + i,
                node=LONG.format(i // 20, i), op_type="LayerNormalization", native=f"encoder.layers.{i}.self_attn",
                region=("bn1", "relu1"), note="a flip beside a tie at [0, 3, 1]", paired_by=list(PairedBy)[i % 4],
            )
        )  # fmt: skip
    found = report(layers)
    causes = tuple(dataclasses.replace(c, evidence=f"{c.evidence}, " + "and more " * 60) for c in found.causes)
    return dataclasses.replace(
        found, causes=causes, rungs=found.rungs * 5, notes=("a long note " * 20,) * 9, outputs=found.outputs * 7
    )


@pytest.mark.parametrize("width", [100, 120, 200])
def test_a_thousand_layers_fit_one_screen(thousand: Report, width: int) -> None:
    """With all that a report can hold at once, the screen has at most 40 lines, none longer than the width."""
    lines = _screen(thousand, width)
    assert len(lines) <= LINES == 40
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize("width", [20, 40, 60, 80])
def test_a_narrow_console_breaks_no_line_of_the_table(thousand: Report, width: int) -> None:
    """Names are cut further, lines are not wrapped."""
    assert len(_screen(thousand, width)) <= LINES
    assert max(map(len, _screen(thousand, width))) <= width


def test_the_worst_layers_stand_first_and_the_rest_is_counted(thousand: Report) -> None:
    """Of 50 creating layers the worst are listed in order, then amplifying ones; all others are in the counts."""
    lines = _screen(thousand)
    rows = _rows(lines)
    creating = [i for i in rows if i % 20 == 9]
    assert creating == [989 - 20 * k for k in range(len(creating))]
    assert len(creating) >= 8
    amplifying = rows[len(creating) :]
    assert len(amplifying) >= 2
    assert all(thousand.layers[i].role is Role.AMPLIFIES for i in amplifying)
    said = next(line for line in lines if "the others" in line)
    counted = sum(int(n.replace(",", "")) for n in re.findall(r"([\d,]+) (?:create|amplif|pass|are|is)", said))
    assert counted == 1000 - len(rows)


def test_neighbours_stand_beside_a_creating_layer(layer: MakeLayer, report: MakeReport) -> None:
    """One before and one after, none twice, none beyond the ends."""
    roles = {0: Role.CREATES, 5: Role.CREATES, 6: Role.CREATES, 19: Role.CREATES}
    layers = [layer(i, roles.get(i, Role.PASSES), local=100.0 - i if i in roles else 1.0) for i in range(20)]
    assert _rows(_screen(report(layers))) == [0, 1, 4, 5, 6, 7, 18, 19]


def test_two_values_of_one_node_are_two_rows(layer: MakeLayer, report: MakeReport) -> None:
    """Rows are told apart by themselves, not by the node's index."""
    layers = [layer(0), layer(1, Role.CREATES, local=9.0), layer(1, Role.CREATES, local=8.0, value="second"), layer(2)]
    assert _rows(_screen(report(layers))) == [0, 1, 1, 2]


def test_neighbours_give_way_where_there_is_no_room(thousand: Report) -> None:
    """A full screen lists only layers that create or amplify."""
    roles = {thousand.layers[i].role for i in _rows(_screen(thousand))}
    assert roles == {Role.CREATES, Role.AMPLIFIES}


def test_rounding_is_said_to_be_rounding(layer: MakeLayer, report: MakeReport) -> None:
    """Without a creating layer the five with the largest local error are shown."""
    lines = _screen(report([layer(i, local=i / 10) for i in range(30)]))
    assert lines[0].startswith("equivalent  no layer creates error, the largest at")
    assert _rows(lines) == [29, 28, 27, 26, 25]
    assert "^" not in "".join(lines)


def test_every_layer_is_listed_in_the_order_of_the_graph(thousand: Report) -> None:
    """``every`` gives 1,000 rows from 0 to 999, with their whole notes."""
    lines = _screen(thousand, every=True)
    shown = [int(m[1]) for line in lines if (m := re.match(r" *(\d+) /model", line))]
    assert shown == list(range(1000))
    assert not any("the others" in line for line in lines)
    assert max(map(len, lines)) <= 100


def test_a_row_holds_what_is_known_of_a_layer(layer: MakeLayer, report: MakeReport) -> None:
    """Index, node and operator, native layer, both ratios, role, side, region and note."""
    bad = layer(
        7, Role.CREATES, propagated=13_000.0, local=math.inf, node="conv2", native="layer1.0.conv2",
        region=("Relu", "Add"), note="clipped", source_ratio=1.0,
    )  # fmt: skip
    row = next(line for line in _screen(report([bad]), 120) if line.startswith("7 "))
    assert row.split() == [
        "7", "conv2", "(Conv)", "layer1.0.conv2", "1.3e4", "inf", "creates", "target", "+", "Relu,", "Add;", "clipped",
    ]  # fmt: skip


def test_an_amplifying_layer_has_its_factor(layer: MakeLayer, report: MakeReport) -> None:
    """It is listed after the creating ones, with its condition."""
    layers = [layer(0, Role.AMPLIFIES, condition=120.0), layer(1), layer(2), layer(3, Role.CREATES, local=9.0)]
    lines = _screen(report(layers))
    assert _rows(lines) == [2, 3, 0]
    assert any(re.match(r"0 .* amplifies x120", line) for line in lines)


def test_what_was_compared_is_said(layer: MakeLayer, report: MakeReport) -> None:
    """Both sides, nodes, inputs, pairing, and the rung with its ratio against its limit."""
    text = "\n".join(_screen(report([layer(i) for i in range(3)] + [layer(3, paired_by=None)])))
    for said in (
        "net.py:build and net.onnx (4 of 4 nodes, 2 inputs)", "3 of 4 layers paired: 3 by structure",
        "kernels: native/f32 > ort/cpu, 1/6 pass",
    ):  # fmt: skip
        assert said in text


def test_a_long_name_leaves_the_headline_whole(layer: MakeLayer, report: MakeReport) -> None:
    """The name gives way, not the measure that stands behind it."""
    (first, *_) = _screen(report([layer(0, Role.CREATES, local=41.0, node="/deep" * 60 + "/end")]))
    assert len(first) <= 100
    assert first.endswith("/end (Conv), 41x noise, 6x allowed")


def test_a_console_without_unicode_gets_ascii(layer: MakeLayer, report: MakeReport) -> None:
    """Nothing is printed that its encoding lacks, also of names and notes."""
    layers = [
        layer(i, Role.CREATES if i == 5 else Role.QUIET, propagated=math.inf if i > 5 else 1.0, local=99.0,
              node="/längerer/Name" * 9, note="größer" * 20, native="schön")
        for i in range(9)
    ]  # fmt: skip
    raw = io.BytesIO()
    found = report(layers, notes=("± 1 ulp",), verdict=Verdict.INCONCLUSIVE)
    with io.TextIOWrapper(raw, encoding="ascii") as file:
        show(found, Console(file=file, width=100))
        show(found, Console(file=file, width=100), every=True)
        file.flush()
        text = raw.getvalue().decode("ascii")
    assert "^ creates error" in text
    assert "! infinite" in text


def test_a_dumb_terminal_gets_ascii(layer: MakeLayer, report: MakeReport) -> None:
    """A terminal that calls itself dumb is not trusted with block characters."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=100, _environ={"TERM": "dumb"})
    console.print(render(report([layer(i, node="n" * 90) for i in range(4)])))
    assert file.getvalue().isascii()


def test_a_width_can_be_given(layer: MakeLayer, report: MakeReport) -> None:
    """The screen takes the width that it is rendered for, whatever the console's."""
    file = io.StringIO()
    Console(file=file, width=300).print(render(report([layer(i, node="n" * 400) for i in range(400)]), width=90))
    assert max(map(len, file.getvalue().splitlines())) == 90


def test_a_report_without_layers_is_no_error(report: MakeReport) -> None:
    """What is known is shown, and that no layer was compared."""
    assert "no layer could be compared" in _screen(report([]))[0]
