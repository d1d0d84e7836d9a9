"""Two models' functions, split into weights, graph and preprocessing, as a job: it executes both in float64."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnxeq.arrays import load_feeds
from onnxeq.compare.function.common import Tensors
from onnxeq.compare.function.executing import Model, Port, combined, effect
from onnxeq.compare.records import weight_from_record
from onnxeq.graph.inspect import load
from onnxeq.types import Array
from onnxeq.worker import Job

__all__ = ["EFFECTS", "run"]

EFFECTS: Mapping[str, tuple[tuple[str, str], tuple[str, str]]] = {
    "weights": (("A(a,x)", "A(b,x)"), ("B(b,x)", "B(a,x)")),
    "graph": (("A(a,x)", "B(a,x)"), ("B(b,x)", "A(b,x)")),
    "preprocessing": (("A(a,x)", "A(a,y)"), ("B(b,y)", "B(b,x)")),
}
"""Origin -> between which combinations it alone changes."""


def run(job: Job) -> dict[str, Any]:
    """Runs ``job.inputs['left']`` and ``right`` on ``feeds``.

    A feed has ``x0``, ``x1``, ... in the order of the input layers, and ``y0``, ... where the right model's recipe
    prepares other inputs.

    Returns:
        ``effects``: for each origin two records, see :func:`onnxeq.compare.function.executing.effect`, or
        ``missing``; ``total``; ``identical``, ``tensors``, ``stuck``.

    Raises:
        onnxeq.errors.UnsupportedOperator: An operator has no validated float64 semantics.
        onnxeq.errors.CannotRun: A value that is to be compared is not in the file.
    """
    params = job.params
    job.step("load")
    models = [
        Model(load(job.inputs[side]), job.inputs[side].parent, *(_ports(params[side][k]) for k in _PORTS))
        for side in ("left", "right")
    ]
    tensors = [
        Tensors(str(row["role"]), *(tuple(map(weight_from_record, row[side])) for side in ("left", "right")))
        for row in params["tensors"]
    ]
    feeds = load_feeds(job.inputs["feeds"])
    count = sum(name.startswith("x") for name in feeds[0])
    inputs = [_numbered(feed, "x", count) for feed in feeds]
    others = [_numbered(feed, "y", count) for feed in feeds] if "y0" in feeds[0] else None
    traces = combined(
        models[0], models[1], tensors, inputs, others, fed=bool(params["fed"]), seed=int(params["seed"]), step=job.step
    )

    def told(pair: tuple[str, str], origin: str = "") -> dict[str, Any]:
        base, other = pair
        if said := traces.missing.get(base) or traces.missing.get(other):
            return {"missing": said}
        unit = traces.sharp if origin == "graph" else traces.floors
        return effect(traces.results[base], traces.results[other], unit)

    origins = [name for name in EFFECTS if others is not None or name != "preprocessing"]
    return {
        "effects": {name: [told(pair, name) for pair in EFFECTS[name]] for name in origins},
        "total": told(("A(a,x)", "B(b,x)" if others is None else "B(b,y)")),
        "identical": traces.identical,
        "tensors": traces.exchanged,
        "stuck": list(traces.stuck),
    }


_PORTS = ("inputs", "entries", "exits")


def _ports(rows: list[Mapping[str, Any]]) -> list[Port]:
    return [Port(str(row["value"]), tuple(row["axes"]), tuple(row["shape"])) for row in rows]


def _numbered(feed: Mapping[str, Array], letter: str, count: int) -> list[Array]:
    return [feed[f"{letter}{index}"] for index in range(count)]
