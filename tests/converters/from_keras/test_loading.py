"""From references and files to models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnxeq_converters.from_keras as converter
from onnxeq.errors import BadInputs, UnknownModel, UnusableModel, WeightsUnavailable
from onnxeq.types import Precision, TensorSpec, ValueRange

pytestmark = pytest.mark.keras


@pytest.mark.usefixtures("keras")
@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("MobileNetV2", 0 / 127.5 - 1, 255 / 127.5 - 1),
        ("ResNet50", 0 - 123.68, 255 - 103.939),
        ("DenseNet121", (0 - 0.485) / 0.229, (1 - 0.406) / 0.225),
        ("EfficientNetB0", 0, 255),
        ("ConvNeXtTiny", 0, 255),
        ("MobileNetV3Small", 0, 255),
    ],
)
def test_value_range_is_that_of_the_preprocessing(name: str, low: float, high: float) -> None:
    """The range is what black and white become under the mode that Keras documents for the application."""
    from onnxeq_converters.from_keras import zoo

    limits = zoo.value_range(zoo.constructors()[name])
    assert isinstance(limits, ValueRange)
    assert (limits.low, limits.high) == pytest.approx((low, high), rel=1e-5, abs=1e-5)


@pytest.mark.usefixtures("keras")
def test_catalogue_lists_the_applications() -> None:
    """Every Keras Application is listed, with a family and its values."""
    entries = {entry.name: entry for entry in converter.catalogue("keras")}
    assert {"ResNet50", "MobileNetV2", "EfficientNetB0", "NASNetMobile", "ConvNeXtTiny"} <= set(entries)
    assert entries["ResNet101V2"].family == "resnet_v2"
    assert entries["ResNet101V2"].note == "values -1 to 1"


@pytest.mark.usefixtures("keras")
@pytest.mark.parametrize(
    ("name", "nearest"),
    [("resnet50", "keras:ResNet50"), ("ResNet5O", "keras:ResNet50"), ("Exception", "keras:Xception")],
)
def test_unknown_application_names_the_nearest(
    name: str, nearest: str, request_for: Callable[..., Any], quiet: Callable[[str], None]
) -> None:
    """A name that is not exact is refused; the hint holds the nearest, a different case included."""
    with pytest.raises(UnknownModel) as caught:
        converter.load(request_for("keras", name), quiet)
    assert nearest in caught.value.hint


@pytest.mark.usefixtures("keras")
def test_failing_download_never_falls_back(
    monkeypatch: pytest.MonkeyPatch, request_for: Callable[..., Any], quiet: Callable[[str], None]
) -> None:
    """When the weights cannot be fetched the load fails in one line that offers ``@seeded``."""
    from onnxeq_converters.from_keras import zoo

    def fail(**arguments: object) -> None:
        assert arguments["weights"] == "imagenet"
        raise Exception("URL fetch failure on https://example.org/w.h5: None -- no route\nmore lines")

    monkeypatch.setattr(zoo, "constructors", lambda: {"VGG16": fail})
    with pytest.raises(WeightsUnavailable) as caught:
        converter.load(request_for("keras", "VGG16", "pretrained"), quiet)
    assert "URL fetch failure" in caught.value.message
    assert caught.value.hint == "use keras:VGG16@seeded"
    assert "\n" not in caught.value.line()


@pytest.mark.usefixtures("keras")
def test_declared_shape_that_does_not_fit_is_bad_inputs(
    request_for: Callable[..., Any], quiet: Callable[[str], None]
) -> None:
    """An image smaller than the application takes is refused with Keras' reason."""
    tiny = (TensorSpec("x", "float32", (1, 8, 8, 3)),)
    with pytest.raises(BadInputs, match="8x8x3"):
        converter.load(request_for("keras", "MobileNetV2", "seeded", inputs=tiny), quiet)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_file_gives_the_model_that_was_saved(
    suffix: str,
    small_cnn: Any,
    images: Any,
    tmp_path: Path,
    request_for: Callable[..., Any],
    quiet: Callable[[str], None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A saved model loads to the same outputs, bit for bit, and nothing is written to stdout."""
    path = tmp_path / f"model{suffix}"
    small_cnn.save(path)
    capfd.readouterr()
    loaded = converter.load(request_for("file", str(path)), quiet)
    wrapped = converter.wrap(small_cnn, request_for(), quiet)
    feed = {"image": images}
    np.testing.assert_array_equal(
        loaded.run(feed, Precision.F32)["classes"], wrapped.run(feed, Precision.F32)["classes"]
    )
    assert loaded.provenance["weights_sha256"] != ""
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("keep", [0, 4, 5000])
def test_truncated_file_is_unusable(
    suffix: str,
    keep: int,
    small_cnn: Any,
    tmp_path: Path,
    request_for: Callable[..., Any],
    quiet: Callable[[str], None],
) -> None:
    """A file cut off anywhere is refused in one line that names it."""
    path = tmp_path / f"model{suffix}"
    small_cnn.save(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UnusableModel, match="model") as caught:
        converter.load(request_for("file", str(path)), quiet)
    assert "\n" not in caught.value.line()


@pytest.mark.usefixtures("keras")
def test_missing_file_is_unusable(request_for: Callable[..., Any], quiet: Callable[[str], None]) -> None:
    """A path that is not there is said so."""
    with pytest.raises(UnusableModel, match="no such file"):
        converter.load(request_for("file", "nowhere.keras"), quiet)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_lambda_runs_only_when_trusted(
    suffix: str,
    keras: Any,
    tmp_path: Path,
    request_for: Callable[..., Any],
    quiet: Callable[[str], None],
) -> None:
    """A Lambda layer's code is refused by default, with the option that allows it; trusted, it runs."""
    path = tmp_path / f"model{suffix}"
    model = keras.Sequential([keras.Input((3,), name="x"), keras.layers.Lambda(lambda x: 2 * x, output_shape=(3,))])
    model.save(path)
    with pytest.raises(UnusableModel, match="Lambda") as caught:
        converter.load(request_for("file", str(path)), quiet)
    assert "--trust" in caught.value.hint
    native = converter.load(request_for("file", str(path), trust=True), quiet)
    (y,) = native.run({"x": np.ones((1, 3), np.float32)}, Precision.F32).values()
    np.testing.assert_array_equal(y, 2)


def test_weights_file_that_does_not_fit_is_unavailable(
    keras: Any,
    small_cnn: Any,
    tmp_path: Path,
    request_for: Callable[..., Any],
    quiet: Callable[[str], None],
) -> None:
    """``@path`` loads weights, and refuses those of another model."""
    right, wrong = tmp_path / "right.weights.h5", tmp_path / "wrong.weights.h5"
    small_cnn.save_weights(right)
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save_weights(wrong)
    path = tmp_path / "model.keras"
    small_cnn.save(path)
    native = converter.load(request_for("file", str(path), str(right)), quiet)
    assert native.provenance["weights"] == str(right)
    with pytest.raises(WeightsUnavailable, match=r"wrong\.weights\.h5"):
        converter.load(request_for("file", str(path), str(wrong)), quiet)


@pytest.mark.parametrize(
    ("file", "shape"),
    [
        ("mlperf_tiny_resnet8/pretrainedResnet.h5", (32, 32, 3)),
        ("tiny_xception/tiny_XCEPTION_KDEF.hdf5", None),
    ],
)
def test_real_keras2_files_load_and_agree_with_float64(
    file: str,
    shape: tuple[int, ...] | None,
    keras: Any,
    real_models: Path,
    request_for: Callable[..., Any],
    quiet: Callable[[str], None],
) -> None:
    """Trained Keras 2 files load; their float32 and float64 runs differ by rounding only."""
    del keras
    if not (real_models / file).is_file():
        pytest.skip(f"no {file}")
    native = converter.load(request_for("file", str(real_models / file)), quiet)
    (spec,) = native.signature.inputs
    assert shape is None or spec.shape == ("N", *shape)
    sizes = [d if isinstance(d, int) else 2 for d in spec.shape or ()]
    feed = {spec.name: np.random.default_rng(0).uniform(0, 255, sizes).astype(np.float32)}
    (narrow,) = native.run(feed, Precision.F32).values()
    (wide,) = native.run(feed, Precision.F64).values()
    assert wide.dtype == np.float64
    # Softmax outputs: 1000 float32 ulps at 1, far below any semantic fault.
    np.testing.assert_allclose(narrow, wide, rtol=0, atol=1000 * 2.0**-24)
