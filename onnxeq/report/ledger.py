"""The ledger on a terminal: the counts, the faults in words, and a line for each constant."""

from __future__ import annotations

from collections import Counter

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from onnxeq.weighing import unexecuted
from onnxeq.weights.types import Entry, EntryStatus, Ledger, Relation

__all__ = ["render", "show"]

_STYLE = {
    EntryStatus.OK: "",
    EntryStatus.NEAR_MISS: "bold red",
    EntryStatus.UNREAD: "bold red",
    EntryStatus.ORPHAN: "yellow",
    EntryStatus.UNEXPLAINED: "yellow",
}


def show(ledger: Ledger, console: Console, *, every: bool = False) -> None:
    """Prints :func:`render`'s screen."""
    console.print(render(ledger, every=every))


def render(ledger: Ledger, *, every: bool = False) -> RenderableType:
    """The whole screen; ``every`` also lists the exporter's own constants and native tensors that no graph needs."""
    faults = unexecuted(ledger)
    head = Text(f"{len(faults)} faults" if faults else "accounted for", style="bold red" if faults else "bold green")
    head.append(
        f"  {ledger.natives_accounted} of {ledger.natives_total} native tensors, {ledger.initializers_accounted} of"
        f" {ledger.initializers_total} constants",
        style="default",
    )
    counts = Counter(e.relation.value for e in ledger.entries)
    parts: list[RenderableType] = [head, Text("  " + ", ".join(f"{n} {name}" for name, n in counts.most_common()))]
    for entry in ledger.entries:
        if entry.status is not EntryStatus.OK:
            doubt = (
                "" if entry.sure or entry in faults else " (unless it was merged with something: onnxeq check tells)"
            )
            parts.append(Text.assemble((f"  {entry.status.value}", _STYLE[entry.status]), f": {entry.evidence}{doubt}"))
    return Group(*parts, Text(), _table(ledger, every))


def _table(ledger: Ledger, every: bool) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    for column in ("constant", "from", "how", "read by"):
        table.add_column(column, overflow="fold")
    table.add_column("")
    for entry in ledger.entries:
        if every or entry.relation not in (Relation.GENERATED, Relation.UNUSED):
            table.add_row(*_row(entry), Text(entry.status.value, style=_STYLE[entry.status]))
    return table


def _row(entry: Entry) -> tuple[str, str, str, str]:
    shown = ", ".join(entry.natives[:3]) + (f" and {len(entry.natives) - 3} more" if len(entry.natives) > 3 else "")
    how = f"{entry.relation.value} ({entry.transform})" if entry.transform else entry.relation.value
    return entry.initializer or "-", shown or "-", how, f"{entry.op_type} {entry.node}".strip()
