from __future__ import annotations

import math

import numpy as np
import pytest

from onnxeq.ladder import (
    ACCEPTED,
    LIMITS,
    Execution,
    Rules,
    RungPlan,
    Tolerance,
    Units,
    causes,
    climb,
    made_by_kernels,
    recognised,
    verdict,
)
from onnxeq.types import CauseKind, Rung, Status, Verdict

RNG = np.random.default_rng(0)
BASE = RNG.standard_normal((1, 1000))
UNITS = Units(({"y": np.full((1, 1000), 1e-6)},), ({"y": np.full((1, 1000), 1e-7)},))


def execution(name: str, error: float = 0.0) -> Execution:
    return Execution(name, ({"y": BASE + error * RNG.standard_normal(BASE.shape)},))


def rung(plan: RungPlan, a: Execution, b: Execution, rules: Rules = Rules()):  # noqa: B008
    return climb([plan], {a.name: a, b.name: b}, UNITS, rules)[0]


@pytest.mark.parametrize("name", ["native-rounding", "kernels", "optimizer", "provider", "stability"])
def test_float32_rungs_are_measured_in_rounding_noise(name: str) -> None:
    """Twice the noise passes, a hundred times the noise fails, on every float32 rung."""
    plan = RungPlan(name, "a", "b")
    assert rung(plan, execution("a"), execution("b", 2e-6)).status is Status.PASS
    broken = rung(plan, execution("a"), execution("b", 1e-4))
    assert broken.status is Status.FAIL
    assert broken.ratio == pytest.approx(100 / (1 + 3 / math.sqrt(1000)), rel=0.1)


@pytest.mark.parametrize("name", ["graph", "weights", "normalize"])
def test_float64_rungs_are_measured_in_the_constant_floor(name: str) -> None:
    """The same error that float32 rounding explains is a break on a float64 rung."""
    plan = RungPlan(name, "a", "b")
    assert rung(plan, execution("a"), execution("b", 1e-7)).status is Status.PASS
    assert rung(plan, execution("a"), execution("b", 2e-6)).status is Status.FAIL


def test_the_sharp_rung_says_which_of_the_two_explains_it() -> None:
    """Without folding, float64 agreement is said; an error within the floor is said to be that."""
    plan = RungPlan("graph", "a", "b", sharp=True)
    sharp = rung(plan, execution("a"), execution("b", 1e-15))
    assert "float64 rounding" in sharp.reason
    folded = rung(plan, execution("a"), execution("b", 1e-7))
    assert "stored constants" in folded.reason


def test_a_rung_that_was_asked_for_and_did_not_run_leaves_the_verdict_open() -> None:
    """Not-run with a reason is inconclusive, unless nobody asked; a break elsewhere still counts."""
    asked = RungPlan("kernels", "a", "b")
    unasked = RungPlan("provider", "a", "c", asked=False, why_not="no CUDA device")
    missing = Execution("b", (), "killed by SIGKILL")
    (open_,) = climb([asked], {"a": execution("a"), "b": missing}, UNITS, Rules())
    assert (open_.status, open_.reason) == (Status.NOT_RUN, "killed by SIGKILL")
    assert verdict([open_], [asked], ()) is Verdict.INCONCLUSIVE
    (skipped,) = climb([unasked], {"a": execution("a")}, UNITS, Rules())
    passed = rung(RungPlan("kernels", "a", "d"), execution("a"), execution("d"))
    assert verdict([passed, skipped], [unasked], ()) is Verdict.EQUIVALENT
    assert verdict([passed], [], ["output 'y' did not vary"]) is Verdict.INCONCLUSIVE
    broken = rung(RungPlan("kernels", "a", "e"), execution("a"), execution("e", 1e-3))
    assert verdict([broken, open_], [asked], ()) is Verdict.DIVERGENT


def test_without_a_referee_nothing_is_equivalent() -> None:
    """If the units could not be measured, no rung passes on trust."""
    units = Units(missing="no validated float64 semantics for Foo")
    (found,) = climb([RungPlan("kernels", "a", "b")], {"a": execution("a"), "b": execution("b")}, units, Rules())
    assert found.status is Status.NOT_RUN
    assert "Foo" in found.reason


def test_accept_passes_its_own_size_on_its_own_rungs() -> None:
    """TF32's unit is tried on the provider rung and nowhere else, and passes twice its size and no more."""
    unit = 3e-3
    units = Units(UNITS.rounding, UNITS.floor, reduced={"tf32": ({"y": np.full((1, 1000), unit)},)})
    tf32 = Rules(accept=("tf32",))

    def climbed(name: str, error: float) -> Rung:
        runs = {"a": execution("a"), "b": execution("b", error)}
        return climb([RungPlan(name, "a", "b")], runs, units, tf32)[0]

    accepted = climbed("provider", unit)
    assert accepted.status is Status.PASS
    assert "accepted as tf32: 0.8" in accepted.reason  # 1 / (1 + 3/sqrt(1000)) = 0.91, for these draws 0.89
    assert climbed("provider", 3 * unit).status is Status.FAIL
    assert climbed("kernels", unit).status is Status.FAIL
    assert set(ACCEPTED) == {"tf32", "float16", "bfloat16", "int8"}


