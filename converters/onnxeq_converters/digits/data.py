"""The pictures: scikit-learn's copy of the UCI set "Optical Recognition of Handwritten Digits" (8x8, grey 0 to 16).

The set lies in scikit-learn's package: no network. Every fifth picture is for testing, the others are for training, so
that writers and digits are spread over both, and no random draw decides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxeq.errors import UsageError
from onnxeq.types import Array

__all__ = ["GREYS", "Split", "prepared", "split"]

GREYS = 16.0
"""The grey of a pixel that is wholly ink."""

_EVERY = 5


@dataclass(frozen=True)
class Split:
    """Pictures and what they show.

    Attributes:
        train_pixels: ``float64[1438,8,8]``, greys from 0 to 16 as scikit-learn has them.
        train_labels: ``int64[1438]``, the digits.
        test_pixels: ``float64[359,8,8]``.
        test_labels: ``int64[359]``.
    """

    train_pixels: Array
    train_labels: Array
    test_pixels: Array
    test_labels: Array


def split() -> Split:
    """The set, always split the same way.

    Raises:
        UsageError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UsageError("the digits come with scikit-learn", hint="pip install 'onnxeq[digits]'") from error
    pixels, labels = load_digits(return_X_y=True)
    images, labels = pixels.reshape(-1, 8, 8), labels.astype(np.int64)
    test = np.arange(len(images)) % _EVERY == _EVERY - 1
    return Split(images[~test], labels[~test], images[test], labels[test])


def prepared(pixels: Array) -> Array:
    """What the models take, ``float32[N,8,8]`` from 0 to 1: ``pixels / 16``, which rounds nothing."""
    return (np.asarray(pixels) / GREYS).astype(np.float32)
