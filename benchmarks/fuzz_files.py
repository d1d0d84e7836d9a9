"""Bytes flipped in real ONNX files: the host must live, answer, and call no changed computation equivalent.

A mutant is a model of the pool (those that the onnx package brings with it, and small ones of ``ONNXEQ_REAL_MODELS``)
with one to four of its bytes changed; of three mutants two are such that the parser still takes them.
``onnxeq check ORIGINAL MUTANT`` judges it through the Python interface, in one host process for all of them, which is
watched: its death is a *crash*, an answer that does not come a *hang*, an exception that is none of onnxeq's own is
*internal*. Another process, which knows nothing of onnxeq, says whether the computation changed (``fuzz_oracle.py``);
the verdict ``equivalent`` for one that did is *false*.

``python benchmarks/fuzz_files.py --count 500 --seed 0``; exit status 1 if there was any of the four.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from fuzz_oracle import Truth

__all__ = ["Outcome", "Served", "fuzz", "main", "mutated", "pool", "readable_mutant", "table"]

HANG_S = 600.0
"""A check that has not answered by then hangs: its jobs are stopped after :data:`JOB_S` each."""

JOB_S = 60.0
LARGEST_BYTES = 1 << 20


@dataclass(frozen=True)
class Outcome:
    """One mutant.

    Attributes:
        original: The model that it was made from.
        places: Where bytes were changed.
        truth: What is known of it.
        answer: ``equivalent``, ``divergent``, ``inconclusive``, ``exit 2``, ``exit 3``, ``internal``, ``crash`` or
            ``hang``.
        line: What was said with an error.
        seconds: How long the check took.
        peak_bytes: The most memory that the host had by then.
    """

    original: Path
    places: tuple[int, ...]
    truth: Truth
    answer: str
    line: str
    seconds: float
    peak_bytes: int

    @property
    def false(self) -> bool:
        """Whether a computation that changed was called equivalent."""
        return self.answer == "equivalent" and self.truth in (Truth.CHANGED, Truth.REFUSED, Truth.UNREADABLE)

    @property
    def bad(self) -> bool:
        """Whether this may not be."""
        return self.false or self.answer in ("crash", "hang", "internal")


class Served:
    """A process that answers a line with a line, and is started again when it has died or was stopped."""

    def __init__(self, *command: str, env: dict[str, str] | None = None) -> None:
        self._command = command
        self._env = env
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def ask(self, question: object, timeout_s: float) -> str | None:
        """The answer; an empty one when the process died, ``None`` when none came in time."""
        if self._process is None or self._process.poll() is not None:
            self._start()
        process = self._process
        assert process is not None
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(question) + "\n")
            process.stdin.flush()
            return self._lines.get(timeout=timeout_s)
        except BrokenPipeError:
            return ""
        except queue.Empty:
            self.close()
            return None

    def _start(self) -> None:
        self._lines = queue.SimpleQueue()
        self._process = subprocess.Popen(
            [sys.executable, *self._command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, env={**os.environ, **(self._env or {})},
        )  # fmt: skip
        threading.Thread(target=self._read, args=(self._process, self._lines), daemon=True).start()

    @staticmethod
    def _read(process: subprocess.Popen[str], lines: queue.SimpleQueue[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line.strip())
        lines.put("")

    def close(self) -> None:
        """Stops the process; what it started ends with it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def pool() -> list[Path]:
    """The models to mutate, small ones that onnxruntime runs, in a fixed order."""
    data = Path(onnx.__file__).parent / "backend" / "test" / "data"
    found = [
        p for kind in ("pytorch-converted", "pytorch-operator", "simple") for p in data.glob(f"{kind}/*/model.onnx")
    ]
    found += [p for p in (data / "light").glob("*.onnx") if "squeezenet" in p.name or "shufflenet" in p.name]
    real = Path(os.environ.get("ONNXEQ_REAL_MODELS", "../shared/models"))
    found += list(real.rglob("*.onnx")) if real.is_dir() else []
    oracle = Served(str(Path(__file__).with_name("fuzz_oracle.py")))
    small = sorted(path for path in found if path.stat().st_size <= LARGEST_BYTES)
    runs = [path for path in small if oracle.ask([str(path), str(path)], JOB_S) == Truth.SAME.value]
    oracle.close()
    return runs


def readable_mutant(data: bytes, rng: random.Random) -> tuple[bytes, tuple[int, ...]]:
    """A mutant that the parser still takes, if one of thirty is such: most flips break the lengths of messages."""
    made = mutated(data, rng)
    for _ in range(30):
        try:
            if onnx.ModelProto.FromString(made[0]).graph.output:
                break
        except Exception:  # the parser's own kinds
            made = mutated(data, rng)
    return made


