"""A reference taken apart as far as the artifact is: composite operators replaced by the bodies of their schemas.

Where one exporter writes Gelu and another its five parts, what the parts compute has no counterpart. The standard
defines such operators by functions, whose values are counterparts.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from onnxeq.errors import OnnxeqError
from onnxeq.layers.program import Program, take_apart
from onnxeq.referee.frames import Entry
from onnxeq.referee.schemas import body_of, has_body

__all__ = ["expanded"]

_DOMAIN = "onnxeq.body"


def expanded(reference: Program, artifact: Program, values: Mapping[str, Entry]) -> Program:
    """The reference with the bodies of those composite operators that the artifact does not use, or as it is.

    Args:
        reference: What is expanded.
        artifact: Whose operators decide.
        values: The reference's values in some run: some bodies depend on types and shapes.
    """
    used = {node.op_type for node in artifact.nodes}
    chosen = {
        node.output[0]
        for position, node in enumerate(reference.nodes)
        if node.op_type not in used and has_body(node, _opset(reference, position)) and node.op_type not in _WHOLE
    }
    if not chosen:
        return reference
    model = onnx.ModelProto()
    model.CopyFrom(reference.model)
    bodies = 0
    for node in model.graph.node:
        if not node.output or node.output[0] not in chosen:
            continue
        body = _body(reference, node, values)
        if body is None:
            continue
        body.domain, body.name = _DOMAIN, f"{node.op_type}_{bodies}"
        node.domain, node.op_type = _DOMAIN, body.name
        model.functions.append(body)
        bodies += 1
    if not bodies:
        return reference
    model.opset_import.append(onnx.helper.make_opsetid(_DOMAIN, 1))
    try:
        return take_apart(model, reference.base_dir)
    except OnnxeqError:  # a body that the inliner cannot bring to this opset
        return reference


_WHOLE = frozenset("Constant Clip Range SequenceMap".split())
"""Operators with a body that nobody writes out."""


def _opset(program: Program, position: int) -> int:
    domain = program.nodes[position].domain
    return program.opsets.get("" if domain == "ai.onnx" else domain, 1)


def _body(program: Program, node: onnx.NodeProto, values: Mapping[str, Entry]) -> onnx.FunctionProto | None:
    entries = [values.get(name) if name else None for name in node.input]
    opset = program.opsets.get("" if node.domain == "ai.onnx" else node.domain, 1)
    body = body_of(
        node, opset, [None if e is None else e.value for e in entries], ["" if e is None else e.dtype for e in entries]
    )
    if body is None:
        return None
    copy = onnx.FunctionProto()
    copy.CopyFrom(body)
    return copy
