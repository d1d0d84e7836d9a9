"""The rung ``preprocessing``: the same model on the same pictures, prepared by its own recipe and by another.

The pictures of both come from the zoos' own code where there is any. To say *which* step makes the difference the two
recipes are mixed, which only this project's own code can do (:mod:`onnxeq.preprocessing.neutral`): from the source's
recipe one part is exchanged at a time, then one after the other; and from the other recipe one part is put back. How
near that code comes to the zoos' is measured on these pictures and told.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onnxeq import ladder
from onnxeq.arrays import dtype_of
from onnxeq.attribution.questions import native_sizes, sizes
from onnxeq.errors import OnnxeqError
from onnxeq.evidence import Evidence
from onnxeq.jobs import Jobs
from onnxeq.kept import store_feeds
from onnxeq.ladder import Execution, RungPlan, Units
from onnxeq.measure import Measure, compare, within
from onnxeq.preprocessing.parts import Difference, Part, differences, exchanged, form_of, told_only
from onnxeq.preprocessing.pictures import Asked, Prepared, neutral
from onnxeq.preprocessing.recipe import Recipe, recipe_to_record, words
from onnxeq.types import Array, Cause, CauseKind, Feed, Report, Rung, Status, TensorSpec, Verdict, Where

__all__ = ["extended"]


def extended(
    report: Report, found: Evidence, jobs: Jobs, asked: Asked, ours: Prepared, theirs: Prepared | None,
    rules: ladder.Rules,
) -> Report:  # fmt: skip
    """The report with the recipes, and with the rung where the deployed side has one of its own.

    Args:
        report: Of the check on the source's pictures.
        found: What was executed for it.
        jobs: Where to ask further.
        asked: What the user said of preprocessing.
        ours: The pictures by the source's recipe.
        theirs: By the other one; ``None`` without.
        rules: A tolerance or a reduced precision that was accepted.
    """
    told: dict[str, Any] = {
        "pictures": [str(path) for path in asked.pictures],
        "source": {"ref": ours.name, "recipe": recipe_to_record(ours.recipe)},
    }
    if theirs is None:
        return replace(report, preprocessing=told)
    told["target"] = {"ref": theirs.name, "recipe": recipe_to_record(theirs.recipe)}
    judged = _judged(found, jobs, asked, ours, theirs, rules)
    verdict = report.verdict
    if judged.rung.status is Status.FAIL:
        verdict = Verdict.DIVERGENT
    elif judged.rung.status is Status.NOT_RUN and verdict is Verdict.EQUIVALENT:
        verdict = Verdict.INCONCLUSIVE
    causes = sorted((*report.causes, *judged.causes), key=lambda c: -c.ratio)
    return replace(
        report,
        verdict=verdict,
        causes=tuple(causes) if judged.causes else report.causes,
        rungs=(*report.rungs, judged.rung),
        notes=(*report.notes, *judged.notes),
        preprocessing={**told, "steps": judged.steps},
    )


@dataclass(frozen=True)
class _Judged:
    rung: Rung
    causes: tuple[Cause, ...] = ()
    notes: tuple[str, ...] = ()
    steps: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class _Model:
    """The source's model, run on any pictures."""

    found: Evidence
    jobs: Jobs
    spec: TensorSpec
    units: Units
    rules: ladder.Rules

    @property
    def unit(self) -> str:
        """What a ratio is in."""
        return "rounding noise" if self.rules.tolerance is None else "the tolerance"

    @property
    def name(self) -> str:
        """The execution."""
        if self.found.native is not None:
            return "native/f32"
        runs = self.found.source_runs
        return self.found.runs.literal if runs is None else f"source {runs.literal}"

    def run(self, sets: Sequence[Sequence[Array]]) -> list[tuple[tuple[Feed, ...], str]]:
        """The outputs for each set of pictures, or why there are none."""
        folder = store_feeds([{self.spec.name: array} for arrays in sets for array in arrays], self.jobs.root)
        native = self.found.native
        runs = self.found.source_runs or self.found.runs
        trace, refused = native_sizes(native, folder) if native is not None else sizes(self.jobs, runs, folder)
        made: list[tuple[tuple[Feed, ...], str]] = []
        at = 0
        for arrays in sets:
            said = next((r for r in refused[at : at + len(arrays)] if r), "" if trace else "the model could not be run")
            made.append(((), said) if said else (tuple(trace[at : at + len(arrays)]), ""))
            at += len(arrays)
        return made

    def apart(self, ours: Sequence[Feed], theirs: Sequence[Feed]) -> Measure:
        """How far two sets of outputs are apart, in the model's rounding noise or the tolerance that was asked for."""
        if (asked := self.rules.tolerance) is not None:
            return within(ours, theirs, asked.rtol, asked.atol)
        return compare(ours, theirs, self.units.rounding[: len(ours)], step=2.0**-24)


