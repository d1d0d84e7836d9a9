from __future__ import annotations

import hashlib
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest
from onnx import parser

from onnxeq import fingerprint, processes
from onnxeq.errors import CannotRun, JobCrashed, JobKilled, JobTimeout, OnnxeqError, UsageError
from onnxeq.jobs import Jobs, JobSpec, Lane
from onnxeq.runners import native

FACTORIES = """
import os, signal, sys, time

def killed(): os.kill(os.getpid(), signal.SIGKILL)
def aborts(): os.abort()
def segfaults():
    import ctypes
    ctypes.string_at(0)
def hangs(): time.sleep(600)
def leaves(): os._exit(7)
def number(): return 42
"""


@pytest.fixture
def factories(tmp_path: Path, fresh_cache: Path) -> Path:
    path = tmp_path / "factories.py"
    path.write_text(FACTORIES)
    return path


def spec(path: Path, name: str, **params: object) -> JobSpec:
    ref = {
        "text": f"{path}:{name}",
        "zoo": "factory",
        "name": name,
        "weights": "",
        "seed": 0,
        "module": str(path),
    }
    load = {"ref": ref, "converter": "factory", "inputs": None, "seed": 0, "trust": False, "threads": 0}
    every = {"load": load, "forms": [], "opset": None, "dynamic_batch": None, "batches": []}
    return JobSpec("native", "native", every | params, {"module": path})


def failure(path: Path, name: str, **options: float) -> OnnxeqError:
    with pytest.raises(OnnxeqError) as caught, Jobs(**options) as jobs:  # type: ignore[arg-type]
        jobs.start(spec(path, name)).result()
    return caught.value


@pytest.mark.parametrize(
    ("name", "signal_name"), [("killed", "SIGKILL"), ("aborts", "SIGABRT"), ("segfaults", "SIGSEGV")]
)
def test_a_death_by_signal_names_signal_step_and_replay(factories: Path, name: str, signal_name: str) -> None:
    """A worker that dies becomes a typed error of status 3 whose replay command dies the same way."""
    error = failure(factories, name)
    assert isinstance(error, JobKilled)
    assert error.exit_status == 3
    assert signal_name in error.message
    assert "step 'load'" in error.message
    command = shlex.split(error.hint.partition(": ")[2])
    again = subprocess.run(command, capture_output=True, check=False)
    assert again.returncode == -getattr(signal, signal_name)


@pytest.fixture
def relu(tmp_path: Path, fresh_cache: Path) -> Path:
    path = tmp_path / "relu.onnx"
    text = '<ir_version: 8, opset_import: ["": 17]> g (float[N] x) => (float[N] y) {y = Relu(x)}'
    onnx.save(parser.parse_model(text), path)
    return path


def test_equal_jobs_side_by_side_keep_a_result_each(relu: Path) -> None:
    """Of two equal jobs that run at once without the cache, neither takes the other's result away."""
    with Jobs(parallel=2, use_cache=False) as jobs:
        both = [jobs.start(JobSpec("normalize", label, {}, {"model": relu})) for label in ("one", "other")]
        folders = [future.result().folder for future in both]
        assert folders[0] != folders[1]
        assert all((folder / "result.json").exists() for folder in folders)


def test_a_job_that_is_redone_takes_the_older_results_place(relu: Path) -> None:
    """Without the cache a job is made again, and what it leaves is what the cache finds next."""
    spec = JobSpec("normalize", "normalize", {}, {"model": relu})
    with Jobs(use_cache=False) as jobs:
        first = jobs.start(spec).result().folder
    (first / "older").touch()
    os.utime(first / "result.json", (0, 0))
    with Jobs(use_cache=False) as jobs:
        second = jobs.start(spec).result().folder
    with Jobs() as jobs:
        found = jobs.start(spec).result()
    assert found.cached
    assert first == second == found.folder
    assert not (found.folder / "older").exists()


def test_an_exit_without_a_result_is_a_crash(factories: Path) -> None:
    """A process that ends without a result is no success, whatever its status."""
    error = failure(factories, "leaves")
    assert isinstance(error, JobCrashed)
    assert "status 7" in error.message


def test_an_exception_is_one_line_with_the_log_kept(fresh_cache: Path, tmp_path: Path) -> None:
    """An unexpected exception crosses the process boundary as one line; its traceback is in the kept log."""
    with pytest.raises(JobCrashed) as caught, Jobs() as jobs:
        jobs.start(JobSpec("ort", "ort/cpu", {"names": {}}, {"model": tmp_path, "feeds": tmp_path / "none"})).result()
    assert "FileNotFoundError" in caught.value.message
    assert "\n" not in caught.value.line()
    kept = Path(caught.value.hint.split()[-1])
    assert "Traceback" in (kept / "log.txt").read_text()


