"""An artifact run beside its reference, node by node, and corrected wherever it departs.

Each node of the artifact is computed from its operands. If the result is a value of the reference, to float64
rounding or to what rounding of constants explains, the artifact goes on with the reference's. If it is not, although
the operands were, the node departs: the fault is noted, and the artifact goes on with the value that the reference has
in that place. So each node is judged by what it does itself, and any number of faults is found in one walk.

Which value belongs in a place is told by name where the two graphs share their names, and by content elsewhere
(:mod:`onnxeq.layers.walking.hypotheses`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from onnxeq.layers.likeness import Pool, digest
from onnxeq.layers.program import Program
from onnxeq.layers.walking.alignment import Alignment, Counterpart, State, shares_names
from onnxeq.layers.walking.hypotheses import frontier, hypothesis
from onnxeq.layers.walking.settling import copied, correct, downstream, walk
from onnxeq.layers.walking.twins import weighty
from onnxeq.referee.frames import Entry

__all__ = ["align"]


_MOST_DEPARTURES = 24


def align(
    artifact: Program,
    reference: Program,
    theirs: Mapping[str, Entry],
    inputs: Mapping[str, Entry],
    input_pairs: Mapping[str, str],
    output_pairs: Mapping[str, str],
    *,
    names: bool = True,
) -> Alignment:
    """Walks the artifact beside the reference.

    Args:
        artifact: What is judged.
        reference: What it is held against.
        theirs: All values of a run of the reference.
        inputs: The artifact's inputs in the same run.
        input_pairs: Artifact's input -> the reference's.
        output_pairs: Artifact's output -> the reference's.
        names: Whether names may tell which value is which, where the two graphs share them.
    """
    arrays = {
        name: entry.value
        for name, entry in theirs.items()
        if isinstance(entry.value, np.ndarray) and name not in reference.constant and entry.value.size
    }
    weights = {n: theirs[n].value for n in reference.constant if n in theirs and weighty(theirs[n].value)}
    fresh = Alignment(
        artifact, reference, theirs, dict(artifact.stored) | dict(inputs), names and shares_names(artifact, reference),
        outputs=output_pairs, pool=Pool(arrays), weights=Pool(weights),
        exact=frozenset(digest(theirs[n].value) for n in reference.constant if n in theirs),
    )  # fmt: skip
    for name in inputs:
        fresh.states[name] = State.SAME
        fresh.counterparts[name] = Counterpart(input_pairs.get(name, name))
    plain = _aligned(copied(fresh))
    if plain.by_name or plain.share >= (_MOST_IN_PLACE_TURNED if _turns(reference) else _MOST_IN_PLACE):
        return plain
    # Another convention (channels last): the same values, with their axes in another order.
    return max(plain, _aligned(replace(copied(fresh), free_layout=True)), key=lambda a: a.share)


_MOST_IN_PLACE = 0.5
"""Share of the artifact's values that the reference has, from which on both keep their axes in one order."""

_MOST_IN_PLACE_TURNED = 0.95
"""The same where the reference turns values back and forth: it may hold in both orders what the artifact has in one."""


def _turns(program: Program) -> bool:
    """Whether a graph moves the channels of images, first to last or back."""
    perms = [tuple(a.ints) for n in program.nodes if n.op_type == "Transpose" for a in n.attribute if a.name == "perm"]
    return any(perm in ((0, 2, 3, 1), (0, 3, 1, 2)) for perm in perms)


def _aligned(found: Alignment) -> Alignment:
    """Walks, corrects the first departure that has no counterpart by name, and walks on from there."""
    artifact = found.artifact
    walk(found, range(len(artifact.nodes)))
    given_up: set[str] = set()
    while len(found.departures) < _MOST_DEPARTURES:
        lost = next((name for name in frontier(found) if name not in given_up), None)
        if lost is None:
            break
        departure = hypothesis(found, lost)
        found.departures.append(departure)
        if departure.counterpart is None:
            given_up.add(lost)
            continue
        correct(found, lost, departure.counterpart)
        walk(found, downstream(artifact, lost))
    return found
