"""What a command's NAME and --size lead to, and what is said where they lead nowhere."""

from __future__ import annotations

import functools
import re
import shlex
from pathlib import Path

import pytest
import torch

from cleave.builders.load import MODELS, LoadError, described_weights, load_ranker, random_ranker, zoo_sizes
from cleave.builders.user_code.failure import UserCodeError
from cleave.builders.zoo import BASELINES, ZOO
from cleave.builders.zoo.trained import WEIGHTS, TrainedWeights, WeightsError
from cleave.cli import parser
from tests.builders.user_code.model_files import write_model


def test_a_file(user_folder: Path) -> None:
    ranker = load_ranker(f"{write_model(user_folder / 'my_model.py')}:ranker")
    assert ranker.name == "mine"
    assert not ranker.module.training


def test_a_module_of_the_current_folder(user_folder: Path) -> None:
    write_model(user_folder / "my_model.py")
    assert load_ranker("my_model:ranker").name == "mine"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("transformer", "model 'transformer': not in the zoo (append, concat, "),
        ("transformer", "); use one of these, module:attribute, file.py:attribute or FILE.safetensors from `cleave"),
        ("my_model.py:model", "expected 'model' to be a Ranker, got nothing; give my_model.py:ranker"),
        ("my_model.py:nothing", "expected 'nothing' to be a Ranker, got nothing; give my_model.py:ranker"),
        ("my_model.py:Model", "model 'my_model.py:Model': expected 'Model' to be a Ranker, got type; give my_model"),
        ("json:ranker", "expected 'ranker' to be a Ranker, got nothing; make one with cleave.builders.Ranker"),
        (":ranker", "model ':ranker': expected module:attribute or file.py:attribute; write the name of the Ranker"),
        ("my_model.py:", "; write the name of the Ranker behind a colon, as in my_model.py:ranker"),
        ("my_model.py", "; write the name of the Ranker behind a colon, as in my_model.py:ranker"),
    ],
)
def test_names_that_lead_nowhere(name: str, message: str, user_folder: Path) -> None:
    write_model(user_folder / "my_model.py")
    with pytest.raises(LoadError, match=re.escape(message)):
        load_ranker(name)


def test_sizes_are_of_the_zoo_or_of_a_function(user_folder: Path) -> None:
    write_model(user_folder / "my_model.py")
    with pytest.raises(LoadError, match=r"--size: '.*' is no function, expected one .*; leave --size out, or write a"):
        load_ranker("my_model.py:ranker", {"layers": 3})


FUNCTION = """
import torch

from my_model import ranker


def make_ranker(rows=4, scale=1.0):
    ranker.module.register_buffer("drawn", torch.rand(rows) * scale)
    return ranker


def make_nothing():
    print("made nothing")


def make_failing(rows=4):
    raise ValueError(f"{rows} rows are too many")
"""


@pytest.fixture
def functions(user_folder: Path) -> str:
    """A file of functions that make, or ought to make, a ranker."""
    write_model(user_folder / "my_model.py")
    (user_folder / "my_functions.py").write_text(FUNCTION)
    return "my_functions.py"


@pytest.mark.parametrize("rows", [1, 4, 7])
def test_a_function_is_called_with_its_sizes_and_draws_the_same_weights(functions: str, rows: int) -> None:
    name = f"{functions}:make_ranker"
    drawn = [load_ranker(name, {"rows": rows}).module.get_buffer("drawn") for _ in range(2)]
    assert drawn[0].shape == (rows,)
    assert torch.equal(*drawn)
    torch.testing.assert_close(load_ranker(name, {"rows": rows, "scale": 2.0}).module.get_buffer("drawn"), 2 * drawn[0])


