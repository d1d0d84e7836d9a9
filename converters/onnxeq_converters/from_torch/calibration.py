"""One pass that rescales each layer by what it measures, so that no depth is dead, flat or saturated.

Numbered, for the comments:

1. A Linear or convolution is scaled to unit spread about its channels' means, and a bias removes
   those means: without that, deep stacks of ReLU without normalisation forget their input.
2. The means are removed, but a spread that is small beside them is not blown up beyond
   ``_MOST_GAIN``: that would amplify rounding too (squeeze-and-excitation sees four pooled pictures).
3. A normalisation with running statistics takes the statistics of what reaches it, slightly off, so
   that in inference mode it neither normalises exactly nor leaves a depth unnormalised.
4. A layer that feeds a sigmoid directly is a gate as a rule and is opened by ``_OPEN``. Normalisation
   in inference mode is linear, so a gate that an unusual input takes from 0.5 to 1 doubles its
   branch, and sixteen such blocks in a row turn that into a factor of a thousand.
5. The last layer that feeds an output is scaled until the output differs between inputs by about one.
6. Everything runs on one thread, so the number of threads does not matter, and what is measured is
   rounded to ``_BITS`` bits, so that another summation order (another machine) seldom does.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from onnxeq.types import TensorSpec

from .inputs import Calling, random_tensor, shape_at, to_range
from .outputs import flatten

__all__ = ["calibrate", "calibration_batch", "spread"]

_BATCH = 4
_LARGE = 500_000
"""Elements of one input (a video clip) from which a batch of two has to do."""

_BITS = 10
_MOST_GAIN = 2.0
_OPEN = 2.0
_HEALTHY = (0.85, 1.2)
"""An output's spread between inputs that is left as it is."""

_LAYERS = (nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd, nn.MultiheadAttention)


def calibrate(model: nn.Module, calling: Calling, generator: torch.Generator) -> tuple[str, ...]:
    """Rescales ``model`` in place; see the module's docstring.

    Returns:
        A note for each output that stayed without spread.
    """
    batch, tensors = _feed(model, calling, generator)
    args, kwargs = calling.bind(tensors)
    pass_ = _Pass(model, generator)
    with _one_thread():
        with pass_.attached(), pass_.mode:
            outputs = flatten(model(*args, **kwargs))
            heads = {n: pass_.mode.tag(t) for n, t in outputs.items()}
            linear = [pass_.ends_with_layer(t) for t in outputs.values()] == [True]
        if batch == 1:
            return ("the model takes one input at a time: its outputs were not scaled to differ between inputs",)
        # Other inputs than those that the layers were fitted to, which differ less than unseen ones.
        args, kwargs = calling.bind(_feed(model, calling, generator)[1])
        return _scale_outputs(pass_.order, heads, lambda: flatten(model(*args, **kwargs)), batch, linear=linear)


def spread(tensor: torch.Tensor) -> float:
    """How much a tensor differs between inputs: RMS over elements of the deviation along axis 0.

    Noise and waves alternate in the batch. Pooled networks tell noises apart far less than waves, so
    the two are measured apart and the geometric mean is taken.
    """
    kinds = [tensor[0::2], tensor[1::2]] if len(tensor) >= 4 else [tensor]
    sizes = [float(kind.double().var(dim=0, correction=1).mean().sqrt()) for kind in kinds]
    return math.prod(sizes) ** (1 / len(sizes))


