"""From an ONNX file to its canonical graph.

The file is brought into a form in which every size is known (a free batch is 1) and only what is computed from the
inputs is left to walk: functions are inlined, shapes inferred, and what depends on constants alone is computed. What is
folded by others before stays folded, and is told as that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from onnxeq.compare.reading.activations import merge_activations
from onnxeq.compare.reading.attention import merge_attention
from onnxeq.compare.reading.elementwise import UNARY
from onnxeq.compare.reading.lifting import lift_ranks
from onnxeq.compare.reading.linear import zero_biases
from onnxeq.compare.reading.literal import literal_nodes
from onnxeq.compare.reading.loops import without_loops
from onnxeq.compare.reading.merging import (
    drop_no_ops,
    mark_preprocessing,
    merge_biases,
    merge_concats,
    merge_pads,
    merge_reshapes,
    settle_flattening,
)
from onnxeq.compare.reading.names import without_common_parts
from onnxeq.compare.reading.operators import OF_RUNTIMES, OPERATORS
from onnxeq.compare.reading.parting import bias_behind, drop_moves, part_linears
from onnxeq.compare.reading.quantised import dequantised
from onnxeq.compare.reading.recurrent import merge_last_states
from onnxeq.compare.reading.runtimes import infer_shapes, without_fused_products
from onnxeq.compare.reading.sketch import Draft, Sketch, View
from onnxeq.compare.reading.spelled import Spelled, put_spelled, spelled_out
from onnxeq.compare.reading.walker import Walker
from onnxeq.compare.values import Graph, Weight
from onnxeq.errors import UsageError
from onnxeq.graph.dead import REMOVE_DEAD
from onnxeq.graph.edit import array, attribute, is_standard, normal_opset, set_attribute
from onnxeq.graph.files import load
from onnxeq.graph.fold import FOLD_CONSTANTS
from onnxeq.graph.frame import Options, apply, graphs
from onnxeq.graph.inline import INLINE
from onnxeq.graph.lift_constants import LIFT_CONSTANTS
from onnxeq.types import TensorSpec, example_size

__all__ = ["CHANNELS_LAST", "read_graph"]

CHANNELS_LAST = "channels last"
GIVEN_LAST = "a result with channels last"
_ROUNDS = 8


_MERGES: tuple[Callable[[Sketch], None], ...] = (
    drop_no_ops, mark_preprocessing, merge_biases, merge_pads, merge_concats, merge_activations, bias_behind,
    settle_flattening, part_linears, bias_behind, merge_attention, merge_last_states, drop_moves, lift_ranks,
    merge_reshapes,
)  # fmt: skip


@dataclass(frozen=True)
class _Written:
    """What can be told before the walk only: of what is folded, and of loops that are recurrent layers."""

    norms: Mapping[ir.Value, Spelled]
    unbiased: frozenset[ir.Node]
    recurrent: Mapping[ir.Node, tuple[Weight, ...]]
    quantised: frozenset[str]


def read_graph(path: Path, shapes: Mapping[str, Sequence[int]] | None = None) -> Graph:
    """The canonical graph of an ONNX file.

    Args:
        path: The file.
        shapes: Input name -> shape, where the user gives one; the key ``""`` names an only input.

    Raises:
        onnxeq.errors.UnusableModel: The file is no usable ONNX model.
        onnxeq.errors.UsageError: A shape that does not fit.
    """
    source = load(path)
    literal, nodes = literal_nodes(source), len(source.graph.node)
    _weights_stored_only(source)
    model: ir.Model = ir.serde.deserialize_model(source)
    notes = _fixed(model, dict(shapes or {}))
    _behind_outputs(model)
    for item in (INLINE, LIFT_CONSTANTS):
        model, _ = apply(item, model, Options())
    without_fused_products(model)
    model = infer_shapes(model)
    _plain_casts(model)
    _filled(model)
    quantised = dequantised(model)
    norms, unbiased = spelled_out(model), zero_biases(model)
    model = _folded(model)
    recurrent = without_loops(model)
    model = _folded(model) if recurrent else model
    model, _ = apply(REMOVE_DEAD, model, Options())
    sketch = _best(model, _Written(norms, unbiased, recurrent, quantised))
    for merge in _MERGES:
        merge(sketch)
    without_common_parts(sketch.drafts())
    return sketch.finished(nodes, literal, notes)


def _folded(model: ir.Model) -> ir.Model:
    """What depends on constants alone computed, and shapes inferred from that."""
    for _ in range(_ROUNDS):
        model, folded = apply(FOLD_CONSTANTS, model, Options())
        model = infer_shapes(model)
        if not folded.modified:
            break
    return model


def _weights_stored_only(model: onnx.ModelProto) -> None:
    """Takes stored tensors out of the inputs, where old files list them: a caller could replace them, and none does."""
    stored = {tensor.name for tensor in model.graph.initializer}
    kept = [value for value in model.graph.input if value.name not in stored]
    if len(kept) != len(model.graph.input):
        del model.graph.input[:]
        model.graph.input.extend(kept)
        model.ir_version = max(model.ir_version, 4)


def _fixed(model: ir.Model, shapes: dict[str, Sequence[int]]) -> list[str]:
    """Gives every free size of an input a number."""
    notes, given = [], list(model.graph.inputs)
    if "" in shapes and len(given) == 1:
        shapes[str(given[0].name)] = shapes.pop("")
    for value in given:
        if value.shape is None:
            continue
        dims = [d if isinstance(d, int) else str(d) for d in value.shape]
        wanted = shapes.get(str(value.name))
        if wanted is not None and len(wanted) != len(dims):
            raise UsageError(f"input '{value.name}' has {len(dims)} axes, --shape gives {len(wanted)}")
        dtype = "float32" if value.dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16) else str(value.dtype).lower()
        spec = TensorSpec(str(value.name), dtype, tuple(dims))
        sizes = []
        for axis, dim in enumerate(dims):
            if isinstance(dim, int):
                sizes.append(dim)
            elif axis == 0:
                sizes.append(1)
            else:
                sizes.append(int(wanted[axis]) if wanted is not None else example_size(spec, dim))
                if wanted is None:
                    notes.append(f"input '{value.name}' leaves axis {axis} free: it is looked at with {sizes[-1]}")
        value.shape = ir.Shape(sizes)
    return notes


def _plain_casts(model: ir.Model) -> None:
    """CastLike reads another tensor for its type alone, which would hide constants: a Cast takes its place."""
    for graph in graphs(model):
        for node in graph:
            like = node.inputs[1].dtype if is_standard(node, "CastLike") and node.inputs[1] is not None else None
            if like is not None:
                node.op_type = "Cast"
                node.resize_inputs(1)
                set_attribute(node, "to", int(like.value))


_LARGEST_FILLED = 1 << 30
"""Elements of a constant that a file fills when it runs: no weight is larger, and a claim may be."""


def _filled(model: ir.Model) -> None:
    """Weights that a file fills with one number when it runs become stored ones, of which a single number is held.

    The light models of the ONNX Model Zoo are written so.
    """
    for node in list(model.graph):
        sizes = array(node.inputs[0]) if is_standard(node, "ConstantOfShape") else None
        value = node.outputs[0]
        if sizes is None or value.is_graph_output() or math.prod(map(int, sizes)) > _LARGEST_FILLED:
            continue
        number = attribute(node, "value")
        single = np.zeros(1, np.float32) if number is None else number.numpy().reshape(-1)[:1]
        single = single if sizes.size else single.reshape(())
        tensor = ir.Tensor(np.broadcast_to(single, tuple(map(int, sizes))), name=value.name)
        model.graph.remove(node)  # its name is free then
        stored = ir.Value(
            name=value.name, shape=ir.Shape(tensor.shape), type=ir.TensorType(tensor.dtype), const_value=tensor
        )
        model.graph.register_initializer(stored)
        ir.convenience.replace_all_uses_with(value, stored)


def _behind_outputs(model: ir.Model) -> None:
    """Puts an Identity before each output, so that the shape of what makes it is inferred and not believed."""
    for index, value in enumerate(list(model.graph.outputs)):
        node = ir.Node("", "Identity", [value], num_outputs=1)
        node.outputs[0].name, node.outputs[0].type = f"{value.name}.behind", value.type
        model.graph.append(node)
        model.graph.outputs[index] = node.outputs[0]
        if not value.is_graph_input():
            value.shape = None


def _best(model: ir.Model, written: _Written) -> Sketch:
    """The sketch in that order of each input's axes in which least has to be moved.

    Networks that compute channels first out of an input with channels last begin with a Transpose: the same input,
    lying otherwise.
    """
    last: set[str] = set()
    best = _walked(model, written, last)
    for value in model.graph.inputs:
        if value.shape is None or len(value.shape) < 4:
            continue
        other = _walked(model, written, last | {str(value.name)})
        if _moves(other) < _moves(best):
            best, last = other, last | {str(value.name)}
    return best


def _moves(sketch: Sketch) -> int:
    return sum(d.kind == "transpose" for d in sketch.drafts())


def _walked(model: ir.Model, written: _Written, last: set[str]) -> Sketch:
    walk = Walker(normal_opset(model), written.unbiased, written.recurrent, written.quantised)
    for value in model.graph.inputs:
        shape = walk.shape(value)
        turned = (0, len(shape) - 1, *range(1, len(shape) - 1)) if value.name in last else tuple(range(len(shape)))
        first = tuple(shape[a] for a in turned)
        draft = Draft("input", [], {"type": str(value.dtype)}, first, str(value.name))
        draft.attributes["sizes"] = tuple(n for n in first[1:] if n != 1) if first else ()
        if value.name in last:
            draft.say(CHANNELS_LAST)
        walk.put(value, View(draft, tuple(turned.index(a) for a in range(len(shape)))))
        walk.sketch.inputs.append(draft)
    for node in model.graph:
        _read(walk, node, written.norms)
    walk.sketch.outputs = [_given(walk, walk.view(v)) for v in model.graph.outputs]
    return walk.sketch


def _given(walk: Walker, view: View) -> Draft:
    """An output as a layer: a map may be given channels last, as an input may be taken; another order is transposed."""
    kept = [a for a in view.axes if a is not None and view.draft.shape[a] != 1]
    if not view.ordered and kept == [*(a for a in sorted(kept) if a != 1), 1] and len(kept) > 2:
        view.draft.say(GIVEN_LAST)
        return view.draft
    return walk.moved(view)


def _read(walk: Walker, node: ir.Node, spelled: Mapping[ir.Value, Spelled]) -> None:
    """One node: by its own function, or as a layer of its own kind; what is constant is none."""
    if node in walk.taken:
        return
    found = spelled.get(node.outputs[0])
    if found is not None and put_spelled(walk, node, found):
        return
    if not any(walk.has(v) for v in node.inputs) and node.inputs:
        held = [v for v in node.inputs if v is not None]
        if held and not node.attributes.get("body") and all(not walk.has(v) for v in held) and _fixed_operator(node):
            return  # a constant that is computed: a layer of the kind "constant" where something reads it
    standard = node.domain in ("", "ai.onnx")
    function = OPERATORS.get(node.op_type) if standard else OF_RUNTIMES.get((node.domain, node.op_type))
    if function is None or not _ranked(walk, node) or not function(walk, node):
        walk.other(node)


_OF_ANY_RANK = frozenset({*UNARY, "Identity", "Cast", "Dropout", "Clip", "Flatten", "Reshape"})
"""Operators of which the reading does not ask how many axes a tensor has."""


def _ranked(walk: Walker, node: ir.Node) -> bool:
    """Whether the number of axes of each computed operand is known, and the first has one where the reading asks."""
    computed = [v for v in node.inputs if v is not None and walk.has(v)]
    if node.op_type in _OF_ANY_RANK:
        if any(v in walk.unranked for v in computed):
            walk.unranked |= set(node.outputs)
        return True
    known = not any(v in walk.unranked for v in computed)
    return known and (not computed or bool(walk.view(computed[0]).axes) or node.op_type in _OF_SCALARS)


_OF_SCALARS = frozenset({"Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Unsqueeze", "Where", "Concat"})


def _fixed_operator(node: ir.Node) -> bool:
    return not any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values())
