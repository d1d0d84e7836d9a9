r"""Torch's weights as those of the Keras layers of the same name.

Only the order of axes and of parts changes, never a number:

======================  ========================================================================================
Keras layer             its weights, in Keras' order
======================  ========================================================================================
``Dense``               ``kernel[I,O]`` is the transposed ``weight[O,I]``; ``bias``
``Conv2D``              ``kernel[H,W,I,O]`` is ``weight[O,I,H,W]``
``BatchNormalization``  gamma, beta and the moving statistics: ``weight``, ``bias``, ``running_mean``, ``running_var``
``LayerNormalization``  gamma, beta: ``weight``, ``bias``
``Positions``           the parameter of that name
``MultiHeadAttention``  query, key, value: a third each of ``qkv`` as ``kernel[D,H,D/H]``; ``project`` as ``[H,D/H,D]``
``GRU``                 kernel, recurrent kernel, bias: torch's gates *reset, update, new* become *update, reset, new*
======================  ========================================================================================

A GRU of Keras with ``reset_after`` (its default) computes ``new = tanh(W x + b + r * (U h + c))`` as torch does, and
keeps both biases, as the two rows of one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from onnxeq.errors import UsageError
from onnxeq.types import Array

__all__ = ["RULES", "for_keras"]

Take = Callable[[str], Array]
"""Gives the array of a name inside the layer, ``weight``; the empty name is the layer's own."""

Shapes = Sequence[tuple[int, ...]]


def _dense(take: Take, _: Shapes) -> list[Array]:
    return [take("weight").T, take("bias")]


def _convolution(take: Take, _: Shapes) -> list[Array]:
    return [take("weight").transpose(2, 3, 1, 0)]


def _batch_norm(take: Take, _: Shapes) -> list[Array]:
    return [take(name) for name in ("weight", "bias", "running_mean", "running_var")]


def _layer_norm(take: Take, _: Shapes) -> list[Array]:
    return [take("weight"), take("bias")]


def _positions(take: Take, _: Shapes) -> list[Array]:
    return [take("")]


def _attention(take: Take, shapes: Shapes) -> list[Array]:
    kernel, bias, out = shapes[0], shapes[1], shapes[6]
    found: list[Array] = []
    for weight, offset in zip(np.split(take("qkv.weight"), 3), np.split(take("qkv.bias"), 3), strict=True):
        found += [weight.T.reshape(kernel), offset.reshape(bias)]
    return [*found, take("project.weight").T.reshape(out), take("project.bias")]


def _gru(take: Take, _: Shapes) -> list[Array]:
    def gates(name: str) -> Array:
        reset, update, new = np.split(take(name), 3)
        return np.concatenate([update, reset, new])

    biases = np.stack([gates("bias_ih_l0"), gates("bias_hh_l0")])
    return [gates("weight_ih_l0").T, gates("weight_hh_l0").T, biases]


RULES: dict[str, Callable[[Take, Shapes], list[Array]]] = {
    "Dense": _dense,
    "Conv2D": _convolution,
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "Positions": _positions,
    "MultiHeadAttention": _attention,
    "GRU": _gru,
}
"""Class of the Keras layer -> its weights out of torch's."""

_COUNTER = "num_batches_tracked"
"""How often a normalisation of torch was trained: Keras has no such number."""


def for_keras(
    state: Mapping[str, Array], kinds: Mapping[str, str], shapes: Mapping[str, Shapes], origin: str
) -> dict[str, list[Array]]:
    """For each Keras layer its weights.

    Args:
        state: torch's weights by name.
        kinds: Layer -> its class, for every layer that has weights.
        shapes: Layer -> the shapes of its weights, in order.
        origin: Where ``state`` is from, for the message.

    Raises:
        UsageError: Names are missing or left over, or a shape differs.
    """
    used = {name for name in state if name.endswith(_COUNTER)}
    found = {}
    for layer, kind in kinds.items():

        def take(name: str, layer: str = layer) -> Array:
            whole = f"{layer}.{name}" if name else layer
            if whole not in state:
                raise UsageError(f"{origin} does not fit: it has no {whole}")
            used.add(whole)
            return np.asarray(state[whole])

        try:
            found[layer] = RULES[kind](take, shapes[layer])
        except ValueError as error:  # cannot be split or reshaped
            raise UsageError(f"{origin} does not fit {layer}: {error}") from error
        for value, shape in zip(found[layer], shapes[layer], strict=True):
            if value.shape != tuple(shape):
                raise UsageError(f"{origin} does not fit {layer}: {list(value.shape)}, the model has {list(shape)}")
    if left := sorted(set(state) - used):
        raise UsageError(f"{origin} does not fit: the model has no {left[0]}")
    return found
