"""What is told of a model of ``digits:``, without a framework."""

from __future__ import annotations

import math

from onnxeq.errors import NoRecipe
from onnxeq.protocols import Fact, ModelCard
from onnxeq_converters.digits import RIGHT, SEEDS, TESTED, architecture_of, entries, shipped

__all__ = ["card", "no_recipe"]

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def card(name: str, prefix: str = "") -> ModelCard:
    """The row of the catalogue, with accuracy as it was measured when the weights were made.

    Args:
        name: Of the model, without the zoo.
        prefix: How names of the asking framework begin.

    Raises:
        UnknownModel: With the nearest names in the hint.
    """
    architecture = architecture_of(name, prefix)
    entry = next(e for e in entries() if e.name == name)
    stored = shipped(architecture, "pretrained")
    weights = {n: v for n, v in stored.items() if n.rpartition(".")[2] not in _STATISTICS}
    accuracy = {f"@{kind} top-1": round(100 * right / TESTED, 2) for kind, right in RIGHT[architecture].items()}
    facts = {
        "accuracy": Fact(accuracy, f"measured on the {TESTED} test pictures by onnxeq_converters.digits.train"),
        "licence": Fact("Apache-2.0", "of onnxeq, which holds code and weights; the pictures are scikit-learn's copy"),
        "parameters": Fact(sum(math.prod(v.shape) for v in weights.values()), "the stored weights"),
        "weights": Fact(
            f"{', '.join(f'@{kind}' for kind in SEEDS)} come with onnxeq: no network needed", "the package"
        ),
    }
    return ModelCard(entry, facts)


def no_recipe(name: str) -> NoRecipe:
    """Why no picture becomes an input of these models."""
    said = f"digits:{name} takes scikit-learn's 8x8 arrays of greys, divided by 16, and no files of pictures"
    return NoRecipe(said, hint="give arrays: --inputs FILE.npz with 'image', float32[N,8,8] from 0 to 1")
