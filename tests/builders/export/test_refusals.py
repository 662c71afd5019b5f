"""What cannot be exported is refused in words, with the user's line where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cleave.builders.export import refusals
from cleave.builders.export.refusals import ExportError
from cleave.builders.export.torch_export import onnx_from_ranker
from cleave.builders.load import load_ranker
from cleave.builders.spec import Ranker
from tests.builders.user_code.model_files import LINE_OF_FORWARD, write_model

FLOW = rf"^my_model.py:{LINE_OF_FORWARD}: expected operators on tensors, got control flow \({{}}\); write branches with"


def loaded(folder: Path, forward: str, more: str = "") -> Ranker:
    write_model(folder / "my_model.py", forward=forward, more=more)
    return load_ranker("my_model.py:ranker")


def test_torchscript(user_folder: Path) -> None:
    ranker = loaded(user_folder, "return items.float() + events.sum()")
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        ranker.module.add_module("head", torch.jit.script(torch.nn.Linear(2, 2)))
    with pytest.raises(
        ExportError, match=r"ranker 'mine': submodule 'head' was made by torch.jit, .*; leave torch.jit.s"
    ):
        onnx_from_ranker(ranker)


def test_weights_that_no_file_holds(user_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ranker = loaded(user_folder, "return items.float() + events.sum()")
    table = torch.nn.Parameter(torch.zeros(100, 10))
    for name in ("table", "tied"):
        ranker.module.register_parameter(name, table)
    monkeypatch.setattr(refusals, "LARGEST_FILE", 4000)
    refusals.check_module(ranker)
    monkeypatch.setattr(refusals, "LARGEST_FILE", 3999)
    with pytest.raises(
        ExportError, match=r"ranker 'mine': the weights take 3.9 KiB, expected at most 3.9 KiB, which an"
    ):
        onnx_from_ranker(ranker)


def test_bags_of_any_length(user_folder: Path) -> None:
    """A bag for each row of a table is a masked sum; bags that begin anywhere in a list are a loop."""
    bag = "import torch; BAG = nn.EmbeddingBag(9, 4, mode='mean', padding_idx=0)"
    places = "torch.arange(events.shape[0]) * events.shape[1]"
    ranker = loaded(user_folder, f"return items * BAG((events % 9).reshape(-1), {places}).sum(1, keepdim=True)", bag)
    with pytest.raises(ExportError, match=FLOW.format("Loop")):
        onnx_from_ranker(ranker)


def test_conditions(user_folder: Path) -> None:
    flow = "import torch; FLOW = lambda x: torch.cond(x.sum() > 0, lambda x: x + 1, lambda x: x - 1, (x,))"
    ranker = loaded(user_folder, "return items * FLOW(events.float()).sum(1, keepdim=True)", flow)
    with pytest.raises(ExportError, match=r"^my_model.py:\d: expected operators on tensors, got control flow \(If\); "):
        onnx_from_ranker(ranker)
