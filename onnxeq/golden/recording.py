"""``onnxeq golden record``: a new golden from at least two independent executions that agree."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from onnxeq import zoo
from onnxeq.envs.environment import find
from onnxeq.errors import CannotRun, GoldenDisputed, OnnxeqError, UsageError
from onnxeq.golden import store
from onnxeq.golden.building import build
from onnxeq.golden.identity import describe
from onnxeq.golden.measured import measure
from onnxeq.golden.today import Subject, Today, check_provider, run_all
from onnxeq.golden.values import Golden, How, Pending, Verdict
from onnxeq.inputs import DEFAULT_BATCHES
from onnxeq.jobs import Jobs, Listener
from onnxeq.sides import Request
from onnxeq.types import Feed

__all__ = ["default_name", "in_folder", "record"]


def record(
    source: object,
    name: str = "",
    *,
    folder: str | os.PathLike[str] = store.DEFAULT_FOLDER,
    inputs: Sequence[str | os.PathLike[str] | Feed] = (),
    shapes: Mapping[str, Sequence[int]] | None = None,
    batches: Sequence[int] = DEFAULT_BATCHES,
    seed: int = 0,
    opset: int | None = None,
    exporter: str = "",
    runner: str = "ort",
    provider: str = "cpu",
    trust: bool = False,
    env: str = "",
    timeout_s: float | None = None,
    anyway: bool = False,
    pending: bool = False,
    wait: bool = False,
    listener: Listener | None = None,
) -> Golden:
    """Runs a model and keeps what it gives as a new golden.

    Args:
        source: A model reference, a path, or a live model.
        name: Of the golden; made from the reference if empty.
        folder: Where goldens lie; made if there is none.
        inputs: Feeds: files or mappings from input name to array; generated from the seed without.
        shapes: Input name -> shape.
        batches: Batch sizes where the batch may vary.
        seed: Of generated inputs and of a factory's random weights.
        opset: Of the export.
        exporter: Which of the framework's exporters.
        runner: The runtime.
        provider: ``cpu`` or ``cuda``.
        trust: Whether code stored in model files may run.
        env: The environment in which the framework and the runtime run.
        timeout_s: Limit for each job in seconds.
        anyway: Whether executions that disagree, or a single one, may become a golden.
        pending: Whether it is written beside, where it waits for a decision, whether or not there is one already.
        wait: Whether to wait for another process that writes a golden of that name.
        listener: Told each job's label and step.

    Raises:
        onnxeq.errors.UsageError: There is a golden of that name already, or something else that the caller can mend.
        onnxeq.errors.GoldenDisputed: The executions disagree.
        onnxeq.errors.CannotRun: The model could not be run, or only once.
    """
    root = Path(folder)
    text = os.fspath(source) if isinstance(source, (str, os.PathLike)) else ""
    name = store.check_name(name or default_name(text))
    request = Request.of(inputs, shapes, batches=batches, seed=seed, opset=opset, trust=trust, exporter=exporter)
    sizes = {key: "x".join(map(str, shape)) or "scalar" for key, shape in (shapes or {}).items()}
    how = How(seed, tuple(batches), sizes, opset or 0, exporter, runner or "ort", check_provider(provider))
    files = tuple(Path(p) for p in inputs if isinstance(p, (str, os.PathLike)))
    subject = Subject(name, source, how, request, root, files if len(files) == len(inputs) else ())
    root.mkdir(parents=True, exist_ok=True)
    with store.locked(root, name, wait=wait or pending):
        if store.exists(root, name) and not pending:
            hint = f"onnxeq golden check {name} compares with it; accept what it finds, or give another --name"
            raise UsageError(f"the golden '{name}' is there already, and record overwrites nothing", hint=hint)
        environment = find(env) if env else None
        with Jobs(timeout_s=timeout_s, listener=listener, environment=environment, use_cache=False) as jobs:
            today = run_all(jobs, [subject])[name]
            if isinstance(today, OnnxeqError):
                raise today
            identity, marks = describe(today.path, today.native_sha256)
            measured = measure(jobs, today)
        golden, arrays = build(
            today, measured, identity, marks, model=in_folder(text, root) if text else f"live:{name}"
        )
        disputes = _disputes(golden, today)
        if disputes and not anyway:
            raise disputes[0]
        golden = replace(golden, notes=(*golden.notes, *(error.message for error in disputes)))
        if pending:
            return store.commit(root, _waiting(root, golden), arrays, pending=True)
        return store.commit(root, golden, arrays, fresh=True)


def _waiting(root: Path, golden: Golden) -> Golden:
    """The golden as one that waits, for what is there or as the first of its name."""
    if not store.exists(root, golden.name):
        return replace(golden, pending=(Pending("", Verdict.NEW, 0.0),))
    accepted = store.read(root, golden.name)
    said = Pending(accepted.sha256, Verdict.CHANGED, 0.0, ("a test asked for it to be recorded anew",))
    return replace(golden, history=accepted.golden.history, pending=(said,))


def _disputes(golden: Golden, today: Today) -> list[OnnxeqError]:
    """Why these executions should not become a golden."""
    if len(golden.executions) < 2:
        hint = "record it --anyway, and it will be judged by float32's own spacing"
        return [CannotRun(f"only {golden.executions[0].name} could be run: {golden.bar.missing}", hint=hint)]
    worst = max(golden.agreement, key=lambda a: a.ratio)
    if worst.ratio > golden.bar.limit:
        apart = f"{worst.ratio:.3g}x rounding noise apart, {golden.bar.limit:g}x allowed"
        said = f"{worst.first} and {worst.second} are {apart}"
        hint = f"onnxeq check {today.subject.source} says why; --anyway records it all the same"
        return [GoldenDisputed(f"no golden: {said}", hint=hint)]
    return []


def default_name(text: str) -> str:
    """A name made from a reference: ``torchvision:resnet18@seeded`` is ``torchvision-resnet18-seeded``.

    Raises:
        UsageError: A live model has none.
    """
    if not text:
        raise UsageError("a live model has no name to call its golden by", hint="give one: name='...'")
    path = Path(text)
    stem = path.stem if path.exists() and path.suffix else path.name
    return re.sub(r"[^A-Za-z0-9._+]+", "-", stem).strip("-.") or "golden"


def in_folder(text: str, folder: Path) -> str:
    """A reference with its path relative to the folder of the goldens: so it holds wherever it is called from."""
    ref = zoo.parse(text)
    if ref.zoo == "file" or (ref.zoo == "factory" and ref.module.endswith(".py")):
        if Path(text.rpartition(":")[0] or text).is_absolute():
            return text
        # A reference is no path, but begins with one.
        joined = os.path.normpath(os.path.join(os.path.relpath(Path.cwd(), folder), text))  # noqa: PTH118
        return joined.replace(os.sep, "/") if joined.startswith("..") else f"./{joined.replace(os.sep, '/')}"
    return text
