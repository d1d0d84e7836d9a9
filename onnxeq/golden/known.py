"""``known_discrepancies.toml``: goldens that are expected to fail, each with its reason.

::

    [[known]]
    golden = "resnet18"
    reason = "onnxruntime 1.23 fuses the last Conv, see issue 12"
    cause = "runtime"        # may be left out: any cause
    until = "2027-01-31"     # may be left out: for ever

An expected failure that does not happen is a failure: the list says what is the case, or it is worth nothing.
"""

from __future__ import annotations

import datetime
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from onnxeq.errors import UnusableGolden
from onnxeq.golden.codec import value_from
from onnxeq.golden.findings import CauseKind, Outcome
from onnxeq.golden.values import Verdict

__all__ = ["FILE", "Known", "applied", "load"]

FILE = "known_discrepancies.toml"

_EXCUSED = (Verdict.CHANGED, Verdict.SUSPECT)


@dataclass(frozen=True)
class Known:
    """One entry.

    Attributes:
        golden: The name.
        reason: Why it fails, for the reader.
        cause: A kind of cause; empty for any.
        until: The last day on which it is expected, ``YYYY-MM-DD``; empty for ever.
    """

    golden: str
    reason: str
    cause: str = ""
    until: str = ""


def load(folder: Path) -> tuple[Known, ...]:
    """The entries of a folder; none where there is no such file.

    Raises:
        UnusableGolden: It cannot be read, or an entry is not whole.
    """
    path = folder / FILE
    hint = 'an entry is [[known]] with golden = "NAME" and reason = "..."'
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UnusableGolden(f"{FILE} cannot be read: {error}", hint=hint) from None
    rows = table.pop("known", [])
    if table or not isinstance(rows, list):
        raise UnusableGolden(f"{FILE} holds other things than [[known]]: {', '.join(table) or 'known'}", hint=hint)
    entries: list[Known] = []
    for number, row in enumerate(rows):
        entry = value_from(Known, row, f"{FILE}, entry {number + 1}")
        if entry.cause and entry.cause not in list(CauseKind):
            raise UnusableGolden(f"{FILE}: '{entry.cause}' is no cause", hint=f"one of {', '.join(CauseKind)}")
        try:
            _last_day(entry)
        except ValueError:
            raise UnusableGolden(f"{FILE}: until = '{entry.until}' is no day", hint="write YYYY-MM-DD") from None
        if not entry.reason.strip():
            raise UnusableGolden(f"{FILE}: the entry of '{entry.golden}' gives no reason", hint=hint)
        entries.append(entry)
    return tuple(entries)


def _last_day(entry: Known) -> datetime.date:
    return datetime.date.fromisoformat(entry.until) if entry.until else datetime.date.max


def applied(
    entries: Sequence[Known], outcomes: Sequence[Outcome], there: Sequence[str], day: datetime.date
) -> tuple[tuple[Outcome, ...], tuple[str, ...]]:
    """Outcomes with the reasons of those that were expected, and what is wrong with the entries.

    Args:
        entries: The list.
        outcomes: Of the goldens that were checked.
        there: Every golden of the folder.
        day: Today.
    """
    checked = {o.name: o for o in outcomes}
    reasons: dict[str, str] = {}
    complaints = [
        f"{FILE}: there is no golden '{e.golden}': remove the entry" for e in entries if e.golden not in there
    ]
    for name in dict.fromkeys(e.golden for e in entries if e.golden in checked):
        outcome, mine = checked[name], [e for e in entries if e.golden == name]
        for entry in mine:
            if _last_day(entry) < day:
                complaints.append(f"{FILE}: the entry of '{name}' ended on {entry.until}: mend it, or remove the entry")
        live = [e for e in mine if _last_day(e) >= day]
        fitting = [e for e in live if not e.cause or e.cause in [c.kind for c in outcome.causes]]
        if outcome.verdict in _EXCUSED and fitting:
            reasons[name] = fitting[0].reason
        elif live and not outcome.failed:
            said = f"'{name}' was expected to fail ({live[0].reason}) and is {outcome.verdict}"
            complaints.append(f"{FILE}: {said}: remove the entry")
    marked = tuple(replace(o, known=reasons[o.name]) if o.name in reasons else o for o in outcomes)
    return marked, tuple(complaints)