def _judged(
    found: Evidence, jobs: Jobs, asked: Asked, ours: Prepared, theirs: Prepared, rules: ladder.Rules
) -> _Judged:
    spec = found.native.inputs[0] if found.native is not None else found.inputs[0][0]
    model = _Model(found, jobs, spec, found.runs.units(), rules)
    target = f"{model.name} as {theirs.name}"
    plan = RungPlan("preprocessing", model.name, target)
    if model.units.missing and rules.tolerance is None:
        return _Judged(_without(plan, Status.NOT_RUN, math.nan, model.units.missing))
    notes: tuple[str, ...] = ()
    try:
        apart = differences(ours.recipe, theirs.recipe)
    except OnnxeqError as error:
        apart, notes = (), (f"which step differs is not told: {error.message}",)
    given = [_as_taken(array, theirs, ours) for array in theirs.arrays]
    if unfit := _unfit(given, found):
        place = next((d for d in reversed(apart) if d.part in _SIZES), None)
        rung = _without(plan, Status.FAIL, math.inf, unfit)
        said = f"the other recipe makes pictures that the model does not take: {unfit}" + _in_words(place)
        where = Where(step=place.part.value if place else "")
        return _Judged(rung, (Cause(CauseKind.PREPROCESSING, rung.name, math.inf, where, said),), notes)
    (own, said), (other, refused) = model.run([ours.arrays, given])
    if said or refused:
        return _Judged(_without(plan, Status.NOT_RUN, math.nan, said or refused), notes=notes)
    executions = {plan.source: Execution(plan.source, own), target: Execution(target, other)}
    (rung,) = ladder.climb((plan,), executions, model.units, rules)
    if rung.status is not Status.FAIL:
        return _Judged(replace(rung, reason=rung.reason or _passed(apart, ours, theirs)), notes=notes)
    if not apart:
        moved = _moved(rung, own, other)
        same = f"both recipes say the same, and {theirs.name} prepares pictures otherwise all the same: it {moved}"
        why = f"the recipe of {theirs.name} {moved}" if notes else same
        cause = Cause(CauseKind.PREPROCESSING, rung.name, rung.ratio, Where(value=rung.output), why)
        return _Judged(rung, (cause,), notes)
    return _attributed(model, asked, ours, theirs, apart, rung, (own, other), notes)


_SIZES = (Part.GEOMETRY, Part.SIZE, Part.CROP)


def _attributed(
    model: _Model,
    asked: Asked,
    ours: Prepared,
    theirs: Prepared,
    apart: Sequence[Difference],
    rung: Rung,
    traces: tuple[tuple[Feed, ...], tuple[Feed, ...]],
    notes: tuple[str, ...],
) -> _Judged:
    """Which parts make the difference: each exchanged by itself, put back by itself, and one after the other."""
    parts = [d.part for d in apart]
    a, b = ours.recipe, theirs.recipe
    mixes = [a, exchanged(a, b, parts)]
    mixes += [exchanged(a, b, [p]) for p in parts]
    mixes += [exchanged(a, b, [q for q in parts if q != p]) for p in parts]
    mixes += [exchanged(a, b, parts[: i + 1]) for i in range(len(parts))]
    sets, results = _run_once_each(model, mixes, asked)
    (base, problem), (whole, _), *rest = results
    if problem:
        return _Judged(rung, (_unplaced(rung, traces, theirs, problem),), notes)
    count = len(parts)
    steps: tuple[dict[str, Any], ...] = tuple(
        {
            "step": d.part.value, "source": d.ours, "target": d.theirs,
            **{
                name: _effect(model, base, rest[kind * count + i])
                for kind, name in enumerate(("alone", "undone", "cumulative"))
            },
        }
        for i, d in enumerate(apart)
    )  # fmt: skip
    notes += _nearness(model, ours, theirs, sets, (traces, (base, whole)))
    over = sorted(
        (i for i in range(count) if (steps[i]["alone"].get("ratio") or 0.0) > rung.limit),
        key=lambda i: -steps[i]["alone"]["ratio"],
    )
    if not over:
        said = "no step does it by itself: " + "; ".join(d.text() for d in apart)
        return _Judged(rung, (_unplaced(rung, traces, theirs, said),), notes, steps)
    causes = tuple(_cause(apart[i], steps[i], replace(rung, unit=model.unit), len(asked.pictures)) for i in over)
    return _Judged(rung, causes, notes, steps)


