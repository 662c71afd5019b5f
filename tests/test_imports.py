"""What may import what: servers and clients know the contract of the builders alone, and nothing goes in a circle."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("builders", "serving", "clients", "perf")
CONTRACT = ("cleave.builders.contract", "cleave.builders.names")
HEAVY = ("torch", "onnx", "onnxscript", "polars", "sklearn", "matplotlib", "networkx")

Statement = ast.Import | ast.ImportFrom


def _modules() -> dict[str, Path]:
    """The file of every module by its name; a package is the module of its `__init__.py`."""
    files = [file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")]
    files += (ROOT / "cleave").glob("*.py")
    modules = {}
    for file in files:
        parts = file.relative_to(ROOT).with_suffix("").parts
        if parts[0] != "cleave":
            parts = ("cleave", *parts)
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return modules


MODULES = _modules()


def _statements(node: ast.AST, *, whole: bool) -> Iterator[Statement]:
    """The imports in a module: with `whole` all, else those that are done when it is imported."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Statement):
            yield child
        elif whole or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            is_for_types = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
            inside = ast.Module(child.orelse, []) if isinstance(child, ast.If) and is_for_types and not whole else child
            yield from _statements(inside, whole=whole)


def _imported(statement: Statement) -> Iterator[str]:
    """The project's modules that a statement imports by name."""
    if isinstance(statement, ast.Import):
        names = [alias.name for alias in statement.names]
    else:
        assert statement.level == 0, "imports are absolute"
        inner = [f"{statement.module}.{alias.name}" for alias in statement.names]
        names = [name if name in MODULES else str(statement.module) for name in inner]
    yield from (name for name in dict.fromkeys(names) if name in MODULES)


def _imports(*, whole: bool) -> dict[str, set[str]]:
    return {
        module: {
            name for statement in _statements(ast.parse(file.read_text()), whole=whole) for name in _imported(statement)
        }
        for module, file in MODULES.items()
    }


def _circles(imports: Mapping[str, set[str]]) -> list[set[str]]:
    arrows = [(importer, name) for importer, names in imports.items() for name in names if importer != name]
    return [circle for circle in nx.strongly_connected_components(nx.DiGraph(arrows)) if len(circle) > 1]


def _package(module: str) -> str:
    """The folder of a module within one of the four at the top, or the module itself if it lies beside the folders."""
    return ".".join(module.split(".")[:3])


def test_the_walk_finds_what_is_imported() -> None:
    source = """
import cleave.cli
from cleave.builders import names, Axis
if TYPE_CHECKING:
    from cleave.builders.spec import Ranker
else:
    from cleave.builders.load import load_ranker
try:
    from cleave.builders.files import write_text
except ImportError:
    from cleave.builders import pipeline
class A:
    from cleave.builders.errors import SpecError
def f():
    from cleave.builders.repository import write_repository
"""
    now = {name for each in _statements(ast.parse(source), whole=False) for name in _imported(each)}
    builders = {f"cleave.builders.{name}" for name in ("names", "load", "files", "pipeline", "errors")}
    assert now == {"cleave.cli", "cleave.builders", *builders}
    ever = {name for each in _statements(ast.parse(source), whole=True) for name in _imported(each)}
    assert ever - now == {"cleave.builders.spec", "cleave.builders.repository"}
    assert _circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"d"}}) == [{"b", "c"}]


@pytest.mark.parametrize("folder", ["cleave.serving", "cleave.clients"])
def test_servers_and_clients_know_the_contract_of_the_builders_alone(folder: str) -> None:
    """Whenever it is imported: in a function, too, and for annotations."""
    seen = {
        (module, name)
        for module, names in _imports(whole=True).items()
        for name in names
        if module.startswith(folder) and name.startswith("cleave.builders")
    }
    assert seen, "the folder is not found"
    assert not {(module, name) for module, name in seen if not name.startswith(CONTRACT)}


def test_the_contract_knows_no_other_part_of_the_project() -> None:
    allowed = (*CONTRACT, "cleave.builders.errors", "cleave.builders.files")
    imports = _imports(whole=True)
    assert {
        name
        for module, names in imports.items()
        if module.startswith(CONTRACT)
        for name in names
        if not name.startswith(allowed)
    } == set()


def test_the_core_of_the_builders_knows_no_data_set_and_no_model() -> None:
    """A name of the zoo is loaded, and a build's accuracy is evaluated by whoever asks for the build."""
    apart = ("cleave.builders.training", "cleave.builders.zoo")
    assert {
        (module, name)
        for module, names in _imports(whole=True).items()
        if module.startswith("cleave.builders.") and not module.startswith(apart)
        for name in names
        if name.startswith(apart)
    } == {
        ("cleave.builders.load", "cleave.builders.zoo"),
        ("cleave.builders.load", "cleave.builders.zoo.trained"),
        ("cleave.builders.commands.build", "cleave.builders.training.build_auc"),
    }


def test_no_module_imports_itself_in_a_circle() -> None:
    assert _circles(_imports(whole=False)) == []


def test_no_package_imports_itself_in_a_circle() -> None:
    of_packages: dict[str, set[str]] = {}
    for module, names in _imports(whole=False).items():
        of_packages.setdefault(_package(module), set()).update(map(_package, names))
    assert _circles(of_packages) == []


@pytest.mark.parametrize("folder", ["cleave.builders.contract", "cleave.clients", "cleave.serving"])
def test_contract_servers_and_clients_load_neither_torch_nor_onnx(folder: str) -> None:
    """All of their modules but what runs inside a server of Triton alone."""
    modules = [name for name in MODULES if f"{name}.".startswith(f"{folder}.") and "backends" not in name]
    script = f"import importlib, sys; [importlib.import_module(name) for name in {modules}]; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "cleave.builders.names" in done.stdout.split()
    assert not set(HEAVY) & set(done.stdout.split())
