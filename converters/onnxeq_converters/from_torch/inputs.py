"""How a module is called: which named tensor goes where, and tensors to call it with."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from onnxeq.errors import BadInputs, UsageError
from onnxeq.types import Array, Feed, TensorSpec, ValueRange, example_size

__all__ = [
    "Calling",
    "as_list_of_images",
    "examples",
    "from_array",
    "in_own_type",
    "random_tensor",
    "resolve",
    "shape_at",
    "to_array",
    "to_range",
    "with_ranges",
]

_HINT = "say --shape NAME=1x3x224x224, or define example_inputs beside the factory"

_ALIASES = {"bool": torch.bool, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Calling:
    """How a feed becomes the arguments of ``forward``.

    Attributes:
        specs: The inputs in the order of ``forward``'s own parameters.
        keywords: For each input the keyword that it is passed by; empty for a positional one.
        listed: Whether ``forward`` takes a list of images ``[C,H,W]`` (torchvision's detectors).
        numbers: For each input whether ``forward`` takes a number; empty where all are tensors.
    """

    specs: tuple[TensorSpec, ...]
    keywords: tuple[str, ...]
    listed: bool = False
    numbers: tuple[bool, ...] = ()

    def bind(self, values: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The positional and keyword arguments for one value per input."""
        if self.listed:
            images = values[0]
            return ([images] if images.ndim == 3 else list(images),), {}
        if any(self.numbers):
            pairs_ = zip(self.numbers, values, strict=True)
            values = [v.item() if number and isinstance(v, torch.Tensor) else v for number, v in pairs_]
        pairs = list(zip(self.keywords, values, strict=True))
        return tuple(v for k, v in pairs if not k), {k: v for k, v in pairs if k}

    def tensors(self, feed: Feed) -> list[torch.Tensor]:
        """The feed as tensors, in order.

        Raises:
            BadInputs: A name is missing or unknown, or an element type is not the declared one.
        """
        names = [spec.name for spec in self.specs]
        if set(names) != set(feed):
            raise BadInputs(f"inputs are {', '.join(feed) or 'empty'}; the model takes {', '.join(names)}")
        for spec in self.specs:
            if str(feed[spec.name].dtype) != spec.dtype:
                raise BadInputs(f"input {spec.name} is {feed[spec.name].dtype}; the model takes {spec.text()}")
        return [from_array(feed[name]) for name in names]

    def shares_batch(self) -> tuple[bool, ...]:
        """For each input, whether its first axis is the batch that the inputs have in common."""
        first = self.specs[0].shape
        if self.listed or not first:
            return tuple(False for _ in self.specs)
        return tuple(bool(s.shape) and s.shape is not None and s.shape[0] == first[0] for s in self.specs)

    def free_axes(self) -> tuple[dict[int, str], ...]:
        """For each input, the axes besides the first that may vary, with their names."""
        return tuple({a: d for a, d in enumerate(s.shape or ()) if a and isinstance(d, str)} for s in self.specs)


def resolve(
    model: torch.nn.Module, declared: tuple[TensorSpec, ...] | None, known: tuple[TensorSpec, ...] = ()
) -> Calling:
    """Matches the inputs that somebody declared with the parameters of ``forward``.

    Args:
        model: The module.
        declared: What the user or the target says: matched by name, else by position.
        known: What the zoo says; ``declared`` overrides shape, dtype and range.

    Raises:
        UsageError: Nobody declared any, there are too many, or a required parameter got none.
    """
    if not known and not declared:
        raise UsageError(f"the inputs of {type(model).__name__} are not known", hint=_HINT)
    names, required, variadic = _parameters(model)
    if known:
        specs = _override(_asked_for(known, declared or (), names, required), declared or ())
        return _calling(specs, names)
    wanted = declared or ()
    slots: dict[str, TensorSpec] = {spec.name: spec for spec in wanted if spec.name in names}
    free = [name for name in names if name not in slots]
    extra = []
    for spec in wanted:
        if spec.name in slots and slots[spec.name] is spec:
            continue
        if free:
            name = free.pop(0)
            slots[name] = replace(spec, name=name)
        elif variadic:
            extra.append(spec)
        else:
            takes = ", ".join(names) or "none"
            raise UsageError(f"{len(wanted)} inputs are declared; forward takes {len(names)}: {takes}")
    missing = [name for name in required if name not in slots]
    if missing:
        raise UsageError(f"forward needs {', '.join(missing)} too", hint=f"say --shape {missing[0]}=...")
    return _calling((*(slots[name] for name in names if name in slots), *extra), names)


def as_list_of_images(calling: Calling) -> Calling:
    """The same inputs, handed to ``forward`` as one list of images.

    Raises:
        UsageError: The declared input is not one picture ``[C,H,W]``.
    """
    spec = calling.specs[0]
    if spec.shape is None or len(spec.shape) != 3:
        raise UsageError(
            f"the model takes a list of images; {spec.text()} is not one",
            hint=f"say --shape {spec.name}=3x320x320",
        )
    return replace(calling, listed=True)


def in_own_type(model: torch.nn.Module, calling: Calling) -> Calling:
    """With half-precision inputs where the model takes no others: what is declared by its shape alone is float32.

    That is asked only of a model whose float tensors are all of one such type, and by running a copy of it.
    """
    kinds = {t.dtype for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()}
    narrow = {torch.float16: "float16", torch.bfloat16: "bfloat16"}.get(kinds.pop()) if len(kinds) == 1 else None
    if narrow is None or all(spec.dtype != "float32" for spec in calling.specs):
        return calling
    specs = tuple(replace(s, dtype=narrow) if s.dtype == "float32" else s for s in calling.specs)
    other = replace(calling, specs=specs)
    return other if not _runs(model, calling) and _runs(model, other) else calling


def _runs(model: torch.nn.Module, calling: Calling) -> bool:
    arguments, keywords = calling.bind(examples(calling))
    try:
        with torch.no_grad():
            copy.deepcopy(model).eval()(*arguments, **keywords)
    except Exception:  # whatever the model raises: it does not take these
        return False
    return True


def shape_at(spec: TensorSpec, batch: int | None) -> tuple[int, ...]:
    """The sizes of an example: ``batch`` for the first axis where given, a named first one is 1.

    Another named axis has the size that onnxeq feeds it with, :func:`onnxeq.types.example_size`.

    Raises:
        UsageError: The shape is not known.
    """
    if spec.shape is None:
        raise UsageError(f"the shape of input {spec.name} is not known", hint=f"say --shape {spec.name}=1x3x224x224")
    sizes: list[int] = []
    for axis, size in enumerate(spec.shape):
        if axis == 0 and (batch is not None or isinstance(size, str)):
            sizes.append(batch or 1)
        else:
            sizes.append(example_size(spec, size) if isinstance(size, str) else size)
    return tuple(sizes)


def examples(calling: Calling, batch: int | None = None, seed: int = 0) -> list[torch.Tensor]:
    """Seeded tensors to trace or probe with; ``batch`` sets the axis that the inputs share."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for spec, shared in zip(calling.specs, calling.shares_batch(), strict=True):
        sizes = shape_at(spec, batch if shared else None)
        made.append(random_tensor(spec, sizes, generator))
    return made


def random_tensor(spec: TensorSpec, sizes: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """White noise inside the input's range (floats: about its middle; N(0,1) when there is none)."""
    dtype = _torch_dtype(spec)
    if dtype is torch.bool:
        return torch.ones(sizes, dtype=dtype)
    if not dtype.is_floating_point:
        low, high = (int(spec.range.low), int(spec.range.high)) if spec.range else (0, 2)
        made = torch.randint(low, max(high, low + 1), sizes, generator=generator).to(dtype)
        if "mask" in spec.name and (low, high) == (0, 2) and made.ndim > 1:
            made[..., 0] = 1  # a row in which nothing counts has no meaning
        return made
    return to_range(torch.randn(sizes, generator=generator), spec.range).to(dtype)


def to_range(noise: torch.Tensor, allowed: ValueRange | None) -> torch.Tensor:
    """Moves values of about unit spread into ``allowed``, cutting off what still lies outside."""
    if allowed is None:
        return noise
    middle, half = (allowed.high + allowed.low) / 2, (allowed.high - allowed.low) / 2
    return (middle + 0.45 * half * noise).clamp(allowed.low, allowed.high)


def with_ranges(model: torch.nn.Module, calling: Calling) -> Calling:
    """Finds how large integer inputs may be, where nobody said: the embedding tables decide.

    An index that is too large for its table makes torch raise, so the sizes of the module's tables
    are tried from the largest down, one input at a time.
    """
    tables = {m.num_embeddings for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    specs = list(calling.specs)
    for place, spec in enumerate(specs):
        if spec.range is not None or not spec.dtype.startswith(("int", "uint")):
            continue
        for size in sorted(tables if "mask" not in spec.name else (), reverse=True):
            specs[place] = replace(spec, range=ValueRange(0, size))
            tensors = examples(replace(calling, specs=tuple(specs)))
            tensors[place].view(-1)[:1] = size - 1
            args, kwargs = calling.bind(tensors)
            try:
                with torch.no_grad():
                    model(*args, **kwargs)
            except IndexError:
                continue
            break
        else:
            specs[place] = replace(spec, range=ValueRange(0, 2))
    return replace(calling, specs=tuple(specs))


def to_array(tensor: torch.Tensor) -> Array:
    """A numpy array over the tensor's values, with ml_dtypes' bfloat16 where needed."""
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype is torch.bfloat16:
        import ml_dtypes

        return np.asarray(tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16))
    return np.asarray(tensor.resolve_conj().resolve_neg().numpy())


def from_array(array: Array) -> torch.Tensor:
    """A tensor with a copy of the array's values."""
    if str(array.dtype) == "bfloat16":
        return torch.from_numpy(np.array(array, order="C").view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(np.array(array, order="C"))


def _torch_dtype(spec: TensorSpec) -> torch.dtype:
    dtype = _ALIASES.get(spec.dtype) or getattr(torch, spec.dtype, None)
    if not isinstance(dtype, torch.dtype):
        raise UsageError(f"input {spec.name} is {spec.dtype}, which torch does not have")
    return dtype


def _parameters(model: torch.nn.Module) -> tuple[list[str], list[str], bool]:
    """Named parameters of ``forward``, those without a default, and whether it takes ``*args``."""
    if isinstance(model, torch.jit.ScriptModule):
        declared = model.forward.schema.arguments[1:]
        return [a.name for a in declared], [a.name for a in declared if not a.has_default_value()], False
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):  # a scripted or built-in forward says nothing
        return [], [], True
    variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return [p.name for p in named], [p.name for p in named if p.default is p.empty], variadic


def _asked_for(
    known: tuple[TensorSpec, ...], declared: tuple[TensorSpec, ...], names: list[str], required: list[str]
) -> tuple[TensorSpec, ...]:
    """What the zoo says, with further parameters of ``forward`` that are declared, without optional ones that are not.

    Somebody who declares an integer input as one has said what all inputs are (a target, a file); ``--shape`` alone
    says sizes of some, as float32.
    """
    by_name = {spec.name: spec for spec in declared}
    whole = any(k.name in by_name and by_name[k.name].dtype == k.dtype != "float32" for k in known)
    kept = [k for k in known if k.name in by_name or not whole or k.name in required]
    more = [s for s in declared if s.name in names and s.name not in {k.name for k in known}]
    order = {name: place for place, name in enumerate(names)}
    return tuple(sorted((*kept, *more), key=lambda s: order.get(s.name, len(order)))) if more else tuple(kept)


def _override(known: tuple[TensorSpec, ...], declared: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    by_name = {spec.name: spec for spec in declared}
    rest = [spec for spec in declared if spec.name not in {k.name for k in known}]
    merged = []
    for spec in known:
        said = by_name.get(spec.name) or (rest.pop(0) if rest else None)
        if said is not None:
            dtype = spec.dtype if said.dtype == "float32" and "int" in spec.dtype else said.dtype  # --shape has none
            spec = TensorSpec(spec.name, dtype, said.shape or spec.shape, said.range or spec.range)
        merged.append(spec)
    if rest:
        raise UsageError(f"input {rest[0].name} is declared; the model takes {', '.join(k.name for k in known)}")
    return tuple(merged)


def _calling(specs: tuple[TensorSpec, ...], names: list[str]) -> Calling:
    """Positional as long as no parameter is skipped, by keyword from there on."""
    keywords = []
    for place, spec in enumerate(specs):
        positional = place >= len(names) or names[place] == spec.name or spec.name not in names
        keywords.append("" if positional else spec.name)
    return Calling(specs, tuple(keywords))
