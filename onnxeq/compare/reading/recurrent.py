"""GRU, LSTM and RNN.

1. The input is ``[N, T, in]`` and the result ``[N, T, hidden]`` (``[N, T, 2, hidden]`` of both directions), whichever
   of batch and time comes first in the file.
2. Initial states of zeros are none.
3. The last state of one direction is the sequence at its last step, which for the reverse direction is the first; of a
   layer of which nothing else is read it is what the layer gives.
4. What reads its steps in reverse, and gives them so (or its last state alone), is of the other direction.
5. Weights lie as ONNX has them: ``[directions, gates * hidden, in]``, ``[directions, gates * hidden, hidden]`` and
   ``[directions, 2 * gates * hidden]``, gates in ONNX' order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from onnxeq.compare.kinds import RECURRENT
from onnxeq.compare.reading.names import reader_name
from onnxeq.compare.reading.sketch import Draft, Sketch, View
from onnxeq.compare.reading.walker import Walker, rounded
from onnxeq.compare.values import Attribute
from onnxeq.graph.edit import array, attribute, constant

__all__ = ["GATES", "merge_last_states", "merge_reversed", "recurrent"]

GATES = {"GRU": 3, "LSTM": 4, "RNN": 1}
_ACTIVATIONS = {"GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh"), "RNN": ("Tanh",)}
_ROLES = ("weight", "recurrent weight", "bias")


@dataclass(frozen=True)
class _Sizes:
    """Of one layer: items, steps, directions and hidden numbers."""

    items: int
    steps: int
    directions: int
    hidden: int


def recurrent(walk: Walker, node: ir.Node) -> bool:
    """One layer; false where its weights are computed or it is used in a way that few do."""
    source = node.inputs[0]
    if source is None or not walk.has(source) or len(walk.shape(source)) != 3:
        return False
    held = [None if v is None else constant(v) for v in (*node.inputs[1:4], None)][:3]
    first_items = bool(attribute(node, "layout", 0))
    view = walk.view(source)
    if not first_items:
        view = View(view.draft, (view.axes[1], view.axes[0], view.axes[2]))
    items, steps, inner = view.shape
    wanted = _attributes(node)
    if held[0] is None or held[1] is None or wanted is None or min(view.shape) < 0:
        return False
    if len(node.inputs) > 3 and node.inputs[3] is not None and held[2] is None:
        return False
    directions, _, hidden = (int(n) for n in held[1].shape)
    states = _states(walk, node, steps)
    if states is None:
        return False
    size = _Sizes(items, steps, directions, hidden)
    known = walk.recurrent.get(node)
    roles = zip(_ROLES, node.inputs[1:4], strict=False)
    weights = list(known) if known is not None else [walk.weight(r, v) for r, v in roles if v is not None]
    shape = (items, steps, hidden) if directions == 1 else (items, steps, directions, hidden)
    draft = walk.made(
        node, node.op_type.lower(), [walk.moved(view), *states], shape, weights,
        **{"in": inner, "hidden size": hidden, "bias": held[2] is not None, "given": "sequence", **wanted},
    )  # fmt: skip
    if weights and weights[0].name.endswith(".folded"):
        draft.name = reader_name("", node)
    if known is not None:
        draft.say("a recurrent layer as a loop over its steps")
    if states:
        draft.attributes["initial state"] = True
    draft.macs = items * steps * directions * GATES[node.op_type] * hidden * (inner + hidden)
    _put(walk, node, draft, size, first_items=first_items)
    return True


def _attributes(node: ir.Node) -> Mapping[str, Attribute] | None:
    """What the layer computes; ``None`` where its activations have numbers of their own."""
    direction = str(attribute(node, "direction", "forward"))
    usual = _ACTIVATIONS[node.op_type] * (2 if direction == "bidirectional" else 1)
    named = [str(a) for a in attribute(node, "activations") or usual]
    if attribute(node, "activation_alpha") or attribute(node, "activation_beta"):
        return None
    found: dict[str, Attribute] = {"direction": direction, "activations": ", ".join(named).lower()}
    if node.op_type == "GRU":
        found["linear before reset"] = bool(attribute(node, "linear_before_reset", 0))
    if attribute(node, "input_forget", 0):
        found["input forget"] = True
    if (clip := attribute(node, "clip")) is not None:
        found["clip"] = rounded(float(clip))
    return found


def _states(walk: Walker, node: ir.Node, steps: int) -> list[Draft] | None:
    """The computed initial states; ``None`` where lengths differ, or there are peepholes or stored states."""
    given = [*node.inputs[4:], *[None] * 4]
    lengths, peepholes = given[0], given[3]
    if peepholes is not None:
        return None
    if lengths is not None:
        held = array(lengths)
        if held is None or bool((held != steps).any()):
            return None
    found: list[Draft] = []
    for value in given[1:3]:
        if value is None:
            continue
        if walk.has(value):
            found.append(walk.as_lies(value).draft)
            continue
        held = array(value)
        if held is None or bool(held.any()):
            return None
    return found


def _put(walk: Walker, node: ir.Node, draft: Draft, size: _Sizes, *, first_items: bool) -> None:
    """Says what each output is, by rules 1 and 3."""
    both = size.directions > 1
    last, way = len(draft.shape) - 1, 2 if both else None
    outputs = [*node.outputs, *[None] * 3][:3]
    sequence, state, cell = outputs
    if sequence is not None and sequence.name:
        walk.put(sequence, View(draft, (0, 1, way, last) if first_items else (1, way, 0, last)))
    if state is not None and _read(state):
        final = _final(draft, size)
        walk.put(state, View(final, (0, way, last) if first_items else (way, 0, last)))
    if cell is not None and _read(cell):
        shape = (size.items, 1, *draft.shape[2:])
        made = Draft("output", [draft], {"index": 2}, shape, draft.name)
        walk.put(cell, View(made, (0, way, last) if first_items else (way, 0, last)))


def _read(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()


def _final(draft: Draft, size: _Sizes) -> Draft:
    """Rule 3; of two directions each one's own last step, one beside the other."""
    if size.directions == 1:
        at = size.steps - 1 if draft.attributes["direction"] == "forward" else 0
        return _cut(draft, 1, at)
    parts = [_cut(_cut(draft, 2, way), 1, at) for way, at in ((0, size.steps - 1), (1, 0))]
    return Draft("concat", parts, {"axis": 2}, (size.items, 1, 2, size.hidden), draft.name)


