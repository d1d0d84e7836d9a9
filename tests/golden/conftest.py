"""A recorded golden of a small convolutional net, made once and copied for each test."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from onnxeq.golden import record

MakeConvNet = Callable[..., onnx.ModelProto]


@pytest.fixture(scope="session")
def _recorded(tmp_path_factory: pytest.TempPathFactory, conv_net: MakeConvNet) -> Path:
    root = tmp_path_factory.mktemp("recorded")
    onnx.save(conv_net(), root / "net.onnx")
    record(str(root / "net.onnx"), "net", folder=root / "golden")
    text = (root / "golden" / "net.toml").read_text()
    absolute = f'model = "{root / "net.onnx"}"'
    assert absolute in text
    return root


@pytest.fixture
def recorded(_recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ``net.onnx`` and ``golden/net.toml``, the working directory of the test."""
    root = tmp_path / "project"
    shutil.copytree(_recorded, root)
    record_file = root / "golden" / "net.toml"
    record_file.write_text(record_file.read_text().replace(f'"{_recorded / "net.onnx"}"', '"../net.onnx"'))
    monkeypatch.chdir(root)
    return root
