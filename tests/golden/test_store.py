"""A folder of goldens is whole at every moment, whoever is killed."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from onnxeq.errors import UnusableGolden, UsageError
from onnxeq.golden import store
from onnxeq.golden.arrays_file import pack, unpack
from onnxeq.golden.deciding import accept, pending, reject
from onnxeq.golden.reviewing import review

from .samples import arrays, golden, waiting

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")


def put(folder: Path, value: float = 1.0, name: str = "net") -> None:
    folder.mkdir(exist_ok=True)
    with store.locked(folder, name, wait=False):
        store.commit(folder, golden(name), arrays(value), fresh=True)


def put_pending(folder: Path, value: float, name: str = "net") -> None:
    against = store.read(folder, name).sha256
    with store.locked(folder, name, wait=True):
        record = replace(golden(name, mark=str(value)), pending=waiting(against))
        store.commit(folder, record, arrays(value), pending=True)


def files(folder: Path) -> set[str]:
    own = folder / ".onnxeq"
    return {p.name for p in folder.iterdir() if p != own} | {p.name for p in own.glob("*") if "~" in p.name}


def value_of(folder: Path, name: str = "net") -> float:
    return float(store.read(folder, name).arrays["referee/0/y"][0, 1]) / 2


def test_a_golden_is_one_record_and_one_file_of_arrays(tmp_path: Path) -> None:
    """The arrays are named by their digest and come back bit by bit; nothing else is left."""
    put(tmp_path)
    stored = store.read(tmp_path, "net")
    assert files(tmp_path) == {"net.toml", stored.golden.arrays}
    assert stored.golden.arrays == f"net.{stored.golden.arrays_sha256[:12]}.safetensors"
    assert all(stored.arrays[k].tobytes() == v.tobytes() for k, v in arrays().items())
    assert store.names(tmp_path) == ["net"]


def test_arrays_are_stable_in_bytes() -> None:
    """The order of the arrays does not matter; bfloat16, text, and arrays without elements or axes come back."""
    import ml_dtypes

    held = {
        "b": np.arange(3).astype(ml_dtypes.bfloat16), "a": np.array([["x", "ü"]], object),
        "c": np.float64(1.5).reshape(()), "d": np.zeros((0, 4), np.int64), "e": np.array([True, False]),
    }  # fmt: skip
    data = pack(held)
    assert data == pack(dict(reversed(held.items())))
    back = unpack(data, "x")
    assert {k: (v.dtype, v.shape, v.tolist()) for k, v in back.items()} == {
        k: (v.dtype, v.shape, v.tolist()) for k, v in held.items()
    }


def test_record_overwrites_nothing(tmp_path: Path) -> None:
    """Not even when two ask at once for a name that was free: the second link fails."""
    put(tmp_path)
    with pytest.raises(UsageError, match="is there already"):
        put(tmp_path, 2.0)
    assert value_of(tmp_path) == 1.0
    with store.locked(tmp_path, "net", wait=False):
        pass  # tidied
    assert len(files(tmp_path)) == 2


def test_one_of_two_writers_wins_and_the_other_is_told(tmp_path: Path) -> None:
    """The lock is the golden's own: another golden can be written meanwhile."""
    with store.locked(tmp_path, "net", wait=False):
        with (
            pytest.raises(UsageError, match="is being written by another process") as caught,
            store.locked(tmp_path, "net", wait=False),
        ):
            pass
        assert caught.value.exit_status == 2
        put(tmp_path, name="net2")
    assert store.names(tmp_path) == ["net2"]


def test_accept_and_reject(tmp_path: Path) -> None:
    """Accepting puts the waiting arrays in the place of the old and notes why; rejecting leaves the old."""
    put(tmp_path)
    put_pending(tmp_path, 2.0)
    assert [g.name for g in pending(tmp_path)] == ["net"]
    assert len(files(tmp_path)) == 4
    reject("net", folder=tmp_path)
    assert (value_of(tmp_path), len(files(tmp_path))) == (1.0, 2)
    put_pending(tmp_path, 3.0)
    made = accept("net", because=" a new\nruntime ", folder=tmp_path)
    assert (value_of(tmp_path), len(files(tmp_path))) == (3.0, 2)
    assert store.read(tmp_path, "net").golden == made
    assert [(n.because, n.found) for n in made.history] == [("a new runtime", "weights: w2")]
    assert made.pending == ()


