"""Many models in one process of a runtime, for goldens."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from onnxeq import errors
from onnxeq.arrays import load_feeds, save_feeds
from onnxeq.errors import CannotRun, OnnxeqError
from onnxeq.golden.codec import value_from
from onnxeq.golden.condense import digest
from onnxeq.golden.feeds import regenerated
from onnxeq.golden.values import Inputs
from onnxeq.memory import check_trace
from onnxeq.protocols import SessionOptions
from onnxeq.types import Array, Feed
from onnxeq.worker import Job

__all__ = ["run", "warm_up"]


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
        except Exception as error:  # whatever one model makes of its inputs is told as its own
            text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            rows.append({"error": errors.to_record(CannotRun(f"{item['key']} cannot be run: {text}"))})
    return {"items": rows}


def _item(job: Job, item: Mapping[str, Any]) -> dict[str, Any]:
    from onnxeq.runners.runtime import fitted, load_runner, outputs_of

    key = str(item["key"])
    model = job.inputs[f"model {key}"]
    runner = load_runner(str(item["runner"]["target"]), job.user_path)
    settings = dict(item["runner"].get("settings", {}))
    options = SessionOptions(optimize=True, provider=str(item["provider"]), tf32=bool(item["tf32"]), settings=settings)
    given = load_feeds(job.inputs[f"feeds {key}"]) if f"feeds {key}" in job.inputs else _generated(item["inputs"])
    try:
        feeds = fitted(model, given, item["names"])
    except KeyError as error:
        raise CannotRun(f"the model takes an input {error}, which the golden was not made with") from None
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
    """The feeds that a record describes; goldens of one kind of input follow one another and share them."""
    return _made(json.dumps(record, sort_keys=True))


@functools.lru_cache(maxsize=1)
def _made(record: str) -> Sequence[Feed]:
    return regenerated(value_from(Inputs, json.loads(record), "inputs"))
