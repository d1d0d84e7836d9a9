"""What is written as two layers and is one.

0. Times 1 and plus 0 are nothing.
1. A constant per channel added to a convolution or dense layer without a bias is its bias.
2. ``pad`` with zeros before a convolution is its padding. Before an average it is padding that counts. Before a maximum
   it is padding where it pads with -inf, or with 0 what is never negative, and each window holds an element of the
   input: then 0 is never more than the largest.
3. A concatenation of a concatenation along the same axis is one of all parts.
4. ``flatten`` whose elements only dense layers read may take them in any order: their weights are ordered alike.
5. A reshape of a reshape is one, and none where it brings the shape back.
6. All slices of something along an axis, one behind another in their order, are it again, or a reshape of it.
"""

from __future__ import annotations

import math
from dataclasses import replace

from onnxeq.compare.reading.sketch import Draft, Sketch, squeezed
from onnxeq.compare.values import Weight

__all__ = [
    "EXPLICIT_PAD",
    "FLATTENED_LAST",
    "drop_no_ops",
    "join_slices",
    "mark_preprocessing",
    "merge_biases",
    "merge_concats",
    "merge_pads",
    "merge_reshapes",
    "settle_flattening",
]

EXPLICIT_PAD = "padding as a Pad node of its own"
ZERO_PAD = "zeros around what is never negative before a maximum"
FLATTENED_LAST = "flattened channels last, so that the weights behind it are ordered otherwise"
NOTHING = "times one, or plus zero"
NESTED_CONCAT = "concatenation of what is concatenated already"
SEPARATE_BIAS = "bias added by a node of its own"

_BIASED = ("conv", "depthwise", "conv_transpose", "linear")
_NEVER_NEGATIVE = ("relu", "relu6", "sigmoid", "hard_sigmoid", "softmax", "abs", "exp", "softplus")
_KEEPS_SIGN = ("max_pool", "avg_pool", "global_avg_pool", "global_max_pool", "slice", "concat", "flatten", "add", "mul")


def drop_no_ops(sketch: Sketch) -> None:
    """Rule 0."""
    readers = sketch.readers()
    for draft in sketch.drafts():
        if (draft.kind, draft.attributes.get("by")) in (("scale", 1.0), ("shift", 0.0)):
            source = draft.inputs[0]
            source.say(NOTHING)
            sketch.replace(draft, source, readers)


def mark_preprocessing(sketch: Sketch) -> None:
    """Constants that the input is scaled or shifted by before anything else are no parameters."""
    first = {id(draft) for draft in sketch.inputs}
    for draft in sketch.drafts():
        if draft.kind in ("scale", "shift") and id(draft.inputs[0]) in first:
            first.add(id(draft))
            draft.weights = [replace(w, role="preprocessing") for w in draft.weights]


def merge_biases(sketch: Sketch) -> None:
    """Rule 1."""
    readers = sketch.readers()
    for draft in sketch.drafts():
        if draft.kind != "shift" or draft.inputs[0].kind not in _BIASED:
            continue
        source = draft.inputs[0]
        if source.attributes["bias"] or sketch.sole_reader(source, readers) is not draft:
            continue
        channel = len(source.shape) - 1 if source.kind == "linear" else 1
        single = "by" in draft.attributes and source.attributes["out"] == 1
        if draft.attributes.get("along") != (channel,) and not single:
            continue
        source.attributes["bias"] = True
        source.nodes += draft.nodes
        source.weights += [replace(w, role="bias") for w in draft.weights] or [Weight("bias", "", 1)]
        if source.kind != "linear":
            source.say(SEPARATE_BIAS)
        sketch.replace(draft, source, readers)


def merge_pads(sketch: Sketch) -> None:
    """Rule 2."""
    for draft in sketch.drafts():
        if not draft.inputs or draft.inputs[0].kind != "pad":
            continue
        pad = draft.inputs[0]
        amounts = pad.attributes["pads"]
        if not isinstance(amounts, tuple) or not _merges(draft, pad, amounts):
            continue
        rank = len(amounts) // 2 - 2
        before, after = amounts[2 : 2 + rank], amounts[4 + rank :]
        for name in ("pads", "read"):
            own = draft.attributes[name]
            if isinstance(own, tuple):
                draft.attributes[name] = tuple(a + b for a, b in zip(own, (*before, *after), strict=True))
        if draft.kind == "avg_pool":
            draft.attributes["counts padding"] = True
        draft.inputs = [pad.inputs[0]]
        draft.nodes = pad.nodes + draft.nodes
        draft.say(EXPLICIT_PAD)
        if draft.kind == "max_pool" and pad.attributes.get("value") == 0:
            draft.say(ZERO_PAD)


