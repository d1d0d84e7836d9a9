"""The corpus: from bases and kinds to files with their expectations. Everything follows from the names alone.

What is a fault is proven here, by onnxruntime on several inputs, not by the tool that is examined: a change of the
graph counts when the outputs move by far more than onnxruntime's own optimisations move them (faint kinds: when a bit
moves); a change of the weights counts when the stored tensor differs in its bits. What does not count is left out.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from . import boundary_faults, graph_faults, weight_faults, wiring_faults
from .bases import BASES, Base, Built, built, feeds
from .edit import Array, Place
from .faults import KINDS, Fault, KindEntry, Subject
from .observe import effect, outputs, subject, tremor

__all__ = ["Expected", "Mutant", "Workshop", "load", "save", "singles", "workshops"]

_FILLED = (graph_faults, weight_faults, wiring_faults, boundary_faults)
"""Imported for the kinds that they enter."""

PER_KIND = 8
"""Mutants of each kind, where there are enough sites."""

_TRIES = 4
"""Sites of one artifact that are tried for a kind before another artifact is."""

_FAR = 30.0
"""A change of the graph must move an output by so many times what onnxruntime's optimisations do."""


@dataclass(frozen=True)
class Expected:
    """One fault as it must be reported."""

    kind: str
    cause: str
    also: tuple[str, ...]
    nodes: tuple[str, ...]
    initializers: tuple[str, ...]
    values: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Mutant:
    """One file of the corpus and what is to be said about it.

    Attributes:
        id: ``sort/kind/base/number``.
        sort: ``single``, ``double``, ``benign``, ``runtime``.
        base: Of which base.
        source: The reference that is checked.
        target: The file that is judged.
        expected: Its faults; none for a benign variant.
        relative: What onnxruntime's outputs were moved by, by the largest output; infinite where it fails.
        hidden: Whether no bit of the outputs moved: only a ledger can see it.
        options: Further arguments of the check (a runner).
    """

    id: str
    sort: str
    base: str
    source: str
    target: str
    expected: tuple[Expected, ...]
    relative: float = 0.0
    hidden: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Workshop:
    """A base with everything that its mutants are made and proven with."""

    built: Built
    subject: Subject
    feeds: tuple[dict[str, Array], ...]
    healthy: tuple[dict[str, Array], ...]
    tremor: float

    @property
    def base(self) -> Base:
        """The base."""
        return self.built.base

    def rng(self, *words: object) -> np.random.Generator:
        """Random numbers that follow from names alone."""
        return np.random.default_rng(zlib.crc32("/".join(map(str, (self.base.id, *words))).encode()))

    def sites(self, entry: KindEntry) -> list[Fault]:
        """The faults of a kind, in an order that follows from its name."""
        found = list(entry.find(self.subject))
        return [found[k] for k in self.rng(entry.name).permutation(len(found))]

    def fresh(self) -> onnx.ModelProto:
        """A copy of the healthy artifact."""
        return onnx.ModelProto.FromString(self.subject.model.SerializeToString())


def workshops(folder: Path, wanted: Sequence[Base] = BASES) -> list[Workshop]:
    """Every base that can be built here, ready."""
    return [_workshop(b) for b in built(folder, wanted)]


def _workshop(found: Built) -> Workshop:
    stored = found.source.with_suffix(".npz")
    state = dict(np.load(stored)) if stored.exists() else {}
    model = found.model()
    given = tuple(feeds(model, words=found.base.words or 61))
    return Workshop(found, subject(found, state), given, tuple(outputs(model, given)), tremor(model, given))


def proven(shop: Workshop, entry: KindEntry, model: onnx.ModelProto) -> tuple[float, bool] | None:
    """How far the outputs move and whether none of their bits does; ``None`` when the change is none that counts."""
    seen = effect(shop.healthy, model, shop.feeds)
    if not seen.loads:
        return None
    if entry.cause == "weights":
        changed = _stored(model) != _stored(shop.subject.model)
        return (seen.relative, seen.same) if changed else None
    if entry.faint:
        return None if seen.same else (seen.relative, False)
    far = seen.fails or seen.relative > max(_FAR * shop.tremor, 1e-5)
    return (seen.relative, False) if far else None


def _stored(model: onnx.ModelProto) -> tuple[list[bytes], list[list[str]]]:
    tensors = sorted(t.SerializeToString() for t in model.graph.initializer)
    return tensors, [list(n.input) for n in model.graph.node]


def expected(entry: KindEntry, fault: Fault, place: Place) -> Expected:
    """The record of a fault that was put in."""
    return Expected(
        entry.name, entry.cause, tuple(sorted(entry.also)), tuple(sorted(place.nodes)),
        tuple(sorted(place.initializers)), tuple(sorted(place.values)), fault.text,
    )  # fmt: skip


def singles(shops: Sequence[Workshop], folder: Path, per_kind: int = PER_KIND) -> Iterator[Mutant]:
    """Mutants with one fault each, ``per_kind`` of every kind, each in another artifact as far as there are enough."""
    for entry in KINDS.values():
        order = np.random.default_rng(zlib.crc32(entry.name.encode())).permutation(len(shops))
        waiting = [(shops[k], shops[k].sites(entry)) for k in order]
        made = 0
        while made < per_kind and any(sites for _, sites in waiting):
            for shop, sites in waiting:
                mutant = _next_single(shop, entry, sites, folder, made) if sites and made < per_kind else None
                if mutant is not None:
                    made += 1
                    yield mutant


def _next_single(shop: Workshop, entry: KindEntry, sites: list[Fault], folder: Path, number: int) -> Mutant | None:
    """The next site at which the fault can be proven; what was tried is taken from ``sites``."""
    for _ in range(min(_TRIES, len(sites))):
        fault = sites.pop(0)
        model = shop.fresh()
        place = fault.apply(model, shop.rng(entry.name, fault.site))
        shown = proven(shop, entry, model)
        if shown is not None:
            name = f"single/{entry.name}/{shop.base.id}/{number}"
            target = store(model, folder, name)
            one = expected(entry, fault, place)
            return Mutant(name, "single", shop.base.id, str(shop.built.source), str(target), (one,), *shown)
    return None


def store(model: onnx.ModelProto, folder: Path, name: str) -> Path:
    """Writes a mutant's file, in a folder of its own: other files beside it would have to be read for external data."""
    path = folder / "mutants" / name / "mutant.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


def save(path: Path, mutants: Sequence[Mutant]) -> None:
    """Writes the list of the corpus."""
    path.write_text(json.dumps([asdict(m) for m in mutants], indent=1))


def load(path: Path) -> list[Mutant]:
    """Reads what :func:`save` wrote."""
    rows = json.loads(path.read_text())
    return [
        Mutant(**{**row, "expected": tuple(Expected(**{k: _tuple(v) for k, v in e.items()}) for e in row["expected"])})
        for row in rows
    ]


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
