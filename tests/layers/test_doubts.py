"""A wrong pair is told from a fault by leaving it out."""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import parser

from onnxeq.layers.judging.doubts import Pairs, undone, without_wrong_pairs
from onnxeq.layers.judging.judged import Found
from onnxeq.layers.judging.roles import LOCAL
from onnxeq.layers.judging.sweep import sweep
from onnxeq.layers.matching import Matched, Renamed
from onnxeq.referee import Executor
from onnxeq.traces import Trace
from onnxeq.types import Array, PairedBy

FEED = {"x": np.linspace(-2, 3, 24, dtype=np.float32).reshape(4, 6)}


class Held(Trace):
    """A trace in memory."""

    def __init__(self, arrays: dict[str, Array]) -> None:
        object.__setattr__(self, "arrays", arrays)
        object.__setattr__(self, "rows", dict.fromkeys(arrays))
        object.__setattr__(self, "record", {})

    def array(self, name: str) -> Array:
        """The value."""
        return self.arrays[name]  # type: ignore[attr-defined,no-any-return]


def model(middle: str = "b = Exp(a)") -> onnx.ModelProto:
    return parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[4,6] x) => (float[4,6] y) {{
            a = Tanh(x)
            {middle}
            c = Sqrt(b)
            d = Sigmoid(c)
            y = Neg(d)
        }}""")


def values(net: onnx.ModelProto) -> dict[str, Array]:
    """What a perfect float32 runtime gives."""
    names = [name for node in net.graph.node for name in node.output]
    return {n: np.asarray(v, np.float32) for n, v in Executor(net).run(FEED, outputs=names).items()}


def held_against(
    source: dict[str, Array], net: onnx.ModelProto, by: PairedBy, *, certain: bool = False
) -> tuple[dict[str, Found], Pairs]:
    matched = {name: Matched(name, by, 0.9) for name in source}
    target = Renamed(Held(values(net)), {n: Matched(n, PairedBy.STRUCTURE, 1.0) for n in values(net)})
    executor = Executor(net)

    def swept(pairs: Pairs) -> list[Found]:
        return sweep(executor, net.graph, FEED, Renamed(Held(source), pairs.source), target, 0)

    found, pairs = without_wrong_pairs(swept, Pairs(matched, target.matched, certain=certain), {"y"})
    return {f.value: f for f in found}, pairs


def test_a_name_on_another_value_is_no_error() -> None:
    """The source calls 1/sqrt by the name that the graph has for sqrt: with that pair left out all agrees."""
    source = values(model())
    source["c"] = 1 / source["c"]
    found, pairs = held_against(source, model(), PairedBy.NAME)
    assert "c" not in pairs.source
    assert {"a", "b", "d", "y"} <= set(pairs.source)
    assert max(f.local.ratio for f in found.values()) < 2


def test_a_fault_keeps_its_place() -> None:
    """Where the source has 2^a and the graph e^a, the error is still there without the pair: the pair stays, and the
    error is told at its node.
    """
    source = values(model("t = Constant<value_float = 2.0>() b = Pow(t, a)"))
    del source["t"]
    found, pairs = held_against(source, model(), PairedBy.NAME)
    assert "b" in pairs.source
    assert [n for n, f in found.items() if f.local.ratio > LOCAL] == ["b"]


def test_of_a_fault_and_a_wrong_pair_the_fault_is_told() -> None:
    """Both at once, three nodes apart: the wrong pair goes, the fault stays."""
    source = values(model("t = Constant<value_float = 2.0>() b = Pow(t, a)"))
    del source["t"]
    source["d"] = -source["d"]
    found, pairs = held_against(source, model(), PairedBy.CONTEXT)
    assert "d" not in pairs.source
    assert [n for n, f in found.items() if f.local.ratio > LOCAL] == ["b"]


def test_what_the_user_says_and_what_is_computed_alike_is_not_doubted() -> None:
    """A pair by structure, or of names that are given, is an error and no wrong pair."""
    source = values(model())
    source["c"] = 1 / source["c"]
    for by, certain in ((PairedBy.STRUCTURE, False), (PairedBy.NAME, True)):
        found, pairs = held_against(source, model(), by, certain=certain)
        assert "c" in pairs.source
        assert found["c"].local.ratio > 1e5


def scaled(outer: str) -> onnx.ModelProto:
    return parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[4,6] x) => (float[4,6] y)
        <float[1] s = {{{outer.split()[0]}}}, float[1] t = {{{outer.split()[1]}}}> {{
            a = Mul(x, s)
            y = Mul(a, t)
        }}""")


def test_a_scale_that_is_moved_is_undone() -> None:
    """``(4x) * 0.5`` for ``(2x) * 1``: both layers compute something else, the second undoes the first."""
    source = values(scaled("2 1"))
    found, _ = held_against(source, scaled("4 0.5"), PairedBy.STRUCTURE)
    assert undone(list(found.values()), {"y"}) == {"a", "y"}


def test_what_these_inputs_hide_is_not_undone() -> None:
    """A layer is ten times too large where a Relu lets nothing through: outputs agree, and no layer has undone it."""
    text = """
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[4,6] x) => (float[4,6] y) <float[1] s = {SCALE}> {
            p = Abs(x)
            n = Neg(p)
            a = Mul(n, s)
            y = Relu(a)
        }"""
    source = values(parser.parse_model(text.replace("SCALE", "10")))
    found, _ = held_against(source, parser.parse_model(text.replace("SCALE", "1")), PairedBy.STRUCTURE)
    assert found["y"].propagated.ratio == 0
    assert found["a"].local.ratio > 1e5
    assert undone(list(found.values()), {"y"}) == frozenset()
    assert math.isfinite(found["a"].local.max_abs)
