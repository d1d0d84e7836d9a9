"""A host process that falls for one attack after another: prints what each came to, and how much memory it took.

``python host.py ATTACKS.json`` runs the command line for each list of arguments, in the one process: who survives the
last has survived them all.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
from pathlib import Path

from onnxeq.cli.main import run


def _peak_bytes() -> int:
    """The most memory that this process had; of a forked process ``getrusage`` would tell the parent's."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def _main() -> None:
    found = []
    for arguments in json.loads(Path(sys.argv[1]).read_text()):
        out, errors, began = io.StringIO(), io.StringIO(), time.monotonic()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            status = run(arguments)
        seconds = time.monotonic() - began
        found.append({"status": status, "out": out.getvalue(), "errors": errors.getvalue(), "seconds": seconds})
    sys.stdout.write(json.dumps({"attacks": found, "peak_bytes": _peak_bytes()}))


if __name__ == "__main__":
    _main()
