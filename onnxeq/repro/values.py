"""What is known of a fault, one way to show it, and the way that was found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnx

from onnxeq import fingerprint
from onnxeq.compat import StrEnum
from onnxeq.measure import Measure, compare
from onnxeq.noise import UNIT_ROUNDOFF
from onnxeq.protocols import SessionOptions
from onnxeq.types import Array, Feed, Layer

__all__ = ["AtFault", "Case", "Execute", "Fault", "Repro"]

Execute: TypeAlias = Callable[[onnx.ModelProto, Feed], Array]
"""Runs a model of one output and gives that output.

Raises:
    onnxeq.errors.CannotRun: It is refused.
"""


class AtFault(StrEnum):
    """Whose layer creates the error."""

    TARGET = "target"
    """The runtime's: on these inputs it does not give what the ONNX nodes give in float64."""
    SOURCE = "source"
    """The source's side: the ONNX nodes, computed well, do not give what the source gave. The graph or its weights
    were changed, or the source's own operator is wrong."""


@dataclass(frozen=True)
class Fault:
    """A layer that creates error, with what both sides gave there.

    Attributes:
        model: The judged graph, whose names are used here.
        base_dir: The folder of its external data; ``None`` when it has none.
        layer: What was found of the layer; ``layer.value`` is the result that is wrong.
        inputs: The values that go into the layer (or its region), as the source had them.
        source: The result that the source gives on them.
        target: The result that the target gives on its own inputs.
        unit: One noise unit of the result: for each element, or one number; ``None`` to have it computed.
        limit: How many units rounding explains.
        side: Who is at fault.
        right: What the target should give on ``inputs``; ``None`` to have it computed in float64.
        options: How the runtime is to run the model.
        reference: What the source is, ``torchvision:resnet50``.
        note: What else is known of the cause: sentences.
        versions: Package -> version.
        machine: What :func:`onnxeq.fingerprint.machine` says.
    """

    model: onnx.ModelProto
    base_dir: Path | None
    layer: Layer
    inputs: Feed
    source: Array
    target: Array
    unit: Array | float | None
    limit: float
    side: AtFault
    right: Array | None = None
    options: SessionOptions = field(default_factory=SessionOptions)
    reference: str = ""
    note: str = ""
    versions: Mapping[str, str] = field(default_factory=fingerprint.versions)
    machine: Mapping[str, str] = field(default_factory=fingerprint.machine)


@dataclass(frozen=True)
class Case:
    """One thing to try: a graph of one output, its inputs, and what should come out.

    Attributes:
        model: The graph; its external data is in memory.
        inputs: Every input that it has and nothing else, in its order and its types.
        right: What should come out; floats in float64.
        unit: One noise unit for each element of it.
        limit: How many units rounding explains.
        dtype: The element type that the graph's output has.
    """

    model: onnx.ModelProto
    inputs: Feed
    right: Array
    unit: Array
    limit: float
    dtype: str

    @property
    def output(self) -> str:
        """The output's name."""
        return str(self.model.graph.output[0].name)

    def measure(self, given: Array) -> Measure:
        """How far ``given`` is from what should come out; see :func:`onnxeq.measure.compare`."""
        name = self.output
        return compare([{name: self.right}], [{name: given}], [{name: self.unit}], step=self._step)

    def whole_unit(self) -> Array:
        """The unit with the rounding of the finished result in it, as :func:`onnxeq.measure.compare` adds it."""
        if self.right.dtype.kind != "f":
            return self.unit
        finite = np.where(np.isfinite(self.right), np.abs(self.right), 0.0)
        own = finite * self._step / 4 + (_SMALLEST if self._step >= UNIT_ROUNDOFF["float32"] else 0.0)
        return np.asarray(np.hypot(self.unit, own))

    @property
    def _step(self) -> float:
        return UNIT_ROUNDOFF.get(self.dtype, UNIT_ROUNDOFF["float32"])


_SMALLEST = 2.0**-126
"""Float32's smallest normal number, see :mod:`onnxeq.measure`."""


@dataclass(frozen=True)
class Repro:
    """The smallest case that was found to show a fault.

    Attributes:
        case: The case.
        seen: What the runtime gives for it; ``None`` when it refuses the graph.
        measure: How far that is from what should come out.
        shows: Whether that is more than rounding explains.
        steps: What was left out on the way, a sentence each.
        refused: What the runtime said when it refused the graph.
    """

    case: Case
    seen: Array | None
    measure: Measure
    shows: bool
    steps: tuple[str, ...] = ()
    refused: str = ""
