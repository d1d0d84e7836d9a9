"""Pad merged into the operator that follows, where the semantics is exactly the same.

1. A Pad whose amounts are all 0 is no operation, in every mode.
2. ``Conv(Pad(x, p, 0)) = Conv(x; pads + p)``: convolution pads with 0.
3. ``AveragePool(Pad(x, p, 0)) = AveragePool(x; pads + p, count_include_pad=1)``: the zeros of Pad are
   counted, so only where the pool's own pads are 0 or counted too. AveragePool's default does not count.
4. ``MaxPool(Pad(x, p, -inf)) = MaxPool(x; pads + p)``: max pooling ignores its padding, which is -inf
   and *not* 0, so a Pad with zeros is never merged; nor when the indices output is used.
5. For 2-4: constant mode, constant amounts, none negative, spatial axes only, no other reader,
   ``auto_pad`` NOTSET or VALID (SAME depends on the padded size). For 3-4 also ``ceil_mode=0`` (windows
   that start in the padding are dropped) and each amount below the kernel's extent.
6. What remains gets one form: amounts for all axes in one constant, no ``axes`` input, no value input
   that is 0, no ``mode`` attribute that is the default (opset 11 and later; before, amounts are
   attributes already).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxeq.graph.edit import (
    array,
    attribute,
    bypass,
    constant,
    is_standard,
    names,
    new_constant,
    normal_opset,
    only_reader,
    rank,
    set_attribute,
)
from onnxeq.graph.frame import Options, Outcome, Pass, graphs

__all__ = ["PADS"]


@dataclass(frozen=True)
class _Amounts:
    """Padding before and after each axis, the value, and the mode of one Pad."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    value: float
    mode: str


def _read(node: ir.Node, opset: int) -> _Amounts | None:
    """What a Pad does, or ``None`` when it is not constant."""
    mode = attribute(node, "mode", "constant")
    if opset < 11:
        flat = attribute(node, "pads", attribute(node, "paddings"))
        value = float(attribute(node, "value", 0.0))
        return None if flat is None else _amounts([int(n) for n in flat], None, 0, value, mode)
    held = array(node.inputs[1]) if len(node.inputs) > 1 else None
    if held is None:
        return None
    value = 0.0
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        fill = array(node.inputs[2])
        if fill is None or fill.size != 1:
            return None
        value = float(fill.reshape(())[()])
    axes = None
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        listed, dims = array(node.inputs[3]), rank(node.inputs[0])
        if listed is None or dims is None:
            return None
        axes = [int(a) % dims for a in listed.reshape(-1)]
        return _amounts([int(n) for n in held], axes, dims, value, mode)
    return _amounts([int(n) for n in held], None, 0, value, mode)


def _amounts(flat: list[int], axes: list[int] | None, dims: int, value: float, mode: str) -> _Amounts | None:
    if len(flat) % 2:
        return None
    half = len(flat) // 2
    if axes is None:
        return _Amounts(tuple(flat[:half]), tuple(flat[half:]), value, mode)
    if len(axes) != half:
        return None
    before, after = [0] * dims, [0] * dims
    for position, axis in enumerate(axes):
        before[axis], after[axis] = flat[position], flat[half + position]
    return _Amounts(tuple(before), tuple(after), value, mode)


def _kernel(node: ir.Node) -> list[int] | None:
    """Extent of the kernel per spatial axis, dilation included."""
    shape = attribute(node, "kernel_shape")
    if shape is None:
        tensor = constant(node.inputs[1]) if node.op_type == "Conv" else None
        shape = None if tensor is None else tensor.shape[2:]
    if shape is None:
        return None
    sizes = [int(n) for n in shape]
    dilations = attribute(node, "dilations") or [1] * len(sizes)
    return [(size - 1) * int(step) + 1 for size, step in zip(sizes, dilations, strict=True)]


