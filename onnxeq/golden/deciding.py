"""Decisions about goldens: what is accepted, rejected, or taken away."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from onnxeq.errors import OnnxeqError, UnusableGolden, UsageError
from onnxeq.golden import store
from onnxeq.golden.building import today_text
from onnxeq.golden.checking import reference
from onnxeq.golden.values import Golden, Note

__all__ = ["accept", "listed", "pending", "prune", "reject"]


def accept(name: str, *, because: str, folder: str | os.PathLike[str] = store.DEFAULT_FOLDER) -> Golden:
    """Makes the record that waits the accepted one.

    Args:
        name: The golden.
        because: Why; it is kept in the record.
        folder: Where goldens lie.

    Raises:
        onnxeq.errors.UsageError: Nothing waits, no reason is given, or what waits was held against another golden.
        onnxeq.errors.UnusableGolden: What waits is damaged.
    """
    root = Path(folder)
    if not because.strip():
        raise UsageError("an acceptance needs a reason", hint=f'onnxeq golden accept {name} --because "..."')
    with store.locked(root, store.check_name(name), wait=True):
        waiting = store.read(root, name, pending=True).golden
        said = waiting.pending[0] if waiting.pending else None
        if said is None or (store.exists(root, name) and store.record_sha256(root, name) != said.against):
            hint = f"onnxeq golden check {name} makes a new one"
            raise UsageError(f"what waits for '{name}' was held against another golden than the accepted", hint=hint)
        found = "; ".join(said.causes) or str(said.verdict)
        history = (*waiting.history, Note(today_text(), " ".join(because.split()), found))
        return store.commit(root, replace(waiting, pending=(), history=history), None)


def reject(name: str, *, folder: str | os.PathLike[str] = store.DEFAULT_FOLDER) -> None:
    """Takes the record that waits away; the accepted golden stays as it is.

    Raises:
        onnxeq.errors.UsageError: Nothing waits.
    """
    root = Path(folder)
    if store.check_name(name) not in store.pending_names(root):
        store.read(root, name, pending=True)  # says what to type
    with store.locked(root, name, wait=True):
        store.remove_pending(root, name)


def pending(folder: str | os.PathLike[str] = store.DEFAULT_FOLDER) -> tuple[Golden, ...]:
    """The records that wait for a decision, by name.

    Raises:
        onnxeq.errors.UnusableGolden: One is damaged.
    """
    root = Path(folder)
    return tuple(store.read(root, name, pending=True).golden for name in store.pending_names(root))


def listed(folder: str | os.PathLike[str] = store.DEFAULT_FOLDER) -> tuple[tuple[str, Golden | UnusableGolden], ...]:
    """Every accepted golden of a folder, or what is wrong with it."""
    root = Path(folder)
    found: list[tuple[str, Golden | UnusableGolden]] = []
    for name in store.names(root):
        try:
            found.append((name, store.read(root, name).golden))
        except UnusableGolden as error:
            found.append((name, error))
    return tuple(found)


def prune(
    folder: str | os.PathLike[str] = store.DEFAULT_FOLDER, *, unused: Sequence[str] = (), dry_run: bool = False
) -> tuple[str, ...]:
    """Removes goldens whose model is gone, and those that the caller knows to be unused.

    Args:
        folder: Where they lie.
        unused: Names of goldens that nothing asks for: only a test suite knows that of a live model's.
        dry_run: Whether they are only named.

    Returns:
        Their names.
    """
    root = Path(folder)
    going = [name for name in store.names(root) if name in unused or _is_stale(root, name)]
    for name in () if dry_run else going:
        with store.locked(root, name, wait=True):
            store.remove(root, name)
    return tuple(going)


def _is_stale(root: Path, name: str) -> bool:
    try:
        golden = store.read(root, name).golden
    except OnnxeqError:
        return False  # damaged, which is not for us to take away
    if golden.model.startswith("live:"):
        return False
    try:
        reference(golden.model, root)
    except UsageError:
        return True
    return False
