"""By which recipe each of the compared models has its pictures prepared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from onnxeq.compare.sources import Source
from onnxeq.errors import NoRecipe, UsageError
from onnxeq.jobs import Jobs
from onnxeq.preprocessing.pictures import Prepared, of_reference, prepared

__all__ = ["prepared_for", "recipes_by_model"]


def recipes_by_model(recipes: Sequence[str], models: Sequence[str]) -> dict[str, str]:
    """Model, as the user wrote it, -> its recipe; under the empty name, that of models without one of their own.

    Args:
        recipes: Each ``RECIPE``, for models without one, or ``MODEL=RECIPE``.
        models: As the user wrote them.

    Raises:
        UsageError: A model that is not compared, or two recipes for the same.
    """
    found: dict[str, str] = {}
    for text in recipes:
        model = max((name for name in models if text.startswith(f"{name}=")), key=len, default="")
        name = text[len(model) + 1 :] if model else text
        if not model and "=" in text and not Path(text).is_file():
            said = f"'{text.partition('=')[0]}' is none of the models, so that '{text}' is no recipe of one"
            raise UsageError(said, hint=f"the models are {', '.join(models)}")
        if model in found:
            of = f"for {model}" if model else "for models without one"
            raise UsageError(f"two recipes are given {of}: {found[model]} and {name}", hint="write MODEL=RECIPE")
        found[model] = name
    return found


def prepared_for(
    jobs: Jobs, source: Source, recipes: Mapping[str, str], pictures: Sequence[Path], *, trust: bool
) -> Prepared:
    """The pictures as a model takes them: by the recipe that the user names for it, its own, or that for all others.

    Raises:
        NoRecipe: Nothing says how.
        onnxeq.errors.OnnxeqError: What the zoo says.
    """
    if named := recipes.get(source.side.ref):
        return prepared(jobs, named, pictures, trust=trust)
    try:
        return of_reference(jobs, source.ref, pictures, trust=trust)
    except NoRecipe:
        if not recipes.get(""):
            raise
        return prepared(jobs, recipes[""], pictures, trust=trust)
