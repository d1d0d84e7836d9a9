"""Seeded weights with healthy activations at every depth, for any module (``@seeded``).

Plain random initialisation is of no use for judging a conversion: a MobileNet's logits are 1e-9, a
vision transformer's head is zero, a ConvNeXt's branches are scaled by 1e-6, so most faults would not
show. Two steps mend that; both go by module types, shapes and measured statistics, never by names of
models:

1. :func:`redraw` gives every parameter a random value that matters: zero heads, biases, class tokens,
   position tables, zero gammas and tiny layer scales included.
2. :func:`onnxeq_converters.from_torch.calibration.calibrate` runs one batch and rescales what it meets
   in the order of execution, as in "All you need is a good init" (Mishkin and Matas, arXiv 1511.06422).
"""

from __future__ import annotations

import math
from collections import Counter

import torch
from torch import nn

from .calibration import calibrate
from .inputs import Calling

__all__ = ["redraw", "seed_weights"]

_TABLE_WORDS = ("pos", "embed", "token", "table", "query", "rel", "bias")
"""Parts of the names of raw parameters that are added to activations, not multiplied with them."""


def seed_weights(model: nn.Module, calling: Calling, seed: int) -> tuple[str, ...]:
    """Replaces every parameter and normalisation statistic of ``model``, in place, by seeded ones.

    The same seed gives the same bits in any process and for any number of threads: the draws come
    from one generator, and what is measured is measured on one thread and rounded to a few bits.

    Returns:
        Notes on what could not be made healthy.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        redraw(model, generator)
        return calibrate(model, calling, generator)


def redraw(model: nn.Module, generator: torch.Generator) -> None:
    """Gives every floating-point parameter a random value of a sensible size, in place."""
    uses = Counter(id(p) for m in model.modules() for p in m.parameters(recurse=False))
    done: set[int] = set()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) in done or not parameter.is_floating_point():
                continue
            done.add(id(parameter))
            drawn = _draw(module, name, parameter, generator, shared=uses[id(parameter)] > 1)
            parameter.copy_(drawn)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            module.weight[module.padding_idx].zero_()


def _draw(
    module: nn.Module, name: str, parameter: nn.Parameter, generator: torch.Generator, *, shared: bool
) -> torch.Tensor:
    shape = tuple(parameter.shape)
    noise = torch.randn(shape, generator=generator)
    if is_norm(module):
        return _draw_norm(module, name, parameter, noise)
    if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        # torch's own rule, normal in place of uniform: gates stay off their ends.
        return noise / math.sqrt(3 * module.hidden_size)
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        # A table that is also the output layer would give logits of size sqrt(width).
        return noise / math.sqrt(shape[-1]) if shared else noise
    if isinstance(module, nn.PReLU):
        return 0.25 + 0.05 * noise
    if name in ("weight_g", "original0"):  # the magnitudes of a weight normalisation
        return 1 + 0.2 * noise.clamp(-2, 2)
    if parameter.numel() == max(shape, default=1):
        return _draw_vector(name, parameter, noise)
    if not _is_layer(module) and (shape[0] == 1 or any(word in name.lower() for word in _TABLE_WORDS)):
        return 0.5 * noise
    return noise / math.sqrt(max(1, parameter.numel() // shape[0]))


def _draw_norm(module: nn.Module, name: str, parameter: nn.Parameter, noise: torch.Tensor) -> torch.Tensor:
    small = 0.2 * noise.clamp(-2, 2)
    if "bias" in name or "beta" in name:
        return small
    # Some custom norms multiply by 1 + weight, so their weight begins at zero. In torch's own
    # classes a zero weight is a residual branch that was switched off.
    own = type(module).__module__.startswith("torch.nn.")
    from_zero = not own and not isinstance(module, nn.modules.batchnorm._NormBase) and not parameter.any()
    return small if from_zero else 1 + small


def _draw_vector(name: str, parameter: nn.Parameter, noise: torch.Tensor) -> torch.Tensor:
    """A parameter with one extent: a bias, a layer scale, a gate, a token, a temperature."""
    first = float(parameter.reshape(-1)[0]) if parameter.numel() else 0.0
    constant = bool((parameter == first).all())
    if name.endswith("bias"):
        return 0.1 * noise
    if constant and first != 0:
        # A temperature keeps its value; a scale is lifted to where its branch counts.
        return parameter.detach().clone() if parameter.numel() == 1 else max(abs(first), 0.3) * (1 + 0.2 * noise)
    return 0.3 * noise


def is_norm(module: nn.Module) -> bool:
    """Whether a module normalises: by its class name, as norms share no base class."""
    return any("norm" in kind.__name__.lower() for kind in type(module).__mro__) and not any(
        True for _ in module.children()
    )


def _is_layer(module: nn.Module) -> bool:
    kinds = (nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd, nn.MultiheadAttention)
    return isinstance(module, (*kinds, nn.utils.parametrize.ParametrizationList))
