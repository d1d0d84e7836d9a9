"""Mutated model files: a few of what ``benchmarks/fuzz_files.py`` does by the hundred, and what its oracle knows."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from corpus.models import graph, model
from onnx import helper as h
from onnx import numpy_helper

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from fuzz_files import Outcome, fuzz, mutated
from fuzz_oracle import Truth, decide

MUTANTS = 25


def _affine(bias: float = 1.0, *, name: str = "sum") -> onnx.ModelProto:
    """``y = relu(x + bias)``."""
    stored = numpy_helper.from_array(np.full((2, 3), bias, np.float32), "w")
    nodes = [h.make_node("Add", ["x", "w"], ["s"], name=name), h.make_node("Relu", ["s"], ["y"])]
    return model(graph(nodes, initializers=[stored]))


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[Outcome]:
    folder = tmp_path_factory.mktemp("mutants")
    (folder / "model.onnx").write_bytes(_affine().SerializeToString())
    return fuzz([folder / "model.onnx"], MUTANTS, 0, folder, progress=False)


@pytest.mark.slow
def test_the_host_answers_for_every_mutant(outcomes: list[Outcome]) -> None:
    """Twenty-five mutants of a small model, one host: no crash, no hang, no error that is not onnxeq's own."""
    assert len(outcomes) == MUTANTS
    assert [o for o in outcomes if o.answer in ("crash", "hang", "internal")] == []
    assert max(o.peak_bytes for o in outcomes) < 400 << 20


@pytest.mark.slow
def test_no_changed_computation_is_equivalent(outcomes: list[Outcome]) -> None:
    """Whatever the oracle knows to be changed, refused or unreadable is not called equivalent; there are such."""
    assert [o for o in outcomes if o.false] == []
    assert sum(o.truth in (Truth.CHANGED, Truth.REFUSED, Truth.UNREADABLE) for o in outcomes) > MUTANTS // 4


def test_a_mutant_differs_where_it_says() -> None:
    """Mutation changes exactly the bytes that it names, one to four of them."""
    for seed in range(50):
        data, places = mutated(bytes(100), random.Random(seed))  # noqa: S311 - no secret
        assert 1 <= len(places) <= 4
        assert tuple(i for i, byte in enumerate(data) if byte) == places


@pytest.mark.parametrize(
    ("change", "truth"),
    [
        (lambda made: setattr(made.graph.node[0], "name", "other"), Truth.SAME),
        (lambda made: setattr(made, "producer_name", "other"), Truth.SAME),
        (lambda made: setattr(made.graph.node[1], "op_type", "Neg"), Truth.CHANGED),
        (lambda made: setattr(made.graph.node[1], "op_type", "Rleu"), Truth.REFUSED),
        (lambda made: made.graph.initializer[0].CopyFrom(_affine(1.5).graph.initializer[0]), Truth.CHANGED),
        (lambda made: made.graph.initializer[0].CopyFrom(_affine(1.0000001).graph.initializer[0]), Truth.UNDECIDED),
    ],
)
def test_what_the_oracle_knows(tmp_path: Path, change: Callable[[Any], None], truth: Truth) -> None:
    """Names are nothing, operators and constants are; a constant moved by one unit in the last place is left open."""
    made = _affine()
    (tmp_path / "a.onnx").write_bytes(made.SerializeToString())
    change(made)
    (tmp_path / "b.onnx").write_bytes(made.SerializeToString())
    assert decide(tmp_path / "a.onnx", tmp_path / "b.onnx") is truth
