"""Goldens in a test suite: what ``--golden`` means for one that is there, one that is missing, one that changed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxeq.compat import StrEnum
from onnxeq.errors import OnnxeqError, UsageError

if TYPE_CHECKING:
    from onnxeq.golden.findings import Outcome
    from onnxeq.golden.store import Stored
    from onnxeq.types import Feed

__all__ = ["Asked", "Mode", "hold"]


class Mode(StrEnum):
    """The values of ``--golden``. None overwrites an accepted golden."""

    AUTO = "auto"
    """Compare; what is missing or changed is written beside, to be reviewed, unless ``CI`` is set."""
    NO = "no"
    """Compare and write nothing."""
    NEW = "new"
    """Record what is missing, compare the rest."""
    ALWAYS = "always"
    """Compare, and write beside whatever has other bits, also within the error bar."""
    REVIEW = "review"
    """Compare, write beside, and list everything that waits at the end."""

    @property
    def writes(self) -> bool:
        """Whether what changed is written beside the accepted golden."""
        return self is not Mode.NO and not (self is Mode.AUTO and os.environ.get("CI"))


@dataclass(frozen=True)
class Asked:
    """What a test asks.

    Attributes:
        model: A reference, a path, or a live model.
        name: Of the golden.
        folder: Of the goldens.
        mode: What is done about a missing or changed one.
        inputs: Feeds; none to have them generated when it is recorded.
        options: What else :func:`onnxeq.golden.record` takes.
    """

    model: object
    name: str
    folder: Path
    mode: Mode
    inputs: tuple[str | os.PathLike[str] | Feed, ...]
    options: Mapping[str, Any]


def hold(asked: Asked) -> Outcome | None:
    """Compares with the golden, or does about a missing one what the mode says.

    Returns:
        What the comparison found; ``None`` for a golden that was recorded just now.

    Raises:
        AssertionError: It changed, it is missing, or the test feeds something else than was recorded.
        onnxeq.errors.OnnxeqError: Something that the caller can mend, or that cannot be run.
    """
    __tracebackhide__ = True
    from onnxeq.golden import store

    if not store.exists(asked.folder, store.check_name(asked.name)):
        if asked.mode is not Mode.NEW:
            raise AssertionError(_missing(asked))
        if _recorded(asked):
            return None
    _check_inputs(asked, store.read(asked.folder, asked.name))
    outcome, complaints = _compared(asked)
    if (outcome.failed and not outcome.known) or complaints:
        raise AssertionError(_failure(asked, outcome, complaints))
    if asked.mode is Mode.ALWAYS and not all(d.same for d in outcome.distances):
        _propose(asked)
    return outcome


def _recorded(asked: Asked) -> bool:
    """Records a missing golden; false where another process was faster."""
    from onnxeq.golden import record, store

    try:
        record(asked.model, asked.name, folder=asked.folder, inputs=asked.inputs, wait=True, **asked.options)
    except UsageError:
        if store.exists(asked.folder, asked.name):
            return False
        raise
    return True


def _propose(asked: Asked) -> None:
    from onnxeq.golden import record

    record(asked.model, asked.name, folder=asked.folder, inputs=asked.inputs, pending=True, **asked.options)


def _missing(asked: Asked) -> str:
    said = f"there is no golden '{asked.name}' in {asked.folder}"
    if not asked.mode.writes:
        return f"{said}\nnext: run the tests here with --golden=new, and commit what they write"
    try:
        _propose(asked)
    except OnnxeqError as error:
        return f"{said}, and none can be made: {error.line()}"
    return f"{said}; what would be one is written beside and waits\n{_next(asked)}"


def _next(asked: Asked) -> str:
    there = "" if asked.folder.resolve() == (Path.cwd() / "golden").resolve() else f" --dir {_short(asked.folder)}"
    return f"next: onnxeq golden review {asked.name}{there}"


def _short(folder: Path) -> str:
    here = Path.cwd()
    return str(folder.relative_to(here)) if folder.is_relative_to(here) else str(folder)


def _compared(asked: Asked) -> tuple[Outcome, list[str]]:
    """What was found, and what the list of known discrepancies has against it."""
    from onnxeq.golden import check

    taken = {k: v for k, v in asked.options.items() if k in ("runner", "provider", "exporter", "opset", "trust", "env")}
    checked = check(
        [asked.name], folder=asked.folder, sources={asked.name: asked.model}, keep_pending=asked.mode.writes,
        timeout_s=asked.options.get("timeout_s"), **taken,
    )  # fmt: skip
    return checked.outcomes[0], [text for text in checked.complaints if f"'{asked.name}'" in text]


def _failure(asked: Asked, outcome: Outcome, complaints: Sequence[str]) -> str:
    from onnxeq.golden.findings import Checked
    from onnxeq.report.golden import check_lines

    lines = list(check_lines(Checked(str(asked.folder), (outcome,), tuple(complaints))))
    told = [line for line in lines if not line.startswith(("1 goldens", "next:"))]
    return "\n".join([*told, _next(asked)] if outcome.pending else told)


def _check_inputs(asked: Asked, stored: Stored) -> None:
    """Holds what the test gives against what was recorded: other inputs would make it another golden."""
    import numpy as np

    from onnxeq.golden import feeds as feeds_
    from onnxeq.sides import Request

    given = Request.of(asked.inputs, None).feeds
    if not given:
        return
    held = feeds_.of_golden(stored.golden.inputs, stored.arrays, asked.folder)
    same = len(given) == len(held) and all(
        len(ours) == len(theirs)
        and all(
            np.array_equal(a, theirs.get(name, b)) for (name, a), b in zip(ours.items(), theirs.values(), strict=True)
        )
        for ours, theirs in zip(given, held, strict=True)
    )
    if same:
        return
    said = f"the test feeds other inputs than golden '{asked.name}' was recorded with"
    if not asked.mode.writes:
        raise AssertionError(said)
    _propose(asked)
    raise AssertionError(f"{said}; what they give is written beside and waits\n{_next(asked)}")
