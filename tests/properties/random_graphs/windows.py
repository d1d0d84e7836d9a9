"""Convolutions, pools, matrix products and resampling."""

from __future__ import annotations

from typing import Any

import numpy as np

from .builder import Builder, Value

__all__ = ["average_pool", "conv", "conv_transpose", "einsum", "gemm", "global_pool", "matmul", "max_pool", "resize"]


def _layout(b: Builder, kernel: list[int], size: tuple[int, ...], dilated: bool = True) -> dict[str, Any]:
    """Strides, dilations, pads or auto_pad for a window of ``kernel`` over ``size``."""
    axes = len(kernel)
    found: dict[str, Any] = {}
    if b.flag():
        found["strides"] = [b.integer(1, 3) for _ in range(axes)]
    if dilated and b.integer(0, 2) == 2:
        found["dilations"] = [b.integer(1, 2) for _ in range(axes)]
    how = b.choice(("none", "pads", "pads", "SAME_UPPER", "SAME_LOWER", "VALID"))
    if how == "pads":
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, found.get("dilations", [1] * axes), strict=True)]
        found["pads"] = [b.integer(0, max(0, min(r - 1, k - 1))) for r, k in zip(reach * 2, kernel * 2, strict=True)]
    elif how != "none":
        found["auto_pad"] = how
    return found


def _kernel(b: Builder, size: tuple[int, ...]) -> list[int]:
    return [b.integer(1, min(4, n)) for n in size]