def test_a_classic_tolerance_takes_the_limits_place() -> None:
    """``--atol`` decides alone when it is given."""
    plan = RungPlan("kernels", "a", "b")
    loose = rung(plan, execution("a"), execution("b", 1e-4), Rules(tolerance=Tolerance(0.0, 1e-2)))
    strict = rung(plan, execution("a"), execution("b", 1e-6), Rules(tolerance=Tolerance(0.0, 1e-9)))
    assert (loose.status, strict.status) == (Status.PASS, Status.FAIL)


def test_the_lowering_rung_is_measured_by_the_native_runs_own_error() -> None:
    """What runs may be a hundred times less accurate than the native float32 run, whatever noise the artifact has."""
    plan = RungPlan("lowering", "exact", "deployed", measure="native")
    noisy = Units(({"y": np.full((1, 1000), 1.0)},), ({"y": np.full((1, 1000), 1.0)},))

    def climbed(error: float) -> Status:
        runs = {
            "exact": execution("exact"),
            "native": execution("native", 1e-6),
            "deployed": execution("deployed", error),
        }
        return climb([plan], runs, noisy, Rules())[0].status

    assert climbed(5e-5) is Status.PASS
    assert climbed(3e-4) is Status.FAIL


def test_kernels_that_lose_more_than_their_graph_are_no_lowering() -> None:
    """Native 1e-7, deployed 1e-3: where single roundings make 1e-6, the kernels did it; where 1e-4, the graph does.

    Six times the single roundings against a hundred times the native error: 6e-6 and 6e-4 against 1e-5.
    """
    runs = {"exact": execution("exact"), "native": execution("native", 1e-7), "deployed": execution("deployed", 1e-3)}
    lowering = climb([RungPlan("lowering", "exact", "deployed", measure="native")], runs, UNITS, Rules())[0]
    assert lowering.status is Status.FAIL
    for single, kernels in ((1e-6, True), (1e-4, False)):
        assert made_by_kernels(lowering, "native", runs, [{"y": np.full(BASE.shape, single)}]) is kernels
    assert not made_by_kernels(lowering, "native", runs, [])


def test_a_consequence_is_no_cause_of_its_own() -> None:
    """A broken lowering rung behind a broken graph rung is not listed again."""
    graph = rung(RungPlan("graph", "a", "c"), execution("a"), execution("c", 1e-2))
    runs = {"a": execution("a"), "n": execution("n", 1e-6), "c": execution("c", 1e-2)}
    lowering = climb([RungPlan("lowering", "a", "c", measure="n")], runs, UNITS, Rules())[0]
    assert lowering.status is Status.FAIL
    assert [c.rung for c in causes([graph, lowering], joint=True)] == ["graph"]
    assert [c.rung for c in causes([lowering], joint=True)] == ["lowering"]


def test_tf32_excuses_nothing_where_it_is_off() -> None:
    """``--accept tf32`` does not widen the rung that runs without it."""
    units = Units(UNITS.rounding, UNITS.floor, reduced={"tf32": ({"y": np.full((1, 1000), 1e-3)},)})
    rules = Rules(accept=("tf32",))
    runs = {"ort/cpu": execution("ort/cpu")}
    for target, status in (("ort/cuda no-tf32", Status.FAIL), ("ort/cuda", Status.PASS)):
        runs[target] = execution(target, 1e-3)
        assert climb([RungPlan("provider", "ort/cpu", target)], runs, units, rules)[0].status is status


def test_float64_arithmetic_itself_is_no_semantic_fault() -> None:
    """A graph without constants has no floor; a difference of a few float64 roundings still passes."""
    units = Units(UNITS.rounding, ({"y": np.zeros((1, 1000))},))
    plan = RungPlan("graph", "a", "b")
    for error, status in ((1e-15, Status.PASS), (1e-9, Status.FAIL)):
        runs = {"a": execution("a"), "b": execution("b", error)}
        assert climb([plan], runs, units, Rules())[0].status is status


def test_precision_is_recognised_by_the_nearest_unit() -> None:
    """An error is said to be the type's whose unit it is the size of; one between or beyond is nobody's."""
    reduced = {k: ({"y": np.full((1, 1000), u)},) for k, u in (("tf32", 1e-3), ("bfloat16", 1e-2))}
    units = Units(UNITS.rounding, UNITS.floor, reduced=reduced)

    def words(error: float) -> str:
        runs = {"a": execution("a"), "b": execution("b", error)}
        (broken,) = climb([RungPlan("provider", "a", "b")], runs, units, Rules())
        return recognised(broken, runs, units)

    assert "TF32" in words(7e-4)
    assert "bfloat16" in words(7e-3)
    assert words(5e-5) == words(1.0) == ""


def test_causes_are_worst_first_and_name_measured_and_allowed() -> None:
    """Every broken rung is a cause with its evidence: measured, unit, allowed."""
    small = rung(RungPlan("kernels", "a", "b"), execution("a"), execution("b", 1e-4))
    large = rung(RungPlan("graph", "a", "c"), execution("a"), execution("c", 1e-2))
    found = causes([small, large], joint=False)
    assert [c.cause for c in found] == [CauseKind.GRAPH, CauseKind.RUNTIME]
    assert f"({LIMITS['kernels'].factor:g}x allowed)" in found[1].evidence
    assert found[0].where.value == "y"
