"""A canonical graph computed by what its layers say and by their stored tensors: whether the reading is true.

Written from the definitions of the layers alone; nothing of the file is used but the numbers that it stores.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from onnxeq.compare.values import Graph, Layer

from .stored import File

Values = list[np.ndarray]


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-x)))


def _squeezed(shape: tuple[int, ...]) -> list[int]:
    return [a for a, n in enumerate(shape) if n != 1]


def _linear(layer: Layer, file: File, values: Values) -> np.ndarray:
    held, out = file.of_layer(layer), layer.shape[-1]
    made = values[0].reshape(-1, int(str(layer.attributes["in"]))) @ held["weight"].reshape(out, -1).T
    return np.asarray(made + held["bias"] if "bias" in held else made)


def _attention(layer: Layer, file: File, values: Values) -> np.ndarray:
    heads, size = (int(str(layer.attributes[n])) for n in ("heads", "head size"))
    q = values[0].reshape(-1, layer.shape[-2], heads, size)
    k, v = (x.reshape(len(q), -1, heads, w) for x, w in ((values[1], size), (values[2], layer.shape[-1] // heads)))
    scores = np.einsum("nthd,nshd->nhts", q, k) * float(str(layer.attributes["scale"]))
    held = file.of_layer(layer)
    if "position bias" in held:
        scores = scores + held["position bias"].reshape(1, *scores.shape[1:])
    if layer.attributes["mask"] == "causal":
        scores = np.where(np.tri(*scores.shape[2:]) == 1, scores, -np.inf)
    elif layer.attributes["mask"] == "added, along keys":
        scores = scores + values[3].reshape(1, 1, 1, -1)
    seen = np.exp(scores - scores.max(-1, keepdims=True))
    return np.asarray(np.einsum("nhts,nshd->nthd", seen / seen.sum(-1, keepdims=True), v))


def _layer_norm(layer: Layer, file: File, values: Values) -> np.ndarray:
    x, axes = values[0].reshape(layer.shape), layer.attributes["axes"]
    assert isinstance(axes, tuple)
    away = x - x.mean(axes, keepdims=True)
    y = away / np.sqrt((away**2).mean(axes, keepdims=True) + float(str(layer.attributes["epsilon"])))
    along = [n if a in axes else 1 for a, n in enumerate(layer.shape)]
    for role, numbers in file.of_layer(layer).items():
        y = y * numbers.reshape(along) if role == "scale" else y + numbers.reshape(along)
    return np.asarray(y)


def _recurrent(layer: Layer, file: File, values: Values) -> np.ndarray:
    hidden, told = int(str(layer.attributes["hidden size"])), layer.attributes
    inner, ways = int(str(told["in"])), 2 if told["direction"] == "bidirectional" else 1
    gates = {"gru": 3, "lstm": 4, "rnn": 1}[layer.kind] * hidden
    held = file.of_layer(layer)
    kernels = held["weight"].reshape(ways, gates, inner), held["recurrent weight"].reshape(ways, gates, hidden)
    biases = held.get("bias", np.zeros(ways * 2 * gates))
    both = np.zeros((ways, 2 * gates))
    both[:, : biases.size // ways] = biases.reshape(ways, -1)  # Keras' bias of one row is the input's
    x = values[0].reshape(-1, inner)
    found = []
    for way in range(ways):
        back = told["direction"] == "reverse" or way == 1
        steps, state, cell = [], np.zeros(hidden), np.zeros(hidden)
        for row in x[::-1] if back else x:
            one, two = kernels[0][way] @ row + both[way, :gates], kernels[1][way] @ state
            if layer.kind == "gru":
                z, r = (
                    _sigmoid(p + q + b)
                    for p, q, b in zip(
                        np.split(one, 3)[:2], np.split(two, 3)[:2], np.split(both[way, gates:], 3)[:2], strict=True
                    )
                )
                after = both[way, gates + 2 * hidden :]
                again = kernels[1][way][2 * hidden :]
                inside = r * (again @ state + after) if told["linear before reset"] else again @ (r * state) + after
                state = (1 - z) * np.tanh(one[2 * hidden :] + inside) + z * state
            elif layer.kind == "lstm":
                i, o, f, c = np.split(one + two + both[way, gates:], 4)
                cell = _sigmoid(f) * cell + _sigmoid(i) * np.tanh(c)
                state = _sigmoid(o) * np.tanh(cell)
            else:
                state = np.tanh(one + two + both[way, gates:])
            steps.append(state)
        found.append(np.stack(steps[::-1] if back else steps))
    if told["given"] == "last state":
        return np.asarray(found[0][0 if told["direction"] == "reverse" else -1])
    return np.asarray(np.stack(found, axis=1))


def _transpose(layer: Layer, _: File, values: Values) -> np.ndarray:
    order = layer.attributes["axes"]
    assert isinstance(order, tuple)
    longer = _squeezed(values[0].shape)
    return np.asarray(values[0].squeeze().transpose([longer.index(a) for a in order]))


def _slice(layer: Layer, _: File, values: Values) -> np.ndarray:
    axis, begin, end = (int(str(layer.attributes[n])) for n in ("axis", "begin", "end"))
    return np.asarray(values[0][(slice(None),) * axis + (slice(begin, end, layer.attributes.get("step", 1)),)])


def _shift(layer: Layer, file: File, values: Values) -> np.ndarray:
    if "by" in layer.attributes:
        return np.asarray(values[0] + float(str(layer.attributes["by"])))
    along = layer.attributes["along"]
    assert isinstance(along, tuple)
    held = file.of_layer(layer)["constant"]
    return np.asarray(values[0] + held.reshape([n if a in along else 1 for a, n in enumerate(layer.shape)]))


def _gelu(layer: Layer, _: File, values: Values) -> np.ndarray:
    x = values[0]
    if layer.attributes["approximate"] == "tanh":
        return np.asarray(0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))))
    return np.asarray(0.5 * x * (1 + np.vectorize(math.erf)(x / np.sqrt(2))))


def _mean(layer: Layer, _: File, values: Values) -> np.ndarray:
    axes = layer.attributes["axes"]
    return np.asarray(values[0].mean(axes))


_COMPUTED: dict[str, Callable[[Layer, File, Values], np.ndarray]] = {
    **dict.fromkeys(("gru", "lstm", "rnn"), _recurrent),
    **dict.fromkeys(("reshape", "flatten"), lambda _l, _f, values: values[0]),
    "add": lambda layer, _f, values: sum(v.reshape(layer.shape) for v in values),  # type: ignore[misc, return-value]
    "attention": _attention,
    "gelu": _gelu,
    "layer_norm": _layer_norm,
    "linear": _linear,
    "reduce_mean": _mean,
    "relu": lambda _l, _f, values: np.maximum(values[0], 0),
    "scale": lambda layer, _f, values: values[0] * float(str(layer.attributes["by"])),
    "shift": _shift,
    "slice": _slice,
    "tanh": lambda _l, _f, values: np.tanh(values[0]),
    "transpose": _transpose,
}


def computed(graph: Graph, file: File, x: np.ndarray) -> np.ndarray:
    """The first output of a graph with one input, in the layer's shape."""
    values: Values = []
    for layer in graph.layers:
        read = [values[i] for i in layer.inputs]
        made = x if layer.kind == "input" else _COMPUTED[layer.kind](layer, file, read)
        values.append(np.asarray(made, np.float64).reshape(layer.shape))
    return values[graph.outputs[0]]
