"""Older forms of the basic operators, with onnxruntime CPU as the witness.

The standard's suite holds one version of each operator, mostly the newest. Here each form (attributes
that became inputs, options, older defaults) is built as a one-node model at every opset given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper


def _f(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed + sum(shape)).standard_normal(shape).astype(np.float32)


def _u8(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed + sum(shape)).integers(0, 256, shape).astype(np.uint8)


def _i8(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed + sum(shape)).integers(-128, 128, shape).astype(np.int8)


def _i(*values: Any) -> Any:
    return np.array(values, dtype=np.int64)


def _s(value: float) -> Any:
    return np.array(value, dtype=np.float32)


def _make(
    op: str,
    opsets: tuple[int, ...],
    inputs: Iterable[Any],
    outputs: int = 1,
    domain: str = "",
    label: str = "",
    **attributes: Any,
) -> list[Any]:
    names = [f"{op}-{opset}{'-' if label else ''}{label}" for opset in opsets]
    values = tuple(inputs)
    return [
        pytest.param(op, opset, values, attributes, outputs, domain, id=name)
        for opset, name in zip(opsets, names, strict=True)
    ]


def _arithmetic() -> list[Any]:
    a, b = _f(2, 3, 4), _f(3, 1, seed=5)
    n = np.array([7, -7, 7, -7, 0], dtype=np.int32)
    d = np.array([2, 2, -2, -2, 3], dtype=np.int32)
    out = []
    for op in ("Add", "Sub", "Mul", "Div"):
        out += _make(op, (7, 13, 14), (a, b)) + _make(op, (7, 14), (n, d), label="int32")
    for op in ("Equal", "Greater", "Less"):
        out += _make(op, (9, 11, 13), (n, d), label="int32") + _make(
            op, (7, 11, 13), (a, b) if op != "Equal" else (n, d)
        )
    out += _make("Pow", (7, 12, 13), (np.abs(a), b))
    out += _make("Pow", (12, 15), (_f(4), np.array([2, 0, 3, 1], np.int64)), label="int-exponent")
    out += _make("Pow", (12, 15), (np.array([2, 3, -2, 5], np.int32), _f(4) * 0 + 3), label="int-base")
    out += _make("Mod", (10, 13), (n, d)) + _make("Mod", (10, 13), (a, b), fmod=1, label="fmod")
    out += _make("Mod", (10,), (n, d), fmod=1, label="int-fmod")
    for op in ("Max", "Min", "Sum", "Mean"):
        out += _make(op, (8, 13), (a, b, _f(1, 4, seed=9)))
    nan = np.array([np.nan, 1, -np.inf, 0], np.float32)
    out += _make("Max", (12, 13), (nan, _f(4)), label="nan") + _make("Min", (12,), (nan, _f(4)), label="nan")
    out += _make("Clip", (7, 10), (a,), min=-0.5, max=0.25) + _make("Clip", (7,), (a,), label="open")
    out += _make("Clip", (11, 12, 13), (a, _s(-0.5), None)) + _make("Clip", (11, 12), (a, None, _s(0.1)), label="high")
    out += _make("Clip", (12, 13), (a, _s(1), _s(-1)), label="crossed")
    for op in (
        "Abs",
        "Neg",
        "Ceil",
        "Floor",
        "Exp",
        "Sin",
        "Cos",
        "Tan",
        "Atan",
        "Sinh",
        "Cosh",
        "Asinh",
        "Sign",
    ):
        out += _make(op, (9, 13), (a,))
    for op in ("Sqrt", "Log", "Reciprocal"):
        out += _make(op, (7, 13), (np.abs(a) + 0.1,))
    out += _make("Log", (13,), (np.array([0, -1, np.inf], np.float32),), label="edges")
    out += _make("Round", (11,), (np.array([0.5, 1.5, 2.5, -0.5, -1.5, 2.4], np.float32),))
    out += _make("BitShift", (11,), (_u8(6), np.arange(6, dtype=np.uint8)), direction="LEFT")
    out += _make("BitShift", (11,), (_u8(6), np.arange(6, dtype=np.uint8)), direction="RIGHT", label="right")
    out += _make("IsInf", (10,), (nan,), detect_positive=0) + _make("IsNaN", (9, 13), (nan,))
    out += _make("Where", (9, 16), (np.array([[True], [False]]), _f(2, 3), _f(3)))
    return out


def _reductions() -> list[Any]:
    x = _f(2, 3, 4)
    out = []
    for op in ("Sum", "Mean", "Prod", "Max", "Min", "L1", "L2", "SumSquare", "LogSumExp", "LogSum"):
        data = np.abs(x) + 0.1 if op == "LogSum" else x
        out += _make(f"Reduce{op}", (7, 11), (data,), axes=[1], keepdims=0)
        out += _make(f"Reduce{op}", (7, 11, 12), (data,), label="all")
        out += _make(f"Reduce{op}", (18,), (data, _i(-1, 0)), label="input")
        out += _make(f"Reduce{op}", (18,), (data,), noop_with_empty_axes=1, label="noop")
    out += _make("ReduceSum", (11,), (np.arange(6).reshape(2, 3),), axes=[-1], label="int64")
    out += _make("ReduceSum", (13,), (x, _i(0, 2)), keepdims=0, label="input")
    out += _make("ReduceMean", (11,), (np.array([[1, 2], [-1, -2]], np.int32),), axes=[1], label="int32")
    big = np.array([[1e4, 1e4], [-1e4, -1e4]], np.float32)
    out += _make("ReduceLogSumExp", (11, 18), (big,), label="large")
    ties = np.array([[1, 3, 3, 2], [5, 5, 0, 0]], np.float32)
    for op in ("ArgMax", "ArgMin"):
        out += _make(op, (7, 11, 12), (ties,), axis=1, keepdims=0)
        out += _make(op, (12, 13), (ties,), axis=1, select_last_index=1, label="last")
    for kw in ({}, {"exclusive": 1}, {"reverse": 1}, {"exclusive": 1, "reverse": 1}):
        out += _make("CumSum", (11, 14), (x, np.array(1, np.int64)), label="-".join(kw), **kw)
    return out


def _shapes() -> list[Any]:
    x = _f(2, 3, 4)
    out = _make("Reshape", (7, 13), (x, _i(0, -1, 2))) + _make("Flatten", (7, 9), (x,), axis=2)
    out += _make("Flatten", (11, 13), (x,), axis=-1, label="negative") + _make(
        "Flatten", (9,), (x,), axis=0, label="zero"
    )
    out += _make("Squeeze", (7, 11), (_f(1, 3, 1),), axes=[0]) + _make("Squeeze", (11, 13), (_f(1, 3, 1),), label="all")
    out += _make("Squeeze", (13,), (_f(1, 3, 1), _i(-1)), label="input")
    out += _make("Unsqueeze", (7, 11), (x,), axes=[0, 4]) + _make("Unsqueeze", (13,), (x, _i(-1, 0)), label="input")
    out += _make("Transpose", (7, 13), (x,)) + _make("Transpose", (7,), (x,), perm=[1, 2, 0], label="perm")
    out += _make("Concat", (7, 11), (x, _f(2, 1, 4)), axis=1)
    out += _make("Split", (7, 11), (x,), 2, axis=1, split=[1, 2]) + _make(
        "Split", (7, 11), (x,), 2, axis=2, label="even"
    )
    out += _make("Split", (13,), (x, _i(1, 2)), 2, axis=1, label="input")
    out += _make("Split", (18,), (_f(7),), 3, num_outputs=3, label="uneven")
    out += _make("Slice", (7, 9), (x,), starts=[0, -3], ends=[1, 100], axes=[0, 2])
    out += _make("Slice", (10, 11, 13), (x, _i(-1, 3), _i(-100, 0), _i(1, 2), _i(-1, -2)), label="steps")
    out += _make("Slice", (10, 13), (x, _i(1), _i(2**62)), label="open")
    pads = [0, 1, 2, 1, 0, 0]
    out += _make("Pad", (7, 10), (x,), pads=pads, value=1.5)
    for mode in ("reflect", "edge"):
        out += _make("Pad", (7, 10), (x,), pads=pads, mode=mode, label=mode)
        out += _make("Pad", (11, 13, 18), (x, _i(*pads)), mode=mode, label=mode)
    out += _make("Pad", (11, 13), (x, _i(*pads), _s(2))) + _make(
        "Pad", (11,), (x, _i(0, -1, 1, 0, 0, -2)), label="negative"
    )
    out += _make("Pad", (18,), (x, _i(1, 2), _s(3), _i(-1)), label="axes")
    out += _make("Pad", (19,), (x, _i(0, 0, 3, 0, 2, 1)), mode="wrap", label="wrap")
    out += _make("Tile", (7, 13), (x, _i(1, 2, 3))) + _make("Expand", (8, 13), (_f(3, 1), _i(2, 1, 4)))
    out += (
        _make("Shape", (7, 13), (x,)) + _make("Shape", (15,), (x,), start=-2, label="start") + _make("Size", (7,), (x,))
    )
    return out


def _indexing() -> list[Any]:
    x = _f(3, 4)
    out = _make("Gather", (7, 11), (x, _i([0, 2], [1, 1])), axis=1) + _make(
        "Gather", (11,), (x, _i(-1)), label="negative"
    )
    out += _make("Gather", (11, 13), (_f(2, 3, 4), np.array(-2)), axis=1, label="one index")
    out += _make("GatherElements", (11,), (x, _i([0, -1], [2, 3])), axis=1)
    out += _make("GatherND", (11, 12), (x, _i([0, 1], [2, 3])))
    out += _make("GatherND", (12,), (_f(2, 3, 4), _i([1], [0])), batch_dims=1, label="batch")
    for op in ("Scatter", "ScatterElements"):
        out += _make(op, (9,) if op == "Scatter" else (11, 13), (x, _i([0, 2], [1, 0]), _f(2, 2)), axis=1)
    index = _i([1, 1, 0, 0])
    for how in ("add", "mul", "max", "min"):
        out += _make("ScatterElements", (18,), (x, index, _f(1, 4)), reduction=how, label=how)
        out += _make("ScatterND", (18,), (x, _i([1], [1]), _f(2, 4)), reduction=how, label=how)
    out += _make("ScatterND", (11, 13), (x, _i([0], [2]), _f(2, 4)))
    out += _make("Compress", (9, 11), (x, np.array([True, False, True])), axis=1)
    out += _make("Compress", (9,), (x, np.array([False, True, True])), label="flat")
    out += _make("OneHot", (9, 11), (_i(0, -1, 7, 2), _i(3), _f(2)), axis=0)
    out += _make("NonZero", (9, 13), (np.array([[1, 0], [0, 2]], np.float32),))
    out += _make("EyeLike", (9,), (x,), k=1) + _make("Range", (11,), (_s(0.5), _s(3), _s(0.7)))
    out += _make("Range", (11,), (np.array(5), np.array(-4), np.array(-3)), label="down")
    out += _make("Trilu", (14,), (x, np.array(-1)), upper=0) + _make("Trilu", (14,), (x,), label="upper")
    out += _make("ReverseSequence", (10,), (_f(4, 3, 2), _i(4, 1, 2)))
    out += _make("ReverseSequence", (10,), (_f(3, 4), _i(4, 1, 2)), batch_axis=0, time_axis=1, label="batch-first")
    ties = np.array([[1, 3, 3, 2, 3], [0, 0, 5, 5, 1]], np.float32)
    out += _make("TopK", (7, 9), (ties,), 2, k=3) + _make("TopK", (10, 11), (ties, _i(3)), 2, label="input")
    out += _make("TopK", (11,), (ties, _i(4)), 2, largest=0, label="smallest")
    out += _make("TopK", (11,), (ties.astype(np.int64), _i(2)), 2, axis=0, label="int64")
    for kw in ({}, {"sorted": 0}):
        out += _make("Unique", (11,), (np.array([2, 1, 1, 3, 4, 3], np.float32),), 4, label="-".join(kw), **kw)
    out += _make("Unique", (11,), (np.array([[1, 0, 0], [1, 0, 0], [2, 3, 4]], np.float32),), 4, axis=0, label="axis")
    zero = helper.make_tensor("v", TensorProto.INT64, [1], [7])
    out += _make("ConstantOfShape", (9,), (_i(2, 3),)) + _make(
        "ConstantOfShape", (9,), (_i(2),), value=zero, label="int64"
    )
    return out


def _casts_and_quantisation() -> list[Any]:
    x = np.array([-1.9, -0.5, 0.0, 0.5, 1.9, 100.7], np.float32)
    out = []
    for to in (
        TensorProto.INT32,
        TensorProto.BOOL,
        TensorProto.FLOAT16,
        TensorProto.DOUBLE,
        TensorProto.INT8,
    ):
        out += _make("Cast", (9, 13), (x,), to=to, label=str(to))
    out += _make("Cast", (9, 13), (np.array([300, -1, 127]),), to=TensorProto.UINT8, label="wrap")
    q, scale, zero = _u8(2, 3, 4), _s(0.05), np.array(120, np.uint8)
    out += _make("QuantizeLinear", (10, 13), (_f(2, 3) * 9, scale, zero)) + _make(
        "DequantizeLinear", (10, 13), (q, scale, zero)
    )
    halves = np.array([0.5, 1.5, 2.5, -0.5, -300, 300], np.float32)
    out += _make("QuantizeLinear", (10,), (halves, _s(1), np.array(0, np.int8)), label="ties")
    scales, zeros = np.array([0.1, 0.2, 0.3], np.float32), np.array([1, 2, 3], np.uint8)
    out += _make("QuantizeLinear", (13,), (_f(2, 3, 4), scales, zeros), axis=1, label="axis")
    out += _make("DequantizeLinear", (13, 19), (q, scales, zeros), axis=-2, label="axis")
    out += _make("DequantizeLinear", (10,), (np.array([5, -9], np.int32), _s(0.5)), label="int32")
    out += _make("DynamicQuantizeLinear", (11,), (_f(5, 7),), 3)
    ya, yz = _s(0.9), np.array(128, np.uint8)
    out += _make("QLinearMatMul", (10,), (_u8(3, 8), _s(0.02), zero, _u8(8, 4, seed=3), _s(0.03), yz, ya, yz))
    # Weights of 7 bits: on processors with AVX2 and without VNNI onnxruntime adds pairs of uint8 x int8 products in
    # 16 bits, which saturates from 2 * 255 * 65 on, while the specification asks for the exact sum.
    w = _i8(4, 3, 3, 3) // np.int8(2)
    conv = (_u8(1, 3, 6, 6), _s(0.02), zero, w, _s(0.01), np.array(0, np.int8), _s(0.2), yz)
    out += _make("QLinearConv", (10,), (*conv, np.array([10, -20, 30, 0], np.int32)), pads=[1, 1, 1, 1])
    per = (*conv[:4], np.array([0.01, 0.02, 0.005, 0.01], np.float32), np.zeros(4, np.int8), *conv[6:])
    out += _make("QLinearConv", (10,), per, strides=[2, 2], label="per-channel")
    return out


def _rearrangements() -> list[Any]:
    out = _make("DepthToSpace", (7, 11, 13), (_f(2, 12, 2, 3),), blocksize=2)
    out += _make("DepthToSpace", (11, 13), (_f(2, 12, 2, 3),), blocksize=2, mode="CRD", label="CRD")
    return out + _make("SpaceToDepth", (7, 13), (_f(2, 3, 4, 6),), blocksize=2)


def _removed() -> list[Any]:
    x = _f(1, 3, 6, 7)
    out = _make("ImageScaler", (7,), (x,), scale=2.0, bias=[1.0, -2.0, 3.0])
    out += _make("Crop", (7,), (x,), border=[1, 2, 3, 1])
    out += _make("Crop", (7,), (x,), border=[1, 2, 0, 0], scale=[3, 4], label="size")
    for op in ("Affine", "ScaledTanh", "ParametricSoftplus"):
        out += _make(op, (7,), (x,), alpha=1.5, beta=0.5)
    return out


CASES = [
    *_arithmetic(),
    *_reductions(),
    *_shapes(),
    *_indexing(),
    *_casts_and_quantisation(),
    *_rearrangements(),
    *_removed(),
]


@pytest.mark.parametrize(("op", "opset", "inputs", "attributes", "outputs", "domain"), CASES)
def test_agrees_with_onnxruntime(
    against_onnxruntime: Callable[..., None],
    op: str,
    opset: int,
    inputs: tuple[Any, ...],
    attributes: dict[str, Any],
    outputs: int,
    domain: str,
) -> None:
    """The referee and onnxruntime CPU give the same for one form of an operator at one opset."""
    against_onnxruntime(op, opset, inputs, attributes, outputs, domain)
