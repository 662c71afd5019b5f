"""What a command's NAME and --size lead to, and what is said where they lead nowhere."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cleave.builders.errors import SpecError
from cleave.builders.load import SourceError, load_ranker, random_ranker, zoo_sizes
from cleave.builders.zoo import BASELINES, ZOO

MODEL = """
from torch import nn
from cleave.builders import Axis, Ranker, Tensor
{more}

class Model(nn.Module):
    def forward(self, events, items):
        return items.float()

history = Axis("history", min={least}, opt=2, max=3)
candidates = Axis("candidates", min=1, opt=2, max=3)
ranker = Ranker(
    name="mine",
    module=Model(),
    user=(Tensor("events", "int64", (history,)),),
    candidate=(Tensor("items", "int64", (candidates,)),),
    output=(Tensor("scores", "float32", (candidates,)),),
)
nothing = None
"""


@pytest.fixture(autouse=True)
def imports() -> Iterator[None]:
    """What a test imports from its folder is forgotten after it."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name in ("my_model", "my_layers"):
            del sys.modules[name]


def write(folder: Path, more: str = "", least: int = 1) -> Path:
    file = folder / "my_model.py"
    file.write_text(MODEL.format(more=more, least=least))
    return file


def test_a_file(tmp_path: Path) -> None:
    ranker = load_ranker(f"{write(tmp_path)}:ranker")
    assert ranker.name == "mine"
    assert not ranker.module.training
    assert ranker.module.__class__.__module__ == "my_model"
    assert sys.modules["my_model"].ranker is ranker


def test_a_file_that_imports_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "my_layers.py").write_text("WIDTH = 3")
    assert load_ranker(f"{write(tmp_path, 'from my_layers import WIDTH')}:ranker").name == "mine"


def test_a_module_of_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert load_ranker("my_model:ranker").name == "mine"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("transformer", "model 'transformer': not in the zoo (append, concat, "),
        ("transformer", "); use one of these, module:attribute or file.py:attribute"),
        ("missing.py:ranker", "model file 'missing.py': no such file; give a path from the current folder"),
        (
            "no_such_module:ranker",
            "model module 'no_such_module': No module named 'no_such_module'; install it or give",
        ),
        (
            "my_model.py:model",
            "model 'my_model.py:model': expected 'model' to be a Ranker, got nothing; make one with cleave.builders.Ra",
        ),
        ("my_model.py:nothing", "expected 'nothing' to be a Ranker, got nothing"),
        ("my_model.py:Model", "expected 'Model' to be a Ranker, got type"),
        (":ranker", "model ':ranker': expected module:attribute or file.py:attribute; name both sides of the colon"),
        ("my_model.py:", "model 'my_model.py:': expected module:attribute or file.py:attribute; name both sides"),
    ],
)
def test_names_that_lead_nowhere(name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match=re.escape(message)):
        load_ranker(name)


def test_sizes_are_of_the_zoo(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"--size: only zoo models have sizes, '.*' is not one; leave --size out"):
        load_ranker(f"{write(tmp_path)}:ranker", {"layers": 3})


def test_a_wrong_spec_in_a_file_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"Axis 'history'.min: expected at most max=3, got 4; swap min and max"):
        load_ranker(f"{write(tmp_path, least=4)}:ranker")


def test_sizes_that_a_model_does_not_have() -> None:
    message = "--size: append has no size 'depth'; its sizes are num_items, max_events, layers, width, heads, dropout"
    with pytest.raises(SourceError, match=re.escape(message)):
        zoo_sizes("append", {"depth": 3})
    with pytest.raises(SourceError, match=re.escape("--size: append: layers: expected a whole number, got 2.5")):
        zoo_sizes("append", {"layers": 2.5})
    with pytest.raises(
        SourceError, match=re.escape("--size: append: width: expected at least 1, got -8; choose a larger")
    ):
        zoo_sizes("append", {"width": -8})


def test_sizes_that_contradict_each_other() -> None:
    with pytest.raises(SourceError, match=r"--size: append: .*width 30 is not a multiple of heads 4; change either"):
        random_ranker("append", {"width": 30, "heads": 4})


@pytest.mark.parametrize("name", [*ZOO, *BASELINES])
def test_random_weights_are_the_same_each_time(name: str) -> None:
    torch.manual_seed(5)
    first = random_ranker(name, {"width": 8, "num_items": 10}).module.state_dict()
    drawn = torch.rand(())
    second = random_ranker(name, {"width": 8, "num_items": 10}).module.state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    torch.manual_seed(5)
    assert drawn == torch.rand(()), "the random numbers of others are left alone"


def test_trained_weights_are_used_where_they_fit(tmp_path: Path) -> None:
    trained = random_ranker("no_history", {"width": 8, "num_items": 10}, seed=3)
    save_file(
        trained.module.state_dict(),
        tmp_path / "no_history.safetensors",
        {"sizes": '{"num_items": 10, "width": 8, "dropout": 0.1}'},
    )
    expected = trained.module.state_dict()
    loaded = load_ranker("no_history", weights=tmp_path).module.state_dict()
    assert all(torch.equal(expected[key], loaded[key]) for key in expected)
    other = load_ranker("no_history", {"width": 16}, weights=tmp_path).module.state_dict()
    assert [tensor.shape for tensor in other.values()] != [tensor.shape for tensor in expected.values()]
