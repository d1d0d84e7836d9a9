"""One executor in a process of its own: times single runs on request, then tells the process's peak memory.

    python benchmarks/executor_process.py export MODEL FOLDER    writes FOLDER/model.onnx and FOLDER/image.npy
    python benchmarks/executor_process.py torch MODEL FOLDER
    python benchmarks/executor_process.py referee MODEL FOLDER

The last two read lines: ``run`` is answered with the seconds of one run, ``end`` with a JSON object: ``peak`` and
``imports`` (resident bytes at most, and once everything was imported), ``result`` (the largest outputs, to compare).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIZE = 224


def resident(field: str) -> int:
    """Bytes from the kernel's own account: ``VmRSS`` now, ``VmHWM`` at most (getrusage's includes the parent's)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def build(name: str) -> Any:
    """A model of torchvision with random weights, the same ones in every process.

    They are torchvision's own, but what begins as zero is drawn: the head of a ViT, which would hide all before it.
    """
    import torch
    import torchvision

    torch.set_num_threads(1)
    torch.manual_seed(0)
    options = {"weights_backbone": None} if "deeplab" in name else {}
    model = torchvision.models.get_model(name, weights=None, **options).eval()
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    return model


def export(name: str, folder: Path) -> None:
    """The model as torch's exporter writes it by default."""
    import torch

    image = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.onnx.export(build(name), (image,), folder / "model.onnx", dynamo=True, verbose=False)
    np.save(folder / "image.npy", image.numpy())


def with_torch(name: str, folder: Path) -> tuple[int, Callable[[], NDArray[np.float64]]]:
    """The framework in float64: resident bytes after the imports, and what to time."""
    import torch
    import torchvision  # noqa: F401  (an import, so that it is not charged to the model)

    imports = resident("VmRSS")
    model = build(name).double()
    image = torch.from_numpy(np.load(folder / "image.npy")).double()

    def run() -> NDArray[np.float64]:
        with torch.inference_mode():
            found = model(image)
        output = found["out"] if isinstance(found, dict) else found
        return np.asarray(output.numpy())

    return imports, run


def with_referee(folder: Path) -> tuple[int, Callable[[], NDArray[np.float64]]]:
    """The referee, as its job uses it."""
    from onnxeq.graph.inspect import load
    from onnxeq.referee import Executor

    imports = resident("VmRSS")
    executor = Executor(load(folder / "model.onnx"), base_dir=folder)
    feed = {executor.inputs[0].name: np.load(folder / "image.npy")}
    first = executor.outputs[0].name

    def run() -> NDArray[np.float64]:
        return np.asarray(executor.run(feed)[first])

    return imports, run


def main() -> int:
    """Serves until ``end``."""
    kind, name, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    if kind == "export":
        export(name, folder)
        return 0
    imports, run = with_torch(name, folder) if kind == "torch" else with_referee(folder)
    output = run()  # the first run allocates and lifts what the others find
    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip() == "end":
            break
        began = time.perf_counter()
        output = run()
        print(time.perf_counter() - began, flush=True)
    head = output.ravel()[:: max(1, output.size // 1000)]
    print(json.dumps({"peak": resident("VmHWM"), "imports": imports, "result": head.tolist()}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