def _run_once_each(
    model: _Model, mixes: Sequence[Recipe], asked: Asked
) -> tuple[list[list[Array]], list[tuple[tuple[Feed, ...], str]]]:
    """The pictures of each mix and the outputs for them, or why there are none; what is one recipe runs once."""
    places = {recipe.steps: recipe for recipe in mixes}
    order = list(places)
    made = neutral(model.jobs, list(places.values()), asked.pictures)
    sets = [[m for m in arrays if not isinstance(m, str)] for arrays in made]
    wholes = [len(arrays) == len(asked.pictures) for arrays in sets]
    ran = iter(model.run([arrays for arrays, whole in zip(sets, wholes, strict=True) if whole]))
    results = [next(ran) if whole else ((), _first_text(m)) for whole, m in zip(wholes, made, strict=True)]
    at = [order.index(recipe.steps) for recipe in mixes]
    return [sets[i] for i in at], [results[i] for i in at]


def _effect(model: _Model, base: Sequence[Feed], result: tuple[tuple[Feed, ...], str]) -> dict[str, Any]:
    """What one mix does to the outputs; how many pictures are then taken for something else."""
    trace, said = result
    if said:
        return {"missing": said}
    found = model.apart(base, trace)
    if found.problem:
        return {"missing": found.problem}
    return {
        "max_abs": found.max_abs,
        "ratio": found.ratio,
        "output": found.output,
        "top1_changes": _changes(base, trace),
    }


def _changes(ours: Sequence[Feed], theirs: Sequence[Feed]) -> int | None:
    """Pictures whose largest class is another one; ``None`` where the first output is no row of classes."""
    name = next(iter(ours[0]), "") if ours else ""
    rows = [(x[name], y[name]) for x, y in zip(ours, theirs, strict=True) if name in x and name in y]
    if not rows or any(a.shape != b.shape or not _is_choice(a) for a, b in rows):
        return None
    return sum(int(a.argmax() != b.argmax()) for a, b in rows)


def _is_choice(value: Array) -> bool:
    """Whether an output is one row of classes, ``[1,classes]`` or ``[1,classes,1,1]``."""
    return value.ndim >= 2 and value.shape[0] == 1 and value.shape[1] == value.size > 1


def _cause(difference: Difference, step: Mapping[str, Any], rung: Rung, pictures: int) -> Cause:
    alone, undone = step["alone"], step["undone"]
    top = alone["top1_changes"]
    changed = "" if top is None else f"; top-1 of {top} of {pictures} pictures changes"
    left = (
        f"undone, {undone['max_abs']:.2g} remains" if "max_abs" in undone else "undone alone it does not fit the model"
    )
    said = (
        f"{difference.text()} moves output '{alone['output']}' by {alone['max_abs']:.2g} ({alone['ratio']:.2g}x"
        f" {rung.unit}, {rung.limit:g}x allowed{changed}); {left}"
    )
    where = Where(value=alone["output"], step=difference.part.value)
    return Cause(CauseKind.PREPROCESSING, rung.name, float(alone["ratio"]), where, said)


def _unplaced(rung: Rung, traces: tuple[Sequence[Feed], Sequence[Feed]], theirs: Prepared, why: str) -> Cause:
    said = f"the recipe of {theirs.name} {_moved(rung, *traces)}; {why}"
    return Cause(CauseKind.PREPROCESSING, rung.name, rung.ratio, Where(value=rung.output), said)


