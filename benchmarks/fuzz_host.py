"""A host that judges one mutated file after another, as a notebook or a service would: see ``fuzz_files.py``.

Each line on its standard input is a JSON list of two paths and a time limit for jobs; each line on its standard output
tells the verdict, or the class of the error, with the seconds that it took and the most memory that this process had.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from pathlib import Path

__all__: list[str] = []


def _peak_bytes() -> int:
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def _judged(original: str, mutant: str, timeout_s: float) -> tuple[str, str]:
    """The answer, and the line that goes with it."""
    import onnxeq
    from onnxeq.errors import OnnxeqError

    try:
        report = onnxeq.check(original, mutant, providers=["cpu"], timeout_s=timeout_s)
    except OnnxeqError as error:
        return f"exit {error.exit_status}", error.line()
    except Exception:  # nothing but its own errors may come out of the library: this is a finding
        return "internal", traceback.format_exc()
    return report.verdict.value, ""


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w")  # whatever else is printed shall not be taken for one
    os.dup2(2, 1)
    for line in sys.stdin:
        original, mutant, timeout_s = json.loads(line)
        began = time.monotonic()
        answer, text = _judged(original, mutant, timeout_s)
        told = {"answer": answer, "line": text, "seconds": time.monotonic() - began, "peak_bytes": _peak_bytes()}
        print(json.dumps(told), file=answers, flush=True)


if __name__ == "__main__":
    _serve()
