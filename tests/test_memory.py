"""Who has to go when memory runs out, and what is said of it."""

from __future__ import annotations

import os

import pytest

from onnxeq import memory
from onnxeq.errors import CannotRun, UsageError


def test_a_number_of_bytes_is_readable() -> None:
    """1536 bytes are 1.5 KiB; below one KiB bytes are counted; 2^60 is a thousand and twenty-four PiB."""
    assert memory.readable(1536) == "1.5 KiB"
    assert memory.readable(1023) == "1023 bytes"
    assert memory.readable(1 << 60) == "1.02e+03 PiB"


def test_the_machine_knows_itself() -> None:
    """What is available is no more than there is, and this process takes some of it."""
    left = memory.available()
    assert left is None or 0 < left <= memory.total()
    assert memory.resident(os.getpid()) > 10 << 20
    assert memory.resident(2**22 + 1) == 0


@pytest.mark.parametrize("text", ["0", "-1", "many", "nan"])
def test_a_limit_that_is_none_is_said(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """``ONNXEQ_JOB_MEMORY`` takes positive numbers alone."""
    monkeypatch.setenv("ONNXEQ_JOB_MEMORY", text)
    with pytest.raises(UsageError, match="ONNXEQ_JOB_MEMORY"):
        memory.job_limit()


def test_a_process_beyond_its_limit_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a limit of 2^20 bytes this process goes; with 2^40 it stays."""
    watch = memory.Watch()
    monkeypatch.setenv("ONNXEQ_JOB_MEMORY", str(2.0**-10))
    assert "1.0 MiB are allowed" in watch.verdict(os.getpid())
    monkeypatch.setenv("ONNXEQ_JOB_MEMORY", str(2.0**10))
    assert watch.verdict(os.getpid()) == ""


@pytest.mark.parametrize(
    ("taken", "other", "left", "goes"),
    [
        (9 << 30, 1 << 30, 1 << 20, True),  # the larger of two
        (9 << 30, 10 << 30, 1 << 20, False),  # the smaller: the other goes
        (9 << 30, 1 << 30, 9 << 30, False),  # there is enough
        (1 << 20, 0, 1 << 20, False),  # it is not this one's doing
        (9 << 30, 1 << 30, None, False),  # the system does not say
    ],
)
def test_the_largest_goes_when_little_is_left(
    monkeypatch: pytest.MonkeyPatch, taken: int, other: int, left: int | None, goes: bool
) -> None:
    """Below the reserve the process that takes most has to go, and only if that helps."""
    monkeypatch.delenv("ONNXEQ_JOB_MEMORY", raising=False)
    monkeypatch.setattr(memory, "resident", {1: taken, 2: other}.__getitem__)
    monkeypatch.setattr(memory, "available", lambda: left)
    watch = memory.Watch()
    watch.add(1)
    watch.add(2)
    assert bool(watch.verdict(1)) is goes


def test_outputs_may_take_a_sixteenth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 1600 bytes, two feeds may give 50 bytes each, and not 51."""
    monkeypatch.setattr(memory, "total", lambda: 1600)
    memory.check_trace([20, 30], 2)
    with pytest.raises(CannotRun, match="102 bytes of memory, 100 bytes are allowed"):
        memory.check_trace([20, 31], 2)
