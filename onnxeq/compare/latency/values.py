"""What a comparison of latencies returns: frozen, typed, no heavy import."""

from __future__ import annotations

from dataclasses import dataclass

from onnxeq.compat import StrEnum

__all__ = ["NATIVE", "SHARE", "Execution", "Figure", "Interval", "Latency", "NotRun", "Ratio", "Reached", "Stopped"]

NATIVE = "native"
"""The runtime that is the model's own framework; the others are ``ort/cpu`` and ``ort/cuda``."""

SHARE = 0.05
"""A ratio beyond 1.05, or its reciprocal, is a discrepancy where its interval excludes 1.

Two processes of the very same program differ by a few percent for as long as they live: where memory lies decides on
conflicts in the caches (Mytkowicz et al., ASPLOS 2009). No number of runs takes that away, so that an interval may
exclude 1 by it. The smallest among the top ten discrepancies of Montes et al. (2022) is 9 %.
"""


@dataclass(frozen=True)
class Interval:
    """A 95 % interval, see :func:`onnxeq.compare.latency.statistics.interval`."""

    low: float
    high: float

    def excludes(self, value: float) -> bool:
        """Whether ``value`` lies outside of it."""
        return not self.low <= value <= self.high


@dataclass(frozen=True, order=True)
class Execution:
    """A model in a runtime, at a batch size."""

    model: str
    runtime: str
    batch: int


@dataclass(frozen=True)
class Figure:
    """What an execution costs.

    Attributes:
        of: The execution.
        median_ms: Median over the rounds of the median latency of a whole batch, in milliseconds.
        interval_ms: Of that.
        items_per_s: Items in a second, at the median latency.
        peak_mib: The most of its process that was resident while it ran, in MiB: model, framework and Python; memory of
            a device is not counted.
        load_s: Seconds until the model could be run, without importing the framework or runtime; seeded weights are
            drawn in that time.
        rounds: How many rounds.
        quiet: In how many of them there were runs that no other program disturbed; if in enough of them, these count.
        runs: How many runs count.
        steady: Whether warming up came to rest.
    """

    of: Execution
    median_ms: float
    interval_ms: Interval
    items_per_s: float
    peak_mib: float
    load_s: float
    rounds: int
    quiet: int
    runs: int
    steady: bool


@dataclass(frozen=True)
class Ratio:
    """How many times as long one execution takes as another.

    Attributes:
        left: The one.
        right: The other.
        ratio: Of what they take when nothing disturbs them, left by right, see
            :func:`onnxeq.compare.latency.statistics.ratio`. That is steadier than the quotient of the two medians, and
            need not be the same.
        interval: Of that.
        discrepancy: Whether the interval excludes 1 and the ratio is further from it than :data:`SHARE`.
    """

    left: Execution
    right: Execution
    ratio: float
    interval: Interval
    discrepancy: bool


@dataclass(frozen=True)
class NotRun:
    """What was asked for and could not be run, and why; without a model it is a runtime that this machine lacks."""

    model: str
    runtime: str
    reason: str


class Stopped(StrEnum):
    """Why no further rounds were made."""

    NARROW = "all ratios are known closely enough"
    TIME = "the time was spent"
    ROUNDS = "there were enough rounds"
    NOTHING = "nothing could be run"


@dataclass(frozen=True)
class Latency:
    """What the models cost, and how that compares.

    Attributes:
        figures: Of each execution, in the order of the models.
        pairs: Each two models in the same runtime at the same batch size.
        runtimes: Each model's own framework against onnxruntime at the same batch size.
        not_run: What could not be run.
        notes: What a reader must know.
        seconds: How long measuring took, without loading and warming up.
        stopped: Why it ended, by batch size.
        width: The widest interval of a ratio, as the share by which it may be off in either direction; 0 without any.
    """

    figures: tuple[Figure, ...]
    pairs: tuple[Ratio, ...]
    runtimes: tuple[Ratio, ...]
    not_run: tuple[NotRun, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    stopped: tuple[tuple[int, Stopped], ...] = ()
    width: float = 0.0

    def figure(self, of: Execution) -> Figure | None:
        """The figure of an execution, if there is one."""
        return next((f for f in self.figures if f.of == of), None)


@dataclass(frozen=True)
class Reached:
    """A model by its accuracy and its cost.

    Attributes:
        of: The execution.
        accuracy: The share of items that it gets right.
        ms_per_item: Its median latency by its batch size.
        front: Whether no other is as accurate and faster, or as fast and more accurate (the Pareto front).
        fastest: The fastest model that is at least as accurate.
    """

    of: Execution
    accuracy: float
    ms_per_item: float
    front: bool
    fastest: str
