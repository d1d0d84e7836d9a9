"""Many models in one process of a runtime, for goldens; and the digests of a graph's values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onnxeq import errors
from onnxeq.arrays import load_feeds, save_feeds
from onnxeq.errors import OnnxeqError, UnsupportedOperator
from onnxeq.golden.condense import digest
from onnxeq.golden.feeds import regenerated
from onnxeq.golden.layers import Layers, digest_of, to_arrays
from onnxeq.golden.record_file import value_from
from onnxeq.golden.values import Inputs
from onnxeq.memory import check_trace
from onnxeq.protocols import SessionOptions
from onnxeq.types import Array, Feed
from onnxeq.worker import Job

__all__ = ["layers", "run", "warm_up"]


def warm_up() -> None:
    """Has the runtime imported while the process waits for a job."""
    from onnxeq.runners import ort

    ort.warm_up()


def run(job: Job) -> dict[str, Any]:
    """Runs every model of ``job.params['items']``, one after another.

    An item has ``key``, ``runner`` (see :meth:`onnxeq.runtimes.Runtime.params`), ``provider``, ``tf32``, ``names``
    (feed name -> ONNX input name), ``inputs`` (the golden's record of them; where that has no seed, the folder
    ``job.inputs['feeds KEY']`` holds them) and ``expected``, the digests of its outputs. ``job.inputs['model KEY']`` is
    the model. Only a trace with other digests is written, into ``out/KEY``.

    Returns:
        ``items``, for each: ``outputs`` (names for each feed), ``sha256`` (of each output of each feed), ``versions``;
        or ``error``, as a record.
    """
    rows: list[dict[str, Any]] = []
    for item in job.params["items"]:
        job.step(f"run {item['key']}")
        try:
            rows.append(_item(job, item))
        except OnnxeqError as error:
            rows.append({"error": errors.to_record(error)})
    return {"items": rows}


def _item(job: Job, item: Mapping[str, Any]) -> dict[str, Any]:
    from onnxeq.runners.runtime import fitted, load_runner, outputs_of

    key = str(item["key"])
    model = job.inputs[f"model {key}"]
    runner = load_runner(str(item["runner"]["target"]), job.user_path)
    settings = dict(item["runner"].get("settings", {}))
    options = SessionOptions(optimize=True, provider=str(item["provider"]), tf32=bool(item["tf32"]), settings=settings)
    given = load_feeds(job.inputs[f"feeds {key}"]) if f"feeds {key}" in job.inputs else _generated(item["inputs"])
    feeds = fitted(model, given, item["names"])
    session = runner.open(model, options)
    trace: list[dict[str, Array]] = []
    for feed in feeds:
        trace.append(outputs_of(session, feed))
        check_trace((array.nbytes for array in trace[-1].values()), len(feeds))
    found = [digest(array) for outputs in trace for array in outputs.values()]
    if found != list(item["expected"]):
        save_feeds(job.out / key, trace)
    return {
        "outputs": [list(outputs) for outputs in trace],
        "sha256": found,
        "versions": dict(runner.versions()),
    }


def _generated(record: Mapping[str, Any]) -> Sequence[Feed]:
    inputs = value_from(Inputs, dict(record), "inputs")
    return regenerated(inputs)


def layers(job: Job) -> dict[str, Any]:
    """Writes ``out/layers``: the digests of every value that ``job.inputs['model']`` makes of the first feed.

    Parameters: ``names``, ``seed``, ``draws``: how often rounding noise is drawn for the units; 0 for no units.

    Raises:
        onnxeq.errors.OnnxeqError: The referee lacks an operator, or the graph fails.
    """
    from onnxeq.graph.inspect import load
    from onnxeq.inputs import adapt
    from onnxeq.noise import AMPLITUDE, RoundingNoise
    from onnxeq.referee import Executor

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
