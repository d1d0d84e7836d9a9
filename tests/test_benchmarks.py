"""What the benchmarks compute before they print: order statistics, bins, bisection, and the rule of the peer."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def load() -> Iterator[Any]:
    """Imports a benchmark by name, as it imports its neighbours when it is run."""
    before = set(sys.modules)
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module
    sys.path.remove(str(FOLDER))
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == FOLDER:
            del sys.modules[name]


def test_a_quantile_is_the_smallest_value_that_enough_do_not_exceed(load: Any) -> None:
    """Of 1..10 the median is 5, 90 % is 9, 99 % is 10; of one value, every quantile is that value."""
    quantile = load("common").quantile
    ten = [float(k) for k in range(1, 11)]
    assert [quantile(ten, share) for share in (0.5, 0.9, 0.99, 1.0)] == [5, 9, 10, 10]
    assert quantile([3.0], 0.01) == 3.0


def test_outcomes_survive_their_file(load: Any, tmp_path: Path) -> None:
    """What is stored is read again, an infinite ratio included."""
    common = load("common")
    sample = common.Sample("graph", math.inf, 4.0, "fail", "referee/f64")
    outcome = common.Outcome("a model", 6, "divergent", 1.5, (sample,), ("why",))
    common.save(tmp_path / "rows.json", [outcome])
    assert common.stored(tmp_path / "rows.json") == [outcome]
    assert outcome.failing == ("graph",)
    assert not outcome.healthy


def test_combinations_multiply_runtimes_and_batch_sizes(load: Any) -> None:
    """A runtime plain and optimised at four batch sizes are eight."""
    assert load("common").Case("torchvision:x", batches=(1, 2, 3, 5)).combinations == 8


def test_a_label_has_no_folder(load: Any) -> None:
    """A reader sees the file and the function, not where the checkout lies."""
    case = load("common").Case("/some/folder/models.py:net@seeded", {"": (1, 3, 8, 8)}, (2,), 18, 7)
    assert case.label == "models.py:net@seeded 1x3x8x8 opset 18 batch 2 seed 7"


def test_bisection_finds_the_first_size_that_is_detected(load: Any) -> None:
    """For every threshold on the grid and none; it asks at most log2 of their number, rounded up, and one."""
    detection = load("detection")
    sizes = detection.geometric(1e-3, 1.0, 4)
    assert len(sizes) == 13
    for threshold in sizes:
        asked: list[float] = []

        def detected(size: float, limit: float = threshold, seen: list[float] = asked) -> bool:
            seen.append(size)
            return size >= limit

        assert detection.smallest(sizes, detected) == threshold
        assert len(asked) <= 4
    assert math.isnan(detection.smallest(sizes, lambda _: False))


def test_geometric_sizes_have_equal_ratios(load: Any) -> None:
    """From 1 to 100 at two per decade: 1, sqrt(10), 10, 10 sqrt(10), 100."""
    assert load("detection").geometric(1.0, 100.0, 2) == pytest.approx((1, 10**0.5, 10, 10**1.5, 100))


def test_the_peer_accepts_an_element_by_either_tolerance(load: Any) -> None:
    """An error of 1e-5 passes at any value; of 1e-3 at 100, not at 99; one bad element fails the output."""
    accepts = load("detection").polygraphy_default
    assert accepts(np.array([0.0]), np.array([0.99e-5]))
    assert accepts(np.array([100.00099]), np.array([100.0]))
    assert not accepts(np.array([99.00101]), np.array([99.0]))
    assert not accepts(np.array([0.0, 1.0]), np.array([0.0, 1.1]))
    assert not accepts(np.zeros((2, 1)), np.zeros((1, 2)))


def test_the_histogram_counts_every_sample_once(load: Any) -> None:
    """Exact agreement, 1/32 on the edge, just above it, half, the limit itself, and beyond it."""
    false_alarms, common = load("false_alarms"), load("common")
    samples = [common.Sample("graph", r, 4.0, "pass", "x") for r in (0.0, 0.125, 0.126, 2.0, 4.0, 4.1, math.inf)]
    assert false_alarms.histogram(samples) == [1, 1, 1, 0, 0, 1, 1, 2]


def test_no_held_out_case_was_calibrated_on(load: Any) -> None:
    """The two sets differ in every case, and the second has at least as many combinations."""
    cases = load("cases")
    assert not {c.label for c in cases.CALIBRATION} & {c.label for c in cases.HELD_OUT}
    assert len({c.label for c in cases.CALIBRATION}) == len(cases.CALIBRATION)
    assert sum(c.combinations for c in cases.HELD_OUT) >= sum(c.combinations for c in cases.CALIBRATION) >= 60


def test_every_factory_that_a_case_names_exists(load: Any) -> None:
    """A reference to a factory file names one of its functions."""
    cases = load("cases")
    named = [c.ref for c in (*cases.CALIBRATION, *cases.HELD_OUT) if ".py:" in c.ref]
    assert named
    for ref in named:
        path, _, name = ref.partition("@")[0].rpartition(":")
        assert f"def {name}() -> " in Path(path).read_text()


def test_a_renamed_graph_computes_the_same_under_no_old_name(load: Any) -> None:
    """Inputs, outputs, constants, inner values and nodes have new names; notes are gone; ``-(2 x)`` is what it was."""
    onnx, parser = pytest.importorskip("onnx"), importlib.import_module("onnx.parser")
    model = parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]> main (float[3] x) => (float[3] y) '
        "<float two = {2}> { h = Mul(x, two)\n y = Neg(h) }"
    )
    model.graph.node[0].metadata_props.add(key="scope", value="layer")
    alignment = load("alignment")
    made = alignment.renamed(model)
    onnx.checker.check_model(made)
    names = {n for node in made.graph.node for n in (*node.input, *node.output)}
    assert len(names) == 4
    assert not names & {"x", "y", "h", "two"}
    assert not made.graph.node[0].metadata_props
    x = np.arange(3.0, dtype=np.float32)
    values = alignment.values_of(made, Path(), {made.graph.input[0].name: x})
    assert np.array_equal(values[made.graph.output[0].name], -2 * x.astype(np.float64))


def test_a_pair_with_another_layers_value_is_wrong(load: Any, tmp_path: Path) -> None:
    """Folding's 1e-6 is right, in another layout too; a hundredth is wrong."""
    alignment = load("alignment")
    native_values, matching = (importlib.import_module(f"onnxeq.{n}") for n in ("native_values", "layers.matching"))
    protocols, types = importlib.import_module("onnxeq.protocols"), importlib.import_module("onnxeq.types")
    rng = np.random.default_rng(0)
    a = rng.standard_normal((2, 3, 4))
    native_values.store(tmp_path, [protocols.NativeValue("a", a, "aten.relu", {}, (), "layer", "")])
    turned = importlib.import_module("onnxeq.layers.likeness").Layout((2, 3, 4), (0, 2, 1), (2, 4, 3))
    values = {"same": a * (1 + 1e-6), "turned": a.transpose(0, 2, 1), "off": a * (1 + 1e-2), "flat": a.reshape(6, 4)}
    pairs = {
        name: matching.Matched("a", types.PairedBy.VALUE, 1.0, (turned,) if name == "turned" else ()) for name in values
    }
    wrong = list(alignment.wrong_pairs(values, pairs, native_values.load(tmp_path)))
    assert [text.partition(" ")[0] for text in wrong] == ["off", "flat"]


