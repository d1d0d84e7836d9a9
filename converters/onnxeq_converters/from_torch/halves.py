"""Half-precision tensors of a float64 run: their values in float64, beside the type that the program gave them.

The referee holds a float16 value in float64 and rounds where a ``Cast`` changes a type, nowhere else; this is the same
rule for a torch program. Numbered, for the comments:

1. A :class:`Typed` says that it is float16 or bfloat16, so that the program goes on as it would (``finfo(x.dtype)``,
   ``y.type_as(x)``, promotions). Operators compute on what it holds, and nothing of that is rounded.
2. A conversion to half precision rounds: what an operator with ``dtype=`` takes of another type, what it makes of no
   tensor at all, and what is written into a half-precision tensor from a wider one.
3. A Python number that meets half-precision tensors is stored as a constant of their type in ONNX, and is rounded to
   it. One that becomes an attribute is float32 there, whatever the tensors are: those of type ``float`` in an
   operator's schema, and all of ``_WITH_ATTRIBUTES``.
4. A half-precision tensor that the module keeps (a parameter) is exact as it is. It is widened where it is read, and
   rounded where it is written.
5. ``torch.autocast`` casts float32 tensors and leaves float64 ones alone. Where it is on, what stands for a float32
   tensor is a :class:`Typed` that says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_any, tree_leaves, tree_map

__all__ = ["HALVES", "Autocast", "Typed", "as_single", "compute", "constant", "held", "involves_half"]

aten = torch.ops.aten

HALVES = (torch.float16, torch.bfloat16)

_WITH_ATTRIBUTES = frozenset("leaky_relu leaky_relu_ elu elu_ addmm baddbmm".split())


class Typed(torch.Tensor):  # type: ignore[misc]  # torch is untyped here
    """A tensor that says it is ``dtype``, with its values in float64.

    Args:
        values: float64, of any shape.
        dtype: One of :data:`HALVES`, or float32 (rule 5).
    """

    # Not for torch's Python API: its functions give whatever the dispatch gives.
    __torch_function__ = torch._C._disabled_torch_function_impl

    held: torch.Tensor

    @staticmethod
    def __new__(cls, values: torch.Tensor, dtype: torch.dtype) -> Typed:
        """A tensor without memory of its own, of the values' shape and strides."""
        made: Typed = torch.Tensor._make_wrapper_subclass(
            cls, values.shape, strides=values.stride(), storage_offset=values.storage_offset(), dtype=dtype,
            device=values.device,
        )  # fmt: skip
        made.held = values
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Outside a float64 run nothing is computed with it."""
        raise TypeError(f"{func} on a half-precision tensor of a float64 run that is over")


class Autocast(TorchFunctionMode):  # type: ignore[misc]  # torch is untyped here
    """Hands float64 tensors to the functions that ``torch.autocast`` casts for as float32 ones (rule 5).

    Attributes:
        on: Whether a function that autocast reaches is being run. Below it, where operators are dispatched, torch does
            not tell.
    """

    def __init__(self) -> None:
        super().__init__()
        self.on = False

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Calls ``func``; outside autocast with what it was given."""
        kwargs = kwargs or {}
        before, self.on = self.on, bool(torch.is_autocast_enabled("cpu"))
        try:
            if self.on and getattr(func, "__name__", "").strip("_") in _CAST_BY_AUTOCAST:
                args, kwargs = tree_map(as_single, (args, kwargs))
            return func(*args, **kwargs)
        finally:
            self.on = before


_CAST_BY_AUTOCAST = frozenset(
    "conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d conv_transpose3d convolution linear bilinear "
    "matmul rmatmul mm bmm mv dot addmm addbmm baddbmm einsum tensordot chain_matmul scaled_dot_product_attention "
    "multi_head_attention_forward rnn_tanh rnn_relu lstm gru".split()
)


def as_single(value: Any) -> Any:
    """A float64 tensor as the float32 one that it stands for; everything else as it is."""
    plain = isinstance(value, torch.Tensor) and not isinstance(value, Typed) and value.dtype is torch.float64
    return Typed(value, torch.float32) if plain else value


def held(value: Any) -> Any:
    """The float64 values of a :class:`Typed`; everything else as it is."""
    return value.held if isinstance(value, Typed) else value


def constant(values: torch.Tensor, dtype: torch.dtype) -> Typed:
    """Float64 values that the program makes of nothing in a half-precision type: rounded to it (rule 2)."""
    return Typed(_rounded(values, dtype), dtype)


def involves_half(*values: Any) -> bool:
    """Whether a half-precision tensor or type is among an operator's arguments."""
    return bool(tree_any(_is_half, values))


