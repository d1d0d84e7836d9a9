from __future__ import annotations

import numpy as np
import pytest

from onnxeq.errors import BadInputs
from onnxeq.interface import check_interface, pair_inputs, pair_outputs, paired_outputs, silent_outputs
from onnxeq.types import Status, TensorSpec

F32 = np.zeros((1, 4), np.float32)


def problems(source: dict[str, np.ndarray], target: dict[str, np.ndarray]) -> str:
    rung = check_interface("native/f32", "ort/cpu", [source], [target], ())
    assert (rung.status is Status.FAIL) == bool(rung.reason)
    return rung.reason


def test_equal_interfaces_pass() -> None:
    """Same names, types and shapes are no finding."""
    assert problems({"a": F32}, {"a": F32}) == ""


@pytest.mark.parametrize(
    ("source", "target", "says"),
    [
        ({"a": F32, "b": F32}, {"a": F32}, "1 of 2 outputs missing in the artifact: b"),
        ({"a": F32}, {"a": F32, "b": F32}, "1 outputs that the source has not: b"),
        ({"a": F32}, {"a": F32.astype(np.float64)}, "float32 in the source and float64 in the artifact"),
        ({"a": np.zeros(2, np.int64)}, {"a": np.zeros(2, np.int32)}, "int64 in the source and int32"),
        ({"a": np.zeros(())}, {"a": np.zeros(1)}, "shape [] in the source and [1]"),
        ({"a": np.zeros((4, 1))}, {"a": np.zeros((1, 4))}, "shape [4, 1] in the source and [1, 4]"),
        ({"a": F32 * np.nan}, {"a": F32 * np.nan}, "NaN on both sides at 4 of 4"),
    ],
)
def test_each_attribute_is_a_finding_of_its_own(source: dict, target: dict, says: str) -> None:
    """A missing or extra output, another type or shape, NaN on both sides: each is said, none is equal."""
    assert says in problems(source, target)


def test_inputs_pair_by_name_and_else_by_position() -> None:
    """Names win; without them the order does; a different number is refused."""
    a, b, c, d = (TensorSpec(n, "float32", (1,)) for n in "abcd")
    assert pair_inputs([a, b], [b, a]) == {"b": "b", "a": "a"}
    assert pair_inputs([a, b], [c, d]) == {"a": "c", "b": "d"}
    with pytest.raises(BadInputs, match="takes 1 inputs"):
        pair_inputs([a, b], [c])


def test_a_fault_in_any_feed_is_a_finding() -> None:
    """NaN on both sides only at the second batch size is said."""
    good, bad = {"a": F32}, {"a": F32 * np.nan}
    rung = check_interface("native/f32", "ort/cpu", [good, bad], [good, bad], ())
    assert rung.status is Status.FAIL
    assert "NaN on both sides" in rung.reason


def test_numbers_in_float64_leave_what_both_sides_miss_to_the_runtime() -> None:
    """NaN on both sides where the artifact gives a number in float64: whoever runs both has lost it. Else it counts."""
    broken, exact = {"a": np.array([[np.nan, np.nan, 0, 0]], np.float32)}, {"a": F32.astype(np.float64)}
    rung = check_interface("source ort/cpu", "ort/cpu", [broken], [broken], (), (), [exact])
    assert rung.status is Status.PASS
    exact["a"][0, 1] = np.nan
    rung = check_interface("source ort/cpu", "ort/cpu", [broken], [broken], (), (), [exact])
    assert "NaN on both sides at 1 of 4" in rung.reason


def test_outputs_pair_by_name_and_else_by_position() -> None:
    """Names win and their order is noted; other names go by position; what is left over keeps its own name."""
    trace = [{"x": F32, "y": F32 + 1}]
    swapped, said = paired_outputs(trace, ["y", "x"], _never)
    assert swapped == {"y": "y", "x": "x"}
    assert "another order" in said
    assert paired_outputs(trace, ["x", "y"], _never) == ({"x": "x", "y": "y"}, "")
    assert pair_outputs(["x", "y"], ["p", "q"]) == {"p": "x", "q": "y"}
    assert pair_outputs(["x", "y"], ["p"]) == {"p": "x"}
    collided = pair_outputs(["logits", "aux"], ["foo", "aux2", "logits"])
    assert collided == {"logits": "logits", "foo": "artifact:foo", "aux2": "artifact:aux2"}


def _never() -> list[dict[str, np.ndarray]]:
    raise AssertionError("there is no doubt")


