"""Where this onnxruntime leaves the specification, operator by operator.

The random models avoid exactly these conditions; ``repros/`` proves that each still holds, so that a row
falls as soon as onnxruntime mends it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["KNOWN", "Discrepancy", "Use", "known"]


@dataclass(frozen=True)
class Use:
    """One use of an operator: its attributes, what its inputs hold (``None``: absent), and who made them."""

    op_type: str
    opset: int
    attributes: Mapping[str, Any]
    inputs: Sequence[NDArray[Any] | None]
    makers: Sequence[str] = ()

    def ints(self, name: str, default: Sequence[int]) -> list[int]:
        """A list attribute."""
        return [int(v) for v in self.attributes.get(name) or default]


@dataclass(frozen=True)
class Discrepancy:
    """One row: ``applies`` is ``condition`` as a predicate, for ``since <= opset <= until``.

    ``witnesses`` agree with the referee against onnxruntime.
    """

    op_type: str
    since: int
    until: int
    condition: str
    applies: Callable[[Use], bool]
    witnesses: tuple[str, ...]
    evidence: str


def _narrow_same(use: Use) -> bool:
    if use.attributes.get("auto_pad") not in ("SAME_UPPER", "SAME_LOWER"):
        return False
    kernel = use.inputs[1].shape[2:]  # type: ignore[union-attr]
    strides, dilations = use.ints("strides", [1] * len(kernel)), use.ints("dilations", [1] * len(kernel))
    return any((k - 1) * d + 1 < s for k, d, s in zip(kernel, dilations, strides, strict=True))


def _dilated_same(use: Use) -> bool:
    if use.attributes.get("auto_pad") not in ("SAME_UPPER", "SAME_LOWER"):
        return False
    kernel = use.ints("kernel_shape", [])
    return any(k > 1 and d > 1 for k, d in zip(kernel, use.ints("dilations", [1] * len(kernel)), strict=True))


def _cropping_same(use: Use) -> bool:
    if use.attributes.get("auto_pad") not in ("SAME_UPPER", "SAME_LOWER"):
        return False
    size = use.inputs[0].shape[2:]  # type: ignore[union-attr]
    strides = use.ints("strides", [1] * len(size))
    kernel = use.ints("kernel_shape", [])
    return any((-(-n // s) - 1) * s + k < n for n, s, k in zip(size, strides, kernel, strict=True))


def _no_window(use: Use) -> bool:
    if use.attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return False
    size = use.inputs[0].shape[2:]  # type: ignore[union-attr]
    kernel, rank = use.ints("kernel_shape", []), len(size)
    dilations, pads = use.ints("dilations", [1] * rank), use.ints("pads", [0] * (2 * rank))
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    return any(s > n + pads[i] + pads[rank + i] for i, (s, n) in enumerate(zip(spans, size, strict=True)))


def _scaled_crop(use: Use) -> bool:
    cropping = use.attributes.get("coordinate_transformation_mode") == "tf_crop_and_resize"
    scales = use.inputs[2] if len(use.inputs) > 2 else None
    roi = use.inputs[1]
    if not cropping or scales is None or not scales.size or roi is None:
        return False
    half = roi.size // 2
    return not np.array_equal(roi[half:] - roi[:half], np.ones(half))


def _transposed_times_vector(use: Use) -> bool:
    a, b = use.inputs
    return a is not None and b is not None and a.ndim > 1 and b.ndim == 1 and use.makers[0] == "Transpose"


def _int8_per_tensor(use: Use) -> bool:
    x, scale = use.inputs[0], use.inputs[1]
    return x is not None and scale is not None and x.dtype == np.int8 and scale.ndim == 0 and len(use.inputs) > 2


def _small_deviation(use: Use) -> bool:
    x = np.asarray(use.inputs[0], np.float64)
    return bool((x.std(tuple(use.ints("axes", (0, 2, 3)))) < 0.01).any())


KNOWN: tuple[Discrepancy, ...] = (
    Discrepancy(
        "ConvTranspose", 1, 10**6, "auto_pad SAME_* and, on an axis, (kernel - 1) * dilation + 1 < stride",
        _narrow_same, ("spec", "tensorflow"),
        "the text gives output = input * stride; onnxruntime gives (input - 1) * stride + kernel, which is less",
    ),
    *(
        Discrepancy(
            op, since, 10**6, "auto_pad SAME_* with a dilation on an axis whose kernel is longer than 1",
            _dilated_same, ("spec", "onnx shape inference"),
            "the text gives ceil(size / stride); onnxruntime pads for the kernel without its dilation",
        )
        for op, since in (("MaxPool", 10), ("LpPool", 18), ("AveragePool", 19))
    ),
    *(
        Discrepancy(
            op, 1, 10**6, "auto_pad SAME_* where the windows leave a rest of the input over: padding below zero",
            _cropping_same, ("tensorflow", "onnxruntime's Conv"),
            "nothing is padded, so that windows begin at 0; onnxruntime's pools crop half of the rest in front",
        )
        for op in ("MaxPool", "LpPool", "AveragePool")
    ),
    *(
        Discrepancy(
            op, 1, 10**6, "the (dilated) kernel is longer than the padded input", _no_window, ("spec",),
            "floor(negative / stride) + 1 is no window; onnxruntime truncates toward zero and gives one",
        )
        for op in ("MaxPool", "LpPool", "AveragePool")
    ),
    Discrepancy(
        "MatMul", 1, 10**6, "a matrix that Transpose made, times a vector; with optimisations on",
        _transposed_times_vector, ("spec", "onnxruntime with optimisations off"),
        "MatMulTransposeFusion folds the transposition into FusedMatMul, which ignores it before a vector",
    ),
    Discrepancy(
        "DequantizeLinear", 21, 10**6, "int8 with one zero point for the tensor; with optimisations on, before a"
        " Reshape, Transpose, Squeeze, Unsqueeze, Slice or MaxPool", _int8_per_tensor,
        ("spec", "onnxruntime with optimisations off"),
        "quantisation is propagated behind that operator by a QuantizeLinear whose output_dtype does not fit its zero"
        " point, and the model is refused",
    ),
    Discrepancy(
        "MeanVarianceNormalization", 9, 10**6, "an instance's standard deviation is so small that 1e-9 shows beside it",
        _small_deviation, ("spec", "onnx's function body"),
        "the function body divides by deviation + 1e-9; onnxruntime's kernel divides by the deviation",
    ),
    Discrepancy(
        "Resize", 11, 10**6, "tf_crop_and_resize by scales, with a region that is not as long as the input",
        _scaled_crop, ("spec",),
        "the text gives floor(size * (roi_end - roi_start) * scale); onnxruntime leaves the region out",
    ),
)  # fmt: skip
"""The rows that random models met."""


def known(use: Use) -> Discrepancy | None:
    """The row that this use of an operator falls under, or ``None``."""
    for row in KNOWN:
        if row.op_type == use.op_type and row.since <= use.opset <= row.until and row.applies(use):
            return row
    return None
