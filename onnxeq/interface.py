"""What must hold before numbers are compared: which output is which, its type and shape, and that it says something."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnxeq.arrays import dtype_name
from onnxeq.errors import BadInputs
from onnxeq.types import Array, Feed, Rung, Status, TensorSpec

__all__ = ["Silent", "check_interface", "pair_inputs", "pair_outputs", "paired_outputs", "silent_outputs"]


def pair_inputs(source: Sequence[TensorSpec], target: Sequence[TensorSpec]) -> dict[str, str]:
    """Source input name -> target input name: by name where the names agree, else by position.

    Raises:
        BadInputs: The target takes inputs that the source does not have.
    """
    ours, theirs = [s.name for s in source], [t.name for t in target]
    if set(theirs) <= set(ours):
        return {name: name for name in theirs}
    if len(ours) != len(theirs):
        raise BadInputs(
            f"the artifact takes {len(theirs)} inputs ({', '.join(theirs)}), "
            f"the source {len(ours)} ({', '.join(ours)})",
            hint="give both the same inputs, or export the artifact again",
        )
    return dict(zip(ours, theirs, strict=True))


def pair_outputs(source: Sequence[str], target: Sequence[str]) -> dict[str, str]:
    """Target output name -> source output name: what agrees by name, then the rest by position.

    Position is part of a framework's contract (``model(x)[0]``), so values are not asked; where the source
    has nothing but positions (``output_0``, ``output_1``), they decide alone. An output that pairs with none
    keeps a name of its own, ``artifact:NAME``, and the interface rung reports it.
    """
    if len(source) == len(target) and all(re.fullmatch(r"output(_\d+)?", name) for name in source):
        return dict(zip(target, source, strict=True))
    pairs = {name: name for name in target if name in source}
    theirs = [n for n in target if n not in pairs]
    ours = [n for n in source if n not in pairs]
    # With all names agreeing or none there is no doubt; else only equal numbers say what belongs together.
    by_position = zip(theirs, ours, strict=False) if not pairs or len(theirs) == len(ours) else ()
    pairs |= dict(by_position)
    return pairs | {n: f"artifact:{n}" for n in target if n not in pairs}


def paired_outputs(
    trace: Sequence[Feed], theirs: Sequence[str], raw: Callable[[], Sequence[Feed]]
) -> tuple[dict[str, str], str]:
    """The pairs of :func:`pair_outputs`, outputs that only their position pairs exchanged where values say so.

    Names that one exporter gives and another does not know say nothing, and neither does the order of a dictionary.
    Two outputs of one type and shape are exchanged when each is :data:`_NEARER` times nearer to the other's partner,
    over all inputs, than to its own. A source that itself has nothing but positions is left alone.

    Args:
        trace: The source's outputs for each feed.
        theirs: The target's output names.
        raw: Gives the target's outputs for each feed under its own names; asked only when there is a doubt.

    Returns:
        Target output name -> source output name, and what a reader must know of it.
    """
    ours = list(trace[0])
    pairs = pair_outputs(ours, theirs)
    if len(ours) == len(theirs) and all(re.fullmatch(r"output(_\d+)?", name) for name in ours):
        return pairs, ""
    order = [pairs[n] for n in theirs if pairs[n] in ours]
    note = ""
    if order != [n for n in ours if n in order]:
        note = f"outputs come in another order in the artifact ({', '.join(theirs)}); they were paired by name"
    doubtful = {t: s for t, s in pairs.items() if t != s and s in ours}
    if len(doubtful) < 2:
        return pairs, note
    moved = _by_value(trace, raw(), doubtful)
    if moved == doubtful:
        return pairs, note
    told = ", ".join(f"{t} is {s}" for t, s in moved.items())
    return pairs | moved, f"names of outputs do not agree, so that they were paired by their values: {told}"


_NEARER = 64.0
"""What rounding or a reduced precision leaves between an output and itself is a hundredth of it at most; two different
outputs of a model are about as far apart as they are large."""


def _by_value(ours: Sequence[Feed], theirs: Sequence[Feed], pairs: Mapping[str, str]) -> dict[str, str]:
    """Pairs, exchanged where the values are decidedly nearer; as they are where they are not."""
    if len(ours) != len(theirs):
        return dict(pairs)
    apart = {
        (t, s): _apart([f[t] for f in theirs if t in f], [f[s] for f in ours]) for t in pairs for s in pairs.values()
    }
    nearest = {t: min(pairs.values(), key=lambda s: apart[t, s]) for t in pairs}
    one_to_one = len(set(nearest.values())) == len(nearest)
    decided = all(
        s == pairs[t] or (math.isfinite(apart[t, s]) and apart[t, s] * _NEARER <= apart[t, pairs[t]])
        for t, s in nearest.items()
    )
    return nearest if one_to_one and decided else dict(pairs)


def _apart(ones: Sequence[Array], others: Sequence[Array]) -> float:
    """Root mean square distance, in the second's own root mean square; infinite where types or shapes differ."""
    if len(ones) != len(others) or any(
        a.shape != b.shape or a.dtype.kind != b.dtype.kind for a, b in zip(ones, others, strict=True)
    ):
        return math.inf
    if any(v.dtype.kind not in "fViub" for v in (*ones, *others)):  # text
        return 0.0 if all(np.array_equal(a, b) for a, b in zip(ones, others, strict=True)) else math.inf
    a, b = (np.concatenate([v.astype(np.float64).ravel() for v in side]) for side in (ones, others))
    use = np.isfinite(a) & np.isfinite(b)
    size = float(np.sqrt(np.mean(np.square(b[use])))) if use.any() else 0.0
    return float(np.sqrt(np.mean(np.square(a[use] - b[use])))) / size if size else math.inf


