"""Faults in the weights: the graph is right, what is stored is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import ml_dtypes
import numpy as np
import onnx

from .edit import Array, Place, add_initializer, constant, node, place_of, set_initializer, through_constants
from .faults import Fault, Subject, Tensor, kind, tensors

__all__: list[str] = []

_Change: TypeAlias = Callable[[Array, np.random.Generator, Tensor], Array]
_MATRICES = ("conv", "deconv", "gemm", "matmul", "rnn-w", "rnn-r", "table")
_VECTORS = ("bias", "shift", "rnn-b")


def _place(model: onnx.ModelProto, *names: str) -> Place:
    return place_of([n for name in names for n in through_constants(model, name)], names)


def _changed(tensor: Tensor, change: _Change, text: str) -> Fault:
    def apply(model: onnx.ModelProto, rng: np.random.Generator) -> Place:
        before = constant(model, tensor.name)
        assert before is not None
        after = change(before.copy(), rng, tensor)
        set_initializer(model, tensor.name, after.astype(before.dtype, copy=False))
        return _place(model, tensor.name)

    return Fault(tensor.name, apply, f"{text} in {tensor.name} ({tensor.role})")


def _simple(name: str, roles: tuple[str, ...], text: str, *, faint: bool = False) -> Callable[[_Change], _Change]:
    """Enters a kind that changes one tensor of these roles."""

    def enter(change: _Change) -> _Change:
        def find(subject: Subject) -> Iterator[Fault]:
            for tensor in tensors(subject, *roles):
                yield _changed(tensor, change, text)

        kind(name, "weights", faint=faint)(find)
        return change

    return enter


def _pick(value: Array, rng: np.random.Generator) -> tuple[int, ...]:
    """An element that is neither zero nor among the smallest."""
    size = np.abs(value)
    places = np.argwhere(size >= np.median(size))
    places = places if len(places) else np.argwhere(np.isfinite(value))
    return tuple(int(k) for k in places[rng.integers(len(places))])


def _ulps(value: Array, count: int) -> Array:
    """Each element moved away from zero by so many units in its last place."""
    spacing = np.abs(np.spacing(value)).astype(value.dtype)
    return (value + np.sign(value) * count * spacing).astype(value.dtype)


@_simple("element-large", (*_MATRICES, *_VECTORS), "one element set to thirty times the largest")
def _element_large(value: Array, rng: np.random.Generator, _t: Tensor) -> Array:
    value[_pick(value, rng)] = 30 * np.abs(value).max()
    return value


@_simple("element-ulp", (*_MATRICES, *_VECTORS, "norm"), "one element moved by one ulp", faint=True)
def _element_ulp(value: Array, rng: np.random.Generator, _t: Tensor) -> Array:
    place = _pick(value, rng)
    value[place] = np.nextafter(value[place], value.dtype.type(np.inf))
    return value


@_simple("element-sign", (*_MATRICES, "bias", "slope"), "the sign bit of one element")
def _element_sign(value: Array, rng: np.random.Generator, _t: Tensor) -> Array:
    place = _pick(value, rng)
    value[place] = -value[place]
    return value


@_simple("element-exponent", (*_MATRICES, "norm"), "one element doubled, as by a flipped bit of its exponent")
def _element_exponent(value: Array, rng: np.random.Generator, _t: Tensor) -> Array:
    value[_pick(value, rng)] *= 2
    return value


@_simple("element-nan", ("conv", "gemm", "matmul"), "one element set to NaN")
def _element_nan(value: Array, rng: np.random.Generator, _t: Tensor) -> Array:
    value[_pick(value, rng)] = np.nan
    return value


def _channel(axis: int, index: int) -> tuple[slice | int, ...]:
    return (*(slice(None) for _ in range(axis)), index)


def _scale_channel(factor: float) -> _Change:
    def change(value: Array, rng: np.random.Generator, tensor: Tensor) -> Array:
        value[_channel(tensor.axis, int(rng.integers(value.shape[tensor.axis])))] *= value.dtype.type(factor)
        return value

    return change


_simple("channel-scaled-1.002", ("conv", "deconv", "gemm", "matmul"), "one channel times 1.002")(_scale_channel(1.002))
_simple("channel-scaled-1.0005", ("conv", "deconv", "gemm", "matmul"), "one channel times 1.0005")(
    _scale_channel(1.0005)
)
_simple("channel-zeroed", ("conv", "deconv", "gemm", "matmul", "norm"), "one channel set to zero")(_scale_channel(0.0))


@_simple("channels-swapped", ("conv", "deconv", "gemm", "matmul", "bias", "shift"), "two channels exchanged")
def _channels_swapped(value: Array, rng: np.random.Generator, tensor: Tensor) -> Array:
    a, b = rng.choice(value.shape[tensor.axis], 2, replace=False)
    order = np.arange(value.shape[tensor.axis])
    order[[a, b]] = order[[b, a]]
    return np.take(value, order, tensor.axis)


@_simple("rows-permuted", ("table", "gemm", "matmul", "conv"), "all slices of the other axis in another order")
def _rows_permuted(value: Array, rng: np.random.Generator, tensor: Tensor) -> Array:
    axis = 0 if tensor.role == "table" else (1 - tensor.axis if value.ndim == 2 else 1)
    return np.take(value, rng.permutation(value.shape[axis]), axis)


@kind("square-transposed", "weights")
def _square_transposed(subject: Subject) -> Iterator[Fault]:
    for tensor in tensors(subject, "gemm", "matmul", "rnn-r", "rnn-w"):
        if tensor.value.shape[-1] == tensor.value.shape[-2]:
            yield _changed(tensor, lambda v, _r, _t: v.swapaxes(-1, -2), "the square matrix transposed")


@kind("kernel-reoriented", "weights")
def _kernel_reoriented(subject: Subject) -> Iterator[Fault]:
    def flipped(value: Array, _rng: np.random.Generator, _t: Tensor) -> Array:
        return np.flip(value, tuple(range(2, value.ndim)))

    def turned(value: Array, _rng: np.random.Generator, _t: Tensor) -> Array:
        return value.swapaxes(2, 3)

    def crossed(value: Array, _rng: np.random.Generator, _t: Tensor) -> Array:
        return value.swapaxes(0, 1)

    for tensor in tensors(subject, "conv", "deconv"):
        shape = tensor.value.shape
        if max(shape[2:]) > 1:
            yield _changed(tensor, flipped, "the kernel flipped, as for a true convolution")
        if len(shape) == 4 and shape[2] == shape[3] > 1:
            yield _changed(tensor, turned, "height and width of the kernel exchanged")
        if shape[0] == shape[1] > 1:
            yield _changed(tensor, crossed, "input and output channels exchanged")


@_simple("rounded-float16", ("conv", "gemm", "matmul", "norm", "table", "rnn-w"), "rounded to float16")
def _float16(value: Array, _rng: np.random.Generator, _t: Tensor) -> Array:
    return value.astype(np.float16).astype(value.dtype) if value.dtype != np.float16 else _bfloat16(value, _rng, _t)


@_simple("rounded-bfloat16", ("conv", "gemm", "matmul", "bias", "deconv", "rnn-r"), "rounded to bfloat16")
def _bfloat16(value: Array, _rng: np.random.Generator, _t: Tensor) -> Array:
    return value.astype(ml_dtypes.bfloat16).astype(value.dtype)


@_simple("quantised-int8", ("conv", "gemm", "matmul", "table"), "quantised to int8 per tensor and back")
def _int8(value: Array, _rng: np.random.Generator, _t: Tensor) -> Array:
    step = np.abs(value).max() / 127
    return (np.round(value / step) * step).astype(value.dtype)


@_simple("pruned", ("conv", "gemm", "matmul"), "the smaller tenth of the elements set to zero")
def _pruned(value: Array, _rng: np.random.Generator, _t: Tensor) -> Array:
    value[np.abs(value) < np.quantile(np.abs(value), 0.1)] = 0
    return value


@_simple("noise-1e-4", (*_MATRICES, "norm"), "every element off by about 1e-4 of its value")
def _noise(value: Array, rng: np.random.Generator, _t: Tensor) -> Array:
    return (value * (1 + 1e-4 * rng.standard_normal(value.shape))).astype(value.dtype)


@_simple("tensor-8-ulp", ("conv", "gemm", "matmul"), "every element off by 8 ulp", faint=True)
def _tensor_ulps(value: Array, _rng: np.random.Generator, _t: Tensor) -> Array:
    return _ulps(value, 8)


@_simple("stale", ("conv", "gemm", "matmul", "rnn-w", "norm", "mean"), "another training run's values")
def _stale(value: Array, rng: np.random.Generator, _t: Tensor) -> Array:
    return (value.mean() + value.std() * rng.standard_normal(value.shape)).astype(value.dtype)


@_simple("bias-100-ulp", _VECTORS, "every element off by 100 ulp", faint=True)
def _bias_100(value: Array, _rng: np.random.Generator, _t: Tensor) -> Array:
    return _ulps(value, 100)


@_simple("folded-bias-4-ulp", ("bias",), "one element off by 4 ulp", faint=True)
def _bias_4(value: Array, rng: np.random.Generator, _t: Tensor) -> Array:
    place = _pick(value, rng)
    value[place] = _ulps(value, 4)[place]
    return value


@_simple("bias-shifted-1e-3", _VECTORS, "every element larger by 1e-3")
def _bias_shifted(value: Array, _rng: np.random.Generator, _t: Tensor) -> Array:
    return value + value.dtype.type(1e-3)


@kind("bias-dropped", "weights", also=("graph",))
def _bias_dropped(subject: Subject) -> Iterator[Fault]:
    """The input is gone, or zeros stand there."""

    def gone(tensor: Tensor) -> Fault:
        def apply(model: onnx.ModelProto, _rng: np.random.Generator) -> Place:
            reader = node(model, tensor.reader)
            del reader.input[tensor.index]
            return place_of([reader], [tensor.name])

        return Fault(tensor.name, apply, f"{tensor.reader} does not read its bias {tensor.name}")

    for tensor in tensors(subject, "bias"):
        yield _changed(tensor, lambda v, _r, _t: np.zeros_like(v), "the bias set to zero")
        if node(subject.model, tensor.reader).op_type in ("Conv", "ConvTranspose", "Gemm"):
            yield gone(tensor)


def _pairs(found: list[Tensor], rng_seed: int = 3) -> Iterator[tuple[Tensor, Tensor]]:
    """Tensors of equal shape and role, each with another one."""
    rng = np.random.default_rng(rng_seed)
    for tensor in found:
        alike = [t for t in found if t.value.shape == tensor.value.shape and t.role == tensor.role and t != tensor]
        if alike:
            yield tensor, alike[int(rng.integers(len(alike)))]


@kind("tensors-exchanged", "weights")
def _exchanged(subject: Subject) -> Iterator[Fault]:
    def fault(a: Tensor, b: Tensor) -> Fault:
        def apply(model: onnx.ModelProto, _rng: np.random.Generator) -> Place:
            set_initializer(model, a.name, b.value)
            set_initializer(model, b.name, a.value)
            return _place(model, a.name, b.name)

        return Fault(f"{a.name}~{b.name}", apply, f"the contents of {a.name} and {b.name} exchanged")

    for a, b in _pairs(tensors(subject)):
        yield fault(a, b)


@kind("collision", "weights")
def _collision(subject: Subject) -> Iterator[Fault]:
    """As in pytorch#166797 and #174042: two folded biases under one name, so that the later stands for both."""

    def fault(a: Tensor, b: Tensor) -> Fault:
        def apply(model: onnx.ModelProto, _rng: np.random.Generator) -> Place:
            reader = node(model, a.reader)
            reader.input[a.index] = b.name
            kept = [t for t in model.graph.initializer if t.name != a.name]
            del model.graph.initializer[:]
            model.graph.initializer.extend(kept)
            return place_of([reader], [a.name, b.name])

        return Fault(f"{a.reader}<-{b.name}", apply, f"{a.reader} reads {b.name} in place of {a.name}, which is gone")

    for a, b in _pairs(tensors(subject, "bias", "conv", "norm", "shift"), 4):
        if len(through_constants(subject.model, a.name)) == 1:
            yield fault(a, b)


