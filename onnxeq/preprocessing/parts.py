"""In what two recipes differ, part by part, and a recipe with some of its parts taken from another.

A recipe's arithmetic on pixel values ``x`` (0..255) is one affine map for each channel, ``y = gain * (x - zero)``,
however it is spelled: ``/ 255``, ``- 0.485``, ``/ 0.229`` is ``gain = 1/(255*0.229)`` and ``zero = 255*0.485``. So two
spellings of one map are no difference, and each of the two numbers can be taken from another recipe by itself.

A difference in the channel order alone may leave the numbers at their place or at their colour: they are compared in
the way in which they agree, by colour where they agree in neither.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from onnxeq.compat import StrEnum
from onnxeq.errors import CannotRun
from onnxeq.preprocessing.recipe import (
    Cast,
    Channels,
    Crop,
    CropShare,
    Decode,
    Layout,
    Normalize,
    Other,
    Recipe,
    Resize,
    Scale,
    Step,
    numbers,
    size_of,
    words,
)

__all__ = ["Difference", "Form", "Part", "differences", "exchanged", "form_of", "told_only"]


class Part(StrEnum):
    """What can be taken from one recipe into another by itself."""

    COLOURS = "colours"
    GEOMETRY = "resize and crop"
    """The sizes together, where the two have other steps, so that one of them alone would not fit the model."""
    SIZE = "resize"
    CROP = "crop"
    INTERPOLATION = "interpolation"
    ANTIALIAS = "antialias"
    LIBRARY = "library"
    ORDER = "channel order"
    MEAN = "mean"
    SCALE = "scale"


@dataclass(frozen=True)
class Difference:
    """A part in which two recipes differ, with what each says, in words."""

    part: Part
    ours: str
    theirs: str

    def text(self) -> str:
        """``resize: the shortest side to 256 against the shortest side to 232``."""
        return f"{self.part}: {self.ours} against {self.theirs}"


_Place: TypeAlias = "Resize | Crop | CropShare"


@dataclass(frozen=True)
class Form:
    """A recipe without its spelling.

    Attributes:
        colours: What the file is decoded to.
        places: The steps that choose which pixels there are.
        order: The channels' order in the model's input.
        gain: See the module, for each channel in that order.
        zero: See the module.
        layout: The order of the axes.
        dtype: The model's element type.
    """

    colours: str
    places: tuple[_Place, ...]
    order: str
    gain: tuple[float, ...]
    zero: tuple[float, ...]
    layout: str
    dtype: str


def form_of(recipe: Recipe) -> Form:
    """The recipe without its spelling.

    Raises:
        CannotRun: It has a step that has no name here.
    """
    if other := next((s for s in recipe.steps if isinstance(s, Other)), None):
        hint = "write the recipe as a file with steps that have names: onnxeq zoo show REF --json prints one"
        raise CannotRun(f"only the zoo's own code knows its step '{other.text}' ({recipe.source})", hint=hint)
    colours = next(s.colours for s in recipe.steps if isinstance(s, Decode))
    channels = 1 if colours == "L" else 3
    order, layout, dtype = "L" if channels == 1 else "RGB", "NHWC", "float32"
    factor, shift = [1.0] * channels, [0.0] * channels  # y = factor * x + shift
    for step in recipe.steps:
        if isinstance(step, Channels) and channels == 3 and step.order != order:
            order, factor, shift = step.order, factor[::-1], shift[::-1]
        elif isinstance(step, Scale):
            factor, shift = [f / step.divisor for f in factor], [s / step.divisor for s in shift]
        elif isinstance(step, Normalize):
            mean, std = _each(step.mean, channels, recipe), _each(step.std, channels, recipe)
            factor = [f / d for f, d in zip(factor, std, strict=True)]
            shift = [(s - m) / d for s, m, d in zip(shift, mean, std, strict=True)]
        elif isinstance(step, Layout):
            layout = step.axes
        elif isinstance(step, Cast):
            dtype = step.dtype
    zero = tuple(0.0 if s == 0 else -s / f for s, f in zip(shift, factor, strict=True))
    return Form(
        colours, tuple(s for s in recipe.steps if isinstance(s, _PLACES)), order, tuple(factor), zero, layout, dtype
    )


_PLACES = (Resize, Crop, CropShare)


def _each(values: Sequence[float], channels: int, recipe: Recipe) -> list[float]:
    if len(values) not in (1, channels):
        raise CannotRun(f"{recipe.source or 'a recipe'} normalises {len(values)} channels of {channels}")
    return list(values) * (channels if len(values) == 1 else 1)


def differences(ours: Recipe, theirs: Recipe) -> tuple[Difference, ...]:
    """In which parts two recipes differ; none where they are one recipe, spelled otherwise or not.

    Layout and element type follow the model, and are told by :func:`told_only`.

    Raises:
        CannotRun: One of them has a step that has no name here.
    """
    a, b = form_of(ours), form_of(theirs)
    found = [Difference(Part.COLOURS, a.colours, b.colours)] if a.colours != b.colours else []
    if _aligned(a.places, b.places):
        pairs = list(zip(a.places, b.places, strict=True))
        resized = [(x, y) for x, y in pairs if isinstance(x, Resize) and isinstance(y, Resize)]
        sizes = [(x, y) for x, y in resized if _size(x) != _size(y)]
        if sizes:
            found.append(Difference(Part.SIZE, size_of(sizes[0][0]), size_of(sizes[0][1])))
        cropped = next(((x, y) for x, y in pairs if not isinstance(x, Resize) and x != y), None)
        if cropped:
            found.append(Difference(Part.CROP, *(words(s).removeprefix("crop ") for s in cropped)))
    else:
        found.append(Difference(Part.GEOMETRY, _places_in_words(a.places), _places_in_words(b.places)))
    first, second = (next((s for s in f.places if isinstance(s, Resize)), None) for f in (a, b))
    if first and second:
        if first.interpolation != second.interpolation:
            found.append(Difference(Part.INTERPOLATION, first.interpolation, second.interpolation))
        if first.antialias != second.antialias and _of(Part.ANTIALIAS, first, second) is Part.ANTIALIAS:
            found.append(Difference(Part.ANTIALIAS, *(("without", "with")[s.antialias] for s in (first, second))))
        if first.library != second.library:
            found.append(Difference(Part.LIBRARY, f"as {first.library} does", f"as {second.library} does"))
    if a.order != b.order and a.colours == b.colours:
        found.append(Difference(Part.ORDER, a.order, b.order))
    gain, zero = _numbers_of(b, a)
    if not _alike(a.zero, zero, _SAME * 255):
        found.append(Difference(Part.MEAN, numbers(a.zero), f"{numbers(zero)} (pixel values)"))
    if not _alike(a.gain, gain, _SAME * max(map(abs, a.gain))):
        found.append(Difference(Part.SCALE, *(_divided(v) for v in (a.gain, gain))))
    return tuple(found)


def _divided(gain: Sequence[float]) -> str:
    """``divided by 58.395, 57.12, 57.375``."""
    return "not divided" if set(gain) == {1.0} else f"divided by {numbers(tuple(1 / g for g in gain))}"


_SAME = 1e-6
"""Constants are written with at least three digits, and read from float32 where a zoo holds them so; two that are meant
to be the same agree to float32's rounding, 6e-8, a few times."""


