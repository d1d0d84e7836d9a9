"""Models that do their harm when they run: it stays within their jobs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from attack import Siege, lay
from corpus import running
from corpus.case import Case

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def siege(tmp_path_factory: pytest.TempPathFactory) -> Siege:
    before = os.environ.get("ONNXEQ_JOB_MEMORY")
    os.environ["ONNXEQ_JOB_MEMORY"] = "1.5"  # GiB; a test must not try out the memory of a whole machine
    try:
        return lay(tmp_path_factory.mktemp("siege"), running.CASES)
    finally:
        if before is None:
            del os.environ["ONNXEQ_JOB_MEMORY"]
        else:
            os.environ["ONNXEQ_JOB_MEMORY"] = before


@pytest.mark.parametrize("case", running.CASES, ids=lambda case: case.name)
def test_the_verdict_is_that_nothing_can_be_said(siege: Siege, case: Case) -> None:
    """What exhausts memory, loops for ever or dies by a signal is inconclusive, and the report says why."""
    outcome = siege.outcomes[case.name]
    assert outcome.status in case.statuses, outcome.said
    assert "onnxeq itself failed" not in outcome.said
    assert case.says in outcome.said


def test_the_host_takes_no_part_in_it(siege: Siege) -> None:
    """The host's memory stays below 400 MiB while its jobs ask for terabytes, and each check ends within a minute."""
    assert 0 < siege.peak_bytes < 400 << 20
    assert max(outcome.seconds for outcome in siege.outcomes.values()) < 60
    assert siege.written == ()


def test_a_job_beyond_its_memory_is_named_with_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason says what the job took, what was allowed, and in which step."""
    monkeypatch.setenv("ONNXEQ_JOB_MEMORY", "0.5")
    case = next(c for c in running.CASES if c.name == "more-than-the-memory")
    said = " ".join(lay(tmp_path, [case]).outcomes[case.name].said.split())
    assert "512.0 MiB are allowed by ONNXEQ_JOB_MEMORY" in said
    assert "stopped in step 'run'" in said
