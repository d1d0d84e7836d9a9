"""How far two models are apart for the same inputs, in sentences."""

from __future__ import annotations

from onnxeq.compare.function.values import Effect, Origin, Split
from onnxeq.compare.values import Pair

__all__ = ["function_cell", "function_lines"]


def function_cell(pair: Pair) -> str:
    """Why two models' outputs differ, in a word or three; ``-`` where that was not asked for."""
    if pair.function is None:
        return "not told" if pair.not_split else "-"
    found = pair.function
    part = "" if found.whole else "of a part: "
    return part + (" + ".join(found.origins) if found.origins else "same")


def function_lines(pair: Pair) -> list[str]:
    """The sentences of a pair: how far its outputs are apart, and how much of that each origin makes by itself."""
    if pair.not_split:
        return [f"outputs are not compared: {pair.not_split}"]
    if pair.function is None:
        return []
    found = pair.function
    where = "outputs" if found.whole else f"results of '{found.ends}'"
    given = f"for the same {found.inputs} inputs" if found.inputs != 1 else "for the same input"
    if found.total.missing:
        lines = [f"{where} cannot be compared: {found.total.missing}"]
    elif not found.origins:
        lines = [f"{where} are the same {given}: {_size(found.total)} apart, which rounding of constants explains"]
    else:
        causes = " and ".join(found.origins)
        lines = [f"{where} are {_size(found.total)} apart {given}{_top(found.total, found)}, because of {causes}"]
    lines += [_origin(origin, found) for origin in Origin if any(e.origin is origin for e in found.effects)]
    if not found.whole:
        lines.append(
            f"that is the largest part in common: {found.layers[0]} and {found.layers[1]} layers from '{found.begins}'"
            f" to '{found.ends}', {found.share:.0%} of the parameters"
        )
    return lines + [f"note: {text}" for text in found.notes]


_BASES = {
    Origin.WEIGHTS: "in the graph of {}",
    Origin.GRAPH: "with the weights of {}",
    Origin.PREPROCESSING: "in {}",
}
"""What stays while one thing is exchanged, see :class:`onnxeq.compare.function.values.Split`."""


def _origin(origin: Origin, found: Split) -> str:
    effects = [e for e in found.effects if e.origin is origin]
    told = [_effect(e, found) for e in effects]
    if len(set(told)) == 1:
        said = told[0] + (" either way" if effects[0].relative else "")
    else:
        said = ", ".join(f"{t} {_BASES[origin].format(e.base)}" for t, e in zip(told, effects, strict=True))
    held = f"; {found.identical} of {found.tensors} tensors are the same" if origin is Origin.WEIGHTS else ""
    return f"{origin.value} alone: {said}{held}"


def _effect(effect: Effect, found: Split) -> str:
    if effect.missing:
        return f"not told ({effect.missing})"
    if effect.relative == 0:
        return "nothing"
    return f"{_size(effect)}{'' if effect.counts else ' (within rounding)'}{_top(effect, found)}"


def _size(effect: Effect) -> str:
    """The relative movement: in per cent where that is something to read."""
    if effect.relative >= 0.001:
        return f"{effect.relative:.3g} of their size" if effect.relative >= 10 else f"{100 * effect.relative:.3g} %"
    return f"{effect.relative:.1e} of their size"


def _top(effect: Effect, found: Split) -> str:
    changes = effect.top1_changes
    return f" (top-1 changes in {changes} of {found.inputs})" if changes and found.inputs > 1 else ""