def compute(
    func: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    lift: Callable[[Any], Any],
    run: Callable[[tuple[Any, ...], dict[str, Any]], Any],
) -> Any:
    """An operator on half-precision tensors, computed in float64.

    Args:
        func: The operator.
        args: Its arguments.
        kwargs: Its arguments by name.
        lift: Gives the float64 form of a tensor of another type, of a type, of a number.
        run: Calls the operator with what is lifted.
    """
    target = _target(func, args, kwargs)
    kept = target if target is not None and not isinstance(target, Typed) and target.dtype in HALVES else None
    writable = None if kept is None else kept.double()  # rule 4
    asked = next((v for v in tree_leaves((args[1:], kwargs)) if isinstance(v, torch.dtype)), None)
    operand = _operand(args, kwargs, asked)

    def widened(value: Any) -> Any:
        if value is kept and kept is not None:
            return writable
        if isinstance(value, torch.dtype):
            return torch.float64 if value in HALVES else lift(value)
        if not isinstance(value, torch.Tensor):
            return lift(value)
        wide = value.held if isinstance(value, Typed) else value.double() if value.dtype in HALVES else lift(value)
        return _rounded(wide, asked) if asked in HALVES and value.dtype is not asked else wide  # rule 2

    numbers = operand is not None and func._schema.name.rpartition("::")[2] not in _WITH_ATTRIBUTES
    if numbers:
        args, kwargs = _with_rounded_numbers(func, args, kwargs, operand)
    result = run(*tree_map(widened, (args, kwargs)))
    if target is not None:
        return _written(target, writable, args, kwargs, result)
    if not tree_any(lambda v: isinstance(v, torch.Tensor) and v.dtype is torch.float64, result):
        return result
    made_anew = not any(isinstance(v, torch.Tensor) for v in tree_leaves((args, kwargs)))
    types = tree_leaves(_logically(func, args, kwargs))
    leaves = iter(t.dtype if isinstance(t, torch.Tensor) else None for t in types)

    def typed(value: Any) -> Any:
        dtype = next(leaves)
        if dtype not in HALVES:
            return value
        return constant(value, dtype) if made_anew else Typed(value, dtype)

    return tree_map(typed, result)


def _is_half(value: Any) -> bool:
    return (value.dtype if isinstance(value, torch.Tensor) else value) in HALVES


def _rounded(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return values.to(dtype).double()


def _target(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor | None:
    """The tensor that an operator writes."""
    if not func._schema.is_mutable:
        return None
    for position, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[position] if position < len(args) else kwargs.get(argument.name)
            if isinstance(value, torch.Tensor):
                return value
    return None


def _operand(args: tuple[Any, ...], kwargs: dict[str, Any], asked: torch.dtype | None) -> torch.dtype | None:
    """The half-precision type of all float tensors among the arguments, or of what is made of none."""
    types = {v.dtype for v in tree_leaves((args, kwargs)) if isinstance(v, torch.Tensor) and v.is_floating_point()}
    if not types and asked is not None:
        types = {asked}
    return types.pop() if len(types) == 1 and types <= set(HALVES) else None


def _with_rounded_numbers(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], dtype: torch.dtype
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Rule 3."""
    declared = func._schema.arguments
    attributes = {argument.name for argument in declared if "float" in str(argument.type)}

    def number(value: Any) -> Any:
        return float(torch.tensor(value, dtype=torch.float64).to(dtype)) if type(value) is float else value

    positional = (value if declared[i].name in attributes else tree_map(number, value) for i, value in enumerate(args))
    named = {name: value if name in attributes else tree_map(number, value) for name, value in kwargs.items()}
    return tuple(positional), named


def _written(
    target: torch.Tensor, writable: torch.Tensor | None, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
) -> Any:
    """What a mutable operator returns, after rounding what it has written where a wider type was converted (rule 2)."""
    if writable is not None:
        target.copy_(writable)
    elif isinstance(target, Typed) and target.dtype in HALVES:
        given = [v for v in tree_leaves((args, kwargs)) if isinstance(v, torch.Tensor) and v is not target]
        if any(v.is_floating_point() and v.dtype is not target.dtype for v in given):
            target.held.copy_(_rounded(target.held, target.dtype))
        if target.held.shape != target.shape:
            raise TypeError("a half-precision tensor was given another shape in place")
    return target if isinstance(result, torch.Tensor) else result


def _logically(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What the program's own operator gives: only its types are looked at."""

    def meta(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        return torch.empty_strided(value.shape, value.stride(), dtype=_own_type(value), device="meta")

    def real(value: Any) -> Any:
        return held(value).to(_own_type(value)) if isinstance(value, torch.Tensor) else value

    try:
        return func(*tree_map(meta, args), **tree_map(meta, kwargs))
    except Exception:  # shapes that depend on data, or no such kernel
        return func(*tree_map(real, args), **tree_map(real, kwargs))


def _own_type(value: torch.Tensor) -> torch.dtype:
    """The type that the program's tensor has: what is float64 here is float32 there."""
    return {torch.float64: torch.float32, torch.complex128: torch.complex64}.get(value.dtype, value.dtype)