def _pool_allows(node: ir.Node, own: list[int], amounts: _Amounts, merged: list[int]) -> bool:
    """Rules 3, 4 and the second half of 5."""
    kernel = _kernel(node)
    if kernel is None or attribute(node, "ceil_mode", 0):
        return False
    if any(pad >= size for pad, size in zip(merged, kernel * 2, strict=True)):
        return False
    if node.op_type == "MaxPool":
        indices = any(v.uses() or v.is_graph_output() for v in node.outputs[1:])
        return amounts.value == -np.inf and not indices
    counted = bool(attribute(node, "count_include_pad", 0))
    return amounts.value == 0 and (counted or not any(own))


def _merge(pad: ir.Node, amounts: _Amounts, opset: int) -> bool:
    reader = only_reader(pad.outputs[0])
    if reader is None or not is_standard(reader, "Conv", "AveragePool", "MaxPool"):
        return False
    if reader.inputs[0] is not pad.outputs[0] or reader.graph is not pad.graph or pad.inputs[0] is None:
        return False
    spatial = len(amounts.before) - 2
    if amounts.mode != "constant" or spatial < 1 or any(n < 0 for n in amounts.before + amounts.after):
        return False
    if any(amounts.before[:2] + amounts.after[:2]):
        return False
    if attribute(reader, "auto_pad", "NOTSET") not in ("NOTSET", "VALID", ""):
        return False
    own = [int(n) for n in attribute(reader, "pads") or [0] * (2 * spatial)]
    if attribute(reader, "auto_pad", "NOTSET") == "VALID":
        own = [0] * (2 * spatial)
    if len(own) != 2 * spatial:
        return False
    merged = [a + b for a, b in zip(own, amounts.before[2:] + amounts.after[2:], strict=True)]
    if reader.op_type == "Conv":
        if amounts.value != 0:
            return False
    elif opset < 7 or not _pool_allows(reader, own, amounts, merged):
        return False
    reader.replace_input_with(0, pad.inputs[0])
    if pad.graph is not None:
        pad.graph.remove(pad, safe=True)
    reader.attributes.pop("auto_pad", None)
    set_attribute(reader, "pads", merged)
    if reader.op_type == "AveragePool":
        set_attribute(reader, "count_include_pad", 1)
    return True


def _canonical(pad: ir.Node, amounts: _Amounts, opset: int, taken: set[str]) -> bool:
    """Rule 6."""
    changed = False
    if attribute(pad, "mode") == "constant":
        pad.attributes.pop("mode")
        changed = True
    if opset < 11 or pad.graph is None:
        return changed
    if len(pad.inputs) > 3 and pad.inputs[3] is not None:
        flat = np.array(amounts.before + amounts.after, dtype=np.int64)
        fresh = new_constant(pad.graph, pad.inputs[1], f"{pad.outputs[0].name}.pads", flat, taken)
        pad.replace_input_with(1, fresh)
        pad.resize_inputs(3)
        changed = True
    if len(pad.inputs) > 2 and (pad.inputs[2] is None or (amounts.value == 0 and _positive(pad.inputs[2]))):
        pad.resize_inputs(2)
        changed = True
    return changed


def _positive(value: ir.Value) -> bool:
    """Whether a zero is +0: -0 is another value, and padding with it another computation."""
    held = array(value)
    return held is not None and not bool(np.signbit(held.astype(np.float64)).any())


def _run(model: ir.Model, options: Options) -> Outcome:
    del options
    opset, taken, changes = normal_opset(model), names(model), 0
    for graph in graphs(model):
        for node in list(graph):
            if not is_standard(node, "Pad") or (amounts := _read(node, opset)) is None:
                continue
            if not any(amounts.before + amounts.after):
                source = node.inputs[0]
                changes += source is not None and bypass(node, source)
            elif _merge(node, amounts, opset):
                changes += 1
            else:
                changes += _canonical(node, amounts, opset, taken)
    return Outcome(changes)


PADS = Pass(
    name="merge-pads",
    does="Removes empty Pads, merges Pads into Conv, AveragePool and MaxPool where that is exact, and "
    "writes the rest in one form.",
    run=_run,
    removes=frozenset({"Pad"}),
)
