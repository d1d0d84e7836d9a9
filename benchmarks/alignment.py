"""Whether ``onnxeq diff`` finds a framework's layers in an ONNX graph, against pairs that are known beforehand.

The truth: every layer's own output is recorded in float64 (``alignment_native.py``: forward hooks, or a model with all
outputs), and every value of the ONNX graph is computed in float64 by the referee. A layer *still exists* when some
value of the graph equals its output in whatever layout. A pair is *right* when the graph's value equals the framework's
as the product lays it out, else *wrong*, also where it is a step inside a layer. Equal is up to 1e-3 of the largest
element: an export that folds stores products of weights in float32 anew, which the layers behind amplify (up to
1.5e-4 in MobileNetV2); wrong pairs that were seen were a tenth and more apart. Layers that give back what they were
given, bit by bit (Dropout in inference), are counted *apart*: their value is another layer's. So are constant outputs.

The pairs are the product's: the function that ``diff`` calls, on what its jobs write. An artifact is the exporter's own
file, or that file edited: simplified by onnxsim, or with a new name for every tensor and node and all notes removed.
The *bridge*, through which the product goes, is the same exporter's unfolded export; where the table says so, the
other exporter's, as when a user brings a file.

    python benchmarks/alignment.py [--only TEXT ...] [--folder FOLDER]

Asked for: 97 % of the layers that still exist, and no wrong pair. Exit status 1 where that does not hold.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from alignment_artifacts import MODELS, Model, Variant, artifact_of, renamed
from common import print_table, progress

from onnxeq import native_values
from onnxeq.arrays import load_array
from onnxeq.graph.inspect import load
from onnxeq.layers.likeness import Pool, arrange, layouts
from onnxeq.layers.matching import Bridge, Matched, Renamed
from onnxeq.native_values import NativeValues
from onnxeq.referee import Executor, NodeInfo, Value
from onnxeq.runners.diffing import of_framework
from onnxeq.types import Array

__all__ = ["exists", "main", "renamed", "values_of", "wrong_pairs"]

ASKED = 0.97
"""Share of the layers that still exist."""

SAME = 1e-3
"""Of a value's largest element."""

OWN = 1e-7
"""The same for a value of the native program and the layer's output: both float64, but for scalars that ONNX rounds."""


@dataclass(frozen=True)
class Layer:
    """One call of a layer; ``idle`` when it gives back what it was given."""

    path: str
    kind: str
    idle: bool
    output: Array


@dataclass(frozen=True)
class Row:
    """What was found for one artifact.

    Attributes:
        model: Its name.
        variant: The artifact.
        layers: How many calls of layers there are.
        apart: How many are not counted: idle ones, and constant outputs.
        existing: How many still exist in the graph.
        aligned: How many of those have a pair.
        by: Of these, by what.
        pairs: How many pairs there are in all.
        wrong: What is wrong, in words.
        missed: The layers that exist and have no pair.
        seconds: Of processor time for the pairs.
    """

    model: str
    variant: str
    layers: int
    apart: int
    existing: int
    aligned: int
    by: Mapping[str, int]
    pairs: int
    wrong: tuple[str, ...]
    missed: tuple[str, ...]
    seconds: float

    @property
    def share(self) -> float:
        """Of the layers that exist, the share that is aligned."""
        return self.aligned / max(1, self.existing)

    @property
    def good(self) -> bool:
        """Whether it is as asked for."""
        return self.existing > 0 and self.share >= ASKED and not self.wrong


# The truth.


def layers_of(folder: Path) -> list[Layer]:
    """The layers with their own outputs."""
    rows = json.loads((folder / "index.json").read_text())
    return [
        Layer(row["path"], row["kind"], row["idle"], load_array(folder / f"{place}.npy", "float64"))
        for place, row in enumerate(rows)
    ]