def conv(b: Builder) -> Any:
    """``Conv`` with groups, pads, strides, dilations, auto_pad and perhaps a bias."""
    x = b.spatial()
    channels, size = x.shape[1], x.shape[2:]
    kernel = _kernel(b, size)
    group = b.choice([g for g in range(1, channels + 1) if channels % g == 0])
    out = group * b.integer(1, 3)
    weight = b.constant(b.healthy((out, channels // group, *kernel), b.choice((0.5, 1.0))))
    bias = b.constant(b.healthy((out,))) if b.flag() else None
    return b.node(
        "Conv", [x, weight, bias], group=group if group > 1 else None,
        kernel_shape=kernel if b.flag() else None, **_layout(b, kernel, size),
    )  # fmt: skip


def conv_transpose(b: Builder) -> Any:
    """``ConvTranspose`` with groups, output padding or an output shape."""
    x = b.spatial()
    channels, size = x.shape[1], x.shape[2:]
    kernel = [b.integer(1, 3) for _ in size]
    group = b.choice([g for g in range(1, channels + 1) if channels % g == 0])
    weight = b.constant(b.healthy((channels, b.integer(1, 3), *kernel), 0.5))
    bias = b.constant(b.healthy((weight.shape[1] * group,))) if b.flag() else None
    layout = _layout(b, kernel, size)
    if "auto_pad" not in layout and b.integer(0, 2) == 2:
        strides = layout.get("strides", [1] * len(size))
        layout["output_padding"] = [b.integer(0, s - 1) for s in strides]
    return b.node("ConvTranspose", [x, weight, bias], group=group if group > 1 else None, kernel_shape=kernel, **layout)


def _pool_layout(b: Builder, op: str, since_dilation: int) -> tuple[Value, dict[str, Any]]:
    x = b.spatial()
    size = x.shape[2:]
    kernel = _kernel(b, size)
    layout = _layout(b, kernel, size, dilated=b.opset >= since_dilation)
    since_ceil = 10 if op != "LpPool" else 18
    if b.opset >= since_ceil and "auto_pad" not in layout and b.flag():
        layout["ceil_mode"] = 1
    return x, {"kernel_shape": kernel, **layout}


def max_pool(b: Builder) -> Any:
    """``MaxPool``, perhaps with its indices."""
    x, layout = _pool_layout(b, "MaxPool", 10)
    if b.opset >= 8 and b.integer(0, 2) == 2:
        return b.node("MaxPool", [x], 2, storage_order=b.choice((None, 1)), **layout)
    return b.node("MaxPool", [x], **layout)


def average_pool(b: Builder) -> Any:
    """``AveragePool`` or ``LpPool``."""
    if b.integer(0, 3) == 3:
        x, layout = _pool_layout(b, "LpPool", 18)
        return b.node("LpPool", [x], p=b.choice((None, 1, 2, 3)), **layout)
    x, layout = _pool_layout(b, "AveragePool", 19)
    return b.node("AveragePool", [x], count_include_pad=b.choice((None, 0, 1)), **layout)


def global_pool(b: Builder) -> Any:
    """A pool over all spatial axes."""
    op = b.choice(("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"))
    return b.node(op, [b.spatial()], p=b.choice((None, 1, 3)) if op == "GlobalLpPool" else None)


def matmul(b: Builder) -> Any:
    """``MatMul`` with batches that broadcast, vectors included."""
    x = b.pick(1, 4)
    inner, right = x.shape[-1], b.integer(1, 5)
    form = b.choice(("matrix", "batched", "vector"))
    if form == "vector":
        shape: tuple[int, ...] = (inner,)
    elif form == "batched" and x.rank > 2:
        shape = (
            *(d if k else 1 for d, k in zip(x.shape[:-2], b.rng().random(x.rank) < 0.5, strict=False)),
            inner,
            right,
        )
    else:
        shape = (inner, right)
    scale = b.choice((1.0, 0.1))
    return b.node("MatMul", [x, b.constant(b.healthy(shape, scale)) if b.flag() else b.feed(b.healthy(shape, scale))])


def gemm(b: Builder) -> Any:
    """``Gemm`` with transposes, factors and a bias that broadcasts."""
    x = b.pick(2, 2)
    trans_a, trans_b = b.flag(), b.flag()
    rows, inner = x.shape[::-1] if trans_a else x.shape
    columns = b.integer(1, 6)
    weight = b.supply(b.healthy((columns, inner) if trans_b else (inner, columns)))
    bias: Value | None = b.supply(b.healthy(b.choice(((columns,), (1,), (rows, 1), (rows, columns), (1, columns), ()))))
    if b.opset >= 11 and b.integer(0, 3) == 3:
        bias = None
    return b.node(
        "Gemm", [x, weight, bias], transA=int(trans_a) or None, transB=int(trans_b) or None,
        alpha=b.choice((None, 0.5, -2.0)), beta=b.choice((None, 0.25)),
    )  # fmt: skip


def einsum(b: Builder) -> Any:
    """``Einsum``: products, traces, transposes, with and without an arrow."""
    if b.opset < 12:
        return None
    x = b.pick(2, 3)
    if x.rank == 2:
        i, j = x.shape
        options: list[tuple[str, tuple[int, ...] | None]] = [
            ("ij,jk->ik", (j, 3)), ("ij->ji", None), ("ij->j", None), ("ij,ij->", (i, j)), ("ij,kj->kij", (2, j)),
            ("...j,jk", (j, 2)), ("ij,j->ij", (j,)),
        ]  # fmt: skip
    else:
        i, j, k = x.shape
        options = [
            ("bij,bjk->bik", (i, k, 2)), ("bij->bji", None), ("bij,bkj->bik", (i, 4, k)), ("...ij->...ji", None),
            ("bij,b->j", (i,)), ("bij,kj->bki", (3, k)),
        ]  # fmt: skip
    equation, shape = b.choice(options)
    return b.node("Einsum", [x] if shape is None else [x, b.supply(b.healthy(shape))], equation=equation)


_COORDINATES = {
    11: ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_half_pixel_for_nn"),
    13: ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_crop_and_resize"),
    19: ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_crop_and_resize",
         "half_pixel_symmetric"),
}  # fmt: skip


def resize(b: Builder) -> Any:
    """``Upsample`` before opset 10, ``Resize`` from there, by scales or by sizes."""
    x = b.pick(4, 4) if b.flag() else b.spatial(3, 5)
    spatial = range(x.rank - b.integer(1, 2), x.rank)
    if b.opset < 10:
        scales = [b.choice((1.0, 2.0, 3.0)) if a in spatial else 1.0 for a in range(x.rank)]
        mode = b.choice(("nearest", "linear"))
        if b.opset < 9:
            return b.node("Upsample", [x], scales=scales, mode=mode)
        return b.node("Upsample", [x, b.constant(np.array(scales, np.float32))], mode=mode)
    factors = (0.5, 2.0, 0.6, 1.7, 3.0, 1.0)
    scales = [b.choice(factors) if a in spatial else 1.0 for a in range(x.rank)]
    scales = [s if int(n * s) >= 1 else 1.0 for n, s in zip(x.shape, scales, strict=True)]
    if b.opset == 10:
        mode = b.choice(("nearest", "linear"))
        if mode == "nearest":
            scales = [2.0 if s > 1 else 1.0 for s in scales]
        return b.node("Resize", [x, b.constant(np.array(scales, np.float32))], mode=mode)
    return _resize(b, x, scales)


def _resize(b: Builder, x: Value, scales: list[float]) -> Any:
    mode = b.choice(("linear", "nearest", "cubic"))
    known = _COORDINATES[max(o for o in _COORDINATES if o <= b.opset)]
    if mode == "nearest":  # coordinates that float32 holds: next to a tie runtimes differ among themselves
        scales = [s if s in (0.5, 1.0, 2.0) else 2.0 for s in scales]
        scales = [s if n * s >= 1 else 1.0 for n, s in zip(x.shape, scales, strict=True)]
        known = tuple(c for c in known if c not in ("tf_crop_and_resize", "align_corners"))
    attributes: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": b.choice((None, *known))}
    if mode == "nearest":
        attributes["nearest_mode"] = b.choice((None, "round_prefer_ceil", "floor", "ceil"))
    if mode == "cubic":
        attributes["cubic_coeff_a"] = b.choice((None, -0.5))
        attributes["exclude_outside"] = b.choice((None, 1))
    roi = None
    if attributes["coordinate_transformation_mode"] == "tf_crop_and_resize":
        starts = [b.choice((0.0, 0.25)) if s != 1 else 0.0 for s in scales]
        ends = [b.choice((1.0, 0.75, 1.25)) if s != 1 else 1.0 for s in scales]
        roi = b.constant(np.array([*starts, *ends], np.float32))
        attributes["extrapolation_value"] = b.choice((None, 2.5))
    elif b.opset < 13:
        roi = b.constant(np.zeros(0, np.float32))
    if b.opset >= 18 and mode != "nearest" and b.integer(0, 3) == 3:
        attributes["antialias"] = 1
    sized = b.flag() and (
        mode != "nearest" or all(float(n * s).is_integer() for n, s in zip(x.shape, scales, strict=True))
    )
    sizes = b.integers(*(max(1, int(n * s)) for n, s in zip(x.shape, scales, strict=True))) if sized else None
    given = None if sized else b.constant(np.array(scales, np.float32))
    if sized and b.opset < 13:
        given = b.constant(np.zeros(0, np.float32))
    return b.node("Resize", [x, roi, given, sizes], **attributes)
