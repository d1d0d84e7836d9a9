"""The verdict table of a comparison: for each pair the discrepancy in architecture, outputs, accuracy and latency.

After Montes et al., "Discrepancies among Pre-trained Deep Neural Networks" (ESEC/FSE 2022), who measured accuracy,
latency and architecture of the same networks in several zoos. What counts as a discrepancy:

- accuracy: McNemar's exact test, corrected for the number of pairs, says that chance does not explain it;
- latency: the interval of the ratio excludes 1, and the ratio is further from it than
  :data:`onnxeq.compare.latency.values.SHARE`;
- outputs: more than rounding explains (:mod:`onnxeq.compare.function`);
- architecture: the canonical graphs are not one graph.

Ranked by accuracy first, then latency, then architecture, then outputs, each by size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from onnxeq.compare.accuracy.values import Accuracy, Contest
from onnxeq.compare.latency.values import Latency, Ratio
from onnxeq.compare.values import Comparison, Pair, Same, Side

__all__ = ["Discrepancy", "discrepancies"]


@dataclass(frozen=True)
class Discrepancy:
    """One pair of the table.

    Attributes:
        pair: The two models, their architectures and outputs.
        accuracy: On the labelled items; ``None`` where there were none.
        latency: Of the runtime and batch size in which they are furthest apart; ``None`` where they were not timed.
        causes: What makes each discrepancy, in words; the architecture's list stands in the pair.
    """

    pair: Pair
    accuracy: Contest | None
    latency: Ratio | None
    causes: tuple[str, ...]

    @property
    def points(self) -> float:
        """By how many points of top-1 accuracy the left model is ahead; 0 without items."""
        found = self.accuracy
        return 0.0 if found is None else 100 * (found.only_left - found.only_right) / found.items


def discrepancies(comparison: Comparison) -> tuple[Discrepancy, ...]:
    """The rows of the table, the worst first."""
    sides = {side.name: side for side in comparison.sides}
    found = [_row(pair, comparison.accuracy, comparison.latency, sides) for pair in comparison.pairs]
    return tuple(sorted(found, key=_rank))


def _row(pair: Pair, accuracy: Accuracy | None, latency: Latency | None, sides: dict[str, Side]) -> Discrepancy:
    contest = _contest(pair, accuracy)
    ratio = _furthest([r for r in (latency.pairs if latency else ()) if _is_of(pair, r.left.model, r.right.model)])
    causes = []
    if contest is not None and contest.discrepancy:
        causes.append(f"accuracy: {_of_accuracy(pair, accuracy)}")
    if ratio is not None and ratio.discrepancy:
        causes.append(f"latency: {_of_latency(sides[ratio.left.model], sides[ratio.right.model])}")
    if origins := pair.origins():
        causes.append(f"outputs: {' + '.join(origins)}")
    return Discrepancy(pair, contest, ratio, tuple(causes))


def _is_of(pair: Pair, left: str, right: str) -> bool:
    return {pair.left, pair.right} == {left, right}


def _contest(pair: Pair, accuracy: Accuracy | None) -> Contest | None:
    """The pair's accuracies, left as in the pair."""
    for found in accuracy.pairs if accuracy else ():
        if (found.left, found.right) == (pair.left, pair.right):
            return found
        if _is_of(pair, found.left, found.right):
            return Contest(
                pair.left, pair.right, found.both, found.only_right, found.only_left, found.neither, found.agree,
                found.p, found.corrected,
            )  # fmt: skip
    return None


def _furthest(ratios: Sequence[Ratio]) -> Ratio | None:
    """The ratio that is furthest from 1, discrepancies first."""
    return max(ratios, key=lambda r: (r.discrepancy, abs(math.log(r.ratio))), default=None)


def _of_accuracy(pair: Pair, accuracy: Accuracy | None) -> str:
    """What makes one model more often right: a recipe where exchanging it changes that, else what its outputs say."""
    for swap in accuracy.swaps if accuracy else ():
        if swap.matters and _is_of(pair, swap.model, swap.recipe):
            return f"preprocessing ({'; '.join(swap.differences)})"
    unlike = "another architecture" if pair.same is Same.DIFFERENT else "weights"
    return " + ".join(pair.origins()) or unlike


def _of_latency(left: Side, right: Side) -> str:
    """What makes one model slower: its size, as far as that tells."""
    ours, theirs = left.architecture.macs, right.architecture.macs
    if not ours or not theirs:
        return "sizes are not known"
    if abs(math.log(ours / theirs)) < math.log(1.02):
        return "the same number of MACs: how the layers are built and run"
    return f"{ours / theirs:.3g} times the MACs"


_SAME = {Same.DIFFERENT: 0, Same.EQUIVALENT: 1, Same.IDENTICAL: 2}


def _rank(row: Discrepancy) -> tuple[float, float, int, int, float]:
    accuracy = abs(row.points) if row.accuracy is not None and row.accuracy.discrepancy else 0.0
    latency = abs(math.log(row.latency.ratio)) if row.latency is not None and row.latency.discrepancy else 0.0
    outputs = row.pair.function.total.relative if row.pair.function is not None and row.pair.origins() else 0.0
    return -accuracy, -latency, _SAME[row.pair.same], -len(row.pair.differences), -outputs
