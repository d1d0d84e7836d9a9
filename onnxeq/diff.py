"""``onnxeq diff``, the straight line: run both sides with their inner values, pair them, say which layers create error.

1. Two executions are chosen: the source as its users run it against onnxruntime as deployed, or the two of a rung.
2. Each is run once, its inner values written to disk as they come.
3. One pass over the judged graph holds them against each other (:mod:`onnxeq.layers.judging.sweep`).
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onnxeq import executions, fingerprint, layer_reasons, layer_report, saved_traces
from onnxeq.arrays import load_feeds
from onnxeq.envs.environment import find, for_report, own_places
from onnxeq.errors import CannotRun, UsageError
from onnxeq.executions import Graph, Models, Side
from onnxeq.graph.skim import skim
from onnxeq.inputs import batch_size
from onnxeq.jobs import JobResult, Jobs, JobSpec, Listener
from onnxeq.judge import describe
from onnxeq.model_files import reads_of
from onnxeq.providers import choose_providers
from onnxeq.repro import check_folder
from onnxeq.rules import Rules, rules_of
from onnxeq.runtimes import Runtime, choose_runner
from onnxeq.saved_traces import Saved
from onnxeq.sides import Request
from onnxeq.sizes import parse_bytes
from onnxeq.types import Coverage, Feed, Report, Status, Verdict

__all__ = ["diff"]


def diff(
    source: object,
    target: object | None = None,
    *,
    inputs: Sequence[str | os.PathLike[str] | Feed] = (),
    shapes: Mapping[str, Sequence[int]] | None = None,
    batch: int = 1,
    seed: int = 0,
    rung: str = "",
    providers: Sequence[str] | None = None,
    runner: str | None = None,
    opset: int | None = None,
    exporter: str = "",
    accept: Sequence[str] = (),
    rtol: float | None = None,
    atol: float | None = None,
    memory: int | str = "1GiB",
    load_trace: str | os.PathLike[str] | None = None,
    save_trace: str | os.PathLike[str] | None = None,
    repro: str | os.PathLike[str] | None = None,
    timeout_s: float | None = None,
    trust: bool = False,
    use_cache: bool = True,
    env: str = "",
    listener: Listener | None = None,
) -> Report:
    """Says layer by layer where two executions of a model part, and where an error is only handed on.

    Args:
        source: As in :func:`onnxeq.check`.
        target: The artifact to judge, as in :func:`onnxeq.check`.
        inputs: Feeds, as in :func:`onnxeq.check`; the first is used.
        shapes: As in :func:`onnxeq.check`.
        batch: Size of the batch axis where it may vary.
        seed: Seed of generated inputs and of a factory's random weights.
        rung: Compare the two executions of this rung of the ladder (``optimizer``, ``kernels``, ...); by default the
            source as its users run it and the artifact as deployed.
        providers: With ``cuda`` among them the artifact is deployed on CUDA; by default on the CPU.
        runner: The runtime that is judged in the place of onnxruntime.
        opset: Opset of the export.
        exporter: Which of the framework's exporters to use.
        accept: Reduced precisions that are fine: a layer's error that is rounding in one of them is none.
        rtol: With ``atol``, a classic tolerance in place of the measured limits, for layers and outputs,
            ``|a-b| <= atol + rtol*|b|``.
        atol: See ``rtol``.
        memory: Bytes (or ``1GiB``, ``512MiB``) that inner values may take at a time.
        load_trace: A saved trace, a file of Polygraphy's outputs, or an ONNX ``test_data_set_N`` folder, which stands
            in the source's place.
        save_trace: A folder for the target's trace.
        repro: A folder for a stand-alone repro of each layer that creates error.
        timeout_s: Limit for each job in seconds.
        trust: Whether code stored in model files may run.
        use_cache: Whether results of earlier identical jobs are reused.
        env: The environment in which the framework runs, and onnxruntime if that is in it.
        listener: Told each job's label and step.

    Raises:
        onnxeq.errors.UsageError: Something the caller can mend.
        onnxeq.errors.CannotRun: A side could not be run.
    """
    request = Request.of(inputs, shapes, batches=(batch,), seed=seed, opset=opset, trust=trust, exporter=exporter)
    most, runtime, rules = parse_bytes(memory), choose_runner(runner), rules_of(accept, rtol, atol)
    cuda = providers is not None and any(p.name == "cuda" and p.asked for p in choose_providers(providers))
    if cuda and runtime.name != "ort":
        raise UsageError("--providers cuda is onnxruntime's", hint=f"leave it out, or --runner {runner}")
    if save_trace is not None:
        saved_traces.check_target(Path(save_trace))
    if repro is not None:
        check_folder(Path(repro))
    here = find(env) if env else None
    with Jobs(timeout_s=timeout_s, listener=listener, use_cache=use_cache, environment=here) as jobs:
        saved = None if load_trace is None else saved_traces.open_saved(Path(load_trace), jobs.scratch)
        if saved is not None and not request.feeds:
            if not saved.feed:
                said = f"{load_trace} holds no inputs, and values of other inputs say nothing"
                raise UsageError(said, hint="name those that it was made with: --inputs FILE")
            request = replace(request, feeds=(saved.feed,))
        models = executions.models_of(jobs, source, target, request)
        kept = save_trace is not None
        compared = _compared(
            jobs, models, rung, runtime, most, saved, rules, cuda=cuda, repro=repro is not None, kept=kept
        )
        if save_trace is not None:
            _save(Path(save_trace), models, compared)
        if repro is not None:
            _copy_repros(Path(repro), compared)
        return _report(jobs, models, compared, rules)


@dataclass(frozen=True)
class _Compared:
    """What was run, and what was found."""

    name: str
    source: Side
    target: Side
    job: JobResult
    runs: tuple[JobResult, ...]
    ledger: Future[JobResult] | None = None


def _compared(
    jobs: Jobs, models: Models, rung: str, runtime: Runtime, most: int, saved: Saved | None, rules: Rules, *,
    cuda: bool, repro: bool, kept: bool,
) -> _Compared:  # fmt: skip
    one, other = executions.choose(models, rung, runtime, cuda=cuda)
    target = executions.start(jobs, models, other, runtime, most // _SHARE)
    if kept and target.traced is None:
        raise UsageError(f"{other} has no trace to save", hint="choose another --rung")
    if saved is None:
        source = executions.start(jobs, models, one, runtime, most // _SHARE)
    else:
        graph = Graph(saved.folder, {}, {})
        source = Side(saved.name, graph, None, "saved")
    weighs = source.kind == "native" and rung in ("", "graph", "weights", "lowering")
    ledger = layer_reasons.start_ledger(models) if weighs else None
    params: dict[str, Any] = {"names": dict(target.graph.names), "feed": 0, "seed": 0, "content": True}
    if rules.accept:
        params["accept"] = list(rules.accept)
    if rules.tolerance is not None:
        params["tolerance"] = [rules.tolerance.rtol, rules.tolerance.atol]
    if repro:
        params |= {**target.how, "repro": True, "reference": models.ref.text}
    files = {**reads_of(target.graph.path), "feeds": models.feeds}
    runs = [
        *_described("source", source, target.graph, params, files, saved, models),
        *_described("target", target, target.graph, params, files, None, models),
    ]
    job = jobs.start(JobSpec("diff", "diff", params, files)).result()
    return _Compared(rung or "diff", source, target, job, tuple(runs), ledger)


_SHARE = 4
"""Of the memory that is allowed, the part that a runtime may give back at a time: it holds its own besides, and the
pass that follows holds the widest layer in float64 several times."""


def _described(
    side: str, held: Side, judged: Graph, params: dict[str, Any], files: dict[str, Path], saved: Saved | None,
    models: Models,
) -> list[JobResult]:  # fmt: skip
    """Waits for a side and tells the job where its values are and what they are called."""
    if held.kind == "saved" and saved is not None:
        files[side] = saved.folder
        params[side] = "same" if saved.model == models.artifact.info.sha256 else "names"
        return []
    if held.traced is None:
        params[side] = "itself"
        return []
    done = [held.traced.result()]
    if failed := str(done[0].data.get("failed", "")):
        if side == "source":
            raise CannotRun(f"{held.name}: {failed}", hint="give inputs that it takes: --inputs, --shape")
        params[side] = "itself"  # the graph in float64 shows where it goes wrong
        return done
    native = held.kind == "native"
    files[side] = done[0].out / ("layers" if native else "trace-0")
    params[side] = "native" if native else "same" if _same_file(held.graph, judged) else "graph"
    if params[side] != "same":
        files |= {f"{side}_{key}": path for key, path in reads_of(held.graph.path).items()}
        back = {theirs: mine for mine, theirs in held.graph.outputs.items()}
        params[f"{side}_inputs"] = {judged.names[n]: held.graph.names[n] for n in judged.names if n in held.graph.names}
        params[f"{side}_outputs"] = {mine: back[n] for mine, n in judged.outputs.items() if n in back}
    if held.exact is not None:
        done.append(held.exact.result())
        files[f"{side}_exact"] = done[1].out / "layers"
    return done


def _same_file(one: Graph, other: Graph) -> bool:
    return (
        one is other
        or one.path.samefile(other.path)
        or fingerprint.of_path(one.path) == fingerprint.of_path(other.path)
    )


def _report(jobs: Jobs, models: Models, found: _Compared, rules: Rules) -> Report:
    layers = layer_report.read_layers(found.job.out / "layers.json")
    ledger = found.ledger
    if found.job.data["unlike"] and not layer_report.creating(layers):  # what no layer shows may still be wrong
        ledger = ledger or layer_reasons.of_files(jobs, models)
    graph = skim(models.judged.path).model.graph
    layers, reasons = layer_reasons.with_ledger(ledger, layers, graph, rules, files=models.native is None)
    reasons |= layer_report.reasons_of(found.job.data["contrasts"])
    if found.source.kind == "native":
        explained = layer_reasons.of_native(jobs, models, layers, reasons, graph)
        reasons |= explained.reasons
        layers = layer_report.without_aftermath(layers, explained.aftermath)
    layers = layer_report.named(layers, reasons)
    outputs = _made_outputs(found.target.graph)
    data = found.job.data
    rung = layer_report.rung_of(found.name, found.source.name, found.target.name, layers, outputs)
    rung = layer_report.allowing(rung, data["allowed"])
    compared = sum(layer.value in outputs and not math.isnan(layer.propagated.ratio) for layer in layers)
    if failed := _failure(found):
        rung = replace(rung, status=Status.FAIL, ratio=math.inf, reason=failed)
    lost = [name for name in outputs if name not in {x.value for x in layers if not math.isnan(x.propagated.ratio)}]
    source = None if found.source.kind == "saved" else models.source or models.bridge
    other = () if source is None else layer_report.interface(graph, models.judged.outputs, source.outputs.values())
    unseen = [f"output '{name}' is not known on both sides" for name in lost]
    return Report(
        verdict=Verdict.DIVERGENT if other else layer_report.verdict_of(layers, rung, complete=not unseen),
        source={"ref": models.ref.text, "kind": models.ref.zoo, **models.provenance},
        target=describe(models.artifact, models.target_ref),
        environment={
            "versions": fingerprint.versions(),
            "machine": fingerprint.machine(),
            **for_report(jobs.environments),
        },
        causes=(*other, *layer_report.causes_of(layers, rung, reasons)),
        rungs=(rung,),
        outputs=(),
        coverage=Coverage(
            outputs_compared=compared,
            outputs_total=len(outputs) + sum(not c.where.node for c in other),
            inputs_tried=sum(batch_size(feed) for feed in load_feeds(models.feeds)),
            nodes_compared=int(data["compared"]),
            nodes_total=models.artifact.info.nodes,
            weights_accounted=0,
            weights_total=0,
        ),
        notes=(*own_places(jobs.environments, jobs.environment), *models.notes, *unseen, *_notes(found)),
        timings=tuple(
            {"job": label, "seconds": round(job.seconds, 3), "peak_bytes": job.peak_bytes, "cached": job.cached}
            for label, job in _labelled(found)
        ),
        layers=layers,
    )


def _made_outputs(graph: Graph) -> list[str]:
    """The outputs that nodes make: one that is handed through, or stored, has no layer."""
    proto = skim(graph.path).model.graph
    made = {name for node in proto.node for name in node.output}
    return [o.name for o in proto.output if o.name in made]


def _failure(found: _Compared) -> str:
    """What the target's runtime says of a model that it does not run; empty where it does."""
    traced = found.target.traced
    return "" if traced is None else str(traced.result().data.get("failed", ""))


