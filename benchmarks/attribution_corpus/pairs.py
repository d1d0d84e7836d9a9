"""Benign variants and double faults: what the corpus holds beside its singles."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx

from . import stored_rewrites, variants
from .corpus import Mutant, Workshop, expected, proven, store
from .edit import Place
from .faults import KINDS, KindEntry
from .observe import effect
from .rewrites import BENIGN

__all__ = ["benigns", "doubles"]

_FILLED = (stored_rewrites, variants)
"""Imported for the rewrites that they enter."""

PER_VARIANT = 9
"""Benign variants of each kind, where it applies to so many artifacts."""

DOUBLES = 64

_CLOSE = 100.0
"""A benign variant may move an output by so many times what onnxruntime's own optimisations do."""


def benigns(shops: Sequence[Workshop], folder: Path, per_kind: int = PER_VARIANT) -> Iterator[Mutant]:
    """Variants without a fault; those that onnxruntime refuses, or that differ by more than rounding, are left out."""
    for name in BENIGN:
        order = np.random.default_rng(zlib.crc32(name.encode())).permutation(len(shops))
        wanted = len(shops) if name == "as-exported" else per_kind
        for shop in (shops[k] for k in order):
            model = _variant(shop, name) if wanted else None
            if model is not None:
                wanted -= 1
                ident = f"benign/{name}/{shop.base.id}"
                target = store(model, folder, ident)
                if name == variants.EXTERNAL:
                    onnx.save(
                        model, target, save_as_external_data=True, location="weights.bin", size_threshold=256,
                        convert_attribute=False,
                    )  # fmt: skip
                yield Mutant(ident, "benign", shop.base.id, str(shop.built.source), str(target), ())


def _variant(shop: Workshop, name: str) -> onnx.ModelProto | None:
    try:
        model = BENIGN[name](shop.fresh(), shop.subject, shop.rng(name))
    except Exception:  # converters and simplifiers raise anything at graphs that they do not take
        return None
    if model is None:
        return None
    seen = effect(shop.healthy, model, shop.feeds)
    return None if seen.fails or seen.relative > max(_CLOSE * shop.tremor, 2e-5) else model


_UNPAIRED = {
    "element-nan", "outputs", "batch-baked-in", "dropout-left-on", "cancellation", "element-ulp", "folded-bias-4-ulp",
    "epsilon-1.1", "tensor-8-ulp", "bias-100-ulp",
}  # fmt: skip
"""Kinds that hide another fault altogether, or that only a ledger can see."""


def doubles(shops: Sequence[Workshop], folder: Path, count: int = DOUBLES) -> Iterator[Mutant]:
    """Two faults at different places of one artifact: of two classes in turn, or of one, in any order along the graph.

    Each of the two must be a fault without the other and beside it.
    """
    entries = [e for e in KINDS.values() if e.name not in _UNPAIRED]
    weights = [e for e in entries if e.cause == "weights"]
    graph = [e for e in entries if e.cause == "graph"]
    rng = np.random.default_rng(11)
    made = tried = 0
    while made < count and tried < 20 * count:
        shop = shops[tried % len(shops)]
        tried += 1
        first, second = ((weights, graph), (graph, weights), (graph, graph), (weights, weights))[(tried + made) % 4]
        pair = (first[int(rng.integers(len(first)))], second[int(rng.integers(len(second)))])
        found = _double(shop, pair, folder, made) if pair[0] != pair[1] else None
        if found is not None:
            made += 1
            yield found


def _double(shop: Workshop, pair: tuple[KindEntry, KindEntry], folder: Path, number: int) -> Mutant | None:
    sites = [shop.sites(entry)[:3] for entry in pair]
    for a in sites[0]:
        for b in sites[1]:
            model, single, places = shop.fresh(), shop.fresh(), []
            try:
                places.append(a.apply(model, shop.rng(pair[0].name, a.site)))
                before = onnx.ModelProto.FromString(model.SerializeToString())
                places.append(b.apply(model, shop.rng(pair[1].name, b.site)))
                b.apply(single, shop.rng(pair[1].name, b.site))
            except (StopIteration, IndexError, ValueError, AssertionError):  # the first took the second's site away
                continue
            both = effect(shop.healthy, model, shop.feeds)
            alone = proven(shop, pair[0], before), proven(shop, pair[1], single)
            if _overlap(*places) or both.fails or None in alone or not _matters(shop, before, model):
                continue
            if not _matters(shop, single, model):
                continue
            name = f"double/{pair[0].name}+{pair[1].name}/{shop.base.id}/{number}"
            faults = tuple(expected(e, f, p) for e, f, p in zip(pair, (a, b), places, strict=True))
            target = store(model, folder, name)
            source = str(shop.built.source)
            return Mutant(name, "double", shop.base.id, source, str(target), faults, both.relative, both.same)
    return None


def _overlap(a: Place, b: Place) -> bool:
    return bool(a.nodes & b.nodes or a.initializers & b.initializers or a.values & b.values)


def _matters(shop: Workshop, one: onnx.ModelProto, both: onnx.ModelProto) -> bool:
    """Whether the second fault moves the outputs that the first has left."""
    from .observe import outputs

    try:
        return effect(outputs(one, shop.feeds), both, shop.feeds).relative > 3e-5
    except Exception:  # onnxruntime cannot run what only one of them is in
        return False
