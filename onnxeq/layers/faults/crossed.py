"""Two operands that stand in each other's place: told once, at the node whose results were exchanged."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from onnxeq.layers.faults.differences import Edit, EditKind
from onnxeq.layers.walking.alignment import Alignment

__all__ = ["crossing"]

_CARRIES = frozenset("Transpose Reshape Squeeze Unsqueeze Flatten Identity Cast Expand Mul Div".split())
"""Operators between a node with several results and those who use them."""


def crossing(found: Alignment, edits: Sequence[Edit | None]) -> tuple[int, int, int] | None:
    """Two differences of which each reads what the other should, and the node with several results that made both.

    Args:
        found: The walk.
        edits: For each departure the one difference that explains it, if it is one.

    Returns:
        The indices of both and the node's position; ``None`` where there are no such two.
    """
    single = [(i, e) for i, e in enumerate(edits) if e is not None and e.kind is EditKind.OPERAND and len(e.mine) == 1]
    for (i, one), (j, two) in itertools.combinations(single, 2):
        a, b = found.counterparts.get(one.mine[0]), found.counterparts.get(two.mine[0])
        if a is None or b is None or a.name != two.theirs[0] or b.name != one.theirs[0]:
            continue
        fork = _fork(found, one.mine[0])
        if fork is not None and fork == _fork(found, two.mine[0]):
            return i, j, fork
    return None


def _fork(found: Alignment, name: str) -> int | None:
    """The nearest node with several results that a value was carried on from."""
    program = found.artifact
    while (position := program.makers.get(name)) is not None:
        node = program.nodes[position]
        if sum(bool(n) for n in node.output) > 1:
            return position
        operands = [n for n in program.operands(position) if n == node.input[0]]
        if node.op_type not in _CARRIES or not operands:
            return None
        name = operands[0]
    return None
