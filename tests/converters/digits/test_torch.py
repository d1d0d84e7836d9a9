"""The digits models in torch: what they tell, and that training repeats itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxeq.errors import UnknownModel
from onnxeq.protocols import LoadRequest
from onnxeq.types import Precision, ValueRange
from onnxeq.zoo import parse
from onnxeq_converters import digits, from_torch

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

FILES = [(architecture, kind) for architecture in digits.ARCHITECTURES for kind in digits.SEEDS]


def _native(text: str) -> Any:
    return from_torch.load(LoadRequest(parse(text)), lambda _step: None)


@pytest.fixture(scope="module")
def split() -> Any:
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    from onnxeq_converters.digits import data

    return data.split()


@pytest.mark.parametrize(("architecture", "kind"), FILES)
def test_the_accuracy_is_what_is_stated(split: Any, architecture: str, kind: str) -> None:
    """The zoo's model, with the zoo's weights, tells as many test pictures right as the table says."""
    from onnxeq_converters.digits.data import prepared

    native = _native(f"digits:{architecture}@{kind}")
    (logits,) = native.run({"image": prepared(split.test_pixels)}, Precision.F32).values()
    assert logits.shape == (359, 10)
    assert (logits.argmax(1) == split.test_labels).sum() == digits.RIGHT[architecture][kind]


def test_a_model_says_what_it_takes_and_is() -> None:
    """``image: float32[N,8,8]`` from 0 to 1, and the kind of its weights."""
    native = _native("digits:cnn@retrained")
    (spec,) = native.signature.inputs
    assert (spec.text(), spec.range) == ("float32[N,8,8]", ValueRange(0, 1))
    assert (native.provenance["zoo"], native.provenance["weights"]) == ("digits", "retrained")
    with pytest.raises(UnknownModel, match="digits has no model cmm"):
        _native("digits:cmm")


def test_normalisations_hold_trained_statistics() -> None:
    """Running means and variances are those of training, not zeros and ones."""
    for architecture in ("cnn", "resnet"):
        state = digits.shipped(architecture, "pretrained")
        means = [v for n, v in state.items() if n.endswith("running_mean")]
        assert means
        assert all(np.all(v != 0) for v in means)
        assert all(np.all(v != 1) for n, v in state.items() if n.endswith("running_var"))


def test_a_file_of_weights_takes_the_place_of_the_shipped(tmp_path: Path) -> None:
    """``@FILE`` with the retrained bytes is ``@retrained``; ``@seeded`` is neither."""
    copy = tmp_path / "mine.safetensors"
    copy.write_bytes(digits.shipped_file("gru", "retrained").read_bytes())
    marks = [
        _native(f"digits:gru@{w}").provenance["weights_sha256"] for w in (copy, "retrained", "pretrained", "seeded")
    ]
    assert marks[0] == marks[1]
    assert len(set(marks)) == 3


@pytest.mark.parametrize("architecture", list(digits.ARCHITECTURES))
def test_training_repeats_itself(split: Any, tmp_path: Path, architecture: str) -> None:
    """A few steps from one seed give the same bytes whatever the caller drew before; another seed gives others."""
    pytest.importorskip("safetensors")
    import torch

    from onnxeq_converters.digits import train

    few = train.Split(split.train_pixels[:96], split.train_labels[:96], split.test_pixels, split.test_labels)
    written = []
    for index, seed in enumerate((3, 3, 4)):
        torch.rand(index + 1)
        before = torch.random.get_rng_state()
        path = tmp_path / f"{index}.safetensors"
        train.write(train.train(architecture, seed, few, train.Plan(2, 1e-3, 32)), path)
        assert torch.equal(torch.random.get_rng_state(), before)
        written.append(path.read_bytes())
    assert written[0] == written[1]
    assert written[0] != written[2]
