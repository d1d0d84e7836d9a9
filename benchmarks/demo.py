"""The tool at work: a real model that is equivalent to its export, then a damaged artifact of the same model.

Run by ``make demo``. It needs no network: the weights are seeded. The damage is one output channel of one
convolution scaled by 1.002, which the usual tolerance of 1e-3 lets through.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

SOURCE = "torchvision:resnet18@seeded"


def onnxeq(*arguments: str) -> int:
    """Runs the command as a user would, and shows it."""
    print(f"\n$ onnxeq {' '.join(arguments)}\n", flush=True)
    return subprocess.run([sys.executable, "-m", "onnxeq", *arguments], check=False).returncode


def damage(source: Path, target: Path) -> str:
    """Scales one output channel of the middle convolution by 1.002; returns its weight's name."""
    model = onnx.load(source)
    weights = [t for t in model.graph.initializer if len(t.dims) == 4]
    tensor = weights[len(weights) // 2]
    value = numpy_helper.to_array(tensor).copy()
    value[0] *= np.float32(1.002)
    tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    onnx.save(model, target)
    return str(tensor.name)


def main() -> int:
    """Runs both checks; 0 when the first is equivalent and the second divergent."""
    with tempfile.TemporaryDirectory() as folder:
        first = onnxeq("check", SOURCE)
        good, bad = Path(folder) / "resnet18.onnx", Path(folder) / "damaged.onnx"
        converted = onnxeq("convert", SOURCE, "-o", str(good))
        name = damage(good, bad)
        print(f"\n(one of the channels of {name} is now scaled by 1.002)")
        second = onnxeq("check", SOURCE, str(bad))
    right = (first, converted, second) == (0, 0, 1)
    print(f"\nexit statuses {first}, {converted}, {second}: {'as expected' if right else 'expected 0, 0, 1'}")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
