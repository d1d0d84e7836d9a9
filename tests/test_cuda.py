"""The CUDA rungs: on a device they run and are judged; without one they say why not."""

from __future__ import annotations

from collections.abc import Callable

import onnx
import pytest

import onnxeq
from onnxeq.runners.ort import cuda_device
from onnxeq.types import Status, Verdict

MakeConvNet = Callable[..., onnx.ModelProto]

has_gpu = pytest.mark.skipif(not cuda_device(), reason="no CUDA device on this machine")
no_gpu = pytest.mark.skipif(bool(cuda_device()), reason="this machine has a CUDA device")


@no_gpu
def test_cuda_that_was_asked_for_and_is_not_there_leaves_the_verdict_open(conv_net: MakeConvNet) -> None:
    """Asked for: inconclusive with the reason. Not asked for: the rung is not run and the verdict stands."""
    asked = onnxeq.check(conv_net(), providers=["cpu", "cuda"])
    assert asked.verdict is Verdict.INCONCLUSIVE
    provider = [r for r in asked.rungs if r.name == "provider"]
    assert all(r.status is Status.NOT_RUN and "no CUDA device" in r.reason for r in provider)
    assert onnxeq.check(conv_net()).verdict is Verdict.EQUIVALENT


@pytest.mark.gpu
@has_gpu
def test_cuda_without_tf32_agrees_with_the_cpu(conv_net: MakeConvNet) -> None:
    """The provider rung without TF32 is within rounding noise."""
    report = onnxeq.check(conv_net(), providers=["cpu", "cuda"])
    provider = next(r for r in report.rungs if r.target == "ort/cuda no-tf32")
    assert provider.status is Status.PASS


@pytest.mark.gpu
@has_gpu
def test_tf32_is_accepted_when_asked_for(conv_net: MakeConvNet) -> None:
    """With ``--accept tf32`` a device's default arithmetic passes, whether or not it uses TF32."""
    report = onnxeq.check(conv_net(), providers=["cpu", "cuda"], accept=["tf32"])
    assert report.verdict is Verdict.EQUIVALENT