class Recorder:
    """Keeps every value of the main graph."""

    def __init__(self) -> None:
        self.values: dict[str, Array] = {}

    def constant(self, _name: str, value: Any, _dtype: str) -> Any:
        """Leaves it as it is."""
        return value

    def node(self, info: NodeInfo, _inputs: Sequence[Value], outputs: list[Value]) -> list[Value]:
        """Takes a copy: an operator may overwrite what it is given."""
        if not info.path:
            named = zip(info.node.output, outputs, strict=True)
            self.values |= {name: np.array(v) for name, v in named if name and isinstance(v, np.ndarray)}
        return outputs


def values_of(model: onnx.ModelProto, folder: Path, feed: Mapping[str, Array]) -> dict[str, Array]:
    """Every value of the graph in float64."""
    recorder = Recorder()
    Executor(model, base_dir=folder).run(feed, hook=recorder)
    return recorder.values


def same(value: Array, reference: Array, tolerance: float) -> bool:
    """Whether two arrays of one shape are the same value, within a share of the reference's largest element."""
    if value.shape != reference.shape:
        return False
    if value.size == 0:
        return True
    gap = np.abs(value.astype(np.float64) - reference.astype(np.float64)).max()
    return bool(gap <= tolerance * np.abs(reference.astype(np.float64)).max())


def exists(layer: Layer, pool: Pool, values: Mapping[str, Array]) -> bool:
    """Whether some value of the graph equals a layer's output in any layout."""
    for name in pool.near(layer.output):
        value = values[name]
        if any(same(value, arrange(layer.output, way), SAME) for way in layouts(value.shape, layer.output.shape)):
            return True
    return False


def _owner(path: str, zoo: str, known: frozenset[str]) -> str:
    """The layer of a native value: torch's module path, or the layer in a TensorFlow scope (``model_1/conv_1/...``)."""
    if zoo == "torchvision":
        return path
    parts = path.split("/")
    named = parts[1] if len(parts) > 1 else ""
    called = named.rpartition("_")[0]  # scopes count the calls of a layer
    return called if called in known else named


def own_values(layers: Sequence[Layer], exact: NativeValues, zoo: str) -> Iterator[tuple[Layer, list[str]]]:
    """Each layer with the values of the native program that are called its own and are its output."""
    known = frozenset(layer.path for layer in layers)
    by_owner: dict[str, list[str]] = {}
    for name, row in exact.rows.items():
        by_owner.setdefault(_owner(row.native, zoo, known), []).append(name)
    for layer in layers:
        found = [n for n in by_owner.get(layer.path, ()) if same(exact.array(n), layer.output, OWN)]
        yield layer, found


# The judgement.


def judge(folder: Path, model: Model, variant: Variant, layers: Sequence[Layer]) -> Row:
    """Pairs the artifact as the product does, and holds the pairs against the truth."""
    home, bridging = folder / variant.exporter, folder / (variant.bridge or variant.exporter)
    path, through = artifact_of(folder, variant), bridging / "unfolded.onnx"
    judged, unfolded = load(path), load(through)
    inputs = dict(zip([i.name for i in judged.graph.input], [i.name for i in unfolded.graph.input], strict=True))
    outputs = dict(zip([o.name for o in judged.graph.output], [o.name for o in unfolded.graph.output], strict=True))
    image = np.load(folder / "feed.npz")["image"]
    known, exact = native_values.load(bridging / "f32"), native_values.load(bridging / "f64")
    bridge = Bridge(unfolded, bridging, inputs, outputs, dict.fromkeys(inputs.values(), image))
    began = time.process_time()
    pairs = of_framework(known, judged, home, bridge, exact if "torchscript" in bridging.name else None, content=True)
    seconds = time.process_time() - began
    values = values_of(judged, home, dict.fromkeys(inputs, image))
    return _row(model, variant, list(own_values(layers, exact, model.zoo)), values, pairs, exact, seconds)


