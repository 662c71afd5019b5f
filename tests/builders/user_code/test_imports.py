"""A user's file finds what is his, and replaces nothing that is not."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest

from cleave.builders.export.torch_export import onnx_from_ranker
from cleave.builders.user_code.failure import UserCodeError
from cleave.builders.user_code.imports import ImportsError, module_from_file, module_from_name
from tests.builders.user_code.model_files import write_model


def write(file: Path, text: str = "") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


@pytest.mark.parametrize("name", ["builders", "clients", "perf", "serving", "tests"])
def test_packages_called_as_those_of_this_repository_are_his(
    name: str, user_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for loaded in [each for each in sys.modules if each.partition(".")[0] == name]:
        monkeypatch.delitem(sys.modules, loaded)
    # Tests are run from a clone, whose folders a user of an installation does not have.
    monkeypatch.setattr(sys, "path", [each for each in sys.path if not (Path(each or ".") / name).is_dir()])
    write(user_folder / name / "__init__.py")
    write(user_folder / name / "features.py", "ITEMS = 7")
    module = module_from_file(write(user_folder / "my_model.py", f"from {name}.features import ITEMS"))
    assert module.ITEMS == 7


@pytest.mark.parametrize("name", ["types", "queue", "onnx"])
def test_a_file_called_as_a_module_that_is_needed_replaces_nothing(name: str, user_folder: Path) -> None:
    importlib.import_module(name)
    loaded = sys.modules.pop(name)
    try:
        module = module_from_file(write(user_folder / f"{name}.py", f"import {name} as found"))
        assert module.found.__file__ == loaded.__file__
        assert importlib.import_module(name).__file__ == loaded.__file__
    finally:
        sys.modules[name] = loaded


def test_a_model_with_such_a_name_is_exported(user_folder: Path) -> None:
    model = onnx_from_ranker(
        module_from_file(write_model(user_folder / "types.py", "from dataclasses import dataclass")).ranker
    )
    assert [tensor.name for tensor in model.graph.output] == ["scores"]


@pytest.mark.parametrize("name", ["mypkg/model.py", "mypkg/deeper/model.py", "mypkg/deeper/__init__.py"])
def test_relative_imports_of_a_package(name: str, user_folder: Path) -> None:
    file = user_folder / name
    for package in file.parents[: len(Path(name).parts) - 1]:
        write(package / "__init__.py")
    write(user_folder / "mypkg" / "layers.py", "WIDTH = 5")
    write(user_folder / "beside.py", "DEPTH = 6")
    dots = "." * (len(Path(name).parts) - 1)
    module = module_from_file(write(file, f"from {dots}layers import WIDTH\nfrom beside import DEPTH"))
    assert (module.WIDTH, module.DEPTH) == (5, 6)
    assert sys.modules["mypkg.layers"].WIDTH == 5
    assert module_from_name(module.__name__) is module


def test_a_package_whose_name_is_taken_is_refused(user_folder: Path) -> None:
    write(user_folder / "onnx" / "__init__.py")
    file = write(user_folder / "onnx" / "model.py")
    message = r"model file '.*model.py': its package 'onnx' has the name of another module \(.*site-packages.*\), expec"
    with pytest.raises(ImportsError, match=message):
        module_from_file(file)


def test_a_folder_without_code_hides_no_package(user_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(user_folder / "installed"))
    for name in ("tracker", "helpers"):
        write(user_folder / "installed" / name / "__init__.py", "WHOSE = 'installed'")
    write(user_folder / "own" / "tracker" / "run.txt")
    write(user_folder / "own" / "helpers" / "more.py")
    write(user_folder / "own" / "deep" / "deeper" / "code.py", "WHOSE = 'own'")
    text = "import tracker, helpers.more, deep.deeper.code"
    module = module_from_file(write(user_folder / "own" / "my_model.py", text))
    assert module.tracker.WHOSE == "installed"
    assert module.deep.deeper.code.WHOSE == "own"


def test_models_of_two_folders_have_neighbours_of_one_name(user_folder: Path) -> None:
    text = "from layers import WIDTH\ndef later():\n    from layers.other import DEPTH\n    return DEPTH"
    modules = []
    for width in (1, 2):
        write(user_folder / str(width) / "layers" / "__init__.py", f"WIDTH = {width}")
        write(user_folder / str(width) / "layers" / "other.py", f"DEPTH = {width}")
        modules.append(module_from_file(write(user_folder / str(width) / "my_model.py", text)))
    assert [module.WIDTH for module in modules] == [1, 2]
    assert modules[1].later() == 2


def test_a_file_is_imported_once_and_again_after_it_failed(user_folder: Path) -> None:
    file = write(user_folder / "my-model.v2.py", "import missing_neighbour")
    before = set(sys.modules)
    with pytest.raises(UserCodeError, match="missing_neighbour"):
        module_from_file(file)
    assert set(sys.modules) == before
    write(file, "WIDTH = 3")
    write(user_folder / "__init__.py")
    module = module_from_file(file)
    assert module.WIDTH == 3
    assert module_from_file(Path("my-model.v2.py")) is module


def test_what_an_import_prints_is_no_result(user_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module_from_file(write(user_folder / "my_model.py", "print('loading weights')"))
    assert capsys.readouterr() == ("", "loading weights\n")


def test_modules_that_are_not_there(user_folder: Path) -> None:
    with pytest.raises(ImportsError, match=re.escape("model file 'x.py': no such file; give a path from the current")):
        module_from_file(Path("x.py"))
    write(user_folder / "mypkg" / "__init__.py")
    for name in ("nowhere", "mypkg.nowhere", "nowhere.model"):
        with pytest.raises(ImportsError, match=rf"model module '{name}': No module named '\w+(\.nowhere)?'; install"):
            module_from_name(name)