@kind("statistics-exchanged", "weights")
def _statistics(subject: Subject) -> Iterator[Fault]:
    """Mean for variance, scale for shift."""

    def fault(reader: onnx.NodeProto, i: int, j: int) -> Fault:
        output, a, b = reader.output[0], reader.input[i], reader.input[j]

        def apply(model: onnx.ModelProto, _rng: np.random.Generator) -> Place:
            first, second = constant(model, a), constant(model, b)
            assert first is not None
            assert second is not None
            # A negative variance would be NaN at once; converters that mix the two up store magnitudes.
            set_initializer(model, a, np.abs(second) if j == _VAR else second)
            set_initializer(model, b, np.abs(first) if j == _VAR else first)
            return place_of([node(model, output)], [a, b])

        return Fault(f"{output}:{i}{j}", apply, f"inputs {a} and {b} of {output} exchanged in their contents")

    held = {t.name for t in subject.model.graph.initializer}
    for reader in subject.model.graph.node:
        for i, j in ((3, 4), (1, 2)):
            norm = reader.op_type == "BatchNormalization" or (reader.op_type == "LayerNormalization" and i == 1)
            if norm and len(reader.input) > j and {reader.input[i], reader.input[j]} <= held:
                yield fault(reader, i, j)


_VAR = 4


