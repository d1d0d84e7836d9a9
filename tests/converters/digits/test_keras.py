"""The digits models in Keras: torch's weights, and torch's answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnxeq
from onnxeq.errors import UnknownModel, UsageError
from onnxeq.protocols import LoadRequest
from onnxeq.types import Precision, ValueRange, Verdict
from onnxeq.zoo import parse
from onnxeq_converters import digits, from_keras

pytestmark = [pytest.mark.keras, pytest.mark.usefixtures("keras")]

ARCHITECTURES = list(digits.ARCHITECTURES)


def _native(text: str) -> Any:
    return from_keras.load(LoadRequest(parse(text)), lambda _step: None)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_accuracy_is_torchs(architecture: str) -> None:
    """The same weights tell the same number of test pictures right: what the table says."""
    pytest.importorskip("sklearn")
    from onnxeq_converters.digits.data import prepared, split

    pictures = split()
    for kind in digits.SEEDS:
        native = _native(f"digits:keras-{architecture}@{kind}")
        (logits,) = native.run({"image": prepared(pictures.test_pixels)}, Precision.F32).values()
        assert (logits.argmax(1) == pictures.test_labels).sum() == digits.RIGHT[architecture][kind]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_weight_of_torch_has_its_place(architecture: str) -> None:
    """Keras holds as many numbers as torch (but its counters of batches), and the same ones."""
    native = _native(f"digits:keras-{architecture}")
    held = [v for n, v in native.weights().items() if not n.endswith("seed_generator_state")]
    stored = [v for n, v in digits.shipped(architecture, "pretrained").items() if not n.endswith("num_batches_tracked")]
    ours, theirs = (np.sort(np.concatenate([v.ravel() for v in side])) for side in (held, stored))
    np.testing.assert_array_equal(ours, theirs)


def test_a_model_says_what_it_takes_and_is() -> None:
    """The input of its torch twin, with its range; a name of torch's is no name here."""
    native = _native("digits:keras-vit")
    (spec,) = native.signature.inputs
    assert (spec.name, spec.dtype, spec.shape[1:], spec.range) == ("image", "float32", (8, 8), ValueRange(0, 1))
    assert native.provenance["weights"] == "pretrained"
    with pytest.raises(UnknownModel, match="digits has no model keras-vitt"):
        _native("digits:keras-vitt")


def test_weights_of_the_torch_twin_fit(tmp_path: Path) -> None:
    """``@FILE.safetensors`` is read as torch's weights; another architecture's do not fit, and that is said."""
    copy = tmp_path / "mine.safetensors"
    copy.write_bytes(digits.shipped_file("gru", "retrained").read_bytes())
    marks = {_native(f"digits:keras-gru@{w}").provenance["weights_sha256"] for w in (copy, "retrained")}
    assert len(marks) == 1
    with pytest.raises(UsageError, match="does not fit"):
        _native(f"digits:keras-cnn@{copy}")


@pytest.mark.torch
@pytest.mark.parametrize(("source", "target"), [("vit", "keras-vit"), ("keras-gru", "gru")])
def test_both_frameworks_and_their_exports_are_equivalent(source: str, target: str) -> None:
    """``onnxeq check digits:NAME digits:OTHER``: one input, the same weights, and each side's ladder holds."""
    report = onnxeq.check(f"digits:{source}", f"digits:{target}", providers=["cpu"], batches=(2,))
    assert report.verdict is Verdict.EQUIVALENT, report.causes
    assert {"native-rounding", "target-rounding", "target-export", "ledger"} <= {r.name for r in report.rungs}
