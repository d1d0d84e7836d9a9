"""``.pt2`` programs and checkpoints with code inside."""

from __future__ import annotations

import functools
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from corpus.case import Shelf
from corpus.feeds import Bomb

__all__ = ["CASES", "honest"]

_shelf = Shelf()
CASES = _shelf.cases


class _Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.layer(x)).reshape(-1, 4 * x.shape[0])


@functools.cache
def _program() -> bytes:
    stream = io.BytesIO()
    batch = torch.export.Dim("n", min=2, max=100)
    program = torch.export.export(_Net(), (torch.randn(6, 3),), dynamic_shapes=({0: batch},))
    torch.export.save(program, stream)
    return stream.getvalue()


def honest(folder: Path) -> Path:
    """A program that no rule may refuse: a free batch, arithmetic on sizes."""
    path = folder / "net.pt2"
    path.write_bytes(_program())
    return path


_Edit = Callable[[str, bytes], bytes]


def _rewritten(folder: Path, edit: _Edit, extra: dict[str, bytes] | None = None) -> list[str]:
    """The honest program with entries changed and added."""
    path = honest(folder)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, edit(name, data))
        for name, data in (extra or {}).items():
            archive.writestr(name, data)
    return [str(path)]


def _described(folder: Path, change: Callable[[dict[str, Any]], None], end: str = "models/model.json") -> list[str]:
    """The honest program with its description changed."""

    def edit(name: str, data: bytes) -> bytes:
        if not name.endswith(end):
            return data
        document = json.loads(data)
        change(document)
        return json.dumps(document).encode()

    return _rewritten(folder, edit)


def _attack(folder: Path) -> str:
    return f"__import__('os').mkdir({str(folder.parent / 'OWNED')!r})"


def _bomb(folder: Path) -> bytes:
    stream = io.BytesIO()
    torch.save({"x": Bomb(folder.parent / "OWNED")}, stream)
    return stream.getvalue()


def _kept(name: str, data: bytes) -> bytes:
    return data


@_shelf.add("pickled objects", slow=True)
def pickle_in_the_sample_inputs(folder: Path) -> list[str]:
    return _rewritten(folder, lambda name, data: _bomb(folder) if "sample_inputs" in name else data)


@_shelf.add("an entry that torch.export does not write", slow=True)
def pickle_in_an_entry_of_another_case(folder: Path) -> list[str]:
    """Torch finds ``model.PT`` where it looks for ``model.pt``."""
    path = Path(_rewritten(folder, lambda name, data: _bomb(folder) if "sample_inputs" in name else data)[0])
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name.removesuffix(".pt") + ".PT" if "sample_inputs" in name else name, data)
    return [str(path)]


@_shelf.add("pickled objects", slow=True)
def pickle_in_a_weight(folder: Path) -> list[str]:
    def edit(name: str, data: bytes) -> bytes:
        if name.endswith("weight_0"):
            return _bomb(folder)
        return data.replace(b'"use_pickle": false', b'"use_pickle": true') if "weights_config" in name else data

    return _rewritten(folder, edit)


@_shelf.add("the stored object", slow=True)
def stored_object(folder: Path) -> list[str]:
    def change(document: dict[str, Any]) -> None:
        document["config"]["o"] = {
            "path_name": "opaque_obj_0",
            "is_param": False,
            "use_pickle": False,
            "tensor_meta": None,
        }

    return _described(folder, change, "constants_config.json")


@_shelf.add("the size", slow=True)
def expression_that_imports(folder: Path) -> list[str]:
    def change(document: dict[str, Any]) -> None:
        sizes = document["graph_module"]["graph"]["tensor_values"]["x"]["sizes"]
        sizes[0]["as_expr"]["expr_str"] = _attack(folder)

    return _described(folder, change)


@_shelf.add("the size", slow=True)
def expression_within_an_expression(folder: Path) -> list[str]:
    """``S`` evaluates its text, which ``Symbol`` does not."""

    def change(document: dict[str, Any]) -> None:
        sizes = document["graph_module"]["graph"]["tensor_values"]["x"]["sizes"]
        sizes[0]["as_expr"]["expr_str"] = f"S({_attack(folder)!r})"

    return _described(folder, change)


@_shelf.add("the guard", slow=True)
def guard_that_imports(folder: Path) -> list[str]:
    return _described(folder, lambda document: document["guards_code"].append(f"{_attack(folder)} is None"))


@_shelf.add("the name", slow=True)
def name_that_ends_the_line(folder: Path) -> list[str]:
    """Names are written into a function that torch compiles."""

    def change(document: dict[str, Any]) -> None:
        code = f"x, _=({_attack(folder)})"
        text = json.dumps(document).replace('{"name": "x"}', json.dumps({"name": code}))
        document.update(json.loads(text))

    return _described(folder, change)


@_shelf.add("a call of 'torch.os.system'", slow=True)
def node_that_calls_the_shell(folder: Path) -> list[str]:
    return _described(folder, lambda d: d["graph_module"]["graph"]["nodes"][2].update(target="torch.os.system"))


@_shelf.add("the container", slow=True)
def container_that_imports(folder: Path) -> list[str]:
    def change(document: dict[str, Any]) -> None:
        context = json.dumps({"default_factory_module": "antigravity", "default_factory_name": "x", "dict_context": []})
        spec = {"type": "collections.defaultdict", "context": context, "children_spec": []}
        document["graph_module"]["module_call_graph"][0]["signature"]["out_spec"] = json.dumps([1, spec])

    return _described(folder, change)


@_shelf.add("a compiled library", slow=True)
def compiled_library(folder: Path) -> list[str]:
    return _rewritten(folder, _kept, {"net/data/aotinductor/model/model.so": b"\x7fELF"})


@_shelf.add("leads out of the archive", slow=True)
def entry_that_leads_out(folder: Path) -> list[str]:
    return _rewritten(folder, _kept, {"net/../../../OWNED": b""})


@_shelf.add("is no zip archive", slow=True)
def bare_pickle_as_program(folder: Path) -> list[str]:
    import pickle

    (folder / "net.pt2").write_bytes(pickle.dumps(Bomb(folder.parent / "OWNED")))
    return [str(folder / "net.pt2")]


@_shelf.add("only be read by running code", slow=True)
def pickle_as_weights(folder: Path) -> list[str]:
    (folder / "net.py").write_text("import torch\n\n\ndef build():\n    return torch.nn.Linear(3, 4)\n")
    (folder / "weights.pth").write_bytes(_bomb(folder))
    return [f"{folder / 'net.py'}:build@{folder / 'weights.pth'}", "--shape", "2x3"]
