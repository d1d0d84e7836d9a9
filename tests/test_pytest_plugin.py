"""The pytest plug-in, from outside: what a run of a test suite says, writes and returns."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from onnxeq.errors import UnusableModel
from onnxeq.pytest_plugin import assert_equivalent

MakeConvNet = Callable[..., onnx.ModelProto]
HERE = Path(__file__).parent

CONFTEST = f'''
"""Goldens of models that are words: "same", "within" and "changed" say what a comparison finds."""
import sys
from pathlib import Path

import pytest

sys.path.append({str(HERE / "golden")!r})


def check(names, *, folder, sources, keep_pending, **_):
    import samples
    from onnxeq.golden import store
    from onnxeq.golden.findings import Cause, CauseKind, Checked, Distance, Outcome
    from onnxeq.golden.values import Role, Verdict
    from dataclasses import replace

    (name,) = names
    model = sources[name]
    ratio = {{"same": 0.0, "within": 2.0}}.get(model, 25.0)
    far = Distance(Role.RUNTIME, "ort/cpu", model == "same", ratio, 6, 1e-3, "y")
    verdict = {{"same": Verdict.UNCHANGED, "within": Verdict.WITHIN}}.get(model, Verdict.CHANGED)
    causes = (Cause(CauseKind.WEIGHTS, "initializer w2 is another one", True),) if model == "changed" else ()
    writes = keep_pending and model == "changed"
    if writes:
        with store.locked(folder, name, wait=True):
            against = store.read(folder, name).sha256
            record = replace(samples.golden(name, "b"), pending=samples.waiting(against))
            store.commit(folder, record, samples.arrays(2.0), pending=True)
    return Checked(str(folder), (Outcome(name, verdict, far.ratio, 6, (far,), (), causes, pending=writes),))


def record(model, name, *, folder, inputs=(), pending=False, wait=False, **_):
    import samples
    from onnxeq.golden import store
    from onnxeq.golden.recording import _waiting

    folder.mkdir(exist_ok=True)
    with store.locked(folder, name, wait=True):
        made = samples.golden(name)
        made = _waiting(folder, made) if pending else made
        return store.commit(folder, made, samples.arrays(), pending=pending, fresh=not pending)


@pytest.fixture(autouse=True)
def words(monkeypatch):
    import onnxeq.golden

    monkeypatch.setattr("onnxeq.golden.check", check, raising=False)
    monkeypatch.setattr("onnxeq.golden.record", record, raising=False)
'''

SUITE = """
def test_one(golden):
    golden("same", "one")

def test_two(golden):
    golden("same", "two")