def _cut(source: Draft, axis: int, at: int) -> Draft:
    if source.shape[axis] == 1:
        return source
    shape = tuple(1 if i == axis else n for i, n in enumerate(source.shape))
    return Draft("slice", [source], {"axis": axis, "begin": at, "end": at + 1}, shape, source.name)


def merge_reversed(sketch: Sketch) -> None:
    """Rule 4."""
    readers = sketch.readers()
    for draft in sketch.drafts():
        if draft.kind not in RECURRENT or draft.attributes["direction"] == "bidirectional":
            continue
        before, last = draft.inputs[0], draft.attributes["given"] == "last state"
        behind = draft if last else sketch.sole_reader(draft, readers)
        turned = before.kind == "reverse" and before.attributes["axis"] == 1 and len(before.shape) == len(draft.shape)
        if not turned or behind is None or not (last or (behind.kind, behind.attributes.get("axis")) == ("reverse", 1)):
            continue
        forward = draft.attributes["direction"] == "forward"
        draft.attributes["direction"] = "reverse" if forward else "forward"
        draft.inputs = [before.inputs[0], *draft.inputs[1:]]
        draft.nodes = [*before.nodes, *draft.nodes]
        readers.setdefault(id(before.inputs[0]), []).append(draft)
        draft.say("steps in reverse order by nodes of their own")
        if not last:
            sketch.replace(behind, draft, readers)


def merge_last_states(sketch: Sketch) -> None:
    """Rule 3: a layer of which the last step alone is read gives the last state."""
    readers = sketch.readers()
    for draft in sketch.drafts():
        if draft.kind != "slice" or draft.inputs[0].kind not in RECURRENT:
            continue
        source = draft.inputs[0]
        if source.attributes["direction"] == "bidirectional" or sketch.sole_reader(source, readers) is not draft:
            continue
        at = source.shape[1] - 1 if source.attributes["direction"] == "forward" else 0
        if (draft.attributes["axis"], draft.attributes["begin"], draft.attributes["end"]) != (1, at, at + 1):
            continue
        source.attributes["given"], source.shape = "last state", draft.shape
        source.nodes += draft.nodes
        sketch.replace(draft, source, readers)
