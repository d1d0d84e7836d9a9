"""What is expected to fail must fail, for the cause that is given, until the day that is given."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from onnxeq.errors import UnusableGolden
from onnxeq.golden.findings import Cause, CauseKind, Checked, Outcome
from onnxeq.golden.known import FILE, Known, applied, load
from onnxeq.golden.values import Verdict

DAY = datetime.date(2026, 6, 1)
FAILED = Outcome("net", Verdict.CHANGED, causes=(Cause(CauseKind.RUNTIME, "a kernel", True),))
HELD = Outcome("net", Verdict.WITHIN)


def status(entry: Known, outcome: Outcome) -> tuple[int, str]:
    outcomes, complaints = applied([entry], [outcome], ["net"], DAY)
    return Checked("golden", outcomes, complaints).exit_status, "; ".join(complaints)


def test_an_expected_failure_passes() -> None:
    """For its own cause or for any, up to and on the last day; the reason stays with the outcome."""
    for entry in (Known("net", "why"), Known("net", "why", "runtime"), Known("net", "why", "", "2026-06-01")):
        outcomes, complaints = applied([entry], [FAILED], ["net"], DAY)
        assert (outcomes[0].known, complaints) == ("why", ())
        assert Checked("golden", outcomes, complaints).exit_status == 0


@pytest.mark.parametrize(
    ("entry", "outcome", "says"),
    [
        (Known("net", "why"), HELD, "was expected to fail (why) and is within the error bar: remove the entry"),
        (Known("net", "why", "weights"), FAILED, ""),
        (Known("net", "why", "", "2026-05-31"), FAILED, "ended on 2026-05-31"),
        (Known("other", "why"), HELD, "there is no golden 'other'"),
    ],
)
def test_what_the_list_does_not_excuse(entry: Known, outcome: Outcome, says: str) -> None:
    """A failure that does not happen, another cause, a day that is over, a golden that is not there: status 1."""
    found, said = status(entry, outcome)
    assert found == 1
    assert says in said


def test_damage_is_never_expected() -> None:
    """A golden that cannot be read or run is no known discrepancy."""
    for verdict, code in ((Verdict.UNUSABLE, 2), (Verdict.NOT_RUN, 3), (Verdict.STALE, 1)):
        assert status(Known("net", "why"), Outcome("net", verdict))[0] == code


def test_the_file_is_read_strictly(tmp_path: Path) -> None:
    """None is fine; what is not whole is one line with status 2."""
    assert load(tmp_path) == ()
    (tmp_path / FILE).write_text('[[known]]\ngolden = "net"\nreason = "issue 12"\nuntil = "2027-01-31"\n')
    assert load(tmp_path) == (Known("net", "issue 12", "", "2027-01-31"),)
    for text, says in (
        ('[[known]]\ngolden = "net"\n', "lacks the entry 'reason'"),
        ('[[known]]\ngolden = "net"\nreason = " "\n', "gives no reason"),
        ('[[known]]\ngolden = "net"\nreason = "x"\nuntil = "soon"\n', "is no day"),
        ('[[known]]\ngolden = "net"\nreason = "x"\ncause = "luck"\n', "is no cause"),
        ('[[expected]]\ngolden = "net"\n', "other things than"),
        ("known = 3\n", "other things than"),
        ("[[known]\n", "cannot be read"),
    ):
        (tmp_path / FILE).write_text(text)
        with pytest.raises(UnusableGolden) as caught:
            load(tmp_path)
        assert says in caught.value.message