"""


class Suite:
    """A test suite of its own, and runs of it."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.folder = pytester.path / "golden"
        pytester.makeconftest(CONFTEST)

    def run(self, tests: str, *options: str, name: str = "test_it") -> pytest.RunResult:
        """The suite's outcome."""
        self.pytester.makepyfile(**{name: tests})
        return self.pytester.runpytest_inprocess("-p", "onnxeq.pytest_plugin", *options)

    @property
    def files(self) -> list[str]:
        """Records, without arrays."""
        return sorted(p.name for p in self.folder.glob("*.toml"))


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Suite:
    """Without other plug-ins, and outside of CI."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    for name in ("CI", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)
    return Suite(pytester)


def test_starting_pytest_loads_nothing_heavy(suite: Suite) -> None:
    """With the plug-in and a suite that uses none of it, neither numpy nor onnx nor a framework is imported."""
    suite.pytester.makeconftest("")
    suite.pytester.makepyfile(
        "import sys\n\ndef test_it():\n    heavy = {'numpy', 'onnx', 'rich', 'typer', 'torch', 'tensorflow'}\n"
        "    assert not heavy & set(sys.modules)\n"
    )
    result = suite.pytester.runpytest_subprocess("-p", "onnxeq.pytest_plugin")
    result.assert_outcomes(passed=1)


def test_a_missing_golden_waits_and_fails(suite: Suite) -> None:
    """``auto``: what would be the golden is written beside, accepted by nobody; the text says what to type."""
    result = suite.run("def test_it(golden):\n    golden('same', 'net')\n")
    result.assert_outcomes(failed=1)
    assert suite.files == ["net.new.toml"]
    result.stdout.fnmatch_lines(
        ["*there is no golden 'net'*is written beside and waits*", "*next: onnxeq golden review net"]
    )
    result.stdout.fnmatch_lines(["*1 wait for a decision: net", "next: onnxeq golden review"])
    assert 'verdict = "new"' in (suite.folder / "net.new.toml").read_text()


def test_a_first_golden_is_accepted_as_any_other(suite: Suite) -> None:
    """What waits as the first of its name is reviewed and accepted with a reason; then the test passes."""
    from onnxeq.golden import accept
    from onnxeq.golden.reviewing import compared

    suite.run("def test_it(golden):\n    golden('same', 'net')\n")
    assert compared(suite.folder, "net").note == "nothing of that name is accepted yet"
    assert accept("net", because="it is new", folder=suite.folder).history[-1].because == "it is new"
    suite.run("def test_it(golden):\n    golden('same', 'net')\n").assert_outcomes(passed=1)
    assert suite.files == ["net.toml"]


@pytest.mark.parametrize(("options", "ci"), [(["--golden=no"], ""), ([], "true")])
def test_nothing_is_written_where_nobody_reviews(
    suite: Suite, options: list[str], ci: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``no``, and ``auto`` with CI set: a missing golden fails, as a changed one does, and nothing is written."""
    suite.run("def test_it(golden):\n    golden('same', 'net')\n", "--golden=new").assert_outcomes(passed=1)
    monkeypatch.setenv("CI", ci)
    before = {p: p.read_bytes() for p in suite.folder.glob("*.[st]*")}
    tests = "def test_a(golden):\n    golden('changed', 'net')\n\ndef test_b(golden):\n    golden('same', 'other')\n"
    result = suite.run(tests, *options)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*--golden=new, and commit*"])
    assert {p: p.read_bytes() for p in suite.folder.glob("*.[st]*")} == before


def test_new_records_what_is_missing_and_compares_the_rest(suite: Suite) -> None:
    """``new``: the first run records, the second compares the same bytes; a changed one is not recorded over."""
    suite.run(SUITE, "--golden=new").assert_outcomes(passed=2)
    assert suite.files == ["one.toml", "two.toml"]
    before = (suite.folder / "one.toml").read_bytes()
    result = suite.run(SUITE.replace('"same", "one"', '"changed", "one"'), "--golden=new")
    result.assert_outcomes(passed=1, failed=1)
    assert (suite.folder / "one.toml").read_bytes() == before
    assert suite.files == ["one.new.toml", "one.toml", "two.toml"]


def test_a_changed_golden_says_by_how_much_and_why(suite: Suite) -> None:
    """The failure is the verdict, the distance against the limit, the cause, and what to type; no code of ours."""
    suite.run(SUITE, "--golden=new")
    result = suite.run(SUITE.replace('"same", "two"', '"changed", "two"'))
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines([
        "*AssertionError: changed: two  25x rounding noise (6x allowed)",
        "*weights: initializer w2 is another one",
        "*next: onnxeq golden review two",
    ])  # fmt: skip
    result.stdout.no_fnmatch_line("*onnxeq/golden/testing.py*")


def test_always_writes_beside_what_only_moved(suite: Suite) -> None:
    """Other bits within the error bar pass; with ``always`` they wait to be accepted, and still pass."""
    suite.run(SUITE, "--golden=new")
    moved = SUITE.replace('"same", "one"', '"within", "one"')
    suite.run(moved).assert_outcomes(passed=2)
    assert suite.files == ["one.toml", "two.toml"]
    suite.run(moved, "--golden=always").assert_outcomes(passed=2)
    assert suite.files == ["one.new.toml", "one.toml", "two.toml"]


def test_review_lists_everything_that_waits(suite: Suite) -> None:
    """``review`` names what waits from earlier runs, too, whoever asked for it."""
    suite.run(SUITE)
    result = suite.run("def test_it():\n    pass\n", "--golden=review")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["2 wait for a decision: one, two", "next: onnxeq golden review"])


def test_what_no_test_asks_for_fails_a_whole_run(suite: Suite) -> None:
    """A whole run that passes fails for an unused golden, and names it; a selection of tests does not look for any."""
    suite.run(SUITE, "--golden=new")
    left = SUITE[: SUITE.index("def test_two")]
    result = suite.run(left)
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["1 unused, no test asks for them: two"])
    for options in (["-k", "one"], ["test_it.py::test_one"], ["test_it.py"], ["--deselect=test_it.py::test_two"]):
        assert suite.run(SUITE, *options).ret == 0
    assert suite.run(left, ".").ret == pytest.ExitCode.TESTS_FAILED


