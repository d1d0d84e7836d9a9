"""Goldens on disk: a folder of records and arrays that is whole at every moment.

==============================  ===========================================================
``NAME.toml``                   the accepted record
``NAME.new.toml``               a record that waits for a decision
``NAME.<12 digits>.safetensors``  arrays, named by their SHA-256
``.onnxeq/``                    locks and files that are being written; nothing to keep
==============================  ===========================================================

1. Arrays are written under a name of their own and renamed into place before the record that names them: the record's
   rename is the moment from which the golden is the new one. A process that is killed leaves the old or the new.
2. Whoever writes holds the golden's lock, which ends with the process. So what it finds half written or named by no
   record is nobody's, and is removed.
3. A first record is linked into place, which fails where there is one: nothing is overwritten even without the lock.
"""

from __future__ import annotations

import contextlib
import os
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from onnxeq.envs import locks
from onnxeq.errors import UnusableGolden, UsageError
from onnxeq.golden import arrays_file, record_file
from onnxeq.golden.values import Golden
from onnxeq.golden.whole import hold
from onnxeq.types import Array

__all__ = [
    "DEFAULT_FOLDER", "Stored", "check_name", "commit", "exists", "locked", "names", "pending_names", "read",
    "record_sha256", "remove", "remove_pending",
]  # fmt: skip