def check_interface(
    source_name: str,
    target_name: str,
    source: Sequence[Feed],
    target: Sequence[Feed],
    inputs: Sequence[tuple[TensorSpec, TensorSpec]],
    accepted: Sequence[str] = (),
    exact: Sequence[Feed] = (),
) -> Rung:
    """Attributes first: number of outputs, their types and shapes, NaN on both sides; over every input tried.

    Args:
        source_name: Execution that is taken as given.
        target_name: Execution that is judged.
        source: Its trace, one mapping of outputs per feed.
        target: The other's trace; outputs that pair with a source output carry its name.
        inputs: Paired inputs of both sides.
        accepted: Element types that may stand in the place of float32.
        exact: What the artifact gives in float64. NaN on both sides where that is a number is the doing of a runtime
            that runs both, and breaks a rung of its own.
    """
    problems: dict[str, str] = dict.fromkeys(_inputs(inputs, accepted), "")
    for index, (ours, theirs) in enumerate(zip(source, target, strict=True)):
        right = exact[index] if index < len(exact) else {}
        for text, name in _counts(ours, theirs):
            problems.setdefault(text, name)
        for name, a in ours.items():
            if name in theirs:
                for text in _tensor(name, a, theirs[name], accepted, right.get(name)):
                    problems.setdefault(text, name)
    status = Status.FAIL if problems else Status.PASS
    ratio = math.inf if problems else 0.0
    output = next((name for name in problems.values() if name), "")
    reason = "; ".join(problems)
    return Rung("interface", source_name, target_name, math.nan, math.nan, ratio, 0.0, status, reason, output)


def _counts(source: Feed, target: Feed) -> list[tuple[str, str]]:
    """Outputs that one side lacks, in words and the first of them by the name that it has in the traces."""
    problems = []
    if absent := [n for n in source if n not in target]:
        text = f"{len(absent)} of {len(source)} outputs missing in the artifact: {', '.join(absent)}"
        problems.append((text, absent[0]))
    if extra := [n for n in target if n not in source]:
        names = ", ".join(n.removeprefix("artifact:") for n in extra)
        problems.append((f"the artifact has {len(extra)} outputs that the source has not: {names}", extra[0]))
    return problems


def _inputs(pairs: Sequence[tuple[TensorSpec, TensorSpec]], accepted: Sequence[str]) -> list[str]:
    return [
        f"input '{ours.name}' is {ours.dtype} in the source and {theirs.dtype} in the artifact"
        for ours, theirs in pairs
        if ours.dtype != theirs.dtype and theirs.dtype not in accepted
    ]


