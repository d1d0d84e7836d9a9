"""Conversions: what rounds in float64, what does not, and the edges of the narrow types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxeq.errors import OnnxeqError
from onnxeq.referee.executor import Executor

Run = Callable[..., list[Any]]


def _chain(*targets: int) -> onnx.ModelProto:
    """X (float32) -> x / 3 -> Cast to each target in turn."""
    three = helper.make_tensor("three", TensorProto.FLOAT, [], [3.0])
    nodes = [helper.make_node("Div", ["x", "three"], ["v0"])]
    nodes += [helper.make_node("Cast", [f"v{i}"], [f"v{i + 1}"], to=t) for i, t in enumerate(targets)]
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    out = onnx.ValueInfoProto(name=f"v{len(targets)}")
    graph = helper.make_graph(nodes, "g", [info], [out], [three])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def _run(model: onnx.ModelProto, x: float) -> float:
    (value,) = Executor(model).run({"x": np.array([x], np.float32)}).values()
    return float(value[0])


def test_cast_to_float16_rounds() -> None:
    """float32 to float16 is part of the meaning: 1/3 becomes the nearest float16."""
    assert _run(_chain(TensorProto.FLOAT16), 1.0) == float(np.float16(1 / 3))


@pytest.mark.parametrize(("target", "bits"), [(TensorProto.FLOAT16, 11), (TensorProto.BFLOAT16, 8)])
def test_cast_to_half_precision_rounds_the_float32_number(run_node: Run, target: int, bits: int) -> None:
    """1 + 2^-bits + 2^-40 is the tie 1 + 2^-bits in float32, which goes to the even 1."""
    (got,) = run_node("Cast", 13, (np.array([1 + 2.0**-bits + 2.0**-40]),), {"to": target})
    assert got[0] == 1.0


@pytest.mark.parametrize("target", [TensorProto.FLOAT, TensorProto.DOUBLE])
def test_cast_to_wide_types_does_not_round(target: int) -> None:
    """In a lifted graph 1/3 stays the float64 quotient through Cast to float and to double."""
    assert _run(_chain(TensorProto.DOUBLE, target), 1.0) == 1 / 3


def test_widening_does_not_round_again() -> None:
    """float16 to float32 keeps the float16 value."""
    assert _run(_chain(TensorProto.FLOAT16, TensorProto.FLOAT), 1.0) == float(np.float16(1 / 3))


@pytest.mark.parametrize(("value", "expected"), [(1.9, 1), (-1.9, -1), (0.99, 0), (-0.5, 0)])
def test_float_to_integer_truncates(run_node: Run, value: float, expected: int) -> None:
    """Conversion to an integer drops the fraction, toward zero."""
    (got,) = run_node("Cast", 13, (np.array([value], np.float32),), {"to": TensorProto.INT32})
    assert got.dtype == np.int32
    assert got[0] == expected


@pytest.mark.parametrize(("value", "expected"), [(300, 44), (-1, 255), (256, 0)])
def test_integer_narrowing_keeps_low_bits(run_node: Run, value: int, expected: int) -> None:
    """Conversion to a narrower integer keeps the low bits: 300 mod 256 = 44."""
    (got,) = run_node("Cast", 13, (np.array([value], np.int64),), {"to": TensorProto.UINT8})
    assert got[0] == expected


@pytest.mark.parametrize(
    ("name", "opset", "saturate", "value", "expected"),
    [
        ("FLOAT8E4M3FN", 19, 1, np.inf, 448.0),
        ("FLOAT8E4M3FN", 19, 1, -1e9, -448.0),
        ("FLOAT8E4M3FN", 19, 0, 1e9, np.nan),
        ("FLOAT8E5M2", 19, 1, 1e9, 57344.0),
        ("FLOAT8E5M2", 19, 0, 1e9, np.inf),
        ("FLOAT8E4M3FNUZ", 19, 1, np.inf, np.nan),
        ("FLOAT8E4M3FNUZ", 24, 1, np.inf, 240.0),
        ("FLOAT8E5M2FNUZ", 19, 0, 1e9, np.nan),
    ],
)
def test_float8_edges(run_node: Run, name: str, opset: int, saturate: int, value: float, expected: float) -> None:
    """Overflow and infinity follow the two tables of Cast, which changed for FNUZ types at opset 24."""
    to = getattr(TensorProto, name)
    (got,) = run_node("Cast", opset, (np.array([value], np.float32),), {"to": to, "saturate": saturate})
    np.testing.assert_array_equal(got, [expected])


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [("up", 5.0, 8.0), ("down", 5.0, 4.0), ("nearest", 5.0, 4.0), ("nearest", 6.0, 8.0), ("up", 4.0, 4.0)],
)
def test_power_of_two_type_rounds_as_asked(run_node: Run, mode: str, value: float, expected: float) -> None:
    """float8e8m0 holds powers of two: 5 lies between 4 and 8, and 6 is the tie, which goes up."""
    attributes = {"to": 24, "round_mode": mode}
    (got,) = run_node("Cast", 24, (np.array([value], np.float32),), attributes)
    assert got[0] == expected


def test_text_both_ways(run_node: Run) -> None:
    """0.1 stored in float32 prints as 0.1, not as its float64 expansion; text reads back as a number."""
    (text,) = run_node("Cast", 13, (np.array([0.1, 1e-7, np.inf], np.float32),), {"to": TensorProto.STRING})
    assert text.tolist() == ["0.1", "1e-07", "inf"]
    words = np.array(["-2.5", "1e3", "nan"], dtype=object)
    (numbers,) = run_node("Cast", 13, (words,), {"to": TensorProto.FLOAT})
    np.testing.assert_array_equal(numbers, [-2.5, 1000.0, np.nan])


def test_bad_text_is_said(run_node: Run) -> None:
    """Text that is no number is an error that quotes it."""
    with pytest.raises(OnnxeqError, match="twelve"):
        run_node("Cast", 13, (np.array(["twelve"], dtype=object),), {"to": TensorProto.INT64})


def test_cast_like_takes_the_declared_type(run_node: Run) -> None:
    """The target is the second input's declared type (float16), not how the referee holds it."""
    (got,) = run_node("CastLike", 19, (np.array([0.1], np.float32), np.zeros(1, np.float16)))
    assert got[0] == float(np.float16(np.float32(0.1)))


@pytest.mark.parametrize(
    ("value", "to", "bits"),
    [
        (np.array([1.0], np.float32), TensorProto.INT32, 0x3F800000),
        (np.array([1.0], np.float16), TensorProto.UINT16, 0x3C00),
        (np.array([1.0], ml_dtypes.bfloat16), TensorProto.UINT16, 0x3F80),
        (np.array([1.0], np.float64), TensorProto.INT64, 0x3FF0000000000000),
    ],
)
def test_bit_cast_reads_the_declared_type(run_node: Run, value: Any, to: int, bits: int) -> None:
    """1.0 has the IEEE 754 pattern of its declared type, although it is held in float64."""
    (got,) = run_node("BitCast", 26, (value,), {"to": to})
    assert int(got[0]) == bits


def test_bit_cast_needs_equal_widths(run_node: Run) -> None:
    """float32 cannot be read as int64."""
    with pytest.raises(OnnxeqError, match="width"):
        run_node("BitCast", 26, (np.ones(1, np.float32),), {"to": TensorProto.INT64})