DEFAULT_FOLDER = "golden"
"""Where goldens lie unless ``--dir`` says otherwise."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,119}")
_ARRAYS = re.compile(r"\.[0-9a-f]{12}\.safetensors")
_OWN = ".onnxeq"
_KNOWN = "known_discrepancies"


@dataclass(frozen=True)
class Stored:
    """A golden as it was read.

    Attributes:
        golden: The record.
        arrays: Its arrays.
        sha256: Of the record's text.
    """

    golden: Golden
    arrays: Mapping[str, Array]
    sha256: str


def check_name(name: str) -> str:
    """The name, made sure that it can be a file's.

    Raises:
        UsageError: It cannot.
    """
    if not _NAME.fullmatch(name) or name.endswith((".new", ".")) or name == _KNOWN:
        hint = "letters, digits and . _ + - make a name: --name resnet18"
        raise UsageError(f"'{name}' is no name of a golden", hint=hint)
    return name


def names(folder: Path) -> list[str]:
    """The accepted goldens of a folder."""
    return sorted(p.name[: -len(".toml")] for p in folder.glob("*.toml") if not _is_other(p.name))


def pending_names(folder: Path) -> list[str]:
    """The goldens of a folder with a record that waits."""
    return sorted(p.name[: -len(".new.toml")] for p in folder.glob("*.new.toml"))


def _is_other(name: str) -> bool:
    return name.endswith(".new.toml") or name == f"{_KNOWN}.toml" or name.startswith(".")


def exists(folder: Path, name: str) -> bool:
    """Whether there is an accepted golden of that name."""
    return _record(folder, name, pending=False).exists()


def record_sha256(folder: Path, name: str) -> str:
    """SHA-256 of the accepted record's text.

    Raises:
        UsageError: There is none of that name.
        UnusableGolden: It cannot be read.
    """
    return arrays_file.sha256_of(_text(_record(folder, name, pending=False), folder, name, pending=False).encode())


def _record(folder: Path, name: str, *, pending: bool) -> Path:
    return folder / f"{name}{'.new' if pending else ''}.toml"


def read(folder: Path, name: str, *, pending: bool = False) -> Stored:
    """A golden with its arrays, all of it held against its own digests.

    Raises:
        UsageError: There is none of that name.
        UnusableGolden: It is damaged, incomplete, or of a newer form.
    """
    path = _record(folder, check_name(name), pending=pending)
    text = _text(path, folder, name, pending)
    while True:
        golden = record_file.loads(text, path.name)
        try:
            return Stored(golden, _arrays(folder, name, golden), arrays_file.sha256_of(text.encode()))
        except UnusableGolden:
            # Somebody may have accepted another one since the record was read: then there are other arrays.
            again = _text(path, folder, name, pending)
            if again == text:
                raise
            text = again


def _text(path: Path, folder: Path, name: str, pending: bool) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if pending:
            hint = f"onnxeq golden check {name} makes one where something changed"
            raise UsageError(f"nothing waits for a decision about '{name}'", hint=hint) from None
        known = ", ".join(names(folder)) or "none"
        hint = f"there are: {known}; onnxeq golden record MODEL --name {name} makes it"
        raise UsageError(f"there is no golden '{name}' in {folder}", hint=hint) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UnusableGolden(f"{path.name} cannot be read: {error}", hint="restore it from version control") from None


def _arrays(folder: Path, name: str, golden: Golden) -> dict[str, Array]:
    if golden.name != name or not _is_arrays_of(name, golden.arrays):
        said = f"{name}.toml is the record of '{golden.name}' and names the arrays {golden.arrays!r}"
        raise UnusableGolden(said, hint="restore it from version control")
    hint = "restore it from version control, or delete the golden and record it again"
    try:
        data = (folder / golden.arrays).read_bytes()
    except OSError as error:
        raise UnusableGolden(
            f"{golden.arrays}, the arrays of '{name}', cannot be read: {error.strerror}", hint=hint
        ) from None
    found = arrays_file.sha256_of(data)
    if found != golden.arrays_sha256:
        said = f"{golden.arrays} has the SHA-256 {found[:12]}, its record says {golden.arrays_sha256[:12]}"
        raise UnusableGolden(f"{said} ({len(data)} bytes)", hint=hint)
    arrays = arrays_file.unpack(data, golden.arrays)
    hold(golden, arrays)
    return arrays


def _is_arrays_of(name: str, file: str) -> bool:
    return file.startswith(name) and _ARRAYS.fullmatch(file, len(name)) is not None


@contextlib.contextmanager
def locked(folder: Path, name: str, *, wait: bool) -> Iterator[None]:
    """Holds the golden alone; what an interrupted process has left of it is removed first.

    Raises:
        UsageError: Another process holds it, and ``wait`` is not set; or the folder cannot be written.
    """
    own = folder / _OWN
    with contextlib.ExitStack() as held:
        try:
            own.mkdir(parents=True, exist_ok=True)
            ignore = own / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n")
            lock = own / f"{check_name(name)}.lock"
            held.enter_context(locks.exclusive(lock, (lambda: None) if wait else None))
            _tidy(folder, name)
        except locks.Busy:
            hint = "wait for it, then: onnxeq golden list"
            raise UsageError(f"the golden '{name}' is being written by another process", hint=hint) from None
        except OSError as error:
            hint = "choose another --dir"
            raise UsageError(f"{folder} cannot be written: {error.strerror or error}", hint=hint) from error
        yield


def _tidy(folder: Path, name: str) -> None:
    """Removes what nobody names; keeps everything when a record cannot be read."""
    for path in (folder / _OWN).glob(f"{name}~*.tmp"):
        path.unlink(missing_ok=True)
    named: set[str] = set()
    accepted = ""
    for pending in (False, True):
        path = _record(folder, name, pending=pending)
        if not path.exists():
            continue
        try:
            text = path.read_text(encoding="utf-8")
            golden = record_file.loads(text, path.name)
        except (UnusableGolden, OSError, UnicodeDecodeError):
            return
        if not pending:
            accepted = arrays_file.sha256_of(text.encode())
        elif golden.arrays in named and any(p.against != accepted for p in golden.pending):
            path.unlink(missing_ok=True)  # it was accepted, and its process ended before it took it away
        named.add(golden.arrays)
    for path in folder.glob(f"{name}.*.safetensors"):
        if _is_arrays_of(name, path.name) and path.name not in named:
            path.unlink(missing_ok=True)


def commit(
    folder: Path, golden: Golden, arrays: Mapping[str, Array] | None, *, pending: bool = False, fresh: bool = False
) -> Golden:
    """Writes a golden; the lock must be held. Returns it with the name and digest of its arrays.

    Args:
        folder: Where to.
        golden: The record; what it says about its arrays is filled in.
        arrays: Them; ``None`` when they lie there already under the record's name for them.
        pending: Whether it waits for a decision.
        fresh: Whether there must be no record yet.

    Raises:
        UsageError: ``fresh``, and there is one.
    """
    if arrays is not None:
        data = arrays_file.pack(arrays)
        sha256 = arrays_file.sha256_of(data)
        golden = replace(golden, arrays=f"{golden.name}.{sha256[:12]}.safetensors", arrays_sha256=sha256)
        _place(folder, golden.name, data, folder / golden.arrays, fresh=False)
    path = _record(folder, golden.name, pending=pending)
    try:
        _place(folder, golden.name, record_file.dumps(golden).encode(), path, fresh=fresh)
    except FileExistsError:
        raise UsageError(f"the golden '{golden.name}' is there already", hint="give another --name") from None
    if not pending:
        waiting = _record(folder, golden.name, pending=True)
        waiting.unlink(missing_ok=True)
    _tidy(folder, golden.name)
    return golden


def _place(folder: Path, name: str, data: bytes, target: Path, *, fresh: bool) -> None:
    """Writes a file that appears whole, and is on the disk before it does."""
    part = folder / _OWN / f"{name}~{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp"
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if fresh:
            target.hardlink_to(part)
        else:
            part.replace(target)
        _sync_folder(folder)
    finally:
        part.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Has the rename itself written; systems that open no folders do that by themselves."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_pending(folder: Path, name: str) -> None:
    """Takes a record that waits away; the lock must be held."""
    _record(folder, name, pending=True).unlink(missing_ok=True)
    _tidy(folder, name)


def remove(folder: Path, name: str) -> None:
    """Takes a golden away with all that belongs to it; the lock must be held."""
    for pending in (True, False):
        _record(folder, name, pending=pending).unlink(missing_ok=True)
    _tidy(folder, name)
