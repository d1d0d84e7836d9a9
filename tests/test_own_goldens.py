"""The goldens of this project's own models, in ``golden/``: there for each of them, whole, and still what they give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnxeq.golden import check, store
from onnxeq.golden.values import InputsKind, Role
from onnxeq.types import Array
from onnxeq_converters import digits

FOLDER = Path(__file__).parents[1] / "golden"
MODELS = {entry.name: f"digits-{entry.name}" for entry in digits.entries()}


def test_each_digits_model_has_a_golden() -> None:
    """One golden for each of the eight models, none besides, and none that waits for a decision."""
    assert store.names(FOLDER) == sorted(MODELS.values())
    assert store.pending_names(FOLDER) == []


@pytest.mark.parametrize("model", list(MODELS))
def test_it_holds_real_pictures(model: str) -> None:
    """The first test picture of each digit, and one alone: all executions name the same digits, nine of ten right."""
    stored = store.read(FOLDER, MODELS[model])
    golden = stored.golden
    assert (golden.model, golden.inputs.kind, golden.inputs.feeds) == (f"digits:{model}", InputsKind.STORED, 2)
    roles = (Role.NATIVE, Role.RUNTIME, Role.REFEREE)
    assert {born.role for born in golden.executions} == set(roles)
    told = [_logits(model, role).argmax(1) for role in roles]
    assert all(np.array_equal(told[0], other) for other in told)
    assert (told[0] == np.arange(10)).sum() >= 9  # the first picture of a nine misleads most of them


@pytest.mark.parametrize("architecture", list(digits.ARCHITECTURES))
def test_both_frameworks_gave_the_same(architecture: str) -> None:
    """The same weights: in float64 the two graphs agree to the rounding of what their exporters folded in float32."""
    ours, theirs = (_logits(name, Role.REFEREE) for name in (architecture, digits.KERAS + architecture))
    assert ours.dtype == theirs.dtype == np.float64
    assert 0 < np.abs(ours - theirs).max() < 2**-21 * np.abs(ours).max()


def _logits(model: str, role: Role) -> Array:
    """``[10,10]``, of the picture of each digit."""
    stored = store.read(FOLDER, MODELS[model])
    logits: Array = stored.arrays[f"{role}/0/{stored.golden.outputs[0].name}"]
    assert logits.shape == (10, 10)
    return logits


def _unchanged(names: list[str]) -> None:
    checked = check([MODELS[name] for name in names], folder=FOLDER, keep_pending=False)
    assert len(checked.outcomes) == 4
    assert not [o for o in checked.outcomes if o.failed], checked
    assert checked.exit_status == 0


@pytest.mark.torch
def test_the_torch_models_give_what_they_gave() -> None:
    """The goldens of the models in torch hold: the same bits here, or others within the error bar."""
    _unchanged([name for name in MODELS if not name.startswith(digits.KERAS)])


@pytest.mark.keras
def test_the_keras_models_give_what_they_gave() -> None:
    """Those in Keras, too."""
    _unchanged([name for name in MODELS if name.startswith(digits.KERAS)])