def mutated(data: bytes, rng: random.Random) -> tuple[bytes, tuple[int, ...]]:
    """The bytes with one to four of them changed, and where."""
    changed = bytearray(data)
    places = tuple(sorted(rng.sample(range(len(data)), k=min(len(data), rng.choice((1, 1, 2, 4))))))
    for place in places:
        changed[place] ^= 1 << rng.randrange(8) if rng.random() < 0.5 else rng.randrange(1, 256)
    return bytes(changed), places


def fuzz(models: Sequence[Path], count: int, seed: int, folder: Path, *, progress: bool = True) -> list[Outcome]:
    """Judges ``count`` mutants of the models in turn.

    Args:
        models: What to mutate.
        count: How many mutants.
        seed: Of the mutations.
        folder: Where mutants and the cache are kept.
        progress: Whether a line per mutant goes to standard error.
    """
    here = Path(__file__).parent
    host = Served(str(here / "fuzz_host.py"), env={"ONNXEQ_CACHE": str(folder / "cache")})
    oracle = Served(str(here / "fuzz_oracle.py"))
    outcomes = []
    try:
        for index in range(count):
            rng = random.Random(f"{seed}/{index}")  # noqa: S311 - no secret
            original = models[index % len(models)] if count >= len(models) else rng.choice(models)
            data, places = (mutated if index % 3 == 0 else readable_mutant)(original.read_bytes(), rng)
            mutant = folder / f"{index}" / "mutant.onnx"
            mutant.parent.mkdir(parents=True)
            mutant.write_bytes(data)
            outcomes.append(_outcome(host, oracle, original, mutant, places))
            if progress:
                made = outcomes[-1]
                name = original.parent.name if original.stem == "model" else original.stem
                text = f"{index}: {name} at {places}: {made.truth.value}, {made.answer}, {made.seconds:.1f} s"
                print(text + ("  <-- BAD" if made.bad else ""), made.line[:160], file=sys.stderr, flush=True)
    finally:
        host.close()
        oracle.close()
    return outcomes


def _outcome(host: Served, oracle: Served, original: Path, mutant: Path, places: tuple[int, ...]) -> Outcome:
    said = oracle.ask([str(original), str(mutant)], JOB_S)
    truth = Truth(said) if said else Truth.REFUSED
    began = time.monotonic()
    told = host.ask([str(original), str(mutant), JOB_S], HANG_S)
    if not told:
        answer = "hang" if told is None else "crash"
        return Outcome(original, places, truth, answer, "", time.monotonic() - began, 0)
    row = json.loads(told)
    return Outcome(
        original, places, truth, str(row["answer"]), str(row["line"]), float(row["seconds"]), int(row["peak_bytes"])
    )


def table(outcomes: Sequence[Outcome]) -> str:
    """What came of it, answers against truths, and the four numbers that must be 0."""
    answers = sorted({o.answer for o in outcomes})
    width = max(14, *(len(a) for a in answers)) + 2
    lines = [" " * 14 + "".join(a.rjust(width) for a in answers)]
    counts = Counter((o.truth, o.answer) for o in outcomes)
    for truth in Truth:
        lines.append(truth.value.ljust(14) + "".join(str(counts[truth, a]).rjust(width) for a in answers))
    times = sorted(o.seconds for o in outcomes)
    peak = max(o.peak_bytes for o in outcomes) / 2**20
    lines += [
        "",
        f"mutants {len(outcomes)} of {len({o.original for o in outcomes})} models",
        f"crashes {sum(o.answer == 'crash' for o in outcomes)}, hangs {sum(o.answer == 'hang' for o in outcomes)}, "
        f"internal errors {sum(o.answer == 'internal' for o in outcomes)}, "
        f"false equivalents {sum(o.false for o in outcomes)}",
        f"unchanged but not equivalent {sum(o.truth is Truth.SAME and o.answer != 'equivalent' for o in outcomes)}",
        f"host's peak memory {peak:.0f} MiB; seconds per mutant: median {times[len(times) // 2]:.1f}, "
        f"mean {sum(times) / len(times):.1f}, longest {times[-1]:.1f}",
    ]
    return "\n".join(lines)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keep the mutants here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        outcomes = fuzz(pool(), arguments.count, arguments.seed, folder)
    print(table(outcomes))
    for made in outcomes:
        if made.bad:
            print(f"{made.answer}, {made.truth.value}: {made.original} at {made.places} {made.line}")
    return int(any(made.bad for made in outcomes))


if __name__ == "__main__":
    sys.exit(main())
