"""A recipe as data: the steps between a picture's file and a model's input.

A recipe is read off a zoo's own definition, so its steps are spelled as the zoo spells them: ``/ 255`` and then a mean
and a deviation in units of one, or a mean in pixel values, are the same map and different steps
(:mod:`onnxeq.preprocessing.parts` tells). Converters make recipes, so nothing heavy is imported here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeAlias

from onnxeq.errors import UsageError

__all__ = [
    "SCHEMA", "STEPS", "Cast", "Channels", "Crop", "CropShare", "Decode", "Layout", "Normalize", "Other", "Recipe",
    "Resize", "Scale", "Step", "recipe_from_record", "recipe_to_record", "words",
]  # fmt: skip

SCHEMA = "onnxeq.recipe/1"


@dataclass(frozen=True)
class Decode:
    """Reads the file into 8-bit pixels ``[height,width,channels]``; ``colours`` is ``RGB``, or ``L`` for grey."""

    colours: str = "RGB"


@dataclass(frozen=True)
class Resize:
    """Makes the picture another size.

    Attributes:
        height: The height, or what the side named by ``how`` becomes.
        width: The width; the same as ``height`` unless ``how`` is ``exact``.
        how: ``exact``; ``shortest`` or ``longest``: that side becomes ``height``, the other follows.
        interpolation: ``nearest``, ``bilinear``, ``bicubic``, ``lanczos``, ``box`` or ``hamming``.
        antialias: Whether a smaller picture is averaged over what each of its pixels covers.
        library: Whose rule it is: ``pillow``, ``torch`` or ``tensorflow``.
        other_side: How the side that follows is rounded: ``floor`` or ``round``.
    """

    height: int
    width: int
    how: str = "exact"
    interpolation: str = "bilinear"
    antialias: bool = True
    library: str = "pillow"
    other_side: str = "floor"


@dataclass(frozen=True)
class Crop:
    """Cuts out the middle; what a smaller picture lacks is filled.

    Attributes:
        height: Of what is left.
        width: Of what is left.
        offset: How an odd margin is halved: ``round`` (to the even number), ``floor``.
        fill: The pixel value of what is added, for each channel or for all.
    """

    height: int
    width: int
    offset: str = "round"
    fill: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class CropShare:
    """Cuts out a square from the middle, whose side is a share of the shortest side, rounded down, as its margin is."""

    share: float


@dataclass(frozen=True)
class Channels:
    """The order of the channels from here on, ``BGR``; pictures are decoded in ``RGB``."""

    order: str


@dataclass(frozen=True)
class Scale:
    """``x / divisor`` in float32."""

    divisor: float


@dataclass(frozen=True)
class Normalize:
    """``(x - mean) / std`` in float32, for each channel or with one number for all."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Layout:
    """The order of the axes, a batch of one picture included: ``NCHW``, ``NHWC``, or ``CHW`` without a batch."""

    axes: str


@dataclass(frozen=True)
class Cast:
    """The element type that the model takes."""

    dtype: str


@dataclass(frozen=True)
class Other:
    """A step of the zoo's own that has no name here: its code runs it, this project's does not."""

    text: str


Step: TypeAlias = "Decode | Resize | Crop | CropShare | Channels | Scale | Normalize | Layout | Cast | Other"

STEPS: Mapping[str, type[Any]] = {
    "decode": Decode, "resize": Resize, "crop": Crop, "crop-share": CropShare, "channels": Channels, "scale": Scale,
    "normalize": Normalize, "layout": Layout, "cast": Cast, "other": Other,
}  # fmt: skip
"""A step's name in JSON -> its type."""

_CHOICES: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("decode", "colours"): ("RGB", "L"),
    ("resize", "how"): ("exact", "shortest", "longest"),
    ("resize", "interpolation"): ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"),
    ("resize", "library"): ("pillow", "torch", "tensorflow"),
    ("resize", "other_side"): ("floor", "round"),
    ("crop", "offset"): ("round", "floor"),
    ("channels", "order"): ("RGB", "BGR"),
    ("layout", "axes"): ("NCHW", "NHWC", "CHW"),
    ("cast", "dtype"): ("float32", "float16", "float64", "uint8", "int8"),
}
_POSITIVE = frozenset({("scale", "divisor"), ("normalize", "std"), ("resize", "height"), ("resize", "width"),
                       ("crop", "height"), ("crop", "width"), ("crop-share", "share")})  # fmt: skip
_LARGEST = 16384
"""Pixels on a side: beyond it a number is a slip, and would take the machine's memory."""


@dataclass(frozen=True)
class Recipe:
    """How a picture becomes a model's input.

    Attributes:
        steps: In their order.
        source: Where the definition stands: the zoo's own attribute with the package's version, a page, a file.
        exact: Whether the zoo's own code is behind it, which is then what runs; otherwise it is a documented table.
        note: What a reader must know: what the definition leaves open, whose weights it belongs to.
    """

    steps: tuple[Step, ...]
    source: str
    exact: bool = False
    note: str = ""


def recipe_to_record(recipe: Recipe) -> dict[str, Any]:
    """A recipe as JSON values, which a person can edit and :func:`recipe_from_record` reads."""
    names = {kind: name for name, kind in STEPS.items()}
    steps = [{"step": names[type(step)], **_listed(asdict(step))} for step in recipe.steps]
    return {"schema": SCHEMA, "source": recipe.source, "exact": recipe.exact, "note": recipe.note, "steps": steps}