def test_a_layer_exists_where_a_value_equals_it_in_some_layout(load: Any) -> None:
    """Channels last, and flat; not where an element is another."""
    alignment, likeness = load("alignment"), importlib.import_module("onnxeq.layers.likeness")
    output = np.random.default_rng(0).standard_normal((1, 2, 3, 4))
    layer = alignment.Layer("block.conv", "Conv2d", False, output)
    other = output.copy()
    other[0, 1, 2, 3] += 0.01
    for values, expected in (
        ({"last": output.transpose(0, 2, 3, 1)}, True), ({"flat": output.reshape(1, 24)}, True), ({"o": other}, False)
    ):  # fmt: skip
        assert alignment.exists(layer, likeness.Pool(values), values) is expected


def test_a_spread_is_the_largest_over_the_smallest(load: Any) -> None:
    """2.2 over 2.0 is 10 %; a run without the ratio, or none at all, is no steadiness."""
    spread = load("latency").spread
    assert spread([2.0, 2.2, 2.1]) == pytest.approx(0.1)
    assert spread([3.0]) == 0
    assert spread([2.0, math.nan]) == math.inf
    assert spread([]) == math.inf


def test_noise_ends_with_its_block(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when it is left by an exception."""
    latency = load("latency")
    started: list[Any] = []
    start = latency.subprocess.Popen

    def popen(*args: Any) -> Any:
        started.append(start(*args))
        return started[-1]

    monkeypatch.setattr(latency.subprocess, "Popen", popen)
    with contextlib.suppress(ZeroDivisionError), latency.noise(True):
        assert started[0].poll() is None
        raise ZeroDivisionError
    assert started[0].poll() is not None


def test_the_study_takes_the_smallest_that_most_zoos_have(load: Any) -> None:
    """Of ResNets the one that all four have, of VGGs the one of three; a zoo that is not there counts for nothing."""
    study = load("montes2022")
    there: dict[str, set[str]] = {zoo: set() for zoo in study.FOUR}
    for named in study.ARCHITECTURES:
        for zoo, name in named.names.items():
            if zoo in there:
                there[zoo].add(name)
    names = {n.family: n.name for n in study.chosen(there, every=False, only="")}
    assert (names["ResNet"], names["VGG"], names["DenseNet"]) == ("ResNet-50", "VGG-19", "DenseNet-121")
    assert names["EfficientNet"] == "EfficientNet-B0"
    assert "Xception" not in names  # Keras alone has it, of these four
    assert [n.name for n in study.chosen(there, every=True, only="vgg")] == ["VGG-16", "VGG-19"]
    there["keras"] = there["onnx-zoo"] = set()
    names = {n.family: n.name for n in study.chosen(there, every=False, only="")}
    assert names["ResNet"] == "ResNet-18"
    assert "VGG" not in names


def test_an_architecture_stands_once_in_the_study(load: Any) -> None:
    """No name of a zoo is in two rows, and every row is of two zoos at least."""
    names = load("montes2022_names")
    refs = [ref for named in names.ARCHITECTURES for ref in named.names.items()]
    assert len(refs) == len(set(refs))
    assert all(len(named.names) >= 2 for named in names.ARCHITECTURES)


def _row(ratio: float, discrepancy: bool) -> dict[str, Any]:
    held = {"ratio": ratio, "low": ratio * 0.9, "high": ratio * 1.1, "discrepancy": discrepancy}
    size = {"parameters": 1_500_000, "macs": 2 * 10**9, "input": [[1, 3, 8, 8]], "ms": {"ort/cpu": 4.0}}
    models = [{"name": name, **size} for name in "ab"]
    pair = {
        "left": "a", "right": "b", "verdict": "different", "differences": ["stride: it is"], "more": 2,
        "ratios": {"ort/cpu": held}, "agreement": 0.975,
    }  # fmt: skip
    return {
        "architecture": "Net", "family": "Net", "refs": ["z:a", "z:b"], "models": models, "pairs": [pair],
        "failures": [], "not_run": ["b in native: broken"], "notes": [], "width": 0.02, "accuracy": {"a": 0.7},
        "seconds": 60.0, "versions": {"python": "3"}, "machine": {"cores": "2"}, "envs": [],
    }  # fmt: skip


def test_the_study_writes_a_row_for_each_pair(load: Any) -> None:
    """Verdict, sizes, ratio (bold for a discrepancy), agreement, accuracy beside the name, differences; the sums."""
    text = load("montes2022_table").markdown([_row(2.0, True), _row(1.01, False)], seeded=True)
    assert "| Net | a (70.0%), b | different | 1.500 M | 2.000 G |  | **2.00 (1.80 to 2.20)** | 97.5% |" in text
    assert "| stride: it is; 2 more |" in text
    assert "| 1.01 (0.91 to 1.11) |" in text
    assert "- another latency in ort/cpu: 1 of 2, by up to 100%" in text
    assert "- Net: b in native: broken" in text
    assert "2 minutes in all" in text


def test_the_study_goes_on_where_it_was(load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that stands in the file is not done again; a line that was cut off is; each new one is kept at once."""
    study = load("montes2022")
    path = tmp_path / "rows.jsonl"
    kept = {"architecture": "One", "refs": ["z:a"], "failures": [], "seconds": 1.0}
    path.write_text(f'{json.dumps(kept)}\n{{"architecture": "Two", "re')
    done: list[str] = []

    def compared(named: Any, refs: Any, _options: Any) -> dict[str, Any]:
        done.append(named.name)
        return {"architecture": named.name, "refs": list(refs), "failures": [], "seconds": 2.0}

    monkeypatch.setattr(study, "compared", compared)
    todo = [(study.Named("F", name, {}), [f"z:{ref}"]) for name, ref in (("Two", "b"), ("One", "a"))]
    options = argparse.Namespace(results=path)
    rows = study.run(todo, options)
    assert done == ["Two"]
    assert [row["architecture"] for row in rows] == ["Two", "One"]
    assert [row["architecture"] for row in study.run(todo, options)] == ["Two", "One"]
    assert done == ["Two"]