def test_a_skipped_test_may_use_any_golden(suite: Suite) -> None:
    """Where a test that takes the fixture was skipped, nothing is called unused."""
    suite.run(SUITE, "--golden=new")
    skipped = SUITE.replace("def test_two", "import pytest\n@pytest.mark.skip(reason='today')\ndef test_two")
    result = suite.run(skipped)
    result.assert_outcomes(passed=1, skipped=1)
    assert result.ret == 0


def test_names_come_from_the_test(suite: Suite) -> None:
    """Module, test and parameter; a number from the second golden on."""
    tests = """
import pytest

@pytest.mark.parametrize("size", [1, 2])
def test_it(golden, size):
    golden("same")
    golden("same")
"""
    suite.run(tests, "--golden=new", name="test_net").assert_outcomes(passed=2)
    assert suite.files == sorted(f"test_net-test_it-{n}{more}.toml" for n in (1, 2) for more in ("", "-2"))


def test_the_folder_is_an_ini_option(suite: Suite) -> None:
    """``golden_dir`` is taken from the root of the tests; the hint names it."""
    suite.pytester.makeini("[pytest]\ngolden_dir = kept/here\n")
    (suite.pytester.path / "kept").mkdir()
    result = suite.run(SUITE)
    assert (suite.pytester.path / "kept/here/one.new.toml").exists()
    result.stdout.fnmatch_lines(["next: onnxeq golden review --dir kept/here"])


@pytest.mark.skipif("sys.platform == 'win32'", reason="processes are ended by signals")
def test_side_by_side_nothing_is_lost(suite: Suite) -> None:
    """Under xdist six tests in two processes record six goldens, two of them under one name; the seventh is unused."""
    pytest.importorskip("xdist")
    tests = """
import pytest

@pytest.mark.parametrize("name", list("abcde") + ["a "])
def test_it(golden, name):
    golden("same", name.strip())
"""
    suite.pytester.makepyfile(test_it=tests)
    arguments = ["-p", "onnxeq.pytest_plugin", "-p", "xdist", "-n", "2"]
    result = suite.pytester.runpytest_subprocess(*arguments, "--golden=new")
    result.assert_outcomes(passed=6)
    assert result.ret == 0
    assert suite.files == [f"{name}.toml" for name in "abcde"]
    suite.pytester.makepyfile(test_it=tests.replace('"abcde"', '"abcd"'))
    result = suite.pytester.runpytest_subprocess(*arguments)
    result.assert_outcomes(passed=5)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["1 unused, no test asks for them: e"])
    assert suite.pytester.runpytest_subprocess(*arguments, "-k", "a or b").ret == 0


@pytest.mark.skipif("sys.platform == 'win32'", reason="processes are ended by signals")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_leaves_no_golden(
    suite: Suite, conv_net: MakeConvNet, how: signal.Signals, fresh_cache: Path
) -> None:
    """A run that is stopped while it records a real model leaves no record, no arrays, and no process."""
    suite.pytester.makeconftest("")
    onnx.save(conv_net(), suite.pytester.path / "net.onnx")
    suite.pytester.makepyfile("def test_it(golden):\n    golden('net.onnx', 'net')\n")
    command = [sys.executable, "-m", "pytest", "-p", "onnxeq.pytest_plugin", "--golden=new"]
    # A shell has its background processes ignore interrupts, and what they start inherits it.
    usual = {signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler)}
    try:
        run = subprocess.Popen(command, cwd=suite.pytester.path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
    _wait_for(lambda: list((fresh_cache / "jobs").glob("*.tmp")) != [])
    os.kill(run.pid, how)
    assert run.wait(60) == (pytest.ExitCode.INTERRUPTED if how is signal.SIGINT else -how)
    assert [p.name for p in suite.folder.iterdir()] == [".onnxeq"]
    _wait_for(lambda: not _running(str(fresh_cache)))


def _wait_for(what: Callable[[], bool], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.05)


def _running(word: str) -> list[str]:
    shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in shown.splitlines() if "onnxeq.worker" in line and word in line]


