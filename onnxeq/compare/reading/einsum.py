"""Einsum where it is a product of matrices, or a dense layer.

1. Of two computed tensors: letters of both and the result are the batch, one letter of both alone is summed over, and
   each has one of its own. The operand whose letter comes first in the result is the left one.
2. Of a computed tensor and a constant: what is summed over are the computed one's last axes and the rest of the
   constant are outputs, which stand last in the result: a dense layer, behind a reshape and before one.
"""

from __future__ import annotations

import math

import onnx_ir as ir

from onnxeq.compare.reading.linear import put_dense
from onnxeq.compare.reading.sketch import Draft, View, plain, squeezed
from onnxeq.compare.reading.walker import Walker
from onnxeq.compare.values import Weight
from onnxeq.graph.edit import attribute, constant

__all__ = ["einsum"]


def einsum(walk: Walker, node: ir.Node) -> bool:
    """Einsum by rules 1 and 2."""
    equation = str(attribute(node, "equation", "")).replace(" ", "")
    left, arrow, out = equation.partition("->")
    terms = left.split(",")
    if not arrow or len(terms) != 2 or len(node.inputs) != 2:
        return False
    one, two = node.inputs
    if one is None or two is None:
        return False
    ranks = [len(walk.view(v).axes) if walk.has(v) else len(walk.shape(v)) for v in (one, two)]
    terms, out = _spelled(terms, ranks, out)
    if not (terms[0] + terms[1] + out).isalpha():
        return False
    if any(len(set(t)) != len(t) for t in (*terms, out)):
        return False
    if walk.has(one) and walk.has(two):
        return _product(walk, node, (one, two), (terms[0], terms[1]), out)
    if walk.has(one) and constant(two) is not None:
        return _dense(walk, node, (one, two), (terms[0], terms[1]), out)
    if walk.has(two) and constant(one) is not None:
        return _dense(walk, node, (two, one), (terms[1], terms[0]), out)
    return False


_LEADING = "ABCDEFGHIJ"


def _spelled(terms: list[str], ranks: list[int], out: str) -> tuple[list[str], str]:
    """The same with letters for an ellipsis that stands first everywhere and for as many axes."""
    behind = [t.removeprefix("...") for t in (*terms, out)]
    leads = [rank - len(term) for rank, term in zip(ranks, behind, strict=False)]
    if not all(t.startswith("...") for t in (*terms, out)) or min(leads) < 0 or max(leads) > len(_LEADING):
        return terms, out
    letters = _LEADING[: max(leads)]
    if set(letters) & set("".join(behind)):
        return terms, out
    own = [letters[len(letters) - lead :] for lead in leads]  # the last ones belong together, as in broadcasting
    return [a + b for a, b in zip(own, behind, strict=False)], letters + behind[2]


def _product(walk: Walker, node: ir.Node, values: tuple[ir.Value, ir.Value], terms: tuple[str, str], out: str) -> bool:
    """Rule 1."""
    own = [[c for c in t if c in out and c not in other] for t, other in (terms, terms[::-1])]
    summed = [c for c in terms[0] if c in terms[1] and c not in out]
    batch = [c for c in out if c in terms[0] and c in terms[1]]
    if any(len(o) != 1 for o in own) or len(summed) != 1 or any(len(t) != len(batch) + 2 for t in terms):
        return False
    views = [walk.view(v) for v in values]
    if any(len(v.axes) != len(t) for v, t in zip(views, terms, strict=True)) or len(out) != len(batch) + 2:
        return False
    sizes = [dict(zip(t, v.shape, strict=True)) for t, v in zip(terms, views, strict=True)]
    if any(sizes[0][c] != sizes[1][c] or sizes[0][c] < 0 for c in (*batch, *summed)):
        return False  # broadcast, or unknown
    (m,), (n,) = own
    pairs = [(views[0], terms[0]), (views[1], terms[1])]
    if out.index(n) < out.index(m):
        pairs, m, n = pairs[::-1], n, m
    lying = [
        View(view.draft, tuple(view.axes[term.index(c)] for c in order))
        for (view, term), order in zip(pairs, ((*batch, m, *summed), (*batch, *summed, n)), strict=True)
    ]
    held = {**sizes[0], **sizes[1]}
    whole = (*batch, m, n)
    drafts = [_as_shape(walk, view) for view in lying]
    draft = walk.made(node, "matmul", drafts, tuple(held[c] for c in whole), terms=held[summed[0]])
    draft.operands = tuple(v.shape for v in lying)
    walk.put(node.outputs[0], View(draft, tuple(whole.index(c) for c in out)))
    return True


def _as_shape(walk: Walker, view: View) -> Draft:
    """The tensor as it lies, in a draft that has its shape."""
    moved = walk.moved(view)
    if moved.shape == view.shape:
        return moved
    attributes = {"before": squeezed(moved.shape), "after": squeezed(view.shape)}
    return Draft("reshape", [moved], dict(attributes), view.shape, moved.name)


def _dense(walk: Walker, node: ir.Node, values: tuple[ir.Value, ir.Value], terms: tuple[str, str], out: str) -> bool:
    """Rule 2."""
    view, tensor = walk.view(values[0]), constant(values[1])
    if tensor is None or len(view.axes) != len(terms[0]) or len(tensor.shape) != len(terms[1]):
        return False
    summed = [c for c in terms[0] if c in terms[1] and c not in out]
    kept = terms[0][: len(terms[0]) - len(summed)]
    outputs = out[len(kept) :]
    if not summed or terms[0] != kept + "".join(summed) or out[: len(kept)] != kept or not outputs:
        return False
    if sorted(terms[1]) != sorted([*summed, *outputs]):
        return False
    held = dict(zip(terms[1], (int(n) for n in tensor.shape), strict=True))
    if view.shape[len(kept) :] != tuple(held[c] for c in summed) or min(view.shape) < 0:
        return False
    inner, number = math.prod(held[c] for c in summed), math.prod(held[c] for c in outputs)
    order = [*outputs, *summed]
    weight = Weight(
        "weight", values[1].name or "", inner * number,
        tuple(held[c] for c in terms[1]), tuple(order.index(c) for c in terms[1]),
    )  # fmt: skip
    if len(terms[1]) == 2:
        weight = walk.weight("weight", values[1], weight.axes if weight.axes != (0, 1) else ())
    if len(summed) > 1:
        view = plain(_shaped(walk.moved(view), (*view.shape[: len(kept)], inner)))
    if len(outputs) == 1:
        return put_dense(walk, node, view, node.outputs[0], inner, number, [weight])
    if not put_dense(walk, node, view, node.outputs[0], inner, number, [weight]):
        return False
    made = walk.view(node.outputs[0])
    sizes = (*made.shape[: len(kept)], *(held[c] for c in outputs))
    walk.put(node.outputs[0], plain(_shaped(walk.moved(made), sizes)))
    return True


def _shaped(source: Draft, shape: tuple[int, ...]) -> Draft:
    if source.shape == shape:
        return source
    attributes = {"before": squeezed(source.shape), "after": squeezed(shape)}
    return Draft("reshape", [source], dict(attributes), shape, source.name)
