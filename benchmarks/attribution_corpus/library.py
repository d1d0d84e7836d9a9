"""The whole corpus on disk: built once for each state of the code that builds it, then read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from .bases import BASES, Base, real_folder
from .corpus import Mutant, load, save, singles, workshops
from .pairs import benigns, doubles
from .runtime_faults import runtimes

__all__ = ["corpus", "sample"]

_EXPORTING = ("bases.py", "export.py", "keras_models.py", "torch_images.py", "torch_sequences.py")
_JUDGING = ("inline.py", "library.py", "score.py")
"""What the files of the corpus do not depend on."""


def corpus(folder: Path, wanted: Sequence[Base] = BASES, say: Callable[[str], None] = lambda _: None) -> list[Mutant]:
    """Every mutant of the bases, made now if this code has not made them in ``folder`` before."""
    home = Path(__file__).parent
    exports = folder / f"exports-{_digest(home / name for name in _EXPORTING)}"
    ids = "".join(b.id for b in wanted) + str(real_folder().exists())
    code = _digest(p for p in sorted(home.glob("*.py")) if p.name not in _JUDGING)
    mark = hashlib.sha256((code + ids).encode()).hexdigest()[:12]
    listed = exports / f"corpus-{mark}.json"
    if not listed.exists():
        say("exporting the base models")
        exports.mkdir(parents=True, exist_ok=True)
        shops = workshops(exports, wanted)
        made: list[Mutant] = []
        for sort in (singles, doubles, benigns):
            say(f"making {sort.__name__}")
            made += sort(shops, exports)
        save(listed, [*made, *runtimes(shops)])
    return load(listed)


def sample(mutants: Sequence[Mutant], count: int) -> list[Mutant]:
    """About ``count`` of them, kinds and sorts in turn, so that every kind comes before any comes twice."""
    by_kind: dict[str, list[Mutant]] = {}
    for mutant in mutants:
        by_kind.setdefault(_group(mutant), []).append(mutant)
    found: list[Mutant] = []
    groups = sorted(by_kind)
    while len(found) < count and any(by_kind.values()):
        for name in groups[:: max(1, len(groups) // count)]:
            if by_kind[name] and len(found) < count:
                found.append(by_kind[name].pop(0))
        groups = groups[1:] + groups[:1]
    return found


def _group(mutant: Mutant) -> str:
    """The kind; of doubles, which have too many pairs, a few groups."""
    if mutant.sort == "double":
        return f"double/{int(mutant.id.rpartition('/')[2]) % 8}"
    return "/".join(mutant.id.split("/")[:2])


def _digest(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]