def _folded(subject: Subject, tensor: Tensor) -> tuple[str, str] | None:
    """The names of the convolution and of the normalisation that were folded into a weight."""
    for name, weight in subject.state.items():
        if not name.endswith("weight") or weight.shape != tensor.value.shape or weight.ndim != 4:
            continue
        for var in (n for n in subject.state if n.endswith("running_var")):
            norm = var.removesuffix(".running_var")
            if subject.state[var].shape[0] != weight.shape[0]:
                continue
            factor = subject.state[f"{norm}.weight"] / np.sqrt(subject.state[var] + 1e-5)
            if np.allclose(weight * factor[:, None, None, None], tensor.value, rtol=1e-4, atol=1e-6):
                return name.removesuffix(".weight"), norm
    return None


@kind("folded-wrongly", "weights")
def _folded_wrongly(subject: Subject) -> Iterator[Fault]:
    """Batch normalisation folded with another epsilon, or without its scale."""

    def fault(tensor: Tensor, bias: str, conv: str, norm: str, epsilon: float, *, scaled: bool) -> Fault:
        def apply(model: onnx.ModelProto, _rng: np.random.Generator) -> Place:
            state = {k: v.astype(np.float64) for k, v in subject.state.items()}
            gamma = state[f"{norm}.weight"] if scaled else np.ones(len(state[f"{norm}.weight"]))
            factor = gamma / np.sqrt(state[f"{norm}.running_var"] + epsilon)
            weight = state[f"{conv}.weight"] * factor[:, None, None, None]
            before = state.get(f"{conv}.bias", np.zeros(len(factor)))
            shift = (before - state[f"{norm}.running_mean"]) * factor + state[f"{norm}.bias"]
            set_initializer(model, tensor.name, weight.astype(np.float32))
            set_initializer(model, bias, shift.astype(np.float32))
            return _place(model, tensor.name, bias)

        said = f"epsilon {epsilon:g}" + ("" if scaled else " and no scale")
        return Fault(f"{tensor.name}@{said}", apply, f"{norm} folded into {tensor.name} with {said}")

    for tensor in tensors(subject, "conv"):
        reader = node(subject.model, tensor.reader)
        found = _folded(subject, tensor) if len(reader.input) > 2 else None
        if found:
            yield fault(tensor, reader.input[2], *found, 1e-3, scaled=True)
            yield fault(tensor, reader.input[2], *found, 1e-5, scaled=False)
            yield fault(tensor, reader.input[2], *found, 1.2e-5, scaled=True)


