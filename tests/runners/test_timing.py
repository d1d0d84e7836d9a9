"""Warming up and timing, on a clock that the calls themselves advance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from onnxeq.runners.timing import Runs, peak_resident, reset_peak, time_runs, timed, waited, warm_up


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
    assert time_runs(machine.call, 0.010, machine.clock).times_s == pytest.approx([0.004] * 3)


def test_a_run_longer_than_the_turn_is_all_there_is() -> None:
    """2 s where 0.1 s are asked for: one run, and it counts."""
    machine = Machine(2.0)
    assert time_runs(machine.call, 0.1, machine.clock).times_s == (2.0,)
    assert machine.calls == 1


def test_a_turn_has_an_end() -> None:
    """A call that takes no time at all is made a thousand times and not for ever."""
    machine = Machine(0.0)
    assert len(time_runs(machine.call, 0.1, machine.clock).times_s) == 1000


class Shared(Machine):
    """A machine on which some calls, by number, wait for a core for so many seconds."""

    def __init__(self, takes: float, lost: Mapping[int, float]) -> None:
        super().__init__(takes)
        self._lost = lost

    def waiting(self) -> float:
        """Seconds waited so far."""
        return sum(seconds for number, seconds in self._lost.items() if number <= self.calls)


def test_disturbed_runs_are_told_apart() -> None:
    """Of three runs after the first, one waits for a core for 3 % of its time and two for 1 %: two are undisturbed."""
    took = 2.0**-6
    machine = Shared(took, {1: 1.0, 2: 0.01 * took, 3: 0.03 * took, 4: 0.01 * took})
    found = time_runs(machine.call, 3 * took, machine.clock, machine.waiting)
    assert found.times_s == (took,) * 3
    assert found.quiet_s == (took,) * 2


def test_short_runs_are_looked_at_together() -> None:
    """Runs of 2^-10 s, six of which make a look of 5 ms: one that loses its core takes its five neighbours along."""
    took = 2.0**-10
    machine = Shared(took, {9: took})
    found = time_runs(machine.call, 17.5 * took, machine.clock, machine.waiting)
    assert (len(found.times_s), len(found.quiet_s)) == (18, 12)


def test_a_single_long_run_is_judged_as_well() -> None:
    """2 s, of which 0.1 s without a core."""
    machine = Shared(2.0, {1: 0.1})
    assert time_runs(machine.call, 0.1, machine.clock, machine.waiting) == Runs((2.0,), ())


def test_waiting_for_a_core_is_counted() -> None:
    """It never goes back, and asking is quick."""
    first = waited()
    assert 0 <= first <= waited()


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
