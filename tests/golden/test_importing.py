"""Outputs that somebody has become a golden, and today's run says how far they are from it."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxeq.errors import UsageError
from onnxeq.golden import check, import_golden, store
from onnxeq.golden.feeds import of_golden
from onnxeq.golden.importing import read_arrays
from onnxeq.golden.values import InputsKind, Origin, Role, Verdict
from onnxeq.types import Array

MakeConvNet = Callable[..., onnx.ModelProto]


@pytest.fixture
def outputs(recorded: Path) -> tuple[dict[str, Array], dict[str, Array]]:
    """The first feed of the recorded golden and what the runtime gave for it."""
    stored = store.read(recorded / "golden", "net")
    feed = of_golden(stored.golden.inputs, stored.arrays, recorded / "golden")[0]
    return feed, {name: stored.arrays[f"runtime/0/{name}"] for name in ("logits", "tiny")}


def polygraphy(path: Path, values: dict[str, Array]) -> None:
    def text(array: Array) -> str:
        data = io.BytesIO()
        np.save(data, array)
        return base64.b64encode(data.getvalue()).decode()

    held = {name: {"values": {"array": text(value)}} for name, value in values.items()}
    path.write_text(json.dumps({"lst": [["onnxrt-runner-N0-01/01/26-00:00:00", [{"outputs": held}]]]}))


def data_set(folder: Path, feed: dict[str, Array], values: dict[str, Array]) -> None:
    folder.mkdir()
    for kind, arrays in (("input", feed), ("output", values)):
        for i, (name, value) in enumerate(arrays.items()):
            (folder / f"{kind}_{i}.pb").write_bytes(numpy_helper.from_array(value, name).SerializeToString())


def test_three_kinds_of_files(recorded: Path, outputs: tuple[dict[str, Array], dict[str, Array]]) -> None:
    """Outputs written by numpy, by Polygraphy, and as ONNX test data are read alike; the last has its inputs, too."""
    feed, values = outputs
    np.savez("outputs.npz", **values)
    polygraphy(Path("outputs.json"), values)
    data_set(Path("test_data_set_0"), feed, values)
    for name, inputs in (("outputs.npz", {}), ("outputs.json", {}), ("test_data_set_0", feed)):
        read, beside = read_arrays(Path(name))
        assert {k: (v.dtype, v.tobytes()) for k, v in read.items()} == {
            k: (v.dtype, v.tobytes()) for k, v in values.items()
        }
        assert {k: v.tobytes() for k, v in beside.items()} == {k: v.tobytes() for k, v in inputs.items()}


def test_what_the_runtime_gave_is_unchanged(recorded: Path, outputs: tuple[dict[str, Array], dict[str, Array]]) -> None:
    """Arrays of the runtime itself: no noise from it, within the limit of the referee, and unchanged when checked."""
    data_set(Path("test_data_set_0"), *outputs)
    golden = import_golden(["test_data_set_0"], "net.onnx", "imported", folder="golden")
    assert (golden.origin, golden.executions[0].role) == (Origin.IMPORTED, Role.IMPORTED)
    assert (golden.inputs.feeds, golden.inputs.kind) == (1, InputsKind.STORED)
    ratios = {a.first: a.ratio for a in golden.agreement}
    assert ratios["ort/cpu"] == 0.0
    assert 0 < ratios["referee/f64"] < golden.bar.limit
    assert check(["imported"], folder="golden").outcomes[0].verdict is Verdict.UNCHANGED


def test_an_import_that_nothing_agrees_with_is_suspect(
    recorded: Path, outputs: tuple[dict[str, Array], dict[str, Array]]
) -> None:
    """A hundredth off: it is imported, the agreement says so, and a check calls the golden suspect."""
    feed, values = outputs
    np.savez(recorded / "outputs.npz", **{k: v * np.float32(1.01) for k, v in values.items()})
    golden = import_golden(["outputs.npz"], "net.onnx", "imported", folder="golden", inputs=[feed])
    assert min(a.ratio for a in golden.agreement) > golden.bar.limit
    found = check(["imported"], folder="golden").outcomes[0]
    assert (found.verdict, [str(c.kind) for c in found.causes]) == (Verdict.SUSPECT, ["golden"])
    assert "today's executions agree" in found.causes[0].evidence


def test_what_cannot_be_imported(recorded: Path, outputs: tuple[dict[str, Array], dict[str, Array]]) -> None:
    """Another shape, a missing output, too few files, no such file: one line each, and no golden."""
    feed, values = outputs
    np.savez("shape.npz", logits=values["logits"][:, :9], tiny=values["tiny"])
    np.savez("less.npz", logits=values["logits"])
    for file, given, says in (
        ("shape.npz", [feed], "output 'logits' is float32[1, 10], the arrays have float32[1, 9]"),
        ("less.npz", [feed], "the model's output 'tiny' is not among the arrays"),
        ("less.npz", [], "1 sets of outputs are given, the model was run on 2 inputs"),
    ):
        with pytest.raises(UsageError) as caught:
            import_golden([file], "net.onnx", "imported", folder="golden", inputs=given)
        assert caught.value.message == says
    with pytest.raises(UsageError, match="there is no file"):
        import_golden(["none.npz"], "net.onnx", "imported", folder="golden")
    assert store.names(Path("golden")) == ["net"]
