"""Hostile ONNX files and inputs: what cannot be is refused by the host itself, before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from attack import Siege, lay
from corpus import feeds, files, graphs, tensors
from corpus.case import Case

MODELS = [*files.CASES, *graphs.CASES, *tensors.CASES]
CASES = [*MODELS, *feeds.CASES]

HOST_BYTES = 400 << 20
"""The host takes 60 MiB with numpy and onnx loaded; the largest file of the corpus is 10 MiB."""

COMMANDS = {
    "diff": lambda arguments, out: ["diff", *arguments],
    "ledger": lambda arguments, out: ["ledger", *arguments, *arguments],
    "convert": lambda arguments, out: ["convert", *arguments, "-o", str(out / "made.onnx")],
    "normalize": lambda arguments, out: ["normalize", *arguments, "-o", str(out / "made.onnx")],
}


@pytest.fixture(scope="module")
def siege(tmp_path_factory: pytest.TempPathFactory) -> Siege:
    return lay(tmp_path_factory.mktemp("siege"), CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_attack_gets_its_status_and_one_line(siege: Siege, case: Case) -> None:
    """Each file gives exit status 2 (3 where the machine is too small) and one line that names what is wrong."""
    outcome = siege.outcomes[case.name]
    assert outcome.status in case.statuses, outcome.said
    assert len(outcome.lines) == 1, outcome.said
    assert outcome.lines[0].startswith("onnxeq: ")
    assert outcome.lines[0].isprintable()
    assert case.says in outcome.lines[0]


def test_the_host_outlives_them_all_in_bounded_memory(siege: Siege) -> None:
    """One host takes every attack: it lives on, and its memory stays below four hundred mebibytes."""
    assert 0 < siege.peak_bytes < HOST_BYTES


def test_no_attack_takes_long(siege: Siege) -> None:
    """The slowest is the one whose millions of messages are counted: ten seconds are allowed to each."""
    slow = {name: outcome.seconds for name, outcome in siege.outcomes.items() if outcome.seconds > 10}
    assert not slow


def test_nothing_is_written_around_them(siege: Siege) -> None:
    """No pickle was run, no link followed, nothing left behind."""
    assert siege.written == ()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_the_same_door(tmp_path: Path, command: str) -> None:
    """What ``check`` refuses no other command takes, and none leaves a file."""
    # What can only not be fed may be converted; and counting millions of messages takes its time once.
    cases = [c for c in MODELS if c.says != "to feed the model with" and c.name != "millions-of-empty-nodes"]
    siege = lay(tmp_path, cases, COMMANDS[command])
    wrong = {n: o.said for n, o in siege.outcomes.items() if o.status not in (2, 3) or len(o.lines) != 1}
    assert not wrong
    assert siege.written == ()
    assert siege.peak_bytes < HOST_BYTES
