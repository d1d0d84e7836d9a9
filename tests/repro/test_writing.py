"""A repro's folder: whole or not there, and good for somebody who has nothing but it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxeq.errors import UsageError
from onnxeq.graph.files import load
from onnxeq.inputs import read
from onnxeq.protocols import SessionOptions
from onnxeq.referee import Executor
from onnxeq.repro import Fault, check_folder, shrink, write_repro, writing
from onnxeq.repro.texts import public_reference
from tests.repro.conftest import WEIGHT, chain, computed_in, layer, wrong_at
from tests.repro.test_cutting import if_model


def run_script(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The script as somebody runs it who has numpy and onnxruntime, and not this package."""
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, str(folder / "repro.py"), *arguments],
        capture_output=True, text=True, check=False, env=clean, cwd=folder.parent,
    )  # fmt: skip


VERDICT = re.compile(r"^max abs \S+, (\S+) units \(limit 8\): (DIVERGES|agrees)$", re.MULTILINE)


def verdict(done: subprocess.CompletedProcess[str]) -> tuple[float, str]:
    found = VERDICT.search(done.stdout)
    assert found, done.stdout + done.stderr
    return float(found[1]), found[2]


def test_a_changed_weight_shows_until_it_is_mended(source_fault: Fault, tmp_path: Path) -> None:
    """One weight off by 0.01: the script ends with 1, and with 0 on the same graph with the weight put right."""
    folder = write_repro(tmp_path / "repros", source_fault)
    assert folder == tmp_path / "repros" / "01_Sub_shift"
    done = run_script(folder)
    assert done.returncode == 1
    units, word = verdict(done)
    assert word == "DIVERGES"
    assert units > 1000
    mended = load(folder / "model.onnx")
    next(t for t in mended.graph.initializer if t.name == "w").CopyFrom(numpy_helper.from_array(WEIGHT, "w"))
    onnx.save(mended, tmp_path / "mended.onnx")
    done = run_script(folder, str(tmp_path / "mended.onnx"))
    assert (done.returncode, verdict(done)[1]) == (0, "agrees")


def test_a_runtime_that_gives_something_else_diverges(target_fault: Fault, tmp_path: Path) -> None:
    """Expected values that are not what onnxruntime gives stand for a wrong kernel: status 1, with the error put in."""
    right = target_fault.source.astype(np.float64)
    right[0, 0] += 0.125
    fault = replace(target_fault, right=right, options=SessionOptions(optimize=False))
    folder = write_repro(tmp_path, fault)
    done = run_script(folder)
    assert (done.returncode, verdict(done)[1]) == (1, "DIVERGES")
    assert "max abs 0.125," in done.stdout
    assert "CPUExecutionProvider, ORT_DISABLE_ALL" in done.stdout


def test_a_fault_that_is_gone_ends_with_0(target_fault: Fault, tmp_path: Path) -> None:
    """Shrunk under a runtime that is wrong at Exp, run under one that is not: the script agrees and ends with 0."""
    folder = write_repro(tmp_path, target_fault, execute=wrong_at("Exp"))
    assert [n.name for n in load(folder / "model.onnx").graph.node] == ["exponential"]
    done = run_script(folder)
    assert (done.returncode, verdict(done)[1]) == (0, "agrees")


def test_what_cannot_be_run_is_no_verdict(target_fault: Fault, tmp_path: Path) -> None:
    """A model that is not there ends with 3, neither "shows" nor "agrees"."""
    folder = write_repro(tmp_path, target_fault, execute=wrong_at("Exp"))
    done = run_script(folder, "nowhere.onnx")
    assert done.returncode == 3
    assert "could not be run" in done.stderr


def test_an_if_in_onnxruntime(target_fault: Fault, tmp_path: Path) -> None:
    """A cut node with sub-graphs runs in onnxruntime on the values that its branches read from outside."""
    inputs = {"positive": np.array(True), "a": np.float32([1, 2, 3]), "b": np.float32([0, 0, 0])}
    fault = replace(
        target_fault, model=if_model(), layer=layer("y", "if", "If"), inputs=inputs,
        source=np.float32([2, 6, 12]), target=np.float32([2, 6, 13]), right=np.array([2.0, 6.0, 13.0]),
    )  # fmt: skip
    folder = write_repro(tmp_path, fault)
    with np.load(folder / "inputs.npz") as held:
        assert sorted(held.files) == ["a", "b", "positive"]
    done = run_script(folder)
    assert done.returncode == 1
    assert "max abs 1," in done.stdout


