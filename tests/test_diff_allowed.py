"""``onnxeq.diff`` with ``--accept`` and with ``--rtol``, ``--atol``: what is asked for passes, and nothing worse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxeq
from onnxeq.cli.main import run
from onnxeq.errors import UsageError
from onnxeq.types import Report, Role, Status, Verdict

FAULTY = Path(__file__).parent / "faulty_runner.py"
MakeConvNet = Callable[..., onnx.ModelProto]


def halved(weights: dict[str, np.ndarray]) -> None:
    """The weights of all products as float16 stores them."""
    for value in (weights["w1"], weights["w2"], weights["w3"]):
        value[...] = value.astype(np.float16).astype(np.float32)


def scaled(weights: dict[str, np.ndarray]) -> None:
    weights["w2"][3] *= np.float32(1.05)


def halved_and_scaled(weights: dict[str, np.ndarray]) -> None:
    halved(weights)
    scaled(weights)


def creating(report: Report) -> set[str]:
    return {row.node for row in report.layers if row.role is Role.CREATES}


def test_weights_in_half_precision_are_accepted_as_that(conv_net: MakeConvNet) -> None:
    """Divergent as such; with ``float16`` no layer creates error and the outputs pass in that type's own unit."""
    pair = conv_net(), conv_net(edit=halved)
    assert onnxeq.diff(*pair).verdict is Verdict.DIVERGENT
    report = onnxeq.diff(*pair, accept=["float16"])
    assert (report.verdict, report.causes, creating(report)) == (Verdict.EQUIVALENT, (), set())
    assert "accepted as float16" in report.rungs[0].reason
    assert {row.note for row in report.layers if row.local.ratio > 6} == {"accepted as float16"}


def test_nothing_worse_is_accepted(conv_net: MakeConvNet) -> None:
    """A channel that is 5 % off beside weights in half precision: that layer creates error, the others do not."""
    report = onnxeq.diff(conv_net(), conv_net(edit=halved_and_scaled), accept=["float16"])
    assert report.verdict is Verdict.DIVERGENT
    assert report.causes[0].where.node == "conv2"
    assert len(creating(report)) == 1


def test_a_type_is_accepted_with_its_own_range(conv_net: MakeConvNet) -> None:
    """1e-6 lies where float16 has steps of 2^-24: 1.3 % off is right for float16, and far too much for bfloat16, which
    keeps eight bits there as well.
    """
    pair = conv_net(), conv_net(edit=lambda w: w["millionth"].fill(np.float16(1e-6)))
    assert onnxeq.diff(*pair, accept=["float16"]).verdict is Verdict.EQUIVALENT
    assert creating(onnxeq.diff(*pair, accept=["bfloat16"])) == {"scale"}


def test_a_tolerance_replaces_the_limits(conv_net: MakeConvNet) -> None:
    """What is 5 % off lies within a tenth of the largest value; rounding lies outside of 1e-9."""
    report = onnxeq.diff(conv_net(), conv_net(edit=scaled), rtol=0.1, atol=0.5)
    assert (report.verdict, report.causes) == (Verdict.EQUIVALENT, ())
    assert (report.rungs[0].limit, report.rungs[0].status) == (1.0, Status.PASS)
    assert 0 < report.rungs[0].ratio <= 1
    strict = onnxeq.diff(conv_net(), rtol=1e-9, atol=1e-9)
    assert strict.verdict is Verdict.DIVERGENT
    assert "relu1" in creating(strict)


def test_the_options_of_a_check_are_taken(conv_net: MakeConvNet, tmp_path: object) -> None:
    """On the command line as for ``check``; of several batch sizes the first is looked into."""
    good, half = (f"{tmp_path}/{name}.onnx" for name in ("good", "half"))
    onnx.save(conv_net(), good)
    onnx.save(conv_net(edit=halved), half)
    assert run(["diff", good, half, "--quiet"]) == 1
    assert run(["diff", good, half, "--accept", "tf32,float16", "--batch", "2,4", "--providers", "cpu", "--quiet"]) == 0
    assert run(["diff", good, half, "--rtol", "1", "--atol", "1", "--quiet"]) == 0
    assert run(["diff", good, half, "--accept", "float8", "--quiet"]) == 2
    assert run(["diff", good, half, "--rtol", "-1", "--quiet"]) == 2


def test_a_runtime_without_cuda_cannot_be_asked_for_it(conv_net: MakeConvNet) -> None:
    """CUDA is onnxruntime's; another runner says so."""
    with pytest.raises(UsageError, match="onnxruntime's"):
        onnxeq.diff(conv_net(), providers=["cuda"], runner=str(FAULTY))
