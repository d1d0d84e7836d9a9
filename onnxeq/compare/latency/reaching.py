"""What accuracy costs: which models are worth their time, and which reaches an accuracy first."""

from __future__ import annotations

from collections.abc import Mapping

from onnxeq.compare.latency.values import Latency, Reached

__all__ = ["reached"]


def reached(accuracy: Mapping[str, float], latency: Latency) -> tuple[Reached, ...]:
    """Each model by accuracy and milliseconds per item, the most accurate first, for each runtime and batch size.

    A model is on the front when none is at least as good in both respects and better in one.

    Args:
        accuracy: Model -> the share of items that it gets right.
        latency: What the models cost; those without an accuracy are left out.
    """
    found: list[Reached] = []
    groups = dict.fromkeys((f.of.runtime, f.of.batch) for f in latency.figures)
    for runtime, batch in groups:
        figures = [f for f in latency.figures if (f.of.runtime, f.of.batch) == (runtime, batch)]
        costs = {f.of: f.median_ms / batch for f in figures if f.of.model in accuracy}
        right = {of: accuracy[of.model] for of in costs}
        for of in sorted(costs, key=lambda each: (-right[each], costs[each])):
            beaten = any(
                right[o] >= right[of] and costs[o] <= costs[of] and (right[o] > right[of] or costs[o] < costs[of])
                for o in costs
            )
            fastest = min((o for o in costs if right[o] >= right[of]), key=lambda each: costs[each])
            found.append(Reached(of, right[of], costs[of], not beaten, fastest.model))
    return tuple(found)
