"""Executions of the same bits are known without computing anything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import parser

from onnxeq import traces
from onnxeq.layers.judging.identical import identical
from onnxeq.layers.judging.sweep import EXACT
from onnxeq.layers.likeness import Layout
from onnxeq.layers.matching import Matched, Renamed
from onnxeq.traces import TraceWriter
from onnxeq.types import Array, PairedBy

GRAPH = parser.parse_graph("g (float[2,3] x) => (float[2,3] y) { a = Neg(x) y = Exp(a) }")
VALUES = {"a": np.float32([[1, 2, 3], [4, 5, 6]]), "y": np.float32([[0.0, 1, 2], [3, 4, 5]])}


def side(folder: Path, values: dict[str, Array], *layouts: Layout) -> Renamed:
    with TraceWriter(folder) as writer:
        for name, value in values.items():
            writer.add(name, value)
    return Renamed(traces.load(folder), {n: Matched(n, PairedBy.STRUCTURE, 1.0, layouts) for n in values})


def test_the_same_bits_make_a_quiet_row_each(tmp_path: Path) -> None:
    """Every value with its type and shape, and no error."""
    found = identical(GRAPH, side(tmp_path / "a", VALUES), side(tmp_path / "b", VALUES))
    assert found is not None
    assert [(f.value, f.dtype, f.shape, f.known, f.local.ratio, f.propagated.ratio) for f in found] == [
        ("a", "float32", (2, 3), (True, True), 0.0, 0.0),
        ("y", "float32", (2, 3), (True, True), 0.0, 0.0),
    ]


@pytest.mark.parametrize(
    "other",
    [
        {**VALUES, "a": np.nextafter(VALUES["a"], np.float32(9))},  # an ulp
        {**VALUES, "y": VALUES["y"] * np.float32([[-1, 1, 1], [1, 1, 1]])},  # the sign of a zero
        {**VALUES, "a": VALUES["a"].astype(np.float64)},
        {**VALUES, "a": VALUES["a"].reshape(3, 2)},
        {"y": VALUES["y"]},
        {"a": VALUES["a"]},
    ],
)
def test_anything_else_is_for_the_pass(tmp_path: Path, other: dict[str, Array]) -> None:
    """One bit, another type or shape, a value on one side only, or an output that nobody has."""
    assert identical(GRAPH, side(tmp_path / "a", VALUES), side(tmp_path / "b", other)) is None
    if "y" not in other:
        assert identical(GRAPH, side(tmp_path / "c", other), side(tmp_path / "d", other)) is None


def test_what_lies_otherwise_or_is_the_referee_is_for_the_pass(tmp_path: Path) -> None:
    """Equal bits in another layout are other values, and float64 has no bits to compare."""
    turned = Layout((2, 3), (1, 0), (3, 2))
    assert identical(GRAPH, side(tmp_path / "a", VALUES), side(tmp_path / "b", VALUES, turned)) is None
    assert identical(GRAPH, EXACT, side(tmp_path / "c", VALUES)) is None
