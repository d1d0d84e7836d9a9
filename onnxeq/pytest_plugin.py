"""The pytest plug-in: models held to their ONNX form, and to what they gave before. PYTEST_DONT_REWRITE.

    from onnxeq.pytest_plugin import assert_equivalent

    def test_export():
        assert_equivalent(build(), "deployed.onnx")

    def test_outputs(golden):
        golden(build(), inputs={"image": image})

This module is loaded whenever pytest starts: it imports neither numpy nor onnx before a test asks for something. The
tests of one run may be spread over processes (pytest-xdist): every golden has a lock of its own, and which of them were
asked for is counted where the run is controlled from.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from onnxeq.assertion import assert_equivalent, failure_text
from onnxeq.errors import OnnxeqError

if TYPE_CHECKING:
    from onnxeq.golden.findings import Outcome
    from onnxeq.types import Feed

__all__ = ["Golden", "assert_equivalent", "failure_text", "golden"]

_MODES = ("auto", "no", "new", "always", "review")
_FIXTURE = "golden"
_OUTPUT = "onnxeq_golden"


@dataclass
class _Session:
    """What is known of the goldens of one run: in one process, and in the end of all of them.

    Attributes:
        used: Goldens that a test has asked for.
        asking: Tests that may ask for goldens.
        passed: Those of them that passed: only then all that they ask for is known.
        partial: Whether part of the suite was left out.
        lost: Whether a process of the run has ended without telling.
        unused: Goldens that nobody asked for, in the end.
    """

    used: set[str] = field(default_factory=set)
    asking: set[str] = field(default_factory=set)
    passed: set[str] = field(default_factory=set)
    partial: bool = False
    lost: bool = False
    unused: tuple[str, ...] = ()


_KEY = pytest.StashKey[_Session]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--golden``, and where goldens lie."""
    group = parser.getgroup("onnxeq", "models and goldens (onnxeq)")
    group.addoption(
        "--golden",
        choices=_MODES,
        default="auto",
        help="auto: compare, and write what is missing or changed beside, to be reviewed (not with CI set); no: write "
        "nothing; new: record what is missing; always: also write beside what is within the error bar; review: list "
        "everything that waits at the end. None overwrites an accepted golden.",
    )
    parser.addini("golden_dir", "Folder of the goldens, from the root of the tests.", default="golden")


def pytest_configure(config: pytest.Config) -> None:
    """Begins to count. What the command line picks is judged where the run is controlled from."""
    config.stash[_KEY] = _Session(partial=not hasattr(config, "workerinput") and _is_selection(config))


_PICKS = ("keyword", "markexpr", "deselect", "ignore", "ignore_glob", "lf", "collectonly")