@kind("gate-order", "weights")
def _gate_order(subject: Subject) -> Iterator[Fault]:
    """ONNX's iofc and zrh against torch's ifgo and rzn: two gates in each other's place."""

    def change(count: int) -> _Change:
        def exchange(value: Array, _rng: np.random.Generator, tensor: Tensor) -> Array:
            parts = np.split(value, 2 * count if tensor.role == "rnn-b" else count, 1)
            parts[0], parts[1] = parts[1], parts[0]
            return np.concatenate(parts, 1)

        return exchange

    for tensor in tensors(subject, "rnn-w", "rnn-r", "rnn-b"):
        gates = {"LSTM": 4, "GRU": 3}[node(subject.model, tensor.reader).op_type]
        yield _changed(tensor, change(gates), "two gates exchanged")


@kind("qkv-order", "weights")
def _qkv_order(subject: Subject) -> Iterator[Fault]:
    def change(value: Array, _rng: np.random.Generator, tensor: Tensor) -> Array:
        q, k, v = np.split(value, 3, tensor.axis)
        return np.concatenate([k, q, v], tensor.axis)

    for tensor in tensors(subject, "matmul", "bias"):
        split = any(n.op_type == "Split" for n in subject.model.graph.node)
        if split and tensor.value.shape[tensor.axis] in (96, 72):
            yield _changed(tensor, change, "query and key exchanged")


@kind("tied-untied", "weights")
def _untied(subject: Subject) -> Iterator[Fault]:
    """A table that two nodes share, or that is stored twice: one of them gets another value."""

    def fault(tensor: Tensor, reader: str, index: int) -> Fault:
        def apply(model: onnx.ModelProto, rng: np.random.Generator) -> Place:
            value = tensor.value.copy()
            value[_pick(value, rng)] *= value.dtype.type(1.25)
            own = add_initializer(model, f"{tensor.name}_copy", value)
            node(model, reader).input[index] = own
            return _place(model, own) | Place(initializers=frozenset([tensor.name]))

        return Fault(f"{tensor.name}@{reader}", apply, f"{reader} reads a copy of {tensor.name} with one other element")

    for tensor in tensors(subject):
        users = [n for n in subject.model.graph.node if tensor.name in n.input]
        for user in users[1:]:
            yield fault(tensor, user.output[0], list(user.input).index(tensor.name))
    stored = tensors(subject, "table", "matmul")
    for a in stored:
        for b in stored:
            if a != b and a.value.shape == b.value.T.shape and np.array_equal(a.value, b.value.T):
                yield _changed(a, _element_exponent, "one of two copies changed in one element")