def _row(
    model: Model, variant: Variant, owned: Sequence[tuple[Layer, list[str]]], values: Mapping[str, Array],
    pairs: Mapping[str, Matched], exact: NativeValues, seconds: float,
) -> Row:  # fmt: skip
    back: dict[str, Matched] = {}
    for row in pairs.values():
        for name in (row.source, *row.also):
            if name not in back or row.confidence > back[name].confidence:
                back[name] = row
    counted = [(layer, own) for layer, own in owned if not layer.idle and np.ptp(layer.output) > 0]
    pool = Pool(values)
    present = [(layer, own) for layer, own in counted if exists(layer, pool, values)]
    found = [next((back[n] for n in own if n in back), None) for _, own in present]
    return Row(
        model.name,
        variant.label,
        layers=len(counted),
        apart=len(owned) - len(counted),
        existing=len(present),
        aligned=sum(row is not None for row in found),
        by=Counter(row.by.value for row in found if row is not None),
        pairs=len(pairs),
        wrong=tuple(wrong_pairs(values, pairs, exact)),
        missed=tuple(
            f"{layer.path} ({layer.kind}{'' if own else ', no value of its own'})"
            for (layer, own), row in zip(present, found, strict=True)
            if row is None
        ),
        seconds=seconds,
    )


def wrong_pairs(values: Mapping[str, Array], pairs: Mapping[str, Matched], exact: NativeValues) -> Iterator[str]:
    """Pairs of which the graph's value is not the framework's as the product lays that out."""
    for name, row in pairs.items():
        for source in (row.source, *row.also) if name in values else ():
            mine = values[name]
            theirs = Renamed(exact, {name: replace(row, source=source)}).array(name, mine)
            if theirs is None or not same(theirs, mine, SAME):
                comparable = theirs is not None and theirs.shape == mine.shape
                gap = np.abs(theirs - mine).max() / np.abs(mine).max() if comparable else np.inf
                yield f"{name} is not {source} of {row.native} ({row.by.value}, {row.confidence}): {gap:.1e} apart"


# The run.


def prepare(model: Model, folder: Path) -> Path:
    """The folder with exports, native values and truth, made by a process of the framework."""
    home = folder / f"{model.zoo}-{model.name}-{model.size}"
    if not (home / "done").exists():
        progress(f"{model.name}: export and record")
        exporters = [] if model.zoo == "keras" else list(dict.fromkeys(v.exporter for v in model.variants))
        script = Path(__file__).with_name("alignment_native.py")
        command = [sys.executable, str(script), model.zoo, model.name, str(model.size), str(home), *exporters]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{model.name}: {done.stderr.strip()[-2000:]}")
        (home / "done").touch()
    return home


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="*", default=[], help="models whose name, or 'name variant', contains a text")
    parser.add_argument("--folder", type=Path, help="keep what is exported, and use what is there")
    options = parser.parse_args(arguments)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for model in MODELS:
            asked = [
                v for v in model.variants
                if not options.only or any(t in f"{model.name} {v.label}" for t in options.only)
            ]  # fmt: skip
            if not asked:
                continue
            home = prepare(model, options.folder or Path(scratch))
            layers = layers_of(home / "truth")
            for variant in asked:
                rows.append(judge(home, model, variant, layers))
                _tell(rows[-1])
    print_table(HEADER, [_cells(row) for row in rows])
    return 0 if rows and all(row.good for row in rows) else 1


HEADER = ("model", "artifact", "layers", "apart", "exist", "aligned", "share", "wrong", "pairs", "by", "CPU s")


def _cells(row: Row) -> list[str]:
    by = ", ".join(f"{how} {count}" for how, count in sorted(row.by.items(), key=lambda item: -item[1]))
    numbers = (row.layers, row.apart, row.existing, row.aligned)
    share = f"{100 * row.share:.1f} %"
    return [row.model, row.variant, *map(str, numbers), share, str(len(row.wrong)), str(row.pairs), by,
            f"{row.seconds:.1f}"]  # fmt: skip


def _tell(row: Row) -> None:
    progress("  ".join(_cells(row)))
    for line in (*(f"wrong: {w}" for w in row.wrong[:8]), *(f"missed: {m}" for m in row.missed[:8])):
        progress(f"        {line}")


if __name__ == "__main__":
    sys.exit(main())
