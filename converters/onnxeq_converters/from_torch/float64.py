"""Runs a float32 program in float64, with the scalars that its ONNX export would hold.

What has to be done, and why, numbered for the comments below:

1. Every Python float that reaches an aten operator is rounded to float32. torch computes with the
   double (an epsilon, a slope, ``1/3``); ONNX stores attributes and constants as float32. Without
   this the semantic gap is 1e-8 to 1e-7 and hides real faults.
2. A finite double beyond float32's range becomes float32's largest number, not infinity: it comes
   from ``torch.finfo(dtype).min`` in a mask, and an infinity there turns masked rows into NaN.
3. Parameters and buffers are float64 because the module was copied and lifted (:func:`lift`). What the
   forward function makes itself is not: ``torch.zeros(3)``, ``.float()``, ``dtype=torch.float32``,
   a tensor kept as a plain attribute. No operator sees or returns float32 here. The default dtype
   is process-wide, so it is left alone: a factory that follows it is called again with float64.
4. Casts to float16, bfloat16, integers and bool are part of the program's meaning and stay. What is computed in half
   precision is computed in float64, and rounds where a cast rounds (:mod:`.halves`).
5. Some operators have constants inside, which the exporter writes as float32 attributes. They are
   computed from the rounded constant (``_WITH_CONSTANTS``).
6. torch has no fast float64 kernel for depthwise convolution (seconds per layer of a ConvNeXt); it
   is computed as a sum over the kernel's taps, the same sum in another order.
7. ``rms_norm`` without an epsilon takes that of its type, which is float32's.
8. ``scaled_dot_product_attention`` without a scale is exported as ``1/sqrt(shape)``, computed when
   the graph runs, so nothing in it is rounded.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_any, tree_map

from . import halves

__all__ = ["Float64Mode", "as_float32", "lift"]

aten = torch.ops.aten

_LIFTED = {torch.float32: torch.float64, torch.complex64: torch.complex128}
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_SIXTH = float(np.float32(1 / 6))


def as_float32(value: float) -> float:
    """``value`` rounded to float32; infinities and NaN stay, a finite number stays finite (rule 2)."""
    if value != value or value in (float("inf"), float("-inf")):
        return value
    return float(np.float32(max(-_FLOAT32_MAX, min(_FLOAT32_MAX, value))))


def lift(model: torch.nn.Module) -> None:
    """Makes every float32 parameter and buffer float64, in place; those in half precision are exact (rule 4).

    Unlike ``Module.double()`` it keeps the tensor objects, so that tied buffers stay tied.
    """
    for tensor in {id(t): t for t in (*model.parameters(), *model.buffers())}.values():
        if tensor.dtype in _LIFTED:
            tensor.data = tensor.data.to(_LIFTED[tensor.dtype])


class Float64Mode(TorchDispatchMode):  # type: ignore[misc]  # torch is untyped here
    """While active, float32 does not occur: see the rules in the module's docstring."""

    def __init__(self) -> None:
        super().__init__()
        self._exact = False
        self._patches: list[ExitStack] = []
        self._autocast = halves.Autocast()

    def __enter__(self) -> Float64Mode:
        stack = ExitStack()
        attention = functional.scaled_dot_product_attention
        finfo = torch.finfo
        rms_norm = functional.rms_norm

        def unrounded(*args: Any, **kwargs: Any) -> Any:
            if kwargs.get("scale") is not None:
                kwargs["scale"] = as_float32(kwargs["scale"])
            with self.unrounded_scalars():
                return attention(*args, **kwargs)

        def rms_norm_float32(x: Any, shape: Any, weight: Any = None, eps: float | None = None) -> Any:
            return rms_norm(x, shape, weight, finfo(torch.float32).eps if eps is None else eps)

        def float32_info(dtype: torch.dtype | None = None) -> Any:
            # The program asks about the dtype that it would have, which is float32 (rule 2).
            return finfo(torch.float32 if dtype in (None, torch.float64) else dtype)

        stack.enter_context(self._autocast)
        stack.enter_context(mock.patch.object(functional, "scaled_dot_product_attention", unrounded))
        stack.enter_context(mock.patch.object(functional, "rms_norm", rms_norm_float32))
        stack.enter_context(mock.patch.object(torch, "finfo", float32_info))
        self._patches.append(stack)
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._patches.pop().close()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Calls ``func`` with lifted tensors and dtypes and rounded scalars, and lifts what it returns."""
        kwargs = kwargs or {}
        if func._schema.is_mutable:
            _lift_targets(func, args, kwargs)
        if func in _SIZED_BY_SCALARS:
            return _arange(func, args, kwargs)
        if halves.involves_half(args, kwargs):
            result = halves.compute(func, args, kwargs, self._lift, lambda a, k: self._run(func, a, k))
        else:
            result = self._run(func, *tree_map(self._lift, (args, kwargs)))
        return tree_map(halves.as_single, result) if self._autocast.on else result

    def _run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        special = _WITH_CONSTANTS.get(func)
        result = special(*args, **kwargs) if special else func(*args, **kwargs)
        return _lift_result(func, args, kwargs, result)

    @contextmanager
    def unrounded_scalars(self) -> Iterator[None]:
        """Leaves Python floats as they are inside the block (rule 8)."""
        before, self._exact = self._exact, True
        try:
            yield
        finally:
            self._exact = before

    def _lift(self, value: Any) -> Any:
        value = halves.held(value)
        if isinstance(value, torch.Tensor):
            return value.to(_LIFTED[value.dtype]) if value.dtype in _LIFTED else value
        if isinstance(value, torch.dtype):
            return _LIFTED.get(value, value)
        if type(value) is float and not self._exact:
            return as_float32(value)
        return value


def _is_low(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype in _LIFTED


def _lift_targets(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Turns float32 tensors that ``func`` writes into float64 in place: a copy would lose the write."""
    for position, argument in enumerate(func._schema.arguments):
        if argument.alias_info is None or not argument.alias_info.is_write:
            continue
        value = args[position] if position < len(args) else kwargs.get(argument.name)
        if isinstance(value, torch.Tensor) and _is_low(value) and not isinstance(value, halves.Typed):
            value.data = value.data.to(_LIFTED[value.dtype])


