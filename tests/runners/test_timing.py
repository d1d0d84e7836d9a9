"""Warming up and timing, on a clock that the calls themselves advance."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from onnxeq.runners.timing import peak_resident, reset_peak, time_runs, timed, warm_up


class Machine:
    """A clock, and a call that takes what it is told, the last of it for ever."""

    def __init__(self, *takes: float) -> None:
        self.now = 0.0
        self.calls = 0
        self._takes: Iterator[float] = iter(takes)
        self._last = 0.0

    def clock(self) -> float:
        """Seconds."""
        return self.now

    def call(self) -> None:
        """What is timed."""
        self.calls += 1
        self._last = next(self._takes, self._last)
        self.now += self._last


def test_a_call_is_timed_by_the_clock() -> None:
    """What the clock advanced meanwhile."""
    machine = Machine(0.25)
    assert timed(machine.call, machine.clock) == 0.25


def test_warming_up_ends_when_two_rounds_are_alike() -> None:
    """A slow first call, a second one half as slow, then 1 s each: rounds of one run, alike in the third and fourth."""
    machine = Machine(8.0, 2.0, 1.0)
    warmth = warm_up(machine.call, 100.0, machine.clock)
    assert (warmth.runs, warmth.steady) == (4, True)
    assert machine.now == 8 + 2 + 1 + 1


def test_short_calls_are_warmed_up_in_rounds_of_many() -> None:
    """Calls of 2^-10 s fill rounds of 0.05 s with 52 each (51 last 0.0498 s); after three rounds it is warm."""
    machine = Machine(2.0**-10)
    assert warm_up(machine.call, 100.0, machine.clock).runs == 3 * 52


def test_what_never_comes_to_rest_is_told_and_bounded() -> None:
    """Calls that take twice as long each time end with the time, after 1 + 2 + 4 s; those of 1 s and 2 s by turns
    after twenty.
    """
    machine = Machine(*(2.0**k for k in range(30)))
    warmth = warm_up(machine.call, 5.0, machine.clock)
    assert (warmth.runs, warmth.steady) == (3, False)
    restless = Machine(*([1.0, 2.0] * 20))
    warmth = warm_up(restless.call, 1e9, restless.clock)
    assert (warmth.runs, warmth.steady) == (20, False)


def test_a_model_slower_than_the_time_runs_twice_at_most() -> None:
    """Two rounds are made in any case, so that a first call of minutes is not taken for the rest."""
    machine = Machine(60.0, 30.0)
    assert warm_up(machine.call, 5.0, machine.clock).runs == 2


def test_the_first_run_of_a_turn_is_not_counted() -> None:
    """9 ms with cold caches, then 4 ms each: three of them fill 10 ms."""
    machine = Machine(0.009, 0.004)
    assert time_runs(machine.call, 0.010, machine.clock) == pytest.approx([0.004, 0.004, 0.004])


def test_a_run_longer_than_the_turn_is_all_there_is() -> None:
    """2 s where 0.1 s are asked for: one run, and it counts."""
    machine = Machine(2.0)
    assert time_runs(machine.call, 0.1, machine.clock) == [2.0]
    assert machine.calls == 1


def test_a_turn_has_an_end() -> None:
    """A call that takes no time at all is made a thousand times and not for ever."""
    machine = Machine(0.0)
    assert len(time_runs(machine.call, 0.1, machine.clock)) == 1000


def test_the_peak_counts_from_its_reset() -> None:
    """What was allocated and given back before it is forgotten, where the system can; what comes after is seen."""
    size = 64 << 20
    held = b"x" * size
    before = peak_resident()
    assert before >= size
    del held
    reset_peak()
    base = peak_resident()
    held = b"y" * size
    assert len(held) == size
    assert peak_resident() - base >= size * 0.9 or peak_resident() == before
