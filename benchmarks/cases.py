"""The known-good cases: those that the limits are calibrated on, and others that they are not.

The held-out cases share no architecture with the calibration set, except a few that come with another seed of
weights and inputs at another size. Third-party models are read from ``ONNXEQ_REAL_MODELS`` where that exists.
"""

from __future__ import annotations

import os
from pathlib import Path

from common import Case

MODELS = Path(__file__).with_name("models")
REAL = Path(os.environ.get("ONNXEQ_REAL_MODELS", Path(__file__).resolve().parents[2] / "shared" / "models"))


def vision(
    name: str, size: int, batches: tuple[int, ...] = (1, 3), opset: int | None = None, seed: int = 0, weights: int = 0
) -> Case:
    """A torchvision model on square images."""
    return Case(f"torchvision:{name}@seeded:{weights}", {"": (1, 3, size, size)}, batches, opset, seed)


def keras(
    name: str, size: int, batches: tuple[int, ...] = (1, 3), opset: int | None = None, seed: int = 0, weights: int = 0
) -> Case:
    """A Keras Applications model on square images."""
    return Case(f"keras:{name}@seeded:{weights}", {"": (1, size, size, 3)}, batches, opset, seed)


_SEQUENCES = frozenset(
    "lstm_text gru_text bidirectional_lstm rnn_signal transformer_encoder transformer_decoder attention_pool "
    "einsum_attention".split()
)


def small(
    name: str, batches: tuple[int, ...] = (1, 3), opset: int | None = None, seed: int = 0, weights: int = 0
) -> Case:
    """One of ``models/torch_models.py`` or ``models/torch_sequences.py``."""
    file = "torch_sequences.py" if name in _SEQUENCES else "torch_models.py"
    suffix = "" if name == "tiny_variances" else f"@seeded:{weights}"
    return Case(f"{MODELS}/{file}:{name}{suffix}", {}, batches, opset, seed)


def small_keras(
    name: str, batches: tuple[int, ...] = (1, 3), opset: int | None = None, seed: int = 0, weights: int = 0
) -> Case:
    """One of ``models/keras_models.py``."""
    return Case(f"{MODELS}/keras_models.py:{name}@seeded:{weights}", {}, batches, opset, seed)


def real(path: str, batches: tuple[int, ...] = (1, 3), seed: int = 0) -> Case:
    """A trained model from a file, or a factory that reads one."""
    ref = f"{MODELS}/real_models.py:{path}" if "." not in path else str(REAL / path)
    return Case(ref, {}, batches, None, seed)


_ZOO = [
    vision("squeezenet1_1", 96, (1, 2, 3, 5), 18),
    vision("mobilenet_v3_small", 128, (2, 5), 20),
    vision("shufflenet_v2_x0_5", 128, (1, 3), 19),
    vision("resnet18", 96, (1, 2, 3, 5), 22),
    vision("mnasnet0_5", 128, (1, 5), 21),
    vision("regnet_y_400mf", 96, (3,), 23),
    vision("efficientnet_b0", 96, (1, 2)),
    vision("densenet121", 64, (2,), 18),
    keras("MobileNetV2", 96, (1, 2, 3, 5), 13),
    keras("EfficientNetB0", 96, (2, 3), 15),
    keras("NASNetMobile", 96, (1,), 17),
    keras("DenseNet121", 64, (5,), 18),
]
_SMALL = [
    small("lstm_text", (1, 2, 5)),
    small("gru_text", (3, 5), 19),
    small("transformer_encoder", (1, 2, 3, 5), 20),
    small("transformer_encoder", (1, 3), 23),
    small("transformer_decoder", (1, 3), 18),
    small("unet", (1, 2), 18),
    small("unet", (3, 5), 21),
    small("unet_transposed", (2, 3)),
    small("group_norm_gelu", (1, 5), 20),
    small("group_norm_gelu", (1, 5), 22),
    small("separable", (1, 2, 3, 5)),
    small("wide_mlp", (1, 2, 3, 5)),
    small("saturated_softmax", (1, 2, 3, 5), 18),
    small("tiny_variances", (1, 3), 19),
    small("cancelling_residual", (2, 5)),
    small("audio_cnn", (1, 3), 22),
    small("volume_cnn", (1, 2), 20),
    small("graph_network", (1, 2, 3, 5), 18),
    small("attention_pool", (1, 5)),
    small("layer_norm_stack", (1, 2, 3, 5)),
    small_keras("lstm_text", (1, 3), 15),
    small_keras("attention_block", (2, 5), 17),
    small_keras("unet", (1, 2), 13),
    small_keras("audio_cnn", (1, 5), 16),
]
_REAL = [real("resnet20"), real("mlperf_tiny_resnet8/pretrainedResnet.h5", (1, 2, 3, 5)), real("basic_pitch/nmp.onnx")]

