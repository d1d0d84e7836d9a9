"""Which value of an export is which value of the native program, told by the values themselves.

For an exporter that keeps no names. The referee runs the export and takes every value that equals a native one for
it. Behind a fault nothing equals anything any more, so the first native value that is missed is looked for among the
first values of the export that lead to nothing known: each of its shape is tried, the referee goes on with the native
value in its place, and the one behind which most is recognised is kept. That is done again for the next fault.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from onnxeq.native_values import NativeValues
from onnxeq.referee.elements import lift
from onnxeq.types import Array, Feed

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

    from onnxeq.referee import Executor, NodeInfo, Value

__all__ = ["by_value"]

Real: TypeAlias = "NDArray[np.float64]"

_CLOSE = 1e-9
"""Of a value's largest element, up to which another one is the same: far above float64 rounding, far below faults."""

_FAULTS = 8
_TRIES = 6
_SAMPLE = 16


def by_value(model: onnx.ModelProto, executor: Executor, feed: Feed, values: NativeValues) -> NativeValues:
    """The native values under the names of the export.

    Args:
        model: The export.
        executor: The referee on it.
        feed: Its inputs.
        values: The native program's values for that feed, under the program's own names.
    """
    native = _Native(values)
    known: dict[str, str] = {}
    matched = _matches(executor, feed, native, known)
    for _ in range(_FAULTS):
        if all(o.name in matched or o.name in known for o in model.graph.output):
            break
        missed = _first_missed(native, {*matched.values(), *known.values()})
        places = _open_places(model, {*matched, *known})
        if missed is None:
            break
        best: dict[str, str] = {}
        chosen = ""
        for name in [n for n in places if native.may_be(missed, n, executor, feed)][:_TRIES]:
            found = _matches(executor, feed, native, {**known, name: missed})
            if len(found) > max(len(best), len(matched)) or not chosen:
                best, chosen = found, name
        if not chosen:
            native.give_up(missed)
            continue
        known[chosen], matched = missed, best
    renamed = {**matched, **known}
    return NativeValues(values.folder, {name: values.rows[theirs] for name, theirs in renamed.items()})


class _Native:
    """The native values with what is needed to recognise them quickly."""

    def __init__(self, values: NativeValues) -> None:
        self._values = values
        self._by_shape: dict[tuple[int, ...], list[tuple[str, Real, float]]] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._computed: dict[str, tuple[int, ...]] = {}
        self.order = list(values)
        self.readers: dict[str, list[str]] = {name: [] for name in self.order}
        for name in self.order:
            array = lift(values.array(name))
            self._shapes[name] = array.shape
            for read in _names_in(values.rows[name].arguments.values()):
                if read in self.readers and read != name:
                    self.readers[read].append(name)
            if array.dtype == np.float64 and array.size > 1 and np.ptp(np.nan_to_num(array)) > 0:
                rows = self._by_shape.setdefault(array.shape, [])
                rows.append((name, _sample(array), float(np.nanmax(np.abs(array)))))

    def array(self, name: str) -> Array:
        array: Array = lift(self._values.array(name))
        return array

    def find(self, computed: Array, taken: Iterable[str]) -> str:
        """The native value that equals ``computed``, one that is not taken if there are several; else empty."""
        rows = self._by_shape.get(computed.shape, ())
        sample = _sample(computed) if rows else computed
        near = [n for n, other, size in rows if np.allclose(sample, other, rtol=0, atol=_CLOSE * size, equal_nan=True)]
        found = [n for n in near if _equal(computed, self.array(n))]
        used = set(taken)
        return next((n for n in found if n not in used), found[0] if found else "")

    def may_be(self, missed: str, name: str, executor: Executor, feed: Feed) -> bool:
        """Whether a value of the export has the shape of a native one."""
        if name not in self._computed:
            self._computed[name] = np.shape(executor.run(feed, outputs=[name])[name])
        return self._computed[name] == self._shapes[missed]

    def give_up(self, name: str) -> None:
        """Leaves a native value out that the export does not seem to hold."""
        self.order.remove(name)


def _names_in(texts: Iterable[str]) -> list[str]:
    return [word for text in texts for word in re.findall(r"[\w/.:]+", text)]


def _sample(array: Array) -> Real:
    flat = array.reshape(-1)
    return np.asarray(flat[:: max(1, flat.size // _SAMPLE)], dtype=np.float64)


def _equal(a: Array, b: Array) -> bool:
    size = float(np.nanmax(np.abs(b), initial=0.0))
    return bool(np.allclose(a, b, rtol=0, atol=_CLOSE * size, equal_nan=True))


def _matches(executor: Executor, feed: Feed, native: _Native, known: Mapping[str, str]) -> dict[str, str]:
    hook = _Matcher(native, known)
    executor.run(feed, hook=hook)
    return hook.found


class _Matcher:
    """Recognises values as they are computed, and goes on with the native one where that is asked for."""

    def __init__(self, native: _Native, known: Mapping[str, str]) -> None:
        self._native = native
        self._known = known
        self.found: dict[str, str] = {}

    def constant(self, _name: str, value: Real, _dtype: str) -> Real:
        return value

    def node(self, info: NodeInfo, _inputs: Sequence[Value], outputs: list[Value]) -> list[Value]:
        return outputs if info.path else [self._seen(n, v) for n, v in zip(info.node.output, outputs, strict=True)]

    def _seen(self, name: str, value: Value) -> Value:
        if name in self._known:
            native = self._native.array(self._known[name])
            return native.reshape(np.shape(value)) if native.size == np.size(value) else value
        if isinstance(value, np.ndarray) and value.dtype == np.float64:
            found = self._native.find(value, self.found.values())
            if found:
                self.found[name] = found
        return value


def _first_missed(native: _Native, seen: set[str]) -> str | None:
    """The first native value that was not recognised, nor anything that is made from it."""
    alive = set(seen)
    for name in reversed(native.order):
        if any(reader in alive for reader in native.readers[name]):
            alive.add(name)
    return next((name for name in native.order if name not in alive), None)


def _open_places(model: onnx.ModelProto, seen: set[str]) -> list[str]:
    """The export's values from which nothing that was recognised is made, in order."""
    alive = set(seen)
    for node in reversed(model.graph.node):
        if any(output in alive for output in node.output):
            alive.update(read for read in node.input if read)
    return [output for node in model.graph.node for output in node.output if output and output not in alive]
