"""What a report says of how pictures became inputs."""

from __future__ import annotations

from onnxeq.preprocessing.recipe import Cast, Decode, recipe_from_record, words
from onnxeq.types import Report, Status

__all__ = ["recipes"]


def recipes(report: Report) -> list[str]:
    """The recipes step by step, and what they have to do with one another; empty for inputs that are no pictures."""
    told = report.preprocessing
    if not told:
        return []
    lines = []
    for side, ran in (("source", "pictures"), ("target", "deployed")):
        if side in told:
            recipe = recipe_from_record(told[side]["recipe"])
            note = f" ({recipe.note})" if recipe.note else ""
            said = "; ".join(words(step) for step in recipe.steps if step not in _USUAL)
            lines.append(f"{ran} by {told[side]['ref']}: {said}{note}")
    passed = (r for r in report.rungs if r.name == "preprocessing" and r.status is Status.PASS and r.reason)
    return lines + [f"preprocessing: {rung.reason}" for rung in passed]


_USUAL = (Decode(), Cast("float32"))
"""Steps that go without saying."""
