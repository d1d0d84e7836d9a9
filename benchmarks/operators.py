"""Differential testing of the pinned versions, operator by operator: every true discrepancy once, with cause and repro.

    python benchmarks/operators.py                      # everything: some twenty minutes on two cores
    python benchmarks/operators.py --only torch_pool    # one table of cases
    python benchmarks/operators.py --label round        # the cases whose label holds a word
    python benchmarks/operators.py --write FILE.md      # also the table of discrepancies
    python benchmarks/operators.py --only torch_long --ratios   # long accumulations, in rounding noise

Each case runs natively in float32 and float64 and, exported, on the referee, onnx's own evaluator and onnxruntime plain
and optimised, with the ladder's units and limits. A process handles one table: hundreds of cases, one import.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from operator_trials import table
from operator_trials.results import Result, from_json, to_json

TABLES = (
    "torch_pool", "torch_elementwise", "torch_tensors", "torch_layers", "keras_layers", "keras_functions",
    "torch_long", "fused_graphs",
)  # fmt: skip
_PART = 60
"""Cases to a process: what frameworks leave behind in memory goes with it."""

_MEMORY = 12 << 30
"""Bytes of address space; of what a process asks for it touches a third."""


def main() -> None:
    """Runs the tables that are asked for and prints what they found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="tables, separated by commas")
    parser.add_argument("--label", default="", help="only cases whose label holds this")
    parser.add_argument("--write", type=Path, help="a file for the table of discrepancies")
    parser.add_argument("--results", type=Path, help="a file that keeps every result as a line of JSON")
    parser.add_argument("--ratios", action="store_true", help="also every case's errors in rounding noise")
    parser.add_argument("--part", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        name, start, file = arguments.part.split(":", 2)
        _run_part(name, int(start), arguments.label, Path(file))
        return
    started = time.monotonic()
    chosen = arguments.only.split(",") if arguments.only else list(TABLES)
    results = list(_run(chosen, arguments.label, arguments.results))
    if arguments.ratios:
        print(table.ratios(results), end="\n\n")
    print(table.text(results, time.monotonic() - started))
    if arguments.write:
        arguments.write.write_text(table.markdown(results))


def _run(tables: Sequence[str], label: str, kept: Path | None) -> Iterator[Result]:
    """Every part in a process of its own; one that dies is said and the others go on."""
    with tempfile.TemporaryDirectory() as root:
        for name in tables:
            count = len(importlib.import_module(f"operator_cases.{name}").CASES)
            for start in range(0, count, _PART):
                file = Path(root) / f"{name}-{start}.jsonl"
                file.touch()
                print(f"{name} {start + 1}-{min(start + _PART, count)}", file=sys.stderr, flush=True)
                command = [sys.executable, __file__, "--part", f"{name}:{start}:{file}", "--label", label]
                done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
                lines = file.read_text().splitlines()
                if done.returncode:
                    tail = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
                    told = f"the process ended with {done.returncode} after {len(lines)} results: {tail[0]}"
                    yield Result(f"{name} {start}", "process", "", harness_error=told)
                if kept is not None:
                    with kept.open("a") as sink:
                        sink.writelines(f"{line}\n" for line in lines)
                yield from map(from_json, lines)


def _run_part(name: str, start: int, label: str, file: Path) -> None:
    """The cases of one part, results as they come."""
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    module = importlib.import_module(f"operator_cases.{name}")
    exporters = [module.EXPORTERS] if hasattr(module, "EXPORTERS") else []
    with file.open("a") as sink, _side(name) as try_case:
        for case in module.CASES[start : start + _PART]:
            if label in case.label:
                for result in try_case(case, *exporters):
                    sink.write(to_json(result) + "\n")
                    sink.flush()


def _side(name: str):  # type: ignore[no-untyped-def]  # each side has its own case type
    """Who tries the cases of a table."""
    side = importlib.import_module(f"operator_trials.{name.partition('_')[0]}_side")
    return side.trying()


if __name__ == "__main__":
    main()
