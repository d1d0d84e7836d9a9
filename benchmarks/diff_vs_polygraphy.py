"""``onnxeq diff`` beside Polygraphy, layer by layer: wall time and peak memory on the same files in the same run.

Three claims about the ResNets that torchvision builds from a seed and torch's exporter writes, at 224x224:

- all layers of the healthy ResNet-50, held against itself and against its copy with other names, at batch 1 and 8: at
  most a quarter of Polygraphy's wall time and at most half of its peak memory. Polygraphy saves all outputs of one
  file, then runs the other and compares with what was saved; the copy, which it cannot pair by name, is held against
  the same seconds and bytes, that is, as if it could.
- one convolution's channel scaled by 1.5 in the middle: at most a tenth of what ``polygraphy debug reduce`` takes to
  find it by bisection, and the right node named first. Its check command is ``polygraphy run`` against the golden
  values, with those values as inputs of the sub-graphs, as its own example has it; making them is not counted.
- growth: from ResNet-50 to -152 the seconds and the bytes for each node of the graph stay as they are.

Seconds are of the whole command, start and end included. Bytes are the largest sum, seen every 50 ms, of what the
command's processes have resident (``/proc``): a page that two of them share counts twice. Polygraphy's two commands
follow one another, so that their seconds are added and the larger of their peaks counts. Both tools run as they are
installed; ``--without-torch`` hides torch from Polygraphy, which imports it only to know tensors when it sees them.

    python benchmarks/diff_vs_polygraphy.py [--repeats N] [--only WORD] [--without-torch]
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import Any

import check_cost
import numpy as np
import onnx
from common import print_table, progress
from onnx import numpy_helper

MODELS = ("resnet50", "resnet101", "resnet152")
MOST_TIME, MOST_MEMORY, MOST_TIME_FAULT = 0.25, 0.5, 0.1
MOST_GROWTH = 1.25
"""How much more than ResNet-50's the figures for each node of a deeper network may be."""

_POLYGRAPHY = "import sys; from polygraphy.tools import main; sys.exit(main())"
_EXPORT = """
import sys, torch, torchvision
torch.manual_seed(0)
model = torchvision.models.get_model(sys.argv[1], weights=None).eval()
batch = torch.export.Dim("batch")
torch.onnx.export(model, (torch.randn(2, 3, 224, 224),), sys.argv[2], dynamo=True, verbose=False, external_data=False,
                  dynamic_shapes=({0: batch},))
"""
_LOADER = """
import numpy

def load_data():
    with numpy.load({path!r}) as feed:
        yield dict(feed)
"""


@dataclass(frozen=True)
class Cost:
    """What commands took: seconds in all, and the largest peak of resident bytes."""

    seconds: float
    peak: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.seconds + other.seconds, max(self.peak, other.peak))


@dataclass(frozen=True)
class Tools:
    """How the two are called.

    Attributes:
        folder: Where files lie.
        torch: Whether Polygraphy finds torch.
    """

    folder: Path
    torch: bool = True

    def ours(self, *arguments: str | Path, status: int = 0) -> Cost:
        """``onnxeq diff``, which must end with this status."""
        return self._run([sys.executable, "-m", "onnxeq", "diff", *map(str, arguments), "--no-cache", "-q"], status)

    def polygraphy(self, *arguments: str | Path) -> Cost:
        """One of Polygraphy's commands, which must succeed."""
        return self._run([*self.peer, *map(str, arguments)], 0)

    @property
    def peer(self) -> list[str]:
        """Polygraphy's command line, without its arguments."""
        hidden = "" if self.torch else "import sys; sys.modules['torch'] = None; "
        return [sys.executable, "-c", hidden + _POLYGRAPHY]

    def _run(self, command: list[str], wanted: int) -> Cost:
        environment = dict(os.environ, ONNXEQ_CACHE=str(self.folder / "cache"))
        for name in ("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX"):  # byte code as on anybody's machine
            environment.pop(name, None)
        seconds, peak, status = check_cost.measure(command, environment, self.folder)
        if status != wanted:
            raise SystemExit(f"status {status} in the place of {wanted}: {' '.join(command)}")
        return Cost(seconds, peak)


def median(costs: Sequence[Cost]) -> Cost:
    """The medians of seconds and bytes."""
    return Cost(statistics.median(c.seconds for c in costs), statistics.median(c.peak for c in costs))


def in_turns(repeats: int, **runs: Callable[[], Cost]) -> dict[str, Cost]:
    """Each run so often, one after the other, so that the machine's drift meets all of them."""
    found: dict[str, list[Cost]] = {name: [] for name in runs}
    for number in range(repeats):
        for name, run in runs.items():
            cost = run()
            found[name].append(cost)
            progress(f"    {number + 1}/{repeats} {name:22} {cost.seconds:6.1f} s {cost.peak / 2**20:6.0f} MiB")
    return {name: median(costs) for name, costs in found.items()}


