from __future__ import annotations

import numpy as np
import pytest

from onnxeq.errors import BadInputs
from onnxeq.interface import check_interface, dead_outputs, pair_inputs, pair_outputs
from onnxeq.types import Status, TensorSpec

F32 = np.zeros((1, 4), np.float32)


def problems(source: dict[str, np.ndarray], target: dict[str, np.ndarray]) -> str:
    rung = check_interface("native/f32", "ort/cpu", source, target, ())
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


def test_outputs_pair_by_name_and_else_by_position() -> None:
    """A permuted order with the same names is no swap; other names go by position."""
    assert pair_outputs(["x", "y"], ["y", "x"]) == {"y": "y", "x": "x"}
    assert pair_outputs(["x", "y"], ["p", "q"]) == {"p": "x", "q": "y"}
    assert pair_outputs(["x", "y"], ["p"]) == {"p": "x"}


def test_a_constant_output_is_dead_only_if_it_should_vary() -> None:
    """An output that did not vary over the samples proves nothing, unless no input reaches it."""
    rng = np.random.default_rng(0)
    varied = rng.standard_normal((3, 4))
    trace = [{"v": varied, "c": np.full((3, 4), 0.1), "w": np.full((3, 4), 0.1) + varied * 1e-12}]
    unit = [{"v": np.full((3, 4), 1e-7), "c": np.full((3, 4), 1e-8), "w": np.full((3, 4), 1e-8)}]
    assert dead_outputs(trace, unit, ["v", "c", "w"]) == ["c", "w"]
    assert dead_outputs(trace, unit, ["v"]) == []


def test_tiny_is_not_dead() -> None:
    """An output of 1e-6 that varies by as much is alive: its own noise is far smaller."""
    value = np.random.default_rng(0).standard_normal((3, 4)) * 1e-6
    assert dead_outputs([{"t": value}], [{"t": np.full((3, 4), 1e-13)}], ["t"]) == []
