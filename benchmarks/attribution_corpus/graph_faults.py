"""Faults in the attributes of single nodes: padding, modes, axes, coefficients, limits, orders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx

from .edit import Array, Place, attribute, constant, node, place_of, put, readers, replace_constant
from .faults import Fault, Subject, kind

__all__: list[str] = []

_WINDOWS = ("Conv", "ConvTranspose", "MaxPool", "AveragePool")


def set_attributes(output: str, text: str, **values: Any) -> Fault:
    """A fault that sets attributes of one node."""

    def apply(model: onnx.ModelProto, _rng: np.random.Generator) -> Place:
        found = node(model, output)
        for name, value in values.items():
            put(found, name, value)
        return place_of([found])

    return Fault(f"{output}:{','.join(f'{k}={v}' for k, v in values.items())}", apply, f"{text} at {output}: {values}")


def set_constant(reader: onnx.NodeProto, index: int, value: Array, text: str) -> Fault:
    """A fault that gives one node another constant."""
    output = reader.output[0]

    def apply(model: onnx.ModelProto, _rng: np.random.Generator) -> Place:
        return replace_constant(model, node(model, output), index, value)

    return Fault(f"{output}#{index}={value.ravel()[:4].tolist()}", apply, f"{text} at {output}, input {index}")


def each(subject: Subject, *kinds: str) -> Iterator[onnx.NodeProto]:
    """The nodes of these types whose result was observed."""
    return (n for n in subject.model.graph.node if n.op_type in kinds and n.output[0] in subject.values)


def _pads(found: onnx.NodeProto) -> list[int]:
    return list(attribute(found, "pads", []))


@kind("pads-one-side", "graph")
def _one_side(subject: Subject) -> Iterator[Fault]:
    for found in each(subject, *_WINDOWS):
        pads = _pads(found)
        half = len(pads) // 2
        if any(pads):
            late = [0] * half + [a + b for a, b in zip(pads[:half], pads[half:], strict=True)]
            early = late[half:] + [0] * half
            for moved in (late, early):
                if moved != pads:
                    yield set_attributes(found.output[0], "padding all on one side", pads=moved)


@kind("pads-same-size", "graph")
def _same_size(subject: Subject) -> Iterator[Fault]:
    """With a stride, one row of padding fewer often gives as many positions, each in another place."""
    for found in each(subject, "Conv", "MaxPool", "AveragePool"):
        pads, strides = _pads(found), list(attribute(found, "strides", [1]))
        if max(strides) > 1 and any(pads):
            half = len(pads) // 2
            yield set_attributes(found.output[0], "padding dropped", pads=[0] * half + pads[half:])
            yield set_attributes(found.output[0], "padding dropped", pads=pads[:half] + [0] * half)


@kind("dilation-same-size", "graph")
def _dilation(subject: Subject) -> Iterator[Fault]:
    for found in each(subject, "Conv"):
        pads, old = _pads(found), list(attribute(found, "dilations", [1]))
        if any(pads) and len(set(old)) == 1:
            d = 1 if old[0] > 1 else 2
            wide = [p * d // old[0] for p in pads]
            yield set_attributes(found.output[0], "dilation", pads=wide, dilations=[d] * (len(pads) // 2))


@kind("auto-pad", "graph")
def _auto_pad(subject: Subject) -> Iterator[Fault]:
    """SAME_LOWER for what was SAME_UPPER or explicit, at an even size and stride two."""
    for found in each(subject, "Conv", "MaxPool"):
        if max(attribute(found, "strides", [1])) > 1:
            yield set_attributes(found.output[0], "automatic padding", pads=None, auto_pad="SAME_LOWER")
            yield set_attributes(found.output[0], "automatic padding", pads=None, auto_pad="SAME_UPPER")


@kind("epsilon-1e-3", "graph")
def _epsilon_large(subject: Subject) -> Iterator[Fault]:
    yield from _epsilon(subject, 100.0)


@kind("epsilon-1.1", "graph", faint=True)
def _epsilon_small(subject: Subject) -> Iterator[Fault]:
    yield from _epsilon(subject, 1.1)


def _epsilon(subject: Subject, factor: float) -> Iterator[Fault]:
    for found in each(subject, "BatchNormalization", "LayerNormalization", "InstanceNormalization"):
        before = attribute(found, "epsilon", 1e-5)
        yield set_attributes(found.output[0], "epsilon", epsilon=float(before * factor))
    for root in each(subject, "Sqrt"):
        added = next((n for n in subject.model.graph.node if root.input[0] in n.output), None)
        for index, name in enumerate(added.input if added is not None and added.op_type == "Add" else ()):
            value = constant(subject.model, name)
            if added is not None and value is not None and value.size == 1:
                yield set_constant(added, index, (value * factor).astype(value.dtype), "epsilon")


@kind("softmax-axis", "graph")
def _softmax(subject: Subject) -> Iterator[Fault]:
    for found in each(subject, "Softmax", "LogSoftmax"):
        shape = subject.shape(found.output[0]) or ()
        axis = attribute(found, "axis", -1) % len(shape)
        for other in range(1, len(shape)):
            if other != axis:
                yield set_attributes(found.output[0], "softmax over another axis", axis=other)


@kind("kept-axis", "graph")
def _reduced_axis(subject: Subject) -> Iterator[Fault]:
    """A reduction over one axis in place of another one of equal size."""
    for found in each(subject, "ReduceMean", "ReduceMax", "ReduceSum", "ReduceMin", "ReduceL2", "CumSum", "ArgMax"):
        shape = subject.shape(found.input[0]) or ()
        axes = constant(subject.model, found.input[1]) if len(found.input) > 1 and found.input[1] else None
        if axes is None or axes.size != 1:
            continue
        axis = int(axes.ravel()[0]) % len(shape)
        for other in range(len(shape)):
            same = shape[other] == shape[axis] or found.op_type == "CumSum"
            if other != axis and same and other > 0:
                yield set_constant(found, 1, np.full_like(axes, other), f"axis {other} for {axis}")


_COEFFICIENTS: dict[str, tuple[tuple[str, float, float], ...]] = {
    "LeakyRelu": (("alpha", 0.01, 2.0), ("alpha", 0.01, 0.1)),
    "Elu": (("alpha", 1.0, 1.5),),
    "Celu": (("alpha", 1.0, 1.4),),
    "Selu": (("alpha", 1.6732632, 0.5), ("gamma", 1.0507010, 1.1)),
    "HardSigmoid": (("alpha", 0.2, 1.2), ("beta", 0.5, 1.1)),
}


@kind("activation-coefficient", "graph")
def _coefficient(subject: Subject) -> Iterator[Fault]:
    for found in each(subject, *_COEFFICIENTS):
        for name, default, factor in _COEFFICIENTS[found.op_type]:
            before = float(attribute(found, name, default))
            yield set_attributes(found.output[0], f"{name} was {before:g}", **{name: before * factor})


@kind("gelu-variant", "graph")
def _gelu(subject: Subject) -> Iterator[Fault]:
    for found in each(subject, "Gelu"):
        other = "none" if attribute(found, "approximate", b"none") == b"tanh" else "tanh"
        yield set_attributes(found.output[0], "the other GELU", approximate=other)


@kind("count-include-pad", "graph")
def _include_pad(subject: Subject) -> Iterator[Fault]:
    for found in each(subject, "AveragePool"):
        if any(_pads(found)):
            counted = attribute(found, "count_include_pad", 0)
            yield set_attributes(found.output[0], "count_include_pad", count_include_pad=1 - counted)


@kind("ceil-mode", "graph")
def _ceil(subject: Subject) -> Iterator[Fault]:
    for found in each(subject, "AveragePool", "MaxPool"):
        yield set_attributes(found.output[0], "ceil_mode", ceil_mode=1 - attribute(found, "ceil_mode", 0))


@kind("resize-mode", "graph")
def _resize_mode(subject: Subject) -> Iterator[Fault]:
    for found in each(subject, "Resize"):
        mode = attribute(found, "mode", b"nearest").decode()
        for other in {"linear": ("nearest", "cubic"), "nearest": ("linear",), "cubic": ("linear",)}[mode]:
            yield set_attributes(found.output[0], f"mode was {mode}", mode=other)


@kind("resize-coordinates", "graph")
def _resize_coordinates(subject: Subject) -> Iterator[Fault]:
    for found in each(subject, "Resize"):
        before = attribute(found, "coordinate_transformation_mode", b"half_pixel").decode()
        for other in ("half_pixel", "asymmetric", "align_corners", "half_pixel_symmetric"):
            if other != before:
                text = f"coordinates were {before}"
                yield set_attributes(found.output[0], text, coordinate_transformation_mode=other)


@kind("resize-rounding", "graph")
def _resize_rounding(subject: Subject) -> Iterator[Fault]:
    for found in each(subject, "Resize"):
        mode = attribute(found, "mode", b"nearest")
        if mode == b"nearest":
            for other in ("ceil", "floor", "round_prefer_ceil"):
                yield set_attributes(found.output[0], "nearest_mode", nearest_mode=other)
        if mode == b"cubic":
            yield set_attributes(found.output[0], "cubic coefficient", cubic_coeff_a=-0.5)
            yield set_attributes(found.output[0], "exclude_outside", exclude_outside=1)


@kind("transpose-perm", "graph")
def _perm(subject: Subject) -> Iterator[Fault]:
    """Another permutation with a result of the same shape."""
    for found in each(subject, "Transpose"):
        shape = subject.shape(found.input[0])
        perm = list(attribute(found, "perm", []))
        for i in range(1, len(perm)):
            for j in range(i + 1, len(perm)):
                if shape is not None and shape[perm[i]] == shape[perm[j]] > 1:
                    other = list(perm)
                    other[i], other[j] = other[j], other[i]
                    yield set_attributes(found.output[0], f"perm was {perm}", perm=other)


@kind("gemm-factor", "graph")
def _gemm_factor(subject: Subject) -> Iterator[Fault]:
    for found in each(subject, "Gemm"):
        yield set_attributes(found.output[0], "alpha", alpha=1.01)
        if len(found.input) > 2:
            yield set_attributes(found.output[0], "beta", beta=0.99)
            yield set_attributes(found.output[0], "beta", beta=0.0)


@kind("gemm-transposed", "graph", also=("weights",))
def _gemm_transposed(subject: Subject) -> Iterator[Fault]:
    for found in each(subject, "Gemm"):
        held = constant(subject.model, found.input[1])
        if held is not None and held.shape[0] == held.shape[1]:
            yield set_attributes(found.output[0], "transB", transB=1 - attribute(found, "transB", 0))


@kind("clip-limit", "graph")
def _clip(subject: Subject) -> Iterator[Fault]:
    for found in each(subject, "Clip"):
        for index in range(1, len(found.input)):
            value = constant(subject.model, found.input[index]) if found.input[index] else None
            if value is not None and value.dtype.kind == "f":
                moved = value * 0.8 if value.item() else value + np.asarray(0.2, value.dtype)
                yield set_constant(found, index, moved.astype(value.dtype), f"limit was {value.item():g}")


@kind("scalar-constant", "graph")
def _scalar(subject: Subject) -> Iterator[Fault]:
    """A scalar of the computation: the scale of attention, a power, a factor."""
    for found in each(subject, "Mul", "Div", "Pow", "Add", "Sub"):
        for index, name in enumerate(found.input):
            value = constant(subject.model, name)
            if value is None or value.size != 1 or value.dtype.kind != "f" or not np.isfinite(value).all():
                continue
            if found.op_type == "Div" and index == 1 and value.item() > 2:
                yield set_constant(found, index, np.square(value), "the scale not rooted")
            elif value.item() != 0 and abs(value.item()) > 1e-2:
                yield set_constant(found, index, (value * 1.05).astype(value.dtype), "a scalar times 1.05")


@kind("integer-constant", "graph")
def _integer(subject: Subject) -> Iterator[Fault]:
    for found in each(subject, "Add", "Sub", "Mod", "Div", "Equal", "Mul", "Gather"):
        for index, name in enumerate(found.input):
            value = constant(subject.model, name)
            dynamic = any(i in subject.values and constant(subject.model, i) is None for i in found.input)
            if value is not None and value.dtype.kind == "i" and value.size == 1 and dynamic:
                yield set_constant(found, index, value + np.ones((), value.dtype), "an integer off by one")
                if found.op_type == "Gather":
                    yield set_constant(found, index, np.full_like(value, -1), "an index from the other end")


@kind("mask", "graph")
def _mask(subject: Subject) -> Iterator[Fault]:
    """A causal mask off by one, or of other values."""
    for found in each(subject, "Where"):
        held = constant(subject.model, found.input[0])
        if held is not None and held.ndim >= 2:
            off = np.roll(held, 1, -1)
            off[..., 0] = held[..., 0]
            yield set_constant(found, 0, off, "the mask one column off")
            yield set_constant(found, 0, np.swapaxes(held, -1, -2).copy(), "the mask transposed")
        for index in (1, 2):
            value = constant(subject.model, found.input[index])
            if value is not None and value.size == 1 and value.dtype.kind == "f" and value.item() < -10:
                yield set_constant(found, index, np.full_like(value, -0.5), "the mask hardly lowers")
    for found in each(subject, "Trilu"):
        yield from _trilu(subject, found)


def _trilu(subject: Subject, found: onnx.NodeProto) -> Iterator[Fault]:
    k = constant(subject.model, found.input[1]) if len(found.input) > 1 else None
    if k is not None:
        yield set_constant(found, 1, k + 1, "the mask's diagonal off by one")
        yield set_constant(found, 1, k - 1, "the mask's diagonal off by one")
    yield set_attributes(found.output[0], "the other triangle", upper=1 - attribute(found, "upper", 1))


@kind("pad-mode", "graph")
def _pad_mode(subject: Subject) -> Iterator[Fault]:
    for found in each(subject, "Pad"):
        before = attribute(found, "mode", b"constant").decode()
        for other in ("constant", "reflect", "edge", "wrap"):
            if other != before:
                yield set_attributes(found.output[0], f"mode was {before}", mode=other)
        pads = constant(subject.model, found.input[1]) if len(found.input) > 1 else None
        if pads is not None and pads.any():
            half = len(pads) // 2
            moved = np.concatenate([0 * pads[:half], pads[:half] + pads[half:]])
            yield set_constant(found, 1, moved, "padding all on one side")


@kind("slice-bounds", "graph")
def _slice(subject: Subject) -> Iterator[Fault]:
    """Start and end one further, so that as much is cut out."""
    for found in (n for n in each(subject, "Slice") if len(n.input) > 2):
        starts, ends = (constant(subject.model, found.input[k]) for k in (1, 2))
        if starts is None or ends is None or not subject.is_float(found.output[0]):
            continue
        last = ends.ravel()[0] > 10**6 or starts.ravel()[0] > 0
        yield _shifted_slice(found, starts, ends, -1 if last else 1)


def _shifted_slice(found: onnx.NodeProto, starts: Array, ends: Array, step: int) -> Fault:
    output = found.output[0]

    def apply(model: onnx.ModelProto, _rng: np.random.Generator) -> Place:
        place = replace_constant(model, node(model, output), 1, starts + np.asarray(step, starts.dtype))
        far = np.abs(ends) > 10**6
        moved = np.where(far, -1 if step < 0 else ends, ends + step).astype(ends.dtype)
        return place | replace_constant(model, node(model, output), 2, moved)

    return Fault(f"{output}:{step:+}", apply, f"slice {output} begins at {starts.tolist()} {step:+}")


@kind("rnn-attribute", "graph")
def _recurrent(subject: Subject) -> Iterator[Fault]:
    for found in each(subject, "GRU", "LSTM"):
        direction = attribute(found, "direction", b"forward")
        if direction != b"bidirectional":
            other = "reverse" if direction == b"forward" else "forward"
            yield set_attributes(found.output[0], "direction", direction=other)
        if found.op_type == "GRU":
            before = attribute(found, "linear_before_reset", 0)
            yield set_attributes(found.output[0], "reset", linear_before_reset=1 - before)
        names: Sequence[str] = ("HardSigmoid", "Tanh") if found.op_type == "GRU" else ("HardSigmoid", "Tanh", "Tanh")
        ways = 2 if direction == b"bidirectional" else 1
        yield set_attributes(found.output[0], "gate function", activations=list(names) * ways)
        yield set_attributes(found.output[0], "clip", clip=0.5)


@kind("shuffle-mode", "graph")
def _depth_to_space(subject: Subject) -> Iterator[Fault]:
    for found in each(subject, "DepthToSpace"):
        other = "DCR" if attribute(found, "mode", b"DCR") == b"CRD" else "CRD"
        yield set_attributes(found.output[0], "mode", mode=other)
    for found in each(subject, "CumSum"):
        yield set_attributes(found.output[0], "exclusive", exclusive=1)
        yield set_attributes(found.output[0], "reverse", reverse=1)


@kind("batch-baked-in", "graph")
def _batch(subject: Subject) -> Iterator[Fault]:
    """A Reshape or Expand that only fits the batch size of the example."""
    for found in (n for n in each(subject, "Reshape", "Expand") if len(n.input) > 1):
        shape = constant(subject.model, found.input[1])
        out = subject.shape(found.output[0])
        used = readers(subject.model, found.output[0])
        if shape is not None and out and len(out) > 1 and out[0] == 2 and shape[0] in (0, -1) and used:
            yield set_constant(found, 1, np.asarray([1, *out[1:]], shape.dtype), "the batch of one baked in")
