"""What a reader calls a layer: the framework's own name for it, as far as the export kept it."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Sequence

import onnx_ir as ir

from onnxeq.compare.reading.sketch import Draft

__all__ = ["reader_name", "without_common_parts"]

_SCOPES = "pkg.torch.onnx.name_scopes"
_PARAMETER = re.compile(
    r"[./](weight|bias|running_mean|running_var|gamma|beta|kernel|moving_mean|moving_variance|depthwise_kernel)$"
)
_INNER = re.compile(
    r"(ReadVariableOp|Read|resource|Reshape|Squeeze|Cast|convolution|depthwise|separable_conv2d|batchnorm|BiasAdd|MatMul"
    r"|Conv2D|FusedBatchNormV3|mul|add|sub|Rsqrt)(_*\d+)?(:\d+)?"
)
"""What TensorFlow calls the operations inside a layer."""
_FOLDED = re.compile(r"(\.(folded|moved|weight|bias)(_\d+)?)+$")


def reader_name(weight: str, node: ir.Node | None = None) -> str:
    """The name of a layer, after a weight that it reads or after its node; empty where neither tells."""
    if weight and (found := _PARAMETER.search(weight)):
        return weight[: found.start()]
    if node is not None and (scopes := _scopes(node)):
        return scopes
    name = weight if "/" in weight else ((node.name or "") if node is not None else _FOLDED.sub("", weight))
    name = name.partition(";")[0]  # TensorFlow Lite joins the names of what it fuses
    path = [part for part in _FOLDED.sub("", name).split("/") if part]
    if len(path) > 1 and "/" not in weight:
        path.pop()  # the operation itself
    while len(path) > 1 and _INNER.fullmatch(path[-1]):
        path.pop()
    kept = [a for a, b in zip(path, [*path[1:], ""][: len(path)], strict=True) if not b.startswith(f"{a}.")]
    return ("." if name.startswith("/") else "/").join(kept)


def _scopes(node: ir.Node) -> str:
    """The module that torch's exporter says the node comes from."""
    text = node.metadata_props.get(_SCOPES, "")
    try:
        held = ast.literal_eval(text) if text else []
    except (ValueError, SyntaxError, RecursionError, MemoryError):  # whatever a file says there
        return ""
    modules = [str(part) for part in held[:-1] if part] if isinstance(held, Sequence) else []
    return modules[-1] if modules else ""


_NEARLY_ALL = 0.75


def without_common_parts(drafts: Sequence[Draft]) -> None:
    """Takes off what names have in common: the model's own name before, the number of a copy behind."""
    weighted = [d for d in drafts if d.weights and "/" in d.name]
    if not weighted:
        return
    first, count = Counter(d.name.partition("/")[0] for d in weighted).most_common(1)[0]
    if count == len(weighted):
        for draft in drafts:
            draft.name = draft.name.removeprefix(f"{first}/")
    ends = Counter(m.group() for d in weighted if (m := re.search(r"_\d+$", d.name)))
    if ends and ends.most_common(1)[0][1] >= _NEARLY_ALL * len(weighted):
        end = ends.most_common(1)[0][0]
        for draft in drafts:
            draft.name = draft.name.removesuffix(end)
