"""The order in which executions are asked, and when that ends, on a machine made of numbers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import pytest

from onnxeq.compare.latency.turns import Arm, Rounds, Turn, compared, ratios, take_turns, undisturbed
from onnxeq.compare.latency.values import Execution, Stopped
from onnxeq.errors import CannotRun


class Machine:
    """Executions that take a multiple of what the machine takes at the moment, on a clock that they advance."""

    def __init__(self, speed: Callable[[float], float] = lambda _: 1.0) -> None:
        self.now = 0.0
        self.order: list[Execution] = []
        self._speed = speed

    def arm(self, of: Execution, work_s: float, *, fails_at: int = -1, jitter: Sequence[float] = (1.0,)) -> Arm:
        """An execution that takes so long at the machine's usual speed."""
        noise = itertools.cycle(jitter)
        asked = itertools.count()

        def ask(seconds: float) -> Turn:
            self.order.append(of)
            if next(asked) == fails_at:
                raise CannotRun("it is broken")
            took = work_s * self._speed(self.now) * next(noise)
            runs = max(1, int(seconds / took))
            self.now += runs * took
            return Turn((took,) * runs)

        return Arm(of, ask)

    def run(self, *arms: Arm, seconds: float = 10.0, seed: int = 0) -> Rounds:
        """All rounds on this machine's clock."""
        return take_turns(arms, seconds, seed, clock=lambda: self.now)


A, B, C = (Execution(name, "native", 1) for name in "abc")


def test_every_round_asks_each_once_in_another_order() -> None:
    """After one turn each to load, rounds of three, in several orders, the same for the same seed."""

    def orders(seed: int) -> list[tuple[Execution, ...]]:
        machine = Machine()
        machine.run(*(machine.arm(of, 0.001) for of in (A, B, C)), seed=seed)
        return [tuple(machine.order[i : i + 3]) for i in range(0, len(machine.order), 3)]

    found = orders(1)
    assert all(set(each) == {A, B, C} for each in found)
    assert found[0] == (A, B, C)
    assert len(set(found[1:])) > 1
    assert found == orders(1)
    assert found != orders(2)


def test_it_ends_when_the_ratios_are_known() -> None:
    """Without any noise that is after the fewest rounds, long before the time is spent."""
    machine = Machine()
    found = machine.run(machine.arm(A, 0.002), machine.arm(B, 0.001), seconds=100)
    assert found.stopped is Stopped.NARROW
    assert [len(turns) for turns in found.turns.values()] == [8, 8]
    assert found.seconds < 10


def test_it_ends_with_the_time_where_they_are_not() -> None:
    """One side takes 1 or 3 times as long by turns: after 2 s that is where it stands, and it says so."""
    machine = Machine()
    found = machine.run(machine.arm(A, 0.1, jitter=(1.0, 3.0)), machine.arm(B, 0.1), seconds=2.0)
    assert found.stopped is Stopped.TIME
    assert 2.0 <= found.seconds < 2.0 + 1.5


def test_a_slow_model_gets_three_rounds_whatever_the_time() -> None:
    """A minute for each run and a second of time: three rounds."""
    machine = Machine()
    found = machine.run(machine.arm(A, 60.0), machine.arm(B, 90.0), seconds=1.0)
    assert [len(turns) for turns in found.turns.values()] == [3, 3]


def test_drift_cancels() -> None:
    """A machine that becomes four times slower within the time: the medians tell nothing, the ratio is 2 to 5 %."""
    machine = Machine(lambda now: 1.0 + 3 * now / 2.0)
    found = machine.run(machine.arm(A, 0.002), machine.arm(B, 0.001), seconds=2.0)
    quotients = [a.median_s / b.median_s for a, b in zip(found.turns[A], found.turns[B], strict=True)]
    assert sorted(quotients)[len(quotients) // 2] == pytest.approx(2.0, rel=0.05)


@pytest.mark.parametrize("when", [0, 1, 4])
def test_one_that_fails_is_left_out(when: int) -> None:
    """When it is loaded, in the first round or later: its error is kept, it is asked no more, the others go on."""
    machine = Machine()
    found = machine.run(machine.arm(A, 0.002), machine.arm(B, 0.001, fails_at=when), machine.arm(C, 0.001))
    assert set(found.turns) == {A, C} == set(found.first)
    assert str(found.failed[B]) == "it is broken"
    assert machine.order.count(B) == when + 1
    assert found.stopped is Stopped.NARROW


def test_when_all_fail_nothing_is_left() -> None:
    """And it ends at once."""
    machine = Machine()
    found = machine.run(machine.arm(A, 1.0, fails_at=0))
    assert (found.stopped, dict(found.turns)) == (Stopped.NOTHING, {})
    assert machine.run().stopped is Stopped.NOTHING


def test_like_is_held_against_like() -> None:
    """Models in one runtime, and a model's framework against onnxruntime; never across batch sizes or both ways at
    once, nor one provider against another.
    """
    made = [Execution(m, r, b) for b in (1, 4) for m in "ab" for r in ("native", "ort/cpu", "ort/cuda")]
    found = {(x.model + y.model, x.runtime, y.runtime) for x, y in compared(made) if x.batch == y.batch == 4}
    assert found == {
        ("ab", "native", "native"), ("ab", "ort/cpu", "ort/cpu"), ("ab", "ort/cuda", "ort/cuda"),
        ("aa", "native", "ort/cpu"), ("aa", "native", "ort/cuda"), ("bb", "native", "ort/cpu"),
        ("bb", "native", "ort/cuda"),
    }  # fmt: skip
    assert len(compared(made)) == 2 * len(found)


def _turn(time_s: float, *quiet_s: float) -> Turn:
    return Turn((time_s,), quiet_s)


def test_undisturbed_rounds_count_where_there_are_enough() -> None:
    """Of eight rounds that were left alone their undisturbed runs count; of seven, all runs of all rounds do."""
    turns = [*(_turn(5.0, 1.0) for _ in range(8)), *(_turn(90.0) for _ in range(4))]
    assert [turn.times_s for turn in undisturbed(turns)] == [(1.0,)] * 8
    assert undisturbed(turns[1:]) == turns[1:]


def test_ratios_are_of_all_runs() -> None:
    """Each two executions by the low end of what their runs took, disturbed ones among them."""
    a, b = [_turn(3.0) for _ in range(9)], [*(_turn(1.5, 1.0) for _ in range(8)), _turn(60.0)]
    assert [r.ratio for r in ratios({A: a, B: b}, 0)] == [2.0]