def exported(tools: Tools, name: str) -> Path:
    """The network as torch's exporter writes it."""
    path = tools.folder / f"{name}.onnx"
    if not path.exists():
        progress(f"{name}: export")
        check_cost.measure([sys.executable, "-c", _EXPORT, name, str(path)], dict(os.environ))
        if not path.exists():
            raise SystemExit(f"{name} cannot be exported")
    return path


def feed_of(tools: Tools, model: Path, batch: int) -> Path:
    """Inputs of that batch size as ``.npz``; the same for Polygraphy in a script of the same name."""
    name = onnx.load(model, load_external_data=False).graph.input[0].name
    path = tools.folder / f"inputs{batch}.npz"
    np.savez(path, **{name: np.random.default_rng(0).standard_normal((batch, 3, 224, 224), np.float32)})
    path.with_suffix(".py").write_text(_LOADER.format(path=str(path)))
    return path


def renamed(model: Path) -> Path:
    """The same graph with other names of nodes and inner values."""
    path = model.with_name(f"{model.stem}-renamed.onnx")
    copy = onnx.load(model)
    kept = {value.name for value in (*copy.graph.output, *copy.graph.input, *copy.graph.initializer)}
    names: dict[str, str] = {}
    for number, node in enumerate(copy.graph.node):
        node.name = f"step_{number}"
        for slot, value in enumerate(node.input):
            node.input[slot] = names.get(value, value)
        for slot, value in enumerate(node.output):
            if value and value not in kept:
                names[value] = node.output[slot] = f"value_{number}_{slot}"
    del copy.graph.value_info[:]
    onnx.save(copy, path)
    return path


