"""What `cleave check` says to run works: for a ranker in a file, in a copied repository, however it is damaged."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cleave import cli

MODEL = """
import torch

from cleave.builders import Axis, Ranker, Tensor

history, candidates = Axis("history", min=1, opt=4, max=8), Axis("candidates", min=1, opt=4, max=8)


class Shop(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.items = torch.nn.Embedding(10, 4, padding_idx=0)

    def forward(self, bought, offered):
        return (self.items(offered) @ self.items(bought).sum(1, keepdim=True).transpose(1, 2)).squeeze(-1)


ranker = Ranker(
    name="shop",
    module=Shop(),
    user=(Tensor("bought", "int64", (history,)),),
    candidate=(Tensor("offered", "int64", (candidates,)),),
    output=(Tensor("scores", "float32", (candidates,)),),
)
"""


def clone(repository: Path) -> None:
    """As git does it: configs without artifacts."""
    for folder in repository.glob("*/1"):
        shutil.rmtree(folder)


def remove_an_artifact(repository: Path) -> None:
    (repository / "shop_candidate_scorer" / "1" / "model.onnx").unlink()


def alter_an_artifact(repository: Path) -> None:
    (repository / "shop_history_encoder" / "1" / "model.onnx").write_bytes(b"")


def break_a_manifest(repository: Path) -> None:
    (repository / "shop" / "1" / "manifest.json").write_text("[null]")


def break_all_manifests(repository: Path) -> None:
    for file in repository.glob("*/1/manifest.json"):
        file.write_text("null")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model's file, and the model repository that was built in it."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "my shop.py").write_text(MODEL)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert cli.main(["build", "my shop.py:ranker"]) == 0
    return folder


@pytest.mark.parametrize(
    "damage", [clone, remove_an_artifact, alter_an_artifact, break_a_manifest, break_all_manifests]
)
def test_what_check_says_to_run_makes_the_models_fit(
    damage: Callable[[Path], None], built: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(built)
    copy = f"copy {damage.__name__}"
    shutil.copytree("model_repository", copy)
    check = ["check", "shop", "--repository", copy]
    assert cli.main(check) == 0
    damage(Path(copy))
    assert cli.main(check) == 1
    words = shlex.split(capsys.readouterr().err.rsplit("`", 2)[1])
    assert words == ["cleave", "build", "my shop.py:ranker", "--out", copy]
    assert cli.main(words[1:]) == 0
    assert cli.main(check) == 0
