"""Runs a sample as the product does, and judges it by the product's own rungs."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import onnx

from onnxeq.arrays import load_feeds, save_feeds
from onnxeq.errors import CannotRun
from onnxeq.ladder import Execution, Rules, RungPlan, Units, climb
from onnxeq.runners import ort, referee
from onnxeq.types import Feed, Rung
from onnxeq.worker import Job

from .builder import Sample

__all__ = ["PLAIN", "REFEREE", "Executions", "Refused", "execute", "rungs"]

REFEREE, PLAIN, OPTIMIZED = "referee/f64", "ort/cpu plain", "ort/cpu"

PLANS = (RungPlan("kernels", REFEREE, PLAIN), RungPlan("optimizer", PLAIN, OPTIMIZED))


class Refused(Exception):
    """onnxruntime does not run the model even without optimisations: it is no witness for it."""


Executions = dict[str, tuple[Feed, ...]]


def execute(sample: Sample, seed: int = 0) -> Executions:
    """The traces of the referee and of onnxruntime, optimisations off and on, and ``rounding``, the unit."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        onnx.save(sample.model, root / "model.onnx")
        save_feeds(root / "feeds", sample.feeds)
        inputs = {"model": root / "model.onnx", "feeds": root / "feeds"}

        def job(name: str, **params: Any) -> Job:
            (root / name).mkdir()
            return Job({"names": {}, "seed": seed, **params}, inputs, root / name, lambda _step: None)

        found: Executions = {}
        judged = job("referee", rounding=True)
        referee.run(judged)
        found[REFEREE] = tuple(load_feeds(judged.out / "trace"))
        found["rounding"] = tuple(load_feeds(judged.out / "rounding"))
        for name, optimize in ((PLAIN, False), (OPTIMIZED, True)):
            ran = job("optimized" if optimize else "plain", provider="cpu", optimize=optimize)
            try:
                ort.run(ran)
            except CannotRun as error:
                if optimize:
                    raise
                raise Refused(str(error)) from error
            found[name] = tuple(load_feeds(ran.out / "trace"))
        return found


def rungs(found: Executions) -> tuple[Rung, ...]:
    """The kernels and the optimizer rung."""
    executions = {name: Execution(name, found[name]) for name in (REFEREE, PLAIN, OPTIMIZED)}
    return climb(PLANS, executions, Units(rounding=found["rounding"]), Rules())
