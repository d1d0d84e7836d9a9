"""What makes an artifact another model than its reference: a job for when a float64 rung has broken.

Both graphs run side by side in the referee, one feed at a time, until one shows the faults.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onnxeq.arrays import load_feeds, save_feeds
from onnxeq.errors import OnnxeqError
from onnxeq.inputs import adapt, batch_size
from onnxeq.layers.faults.findings import Finding, findings
from onnxeq.layers.likeness import LIMIT, distance
from onnxeq.layers.program import Program, open_program
from onnxeq.layers.walking.expansion import expanded
from onnxeq.layers.walking.walk import align
from onnxeq.noise import ConstantFloor
from onnxeq.referee import Executor
from onnxeq.referee.elements import element_name
from onnxeq.types import Array, Feed
from onnxeq.worker import Job

__all__ = ["run"]


def run(job: Job) -> dict[str, Any]:
    """Holds ``job.inputs['model']`` against the references ``reference 0``, ``reference 1``, ...

    Parameters: ``names`` and ``outputs`` (feed name -> input, output -> the source's name), the same for each
    reference in ``references``, ``parameters`` (names of the framework's parameters) and ``tries`` (how many feeds).
    ``job.inputs['exact']`` holds what the outputs should be, under the source's names, and ``unit`` the constant floor:
    a reference that does not give them is none.

    Returns:
        ``findings``: a row each with ``cause``, ``where``, ``text``, ``proven`` and, where it has an effect, its index
        in the trace ``effects`` (under the source's output names); ``feed``: the feed that showed them; ``faithful``:
        whether some reference gives what the source gives; ``departures``: how many values depart.
    """
    params = job.params
    job.step("load")
    artifact = open_program(job.inputs["model"])
    chosen = _nearest(artifact, [open_program(job.inputs[f"reference {i}"]) for i in range(len(params["references"]))])
    feeds = load_feeds(job.inputs["feeds"])
    exact, unit = _trace(job, "exact"), _trace(job, "unit")
    result: dict[str, Any] = {"findings": [], "faithful": False, "departures": 0, "feed": 0}
    order = sorted(range(len(feeds)), key=lambda i: batch_size(feeds[i]))
    for index in order[: int(params["tries"])]:
        for number, reference in chosen:
            named = params["references"][number]
            job.step(f"run the reference on feed {index + 1}")
            try:
                theirs = reference.run(_adapted(reference, feeds[index], named["names"]))
            except OnnxeqError:
                continue
            floor = unit[index] if unit else _floor(reference, feeds[index], named, theirs)
            if exact and not _gives(theirs, named["outputs"], exact[index], floor):
                continue
            result["faithful"] = True
            finer = expanded(reference, artifact, theirs)
            if finer is not reference:
                theirs = finer.run(_adapted(finer, feeds[index], named["names"]))
            job.step(f"hold the artifact against it on feed {index + 1}")
            found = _held_against(job, artifact, finer, theirs, feeds[index], named)
            if found["findings"]:
                return {**result, **found, "feed": index}
            break
    return result


def _held_against(
    job: Job, artifact: Program, reference: Program, theirs: Mapping[str, Any], feed: Feed, named: Mapping[str, Any]
) -> dict[str, Any]:
    params = job.params
    mine: Mapping[str, str] = params["names"]
    inputs = artifact.entries_of(_adapted(artifact, feed, mine))
    input_pairs = {mine.get(name, name): named["names"].get(name, name) for name in feed}
    by_source = {source: name for name, source in named["outputs"].items()}
    output_pairs = {name: by_source[s] for name, s in params["outputs"].items() if s in by_source}
    tried = []
    for names in (True, False):
        aligned = align(artifact, reference, theirs, inputs, input_pairs, output_pairs, names=names)
        job.step("explain what departs")
        tried.append((findings(aligned, frozenset(params["parameters"])), aligned))
        if not aligned.by_name or (len(tried[0][0]) <= 1 and all(row.proven for row in tried[0][0])):
            break  # else names may mean other things in the two files
    rows, aligned = min(tried, key=lambda pair: (sum(not row.proven for row in pair[0]), len(pair[0]), -pair[1].share))
    effects = [{params["outputs"].get(n, n): v for n, v in row.effect.items()} for row in rows]
    save_feeds(job.out / "effects", effects)
    return {"findings": [_record(row) for row in rows], "departures": len(aligned.departures)}


def _record(finding: Finding) -> dict[str, Any]:
    return {
        "cause": finding.cause.value,
        "where": dataclasses.asdict(finding.where),
        "text": finding.text,
        "proven": finding.proven,
    }


def _nearest(artifact: Program, references: Sequence[Program]) -> list[tuple[int, Program]]:
    """The references with their numbers, the one whose operators are most like the artifact's first."""
    mine = Counter(node.op_type for node in artifact.nodes)

    def likeness(reference: Program) -> float:
        theirs = Counter(node.op_type for node in reference.nodes)
        return (mine & theirs).total() / max(1, (mine | theirs).total())

    return sorted(enumerate(references), key=lambda row: -likeness(row[1]))


def _adapted(program: Program, feed: Feed, names: Mapping[str, str]) -> dict[str, Any]:
    kinds = {i.name: element_name(i.type.tensor_type.elem_type or 1) for i in program.model.graph.input}
    return adapt({names.get(k, k): v for k, v in feed.items() if names.get(k, k) in program.inputs}, kinds)


def _floor(reference: Program, feed: Feed, named: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Array]:
    """What rounding of its constants does to a reference's outputs, under the source's names."""
    executor = Executor(reference.model)
    given = _adapted(reference, feed, named["names"])
    total: dict[str, Array] = {}
    for draw in range(_DRAWS):
        moved = executor.run(given, hook=ConstantFloor(draw))
        for name, source in named["outputs"].items():
            base = np.asarray(theirs[name].value)
            if base.dtype.kind == "f" and np.shape(moved[name]) == base.shape:
                square = np.square(np.nan_to_num(np.asarray(moved[name]) - base)) / _DRAWS
                total[source] = total.get(source, np.zeros(base.shape)) + square
    return {name: np.sqrt(value) for name, value in total.items()}


_DRAWS = 2


def _gives(theirs: Mapping[str, Any], outputs: Mapping[str, str], exact: Feed, unit: Feed) -> bool:
    """Whether a reference's outputs are what the source gives, within the constant floor."""
    for name, source in outputs.items():
        if source in exact and name in theirs:
            value = np.asarray(theirs[name].value)
            if distance(value, np.asarray(exact[source]), unit.get(source)) > LIMIT:
                return False
    return True


def _trace(job: Job, name: str) -> list[dict[str, Any]]:
    folder: Path | None = job.inputs.get(name)
    return load_feeds(folder) if folder is not None else []
