"""The digests of a graph's values, for goldens: a job of the referee."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onnxeq.arrays import load_feeds, save_feeds
from onnxeq.errors import UnsupportedOperator
from onnxeq.golden.layers import Layers, digest_of, to_arrays
from onnxeq.graph.inspect import load
from onnxeq.inputs import adapt
from onnxeq.noise import AMPLITUDE, RoundingNoise
from onnxeq.referee import Executor
from onnxeq.worker import Job

__all__ = ["run"]


def run(job: Job) -> dict[str, Any]:
    """Writes ``out/layers``: the digests of every value that ``job.inputs['model']`` makes of the first feed.

    Parameters: ``names``, ``seed``, ``draws``: how often rounding noise is drawn for the units; 0 for no units.

    Raises:
        onnxeq.errors.OnnxeqError: The referee lacks an operator, or the graph fails.
    """
    job.step("load")
    path: Path = job.inputs["model"]
    executor = Executor(load(path), base_dir=path.parent)
    if executor.missing:
        raise UnsupportedOperator(f"no validated float64 semantics for {', '.join(executor.missing[:3])}")
    names: Mapping[str, str] = job.params["names"]
    feed = {names.get(k, k): v for k, v in load_feeds(job.inputs["feeds"])[0].items()}
    feed = adapt(feed, {s.name: s.dtype for s in executor.inputs})
    job.step("digests")
    exact = _Digests(None)
    executor.run(feed, hook=exact)
    squares = dict.fromkeys(exact.rows, 0.0)
    draws = int(job.params["draws"])
    for draw in range(draws):
        job.step(f"noise {draw + 1} of {draws}")
        noisy = _Digests(RoundingNoise(int(job.params["seed"]) * 1000 + draw))
        executor.run(feed, hook=noisy)
        for name, row in exact.rows.items():
            if name in noisy.rows:
                moved = (noisy.rows[name] - row)[:-1] / AMPLITUDE
                squares[name] += float(np.mean(np.square(moved))) / draws
    found = Layers(
        list(exact.rows),
        [exact.ops[name] for name in exact.rows],
        np.array(list(exact.rows.values())).reshape(len(exact.rows), -1),
        np.sqrt(np.array([squares[name] for name in exact.rows])),
    )
    save_feeds(job.out / "layers", [to_arrays(found)])
    return {"count": len(exact.rows)}


class _Digests:
    """A hook of the referee that sums up every value of the main graph, behind another hook where there is one."""

    def __init__(self, inner: Any) -> None:
        self.rows: dict[str, Any] = {}
        self.ops: dict[str, str] = {}
        self._inner = inner

    def constant(self, name: str, value: Any, dtype: str) -> Any:
        return value if self._inner is None else self._inner.constant(name, value, dtype)

    def node(self, info: Any, inputs: Sequence[Any], outputs: list[Any]) -> list[Any]:
        given: list[Any] = outputs if self._inner is None else self._inner.node(info, inputs, outputs)
        if not info.path:
            for name, value in zip(info.node.output, given, strict=False):
                if name and isinstance(value, np.ndarray) and value.dtype.kind in "fiub" and value.size:
                    self.rows[name] = digest_of(value)
                    self.ops[name] = info.node.op_type
        return given