def calibration_batch(spec: TensorSpec, sizes: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Varied values of one input: white noise and, for pictures, smooth waves, alternating."""
    made = random_tensor(spec, sizes, generator)
    if not made.is_floating_point() or len(sizes) < 3:
        return made
    pictures = torch.randn(sizes, generator=generator)
    for image in pictures[1::2]:
        image.copy_(_waves(tuple(image.shape), generator))
    return to_range(pictures, spec.range).to(made.dtype)


def _waves(sizes: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """A sum of four plane waves of random direction, up to six periods, mixed into each channel."""
    axes = torch.meshgrid(*(torch.linspace(0, 1, n) for n in sizes[1:]), indexing="ij")
    image = torch.randn((sizes[0], *[1] * (len(sizes) - 1)), generator=generator) * 0.5
    image = image.expand(sizes).clone()
    for _ in range(4):
        periods = torch.rand(len(axes), generator=generator) * 12 - 6
        phase = torch.rand(1, generator=generator)
        angle = sum((p * a for p, a in zip(periods, axes, strict=True)), phase) * 2 * math.pi
        mix = torch.randn((sizes[0], *[1] * (len(sizes) - 1)), generator=generator)
        image += 0.6 * mix * torch.cos(angle)
    return image


def _feed(model: nn.Module, calling: Calling, generator: torch.Generator) -> tuple[int, list[torch.Tensor]]:
    """A batch of four (two of a large input) if the model takes one, else a single example."""
    shared = calling.shares_batch()
    large = max(math.prod(shape_at(spec, 1)) for spec in calling.specs) > _LARGE
    for batch in (2 if large else _BATCH, None):
        start = generator.get_state()
        tensors = []
        for spec, is_batched in zip(calling.specs, shared, strict=True):
            sizes = shape_at(spec, batch if is_batched else None)
            if calling.listed and batch:
                sizes = (batch, *sizes)
            tensors.append(calibration_batch(spec, sizes, generator))
        if batch is None or not (any(shared) or calling.listed):
            return 1, tensors
        args, kwargs = calling.bind([t[:2] if s or calling.listed else t for t, s in zip(tensors, shared, strict=True)])
        if all(isinstance(d, int) for s in calling.specs for d in s.shape or ()) and not calling.listed:
            try:  # sizes that somebody gave as numbers may be baked into the model
                model(*args, **kwargs)
            except (RuntimeError, ValueError, IndexError):
                generator.set_state(start)
                continue
        return batch, tensors
    raise AssertionError("unreachable: the last batch always returns")


@dataclass
class _Pass:
    """The state of one calibration pass; ``order`` fills with the layers as they run."""

    model: nn.Module
    generator: torch.Generator
    mode: _TaggingMode = field(default_factory=lambda: _TaggingMode())
    order: list[nn.Module] = field(default_factory=list)
    uses: Counter[int] = field(default_factory=Counter)
    seen: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.uses.update(id(p) for m in self.model.modules() for p in m.parameters(recurse=False))

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Hooks on every layer and normalisation, and torch's fused encoder off, which skips hooks."""
        handles = []
        fused = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            for module in self.model.modules():
                if isinstance(module, torch.jit.ScriptModule):
                    continue  # it takes no hooks
                if _has_statistics(module):
                    handles.append(module.register_forward_pre_hook(self._take_statistics))
                if isinstance(module, _LAYERS):
                    handles.append(module.register_forward_hook(self._rescale))
                elif _scale_of(module) is not None:
                    handles.append(module.register_forward_hook(self._note))
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fused)
            for handle in handles:
                handle.remove()

    def ends_with_layer(self, output: torch.Tensor) -> bool:
        """Whether ``output`` came straight out of a Linear or convolution of its own, so that it scales with it."""
        index = self.mode.tag(output)
        if index < 0 or not self.mode.is_fresh(output):
            return False
        module = self.order[index]
        if not isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)) or sum(m is module for m in self.order) > 1:
            return False
        return all(self.uses[id(p)] == 1 for p in module.parameters())

    def _note(self, module: nn.Module, _: Any, result: Any) -> None:
        if isinstance(result, torch.Tensor):
            self.order.append(module)
            self.mode.set_tag(result, len(self.order) - 1)

    def _take_statistics(self, module: Any, args: tuple[Any, ...]) -> None:
        """Rule 3. A module that runs twice keeps what it took first."""
        if id(module) in self.seen:
            return
        self.seen.add(id(module))
        x = args[0]
        rest = [axis for axis in range(x.ndim) if axis != 1]
        count = x.numel() // x.shape[1]
        var, mean = torch.var_mean(x, dim=rest, correction=0)
        typical = float(var.mean()) or 1.0
        # A few samples say little about one channel; a channel that is dead here may not be elsewhere.
        blend = 0.5 if count < 32 else 0.05
        var = (1 - blend) * var + blend * typical
        jitter = torch.randn((2, var.numel()), generator=self.generator).to(var).clamp(-2, 2)
        module.running_var.copy_(rounded(var * (1 + 0.1 * jitter[0])))
        module.running_mean.copy_(rounded_to(mean + 0.1 * var.sqrt() * jitter[1], math.sqrt(typical)))

    def _rescale(self, module: Any, _: Any, result: Any) -> Any:
        """Rules 1 and 2, on the first run of a layer."""
        out = result[0] if isinstance(result, tuple) else result
        first = id(module) not in self.seen
        self.seen.add(id(module))
        self.order.append(module)
        if first and isinstance(out, torch.Tensor) and out.is_floating_point():
            out = self._fit(module, out)
        if isinstance(out, torch.Tensor):
            self.mode.set_tag(out, len(self.order) - 1)
            bias = _bias_of(module)
            movable = first and bias is not None and self.uses[id(bias)] == 1
            self.mode.watch(out, bias if movable else None)
        return (out, *result[1:]) if isinstance(result, tuple) else out

    def _fit(self, module: nn.Module, out: torch.Tensor) -> torch.Tensor:
        channel = 1 if isinstance(module, nn.modules.conv._ConvNd) and out.ndim > 2 else out.ndim - 1
        rest = [axis for axis in range(out.ndim) if axis != channel]
        var, mean = torch.var_mean(out, dim=rest, correction=0, keepdim=True)
        count = out.numel() // max(1, out.shape[channel])
        centred = math.sqrt(float(var.mean()) * count / max(1, count - 1))
        total = math.sqrt(float((var + mean.square()).mean()))
        size = max(centred, total / _MOST_GAIN)
        if not math.isfinite(size) or size == 0:
            return out
        bias = _bias_of(module)
        scalable = [p for p in (_scale_of(module),) if p is not None and self.uses[id(p)] == 1]
        scale = rounded_float(1 / size) if scalable else 1.0
        for parameter in scalable:
            parameter.mul_(scale)
        if bias is None or self.uses[id(bias)] > 1:
            return out * scale
        shape = [-1 if axis == channel else 1 for axis in range(out.ndim)]
        old = bias.clone()
        bias.copy_(rounded_to(old - scale * (mean.reshape(-1) - old), 1.0))
        return (out - old.reshape(shape)) * scale + bias.reshape(shape)