def test_what_cannot_be_accepted(tmp_path: Path) -> None:
    """Nothing that waits; no reason; what was held against another golden than the accepted one."""
    put(tmp_path)
    with pytest.raises(UsageError, match="nothing waits"):
        accept("net", because="x", folder=tmp_path)
    with pytest.raises(UsageError, match="nothing waits"):
        reject("net", folder=tmp_path)
    put_pending(tmp_path, 2.0)
    with pytest.raises(UsageError, match="needs a reason"):
        accept("net", because="  ", folder=tmp_path)
    path = tmp_path / "net.toml"
    path.write_text(path.read_text().replace("2026-01-02", "2026-01-03"))
    with pytest.raises(UsageError, match="against another golden"):
        accept("net", because="x", folder=tmp_path)
    assert value_of(tmp_path) == 1.0


@pytest.mark.parametrize(
    "damage",
    [
        lambda p: p.write_bytes(p.read_bytes()[:-1]),
        lambda p: p.write_bytes(b""),
        lambda p: p.write_bytes(p.read_bytes()[:-1] + b"\x01"),
        lambda p: p.unlink(),
        lambda p: p.write_bytes(pack(arrays(2.0))),
    ],
    ids=["cut", "empty", "bit", "gone", "others"],
)
def test_tampered_arrays_are_refused(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    """A byte less, none, another one, no file, other arrays: one line with status 2."""
    put(tmp_path)
    damage(tmp_path / store.read(tmp_path, "net").golden.arrays)
    with pytest.raises(UnusableGolden) as caught:
        store.read(tmp_path, "net")
    assert caught.value.exit_status == 2
    assert "net." in caught.value.line()
    assert "\n" not in caught.value.line()


def test_arrays_of_the_right_digest_that_are_none_are_refused(tmp_path: Path) -> None:
    """Who changes the digest as well meets the reader of the format."""
    put(tmp_path)
    text = (tmp_path / "net.toml").read_text()
    held = store.read(tmp_path, "net").golden
    from onnxeq.golden.arrays_file import sha256_of

    data = b"\xff" * 100
    sha = sha256_of(data)
    (tmp_path / f"net.{sha[:12]}.safetensors").write_bytes(data)
    text = text.replace(held.arrays_sha256, sha).replace(held.arrays_sha256[:12], sha[:12])
    (tmp_path / "net.toml").write_text(text)
    with pytest.raises(UnusableGolden, match="is damaged"):
        store.read(tmp_path, "net")


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        ({"referee/0/y": None}, "lacks referee/0/y"),
        ({"runtime/0/y": np.zeros((1, 3), np.float32)}, "has the shape [1, 3]"),
        ({"runtime/0/y": np.zeros((1, 2), np.float16)}, "is float16, its record says float32"),
        ({"unit/0/y": None}, "unit/0/y is missing"),
        ({"marks": np.frombuffer(b"{}", np.uint8)}, "marks or its digests"),
        ({"marks": np.frombuffer(b'{"weights":{"w":[]},"nodes":[]}', np.uint8)}, "marks are damaged"),
    ],
)
def test_arrays_that_the_record_does_not_speak_of(tmp_path: Path, edit: dict[str, np.ndarray], says: str) -> None:
    """Another golden's arrays, packed well and with the right digest, are still none of this one."""
    held = {k: v for k, v in {**arrays(), **edit}.items() if v is not None}
    with store.locked(tmp_path, "net", wait=False):
        store.commit(tmp_path, golden(), held, fresh=True)
    with pytest.raises(UnusableGolden) as caught:
        store.read(tmp_path, "net")
    assert says in caught.value.message


@pytest.mark.parametrize("arrays_name", ["../net.toml", "other.0123456789ab.safetensors", "/etc/passwd"])
def test_a_record_names_no_file_but_its_own(tmp_path: Path, arrays_name: str) -> None:
    """Neither outside of the folder nor another golden's."""
    put(tmp_path)
    held = store.read(tmp_path, "net").golden
    path = tmp_path / "net.toml"
    path.write_text(path.read_text().replace(held.arrays, arrays_name))
    with pytest.raises(UnusableGolden, match="names the arrays"):
        store.read(tmp_path, "net")


@pytest.mark.parametrize("name", ["", "a/b", "../x", "x.new", ".hidden", "a~b", "known_discrepancies", "x" * 121])
def test_names_that_cannot_be_files(name: str) -> None:
    """Nothing that leaves the folder or means something else in it."""
    with pytest.raises(UsageError, match="no name of a golden"):
        store.check_name(name)