def _aligned(ours: Sequence[_Place], theirs: Sequence[_Place]) -> bool:
    """Whether the steps correspond one to one."""
    return [type(s) for s in ours] == [type(s) for s in theirs]


def _size(step: Resize) -> tuple[int, int, str, str]:
    other = "" if step.how == "exact" else step.other_side
    return step.height, step.width if step.how == "exact" else step.height, step.how, other


def _places_in_words(places: Sequence[_Place]) -> str:
    said = [f"resize {size_of(s)}" if isinstance(s, Resize) else words(s) for s in places]
    return ", ".join(said) or "the picture's own size"


def _alike(ours: Sequence[float], theirs: Sequence[float], within: float) -> bool:
    return len(ours) == len(theirs) and all(abs(x - y) <= within for x, y in zip(ours, theirs, strict=True))


def _numbers_of(theirs: Form, ours: Form) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Gain and zero of ``theirs`` as they are compared with those of ``ours``; see the module."""
    if theirs.order == ours.order or theirs.colours != ours.colours:
        return theirs.gain, theirs.zero
    by_colour = theirs.gain[::-1], theirs.zero[::-1]
    by_place = theirs.gain, theirs.zero
    agree = [
        _alike(ours.zero, zero, _SAME * 255) and _alike(ours.gain, gain, _SAME * max(map(abs, ours.gain)))
        for gain, zero in (by_colour, by_place)
    ]
    return by_place if agree == [False, True] else by_colour


def told_only(ours: Recipe, theirs: Recipe) -> tuple[str, ...]:
    """In what two recipes differ that the model itself decides: the layout and the element type."""
    a, b = form_of(ours), form_of(theirs)
    return tuple(f"{x} against {y}" for x, y in ((a.layout, b.layout), (a.dtype, b.dtype)) if x != y)


def exchanged(ours: Recipe, theirs: Recipe, parts: Collection[Part]) -> Recipe:
    """``ours`` with some parts of ``theirs``; layout and element type stay.

    The arithmetic is spelled anew, in pixel values, only where some of it is exchanged.

    Raises:
        CannotRun: One of the two has a step that has no name here.
    """
    a, b = form_of(ours), form_of(theirs)
    colours = b.colours if Part.COLOURS in parts else a.colours
    steps: list[Step] = [Decode(colours), *_exchanged_places(a.places, b.places, parts)]
    if any(part in _VALUES for part in parts):
        steps += _exchanged_values(a, b, parts)
    else:
        steps += [s for s in ours.steps if isinstance(s, (Channels, Scale, Normalize))]
    steps += [s for s in ours.steps if isinstance(s, (Layout, Cast))]
    said = f"{ours.source}, with {', '.join(p.value for p in Part if p in parts)} of {theirs.source}"
    return Recipe(tuple(steps), said if parts else ours.source)


_VALUES = (Part.COLOURS, Part.ORDER, Part.MEAN, Part.SCALE)


def _exchanged_places(ours: Sequence[_Place], theirs: Sequence[_Place], parts: Collection[Part]) -> list[Step]:
    aligned = _aligned(ours, theirs)
    base = list(theirs if Part.GEOMETRY in parts and not aligned else ours)
    mine, other = (next((s for s in side if isinstance(s, Resize)), None) for side in (ours, theirs))
    made: list[Step] = []
    for index, step in enumerate(base):
        if isinstance(step, Resize):
            if aligned and Part.SIZE in parts and isinstance(same := theirs[index], Resize):
                step = replace(step, height=same.height, width=same.width, how=same.how, other_side=same.other_side)
            for part, field in _RESIZING.items():
                chosen = other if _of(part, mine, other) in parts else mine
                if chosen is not None:
                    step = replace(step, **{field: getattr(chosen, field)})
            made.append(step)
        else:
            made.append(theirs[index] if aligned and Part.CROP in parts else step)
    return made


def _of(part: Part, *resizes: Resize | None) -> Part:
    """The part that a field goes with: the nearest pixel is never averaged, so that antialiasing follows it."""
    nearest = any(step is not None and step.interpolation == "nearest" for step in resizes)
    return Part.INTERPOLATION if nearest and part is Part.ANTIALIAS else part


_RESIZING = {Part.INTERPOLATION: "interpolation", Part.ANTIALIAS: "antialias", Part.LIBRARY: "library"}


def _exchanged_values(a: Form, b: Form, parts: Collection[Part]) -> list[Step]:
    """Channel order and arithmetic, the latter in pixel values."""
    theirs_gain, theirs_zero = _numbers_of(b, a)
    gain = theirs_gain if Part.SCALE in parts else a.gain
    zero = theirs_zero if Part.MEAN in parts else a.zero
    order = b.order if Part.ORDER in parts or Part.COLOURS in parts else a.order
    # Numbers that belong to a colour go with it into the other order; those that belong to a place stay.
    if order != a.order and a.colours == b.colours and (theirs_gain, theirs_zero) != (b.gain, b.zero):
        gain, zero = gain[::-1], zero[::-1]
    if Part.COLOURS in parts and a.colours != b.colours:
        gain, zero = b.gain, b.zero
    steps: list[Step] = [Channels(order)] if order == "BGR" else []
    if set(gain) != {1.0} or set(zero) != {0.0}:
        steps.append(Normalize(zero, tuple(1 / g for g in gain)))
    return steps