def test_what_a_factory_returns_must_be_a_model(factories: Path) -> None:
    """A factory that returns no model is a usage error (status 2), raised in the job and typed here."""
    error = failure(factories, "number")
    assert isinstance(error, UsageError)
    assert "int" in error.message


def test_a_job_past_its_time_is_stopped(factories: Path) -> None:
    """The limit ends the process and says the limit, the step and the option."""
    error = failure(factories, "hangs", timeout_s=1.5)
    assert isinstance(error, JobTimeout)
    assert "1.5 s allowed" in error.message
    assert "--timeout" in error.hint


def test_failed_jobs_leave_nothing_in_the_cache(factories: Path, fresh_cache: Path) -> None:
    """Neither a failed nor a half-written job can be found as a finished one."""
    failure(factories, "killed")
    failure(factories, "leaves")
    assert list((fresh_cache / "jobs").iterdir()) == []


def test_a_finished_job_is_found_again_until_a_byte_is_wrong(fresh_cache: Path, conv_file: Path) -> None:
    """The same job is not run twice; a result with a bit flipped in a file is run again."""
    job = JobSpec("normalize", "normalize", {"opset": None}, {"model": conv_file})
    with Jobs() as jobs:
        first = jobs.start(job).result()
        assert not first.cached
        assert jobs.start(job).result().cached
        produced = first.out / "normalized.onnx"
        whole = produced.read_bytes()
        produced.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        assert not jobs.start(job).result().cached


NEVER_THE_SAME = """
import torch

def drawn():
    torch.seed()
    return torch.nn.Linear(4, 4)
"""


@pytest.mark.torch
def test_jobs_of_a_lane_share_what_they_load(tmp_path: Path, fresh_cache: Path) -> None:
    """The job that runs a model finds the one that its lane's first job loaded; loaded once more, a model that
    draws other weights each time is refused.
    """
    path = tmp_path / "never.py"
    path.write_text(NEVER_THE_SAME)
    inputs = [{"name": "input", "dtype": "float32", "shape": [1, 4]}]
    prepare = spec(path, "drawn", batches=[1])
    load = {**prepare.params["load"], "inputs": inputs}
    prepare = replace(prepare, params={**prepare.params, "load": load})
    lane = Lane()
    with Jobs() as jobs:
        first = jobs.start(prepare, lane).result()
        params = {"load": load, "weights_sha256": first.data["provenance"]["weights_sha256"]}
        run = JobSpec("native-run", "native", params, {"module": path, "feeds": first.out / "feeds"}, cache=False)
        assert jobs.start(run, lane).result().data["outputs"][0]["shape"] == [1, 4]
        with pytest.raises(CannotRun, match="other weights each time"):
            jobs.start(run).result()


def test_what_is_expected_is_started_ahead_and_used(fresh_cache: Path, conv_file: Path) -> None:
    """A process that was started ahead takes the job of its kind, and ends with the host if it got none."""
    job = JobSpec("normalize", "n", {"opset": None}, {"model": conv_file}, threads=1)
    with Jobs() as jobs:
        jobs.expect([("normalize", 1), ("referee", 1)])
        jobs.start(job).result()
        ahead = running(f"{fresh_cache}/jobs")
        assert len(ahead) == 2  # the one that ran is gone
        moved = replace(job, params={"opset": 17})
        jobs.start(moved).result()
        assert len(set(ahead) & set(running(f"{fresh_cache}/jobs"))) == 1  # one was used, none was started
    assert wait_for(lambda: not running(f"{fresh_cache}/jobs"))


@pytest.fixture
def conv_file(tmp_path: Path, conv_net: object) -> Path:
    path = tmp_path / "net.onnx"
    path.write_bytes(conv_net().SerializeToString())  # type: ignore[operator]
    return path


def test_the_key_is_the_content(fresh_cache: Path, conv_file: Path) -> None:
    """A changed input file is another job; a renamed one is the same."""
    with Jobs() as jobs:
        jobs.start(JobSpec("normalize", "n", {"opset": None}, {"model": conv_file})).result()
        moved = conv_file.rename(conv_file.with_name("other.onnx"))
        assert jobs.start(JobSpec("normalize", "n", {"opset": None}, {"model": moved})).result().cached
        moved.write_bytes(moved.read_bytes().replace(b"conv1", b"convA"))
        assert not jobs.start(JobSpec("normalize", "n", {"opset": None}, {"model": moved})).result().cached