def _scale_outputs(
    order: list[nn.Module],
    heads: dict[str, int],
    run: Callable[[], dict[str, torch.Tensor]],
    batch: int,
    *,
    linear: bool,
) -> tuple[str, ...]:
    """Rule 5: each layer that an output comes from last is scaled, and kept so if the output follows.

    It need not be looked at again when it is the only output and ``linear`` in its layer.
    """
    measured = {n: spread(t) for n, t in run().items() if _is_batched(t, batch)}
    for index in sorted({heads[n] for n in measured if heads[n] >= 0}):
        mine = [n for n in measured if heads[n] == index and measured[n] > 0]
        if not mine:
            continue
        typical = math.exp(sum(math.log(measured[n]) for n in mine) / len(mine))
        if _HEALTHY[0] <= typical <= _HEALTHY[1]:
            continue
        factor = rounded_float(1 / typical, bits=3)
        kept = _scale(order[index], factor)
        if linear:
            break
        after = {n: spread(t) for n, t in run().items() if n in measured}
        follows = all(0.5 < after[n] / (measured[n] * factor) < 2 for n in mine)
        if follows:
            measured.update(after)
        else:  # a softmax or a normalisation follows the layer: its spread is not ours to set
            for parameter, value in kept:
                parameter.copy_(value)
    flat = [n for n, s in measured.items() if not s > 0]
    return tuple(f"output {n} does not differ between inputs under the seeded weights" for n in flat)