def test_functions_that_make_no_ranker(functions: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(LoadError, match=r"make_ranker has no size 'depth'; its sizes are rows, scale"):
        load_ranker(f"{functions}:make_ranker", {"depth": 3})
    with pytest.raises(LoadError, match="expected 'make_nothing' to be a Ranker, got nothing"):
        load_ranker(f"{functions}:make_nothing")
    assert capsys.readouterr().out == ""
    with pytest.raises(UserCodeError, match=r"my_functions.py:17: ValueError: 4 rows are too many; make the function"):
        load_ranker(f"{functions}:make_failing")


def test_sizes_that_a_model_does_not_have() -> None:
    message = "--size: append has no size 'depth'; its sizes are num_items, max_events, layers, width, heads, dropout"
    with pytest.raises(LoadError, match=re.escape(message)):
        zoo_sizes("append", {"depth": 3})
    with pytest.raises(LoadError, match=re.escape("--size: append: layers: expected a whole number, got 2.5")):
        zoo_sizes("append", {"layers": 2.5})
    with pytest.raises(
        LoadError, match=re.escape("--size: append: width: expected at least 1, got -8; choose a larger")
    ):
        zoo_sizes("append", {"width": -8})


def test_sizes_that_contradict_each_other() -> None:
    with pytest.raises(LoadError, match=r"--size: append: .*width 30 is not a multiple of heads 4; change either"):
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


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A folder of weights, as the zoo has one."""
    weights = TrainedWeights(
        tmp_path / "no_history.safetensors",
        "no_history",
        {"num_items": 10, "width": 8, "dropout": 0.1},
        "cleave train no_history --seed 3",
    )
    weights.write(random_ranker("no_history", weights.sizes, seed=3).module, {})
    return tmp_path


def test_trained_weights_are_used_where_they_fit(trained: Path) -> None:
    expected = random_ranker("no_history", {"width": 8, "num_items": 10}, seed=3).module.state_dict()
    loaded = load_ranker("no_history", weights=trained).module.state_dict()
    assert all(torch.equal(expected[key], loaded[key]) for key in expected)
    assert described_weights("no_history", weights=trained) == "trained by `cleave train no_history --seed 3`"
    other = load_ranker("no_history", {"width": 16}, weights=trained).module.state_dict()
    assert [tensor.shape for tensor in other.values()] != [tensor.shape for tensor in expected.values()]


def test_random_weights_are_said_to_be(trained: Path) -> None:
    random = "random (seed 0), as the zoo has no trained ones of these sizes"
    assert described_weights("no_history", {"width": 16}, weights=trained) == random
    assert described_weights("append", weights=trained) == random
    assert described_weights("no_history", {"width": 8}, weights=trained).startswith("trained by")
    assert described_weights("my_model.py:ranker") == "those of my_model.py:ranker"


def test_a_file_of_weights_is_a_name(trained: Path) -> None:
    file = str(trained.rename(trained.with_name("elsewhere")) / "no_history.safetensors")
    renamed = str(Path(file).rename(Path(file).with_name("mine.safetensors")))
    expected = random_ranker("no_history", {"width": 8, "num_items": 10}, seed=3)
    loaded = load_ranker(renamed)
    assert (loaded.name, loaded.candidate) == (expected.name, expected.candidate)
    weights = loaded.module.state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in expected.module.state_dict().items())
    assert described_weights(renamed) == "trained by `cleave train no_history --seed 3`"
    with pytest.raises(LoadError, match=r"--size: the file '.*mine.safetensors' has the sizes of its model; leave"):
        load_ranker(renamed, {"width": 8})


@pytest.mark.parametrize("content", [None, b"", b"{}" * 100])
def test_a_file_of_something_else(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "mine.safetensors"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(WeightsError, match=r"weights '.*mine.safetensors': expected a file that `cleave train` wrote"):
        load_ranker(str(file))


def test_a_longer_history_than_the_weights_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where `HISTORY.max` was raised in `builders/zoo/movielens.py`."""
    for name in ("append", "concat", "hstu"):
        monkeypatch.setitem(MODELS, name, functools.partial(ZOO[name], max_events=8192))
        message = rf"weights '.*{name}.safetensors': .*: expected \[8\d+, .* as {name} has it, got \[\d{{4}}, .*\]; "
        with pytest.raises(WeightsError, match=message) as raised:
            load_ranker(name)
        (command,) = re.findall(r"run `cleave (train .*)`$", str(raised.value))
        options = parser().parse_args(shlex.split(command))
        assert options.out == WEIGHTS / f"{name}.safetensors"
