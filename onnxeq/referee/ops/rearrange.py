"""Blocks of space to channels and back."""

from __future__ import annotations

from typing import Any

from onnxeq.errors import BadInputs
from onnxeq.referee.ops.tensors import unsupported
from onnxeq.referee.registry import Call, op

__all__: list[str] = []


def _crd(call: Call) -> bool:
    """Whether the block's place is the last part of the channel (CRD) or the first (DCR)."""
    mode = call.get("mode", "DCR")
    if mode not in ("DCR", "CRD"):
        raise unsupported(call, f"mode {mode!r}")
    return bool(mode == "CRD")


@op("DepthToSpace", witnesses=("suite", "onnxruntime", "torch"))
def depth_to_space(call: Call, X: Any) -> Any:
    """``[N, C b b, H, W]`` to ``[N, C, H b, W b]``: channel ``(i b + j) C + c``, in CRD ``(c b + i) b + j``."""
    b = call.get("blocksize")
    N, channels, H, W = X.shape
    if channels % (b * b):
        raise BadInputs(f"DepthToSpace {call.node.name}: {channels} channels do not divide by {b * b}")
    C = channels // (b * b)
    if _crd(call):
        parts = X.reshape(N, C, b, b, H, W).transpose(0, 1, 4, 2, 5, 3)
    else:
        parts = X.reshape(N, b, b, C, H, W).transpose(0, 3, 4, 1, 5, 2)
    return parts.reshape(N, C, H * b, W * b)


@op("SpaceToDepth", witnesses=("suite", "onnxruntime"))
def space_to_depth(call: Call, X: Any) -> Any:
    """The inverse of DepthToSpace; ``mode`` came with opset 28."""
    b = call.get("blocksize")
    N, C, height, width = X.shape
    if height % b or width % b:
        raise BadInputs(f"SpaceToDepth {call.node.name}: {height}x{width} does not divide by {b}")
    H, W = height // b, width // b
    parts = X.reshape(N, C, H, b, W, b)
    order = (0, 1, 3, 5, 2, 4) if _crd(call) else (0, 3, 5, 1, 2, 4)
    return parts.transpose(order).reshape(N, C * b * b, H, W)