def test_the_more_urgent_goes_first(fresh_cache: Path, conv_file: Path) -> None:
    """Of the jobs that wait the most urgent is next, and among equals the one that was asked for first."""
    began: list[str] = []

    def listen(label: str, step: str) -> None:
        if step in ("done", "cached"):
            began.append(label)

    job = JobSpec("normalize", "first", {"opset": None}, {"model": conv_file})
    with Jobs(parallel=1, listener=listen) as jobs:
        asked = [jobs.start(job, urgency=3)]  # at work at once, or the most urgent of those that wait
        for label, urgency in (("last", 0), ("third", 1), ("second", 2), ("after the third", 1)):
            asked.append(jobs.start(replace(job, label=label), urgency=urgency))
        for each in asked:
            each.result()
    assert began == ["first", "second", "third", "after the third", "last"]


def test_what_a_job_wrote_is_not_read_again_for_its_hash(
    fresh_cache: Path, conv_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker hashes what it writes; the host takes that over, until the file is another one."""
    with Jobs() as jobs:
        done = jobs.start(JobSpec("normalize", "n", {"opset": None}, {"model": conv_file})).result()
    written = done.out / "normalized.onnx"
    expected = hashlib.sha256(written.read_bytes()).hexdigest()
    with monkeypatch.context() as patched:
        patched.setattr(hashlib, "file_digest", None)  # whoever reads the file fails
        assert fingerprint.of_path(written) == expected
    written.write_bytes(b"another")
    assert fingerprint.of_path(written) == hashlib.sha256(b"another").hexdigest()


def test_a_worker_is_told_what_its_jobs_will_be_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Subjects reach the warm-up of the kind's module: a converter that is named imports its framework early."""
    told: list[tuple[str, ...]] = []
    monkeypatch.setattr(
        native, "load_converter", lambda name: SimpleNamespace(warm_up=lambda zoo: told.append((name, zoo)))
    )
    native.warm_up("torch", "torchvision")
    native.warm_up()
    assert told == [("torch", "torchvision")]


def test_a_worker_with_a_framework_waits_for_that_framework_only(tmp_path: Path) -> None:
    """One started ahead for Keras is not given to torch, whose libraries would crash beside it; one for no one is."""
    processes.start_early(tmp_path, "native", "keras", "keras")
    processes.start_early(tmp_path, "native")
    pool = processes.Pool(tmp_path)
    try:
        keras, plain = pool._waiting
        assert pool.take("native", 0, converter="torch") is plain
        assert pool.take("native", 0, converter="torch") not in (plain, keras)
        assert pool.take("native", 0, converter="keras") is keras
    finally:
        pool.close()


def test_pruning_removes_what_was_not_used_for_longest(fresh_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the limit the oldest jobs go, whatever was used within the hour stays."""
    from onnxeq.cache import prune

    now = time.time()
    for name, age in (("old", 9000), ("older", 99000), ("new", 10)):
        folder = fresh_cache / "jobs" / name
        folder.mkdir(parents=True)
        (folder / "array").write_bytes(bytes(2**20))
        os.utime(folder, (now - age, now - age))
    monkeypatch.setenv("ONNXEQ_CACHE_LIMIT", str(2 / 1024))  # two of the three fit
    prune(fresh_cache)
    assert sorted(p.name for p in (fresh_cache / "jobs").iterdir()) == ["new", "old"]
    monkeypatch.setenv("ONNXEQ_CACHE_LIMIT", "0")
    prune(fresh_cache)
    assert [p.name for p in (fresh_cache / "jobs").iterdir()] == ["new"]


def running(pattern: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and entry.name != str(os.getpid()):
            try:
                if pattern in (entry / "cmdline").read_text():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def wait_for(condition: object, seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill -9"])
def test_an_interrupted_host_takes_its_workers_along(factories: Path, fresh_cache: Path, kind: signal.Signals) -> None:
    """After Ctrl-C nothing runs and nothing half-written is left (status 130); after kill -9 nothing runs,
    and the next host removes what was left.
    """
    command = [sys.executable, "-m", "onnxeq", "check", f"{factories}:hangs", "--shape", "x=1x1", "-q"]
    host = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        env=dict(os.environ, ONNXEQ_CACHE=str(fresh_cache)),
        # A shell starts what runs in the background with Ctrl-C ignored, and that would be inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert wait_for(lambda: list(fresh_cache.glob("jobs/*/steps.jsonl")) and running(f"{fresh_cache}/jobs"))
    host.send_signal(kind)
    status = host.wait(timeout=20)
    assert status == (130 if kind is signal.SIGINT else -signal.SIGKILL)
    assert wait_for(lambda: not running(f"{fresh_cache}/jobs"))
    if kind is signal.SIGKILL:
        with Jobs():
            pass
    assert list((fresh_cache / "jobs").iterdir()) == []
