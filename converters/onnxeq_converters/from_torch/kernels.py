"""Each operator of the float32 run, judged alone: its result against float64 arithmetic on its own inputs.

What is watched is the run that users see, operator by operator as torch dispatches it, fast paths and all. Every float
type counts as float32's stand-in: an operator that computes in bfloat16 is held against float64 like the others, and
so is a cast to bfloat16. The unit is measured: the operator's float inputs are moved by half a float32 unit in the
last place, at random, and what that does to its float64 result is taken for the size of a rounding, once more for
each square root of the additions in a row.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from onnxeq.protocols import KernelError
from onnxeq_converters.judging import UNIT, additions, judge

__all__ = ["errors"]

_DRAWS = 2

_LOW = (torch.float32, torch.float16, torch.bfloat16)


def errors(model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[KernelError]:
    """Runs the model once in float32 and judges every operator, in order."""
    path: list[str] = []
    mode = _Judge(path)
    with torch.no_grad(), _watched(model, path), mode:
        model(*args, **kwargs)
    return mode.found


@contextlib.contextmanager
def _watched(model: torch.nn.Module, path: list[str]) -> Iterator[None]:
    """Keeps ``path`` up to date with the module that runs."""
    handles = []
    for name, module in model.named_modules():

        def enter(_module: Any, _given: Any, name: str = name) -> None:
            path.append(name)

        def leave(_module: Any, _given: Any, _result: Any) -> None:
            path.pop()

        with contextlib.suppress(Exception):  # a module out of a file may take no hooks
            handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Judge(TorchDispatchMode):  # type: ignore[misc]  # torch is untyped here
    """Runs every operator as it is, and once more in float64."""

    def __init__(self, path: list[str]) -> None:
        super().__init__()
        self._path = path
        self._generator = torch.Generator().manual_seed(0)
        self.found: list[KernelError] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        judged = any(_is_low(leaf) for leaf in tree_leaves((args, kwargs))) and func not in _NOT_JUDGED
        if func._schema.is_mutable and judged:
            args, kept = _copied(func, args)
        else:
            kept = args
        result = func(*kept, **kwargs)
        if judged and any(_is_low(leaf) for leaf in tree_leaves(result)):
            # An operator without a float64 kernel cannot be judged.
            with contextlib.suppress(Exception):
                self._judge(func, args, kwargs, result)
        return result

    def _judge(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        exact = _leaves(func(*tree_map(_wide, args), **tree_map(_wide, kwargs)))
        draws = [_leaves(func(*tree_map(self._moved, args), **tree_map(self._moved, kwargs))) for _ in range(_DRAWS)]
        ratio, largest = judge(
            [v.numpy() for v in exact],
            [v.detach().double().numpy() for v in _leaves(result)],
            [[v.numpy() for v in draw] for draw in draws],
            additions(_terms(func, args, exact)),
        )
        self.found.append(KernelError(str(func), self._path[-1] if self._path else "", "", ratio, largest))

    def _moved(self, value: Any) -> Any:
        if not _is_low(value):
            return _wide(value)
        signs = torch.randint(0, 2, value.shape, generator=self._generator, dtype=torch.float64) * 2 - 1
        return value.double() * (1 + UNIT * signs)


def _is_low(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype in _LOW


def _wide(value: Any) -> Any:
    if _is_low(value):
        return value.double()
    return torch.float64 if isinstance(value, torch.dtype) and value in _LOW else value


def _leaves(result: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor) and leaf.is_floating_point()]


def _copied(func: Any, args: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The arguments as they were before the operator wrote into one of them, and the arguments for the run itself."""
    before = tuple(
        value.clone() if isinstance(value, torch.Tensor) and declared.alias_info is not None else value
        for value, declared in zip(args, func._schema.arguments, strict=False)
    )
    return before, args


def _terms(func: Any, args: Any, exact: list[torch.Tensor]) -> float:
    """How many numbers an operator adds up for one of its results."""
    given = [leaf for leaf in tree_leaves(args) if isinstance(leaf, torch.Tensor)]
    made = max((value.numel() for value in exact), default=1) or 1
    name = func._schema.name.rpartition("::")[2]
    if name in _PRODUCTS:
        return float(max(int(leaf.shape[-1]) for leaf in given if leaf.dim()))
    if "conv" in name and len(args) > 1 and isinstance(args[1], torch.Tensor):
        return float(args[1].numel() / max(1, args[1].shape[0]))
    terms = max((leaf.numel() for leaf in given), default=1) / made
    if any(part in name for part in _ROWS):
        terms = max(terms, *(int(v.shape[-1]) for v in exact if v.dim()))
    return float(terms)


_PRODUCTS = frozenset("mm bmm matmul addmm baddbmm linear addmv mv dot".split())
_ROWS = ("norm", "softmax", "attention", "rnn", "lstm", "gru", "encoder")
"""Operators that add up along an axis that their results still have."""

_NOT_JUDGED: frozenset[Callable[..., Any]] = frozenset(
    getattr(torch.ops.aten, name).default
    for name in ("detach", "alias", "clone", "dropout", "native_dropout", "rand_like", "randn_like", "bernoulli")
    if hasattr(getattr(torch.ops.aten, name, None), "default")
)
"""What computes nothing, and what draws anew each time."""