def _merges(draft: Draft, pad: Draft, amounts: tuple[int, ...]) -> bool:
    rank = len(amounts) // 2 - 2
    kernel, own = draft.attributes.get("kernel"), draft.attributes.get("pads")
    if pad.attributes["mode"] != "constant" or not isinstance(kernel, tuple) or not isinstance(own, tuple):
        return False
    if draft.kind == "conv_transpose" or len(kernel) != rank or min(amounts) < 0:
        return False
    if any(amounts[:2] + amounts[2 + rank : 4 + rank]):
        return False
    if draft.kind in ("conv", "depthwise"):
        return pad.attributes["value"] == 0
    whole = [a + b for a, b in zip(own, amounts[2 : 2 + rank] + amounts[4 + rank :], strict=True)]
    if "ceil" in draft.attributes or any(p >= k for p, k in zip(whole, kernel * 2, strict=True)):
        return False
    if draft.kind == "avg_pool":
        return pad.attributes["value"] == 0 and (not any(own) or draft.attributes.get("counts padding") is True)
    if draft.kind == "max_pool":
        lowest = pad.attributes["value"]
        return (
            lowest == -math.inf
            or (isinstance(lowest, float) and lowest < -3e38)
            or (lowest == 0 and _never_negative(pad.inputs[0]))
        )
    return False


def _never_negative(draft: Draft, depth: int = 4) -> bool:
    if draft.kind in _NEVER_NEGATIVE:
        return True
    lowest = draft.attributes.get("min", -1) if draft.kind == "clip" else -1
    if isinstance(lowest, (int, float)) and lowest >= 0:
        return True
    return depth > 0 and draft.kind in _KEEPS_SIGN and all(_never_negative(d, depth - 1) for d in draft.inputs)


_MOST_PARTS = 1024
"""Of a concatenation that is written as one of several: more is no network, but a file that doubles and doubles."""


def merge_concats(sketch: Sketch) -> None:
    """Rule 3. An inner one that something else reads stays for that."""
    for draft in sketch.drafts():
        if draft.kind != "concat" or "operands" in draft.attributes:
            continue
        parts: list[Draft] = []
        for read in draft.inputs:
            inner = read.kind == "concat" and read.attributes == draft.attributes and len(parts) < _MOST_PARTS
            parts += read.inputs if inner else [read]
            if inner:
                draft.say(NESTED_CONCAT)
        draft.inputs = parts


def join_slices(sketch: Sketch) -> None:
    """Rule 6."""
    readers = sketch.readers()
    for draft in sketch.drafts():
        if draft.kind != "concat" or len(draft.inputs) < 2 or any(d.kind != "slice" for d in draft.inputs):
            continue
        source, cut = draft.inputs[0].inputs[0], draft.inputs[0].attributes["axis"]
        ends = [0, *(int(str(part.attributes["end"])) for part in draft.inputs)]
        consecutive = all(
            part.inputs[0] is source and (told["axis"], told["begin"]) == (cut, begin) and "step" not in told
            for part, begin in zip(draft.inputs, ends, strict=False)
            for told in (part.attributes,)
        )
        if not isinstance(cut, int) or not consecutive or len(source.shape) != len(draft.shape):
            continue
        if ends[-1] != source.shape[cut] or "operands" in draft.attributes:
            continue
        along = draft.attributes["axis"]
        single = all(part.shape[cut] == 1 for part in draft.inputs)
        following = next((a for a in range(cut + 1, len(source.shape)) if source.shape[a] != 1), None)
        if along == cut:
            sketch.replace(draft, source, readers)
        elif single and along == following and len(draft.inputs) == source.shape[cut]:
            draft.kind, draft.inputs = "reshape", [source]
            draft.attributes = {"before": squeezed(source.shape), "after": squeezed(draft.shape)}
            readers.setdefault(id(source), []).append(draft)


def settle_flattening(sketch: Sketch) -> None:
    """Rule 4."""
    readers = sketch.readers()
    for draft in sketch.drafts():
        order = draft.attributes.get("order")
        if draft.kind != "flatten" or not isinstance(order, tuple):
            continue
        if list(order) == sorted(order):
            del draft.attributes["order"]
        elif all(d.kind == "linear" for d in readers.get(id(draft), [])) and not any(
            o is draft for o in sketch.outputs
        ):
            del draft.attributes["order"]
            draft.say(FLATTENED_LAST)
            for reader in readers[id(draft)]:
                reader.weights = [_as_flattened(w, draft.inputs[0].shape, order) for w in reader.weights]


def _as_flattened(weight: Weight, shape: tuple[int, ...], order: tuple[int, ...]) -> Weight:
    """A dense layer's weight with its inputs taken apart into the axes that were flattened, and in which order."""
    if weight.role != "weight" or weight.viewed:
        return weight
    sizes, places = [shape[a] for a in order], [1 + a for a in order]
    out = weight.elements // math.prod(sizes)
    if weight.axes == (1, 0):
        return replace(weight, viewed=(*sizes, out), axes=(*places, 0))
    return replace(weight, viewed=(out, *sizes), axes=(0, *places))


def merge_reshapes(sketch: Sketch) -> None:
    """Rule 5."""
    readers = sketch.readers()
    for draft in sketch.drafts():
        if not _plain_reshape(draft) or not _plain_reshape(draft.inputs[0]):
            continue
        source = draft.inputs[0].inputs[0]
        if draft.kind == "reshape" and draft.attributes["after"] == squeezed(source.shape):
            sketch.replace(draft, source, readers)
            continue
        draft.inputs = [source]
        readers.setdefault(id(source), []).append(draft)
        if draft.kind == "reshape":
            draft.attributes["before"] = squeezed(source.shape)


def _plain_reshape(draft: Draft) -> bool:
    return draft.kind in ("flatten", "reshape") and "order" not in draft.attributes
