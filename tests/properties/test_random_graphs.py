"""Random valid models: the referee, onnxruntime and the limits against each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import event, given
from numpy.typing import NDArray
from random_graphs.builder import Sample
from random_graphs.judge import PLAIN, REFEREE, Refused, execute, rungs
from random_graphs.strategy import FAMILIES, models

from onnxeq.referee import Executor, NodeInfo
from onnxeq.types import Status

MIXES = {
    "everything": tuple(FAMILIES),
    "windows": ("windows",),
    "sampling": ("resize", "normalizations"),
    "reductions": ("reductions", "linear", "normalizations", "discrete"),
    "moves": ("shapes", "elementwise", "discrete"),
    "compound": ("compound", "shapes", "linear"),
}

JUDGED = 0.9
"""The least share of drawn models that must reach a verdict. Others are refused by ``onnx.checker``, whose shape
rules differ from both runtimes' (``ceil_mode``), or change shape by rounding alone; each is an event."""


def _valid(sample: Sample) -> bool:
    try:
        onnx.checker.check_model(sample.model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        event(f"refused by onnx.checker: {str(error)[:60]}")
        return False
    return True


def _same_form(ours: NDArray[Any], theirs: NDArray[Any]) -> bool:
    """Shape, and type: any float for the referee's float64."""
    both_float = ours.dtype.kind == "f" and theirs.dtype.kind == "f"
    return ours.shape == theirs.shape and (both_float or ours.dtype == theirs.dtype)


@pytest.mark.parametrize("mix", MIXES)
def test_onnxruntime_and_the_referee_agree_within_the_limits(mix: str) -> None:
    """Valid models run in all three; types and shapes are equal; the kernels and optimizer rungs do not break."""
    tally: Counter[str] = Counter()

    @given(models(MIXES[mix]))
    def holds(sample: Sample) -> None:
        tally["drawn"] += 1
        if not _valid(sample):
            return
        try:
            found = execute(sample)
        except Refused as error:
            event(f"refused by onnxruntime: {str(error)[-60:]}")
            return
        for ours, theirs in zip(found[REFEREE], found[PLAIN], strict=True):
            for name, value in ours.items():
                form = f"{value.dtype} {value.shape} for {theirs[name].dtype} {theirs[name].shape}"
                assert _same_form(value, theirs[name]), f"output {name} is {form}"
        for rung in rungs(found):
            if rung.status is Status.NOT_RUN:
                event(f"undecided: {rung.reason[:40]}")
                return
            said = (
                f"{rung.max_abs:.3g} at {rung.output}, {rung.ratio:.3g}x noise, {rung.limit:g}x allowed {rung.reason}"
            )
            assert rung.status is Status.PASS, f"{rung.name}: {said}"
        tally["judged"] += 1

    holds()
    assert tally["judged"] >= JUDGED * tally["drawn"], tally


class _Watcher:
    """A hook that changes nothing."""

    def constant(self, name: str, value: NDArray[np.float64], dtype: str) -> NDArray[np.float64]:
        return value

    def node(self, info: NodeInfo, inputs: Sequence[Any], outputs: list[Any]) -> list[Any]:
        return outputs


def _bits(values: dict[str, Any]) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {name: (v.dtype.name, v.shape, v.tobytes()) for name, v in values.items()}


def test_the_referee_gives_the_same_bits_however_it_is_asked() -> None:
    """Twice, watched by a hook that does nothing, all values at once, and each value alone: the same bits."""

    @given(models())
    def holds(sample: Sample) -> None:
        executor, feed = Executor(sample.model), sample.feeds[0]
        first = _bits(executor.run(feed))
        assert _bits(executor.run(feed)) == first
        assert _bits(Executor(sample.model).run(feed, hook=_Watcher())) == first
        names = [name for node in sample.model.graph.node for name in node.output]
        whole = _bits(executor.run(feed, outputs=names))
        assert {name: whole[name] for name in first} == first
        for name in names:
            assert _bits(executor.run(feed, outputs=[name])) == {name: whole[name]}, name

    holds()
