"""RNN, GRU and LSTM with every option of the specification.

Rules that onnx.reference lacks: ``sequence_lens``, ``clip``, ``input_forget`` and ``activations``. A
sample's outputs past its length are 0, its final states are those of its last real step, and the reverse
direction starts at its own end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from onnxeq.referee.ops.tensors import unsupported
from onnxeq.referee.registry import Call, op

__all__: list[str] = []

Activation = Callable[[Any], Any]


def _sigmoid(x: Any) -> Any:
    return 0.5 * (1.0 + np.tanh(0.5 * x))


_PLAIN: dict[str, Activation] = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
    "softsign": lambda x: x / (1 + np.abs(x)),
    "softplus": lambda x: np.logaddexp(x, 0),
}

_WITH_ALPHA: dict[str, tuple[Callable[[Any, float], Any], float]] = {
    "leakyrelu": (lambda x, a: np.where(x >= 0, x, a * x), float(np.float32(0.01))),
    "thresholdedrelu": (lambda x, a: np.where(x >= a, x, 0), 1.0),
    "elu": (lambda x, a: np.where(x >= 0, x, a * np.expm1(np.minimum(x, 0))), 1.0),
}
"""Functions of alpha, with the default of the operator of the same name (stored in float32)."""

_WITH_BOTH: dict[str, tuple[Callable[[Any, float, float], Any], float, float]] = {
    "affine": (lambda x, a, b: a * x + b, 1.0, 0.0),
    "scaledtanh": (lambda x, a, b: a * np.tanh(b * x), 1.0, 1.0),
    "hardsigmoid": (lambda x, a, b: np.clip(a * x + b, 0, 1), float(np.float32(0.2)), 0.5),
}
"""Functions of alpha and beta, with the defaults of the operators of the same names."""


def _activations(call: Call, defaults: tuple[str, ...], directions: int) -> list[Activation]:
    """The functions in order; alpha and beta go to those that take one, in order."""
    alphas, betas = list(call.get("activation_alpha") or ()), list(call.get("activation_beta") or ())
    found: list[Activation] = []
    for name in call.get("activations") or list(defaults) * directions:
        key = name.lower()
        if key in _PLAIN:
            found.append(_PLAIN[key])
        elif key in _WITH_ALPHA:
            one, alpha = _WITH_ALPHA[key]
            found.append(partial(_swapped, one, (alphas.pop(0) if alphas else alpha,)))
        elif key in _WITH_BOTH:
            both, alpha, beta = _WITH_BOTH[key]
            extra = (alphas.pop(0) if alphas else alpha, betas.pop(0) if betas else beta)
            found.append(partial(_swapped, both, extra))
        else:
            raise unsupported(call, f"activation {name!r}")
    return found


def _swapped(function: Callable[..., Any], extra: tuple[float, ...], x: Any) -> Any:
    return function(x, *extra)


@dataclass(frozen=True)
class _Cell:
    """The parameters of one direction; gates are stacked along the first axis, biases summed or apart."""

    W: Any
    R: Any
    Wb: Any
    Rb: Any
    P: Any
    f: list[Activation]
    clip: Activation
    hidden: int


Step = Callable[["_Cell", Any, Any, Any], tuple[Any, Any]]
"""(cell, input part ``x W^T + Wb`` of one step, hidden state, cell state) to the new states."""


def _run(cell: _Cell, step: Step, X: Any, lens: Any, H: Any, C: Any, reverse: bool) -> tuple[Any, Any, Any]:
    """``Y[seq,batch,hidden]`` and the final states of one direction."""
    seq, batch = X.shape[:2]
    order = np.broadcast_to(np.arange(seq)[:, None], (seq, batch))
    if reverse:  # each sample is read from its own end; what is past it stays in place
        order = np.where(order < lens, lens - 1 - order, order)
        X = np.take_along_axis(X, order[:, :, None], axis=0)
    projected = X @ cell.W.T + cell.Wb
    Y = np.zeros((seq, batch, cell.hidden), dtype=np.float64)
    for t in range(seq):
        live = (t < lens)[:, None]
        new_H, new_C = step(cell, projected[t], H, C)
        H, C = np.where(live, new_H, H), np.where(live, new_C, C)
        Y[t] = np.where(live, H, 0)
    return (np.take_along_axis(Y, order[:, :, None], axis=0) if reverse else Y), H, C


def _rnn_step(cell: _Cell, x: Any, H: Any, C: Any) -> tuple[Any, Any]:
    return cell.f[0](cell.clip(x + H @ cell.R.T + cell.Rb)), C


def _gru_step(linear_before_reset: bool) -> Step:
    def step(cell: _Cell, x: Any, H: Any, C: Any) -> tuple[Any, Any]:
        n, f, g = cell.hidden, *cell.f
        gates = f(cell.clip(x[:, : 2 * n] + H @ cell.R[: 2 * n].T + cell.Rb[: 2 * n]))
        z, r = gates[:, :n], gates[:, n:]
        Rh, bias = cell.R[2 * n :], cell.Rb[2 * n :]
        inner = r * (H @ Rh.T + bias) if linear_before_reset else (r * H) @ Rh.T + bias
        h = g(cell.clip(x[:, 2 * n :] + inner))
        return (1 - z) * h + z * H, C

    return step


def _lstm_step(input_forget: bool) -> Step:
    def step(cell: _Cell, x: Any, H: Any, C: Any) -> tuple[Any, Any]:
        n, (f, g, h) = cell.hidden, cell.f
        gates = x + H @ cell.R.T + cell.Rb
        i, o, forget, c = (gates[:, k * n : (k + 1) * n] for k in range(4))
        Pi, Po, Pf = cell.P
        i = f(cell.clip(i + Pi * C))
        forget = 1 - i if input_forget else f(cell.clip(forget + Pf * C))
        C = forget * C + i * g(cell.clip(c))
        return f(cell.clip(o + Po * C)) * h(C), C

    return step


def _recurrent(
    call: Call,
    step: Step,
    gates: int,
    defaults: tuple[str, ...],
    X: Any,
    W: Any,
    R: Any,
    B: Any,
    lens: Any,
    initial: tuple[Any, Any],
    P: Any = None,
) -> tuple[Any, Any, Any]:
    """Runs every direction and puts the outputs into the layout asked for."""
    batch_first = bool(call.get("layout", 0))
    if batch_first:
        X = np.swapaxes(X, 0, 1)
    seq, batch, _ = X.shape
    directions, hidden = W.shape[0], R.shape[2]
    lens = np.full(batch, seq) if lens is None else lens.astype(np.int64)
    start = [np.zeros((batch, directions, hidden)) if s is None and batch_first else s for s in initial]
    start = [np.zeros((directions, batch, hidden)) if s is None else s for s in start]
    if batch_first:
        start = [np.swapaxes(s, 0, 1) for s in start]
    functions = _activations(call, defaults, directions)
    limit = call.get("clip")
    bound = (lambda x: x) if not limit else (lambda x: np.clip(x, -limit, limit))
    bias = np.zeros((directions, 2 * gates * hidden)) if B is None else B
    peepholes = np.zeros((directions, 3 * hidden)) if P is None else P
    parts = []
    for d in range(directions):
        Wb, Rb = np.split(bias[d], 2)
        f = functions[d * len(defaults) : (d + 1) * len(defaults)]
        cell = _Cell(W[d], R[d], Wb, Rb, np.split(peepholes[d], 3), f, bound, hidden)
        reverse = d == 1 or call.get("direction", "forward") == "reverse"
        parts.append(_run(cell, step, X, lens, start[0][d], start[1][d], reverse))
    Y, H, C = (np.stack([p[i] for p in parts], axis=1 if i == 0 else 0) for i in range(3))
    if batch_first:
        Y, H, C = Y.transpose(2, 0, 1, 3), np.swapaxes(H, 0, 1), np.swapaxes(C, 0, 1)
    return Y, H, C


_WITNESSES = (
    "suite",
    "onnxruntime",
    "torch",
    "not onnx.reference: ignores sequence_lens, clip and activations",
)


@op("RNN", since=7, witnesses=(*_WITNESSES, "not onnxruntime: default alpha of ThresholdedRelu"))
def rnn(
    call: Call, X: Any, W: Any, R: Any, B: Any = None, sequence_lens: Any = None, initial_h: Any = None
) -> tuple[Any, Any]:
    """``Ht = f(Xt Wi^T + Ht-1 Ri^T + Wbi + Rbi)``."""
    initial = (initial_h, None)
    Y, H, _ = _recurrent(call, _rnn_step, 1, ("Tanh",), X, W, R, B, sequence_lens, initial)
    return Y, H


@op("GRU", since=7, witnesses=_WITNESSES)
def gru(
    call: Call, X: Any, W: Any, R: Any, B: Any = None, sequence_lens: Any = None, initial_h: Any = None
) -> tuple[Any, Any]:
    """Update and reset gates; ``linear_before_reset`` says where the reset gate applies."""
    step = _gru_step(bool(call.get("linear_before_reset", 0)))
    initial = (initial_h, None)
    Y, H, _ = _recurrent(call, step, 3, ("Sigmoid", "Tanh"), X, W, R, B, sequence_lens, initial)
    return Y, H


@op("LSTM", since=7, witnesses=_WITNESSES)
def lstm(
    call: Call,
    X: Any,
    W: Any,
    R: Any,
    B: Any = None,
    sequence_lens: Any = None,
    initial_h: Any = None,
    initial_c: Any = None,
    P: Any = None,
) -> tuple[Any, Any, Any]:
    """Input, output, forget and cell gates, with peepholes; ``input_forget`` couples two of them."""
    step = _lstm_step(bool(call.get("input_forget", 0)))
    initial = (initial_h, initial_c)
    names = ("Sigmoid", "Tanh", "Tanh")
    return _recurrent(call, step, 4, names, X, W, R, B, sequence_lens, initial, P)
