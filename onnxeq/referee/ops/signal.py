"""Spectra, mel filters and determinants."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxeq.referee.ops.tensors import as_int, held_type, normal_axis
from onnxeq.referee.registry import Call, op

__all__: list[str] = []


def _complex(X: Any) -> Any:
    """The last axis of 1 (real) or 2 (real, imaginary) as complex numbers."""
    return X[..., 0] if X.shape[-1] == 1 else X[..., 0] + 1j * X[..., 1]


def _pairs(Z: Any) -> Any:
    return np.stack([Z.real, Z.imag], axis=-1)


def _dft(call: Call, X: Any, length: Any, axis: int) -> Any:
    """The transform along ``axis``, which is cut or zero-padded to ``length``."""
    Z = _complex(X.astype(np.float64, copy=False))
    inverse, onesided = bool(call.get("inverse", 0)), bool(call.get("onesided", 0))
    if inverse and onesided:
        count = 2 * (Z.shape[axis] - 1) if length is None else as_int(length)
        return np.fft.irfft(Z, n=count, axis=axis)[..., None]
    count = Z.shape[axis] if length is None else as_int(length)
    if onesided:
        return _pairs(np.fft.rfft(Z.real, n=count, axis=axis))
    return _pairs((np.fft.ifft if inverse else np.fft.fft)(Z, n=count, axis=axis))


@op("DFT", until=19, witnesses=("suite", "onnxruntime"))
def dft_attribute(call: Call, X: Any, length: Any = None) -> Any:
    """The discrete Fourier transform along the attribute ``axis`` (1 by default)."""
    return _dft(call, X, length, normal_axis(call.get("axis", 1), X.ndim))


@op("DFT", since=20, witnesses=("suite", "onnxruntime"))
def dft(call: Call, X: Any, length: Any = None, axis: Any = None) -> Any:
    """The discrete Fourier transform along the input ``axis`` (-2 by default)."""
    return _dft(call, X, length, normal_axis(-2 if axis is None else as_int(axis), X.ndim))


@op("STFT", since=17, witnesses=("suite", "onnxruntime"))
def stft(call: Call, signal: Any, frame_step: Any, window: Any = None, frame_length: Any = None) -> Any:
    """Transforms of windowed frames: ``[batch, frames, bins, 2]``."""
    if frame_length is not None:
        length = as_int(frame_length)
    else:
        length = signal.shape[1] if window is None else window.shape[0]
    step = as_int(frame_step)
    starts = np.arange((signal.shape[1] - length) // step + 1) * step
    frames = _complex(signal.astype(np.float64, copy=False))[:, starts[:, None] + np.arange(length)]
    if window is not None:
        frames = frames * window
    if call.get("onesided", 1):
        return _pairs(np.fft.rfft(frames.real, axis=-1))
    return _pairs(np.fft.fft(frames, axis=-1))


@op("MelWeightMatrix", since=17, witnesses=("suite", "onnxruntime"))
def mel_weight_matrix(call: Call, bins: Any, dft_length: Any, sample_rate: Any, lower: Any, upper: Any) -> Any:
    """Triangles of height 1 on the mel scale ``2595 log10(1 + f/700)``, over the spectrum's bins.

    The corners are bins: ``floor((dft_length + 1) * frequency / sample_rate)``, as both witnesses have it;
    the specification's text does not say.
    """
    count, length = as_int(bins), as_int(dft_length)
    low, high = (2595 * np.log10(1 + float(np.asarray(f).reshape(-1)[0]) / 700) for f in (lower, upper))
    mels = low + np.arange(count + 2) * (high - low) / (count + 2)
    hertz = 700 * (10 ** (mels / 2595) - 1)
    corners = ((length + 1) * hertz // as_int(sample_rate)).astype(np.int64)
    out = np.zeros((length // 2 + 1, count))
    for i, (left, centre, right) in enumerate(zip(corners, corners[1:], corners[2:], strict=False)):
        if left == centre:
            out[centre, i] = 1
        rising, falling = np.arange(left, centre + 1), np.arange(centre, right)
        if left != centre:
            out[rising, i] = (rising - left) / (centre - left)
        if right != centre:
            out[falling, i] = (right - falling) / (right - centre)
    return out.astype(held_type(call.get("output_datatype", 1), call.exact))


@op("Det", since=11, witnesses=("suite", "onnxruntime"))
def determinant(call: Call, X: Any) -> Any:
    """The determinant of each matrix in the last two dimensions."""
    return np.asarray(np.linalg.det(X.astype(np.float64, copy=False)))
