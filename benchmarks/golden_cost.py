"""Wall time of ``onnxeq golden check`` on fifty goldens beside that of merely running their models.

Running the models is one process that imports onnxruntime, loads every model and its inputs and runs it, with the same
session options. The check is the command as a user types it, start-up included: it makes the inputs again from their
seeds, holds each golden against its digests, runs every model and compares. Runs alternate, so that a machine's drift
meets both; the ratio of the medians is what to look at. One run of each goes before, not counted: what is installed has
its bytecode beside it, which a fresh checkout, or PYTHONDONTWRITEBYTECODE, would compile at every start.

    python benchmarks/golden_cost.py [--models N] [--repeats N] [--width N] [--size N]
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxeq.golden import record, store
from onnxeq.golden.feeds import regenerated

RUN = """
import sys, pathlib, numpy, onnxruntime
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.onnx")):
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    for feed in sorted(path.parent.glob(path.stem + "-*.npz")):
        with numpy.load(feed) as held:
            session.run(None, dict(held))
"""


def network(seed: int, width: int, size: int) -> onnx.ModelProto:
    """Six convolutions with rectifiers, a mean and a matrix product: ``float32[N,3,S,S] -> float32[N,10]``."""
    rng = np.random.default_rng(seed)
    nodes, stored = [], []
    channels, value = 3, "x"
    for layer in range(6):
        weight = rng.standard_normal((width, channels, 3, 3)) * (2 / (9 * channels)) ** 0.5
        stored.append(numpy_helper.from_array(weight.astype(np.float32), f"w{layer}"))
        nodes.append(helper.make_node("Conv", [value, f"w{layer}"], [f"c{layer}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{layer}"], [f"r{layer}"]))
        channels, value = width, f"r{layer}"
    stored.append(numpy_helper.from_array((rng.standard_normal((width, 10)) * 0.5).astype(np.float32), "head"))
    nodes += [
        helper.make_node("GlobalAveragePool", [value], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "head"], ["logits"]),
    ]
    shape = ["N", 3, size, size]
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])], stored,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def prepare(folder: Path, count: int, width: int, size: int) -> float:
    """Makes the models, their goldens and their inputs; gives the seconds that recording one took.

    All have the same weights, so that one is recorded and the others are its copies under names of their own.
    """
    goldens = folder / "golden"
    onnx.save(network(0, width, size), folder / "net00.onnx")
    began = time.perf_counter()
    golden = record(str(folder / "net00.onnx"), "net00", folder=goldens)
    took = time.perf_counter() - began
    stored = store.read(goldens, "net00")
    for number in range(count):
        name = f"net{number:02d}"
        if number:
            shutil.copy(folder / "net00.onnx", folder / f"{name}.onnx")
            model = golden.model.replace("net00", name)
            with store.locked(goldens, name, wait=False):
                store.commit(goldens, dataclasses.replace(golden, name=name, model=model), stored.arrays)
        for index, feed in enumerate(regenerated(golden.inputs)):
            np.savez(folder / f"{name}-{index}.npz", **feed)
    return took


def seconds(command: list[str], bytecode: Path) -> float:
    """Wall seconds of a command that must succeed."""
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    env["PYTHONPYCACHEPREFIX"] = str(bytecode)
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
    return time.perf_counter() - began


def main() -> None:
    """Prints both medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--width", type=int, default=64, help="channels of each convolution")
    parser.add_argument("--size", type=int, default=48, help="height and width of the input")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ.setdefault("ONNXEQ_CACHE", str(Path(scratch) / "cache"))
        folder = Path(scratch)
        each = prepare(folder, asked.models, asked.width, asked.size)
        plain = [sys.executable, "-c", RUN, str(folder)]
        check = [sys.executable, "-m", "onnxeq", "golden", "check", "--quiet", "--dir", str(folder / "golden")]
        times: dict[str, list[float]] = {"run": [], "check": []}
        for turn in range(asked.repeats + 1):
            for name, command in (("run", plain), ("check", check)):
                took = seconds(command, folder / "bytecode")
                if turn:
                    times[name].append(took)
    run, checked = (statistics.median(times[name]) for name in ("run", "check"))
    shape = f"{asked.width} channels, 3x{asked.size}x{asked.size}"
    print(f"{asked.models} models of 6 convolutions, {shape}, 4 images each")
    print(f"running the models {run:6.2f} s   golden check {checked:6.2f} s   ratio {checked / run:.2f} (aim 1.5)")
    print(f"recording a golden {each:6.2f} s")


if __name__ == "__main__":
    main()