def _listed(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def recipe_from_record(record: object, *, said_by: str = "the recipe") -> Recipe:
    """What :func:`recipe_to_record` wrote, or a person has edited.

    Args:
        record: The JSON value.
        said_by: What a message calls it.

    Raises:
        UsageError: It is no recipe, with the step and the field.
    """
    if not isinstance(record, Mapping) or not isinstance(record.get("steps"), (list, tuple)):
        hint = "onnxeq zoo show REF --json prints one under 'recipe'"
        raise UsageError(f"{said_by} holds no list of 'steps'", hint=hint)
    if (schema := record.get("schema", SCHEMA)) != SCHEMA:
        raise UsageError(f"{said_by} is written as {schema!r}, {SCHEMA} is read", hint="write it again with zoo show")
    steps = tuple(_step(row, f"{said_by}, step {i + 1}") for i, row in enumerate(record["steps"]))
    if not steps or not isinstance(steps[0], Decode) or sum(isinstance(s, Decode) for s in steps) != 1:
        raise UsageError(f"{said_by} does not begin with its one step 'decode'", hint='write {"step": "decode"} first')
    return Recipe(steps, str(record.get("source", "")), bool(record.get("exact", False)), str(record.get("note", "")))


def _step(row: object, place: str) -> Step:
    name = row.get("step") if isinstance(row, Mapping) else None
    if not isinstance(row, Mapping) or not isinstance(name, str) or name not in STEPS:
        raise UsageError(f"{place} is {name!r}, which is no step", hint=f"steps are {', '.join(STEPS)}")
    kind = STEPS[name]
    known = {f.name: f for f in fields(kind)}
    given = {str(k): v for k, v in row.items() if k != "step"}
    if extra := sorted(set(given) - set(known)):
        raise UsageError(f"{place} ({name}) has no field '{extra[0]}'", hint=f"it has {', '.join(known)}")
    values = {field: _value(name, field, str(known[field].type), value, place) for field, value in given.items()}
    try:
        made: Step = kind(**values)
    except TypeError as error:
        raise UsageError(f"{place} ({name}) lacks a field: {error}", hint=f"it has {', '.join(known)}") from None
    return made


def _value(step: str, field: str, kind: str, value: Any, place: str) -> Any:
    """A field's value in its type, within what it may be."""
    where = f"{place} ({step}), field '{field}'"
    if kind.startswith("tuple"):
        listed = value if isinstance(value, (list, tuple)) else [value]
        whole = "int" in kind
        if not listed or not all(_is_number(v, whole=whole) for v in listed):
            raise UsageError(f"{where} is {value!r}, no list of numbers", hint="write [0.485, 0.456, 0.406], say")
        made: Any = tuple(v if whole else float(v) for v in listed)
    elif kind in ("int", "float"):
        if not _is_number(value, whole=kind == "int"):
            raise UsageError(f"{where} is {value!r}, no {'whole ' * (kind == 'int')}number")
        made = value if kind == "int" else float(value)
    else:
        if not isinstance(value, bool if kind == "bool" else str):
            raise UsageError(f"{where} is {value!r}, no {'true or false' if kind == 'bool' else 'text'}")
        made = value
    if (choices := _CHOICES.get((step, field))) and made not in choices:
        raise UsageError(f"{where} is {value!r}", hint=f"it may be {', '.join(choices)}")
    numbers = made if isinstance(made, tuple) else (made,)
    if (step, field) in _POSITIVE and not all(n > 0 for n in numbers):
        raise UsageError(f"{where} is {value!r}, and must be above 0")
    if kind == "int" and made > _LARGEST:
        raise UsageError(f"{where} is {value!r}, {_LARGEST} pixels are allowed")
    return made


def _is_number(value: object, *, whole: bool) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int) or (not whole and isinstance(value, float) and math.isfinite(value))


def words(step: Step) -> str:
    """A step in words, ``resize the shortest side to 256, bilinear, antialiased (pillow)``."""
    if isinstance(step, Decode):
        return "decode to 8-bit RGB" if step.colours == "RGB" else "decode to 8-bit grey"
    if isinstance(step, Resize):
        return f"resize {size_of(step)}, {step.interpolation}{', antialiased' * step.antialias} ({step.library})"
    if isinstance(step, Crop):
        filled = f", filled with {numbers(step.fill)}" if any(step.fill) else ""
        halved = "" if step.offset == "round" else ", an odd margin rounded down"
        return f"crop the central {step.height}x{step.width}{halved}{filled}"
    if isinstance(step, CropShare):
        return f"crop the central square of {step.share:g} of the shortest side"
    if isinstance(step, Channels):
        return f"channels in the order {step.order}"
    if isinstance(step, Scale):
        return f"divide by {step.divisor:g}"
    if isinstance(step, Normalize):
        divided = "" if set(step.std) == {1.0} else f", divide by {numbers(step.std)}"
        return f"subtract {numbers(step.mean)}{divided}"
    if isinstance(step, Layout):
        return f"axes {step.axes}"
    return f"as {step.dtype}" if isinstance(step, Cast) else step.text


def size_of(step: Resize) -> str:
    """The size of a resize in words, ``the shortest side to 256``."""
    if step.how == "exact":
        return f"to {step.height}x{step.width}"
    rounded = "" if step.other_side == "floor" else ", the other side rounded"
    return f"the {step.how} side to {step.height}{rounded}"


def numbers(values: tuple[float, ...] | tuple[int, ...]) -> str:
    """Numbers in words, one where all are the same."""
    same = len(set(values)) == 1
    return f"{values[0]:g}" if same else ", ".join(f"{v:.6g}" for v in values)