def _tensor(name: str, a: Array, b: Array, accepted: Sequence[str], exact: Array | None) -> list[str]:
    problems = []
    if dtype_name(a) != dtype_name(b) and dtype_name(b) not in accepted:
        problems.append(f"output '{name}' is {dtype_name(a)} in the source and {dtype_name(b)} in the artifact")
    if a.shape != b.shape:
        problems.append(f"output '{name}' has shape {list(a.shape)} in the source and {list(b.shape)} in the artifact")
    if a.dtype.kind in "fV" and b.dtype.kind in "fV" and a.shape == b.shape:
        both = np.isnan(a.astype(np.float64)) & np.isnan(b.astype(np.float64))
        if exact is not None and exact.shape == a.shape and exact.dtype.kind == "f":
            both &= np.isnan(exact)
        if both.any():
            problems.append(
                f"output '{name}' is NaN on both sides at {int(both.sum())} of {both.size} elements, "
                "which proves nothing about them"
            )
    return problems


@dataclass(frozen=True)
class Silent:
    """An output that says nothing about equivalence at the inputs tried.

    Attributes:
        name: The output.
        text: Why.
    """

    name: str
    text: str


def silent_outputs(
    trace: Sequence[Feed], unit: Sequence[Feed], live: Sequence[str] | None, batches: Sequence[int]
) -> tuple[Silent, ...]:
    """Outputs that are empty for every input, or should depend on the inputs and did not vary.

    Args:
        trace: A float64 trace.
        unit: Rounding noise of the same outputs: a variation within it is none.
        live: Outputs that a path connects with an input; others may well be constant. ``None`` when nobody
            knows: then a constant says something only if it is a table of different numbers.
        batches: The batch size of each feed.
    """
    found = []
    for name in trace[0]:
        values = [feed[name] for feed in trace if name in feed]
        if all(v.size == 0 for v in values):
            found.append(Silent(name, f"output '{name}' is empty for every input tried, which proves nothing"))
            continue
        if live is None:
            dependent = values[0].dtype.kind != "f" or bool((values[0] == values[0].flat[0]).all())
        else:
            dependent = name in live or any(name.startswith(f"{n}.") for n in live)
        if dependent and _constant(values, [feed[name] for feed in unit if name in feed], batches):
            text = f"output '{name}' did not vary over the inputs tried, which proves nothing about it"
            found.append(Silent(name, text))
    return tuple(found)


def _constant(values: Sequence[Array], units: Sequence[Array], batches: Sequence[int]) -> bool:
    rows = [row for value, size in zip(values, batches, strict=False) for row in _rows(value, size)]
    rows = [row for row in rows if row.shape == rows[0].shape]
    if len(rows) < 2:
        return False
    if rows[0].dtype.kind != "f":
        return all(np.array_equal(row, rows[0]) for row in rows[1:])
    finite = [np.where(np.isfinite(row), row, 0.0) for row in rows]
    if not any(np.isfinite(row).any() for row in rows):
        return False  # NaN and infinity are reported as what they are
    noise = max((float(np.max(u, initial=0.0)) for u in units), default=0.0)
    spread = max(float(np.max(np.abs(row - finite[0]), initial=0.0)) for row in finite[1:])
    scale = float(np.max(np.abs(finite[0]), initial=0.0))
    # A difference within a few roundings is none; 8 of the largest element's leaves out the tails of the draws.
    return spread <= max(8 * noise if math.isfinite(noise) else 0.0, 2.0**-50 * scale)


def _rows(value: Array, batch: int) -> list[Array]:
    """A batch's samples; the whole tensor where the first axis is no batch axis."""
    if value.ndim and value.shape[0] == batch and batch > 1:
        return [np.asarray(row, dtype=value.dtype) for row in value]  # an item of a list of texts is no array by itself
    return [np.asarray(value[0], dtype=value.dtype)] if value.ndim and value.shape[0] == batch == 1 else [value]
