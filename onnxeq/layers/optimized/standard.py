"""What a graph means that onnxruntime has optimised and saved, in standard operators.

onnxruntime writes its own operators into it: fused ones, and on CPUs convolutions on blocked tensors (see
:mod:`onnxeq.layers.optimized.blocks`). Here each is put back into the standard operators that it stands for, so
that the graph can be held against the original and be run by the referee. Values keep their names; those that lay
inside a fused kernel get the kernel's name and a suffix. A value that only served a kernel's layout falls away.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, NodeProto

from onnxeq.layers.optimized.blocks import NCHWC, Blocked, blocked_in, filter_of, former_name, unblock
from onnxeq.layers.optimized.sheet import Sheet, attributes_of
from onnxeq.layers.optimized.unfused import convolved, gemms_of_matmuls, unfused
from onnxeq.referee.plan import opset_map

__all__ = ["Blocked", "block_size", "blocked_values", "former_names", "meaning", "unblock"]


def block_size() -> int:
    """How many channels lie together in this machine's blocked tensors. In a job only: it runs onnxruntime."""
    from onnxeq.runners import ort

    return ort.block_size()


def blocked_values(optimized: onnx.ModelProto, block: int, *, base_dir: Path | None = None) -> Mapping[str, Blocked]:
    """The values of the main graph that are blocked, with what :func:`unblock` needs to know.

    Args:
        optimized: The model that onnxruntime saved.
        block: See :func:`block_size`; of the machine that saved it.
        base_dir: The folder of its external data.
    """
    return blocked_in(Sheet(optimized.graph, _opset(optimized), base_dir), block)


def former_names(optimized: onnx.ModelProto) -> dict[str, str]:
    """Values of :func:`meaning` -> the name that they may have had before they were blocked.

    A blocked Conv is named by the value that it made at that time, which was its own or its activation's; both get the
    name, since the original has one of them only.
    """
    found: dict[str, str] = {}
    for node in optimized.graph.node:
        former = former_name(node) if node.domain == NCHWC else ""
        if not former:
            continue
        fused = {"activation"} & {a.name for a in node.attribute} or len(node.input) > 3
        found[node.output[0]] = former
        if fused:
            found[f"{node.output[0]}/conv"] = former
    return found


def meaning(
    optimized: onnx.ModelProto,
    block: int,
    *,
    base_dir: Path | None = None,
    blocked: Mapping[str, Blocked] | None = None,
) -> onnx.ModelProto:
    """The model in standard operators, and those of onnxruntime's that the referee knows.

    Args:
        optimized: The model that onnxruntime saved; it is not changed.
        block: See :func:`block_size`; of the machine that saved it.
        base_dir: The folder of its external data.
        blocked: What :func:`blocked_values` says of it, where that is known.
    """
    new = onnx.ModelProto(ir_version=optimized.ir_version, producer_name=optimized.producer_name)
    new.opset_import.extend(o for o in optimized.opset_import if o.domain != NCHWC)
    new.functions.extend(optimized.functions)
    new.metadata_props.extend(optimized.metadata_props)
    _rewrite(optimized.graph, new.graph, _opset(optimized), block, base_dir, blocked)
    return new


def _opset(model: onnx.ModelProto) -> int:
    return opset_map(model.opset_import).get("", 1)


def _replace(graph: GraphProto, opset: int, block: int, base_dir: Path | None) -> None:
    """Rewrites a sub-graph where it is."""
    new = GraphProto()
    _rewrite(graph, new, opset, block, base_dir)
    graph.CopyFrom(new)


def _rewrite(
    graph: GraphProto,
    new: GraphProto,
    opset: int,
    block: int,
    base_dir: Path | None,
    blocked: Mapping[str, Blocked] | None = None,
) -> None:
    sheet = Sheet(graph, opset, base_dir)
    blocked = blocked_in(sheet, block) if blocked is None else blocked
    gemms, gone = gemms_of_matmuls(sheet)
    for node in graph.node:
        if id(node) in gone:
            continue
        if id(node) in gemms:
            value, gemm = gemms[id(node)]
            product = sheet.node("MatMul", [value, gemm.input[1]], f"{node.output[0]}/matmul", gemm)
            sheet.node("Add", [product, gemm.input[2]], node.output[0], gemm)
        elif node.domain == NCHWC:
            _unblocked(sheet, node, blocked, block)
        elif node.op_type == "Reshape" and node.input[0] in blocked:
            sheet.node("Identity", [node.input[0]], node.output[0], node)  # to five dimensions, or back
        elif not unfused(sheet, node):
            sheet.nodes.append(_with_bodies(node, opset, block, base_dir))
    sheet.finish(new)


def _with_bodies(node: NodeProto, opset: int, block: int, base_dir: Path | None) -> NodeProto:
    """A node as it is, its sub-graphs rewritten."""
    kept = NodeProto()
    kept.CopyFrom(node)
    for attribute in kept.attribute:
        if attribute.HasField("g"):
            _replace(attribute.g, opset, block, base_dir)
        for inner in attribute.graphs:
            _replace(inner, opset, block, base_dir)
    return kept


def _unblocked(sheet: Sheet, node: NodeProto, blocked: Mapping[str, Blocked], block: int) -> None:
    """Adds what a node on blocked values stands for."""
    kept = attributes_of(node)
    result = node.output[0]
    if node.op_type == "Conv":
        _conv(sheet, node, blocked, block)
    elif node.op_type in ("ReorderInput", "ReorderOutput"):
        into = node.op_type == "ReorderInput"
        if kept.get("channels_last"):
            sheet.node("Transpose", [node.input[0]], result, node, perm=[0, 3, 1, 2] if into else [0, 2, 3, 1])
        else:
            sheet.node("Identity", [node.input[0]], result, node)
    elif node.op_type == "Upsample":
        scales = sheet.constant(f"{result}/scales", np.array(kept["scales"], dtype=np.float32))
        how = kept.get("coordinate_transformation_mode", "asymmetric")
        sheet.node(
            "Resize", [node.input[0], "", scales], result, node, coordinate_transformation_mode=how,
            mode=kept.get("mode", "nearest"), nearest_mode="floor",
        )  # fmt: skip
    else:
        sheet.node(node.op_type, list(node.input), result, node, **kept)


def _conv(sheet: Sheet, node: NodeProto, blocked: Mapping[str, Blocked], block: int) -> None:
    """A Conv with its weights in the standard order and without padding."""
    kept = attributes_of(node)
    form = filter_of(sheet, node, blocked)
    stored = sheet.array(node.input[1])
    assert stored is not None, "onnxruntime blocks a Conv only where its filter is stored"  # noqa: S101
    out = blocked[node.output[0]].channels or stored.shape[0]
    width = stored.shape[1]
    if kept.get("group", 1) == 1 and node.input[0] in blocked:
        width = blocked[node.input[0]].channels or width
    if form.depthwise:
        kept["group"] = out
    filters = sheet.constant(f"{node.input[1]}/{out}x{width}", form.plain(stored, block)[:out, :width])
    inputs = [node.input[0], filters]
    if len(node.input) > 2 and node.input[2]:
        bias = sheet.array(node.input[2])
        whole = bias is None or bias.shape[0] == out
        inputs.append(node.input[2] if whole else sheet.constant(f"{node.input[2]}/{out}", np.asarray(bias)[:out]))
    convolved(sheet, node, inputs, node.input[3] if len(node.input) > 3 else "", kept)
