"""Which values of the graph that a runtime runs are values of the model that it was given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx

from onnxeq.layers.optimized.blocks import NCHWC
from onnxeq.layers.optimized.standard import Blocked, block_size, blocked_values, former_names, meaning, unblock
from onnxeq.layers.pairing.pairs import pair_graphs
from onnxeq.types import Array

__all__ = ["Observed", "observed", "observed_in_optimized"]

SURE = 0.9
"""Confidence in a pair from which on a runtime's value stands for one of the model's."""


@dataclass(frozen=True)
class Observed:
    """A value of the graph that runs.

    Attributes:
        name: Its name there.
        value: Its name in the model.
        channels: How many channels it has, where they lie in blocks and not one after another.
        block: How many lie together then.
    """

    name: str
    value: str
    channels: int = 0
    block: int = 0

    def plain(self, array: Array) -> Array:
        """The value as the model has it."""
        return unblock(array, self.channels, self.block) if self.channels else array


def observed(model: onnx.ModelProto) -> Iterator[Observed]:
    """All values of a model that is run as it is; constants and optional values are left out."""
    for node in model.graph.node:
        if _shows(node):
            yield from (Observed(name, name) for name in node.output if name)


def observed_in_optimized(
    model: onnx.ModelProto, ran: onnx.ModelProto, model_dir: Path, folder: Path
) -> Iterator[Observed]:
    """The values that an optimised graph still has, in its order.

    Args:
        model: What the runtime was given.
        ran: What it has made of it.
        model_dir: The folder of the model's external data.
        folder: The same of what runs.
    """
    block = block_size() if any(node.domain == NCHWC for node in ran.graph.node) else 0
    blocked: Mapping[str, Blocked] = blocked_values(ran, block, base_dir=folder) if block else {}
    inputs = {i.name: i.name for i in model.graph.input}
    outputs = {o.name: o.name for o in model.graph.output}
    meant = meaning(ran, block, base_dir=folder, blocked=blocked)
    pairs = pair_graphs(model, meant, inputs, outputs, source_dir=model_dir, target_dir=folder, names=former_names(ran))
    made = {name for node in model.graph.node if _shows(node) for name in node.output if name}
    seen: set[str] = set()
    for node in ran.graph.node:
        for name in node.output if _shows(node) else ():
            pair = pairs.get(name)
            lies = blocked.get(name)
            if lies is not None and not lies.channels:
                continue  # nothing says how many channels it holds, so it cannot be put in order
            if pair is not None and pair.confidence >= SURE and pair.source in made and pair.source not in seen:
                seen.add(pair.source)
                yield Observed(name, pair.source, 0 if lies is None else lies.channels, block)


def _shows(node: onnx.NodeProto) -> bool:
    return node.op_type != "Constant" and "Optional" not in node.op_type
