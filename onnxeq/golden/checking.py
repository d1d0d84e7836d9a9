"""``onnxeq golden check``: what changed since, and why.

First every model is run once (:mod:`.today`) and held against its golden's own bits and error bar. Only what does not
hold is looked into: the referee runs it, the cause is told (:mod:`.causes`), the first layer that departs is named, and
what would be the new golden is written beside the accepted one, where it waits for a decision.
"""

from __future__ import annotations

import datetime
import functools
import importlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onnxeq import zoo
from onnxeq.envs.environment import find
from onnxeq.errors import OnnxeqError, UnusableGolden, UsageError
from onnxeq.golden import feeds as feeds_
from onnxeq.golden import known, store
from onnxeq.golden.findings import Checked, Outcome
from onnxeq.golden.today import Opened, Subject, check_provider, run_all
from onnxeq.golden.values import Golden, How, InputsKind, Verdict
from onnxeq.inputs import parse_shape
from onnxeq.jobs import Jobs, Listener
from onnxeq.sides import Request
from onnxeq.types import Array

__all__ = ["check", "reference"]


def check(
    names: Sequence[str] = (),
    *,
    folder: str | os.PathLike[str] = store.DEFAULT_FOLDER,
    sources: Mapping[str, object] | None = None,
    runner: str | None = None,
    provider: str | None = None,
    exporter: str | None = None,
    opset: int | None = None,
    trust: bool = False,
    env: str = "",
    timeout_s: float | None = None,
    keep_pending: bool = True,
    listener: Listener | None = None,
) -> Checked:
    """Checks goldens against what their models give now.

    Args:
        names: Which; all of the folder when empty.
        folder: Where they lie.
        sources: Golden -> the model to run in the place of the one that the record names; for live models.
        runner: The runtime to run them in, in the place of the recorded one.
        provider: ``cpu`` or ``cuda``, in the place of the recorded one.
        exporter: The framework's exporter, in the place of the recorded one.
        opset: Of the export, in the place of the recorded one.
        trust: Whether code stored in model files may run.
        env: The environment in which the frameworks and the runtime run.
        timeout_s: Limit for each job in seconds.
        keep_pending: Whether what changed is written beside the accepted golden, to be accepted or rejected.
        listener: Told each job's label and step.

    Raises:
        onnxeq.errors.UsageError: There is no such golden, or none at all.
        onnxeq.errors.UnusableGolden: ``known_discrepancies.toml`` cannot be read.
    """
    root, there = Path(folder), store.names(Path(folder))
    for name in names:
        if name not in there:
            store.read(root, name)  # says which there are
    if not there:
        hint = "onnxeq golden record MODEL makes one"
        raise UsageError(f"there is no golden in {root}", hint=hint)
    entries = known.load(root)
    if provider is not None:
        check_provider(provider)
    chosen = [n for n in there if n in names] if names else there
    asked = {"runner": runner, "provider": provider, "exporter": exporter, "opset": opset}
    run = _Run(root, {key: value for key, value in asked.items() if value is not None}, trust, dict(sources or {}))
    opened: dict[str, Opened | Outcome] = {}
    environment = find(env) if env else None
    jobs_as = functools.partial(Jobs, timeout_s=timeout_s, listener=listener, environment=environment)
    # What is asked is what happens now, so that nothing is looked up, but for what the referee says: that depends on
    # no version of a runtime and no machine.
    with jobs_as(use_cache=False) as jobs, jobs_as(use_cache=True) as kept:
        found = run_all(jobs, _subjects(run, chosen, opened), meanwhile=_load_judging)
        from onnxeq.golden.judged import Asking, judged

        asking = Asking(jobs, kept, root, keep_pending)
        outcomes = [
            one if isinstance(one, Outcome) else judged(one, found[name], asking) for name, one in opened.items()
        ]
    marked, complaints = known.applied(entries, outcomes, there, datetime.datetime.now(datetime.UTC).date())
    return Checked(str(root), marked, complaints)


def _subjects(run: _Run, names: Sequence[str], opened: dict[str, Opened | Outcome]) -> Iterator[Subject]:
    """The models of the goldens as these are opened, one after another, while the first of them run already."""
    for name in names:
        one = opened[name] = run.open(name)
        if isinstance(one, Opened):
            yield one.subject


def _load_judging() -> None:
    importlib.import_module("onnxeq.golden.judged")


@dataclass(frozen=True)
class _Run:
    """What the caller asked for, for every golden; ``instead`` stands in the place of the recorded :class:`How`."""

    root: Path
    instead: Mapping[str, Any]
    trust: bool
    sources: Mapping[str, object]

    def open(self, name: str) -> Opened | Outcome:
        """The golden and how it is run, or what is to be said of it instead."""
        try:
            stored = store.read(self.root, name)
            golden = stored.golden
            if name not in self.sources and golden.model.startswith("live:"):
                return Outcome(name, Verdict.ELSEWHERE, notes=("a live model: its own test checks it",))
            source = self.sources.get(name) or reference(golden.model, self.root)
        except OnnxeqError as error:
            stale = not isinstance(error, UnusableGolden)
            return Outcome(name, Verdict.STALE if stale else Verdict.UNUSABLE, notes=(error.line(),))
        how = replace(golden.how, **self.instead)
        expected = {born.role: born.sha256 for born in golden.executions}
        files = (golden.identity.onnx, golden.provenance.get("opset", ""), golden.provenance.get("producer", ""))
        try:
            request = self._request(how, golden, stored.arrays)
        except OnnxeqError as error:
            return Outcome(name, Verdict.UNUSABLE, notes=(error.line(),))
        return Opened(
            stored,
            Subject(
                name, source, how, request, self.root, inputs=golden.inputs, arrays=stored.arrays, expected=expected,
                known_onnx=files,
            ),
        )  # fmt: skip

    def _request(self, how: How, golden: Golden, arrays: Mapping[str, Array]) -> Request:
        shapes = parse_shape([f"{key}={text}" if key else text for key, text in how.shapes.items()])
        # Inputs that a user gave decide what a framework exports for, so they do again.
        seeded = golden.inputs.kind is InputsKind.SEED or not golden.identity.native
        given = [] if seeded else feeds_.of_golden(golden.inputs, arrays, self.root)
        return Request.of(
            given, shapes, batches=how.batches or (1,), seed=how.seed, opset=how.opset or None, trust=self.trust,
            exporter=how.exporter,
        )  # fmt: skip


def reference(text: str, folder: Path) -> str:
    """A record's reference as it is called from here; see :func:`onnxeq.golden.recording.in_folder`.

    Raises:
        onnxeq.errors.UsageError: The model is not there any more.
    """
    here = os.path.join(folder, text) if text.startswith(".") else text  # noqa: PTH118 - a reference is no path
    try:
        zoo.parse(here)
    except UsageError as error:
        hint = "onnxeq golden prune removes goldens without a model"
        raise UsageError(f"its model {text} is gone: {error.message}", hint=hint) from None
    return here
