"""onnxsim as one more pass, when the user asks for it.

It is not run by default: it evaluates constants in float32, and importing it took eight seconds where a
ResNet-50 takes one here. Its native code can print, hang or abort, so
it runs in a child process with a time limit and a bound on what it may fold.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import onnx
import onnx_ir as ir

from onnxeq.errors import CannotRun
from onnxeq.graph.frame import ANY, Options, Outcome, Pass

__all__ = ["SIMPLIFY", "TIMEOUT_S"]

TIMEOUT_S = 120.0

_CHILD = """
import sys, onnx, onnxsim
model, ok = onnxsim.simplify(sys.argv[1], certify=False, tensor_size_threshold="4MB")
onnx.save(model, sys.argv[2])
"""


def _run(model: ir.Model, options: Options) -> Outcome:
    del options
    with tempfile.TemporaryDirectory(prefix="onnxeq-") as folder:
        source, target = Path(folder, "in.onnx"), Path(folder, "out.onnx")
        proto = ir.serde.serialize_model(model)
        try:
            onnx.save(proto, source)
        except ValueError as error:
            raise CannotRun(f"onnxsim cannot take a model of this size: {error}") from error
        command = [sys.executable, "-c", _CHILD, str(source), str(target)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise CannotRun(f"onnxsim ran longer than {TIMEOUT_S:.0f} s and was stopped") from error
        if done.returncode or not target.is_file():
            lines = done.stderr.strip().splitlines()
            raise CannotRun(f"onnxsim failed (status {done.returncode}): {lines[-1] if lines else 'no message'}")
        simplified = onnx.load(target)
    if simplified.graph.SerializeToString(True) == proto.graph.SerializeToString(True):
        return Outcome(0)
    return Outcome(1, "", ir.serde.deserialize_model(simplified))


SIMPLIFY = Pass(
    name="onnxsim",
    does="Runs onnxsim in a process of its own (only when asked for: it folds in float32).",
    run=_run,
    adds=ANY,
    removes=ANY,
    by_default=False,
)