CALIBRATION = [*_ZOO, *_SMALL, *(_REAL if REAL.is_dir() else [])]
"""What the factors of ``ladder.LIMITS`` are to be read from."""

_OTHER_ZOO = [
    vision("mobilenet_v2", 112, (1, 3), 21),
    vision("googlenet", 96, (1, 2), 18),
    vision("mobilenet_v3_large", 80, (2, 5), 23),
    vision("shufflenet_v2_x1_0", 96, (1, 5), 20),
    vision("regnet_x_400mf", 80, (3,), 19),
    vision("convnext_tiny", 64, (1, 2), 18),
    vision("vit_b_16", 224, (1,), 20),
    vision("swin_t", 64, (2,), 22),
    vision("lraspp_mobilenet_v3_large", 96, (1, 2), 18),
    vision("alexnet", 96, (1, 3), 22),
    vision("resnet18", 72, (2, 3), 18, seed=5, weights=11),
    vision("efficientnet_b0", 80, (3,), 23, seed=6, weights=12),
    keras("MobileNetV3Small", 96, (1, 3), 14),
    keras("MobileNet", 96, (2, 5), 16),
    keras("Xception", 96, (1,), 18),
    keras("EfficientNetV2B0", 64, (2, 3), 13),
    keras("MobileNetV2", 128, (1, 2), 17, seed=7, weights=13),
]
_OTHER_SMALL = [
    small("bidirectional_lstm", (1, 3, 5), 20),
    small("rnn_signal", (2, 5), 18),
    small("einsum_attention", (1, 2, 3, 5)),
    small("tall_mlp", (1, 2, 3, 5), 22),
    small("mixer", (1, 2, 3, 5), 20),
    small("instance_style", (1, 2, 3), 18),
    small("cumulative", (1, 2, 5), 21),
    small("logsumexp_head", (1, 2, 3, 5)),
    small("squeeze_excite", (1, 3, 5), 19),
    small("dilated_pyramid", (1, 2, 5), 23),
    small("lstm_text", (2, 3), 22, seed=3, weights=21),
    small("transformer_decoder", (2, 5), 23, seed=4, weights=22),
    small("unet", (1, 5), 19, seed=5, weights=23),
    small("wide_mlp", (1, 5), 18, seed=6, weights=24),
    small("graph_network", (2, 3), 23, seed=7, weights=25),
    small("tiny_variances", (2, 5), 23, seed=8),
    small("saturated_softmax", (2, 3), 22, seed=9, weights=26),
    small("layer_norm_stack", (2, 5), 18, seed=9, weights=27),
    small("group_norm_gelu", (2, 3), 18, seed=10, weights=28),
    small_keras("gru_signal", (1, 3), 15),
    small_keras("separable", (1, 2, 3, 5), 18),
    small_keras("volume_cnn", (1, 2), 14),
    small_keras("lstm_text", (2, 5), 18, seed=3, weights=29),
    small_keras("attention_block", (1, 3), 14, seed=4, weights=30),
]
_OTHER_REAL = [
    real("tiny_xception/tiny_XCEPTION_KDEF.hdf5"),
    real("ultralight_face_slim320/version-slim-320.onnx", (1,)),
    real("winml/mnist.onnx", (1,)),
]

HELD_OUT = [*_OTHER_ZOO, *_OTHER_SMALL, *(_OTHER_REAL if REAL.is_dir() else [])]
"""What no factor was fitted to."""
