"""A runtime with one broken kernel: onnxruntime, except that one node's result is made here, wrongly.

    onnxeq check model.onnx --runner '.../faulty_runner.py:Faulty?value=relu_3&fault=tail'

The model is run up to the node, the node's result is damaged with numpy, and a second session goes on from there; so
whoever asks for inner values sees what such a runtime would have. ``value`` is the node's first output (``*`` with
``float16`` or ``bfloat16``: every product of matrices and every convolution). ``when`` is ``always`` or ``optimized``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

__all__ = ["FAULTS", "Faulty"]

_Array = NDArray[Any]


def _gain(y: _Array, _x: _Array) -> _Array:
    return y * y.dtype.type(1 + 2e-3)


def _tail(y: _Array, _x: _Array) -> _Array:
    """The last elements of a row are left over by a vectorised loop, and forgotten."""
    y[..., -1] = y[..., -2] if y.shape[-1] > 1 else y[..., -1] * y.dtype.type(1.01)
    return y


def _saturated(y: _Array, _x: _Array) -> _Array:
    limit = np.quantile(np.abs(y), 0.97)
    return np.clip(y, -limit, limit).astype(y.dtype)


def _flushed(y: _Array, _x: _Array) -> _Array:
    return np.where(np.abs(y) < 0.02 * np.abs(y).max(initial=0), 0, y).astype(y.dtype)


def _first_sample(y: _Array, _x: _Array) -> _Array:
    """A batch is computed as if all samples were the first."""
    if len(y) > 1:
        y[1:] = y[:1]
    return y


def _rolled(y: _Array, _x: _Array) -> _Array:
    return np.roll(y, 1, axis=-1)


def _jitter(y: _Array, _x: _Array) -> _Array:
    """Another result each time, as of a race between threads."""
    noise = np.random.default_rng().standard_normal(y.shape)
    return (y * (1 + 1e-3 * noise)).astype(y.dtype)


def _bfloat16(y: _Array, _x: _Array) -> _Array:
    return y.astype(ml_dtypes.bfloat16).astype(y.dtype)


def _polynomial(y: _Array, _x: _Array) -> _Array:
    """A function approximated too coarsely: an error that depends smoothly on the value."""
    scale = np.abs(y).max(initial=1e-30)
    return (y + 2e-3 * scale * np.sin(3 * y / scale)).astype(y.dtype)


def _nan(y: _Array, _x: _Array) -> _Array:
    y.reshape(-1)[int(np.argmax(y))] = np.nan
    return y


FAULTS: dict[str, Callable[[_Array, _Array], _Array]] = {
    "gain": _gain, "tail": _tail, "saturated": _saturated, "flushed": _flushed, "first-sample": _first_sample,
    "rolled": _rolled, "jitter": _jitter, "rounded": _bfloat16, "polynomial": _polynomial, "not-a-number": _nan,
}  # fmt: skip
"""Name -> what it makes of a right result; the second argument is the node's first input."""

_WHOLE = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}
_PRODUCTS = ("Conv", "MatMul", "Gemm", "ConvTranspose")


def _open(model: onnx.ModelProto, options: Any) -> onnxruntime.InferenceSession:
    settings = onnxruntime.SessionOptions()
    level = onnxruntime.GraphOptimizationLevel
    settings.graph_optimization_level = level.ORT_ENABLE_ALL if options.optimize else level.ORT_DISABLE_ALL
    settings.intra_op_num_threads = options.threads
    settings.log_severity_level = 4
    return onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])


def _reduced(model: onnx.ModelProto, kind: int) -> None:
    """Every product rounds its operands."""
    for product in [n for n in model.graph.node if n.op_type in _PRODUCTS]:
        at = next(k for k, n in enumerate(model.graph.node) if n == product)
        for index in (0, 1):
            low, back = (f"{product.output[0]}.{index}.{k}" for k in ("low", "back"))
            made = [
                helper.make_node("Cast", [product.input[index]], [low], to=kind),
                helper.make_node("Cast", [low], [back], to=TensorProto.FLOAT),
            ]
            for step in reversed(made):
                model.graph.node.insert(at, step)
            product = next(n for n in model.graph.node if n.output and n.output[0] == product.output[0])
            product.input[index] = back
            at += 2


class _Whole:
    """A model whose products all round."""

    def __init__(self, model: onnx.ModelProto, options: Any) -> None:
        self._session = _open(model, options)
        self._inputs = {i.name for i in self._session.get_inputs()}

    def run(self, feed: Mapping[str, _Array]) -> dict[str, Any]:
        names = [o.name for o in self._session.get_outputs()]
        found = self._session.run(None, {k: v for k, v in feed.items() if k in self._inputs})
        return dict(zip(names, found, strict=True))


class _Cut:
    """A model in two sessions, the broken node between them."""

    def __init__(self, model: onnx.ModelProto, value: str, fault: str, options: Any) -> None:
        self._value, self._fault = value, FAULTS[fault]
        self._names = [o.name for o in model.graph.output]
        first = onnx.ModelProto.FromString(model.SerializeToString())
        del first.graph.output[:]
        first.graph.output.append(helper.make_empty_tensor_value_info(value))
        self._first = _open(first, options)
        (kind,) = self._first.get_outputs()
        second = onnx.ModelProto.FromString(model.SerializeToString())
        node = next(n for n in second.graph.node if value in n.output)
        node.output[list(node.output).index(value)] = f"{value}.right"
        dtype = {"tensor(float)": TensorProto.FLOAT, "tensor(float16)": TensorProto.FLOAT16}[kind.type]
        second.graph.input.append(helper.make_tensor_value_info(value, dtype, None))
        kept = [o for o in second.graph.output if o.name != value]
        del second.graph.output[:]
        second.graph.output.extend(kept)
        self._second = _open(second, options) if kept else None

    def run(self, feed: Mapping[str, _Array]) -> dict[str, Any]:
        wanted = {i.name for i in self._first.get_inputs()}
        (right,) = self._first.run([self._value], {k: v for k, v in feed.items() if k in wanted})
        wrong = self._fault(np.array(right), np.array(right))
        found: dict[str, Any] = {self._value: wrong}
        if self._second is not None:
            wanted = {i.name for i in self._second.get_inputs()}
            given = {k: v for k, v in {**feed, self._value: wrong}.items() if k in wanted}
            names = [o.name for o in self._second.get_outputs()]
            found |= dict(zip(names, self._second.run(names, given), strict=True))
        return {name: found[name] for name in self._names}


class Faulty:
    """The runner; see :class:`onnxeq.protocols.Runner`."""

    def open(self, model: Path, options: Any) -> _Whole | _Cut:
        """Loads an ONNX file, with the fault that the settings ask for."""
        settings = dict(options.settings)
        proto = onnx.load(model)
        fault, value = settings["fault"], settings["value"]
        if settings.get("when") == "optimized" and not options.optimize:
            return _Whole(proto, options)
        if fault in _WHOLE:
            _reduced(proto, _WHOLE[fault])
            return _Whole(proto, options)
        return _Cut(proto, value, fault, options)

    def versions(self) -> Mapping[str, str]:
        """What it is made of."""
        return {"onnxruntime": onnxruntime.__version__}
