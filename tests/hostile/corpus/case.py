"""What a hostile file is to the tests: how it is made, and what must come of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Case", "Shelf"]


@dataclass(frozen=True)
class Case:
    """One attack.

    Attributes:
        name: For the test's id.
        build: Writes the files into a folder and returns the arguments that follow the command.
        says: What the one line must hold.
        statuses: The exit statuses that are right.
        slow: Whether a framework has to be loaded, or a job has to be stopped.
    """

    name: str
    build: Callable[[Path], list[str]]
    says: str
    statuses: tuple[int, ...] = (2,)
    slow: bool = False


class Shelf:
    """Collects the cases of a module."""

    def __init__(self) -> None:
        self.cases: list[Case] = []

    def add(
        self, says: str, *statuses: int, slow: bool = False
    ) -> Callable[[Callable[[Path], list[str]]], Callable[[Path], list[str]]]:
        """Marks a builder as a case; the statuses default to 2, unusable input."""

        def keep(build: Callable[[Path], list[str]]) -> Callable[[Path], list[str]]:
            self.cases.append(Case(build.__name__.replace("_", "-"), build, says, statuses or (2,), slow))
            return build

        return keep
