"""Which node's rounding makes an output inaccurate: a job for when the lowering rung breaks.

The rounding noise of the whole graph is split in halves, again and again: perturb the results of these nodes only, see
how far the output moves, go on with the half that moves it more. Two runs for each halving, on one feed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from onnxeq.arrays import load_feeds
from onnxeq.graph.inspect import load
from onnxeq.inputs import adapt
from onnxeq.layers.program import native_name
from onnxeq.noise import AMPLITUDE, RoundingNoise
from onnxeq.referee import Executor
from onnxeq.referee.plan import node_label
from onnxeq.rounding import is_rounded
from onnxeq.worker import Job

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

    from onnxeq.referee import NodeInfo, Value

__all__ = ["native_name", "run"]

Real: TypeAlias = "NDArray[np.float64]"


def run(job: Job) -> dict[str, Any]:
    """Finds the node of ``job.inputs['model']`` that contributes most to the noise of ``job.params['output']``.

    Returns:
        ``node``, ``op_type``, ``value``, ``native``, ``readers`` (operators that read the value), and ``share``: the
        part of the output's variance under rounding that this node's rounding alone makes.
    """
    params = job.params
    job.step("load")
    model = load(job.inputs["model"])
    executor = Executor(model, base_dir=job.inputs["model"].parent)
    dtypes = {s.name: s.dtype for s in executor.inputs}
    feed = {params["names"].get(k, k): v for k, v in load_feeds(job.inputs["feeds"])[0].items()}
    feed = adapt(feed, dtypes)
    output = str(params["output"])
    listed = _Listed()
    exact = np.asarray(executor.run(feed, outputs=[output], hook=listed)[output], dtype=np.float64)

    def variance(chosen: Sequence[str]) -> float:
        hook = _Only(int(params["seed"]), frozenset(chosen))
        moved = np.asarray(executor.run(feed, outputs=[output], hook=hook)[output], dtype=np.float64)
        delta = (moved - exact) / AMPLITUDE
        return float(np.mean(np.square(delta[np.isfinite(delta)]))) if moved.shape == exact.shape else np.inf

    chosen = list(dict.fromkeys(listed.labels))
    whole = variance(chosen)
    found = whole
    while len(chosen) > 1:
        job.step(f"halve {len(chosen)} nodes")
        halves = (chosen[: len(chosen) // 2], chosen[len(chosen) // 2 :])
        found, chosen = max(((variance(half), half) for half in halves), key=lambda pair: pair[0])
    if not chosen or not whole > 0:
        return {"share": 0.0, "node": "", "op_type": "", "value": "", "native": "", "readers": []}
    return {"share": min(1.0, found / whole), **_described(model, chosen[0])}


def _described(model: onnx.ModelProto, label: str) -> dict[str, Any]:
    node = next(n for n in model.graph.node if node_label(n) == label)
    value = next(name for name in node.output if name)
    return {
        "node": label,
        "op_type": node.op_type,
        "value": value,
        "native": native_name(node),
        "readers": sorted({n.op_type for n in model.graph.node if value in n.input}),
    }


class _Listed:
    """Notes the label of each node of the main graph that rounds, in the order of execution."""

    def __init__(self) -> None:
        self.labels: list[str] = []

    def constant(self, _name: str, value: Real, _dtype: str) -> Real:
        return value

    def node(self, info: NodeInfo, _inputs: Sequence[Value], outputs: list[Value]) -> list[Value]:
        if not info.path and (info.composite or is_rounded(info)):
            self.labels.append(node_label(info.node))
        return outputs


class _Only(RoundingNoise):
    """Rounding noise for some nodes of the main graph and for what runs inside them."""

    def __init__(self, seed: int, chosen: frozenset[str]) -> None:
        super().__init__(seed)
        self._chosen = chosen

    def node(self, info: NodeInfo, inputs: Sequence[Value], outputs: list[Value]) -> list[Value]:
        label = info.path[0] if info.path else node_label(info.node)
        return super().node(info, inputs, outputs) if label in self._chosen else outputs
