"""Imports a user's model file, with the modules beside it as his own and nothing of anybody else's replaced."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from cleave import DISTRIBUTION
from cleave.builders.errors import BuilderError
from cleave.builders.user_code.failure import user_code_error


class ImportsError(BuilderError):
    """No module is where the user says that one is."""


def module_from_file(file: Path) -> ModuleType:
    """The module of a file, imported once a process.

    A file of a package, whose folder has `__init__.py`, is imported as part of it, so that relative imports work. Any
    other gets a private name: one that is called `types.py` replaces nothing. The modules beside the file, and beside
    its package, can be imported.

    Raises:
        ImportsError: there is no such file, or its package has the name of another.
        UserCodeError: the import fails.
    """
    where = f"model file {str(file)!r}"
    if not file.is_file():
        raise ImportsError(f"{where}: no such file; give a path from the current folder")
    file = file.resolve()
    _make_importable(file.parent)
    package = _outermost_package(file)
    if package is None:
        return _imported(lambda: _private_module(file), where)
    _make_importable(package.parent)
    found = importlib.util.find_spec(package.name)
    if found is None or str(package) not in (found.submodule_search_locations or ()):
        raise ImportsError(
            f"{where}: its package {package.name!r} has the name of another module"
            f"{'' if found is None else f' ({found.origin})'}, expected a name of its own; rename the folder"
        )
    parts = file.relative_to(package.parent).with_suffix("").parts
    return _imported(lambda: importlib.import_module(".".join(parts).removesuffix(".__init__")), where)


def module_from_name(name: str) -> ModuleType:
    """The module of an import name, of the current folder or installed, imported once a process.

    Raises:
        ImportsError: there is no such module.
        UserCodeError: the import fails.
    """
    _make_importable(Path.cwd())
    where = f"model module {name!r}"
    try:
        return _imported(lambda: importlib.import_module(name), where)
    except BuilderError as error:
        missing = error.__cause__.name if isinstance(error.__cause__, ModuleNotFoundError) else None
        if missing and f"{name}.".startswith(f"{missing}."):
            raise ImportsError(f"{where}: {error.__cause__}; install it or give file.py:attribute") from error
        raise


def _imported(do_import: Callable[[], ModuleType], where: str) -> ModuleType:
    """What an import gives. What it prints goes to stderr: stdout is for results."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return do_import()
    except ModuleNotFoundError as error:
        raise user_code_error(error, where, "put that module beside the file, or install it") from error
    except (Exception, SystemExit) as error:
        raise user_code_error(error, where, "correct the file") from error


def _outermost_package(file: Path) -> Path | None:
    """The folder of the package that a file is in, itself in none; None for a file that no package can import."""
    package = None
    if "." in file.stem:
        return None
    for folder in file.parents:
        if not (folder / "__init__.py").is_file() or not folder.name.isidentifier():
            break
        package = folder
    return package


def _private_module(file: Path) -> ModuleType:
    stem = re.sub(r"\W", "_", file.stem)
    name = f"_{stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and torch.export look a class's module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


class _Neighbours(MetaPathFinder):
    """Finds the modules of one folder before any others, as Python does for a script, but for those cleave needs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.found: set[str] = set()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is not None or fullname in sys.stdlib_module_names:
            return None
        spec = PathFinder.find_spec(fullname, [str(self.folder)])
        if spec is None or (PathFinder.find_spec(fullname) and (not _holds_code(spec) or fullname in _needed_names())):
            return None
        self.found.add(fullname)
        return spec


def _holds_code(spec: ModuleSpec) -> bool:
    """Whether it is a module, and not merely a folder of that name with something else in it."""
    return spec.origin is not None or any(
        any(Path(place).glob("*.py")) for place in spec.submodule_search_locations or ()
    )


def _make_importable(folder: Path) -> None:
    """Look in this folder first. Modules of the same names that were imported from another model's folder are forgotten
    here; whoever imported them has them."""
    finders = [finder for finder in sys.meta_path if isinstance(finder, _Neighbours)]
    own = next((finder for finder in finders if finder.folder == folder), None) or _Neighbours(folder)
    if own in sys.meta_path:
        sys.meta_path.remove(own)
    for other in finders:
        if other is not own:
            for name in [name for name in other.found if own.find_spec(name) is not None]:
                other.found.remove(name)
                for module in [each for each in sys.modules if each == name or each.startswith(f"{name}.")]:
                    del sys.modules[module]
    sys.meta_path.insert(0, own)


@functools.cache
def _needed_names() -> frozenset[str]:
    """Import names of all distributions that cleave needs, with any of its extras, as far as they are installed."""
    waiting = [DISTRIBUTION]
    seen: set[str] = set()
    names: set[str] = set()
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found = importlib.metadata.distribution(name)
            names.update(file.parts[0].partition(".")[0] for file in found.files or ())
            for requirement in found.requires or ():
                needed = re.match(r"[\w.-]+", requirement)
                assert needed is not None
                waiting.append(needed.group())
    return frozenset(names)