@pytest.mark.parametrize(
    ("off", "names", "expected"),
    [
        (0.0, ("x", "y"), {"p": "y", "q": "x"}),  # the same numbers, the other way round
        (0.01, ("x", "y"), {"p": "y", "q": "x"}),  # the same in bfloat16, say
        (0.5, ("x", "y"), {"p": "x", "q": "y"}),  # another model: numbers that are nobody's say nothing
        (0.0, ("output_0", "output_1"), {"p": "output_0", "q": "output_1"}),  # a tuple has an order
    ],
)
def test_outputs_whose_names_say_nothing_are_paired_by_value(
    off: float, names: tuple[str, str], expected: dict[str, str]
) -> None:
    """Two outputs of one shape are exchanged only where that is decidedly nearer over all inputs, and it is said."""
    rng = np.random.default_rng(0)
    a, b, noise = rng.standard_normal((3, 4, 50)).astype(np.float32)
    ours = [dict(zip(names, (a[:2], b[:2]), strict=True)), dict(zip(names, (a[2:], b[2:]), strict=True))]
    theirs = [{"p": (b + off * noise)[part], "q": a[part]} for part in (slice(0, 2), slice(2, 4))]
    pairs, said = paired_outputs(ours, ["p", "q"], lambda: theirs)
    assert pairs == expected
    assert ("by their values" in said) == (pairs["p"] == "y")


def test_shapes_and_texts_pair_outputs_too() -> None:
    """Outputs that only fit the other way round are exchanged; what is text is compared as text."""
    trace = [{"x": F32 + 1, "y": F32[0] + 1, "label": np.array(["a", "b"])}]
    theirs = [{"p": F32[0] + 1, "q": F32 + 1, "r": np.array(["a", "b"])}]
    assert paired_outputs(trace, ["p", "q", "r"], lambda: theirs)[0] == {"p": "y", "q": "x", "r": "label"}


def test_positions_decide_where_the_source_has_nothing_else() -> None:
    """``output_0`` is a position and no name: an artifact that swaps the two is compared as it is used."""
    assert pair_outputs(["output_0", "output_1"], ["output_1", "output_0"]) == {
        "output_1": "output_0",
        "output_0": "output_1",
    }


def silent(trace: list[dict[str, np.ndarray]], unit: float, live: list[str]) -> list[str]:
    units = [{n: np.full(a.shape, unit) for n, a in feed.items()} for feed in trace]
    return [s.name for s in silent_outputs(trace, units, live, [3] * len(trace))]


def test_a_constant_output_is_silent_only_if_it_should_vary() -> None:
    """An output that did not vary over the samples proves nothing, unless no input reaches it."""
    rng = np.random.default_rng(0)
    varied = rng.standard_normal((3, 4))
    trace = [
        {"v": varied, "c": np.full((3, 4), 0.1), "w": np.full((3, 4), 0.1) + varied * 1e-12, "i": np.ones((3,), int)}
    ]
    assert silent(trace, 1e-8, ["v", "c", "w", "i"]) == ["c", "w", "i"]
    assert silent(trace, 1e-8, ["v"]) == []


def test_without_knowledge_a_constant_table_is_compared_and_a_constant_flag_is_not() -> None:
    """Anchors that never vary are numbers to compare; a flag that never varies proves nothing."""
    trace = [{"anchors": np.arange(6.0), "flag": np.zeros(5, bool), "zero": np.zeros(4)}] * 2
    units = [{n: np.zeros(a.shape) for n, a in feed.items()} for feed in trace]
    assert [s.name for s in silent_outputs(trace, units, None, [1, 3])] == ["flag", "zero"]


def test_rows_are_samples_only_along_the_batch() -> None:
    """A constant table of 8 rows does not vary because its rows differ."""
    table = np.arange(8.0).reshape(8, 1)
    assert silent([{"t": table}, {"t": table.copy()}], 1e-9, ["t"]) == ["t"]


def test_an_empty_output_is_silent() -> None:
    """Nothing was compared where there is nothing."""
    assert silent([{"e": np.zeros((0, 4))}], 0.0, ["e"]) == ["e"]


def test_tiny_is_not_silent_and_minus_infinity_hides_nothing() -> None:
    """An output of 1e-6 that varies by as much is alive; so is one with a mask of -inf in it."""
    value = np.random.default_rng(0).standard_normal((3, 4)) * 1e-6
    masked = value.copy()
    masked[:, 0] = -np.inf
    assert silent([{"t": value, "m": masked}], 1e-13, ["t", "m"]) == []


@pytest.mark.parametrize(
    ("source", "target", "output"),
    [({"a": F32, "b": F32}, {"a": F32}, "b"), ({"a": F32}, {"a": F32, "artifact:c": F32}, "artifact:c")],
)
def test_an_output_too_many_or_missing_is_the_rung_s(source: dict, target: dict, output: str) -> None:
    """The rung carries its name, from which the node that makes it is found."""
    assert check_interface("native/f32", "ort/cpu", [source], [target], ()).output == output
