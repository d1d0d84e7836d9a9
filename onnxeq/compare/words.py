"""Differences in sentences: what is alike at many places is told once, with the number of places."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from onnxeq.compare.collecting import Found
from onnxeq.compare.kinds import CONVOLUTIONS, family
from onnxeq.compare.phrases import of_attention, of_recurrent
from onnxeq.compare.places import called, noun, scale, scales, sizes
from onnxeq.compare.values import Difference, Graph, Place, Topic

__all__ = ["told"]

_RANK = {topic: rank for rank, topic in enumerate(Topic)}
_MOST_VALUES = 3
_LONGEST = 60


@dataclass(frozen=True)
class _Group:
    """What is alike.

    Attributes:
        found: The places.
        a: The left side's reference.
        b: The right side's.
        left: The left graph.
        right: The right graph.
    """

    found: tuple[Found, ...]
    a: str
    b: str
    left: Graph
    right: Graph

    @property
    def first(self) -> Found:
        """One of them."""
        return self.found[0]

    @property
    def where(self) -> str:
        """The maps on which it shows."""
        known = [
            scale(self.left, f.at[0][-1]) if f.at[0] else scale(self.right, f.at[1][-1])
            for f in self.found
            if f.at[0] or f.at[1]
        ]
        return scales(known)

    def count(self, word: str = "place") -> str:
        """``1 place``, ``3 places``."""
        return counted(len(self.found), word)

    def named(self) -> str:
        """What they are, with the number: ``all 53 convolutions``, ``the 7x7 convolution``, ``2 dense layers``."""
        subjects = dict.fromkeys(f.subject for f in self.found)
        kinds = {family(self.left.layers[f.at[0][0]].kind) for f in self.found}
        if len(subjects) == 1:
            word = next(iter(subjects))
        elif kinds == {"convolution"}:
            word = "convolution"
        else:
            word = "layer"
        total = sum(self._is(word, layer) for layer in self.left.layers)
        number = len(self.found)
        if number == 1:
            return f"the {word}" if total == 1 else f"one {word}"
        return f"{'all ' if number == total else ''}{number} {plural(word, number)}"

    def _is(self, word: str, layer: Any) -> bool:
        return word == noun(layer) or (word == "convolution" and layer.kind in CONVOLUTIONS) or word == "layer"


def counted(number: int, word: str) -> str:
    """``one place``, ``3 places``."""
    return f"one {word}" if number == 1 else f"{number} {plural(word, number)}"


def plural(word: str, number: int) -> str:
    """The word for a number of things."""
    if number == 1:
        return word
    return f"{word}es" if word.endswith(("x", "sh")) else f"{word}s"


def told(found: Sequence[Found], a: str, b: str, left: Graph, right: Graph) -> tuple[Difference, ...]:
    """The differences of two graphs in words, the most consequential first.

    Args:
        found: The single ones.
        a: The left side's reference.
        b: The right side's.
        left: The left graph.
        right: The right graph.
    """
    groups: dict[tuple[Any, ...], list[Found]] = {}
    for item in found:
        groups.setdefault(_key(item, left, right), []).append(item)
    made = [_Group(tuple(items), a, b, left, right) for items in groups.values()]
    told_ = [_difference(group) for group in _elsewhere(made)]
    return tuple(sorted(told_, key=lambda d: (_RANK[d.topic], -len(d.places))))


def _elsewhere(groups: list[_Group]) -> list[_Group]:
    """Where either side has as many of one layer that the other has not, they stand at other places: one difference."""
    kept: list[_Group] = []
    waiting: dict[tuple[Any, ...], int] = {}
    for group in groups:
        first = group.first
        if first.what not in ("only left", "only right") or len(first.at[0] or first.at[1]) != 1:
            kept.append(group)
            continue
        other = "only left" if first.what == "only right" else "only right"
        key = (first.topic, first.left or first.right, len(group.found))
        if (at := waiting.pop((other, *key), None)) is None:
            waiting[(first.what, *key)] = len(kept)
            kept.append(group)
            continue
        found = sorted((*kept[at].found, *group.found), key=lambda f: f.what)
        kept[at] = replace(group, found=tuple(replace(f, what="elsewhere") for f in found))
    return kept


_APART = (Topic.WIDTH, Topic.WIRING)
"""Topics of which all places make one difference, however different the values are."""


def _key(item: Found, left: Graph, right: Graph) -> tuple[Any, ...]:
    if item.topic in _APART:
        return (item.topic, item.what)
    if item.topic in (Topic.BIAS, Topic.EPSILON) or item.what == "pads":
        return (item.topic, item.what, item.left, item.right)
    if item.topic is Topic.LAYERS and (item.at[0] or item.at[1]):
        where = scale(left, item.at[0][-1]) if item.at[0] else scale(right, item.at[1][-1])
        return (item.topic, item.what, item.left, item.right, where)
    return (item.topic, item.what, item.subject, item.left, item.right)


def _difference(group: _Group) -> Difference:
    first = group.first
    speak = _SENTENCES.get(first.what.split()[0]) or _SENTENCES.get(first.topic.value) or _value
    places = tuple(
        Place(_named(group.left, f.at[0]), _named(group.right, f.at[1])) for f in group.found if f.at[0] or f.at[1]
    )
    return Difference(first.topic, speak(group), first.left, first.right, places)


def _named(graph: Graph, at: Sequence[int]) -> str:
    names = [called(graph.layers[i]) for i in at]
    return names[0] if len(names) == 1 else (f"{names[0]} to {names[-1]}" if names else "")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return sizes(value) if value else "none"
    if value is None:
        return "nothing"
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _behind(text: str) -> str:
    return f", {text}" if text else ""


def _value(g: _Group) -> str:
    """Any attribute: what it is on either side."""
    name = g.first.what
    named = g.named()
    where = "" if named.startswith(("all ", "the ")) else _behind(g.where)
    return f"{name} of {named} is {_text(g.first.left)} in {g.a} and {_text(g.first.right)} in {g.b}{where}"


def _stride(g: _Group) -> str:
    return (
        f"the stride of {g.named()} is {_once(g.first.left)} in {g.a} and {_once(g.first.right)} in {g.b}"
        f"{_behind(g.where)}"
    )


def _once(values: tuple[int, ...]) -> str:
    return str(values[0]) if len(set(values)) == 1 else sizes(values)


def _moved(g: _Group) -> str:
    stride = g.first.what.split()[1]
    blocks = f"in {len(g.found)} blocks" if len(g.found) > 1 else "in one block"
    return (
        f"the stride of {stride} is on the {g.first.left} in {g.a} and on the {g.first.right} in {g.b}, {blocks}"
        f"{_behind(g.where)}"
    )


def _bias(g: _Group) -> str:
    has, lacks = (g.a, g.b) if g.first.left else (g.b, g.a)
    one = len(g.found) == 1
    return f"{g.named()} {'has' if one else 'have'} a bias in {has} and none in {lacks}"


def _padding(g: _Group) -> str:
    if g.first.what == "counts padding":
        does, not_ = (g.a, g.b) if g.first.left else (g.b, g.a)
        return f"{g.named()} count{'s' if len(g.found) == 1 else ''} the padding in {does} and not in {not_}"
    if g.first.what != "pads":
        return _value(g)
    one = "s" if len(g.found) == 1 else ""
    return f"{g.named()} pad{one} {_pads(g.first.left)} in {g.a} and {_pads(g.first.right)} in {g.b}{_behind(g.where)}"


def _pads(pads: tuple[int, ...]) -> str:
    half = len(pads) // 2
    before, after = set(pads[:half]), set(pads[half:])
    if not any(pads):
        return "nothing"
    if len(before) == len(after) == 1:
        low, high = before.pop(), after.pop()
        return f"{low} on each side" if low == high else f"{low} before and {high} after (asymmetric)"
    return f"{sizes(pads[:half])} before and {sizes(pads[half:])} after"


def _kind(g: _Group) -> str:
    return f"{g.a} has {g.first.left} where {g.b} has {g.first.right} ({g.count()}{_behind(g.where)})"


def _width(g: _Group) -> str:
    values = list(dict.fromkeys((f.left, f.right) for f in g.found))
    shown = ", ".join(f"{left} against {right}" for left, right in values[:_MOST_VALUES])
    more = f" and {len(values) - _MOST_VALUES} more pairs" if len(values) > _MOST_VALUES else ""
    return f"the number of channels differs in {g.count('layer')}: {shown}{more} ({g.a} against {g.b})"


def _classes(g: _Group) -> str:
    return f"{g.a} has {g.first.left} classes, {g.b} has {g.first.right}"


def _input(g: _Group) -> str:
    what = "input" if g.first.what == "sizes" else "type of the input"
    return f"the {what} is {_text(g.first.left)} in {g.a} and {_text(g.first.right)} in {g.b}"


def _only(g: _Group) -> str:
    has, lacks = (g.a, g.b) if g.first.what == "only left" else (g.b, g.a)
    graph, at = (g.left, g.first.at[0]) if g.first.what == "only left" else (g.right, g.first.at[1])
    listed = g.first.left or g.first.right
    if g.first.topic is Topic.SOFTMAX and at[-1] in graph.outputs:
        return f"{has} ends in a {listed}, {lacks} gives what goes into it"
    if g.first.topic is Topic.CONSTANT and any(graph.layers[k].kind == "input" for k in graph.layers[at[0]].inputs):
        return f"{has} begins with {listed} of its input (preprocessing in the graph), {lacks} does not"
    if len(at) == 1:
        return f"{has} has {counted(len(g.found), listed)} that {lacks} has not{_behind(g.where)}"
    times = f", {len(g.found)} times" if len(g.found) > 1 else ""
    return f"{has} has {len(at)} layers in a row that {lacks} has not: {listed}{times}{_behind(g.where)}"


def _stage(g: _Group) -> str:
    size = int(g.first.what.split()[1])
    where = scales([size]) if size else "behind the maps"
    return f"{where}: {g.first.left} in {g.a}; {g.first.right} in {g.b}"


def _moved_layers(g: _Group) -> str:
    listed, number = g.first.left or g.first.right, len(g.found) // 2
    verb = "is at another place" if number == 1 else "are at other places"
    return f"{counted(number, listed)} {verb} in {g.a} than in {g.b}"


def _instead(g: _Group) -> str:
    times = f" ({g.count()}{_behind(g.where)})"
    return f"{g.a} has {g.first.left} where {g.b} has {g.first.right}{times}"


def _wired(g: _Group) -> str:
    subjects = dict.fromkeys(f.subject for f in g.found)
    word = next(iter(subjects)) if len(subjects) == 1 else "layer"
    verb = "reads" if len(g.found) == 1 else "read"
    return f"{g.count(word)} {verb} other layers in {g.a} than in {g.b}{_behind(g.where)}"


def _phrased(phrase: Callable[..., str]) -> Callable[[_Group], str]:
    """A sentence of what a layer does on either side."""

    def speak(g: _Group) -> str:
        one = len(g.found) == 1
        left, right = (phrase(g.first.what, value, one=one) for value in (g.first.left, g.first.right))
        if not left or not right:
            return _value(g)
        first, _, rest = left.partition(" ")
        shared = right.startswith(f"{first} ")
        return f"{g.named()} {first} {rest} in {g.a} and {right.partition(' ')[2] if shared else right} in {g.b}"

    return speak


_SENTENCES: dict[str, Callable[[_Group], str]] = {
    "moved": _moved,
    "only": _only,
    "elsewhere": _moved_layers,
    "instead": _instead,
    "stage": _stage,
    "kind": _kind,
    "strides": _stride,
    Topic.ATTENTION.value: _phrased(of_attention),
    Topic.RECURRENT.value: _phrased(of_recurrent),
    Topic.BIAS.value: _bias,
    Topic.CLASSES.value: _classes,
    Topic.INPUT.value: _input,
    Topic.PADDING.value: _padding,
    Topic.WIDTH.value: _width,
    Topic.WIRING.value: _wired,
}
"""By what happened, else by topic."""