def _lift_result(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Any:
    if not tree_any(_is_low, result) or func._schema.is_mutable:
        return result
    takes_dtype = any(argument.name == "dtype" for argument in func._schema.arguments)
    if takes_dtype and _is_low(result) and not tree_any(_is_tensor, (args, kwargs)):
        # A factory that followed the default dtype: its values are computed anew, not widened.
        return func(*args, **{**kwargs, "dtype": _LIFTED[result.dtype]})
    if not takes_dtype and not tree_any(_is_float, (args, kwargs)):
        # Integers that gave a float (a quotient, a root): it follows the default dtype, and is computed from doubles.
        return func(*tree_map(_widened, args), **tree_map(_widened, kwargs))
    return tree_map(lambda v: v.to(_LIFTED[v.dtype]) if _is_low(v) else v, result)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


def _is_float(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and (value.is_floating_point() or value.is_complex())


def _widened(value: Any) -> Any:
    return value.double() if isinstance(value, torch.Tensor) and value.dtype is not torch.bool else value


def _arange(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    """``arange`` with rounded scalars but its own length, which rounding a scalar could change."""
    native = func(*args, **kwargs)
    if not native.is_floating_point():
        return native
    start = args[0] if len(args) > 1 else 0
    step = args[2] if len(args) > 2 else kwargs.get("step", 1)
    index = torch.arange(native.numel(), dtype=torch.float64, device=native.device)
    values = index * as_float32(float(step)) + as_float32(float(start))
    return halves.constant(values, native.dtype) if native.dtype in halves.HALVES else values


def _convolution(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
) -> torch.Tensor:
    """Convolution; a depthwise one (one output channel per input channel) tap by tap (rule 6)."""
    depthwise = groups == x.shape[1] == weight.shape[0] and groups > 1 and not transposed
    if not depthwise or x.dtype is not torch.float64:
        return aten.convolution.default(x, weight, bias, stride, padding, dilation, transposed, output_padding, groups)
    kernel = weight.shape[2:]
    stride, padding, dilation = (list(v) * (len(kernel) // len(v)) for v in (stride, padding, dilation))
    x = functional.pad(x, [amount for pad in reversed(padding) for amount in (pad, pad)])
    sizes = [(x.shape[2 + a] - dilation[a] * (kernel[a] - 1) - 1) // stride[a] + 1 for a in range(len(kernel))]
    total = x.new_zeros((*x.shape[:2], *sizes))
    for tap in itertools.product(*(range(size) for size in kernel)):
        part = x
        for axis, place in enumerate(tap):
            begin = place * dilation[axis]
            part = part[(slice(None),) * (2 + axis) + (slice(begin, begin + stride[axis] * sizes[axis], stride[axis]),)]
        total.addcmul_(part, weight[(slice(None), 0, *tap)].reshape(-1, *[1] * len(kernel)))
    return total if bias is None else total + bias.reshape(-1, *[1] * len(kernel))


def _hardsigmoid(x: torch.Tensor) -> torch.Tensor:
    """HardSigmoid with ``alpha`` = 1/6 as the float32 attribute that it is exported with."""
    if not x.is_floating_point() or x.dtype != torch.float64:
        return aten.hardsigmoid.default(x)
    return (x * _SIXTH + 0.5).clamp(0.0, 1.0)


def _sinc(x: torch.Tensor) -> torch.Tensor:
    """``sin(pi x) / (pi x)``, 1 at zero, with ``pi`` as float32 stores it."""
    if x.dtype != torch.float64:
        return aten.sinc.default(x)
    angle = x * as_float32(math.pi)
    return torch.where(x == 0, 1.0, torch.sin(angle) / angle)


_WITH_CONSTANTS: dict[Any, Callable[..., Any]] = {
    aten.convolution.default: _convolution,
    aten.hardsigmoid.default: _hardsigmoid,
    aten.deg2rad.default: lambda x: x * as_float32(math.pi / 180),
    aten.rad2deg.default: lambda x: x * as_float32(180 / math.pi),
    aten.sinc.default: _sinc,
    aten.hardsigmoid_.default: lambda x: x.copy_(_hardsigmoid(x)),
}

_SIZED_BY_SCALARS = {aten.arange.default, aten.arange.start, aten.arange.start_step}