def test_a_live_model_goes_the_whole_way(suite: Suite, conv_net: MakeConvNet) -> None:
    """A real model with given inputs: recorded, unchanged, with other weights a named cause, with other inputs said."""
    suite.pytester.makeconftest("")
    edits = {"net": None, "other": lambda weights: weights.update(w3=weights["w3"] * np.float32(1.5))}
    for name, edit in edits.items():
        onnx.save(conv_net(edit=edit), suite.pytester.path / f"{name}.onnx")
    tests = """
import numpy as np
import onnx

def test_it(golden):
    image = np.random.default_rng(SEED).standard_normal((2, 3, 16, 16), np.float32)
    golden(onnx.load("NAME.onnx"), "net", inputs={"x": image})
"""
    first = tests.replace("NAME", "net").replace("SEED", "5")
    suite.run(first, "--golden=new").assert_outcomes(passed=1)
    suite.run(first, "--golden=no").assert_outcomes(passed=1)
    changed = suite.run(first.replace("net.onnx", "other.onnx"), "--golden=no")
    changed.assert_outcomes(failed=1)
    changed.stdout.fnmatch_lines(["*changed: net*x allowed)", "*weights*w3*"])
    others = suite.run(first.replace("(5)", "(6)"), "--golden=no")
    others.assert_outcomes(failed=1)
    others.stdout.fnmatch_lines(["*the test feeds other inputs than golden 'net' was recorded with*"])


def test_an_equivalent_model_gives_its_report(conv_net: MakeConvNet) -> None:
    """``assert_equivalent`` passes and hands the report on."""
    report = assert_equivalent(conv_net(), providers=["cpu"], batches=(1,))
    assert report.equivalent


def test_a_divergent_model_fails_with_its_cause(conv_net: MakeConvNet, tmp_path: Path) -> None:
    """The text is the verdict, the cause with its place, the rung that failed, and the command that shows it again."""
    for name, pads in (("before", (1, 1, 1, 1)), ("after", (0, 1, 2, 1))):
        onnx.save(conv_net(pads=pads), tmp_path / f"{name}.onnx")
    before, after = tmp_path / "before.onnx", tmp_path / "after.onnx"
    image = {"x": np.ones((1, 3, 16, 16), np.float32)}
    np.savez(tmp_path / "image.npz", **image)
    options: dict[str, Any] = {"providers": ["cpu"], "inputs": [tmp_path / "image.npz"], "seed": 3, "accept": ["tf32"]}
    with pytest.raises(AssertionError) as caught:
        assert_equivalent(before, after, **options)
    lines = str(caught.value).splitlines()
    assert "divergent, they are not equivalent" in lines[0]
    assert any("graph at rung graph" in line and "pads" in line for line in lines)
    assert any("FAIL, max abs" in line for line in lines)
    again = f"onnxeq check {before} {after} --inputs {tmp_path / 'image.npz'} --providers cpu --seed 3 --accept tf32"
    assert lines[-1] == f"again: {again}"


def test_what_could_not_be_decided_fails(monkeypatch: pytest.MonkeyPatch, conv_net: MakeConvNet) -> None:
    """``inconclusive`` is a failure that says so; a live model is seen again by the test that made it."""
    import onnxeq

    report = onnxeq.check(conv_net(), providers=["cpu"], batches=(1,))
    from dataclasses import replace

    from onnxeq.types import Status, Verdict

    rungs = (replace(report.rungs[-1], status=Status.NOT_RUN, reason="it fell asleep"), *report.rungs[:-1])
    undecided = replace(report, verdict=Verdict.INCONCLUSIVE, rungs=rungs, notes=("a note",))
    monkeypatch.setattr(onnxeq, "check", lambda *_, **__: undecided)
    with pytest.raises(AssertionError) as caught:
        assert_equivalent(conv_net())
    text = str(caught.value)
    assert "inconclusive, it could not be decided" in text
    assert "not run (it fell asleep)" in text
    assert "note: a note" in text
    assert text.splitlines()[-1].startswith("again: pytest ")
    assert "test_what_could_not_be_decided_fails" in text


def test_wrong_usage_is_told_with_its_remedy() -> None:
    """An error is none of the assertion's: it stays what it is, and its hint is shown with it."""
    with pytest.raises(UnusableModel) as caught:
        assert_equivalent("missing.onnx")
    assert caught.value.hint in caught.value.__notes__
