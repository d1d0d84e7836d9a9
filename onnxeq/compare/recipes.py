"""By which recipe each of the compared models has its pictures prepared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from onnxeq.compare.sources import Source
from onnxeq.errors import NoRecipe, UsageError
from onnxeq.jobs import Jobs
from onnxeq.preprocessing.pictures import Prepared, of_reference, prepared

__all__ = ["Recipes"]


@dataclass(frozen=True)
class Recipes:
    """What the user says of recipes.

    Attributes:
        of_all: For models without one of their own; empty for none.
        of_one: A model's reference -> its recipe.
    """

    of_all: str = ""
    of_one: Mapping[str, str] | None = None

    @classmethod
    def of(cls, given: Sequence[str], sources: Sequence[Source]) -> Recipes:
        """Reads ``RECIPE`` and ``REF=RECIPE``.

        Raises:
            UsageError: A reference that is not compared, or two recipes for the same.
        """
        known = {name for source in sources for name in (source.side.ref, source.side.name)}
        found: dict[str, str] = {}
        for text in given:
            ref, equals, recipe = text.partition("=")
            place, said = (ref, recipe) if equals else ("", text)
            if place and place not in known:
                raise UsageError(f"--recipe {text}: {place} is not compared", hint=f"name one of {', '.join(known)}")
            if place in found:
                raise UsageError(f"--recipe {text}: {place or 'all'} has a recipe already", hint="give one of them")
            found[place] = said
        return cls(found.pop("", ""), found)

    def name_for(self, source: Source) -> str:
        """The recipe that the user names for this model alone; empty where there is none."""
        named = self.of_one or {}
        return named.get(source.side.ref) or named.get(source.side.name) or ""

    def prepared(self, jobs: Jobs, source: Source, pictures: Sequence[Path]) -> Prepared:
        """The pictures as that model takes them.

        Raises:
            NoRecipe: Nothing says how.
            onnxeq.errors.OnnxeqError: What the zoo says.
        """
        if named := self.name_for(source):
            return prepared(jobs, named, pictures)
        try:
            return of_reference(jobs, source.ref, pictures)
        except NoRecipe:
            if not self.of_all:
                raise
            return prepared(jobs, self.of_all, pictures)