def _is_selection(config: pytest.Config) -> bool:
    """Whether the command line picks tests: then a golden that nobody asks for says nothing."""
    if any(getattr(config.option, name, None) for name in _PICKS):
        return True
    if config.args_source is not config.ArgsSource.ARGS:
        return False
    given = {(config.invocation_params.dir / arg).resolve() for arg in config.args}
    usual = {(config.rootpath / path).resolve() for path in config.getini("testpaths")}
    return config.rootpath.resolve() not in given and not (usual and usual <= given)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Notes which tests may ask for goldens."""
    config.stash[_KEY].asking |= {i.nodeid for i in items if _FIXTURE in getattr(i, "fixturenames", ())}


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """Notes that tests were left out, by whatever plug-in."""
    if items:
        items[0].config.stash[_KEY].partial = True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Notes the tests that passed."""
    report = yield
    if report.when == "call" and report.passed:
        item.config.stash[_KEY].passed.add(item.nodeid)
    return report


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Takes over what a process of pytest-xdist has counted."""
    session, told = node.config.stash[_KEY], getattr(node, "workeroutput", {}).get(_OUTPUT)
    if told is None:
        session.lost = True
        return
    for name in ("used", "asking", "passed"):
        getattr(session, name).update(told[name])
    session.partial |= told["partial"]


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Tells the controlling process what was counted; there, fails a run of the whole suite with unused goldens."""
    config, counted = session.config, session.config.stash[_KEY]
    if (output := getattr(config, "workeroutput", None)) is not None:
        lists = {name: sorted(getattr(counted, name)) for name in ("used", "asking", "passed")}
        output[_OUTPUT] = {**lists, "partial": counted.partial}
        return
    whole = not (counted.partial or counted.lost) and counted.asking <= counted.passed
    if exitstatus == pytest.ExitCode.OK and whole and counted.used:
        from onnxeq.golden import store

        counted.unused = tuple(name for name in store.names(_folder(config)) if name not in counted.used)
        if counted.unused:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Lists the goldens that wait for a decision, and those that nobody asked for."""
    counted, everything = config.stash[_KEY], config.getoption("--golden") == "review"
    if not (counted.used or everything):
        return
    from onnxeq.golden import store

    folder = _folder(config)
    waiting = [name for name in store.pending_names(folder) if everything or name in counted.used]
    if waiting or counted.unused:
        terminalreporter.section("goldens")
    there = os.path.relpath(folder)
    option = "" if there == store.DEFAULT_FOLDER else f" --dir {there}"
    if waiting:
        terminalreporter.write_line(f"{len(waiting)} wait for a decision: {', '.join(waiting)}")
        terminalreporter.write_line(f"next: onnxeq golden review{option}")
    if counted.unused:
        terminalreporter.write_line(f"{len(counted.unused)} unused, no test asks for them: {', '.join(counted.unused)}")
        terminalreporter.write_line(f"next: remove them with their arrays, {there}/NAME.*, or ask for them in a test")


class Golden:
    """What the fixture gives: ``golden(model)`` compares a model with its golden.

    Args:
        config: Of the run.
        test: The test's name, from which those of its goldens are made.
    """

    def __init__(self, config: pytest.Config, test: str) -> None:
        self._config = config
        self._test = test
        self._count = 0

    def __call__(
        self,
        model: object,
        name: str | None = None,
        *,
        inputs: Sequence[str | os.PathLike[str] | Feed] | Feed = (),
        **options: Any,
    ) -> Outcome | None:
        """Compares what a model gives with its golden; ``--golden`` says what becomes of a missing or changed one.

        Args:
            model: A reference (``torchvision:resnet18``), a path, a live ``nn.Module`` or ``keras.Model``, or an
                ``onnx.ModelProto``.
            name: Of the golden; by default the test's, with a number from the second on.
            inputs: Feeds: files or mappings from input name to array; one mapping is one feed. Without them they are
                generated when the golden is recorded, and the same ones are used ever after.
            options: What else :func:`onnxeq.golden.record` takes: ``shapes``, ``provider``, ``trust``, ...

        Returns:
            What the comparison found; ``None`` for a golden that was recorded just now.

        Raises:
            AssertionError: It is missing, or changed: what, by how much, why, and what to type next.
            onnxeq.errors.OnnxeqError: Wrong usage, or a model that cannot be run.
        """
        __tracebackhide__ = True
        from onnxeq.golden.testing import Asked, Mode, hold

        self._count += 1
        name = name or (self._test if self._count == 1 else f"{self._test}-{self._count}")
        self._config.stash[_KEY].used.add(name)
        feeds = (inputs,) if isinstance(inputs, Mapping) else tuple(inputs)
        mode = Mode(self._config.getoption("--golden"))
        try:
            return hold(Asked(model, name, _folder(self._config), mode, feeds, options))
        except OnnxeqError as error:
            if error.hint:
                error.add_note(error.hint)
            raise


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[..., Outcome | None]:
    """Compares models with what they gave when their goldens were recorded; see :class:`Golden`."""
    module = Path(request.node.nodeid.partition("::")[0]).stem
    inside = request.node.nodeid.partition("::")[2]
    name = re.sub(r"[^A-Za-z0-9._+]+", "-", f"{module}-{inside}").strip("-.")[:100]
    return Golden(request.config, name)


def _folder(config: pytest.Config) -> Path:
    return config.rootpath / str(config.getini("golden_dir"))
