"""The tensors of a case: short calls, the same values every time."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["feed"]

_EDGES = (0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 3.0, -3.0, 7.0, 1e-3, -1e-3, 1e-30, np.inf, -np.inf, np.nan)
_FINITE = (0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 3.0, -3.0, 7.0, 1e-3, -1e-3, 1e-30, 40.0, -40.0, 0.1)


class _Maker:
    """Draws from one generator in the order of the calls."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(7)

    def n(self, *shape: int, dtype: str = "float32") -> Any:
        """Normal deviates."""
        return self._rng.normal(size=shape).astype(dtype)

    def u(self, low: float, high: float, *shape: int) -> Any:
        """Uniform float32 between two numbers."""
        return self._rng.uniform(low, high, size=shape).astype(np.float32)

    def i(self, low: int, high: int, *shape: int, dtype: str = "int64") -> Any:
        """Integers from ``low`` to ``high - 1``."""
        return self._rng.integers(low, high, size=shape).astype(dtype)

    def b(self, *shape: int) -> Any:
        """Truth values."""
        return self._rng.random(size=shape) < 0.5

    def edges(self, *shape: int) -> Any:
        """Zeros of both signs, halves, small and infinite numbers, NaN, in turn."""
        return np.resize(np.array(_EDGES, dtype=np.float32), shape)

    def finite(self, *shape: int) -> Any:
        """The same without infinities and NaN, and numbers of both signs that saturate."""
        return np.resize(np.array(_FINITE, dtype=np.float32), shape)

    def ties(self, *shape: int) -> Any:
        """Few distinct numbers, so that many are equal."""
        return self._rng.integers(0, 3, size=shape).astype(np.float32)

    def a(self, values: Any, dtype: str = "float32") -> Any:
        """The values themselves."""
        return np.array(values, dtype=dtype)

    def z(self, *shape: int, dtype: str = "float32") -> Any:
        """Zeros; a size may be 0."""
        return np.zeros(shape, dtype=dtype)


def feed(text: str) -> dict[str, Any]:
    """The arrays of one feed by name."""
    maker = _Maker()
    known = {name: getattr(maker, name) for name in ("n", "u", "i", "b", "edges", "finite", "ties", "a", "z")}
    known |= {"inf": np.inf, "nan": np.nan}
    made: dict[str, Any] = eval(f"dict({text})", {}, known)  # noqa: S307 - the cases are this project's own
    return {name: np.asarray(value) for name, value in made.items()}
