"""A record survives its text, and only a whole one is read."""

from __future__ import annotations

import dataclasses
import math

import pytest

from onnxeq.errors import UnusableGolden
from onnxeq.golden.record_file import dumps, loads
from onnxeq.golden.values import Agreement, Note, OutputRecord

from .samples import golden, waiting


def test_what_is_written_is_read() -> None:
    """Every field comes back, infinities, quotes and unicode included; NaN comes back as NaN."""
    nothing = OutputRecord(0, "z", "string", (), False, *[math.nan] * 4, (), (), math.inf, 0.0)
    whole = dataclasses.replace(
        golden(),
        agreement=(Agreement("referee/f64", "ort/cpu", 0.8, 7e-7),),
        history=(Note("2026-03-04", "onnxruntime 1.23", "runtime: ..."),),
        pending=waiting("5" * 64),
    )
    assert loads(dumps(whole), "net.toml") == whole
    back = loads(dumps(dataclasses.replace(whole, outputs=(nothing,))), "net.toml").outputs[0]
    assert math.isnan(back.mean)
    assert back.noise == math.inf


def test_the_same_golden_gives_the_same_text() -> None:
    """Whatever order its tables were filled in; short lists stand in one line."""
    other = dataclasses.replace(golden(), provenance=dict(reversed(golden().provenance.items())))
    text = dumps(golden())
    assert dumps(other) == text
    assert "top = [1, 0]" in text
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('schema = "onnxeq.golden/1"', 'schema = "onnxeq.golden/2"', "this version reads 'onnxeq.golden/1'"),
        ('schema = "onnxeq.golden/1"\n', "", "no schema"),
        ('origin = "recorded"', 'origin = "guessed"', "must be 'recorded' or 'imported'"),
        ("limit = 6.0", 'limit = "6"', "bar: limit is '6', it must be of type float"),
        ("feeds = 1", "feeds = true", "inputs: feeds is True"),
        ("limit = 6.0\n", "", "lacks the entry 'limit'"),
        ("limit = 6.0", "limit = 6.0\nlimits = 7.0", "unknown entry 'limits'"),
        ("top = [1, 0]", "top = 1", "must be a list"),
        ("[bar]", "[[bar]]", "must be a table"),
        ("limit = 6.0", "limit = 6.0\n<<<<<<< HEAD", "is no golden"),
    ],
)
def test_what_is_not_whole_is_refused(old: str, new: str, says: str) -> None:
    """A newer schema, a wrong type or value, a missing or unknown entry, a merge conflict: each with its place."""
    text = dumps(golden())
    assert old in text
    with pytest.raises(UnusableGolden) as caught:
        loads(text.replace(old, new), "net.toml")
    assert says in caught.value.message
    assert caught.value.message.startswith("net.toml")
    assert caught.value.exit_status == 2


def test_a_whole_number_will_do_for_a_float() -> None:
    """Who edits ``limit = 6`` means 6.0."""
    assert loads(dumps(golden()).replace("limit = 6.0", "limit = 6"), "x") == golden()
