"""What is said of layers, whatever shows it."""

from __future__ import annotations

import dataclasses
import math

import pytest

from onnxeq.report import facts
from onnxeq.types import PairedBy, Role, Status, Verdict

from .conftest import MakeLayer, MakeReport

NUMBERS = {
    0.0: "0", 0.000123: "0.00012", 0.0000123: "1.2e-5", 0.5: "0.5", 2.14: "2.1", 41.4: "41", 120.0: "120", 994.4: "994",
    13_000.0: "1.3e4", 2e31: "2e31", math.inf: "inf", math.nan: "-",
}  # fmt: skip


@pytest.mark.parametrize(("value", "said"), NUMBERS.items())
def test_numbers_are_short(value: float, said: str) -> None:
    """Two figures, three below a thousand, and an exponent without padding."""
    assert facts.short(value) == said


def test_a_long_name_keeps_both_ends() -> None:
    """A name that is too long has exactly the length that was given, its own beginning and its own end."""
    name = "/model/encoder/layers.11/self_attn/out_proj/MatMul_1187"
    for most in range(4, len(name)):
        cut = facts.shorten(name, most)
        head, _, tail = cut.partition("…")
        assert len(cut) == most
        assert name.startswith(head)
        assert name.endswith(tail)
        assert len(head) >= 1
        assert len(tail) >= len(head)
    assert facts.shorten(name, len(name)) == name
    assert facts.shorten(name, 10, "..").count("..") == 1


def test_the_worst_comes_first(layer: MakeLayer) -> None:
    """Creating layers stand by their own error, infinite before finite, the earlier of two equal ones first."""
    layers = [layer(i, Role.CREATES, local=ratio) for i, ratio in enumerate([10, math.inf, 500, math.inf, math.nan])]
    assert [x.index for x in facts.creating([layer(9), *layers])] == [1, 3, 2, 0, 4]
    growing = [layer(i, Role.AMPLIFIES, condition=c) for i, c in enumerate([30, math.nan, 4e3])]
    assert [x.index for x in facts.amplifying(growing)] == [2, 0, 1]


def test_what_is_proven_comes_before_what_is_only_worse(layer: MakeLayer) -> None:
    """A layer of which the difference is known stands before one with a thousand times its error and no reason."""
    layers = [layer(0, Role.CREATES, local=1e8), *(layer(i, Role.CREATES, local=10.0 * i, reason="w") for i in (1, 2))]
    assert [x.index for x in facts.creating(layers)] == [2, 1, 0]


def test_without_a_creating_layer_the_nearest_are_told(layer: MakeLayer) -> None:
    """The layers with the largest local error take the place of those that create it; unknown ones are left out."""
    layers = [layer(i, local=i / 10) for i in range(8)] + [layer(8, Role.UNKNOWN, local=math.nan)]
    assert [x.index for x in facts.telling(layers)] == [7, 6, 5, 4, 3]


SIDES = [
    (1.0, 41.0, "target"), (41.0, 1.0, "source"), (20.0, 1000.0, "both"), (5.0, 1000.0, "target"),
    (4.0, 5.0, "both"), (1.0, 5.0, "target"), (math.nan, math.nan, ""), (math.nan, math.inf, "target"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "target", "said"), SIDES)
def test_error_is_laid_to_a_side(layer: MakeLayer, source: float, target: float, said: str) -> None:
    """A side over the limit has created error; of two below it the one that is twice the other, else both."""
    found = layer(0, Role.CREATES, local=45.0, source_ratio=source, target_ratio=target)
    assert facts.by(found, 6.0) == said


def test_only_creating_and_amplifying_layers_name_one(layer: MakeLayer) -> None:
    """A growth stands with its factor; a quiet layer has neither a side nor a factor."""
    assert facts.by(layer(0, Role.AMPLIFIES, condition=120.4), 6.0) == "x120"
    assert facts.by(layer(0, Role.AMPLIFIES), 6.0) == ""
    assert facts.by(layer(0, Role.PASSES, source_ratio=50.0), 6.0) == ""


def test_members_of_a_region_are_said(layer: MakeLayer) -> None:
    """What was judged together is named, three at most, before the layer's own note."""
    assert facts.remark(layer(0, region=("Relu", "Add"), note="a flip")) == "+ Relu, Add; a flip"
    assert facts.remark(layer(0, region=("a", "b", "c", "d", "e"))) == "+ a, b, c and 2 more"
    assert facts.remark(layer(0)) == ""


def test_pairing_counts_every_way(layer: MakeLayer) -> None:
    """The ways add up to the paired layers, the surest first, and an unpaired layer is in the total only."""
    ways = [PairedBy.NAME] * 2 + [PairedBy.STRUCTURE] * 3 + [None]
    layers = [layer(i, paired_by=way) for i, way in enumerate(ways)]
    assert facts.pairing(layers) == "5 of 6 layers paired: 3 by structure, 2 by name"


def test_the_tally_leaves_out_what_is_shown(layer: MakeLayer) -> None:
    """Each layer is either shown or counted, and one is said as one."""
    layers = [layer(0, Role.CREATES), layer(1, Role.CREATES), layer(2, Role.PASSES), layer(3), layer(4)]
    assert facts.tally(layers, layers[:1]) == "1 creates error, 1 passes it on, 2 are quiet"
    assert facts.tally(layers, layers) == ""


def test_the_limit_is_that_of_a_rung_that_ran(layer: MakeLayer, report: MakeReport) -> None:
    """A rung that did not run has no say; without any the limit is unknown and nothing is held against it."""
    found = report([layer(0, Role.CREATES, local=50.0)])
    skipped = dataclasses.replace(found.rungs[0], status=Status.NOT_RUN, limit=64.0)
    assert facts.limit_of(dataclasses.replace(found, rungs=(skipped, *found.rungs))) == 6.0
    bare = dataclasses.replace(found, rungs=(skipped,))
    assert math.isnan(facts.limit_of(bare))
    assert "allowed" not in facts.headline(bare)


def test_the_headline_says_how_many_and_the_worst(layer: MakeLayer, report: MakeReport) -> None:
    """Measured against allowed; an infinite ratio in words."""
    one = report([layer(0), layer(1, Role.CREATES, local=41.0)])
    assert facts.headline(one) == "1 layer creates error: /layer1/Conv (Conv), 41x noise, 6x allowed"
    two = report([layer(0, Role.CREATES, local=9.0), layer(1, Role.CREATES, local=math.inf)])
    assert facts.headline(two) == "2 layers create error, the worst /layer1/Conv (Conv), beyond any rounding"


def test_without_a_creating_layer_the_headline_claims_no_more_than_is_known(
    layer: MakeLayer, report: MakeReport
) -> None:
    """Rounding is said only where all was compared and nothing is over; what could not be compared is counted."""
    quiet, unknown = layer(0, local=3.0), layer(1, Role.UNKNOWN, propagated=math.nan, local=math.nan)
    rounding = "no layer creates error, the largest at 50% of the limit"
    assert facts.headline(report([quiet])) == rounding
    assert facts.headline(report([quiet, unknown])) == f"{rounding}; 1 layer could not be compared"
    assert facts.headline(report([unknown])) == "no layer could be compared"
    assert "rounding" not in facts.headline(report([quiet, layer(1, Role.PASSES)]))
    assert "rounding" not in facts.headline(report([quiet], verdict=Verdict.DIVERGENT))