def faulty(model: Path) -> tuple[Path, str]:
    """A copy with a channel of the middle convolution scaled by 1.5, and that node's name."""
    copy = onnx.load(model)
    convolutions = [node for node in copy.graph.node if node.op_type == "Conv"]
    node = convolutions[len(convolutions) // 2]
    tensor = next(t for t in copy.graph.initializer if t.name == node.input[1])
    weight = numpy_helper.to_array(tensor).copy()
    weight[0] *= np.float32(1.5)
    tensor.CopyFrom(numpy_helper.from_array(weight, tensor.name))
    path = model.with_name(f"{model.stem}-faulty.onnx")
    onnx.save(copy, path)
    return path, node.name


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        name: What was done.
        ours: What it cost.
        peer: What it cost Polygraphy; without it nothing is claimed.
        most: Shares of the peer's seconds and bytes that are claimed; ``None`` claims none.
        note: What else must be said.
        holds: Whether that is as it should be.
    """

    name: str
    ours: Cost
    peer: Cost | None = None
    most: tuple[float | None, float | None] = (None, None)
    note: str = ""
    holds: bool = True

    @property
    def shares(self) -> tuple[float, float] | None:
        """Our seconds and bytes by Polygraphy's."""
        if self.peer is None:
            return None
        return self.ours.seconds / self.peer.seconds, self.ours.peak / self.peer.peak

    def kept(self) -> bool:
        """Whether what is claimed holds."""
        pairs = zip(self.shares or (), self.most, strict=False)
        return self.holds and all(most is None or share <= most for share, most in pairs)

    def cells(self) -> list[str]:
        """For :func:`common.print_table`."""

        def of(cost: Cost | None) -> list[str]:
            return ["", ""] if cost is None else [f"{cost.seconds:.1f} s", f"{cost.peak / 2**20:.0f} MiB"]

        shares = ["", ""]
        if self.shares is not None:
            shares = [
                f"{share:.2f}" + ("" if most is None else f" of {most:g}")
                for share, most in zip(self.shares, self.most, strict=True)
            ]
        return [self.name, *of(self.ours), *of(self.peer), *shares, self.note, "yes" if self.kept() else "NO"]


def layers(tools: Tools, repeats: int, batch: int) -> list[Row]:
    """All inner values of the healthy file, ours and Polygraphy's."""
    model = exported(tools, MODELS[0])
    copy, feed = renamed(model), feed_of(tools, model, batch)
    saved = tools.folder / "saved.json"
    script = ("--onnxrt", "--onnx-outputs", "*", "--data-loader-script", feed.with_suffix(".py"))

    def peer() -> Cost:
        saving = tools.polygraphy("run", model, *script, "--save-outputs", saved)
        comparing = tools.polygraphy("run", model, *script, "--load-outputs", saved)
        saved.unlink()
        return saving + comparing

    progress(f"{MODELS[0]}, batch {batch}")
    found = in_turns(
        repeats,
        polygraphy=peer,
        itself=lambda: tools.ours(model, model, "--inputs", feed),
        renamed=lambda: tools.ours(model, copy, "--inputs", feed),
    )
    return [
        Row(f"{MODELS[0]}, batch {batch}, {other}", found[other], found["polygraphy"], (MOST_TIME, MOST_MEMORY))
        for other in ("itself", "renamed")
    ]


def fault(tools: Tools, repeats: int) -> list[Row]:
    """The node of a wrong weight, ours and by bisection."""
    model = exported(tools, MODELS[0])
    (wrong, node), feed = faulty(model), feed_of(tools, model, 1)
    report, golden = tools.folder / "report.json", tools.folder / "golden.json"
    given, values = tools.folder / "given.json", tools.folder / "values.json"
    script = ("--data-loader-script", feed.with_suffix(".py"))
    progress(f"{MODELS[0]}: golden values")
    made = ("--save-inputs", given, "--save-outputs", golden)
    tools.polygraphy("run", model, "--onnxrt", "--onnx-outputs", "*", *script, *made)
    values.write_text(json.dumps([as_inputs(json.loads(given.read_text())[0], json.loads(golden.read_text()))]))
    reduced = tools.folder / "reduced.onnx"
    step = tools.folder / "step.onnx"
    check = [*tools.peer, "run", str(step), "--onnxrt", "--load-inputs", str(values), "--load-outputs", str(golden)]

    def peer() -> Cost:
        reduced.unlink(missing_ok=True)
        asked = ("--mode", "bisect", "--iter-artifact", step, "--load-inputs", values, "-o", reduced)
        return tools.polygraphy("debug", "reduce", wrong, *asked, "--check", *check)

    def ours() -> Cost:
        return tools.ours(model, wrong, "--inputs", feed, "--report", report, status=1)

    progress(f"{MODELS[0]}: a wrong weight in {node}")
    found = in_turns(repeats, bisection=peer, diff=ours)
    first = first_named(json.loads(report.read_text()))
    theirs = [n.name for n in onnx.load(reduced).graph.node]
    note = f"{node}: we name {' + '.join(first)}, they {' + '.join(theirs)}"
    most = (MOST_TIME_FAULT, None)
    return [Row("one wrong weight", found["diff"], found["bisection"], most, note, node in first)]


def as_inputs(given: dict[str, Any], golden: dict[str, Any]) -> dict[str, Any]:
    """Polygraphy's saved inputs and all its saved outputs as one entry of inputs, for whatever sub-graph is cut out."""
    outputs = golden["lst"][0][1][0]["outputs"]
    return {**given, **{name: record["values"] for name, record in outputs.items()}}


def first_named(report: dict[str, object]) -> tuple[str, ...]:
    """The node of a report's first cause, and those that were judged together with it."""
    causes, rows = report["causes"], report["layers"]
    assert isinstance(causes, list)
    assert isinstance(rows, list)
    if not causes:
        return ("nothing",)
    node = causes[0]["where"]["node"]
    row = next(row for row in rows if row["node"] == node)
    return (node, *dict.fromkeys(row["region"]))


def growth(tools: Tools, repeats: int) -> list[Row]:
    """Ours over the depth of the network."""
    models = {name: exported(tools, name) for name in MODELS}
    feed = feed_of(tools, models[MODELS[0]], 1)
    counts = {name: len(onnx.load(path, load_external_data=False).graph.node) for name, path in models.items()}
    progress("growth")
    runs = {n: functools.partial(tools.ours, path, path, "--inputs", feed) for n, path in models.items()}
    found = in_turns(repeats, **runs)
    first = found[MODELS[0]].seconds / counts[MODELS[0]], found[MODELS[0]].peak / counts[MODELS[0]]
    rows = []
    for name, cost in found.items():
        each = cost.seconds / counts[name], cost.peak / counts[name]
        note = f"{counts[name]} nodes, {each[0] * 1e3:.0f} ms and {each[1] / 2**20:.1f} MiB a node"
        linear = all(own <= MOST_GROWTH * base for own, base in zip(each, first, strict=True))
        rows.append(Row(f"growth: {name}", cost, note=note, holds=linear))
    return rows


def main() -> int:
    """Prints the table; 1 when a claim does not hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="", help="of 'batch 1', 'batch 8', 'fault', 'growth' those that contain this")
    parser.add_argument("--without-torch", action="store_true", help="hide torch from Polygraphy")
    options = parser.parse_args()
    if missing := [name for name in ("polygraphy", "onnx_graphsurgeon") if util.find_spec(name) is None]:
        print(f"{' and '.join(missing)} must be installed: pip install -e .[dev] -c constraints.txt", file=sys.stderr)
        return 2
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        tools = Tools(Path(folder), torch=not options.without_torch)
        parts: dict[str, Callable[[], list[Row]]] = {
            "batch 1": lambda: layers(tools, options.repeats, 1),
            "batch 8": lambda: layers(tools, options.repeats, 8),
            "fault": lambda: fault(tools, options.repeats),
            "growth": lambda: growth(tools, options.repeats),
        }
        for name, part in parts.items():
            if options.only.lower() in name:
                rows += part()
    print(f"{options.repeats} runs in turns, medians; {os.cpu_count()} cores")
    header = ["", "onnxeq", "peak", "Polygraphy", "peak", "time, share", "memory, share", "", "holds"]
    print_table(header, [row.cells() for row in rows])
    return 0 if rows and all(row.kept() for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