def _labelled(found: _Compared) -> list[tuple[str, JobResult]]:
    return [*((f"trace {i + 1}", run) for i, run in enumerate(found.runs)), ("diff", found.job)]


def _notes(found: _Compared) -> list[str]:
    """What the runs had to say: how many of the source's values were found, and whether asking changed anything."""
    data = found.job.data
    notes = []
    if data["of"]:
        by = ", ".join(f"{count} by {how}" for how, count in sorted(data["by"].items(), key=lambda row: -row[1]))
        notes.append(f"{data['paired']} of {data['of']} values of {found.source.name} found in the graph ({by})")
    if failed := _failure(found):
        notes.append(f"{found.target.name}: {failed}; the graph was run in float64 in its place")
    for row in data["repros"]:
        if "problem" in row:
            notes.append(f"no repro of '{row['value']}': {row['problem']}")
    for side in (found.source, found.target):
        apart = side.traced.result().data.get("apart", {}) if side.traced is not None else {}
        for name, size in apart.items():
            said = f"run step by step, output '{name}' is {size:.2g} away from the model as its users run it"
            notes.append(f"{side.name}: {said}")
        if side.kind != "runtime" or side.traced is None:
            continue
        ran = side.traced.result().data
        if ran["changed"]:
            names = ", ".join(ran["changed"])
            said = f"asking for inner values changes the bits of {names}; judge those layers with care"
            notes.append(f"{side.name}: {said}")
        elif ran["hidden"]:
            names = ", ".join(ran["hidden"][:3])
            count = len(ran["hidden"])
            notes.append(f"{side.name}: {count} values are not asked for, since that would change the outputs: {names}")
    return notes


def _copy_repros(path: Path, found: _Compared) -> None:
    """Puts the repros where the user wants them, each whole."""
    made = found.job.out / "repros"
    for folder in sorted(made.iterdir()) if made.is_dir() else ():
        path.mkdir(exist_ok=True)
        part = path / f".{folder.name}.part"
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(folder, part)
        part.rename(path / folder.name)


def _save(path: Path, models: Models, found: _Compared) -> None:
    """Keeps the target's trace."""
    if found.target.traced is None or (failed := _failure(found)):
        said = failed if found.target.traced is not None else "it runs along"
        raise CannotRun(f"{found.target.name} has left no trace: {said}")
    done = found.target.traced.result()
    held = done.out / ("layers" if found.target.kind == "native" else "trace-0")
    (feed,) = load_feeds(models.feeds)
    names = found.target.graph.names
    record = {
        "execution": found.target.name,
        "model": models.artifact.info.sha256,
        "versions": dict(done.data.get("versions", {})),
    }
    saved_traces.save(path, held, {names.get(k, k): v for k, v in feed.items()}, record)