def test_inputs_and_expected_values_are_an_ordinary_data_set(source_fault: Fault, tmp_path: Path) -> None:
    """``inputs.npz`` has exactly the model's inputs; ``test_data_set_0`` the same, and the output in its own type."""
    folder = write_repro(tmp_path, source_fault, execute=computed_in)
    model = load(folder / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    (feed,) = read([folder / "inputs.npz"])
    (same,) = read([folder / "test_data_set_0"])
    assert list(feed) == list(same) == [i.name for i in model.graph.input] == ["x"]
    np.testing.assert_array_equal(feed["x"], same["x"])
    output = onnx.TensorProto.FromString((folder / "test_data_set_0" / "output_0.pb").read_bytes())
    assert output.name == model.graph.output[0].name
    np.testing.assert_array_equal(numpy_helper.to_array(output), source_fault.source[:1])
    with np.load(folder / "expected.npz") as held:
        assert held["y"].dtype == held["y unit"].dtype == np.float64
        assert held["y"].shape == held["y unit"].shape == (1, 5)
        assert (held["y unit"] > 0).all()
    Executor(model).run(feed)


def test_names_that_numpy_has_a_use_for(target_fault: Fault, tmp_path: Path) -> None:
    """An input called ``file`` and an output with slashes are stored under these names."""
    model = chain()
    model.graph.node[4].name = "/a/sub"
    for node in model.graph.node:
        node.input[:] = [{"x": "file", "y": "/a/y:0"}.get(n, n) for n in node.input]
        node.output[:] = [{"x": "file", "y": "/a/y:0"}.get(n, n) for n in node.output]
    fault = replace(
        target_fault, model=model, inputs={"file": target_fault.inputs["x"]}, layer=layer("/a/y:0", "/a/sub", "Sub")
    )  # fmt: skip
    folder = write_repro(tmp_path, fault, execute=computed_in)
    assert folder.name == "01_Sub_a_sub"
    done = run_script(folder)
    assert (done.returncode, verdict(done)[1]) == (0, "agrees")


def test_large_weights_lie_beside_the_model(
    source_fault: Fault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above the bound the constants are external data of the repro, which onnxruntime finds there."""
    model = onnx.ModelProto()
    model.CopyFrom(source_fault.model)
    wide = np.zeros((6, 500), np.float32)
    wide[:, :5] = numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == "w"))
    next(t for t in model.graph.initializer if t.name == "w").CopyFrom(numpy_helper.from_array(wide, "w"))
    whole = np.zeros((4, 500), np.float32)
    whole[:, :5] = source_fault.source
    monkeypatch.setattr(writing, "INLINE_BYTES", 1000)
    folder = write_repro(tmp_path, replace(source_fault, model=model, source=whole, target=whole))
    assert len(list(folder.glob("model.onnx.*.data"))) == 1
    assert run_script(folder).returncode == 1


def test_no_text_names_this_machine(source_fault: Fault, tmp_path: Path) -> None:
    """Neither paths of this machine nor the user's name are in any file, though reference and note hold some."""
    folder = write_repro(tmp_path / "r", source_fault)
    texts = [path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file()]
    assert len(texts) == 7
    for text in texts:
        for place in (str(Path.cwd()), str(tmp_path), "/home/", str(Path.home()) + "/", "somebody"):
            assert place not in text
    report = (folder / "REPORT.md").read_text()
    assert "the ONNX nodes do not give what net.pt2 gives in 'block.fc'" in report
    assert "The weight w is not the one in net.pt2." in report


def test_the_report_is_ready_for_a_bug_tracker(target_fault: Fault, tmp_path: Path) -> None:
    """Title, figures, settings, the node with its attributes and no weights, versions, what was left out."""
    options = SessionOptions(threads=1, settings={"disabled_passes": ["GeluFusion"], "enable_mem_pattern": "0"})
    fault = replace(target_fault, options=options, versions={"python": "3.11.9", "onnxruntime": "1.22.0"})
    folder = write_repro(tmp_path, fault, execute=wrong_at("MatMul"))
    report = (folder / "REPORT.md").read_text()
    assert report.startswith("# onnxruntime 1.22.0 CPU: MatMul at 'product' is ")
    for part in (
        "| largest absolute error | ", ", at most 8 are rounding",
        "expected 'p'[0, ", "| seen 'p'[0, ", "python repro.py", "ORT_ENABLE_ALL, without GeluFusion",
        "intra_op_num_threads=1", "enable_mem_pattern=False", "[product] p = MatMul (x, w)", "# float32[6,5] w",
        "| onnxruntime | 1.22.0 |", "| python | 3.11.9 |", "| platform | ", "- all but item 0 of a batch of 4",
        "- what comes after 'p'",
    ):  # fmt: skip
        assert part in report
    script = (folder / "repro.py").read_text()
    assert "DISABLED_PASSES: list[str] = ['GeluFusion']\n" in script
    assert "SESSION_OPTIONS: dict[str, Any] = {'intra_op_num_threads': 1, 'enable_mem_pattern': False}\n" in script
    assert run_script(folder).returncode == 0


def test_cuda_keeps_its_settings(target_fault: Fault, tmp_path: Path) -> None:
    """The script opens the provider with the options at fault, TF32 among them."""
    options = SessionOptions(provider="cuda", tf32=False, settings={"cuda.prefer_nhwc": 0, "level": "ORT_ENABLE_BASIC"})
    folder = write_repro(tmp_path, replace(target_fault, options=options), execute=computed_in)
    script = (folder / "repro.py").read_text()
    for line in (
        "PROVIDER = 'CUDAExecutionProvider'", "LEVEL = 'ORT_ENABLE_BASIC'",
        "PROVIDER_OPTIONS: dict[str, Any] = {'use_tf32': 0, 'prefer_nhwc': 0}",
    ):  # fmt: skip
        assert f"\n{line}\n" in script


def test_a_fault_that_does_not_show_alone_is_said(target_fault: Fault, tmp_path: Path) -> None:
    """A repro that shows nothing is written all the same, and its report says so."""
    folder = write_repro(tmp_path, target_fault, execute=computed_in)
    assert "**In this graph alone the fault does not show" in (folder / "REPORT.md").read_text()


def test_faults_are_numbered(target_fault: Fault, tmp_path: Path) -> None:
    """The second fault of a folder is 02, and the first stays."""
    found = shrink(target_fault, computed_in)
    names = [writing.write_folder(tmp_path, target_fault, found).name for _ in range(2)]
    assert names == ["01_Sub_shift", "02_Sub_shift"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names


@pytest.mark.parametrize("existed", [False, True])
def test_an_interrupt_leaves_nothing(
    target_fault: Fault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existed: bool
) -> None:
    """Interrupted while it writes the last file: no folder of the fault, no staged one, and DIR as it was."""
    folder = tmp_path / "repros"
    if existed:
        folder.mkdir()

    def interrupted(*_arguments: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(writing, "report_text", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_repro(folder, target_fault, execute=computed_in)
    assert folder.exists() is existed
    assert not existed or not list(folder.iterdir())


def test_a_folder_is_checked_before_the_work(tmp_path: Path) -> None:
    """An empty or new folder is fine; one with a file in it, a file, and one without a parent are refused."""
    check_folder(tmp_path)
    check_folder(tmp_path / "new")
    with pytest.raises(UsageError, match=r"^--repro .*/a/b: there is no folder .*/a$"):
        check_folder(tmp_path / "a" / "b")
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UsageError, match=r"^--repro .*: the folder is not empty$"):
        check_folder(tmp_path)
    with pytest.raises(UsageError, match=r"^--repro .*/file: is no folder$"):
        check_folder(file)


@pytest.mark.parametrize(
    ("reference", "shown"),
    [
        ("torchvision:resnet50", "torchvision:resnet50"), ("hf:org/name", "hf:org/name"),
        ("/home/me/net.onnx", "net.onnx"), ("~/net.pt2", "net.pt2"), ("../net.py:make", "net.py:make"),
        ("torchvision:resnet50@/home/me/w.pt", "torchvision:resnet50@w.pt"), ("C:\\me\\net.onnx", "net.onnx"),
    ],
)  # fmt: skip
def test_references_lose_their_folders(reference: str, shown: str) -> None:
    """A path is told by its last part, a name in a zoo as it is."""
    assert public_reference(reference) == shown