def test_leftovers_go_and_neighbours_stay(tmp_path: Path) -> None:
    """Arrays that no record names and half-written files of this golden go under its lock; others' stay."""
    put(tmp_path, name="a")
    put(tmp_path, name="a.b")
    stray = tmp_path / "a.0123456789ab.safetensors"
    half = tmp_path / ".onnxeq" / "a~1-2.tmp"
    others = tmp_path / ".onnxeq" / "a.b~1-2.tmp"
    for path in (stray, half, others):
        path.write_bytes(b"x")
    with store.locked(tmp_path, "a", wait=False):
        assert not stray.exists()
        assert not half.exists()
        assert others.exists()
    assert value_of(tmp_path, "a.b") == value_of(tmp_path, "a") == 1.0


def test_nothing_goes_while_a_record_cannot_be_read(tmp_path: Path) -> None:
    """Whose arrays these are is not known then."""
    put(tmp_path)
    held = store.read(tmp_path, "net").golden.arrays
    (tmp_path / "net.toml").write_text("<<<<<<< HEAD")
    with store.locked(tmp_path, "net", wait=False):
        pass
    assert (tmp_path / held).exists()


def _cycle(folder: Path, number: int) -> None:
    """A new golden, and changes of ``net`` that wait, are rejected, accepted, and reviewed."""
    put(folder, 1.0, f"new{number}")
    base = 10.0 * number
    put_pending(folder, base + 1)
    reject("net", folder=folder)
    put_pending(folder, base + 2)
    accept("net", because="a test", folder=folder)
    put_pending(folder, base + 3)
    answers = iter(["a", "why not"])
    review(lambda _: next(answers), lambda _: None, lambda _: None, folder=folder, names=["net"])


def _forked(work: Callable[[], None]) -> int:
    """The process that does ``work`` and ends without running anything of the test runner's."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return child


def _hold_whole(folder: Path, number: int, before: float) -> float:
    """What must hold after any kill: nothing is lost, no record lacks its arrays; gives the accepted value."""
    accepted = value_of(folder)
    assert accepted in (before, 10.0 * number + 2, 10.0 * number + 3)
    for name in store.names(folder):
        value_of(folder, name)
    for name in store.pending_names(folder):
        store.read(folder, name, pending=True)
    for name in ("net", f"new{number}"):
        with store.locked(folder, name, wait=False):
            pass
    named = {f"{n}.toml" for n in store.names(folder)} | {
        store.read(folder, n).golden.arrays for n in store.names(folder)
    }
    named |= {f"{n}.new.toml" for n in store.pending_names(folder)}
    named |= {store.read(folder, n, pending=True).golden.arrays for n in store.pending_names(folder)}
    assert files(folder) == named
    assert value_of(folder) == accepted
    with store.locked(folder, f"new{number}", wait=False):
        store.remove(folder, f"new{number}")
    return accepted


@posix
def test_a_hundred_random_kills_lose_nothing(tmp_path: Path) -> None:
    """SIGKILL at any moment of record, accept, reject and review leaves the old golden or the new one, whole."""
    put(tmp_path)
    began = time.perf_counter()
    _cycle(tmp_path, 0)
    span = time.perf_counter() - began
    rng, accepted, killed = random.Random(0), value_of(tmp_path), 0  # noqa: S311 - no secret
    for number in range(1, 101):
        child = _forked(lambda number=number: _cycle(tmp_path, number))  # type: ignore[misc]
        time.sleep(rng.uniform(0, 1.2 * span))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        killed += os.WIFSIGNALED(status)
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
        accepted = _hold_whole(tmp_path, number, accepted)
    assert killed >= 50


@posix
def test_a_kill_at_each_write_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same before every single rename, link, removal and sync that a cycle makes."""
    put(tmp_path)
    accepted, number, finished = value_of(tmp_path), 0, False
    while not finished:
        number += 1

        def work(last: int = number) -> None:
            count = 0

            def counted(call: Callable[..., object]) -> Callable[..., object]:
                def step(*args: object, **options: object) -> object:
                    nonlocal count
                    count += 1
                    if count == last:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return call(*args, **options)

                return step

            for owner, name in ((Path, "replace"), (Path, "hardlink_to"), (Path, "unlink"), (os, "fsync")):
                setattr(owner, name, counted(getattr(owner, name)))
            _cycle(tmp_path, last)

        _, status = os.waitpid(_forked(work), 0)
        finished = not os.WIFSIGNALED(status)
        assert not finished or os.WEXITSTATUS(status) == 0
        accepted = _hold_whole(tmp_path, number, accepted)
    assert number > 30
    assert accepted == 10.0 * number + 3
