"""Executions asked in turn: in each round every one of them once, in another order, and only one at a time.

What the machine does besides (another program, a lower clock) lasts longer than a turn, so that it meets all of them
alike, whichever comes first.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxeq.compare.latency.statistics import RESAMPLES, half_width, median, ratio
from onnxeq.compare.latency.values import NATIVE, Execution, Ratio, Stopped
from onnxeq.errors import OnnxeqError

__all__ = ["NARROW", "Arm", "Rounds", "Turn", "compared", "ratios", "take_turns", "undisturbed"]

NARROW = 0.02
"""Measuring ends when every ratio is known to 2 %: well below what counts as a discrepancy."""

_AIMED = 20
"""Rounds that the time is laid out for."""

_FEWEST = 8
"""Fewer say little about how far a median may be off."""

_LEAST = 3
"""So many are made whatever the time."""

_MOST = 100

_ROUGH = 200
"""Samples for an interval that only decides whether to go on."""

_TURN_S = (0.02, 0.5)
"""Shortest and longest aim for a turn; a model that takes longer runs once."""


@dataclass(frozen=True)
class Turn:
    """What one turn gave.

    Attributes:
        times_s: Seconds that each run took.
        quiet_s: The same of those runs in which no other program took a core away.
        load_s: Seconds that loading took, in an earlier turn or this one.
        peak_bytes: The most of its process that was resident in this turn.
        steady: Whether warming up came to rest; ``None`` where it was warm already.
    """

    times_s: tuple[float, ...]
    quiet_s: tuple[float, ...] = ()
    load_s: float = 0.0
    peak_bytes: int = 0
    steady: bool | None = None

    @property
    def median_s(self) -> float:
        """What a run takes."""
        return median(self.times_s)

    @property
    def undisturbed(self) -> Turn:
        """The same of its undisturbed runs, of which it must have some."""
        return replace(self, times_s=self.quiet_s)


@dataclass(frozen=True)
class Arm:
    """An execution, and how it is asked for a turn of so many seconds."""

    of: Execution
    ask: Callable[[float], Turn]


@dataclass(frozen=True)
class Rounds:
    """What all turns gave.

    Attributes:
        first: Of each execution that did not fail, the turn in which it was loaded and warmed up, which counts for
            nothing else.
        turns: Its turns, one for each round.
        failed: Why the others failed.
        seconds: How long the rounds took.
        stopped: Why there are no more of them.
    """

    first: Mapping[Execution, Turn]
    turns: Mapping[Execution, tuple[Turn, ...]]
    failed: Mapping[Execution, OnnxeqError]
    seconds: float
    stopped: Stopped


def take_turns(
    arms: Sequence[Arm],
    seconds: float,
    seed: int,
    *,
    clock: Callable[[], float] = time.monotonic,
    tell: Callable[[str], None] = lambda _: None,
) -> Rounds:
    """Asks in rounds until every ratio is known to :data:`NARROW`, or ``seconds`` are spent.

    Args:
        arms: What is asked; one that fails is left out from then on, and the others go on.
        seconds: For all rounds; loading and warming up are not counted.
        seed: Of the orders, and of the intervals that decide when to stop.
        clock: Seconds since some moment.
        tell: Told how far it has come.
    """
    turn_s = min(max(seconds / (_AIMED * max(len(arms), 1)), _TURN_S[0]), _TURN_S[1])
    failed: dict[Execution, OnnxeqError] = {}

    def ask(those: Sequence[Arm]) -> dict[Execution, Turn]:
        given = {}
        for arm in those:
            try:
                given[arm.of] = arm.ask(turn_s)
            except OnnxeqError as error:
                failed[arm.of] = error
        return given

    first = ask(arms)
    rng = np.random.default_rng(seed)
    turns: dict[Execution, list[Turn]] = {of: [] for of in first}
    began, stopped = clock(), None
    while stopped is None:
        alive = [arm for arm in arms if arm.of not in failed]
        given = ask([alive[i] for i in rng.permutation(len(alive))])
        turns = {of: [*before, given[of]] for of, before in turns.items() if of in given}
        count = max(map(len, turns.values()), default=0)
        width = max((half_width(r.interval) for r in ratios(turns, seed, _ROUGH)), default=0.0)
        tell(f"round {count}, ratios known to {width:.1%}")
        stopped = _stop(count, width, clock() - began >= seconds)
    kept = {of: tuple(each) for of, each in turns.items()}
    return Rounds({of: first[of] for of in kept}, kept, failed, clock() - began, stopped)


def _stop(count: int, width: float, spent: bool) -> Stopped | None:
    if not count:
        return Stopped.NOTHING
    if count >= _FEWEST and width <= NARROW:
        return Stopped.NARROW
    if count >= _LEAST and spent:
        return Stopped.TIME
    return Stopped.ROUNDS if count >= _MOST else None


def compared(executions: Sequence[Execution]) -> list[tuple[Execution, Execution]]:
    """What is held against each other: models in one runtime, and runtimes of one model, each at one batch size."""
    return [
        (a, b)
        for a, b in itertools.combinations(executions, 2)
        if a.batch == b.batch and (a.runtime == b.runtime or (a.model == b.model and NATIVE in (a.runtime, b.runtime)))
    ]


def ratios(turns: Mapping[Execution, Sequence[Turn]], seed: int, resamples: int = RESAMPLES) -> list[Ratio]:
    """All ratios, see :func:`onnxeq.compare.latency.statistics.ratio`."""
    given = {of: [turn.times_s for turn in each] for of, each in turns.items() if each}
    return [ratio((a, given[a]), (b, given[b]), seed, resamples) for a, b in compared(list(given))]


def undisturbed(turns: Sequence[Turn]) -> list[Turn]:
    """The rounds with runs that nothing disturbed, and of those these runs; where such rounds are fewer than
    :data:`_FEWEST`, all rounds with all runs.
    """
    rounds = [turn.undisturbed for turn in turns if turn.quiet_s]
    return rounds if len(rounds) >= _FEWEST else list(turns)
