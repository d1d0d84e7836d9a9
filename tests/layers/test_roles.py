"""What a layer does to the error: one rule for each role, at its limit."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from onnx import helper

from onnxeq.layers.judging.roles import AMPLIFYING, LOCAL, PROPAGATED, layer_of
from onnxeq.layers.judging.sweep import Found
from onnxeq.layers.matching import Matched
from onnxeq.measure import Measure
from onnxeq.noise import AMPLITUDE
from onnxeq.types import PairedBy, Role


def found(apart: float = 1.0, local: float = 0.5, condition: float = 1.0, **more: Any) -> Found:
    """What a pass sees at a value."""
    made = Found(
        "v", helper.make_node("Relu", ["u"], ["v"], name="act"), "float32", (2, 3), (True, True),
        Measure(apart * 1e-6, 1e-6, apart), Measure(local * 1e-7, 1e-7, local), Measure(ratio=0.1),
        Measure(ratio=local), ((), ()), condition,
    )  # fmt: skip
    return dataclasses.replace(made, **more)


@pytest.mark.parametrize(
    ("seen", "role"),
    [
        (found(), Role.QUIET),
        (found(PROPAGATED, LOCAL, 1e9), Role.QUIET),
        (found(PROPAGATED * 1.01), Role.PASSES),
        (found(PROPAGATED * 1.01, condition=AMPLIFYING * 0.99), Role.PASSES),
        (found(PROPAGATED * 1.01, condition=AMPLIFYING), Role.AMPLIFIES),
        (found(PROPAGATED * 1.01, condition=math.nan), Role.PASSES),
        (found(0.0, LOCAL * 1.01), Role.CREATES),
        (found(1e9, LOCAL * 1.01, 1e9), Role.CREATES),
        (found(math.inf, math.inf), Role.CREATES),
        (found(1e9, known=(True, False)), Role.UNKNOWN),
        (found(1e9, known=(False, True)), Role.UNKNOWN),
        (found(1e9, LOCAL * 1.01, known=(False, True)), Role.CREATES),
        (found(0.0, propagated=Measure(undecided="said")), Role.UNKNOWN),
    ],
)
def test_roles(seen: Found, role: Role) -> None:
    """Own error comes first, then what cannot be told, then how far the sides are apart."""
    assert layer_of(seen, 3, None, "").role is role


def test_the_limits_are_the_ladders() -> None:
    """Both are the factor at which draws are made."""
    assert LOCAL == PROPAGATED == AMPLITUDE


def test_a_row_has_what_was_seen() -> None:
    """Both errors in their units, each side's part, the region without repetition, how it was paired."""
    matched = Matched("s", PairedBy.CONTEXT, 0.8, (), "block")
    row = layer_of(found(2.0, 3.0, regions=(("a", "b"), ("b", "c")), note="beside a tie"), 7, matched, "block.act")
    assert (row.index, row.node, row.op_type, row.value, row.native) == (7, "act", "Relu", "v", "block.act")
    assert (row.source_value, row.paired_by, row.confidence) == ("s", PairedBy.CONTEXT, 0.8)
    assert row.region == ("a", "b", "c")
    assert (row.propagated.ratio, row.propagated.max_abs, row.propagated.noise) == (2.0, 2e-6, 1e-6)
    assert (row.local.ratio, row.source_ratio, row.target_ratio) == (3.0, 0.1, 3.0)
    assert row.note == "beside a tie"
    assert layer_of(found(), 0, None, "").paired_by is None


def test_what_is_not_known_on_both_sides_has_no_propagated_error() -> None:
    """NaN, and a note that says which side lacks it, or why nothing can be said."""
    for more, note in (
        ({"known": (True, False)}, "the target has no such value"),
        ({"known": (False, True)}, "the source has no such value"),
        ({"propagated": Measure(undecided="rounding decides")}, "rounding decides"),
    ):
        row = layer_of(found(**more), 0, None, "")
        assert math.isnan(row.propagated.ratio)
        assert row.note == note


def test_a_problem_is_the_note() -> None:
    """What makes an error infinite is told before anything else."""
    seen = found(note="beside a tie", local=math.inf)
    row = layer_of(dataclasses.replace(seen, local=Measure(math.inf, 0.0, math.inf, problem="it is NaN")), 0, None, "")
    assert (row.role, row.note) == (Role.CREATES, "it is NaN")
