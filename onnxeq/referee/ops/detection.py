"""Regions of interest: suppression and pooling."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxeq.referee.ops.tensors import as_int, unsupported
from onnxeq.referee.registry import Call, op

__all__: list[str] = []


def _corners(boxes: Any, centred: bool) -> Any:
    """``[y1, x1, y2, x2]`` with the smaller corner first, from corners or from centre and size."""
    if centred:
        x, y, w, h = (boxes[..., i] for i in range(4))
        return np.stack([y - h / 2, x - w / 2, y + h / 2, x + w / 2], axis=-1)
    y1, x1, y2, x2 = (boxes[..., i] for i in range(4))
    parts = [np.minimum(y1, y2), np.minimum(x1, x2), np.maximum(y1, y2), np.maximum(x1, x2)]
    return np.stack(parts, axis=-1)


def _overlap(box: Any, others: Any) -> Any:
    """Intersection over union; 0 where either area is 0."""
    size = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = np.prod(np.maximum(size, 0), axis=1)
    area, areas = np.prod(box[2:] - box[:2]), np.prod(others[:, 2:] - others[:, :2], axis=1)
    union = area + areas - shared
    good = (area > 0) & (areas > 0) & (union > 0)
    return np.where(good, shared / np.where(good, union, 1), 0)


def _suppress(boxes: Any, scores: Any, limit: int, iou: float, threshold: float | None) -> list[int]:
    """Greedy suppression: best score first, ties by index; overlaps *above* ``iou`` go.

    Boxes that share no row with any of another group cannot suppress those, so that each group is gone through by
    itself: detectors move the boxes of each class away from those of the others, and then there are many.
    """
    order = np.argsort(-scores, kind="stable")
    if threshold is not None:
        order = order[scores[order] > threshold]
    rank = np.empty(scores.size, np.int64)
    rank[order] = np.arange(order.size)
    groups = _groups(boxes, order) if iou >= 0 else [order]
    kept = [best for group in groups for best in _greedy(boxes, group, limit, iou)]
    return sorted(kept, key=rank.__getitem__)[:limit]


def _groups(boxes: Any, order: Any) -> list[Any]:
    """``order`` in parts whose rows do not meet, each in its order."""
    by_row = order[np.argsort(boxes[order, 0], kind="stable")]
    ends = np.maximum.accumulate(boxes[by_row, 2])  # from a NaN on nothing is parted
    part = np.zeros(boxes.shape[0], np.int64)
    part[by_row[1:]] = np.cumsum(boxes[by_row[1:], 0] >= ends[:-1])
    parts = part[order]
    by_part = np.argsort(parts, kind="stable")
    return np.split(order[by_part], np.flatnonzero(np.diff(parts[by_part])) + 1)


def _greedy(boxes: Any, order: Any, limit: int, iou: float) -> list[int]:
    kept: list[int] = []
    while order.size and len(kept) < limit:
        best, order = order[0], order[1:]
        kept.append(int(best))
        if order.size:
            order = order[_overlap(boxes[best], boxes[order]) <= iou]
    return kept


@op("NonMaxSuppression", since=10, witnesses=("suite", "onnxruntime", "torch"))
def non_max_suppression(
    call: Call,
    boxes: Any,
    scores: Any,
    max_output: Any = None,
    iou_threshold: Any = None,
    score_threshold: Any = None,
) -> Any:
    """``int64[n,3]``: batch, class and box of what is kept, per class, best first."""
    limit = 0 if max_output is None else as_int(max_output)
    iou = 0.0 if iou_threshold is None else float(iou_threshold.reshape(-1)[0])
    threshold = None if score_threshold is None else float(score_threshold.reshape(-1)[0])
    corners = _corners(boxes, bool(call.get("center_point_box", 0)))
    rows = [
        (batch, kind, box)
        for batch in range(scores.shape[0])
        for kind in range(scores.shape[1])
        for box in _suppress(corners[batch], scores[batch, kind], limit, iou, threshold)
    ]
    return np.array(rows, dtype=np.int64).reshape(-1, 3)


def _taps(places: Any, size: int) -> tuple[Any, Any, Any, Any, Any]:
    """Neighbours, their weights and validity for linear interpolation at ``places`` of one axis.

    More than one pixel outside counts as 0; within one pixel the border's value is used.
    """
    inside = (places >= -1) & (places <= size)
    places = np.clip(places, 0, None)
    low = np.minimum(np.floor(places).astype(np.int64), size - 1)
    high = np.minimum(low + 1, size - 1)
    fraction = np.where(low >= size - 1, 0.0, places - low)
    return low, high, 1 - fraction, fraction, inside


def _roi_align_one(call: Call, image: Any, roi: Any, offset: float) -> Any:
    """``[C, height, width]`` of one region."""
    height, width = call.get("output_height", 1), call.get("output_width", 1)
    scale, ratio = call.get("spatial_scale", 1.0), call.get("sampling_ratio", 0)
    x1, y1, x2, y2 = (float(v) * scale - offset for v in roi)
    rw, rh = x2 - x1, y2 - y1
    if offset == 0:  # the older form has no region smaller than a pixel
        rw, rh = max(rw, 1.0), max(rh, 1.0)
    ny = ratio if ratio > 0 else int(np.ceil(rh / height))
    nx = ratio if ratio > 0 else int(np.ceil(rw / width))
    C = image.shape[0]
    if nx <= 0 or ny <= 0:
        return np.zeros((C, height, width))
    ys = y1 + (np.arange(height * ny) + 0.5) * (rh / height / ny)
    xs = x1 + (np.arange(width * nx) + 0.5) * (rw / width / nx)
    top, bottom, wt, wb, in_y = _taps(ys, image.shape[1])
    left, right, wl, wr, in_x = _taps(xs, image.shape[2])
    inside = in_y[:, None] & in_x
    corners = [
        (image[:, rows[:, None], columns], (row_weight[:, None] * column_weight) * inside)
        for rows, row_weight in ((top, wt), (bottom, wb))
        for columns, column_weight in ((left, wl), (right, wr))
    ]
    if call.get("mode", "avg") == "avg":
        samples = sum(pixels * weight for pixels, weight in corners)
        return np.asarray(samples).reshape(C, height, ny, width, nx).mean(axis=(2, 4))
    # the largest weighted corner of any sample, not of the interpolated values: what onnxruntime and the
    # suite's expectation compute
    peak = np.max([pixels * weight for pixels, weight in corners], axis=0)
    return peak.reshape(C, height, ny, width, nx).max(axis=(2, 4))


def _roi_align(call: Call, X: Any, rois: Any, batch_indices: Any, offset: float) -> Any:
    if call.get("mode", "avg") not in ("avg", "max"):
        raise unsupported(call, f"mode {call.get('mode')!r}")
    height, width = call.get("output_height", 1), call.get("output_width", 1)
    out = np.zeros((rois.shape[0], X.shape[1], height, width))
    for i, (roi, batch) in enumerate(zip(rois, batch_indices, strict=True)):
        out[i] = _roi_align_one(call, X[int(batch)], roi, offset)
    return out


@op(
    "RoiAlign",
    since=10,
    until=15,
    witnesses=("onnxruntime", "torch", "not onnx.reference: half pixel"),
)
def roi_align_pixel(call: Call, X: Any, rois: Any, batch_indices: Any) -> Any:
    """Coordinates are pixel corners: no half-pixel shift, regions at least one pixel large."""
    return _roi_align(call, X, rois, batch_indices, 0.0)


@op("RoiAlign", since=16, witnesses=("suite", "onnxruntime", "torch"))
def roi_align(call: Call, X: Any, rois: Any, batch_indices: Any) -> Any:
    """As before with ``coordinate_transformation_mode``; ``half_pixel`` shifts by half a pixel."""
    half = call.get("coordinate_transformation_mode", "half_pixel") == "half_pixel"
    return _roi_align(call, X, rois, batch_indices, 0.5 if half else 0.0)


@op("MaxRoiPool", witnesses=("onnxruntime", "torch"))
def max_roi_pool(call: Call, X: Any, rois: Any) -> Any:
    """The largest element of each bin of regions with rounded borders; empty bins give 0."""
    height, width = call.get("pooled_shape")
    scale = call.get("spatial_scale", 1.0)
    out = np.zeros((rois.shape[0], X.shape[1], height, width))
    for i, roi in enumerate(rois):
        image = X[int(roi[0])]
        # halves round away from zero, as C's round does
        x1, y1, x2, y2 = (int(np.floor(abs(v * scale) + 0.5) * np.sign(v * scale)) for v in roi[1:])
        bin_h, bin_w = max(y2 - y1 + 1, 1) / height, max(x2 - x1 + 1, 1) / width
        for r in range(height):
            rows = np.clip([int(np.floor(r * bin_h)) + y1, int(np.ceil((r + 1) * bin_h)) + y1], 0, image.shape[1])
            for c in range(width):
                cols = np.clip([int(np.floor(c * bin_w)) + x1, int(np.ceil((c + 1) * bin_w)) + x1], 0, image.shape[2])
                block = image[:, rows[0] : rows[1], cols[0] : cols[1]]
                if block.size:
                    out[i, :, r, c] = block.max(axis=(1, 2))
    return out
