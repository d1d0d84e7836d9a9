"""OpenVINO as a runner: a second runtime that reads ONNX, put on the ladder by ``--runner openvino``.

``pip install 'onnxeq[openvino]'`` brings it. Settings after its name are OpenVINO's own properties and ``device``::

    onnxeq check model.onnx --runner openvino
    onnxeq check model.onnx --runner 'openvino?device=CPU&INFERENCE_PRECISION_HINT=f32'

Its graph transformations cannot be switched off, so that kernels and optimisations are judged together. On processors
with units for bfloat16 or float16 its default is to compute in them: the experiment of :data:`EXPERIMENTS` tells.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from onnxeq.errors import CannotRun, FrameworkMissing
from onnxeq.protocols import SessionOptions
from onnxeq.types import Feed

__all__ = ["EXPERIMENTS", "NO_PLAIN", "open", "versions"]

NO_PLAIN = "OpenVINO has no mode without graph optimisations: its kernels and its optimisations are judged together"

EXPERIMENTS: Mapping[str, Mapping[str, Any]] = {
    "in float32 (INFERENCE_PRECISION_HINT=f32)": {"INFERENCE_PRECISION_HINT": "f32"},
    "with one thread (INFERENCE_NUM_THREADS=1)": {"INFERENCE_NUM_THREADS": 1},
}
"""What a fault may go away with, see :class:`onnxeq.protocols.Runner`."""


def versions() -> Mapping[str, str]:
    """OpenVINO's version."""
    return {"openvino": metadata.version("openvino")}


class _Session:
    """A compiled model and the ONNX names of its outputs, in the graph's order."""

    def __init__(self, compiled: Any, inputs: frozenset[str], outputs: tuple[str, ...]) -> None:
        self._compiled = compiled
        self._inputs = inputs
        self._outputs = outputs

    def run(self, feed: Feed) -> Mapping[str, Any]:
        given = {name: value for name, value in feed.items() if name in self._inputs}
        try:
            values = self._compiled(given)
        except Exception as error:  # its exceptions share no base class of its own
            raise CannotRun(f"OpenVINO fails on this model: {_one_line(error)}") from error
        return {name: values[name].copy() for name in self._outputs}


def open(model: Path, options: SessionOptions) -> _Session:  # noqa: A001 - the protocol's name
    """Reads and compiles a model file; see :class:`onnxeq.protocols.Runner`."""
    try:
        import openvino
    except ImportError as error:
        raise FrameworkMissing("openvino is not installed here", hint="pip install 'onnxeq[openvino]'") from error
    import onnx

    graph = onnx.load(model, load_external_data=False).graph
    settings = dict(options.settings)
    device = str(settings.pop("device", "CPU"))
    if options.threads:
        settings["INFERENCE_NUM_THREADS"] = options.threads
    core = openvino.Core()
    try:
        read = core.read_model(model)
        compiled = core.compile_model(read, device, settings)
    except Exception as error:  # its exceptions share no base class of its own
        raise CannotRun(f"OpenVINO refuses {model.name}: {_one_line(error)}") from error
    taken = {name for port in compiled.inputs for name in port.names}
    return _Session(compiled, frozenset(taken), tuple(o.name for o in graph.output))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
