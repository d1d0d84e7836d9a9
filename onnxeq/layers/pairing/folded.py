"""What tools fold into weights: where a Conv in one graph is a Conv with a BatchNormalization behind it in another."""

from __future__ import annotations

from onnxeq.layers.pairing.content import Content

__all__ = ["AFFINE", "fold_end", "fold_start"]

AFFINE = frozenset({"BatchNormalization", "Mul", "Add", "Sub", "Div"})
"""Operators that go into the weights of the one before where their other operands are constant."""

_FOLDS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators whose weights take them."""


def fold_end(mine: Content, here: int, theirs: Content, there: int) -> tuple[str, str] | None:
    """The values behind two nodes of one operator that are the same, where something was folded into one of them.

    ``None`` where nothing was: their results are the same.
    """
    if mine.nodes[here].op_type not in _FOLDS or mine.sides[here] == theirs.sides[there]:
        return None
    a, b = _chain(mine, here), _chain(theirs, there)
    kinds = [mine.nodes[n].op_type for n in a], [theirs.nodes[n].op_type for n in b]
    if kinds[0] == kinds[1]:
        return None
    while len(a) > 1 and len(b) > 1 and mine.nodes[a[-1]].op_type == theirs.nodes[b[-1]].op_type:
        a.pop()
        b.pop()
    return mine.outputs[a[-1]][0], theirs.outputs[b[-1]][0]


def _chain(content: Content, node: int) -> list[int]:
    """A node and those behind it that could go into its weights."""
    found = [node]
    while True:
        name = content.outputs[found[-1]][0]
        readers = {n for n, _ in content.readers.get(name, ())}
        if name in content.ends or len(readers) != 1:
            return found
        following = readers.pop()
        if not _affine(content, following):
            return found
        found.append(following)


def _affine(content: Content, node: int) -> bool:
    return content.nodes[node].op_type in AFFINE and len(content.data(node)) == 1


def fold_start(content: Content, node: int) -> int | None:
    """The node into whose weights this one and those before it could go; itself if it is one."""
    while content.nodes[node].op_type not in _FOLDS:
        if not _affine(content, node):
            return None
        before = content.makers.get(content.data(node)[0])
        if before is None:
            return None
        node = before[0]
    return node