def _scale(module: nn.Module, factor: float) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Scales a layer and returns what its parameters were."""
    mine = [p for p in (_scale_of(module), _bias_of(module)) if p is not None]
    kept = [(p, p.clone()) for p in mine]
    for parameter in mine:
        parameter.mul_(factor)
    return kept


def _scale_of(module: Any) -> torch.Tensor | None:
    """The parameter in which a layer's output is linear (with the bias)."""
    if isinstance(module, nn.MultiheadAttention):
        module = module.out_proj
    own = module._parameters
    if own.get("weight_g") is not None:
        return own["weight_g"]
    if nn.utils.parametrize.is_parametrized(module, "weight"):
        parts = module.parametrizations["weight"]
        magnitude = getattr(parts, "original0", None)  # of a weight normalisation; others have no scale
        return magnitude if isinstance(magnitude, nn.Parameter) else None
    weight = own.get("weight")
    return weight if isinstance(module, _LAYERS) or _is_affine_norm(module) else None


def _is_affine_norm(module: nn.Module) -> bool:
    return isinstance(module, (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.modules.batchnorm._NormBase))


def _bias_of(module: Any) -> torch.Tensor | None:
    if isinstance(module, nn.MultiheadAttention):
        module = module.out_proj
    return module._parameters.get("bias")


def _has_statistics(module: nn.Module) -> bool:
    return all(isinstance(getattr(module, name, None), torch.Tensor) for name in ("running_mean", "running_var"))


def _is_batched(tensor: torch.Tensor, batch: int) -> bool:
    return bool(tensor.is_floating_point() and tensor.ndim and len(tensor) == batch and tensor.numel())


def rounded(values: torch.Tensor, bits: int = _BITS) -> torch.Tensor:
    """Each value rounded to ``bits`` significant bits (rule 6)."""
    mantissa, exponent = torch.frexp(values)
    return torch.ldexp(torch.round(mantissa * 2**bits) / 2**bits, exponent)


def rounded_float(value: float, bits: int = _BITS) -> float:
    """:func:`rounded` for one number."""
    mantissa, exponent = math.frexp(value)
    return math.ldexp(round(mantissa * 2**bits) / 2**bits, exponent)


def rounded_to(values: torch.Tensor, scale: float) -> torch.Tensor:
    """Each value rounded to a multiple of ``scale`` (a power of two near it) times 2^-_BITS."""
    step = 2.0 ** (round(math.log2(scale)) - _BITS) if scale > 0 else 1.0
    return torch.round(values / step) * step


_GATES = {getattr(torch.ops.aten, name).default for name in ("sigmoid", "sigmoid_", "hardsigmoid", "hardsigmoid_")}


class _TaggingMode(TorchDispatchMode):  # type: ignore[misc]  # torch is untyped here
    """Follows by its storage which layer each tensor comes from, the latest one that ran."""

    def __init__(self) -> None:
        super().__init__()
        self._tags: dict[int, int] = {}
        self._fresh: dict[int, torch.Tensor | None] = {}

    def tag(self, tensor: torch.Tensor) -> int:
        """The index of the latest layer that ``tensor`` depends on; -1 for none."""
        return self._tags.get(tensor.untyped_storage()._cdata, -1)

    def set_tag(self, tensor: torch.Tensor, index: int) -> None:
        """Says that ``tensor`` is the output of layer ``index``."""
        self._tags[tensor.untyped_storage()._cdata] = index

    def watch(self, tensor: torch.Tensor, bias: torch.Tensor | None) -> None:
        """Says that ``tensor`` came straight out of a layer, with this bias if it may be moved (rule 4)."""
        self._fresh[tensor.untyped_storage()._cdata] = bias

    def is_fresh(self, tensor: torch.Tensor) -> bool:
        """Whether nothing has been computed from the layer's output in place, or viewed."""
        return tensor.untyped_storage()._cdata in self._fresh

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        leaves = tree_leaves((args, kwargs))
        latest = max((self.tag(v) for v in leaves if isinstance(v, torch.Tensor)), default=-1)
        if func in _GATES:
            bias = self._fresh.get(args[0].untyped_storage()._cdata)
            if bias is not None:
                # In place, as the bias moves what every reader of the tensor sees.
                args[0].add_(_OPEN)
                bias.add_(_OPEN)
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, torch.Tensor):
                self.set_tag(value, latest)
                self._fresh.pop(value.untyped_storage()._cdata, None)
        return result


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
