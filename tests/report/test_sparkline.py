"""The curve over depth."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import pytest

from onnxeq.report.sparkline import ASCII, UNICODE, chart
from onnxeq.types import Role, Status

from .conftest import MakeLayer, MakeReport

Draw = Callable[..., list[str]]

LEFT = 12
"""Characters before the curve."""


@pytest.fixture
def drawn(layer: MakeLayer, report: MakeReport) -> Draw:
    """Draws propagated ratios, with creating layers at given places."""

    def draw(ratios: Sequence[float], bad: Sequence[int] = (), width: int = 100, plain: bool = False) -> list[str]:
        layers = [layer(i, Role.CREATES if i in bad else Role.QUIET, propagated=r) for i, r in enumerate(ratios)]
        return [line.plain for line in chart(report(layers), width, ASCII if plain else UNICODE)]

    return draw


def _heights(lines: Sequence[str]) -> list[int]:
    """Eighths of a line of each column of the four lines of the curve."""
    levels = {c: i for i, c in enumerate(UNICODE.levels)} | {"_": 0, UNICODE.unknown: 0, UNICODE.endless: 8}
    return [sum(levels[line[LEFT + i]] for line in lines[:4]) for i in range(len(lines[0]) - LEFT)]


def _limit_line(lines: Sequence[str]) -> int:
    """Eighths of a line below the limit."""
    (at,) = [i for i, line in enumerate(lines[:4]) if "limit 6" in line]
    return 8 * (3 - at)


def test_columns_are_over_the_limit_exactly_where_ratios_are(drawn: Draw) -> None:
    """The line of the limit parts the columns as the limit parts the ratios, also right beside it."""
    ratios = [0.01, math.nextafter(6.0, 0.0), 6.0, math.nextafter(6.0, 7.0), 50.0, 1e4, math.inf]
    lines = drawn(ratios)
    heights = _heights(lines)[::4]  # four columns for each of few layers
    assert [h > _limit_line(lines) for h in heights] == [r > 6.0 for r in ratios]
    assert heights == sorted(heights)


def test_equal_factors_are_equal_heights(drawn: Draw) -> None:
    """The axis is logarithmic: a factor of ten is as high above as below the limit, to one eighth."""
    heights = _heights(drawn([0.6 * 10**k for k in range(5)]))[::4]
    steps = [b - a for a, b in itertools.pairwise(heights)]
    assert max(steps) - min(steps) <= 1


def test_zero_is_empty_and_what_is_not_known_is_marked(drawn: Draw) -> None:
    """Nothing stands over a value without difference, a dot at the foot of one that was not compared."""
    lines = drawn([0.0, math.nan, 1.0])
    assert _heights(lines)[0] == 0
    assert lines[3][LEFT] == " "
    assert lines[3][LEFT + 4] == UNICODE.unknown
    assert f"{UNICODE.unknown} unknown" in lines[-1]


def test_the_infinite_reaches_the_top_with_a_sign(drawn: Draw) -> None:
    """An infinite ratio fills its column, has the sign on top, and the caption explains it."""
    lines = drawn([1.0, math.inf])
    assert lines[0][LEFT + 4] == UNICODE.endless
    assert all(line[LEFT + 4] == "█" for line in lines[1:4])
    assert "∞ infinite" in lines[-1]


@pytest.mark.parametrize("count", [1, 7, 88, 89, 1000, 5000])
def test_a_creating_layer_has_a_caret_below_its_column(drawn: Draw, count: int) -> None:
    """Whatever the number of layers, the caret of layer ``i`` stands ``i/n`` along the curve, and there is one."""
    bad = count * 2 // 3
    lines = drawn([1.0] * bad + [100.0] * (count - bad), (bad,))
    curve, carets = len(lines[0]) - LEFT, lines[4][LEFT:]
    assert carets.count("^") == 1
    assert abs(carets.index("^") - bad * curve / count) < 1
    # The step itself: the column is over the limit, the one before it is not.
    heights = _heights(lines)
    assert heights[carets.index("^")] > _limit_line(lines)
    assert all(h <= _limit_line(lines) for h in heights[: carets.index("^")])


def test_a_peak_among_many_layers_is_not_lost(drawn: Draw) -> None:
    """A column shows the largest of its layers: one of a thousand over the limit is seen."""
    lines = drawn([1.0] * 500 + [1e4] + [1.0] * 499)
    assert sum(h > _limit_line(lines) for h in _heights(lines)) == 1


@pytest.mark.parametrize("width", [30, 80, 100, 200])
def test_no_line_is_longer_than_the_width(drawn: Draw, width: int) -> None:
    """The curve takes the width that there is and no more."""
    assert max(map(len, drawn([1.0, math.inf, math.nan] * 400, (5,), width))) <= width


def test_in_ascii_everything_is_ascii(drawn: Draw) -> None:
    """Steps, signs and caption need nothing else."""
    lines = drawn([0.0, 0.1, 5.0, 7.0, 300.0, math.inf, math.nan], (3,), plain=True)
    assert all(line.isascii() for line in lines)
    assert "!" in lines[0]


def test_a_curve_without_a_limit_has_no_line(layer: MakeLayer, report: MakeReport) -> None:
    """Where no rung ran there is nothing to hold the ratios against."""
    found = report([layer(i, propagated=10.0**i) for i in range(5)])
    bare = report(found.layers, rungs=tuple(type(r)(**{**vars(r), "status": Status.NOT_RUN}) for r in found.rungs))
    lines = [line.plain for line in chart(bare, 80, UNICODE)]
    assert not any("limit" in line or "_" in line for line in lines)
    assert "█" in lines[0]