def _moved(rung: Rung, ours: Sequence[Feed], theirs: Sequence[Feed]) -> str:
    top = _changes(ours, theirs)
    changed = "" if top is None else f"; top-1 of {top} of {len(ours)} pictures changes"
    size = rung.reason or f"{rung.max_abs:.2g} ({rung.ratio:.2g}x its unit, {rung.limit:g}x allowed{changed})"
    return f"moves output '{rung.output}' by {size}"


def _nearness(
    model: _Model,
    ours: Prepared,
    theirs: Prepared,
    sets: Sequence[Sequence[Array]],
    traces: tuple[tuple[Sequence[Feed], Sequence[Feed]], tuple[Sequence[Feed], Sequence[Feed]]],
) -> tuple[str, ...]:
    """What the zoos' own code and this project's make of the same recipe, where that is not the same."""
    said = []
    for index, side in enumerate((ours, theirs)):
        if not side.recipe.exact or not traces[1][index]:
            continue
        given = [_as_taken(array, side, ours) for array in side.arrays]
        pairs = list(zip(given, sets[index], strict=False))
        if not pairs or any(x.shape != y.shape for x, y in pairs):
            continue
        gap = max(float(np.max(np.abs(x.astype(np.float64) - y), initial=0.0)) for x, y in pairs)
        effect = model.apart(traces[0][index], traces[1][index])
        if effect.ratio > (1.0 if model.rules.tolerance else ladder.LIMITS["preprocessing"].factor):
            said.append(
                f"steps are mixed by this project's own code, which makes of {side.name}'s recipe pictures up to"
                f" {gap:.2g} away from the zoo's: that moves the outputs by {effect.max_abs:.2g}"
            )
    return tuple(said)


def _as_taken(array: Array, side: Prepared, ours: Prepared) -> Array:
    """An array in the layout and element type of the source's own pictures."""
    layouts = [_layout(p) for p in (side, ours)]
    made = array
    if layouts[0] != layouts[1]:
        single = made if layouts[0] == "CHW" else made[0]
        channels_first = single if layouts[0] != "NHWC" else np.moveaxis(single, -1, 0)
        turned = channels_first if layouts[1] != "NHWC" else np.moveaxis(channels_first, 0, -1)
        made = turned if layouts[1] == "CHW" else turned[np.newaxis]
    wanted = ours.arrays[0].dtype if ours.arrays else dtype_of("float32")
    return np.ascontiguousarray(made.astype(wanted, copy=False))


def _layout(side: Prepared) -> str:
    try:
        return form_of(side.recipe).layout
    except OnnxeqError:  # a step without a name; every zoo of which there is one puts channels first
        return "NCHW"


def _unfit(arrays: Sequence[Array], found: Evidence) -> str:
    """Why the artifact does not take pictures of that shape; empty where it does."""
    shape = found.inputs[0][1].shape if found.inputs else None
    for array in arrays:
        fits = shape is None or (
            len(shape) == array.ndim
            and all(isinstance(want, str) or want == have for want, have in zip(shape, array.shape, strict=True))
        )
        if not fits:
            return f"they are {list(array.shape)}, the artifact takes {found.inputs[0][1].text()}"
    return ""


def _in_words(difference: Difference | None) -> str:
    return "" if difference is None else f"; {difference.text()}"


def _first_text(made: Sequence[Array | str]) -> str:
    return next((m for m in made if isinstance(m, str)), "")


def _passed(apart: Sequence[Difference], ours: Prepared, theirs: Prepared) -> str:
    """What a passed rung says."""
    if apart:
        return f"the recipes differ, which does not show on these pictures: {'; '.join(d.text() for d in apart)}"
    try:
        only = told_only(ours.recipe, theirs.recipe)
    except OnnxeqError:
        return ""
    spelled = [[words(s) for s in side.recipe.steps] for side in (ours, theirs)]
    said = "the recipes are the same" if spelled[0] == spelled[1] or only else "one recipe, spelled in two ways"
    return said + (f" but for what the model decides: {', '.join(only)}" if only else "")


def _without(plan: RungPlan, status: Status, ratio: float, reason: str) -> Rung:
    nan, factor = math.nan, ladder.LIMITS["preprocessing"].factor
    return Rung(plan.name, plan.source, plan.target, nan, nan, ratio, factor, status, reason)
