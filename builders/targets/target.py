"""What a target is: everything that a build, the command line and `cleave verify` ask of the engine of a cut.

A target is described without importing what it needs: its functions do that when they are called, so that the command
line lists targets and their options at no cost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cleave.builders.names import CONFIG_FILE, named_config_file

if TYPE_CHECKING:
    from cleave.builders.contract.engine_record import EngineRecord
    from cleave.builders.cut.cut import Cut
    from cleave.builders.triton.rules import Rule

ModelConfigs = Sequence[Any]
"""The `ModelConfig` of every model of a ranker."""

Given = Mapping[str, Any]
"""The values of a target's options, by `Option.key`; None or False for those that were not given."""

EngineRunner = Callable[[int], Any]
"""From the number of an optimization profile to polygraphy's runner of an engine."""


@dataclass(frozen=True)
class Option:
    """An option of `cleave build` that not every target has.

    Args:
        flag: `--timing-cache`.
        keywords: of `ArgumentParser.add_argument`; the default is None, or False of a flag without a value.
    """

    flag: str
    keywords: Mapping[str, Any] = field(hash=False)

    @property
    def key(self) -> str:
        """`timing_cache`."""
        return self.flag.removeprefix("--").replace("-", "_")


@dataclass(frozen=True)
class BuiltEngine:
    """A compiled engine, and what its manifest says of it."""

    engine: bytes
    record: EngineRecord


@dataclass(frozen=True)
class Built:
    """What a target made of a cut: engines by the name of their model, and the configs that fit them."""

    target: str
    """Its name."""
    engines: Mapping[str, BuiltEngine]
    configs: ModelConfigs


@dataclass(frozen=True)
class Target:
    """What runs the graphs of a cut; every build writes the configs of every target.

    Args:
        name: as `cleave build --target` takes it.
        help: what such a build is.
        configs: the configs of all models, with engines as they should become.
        config_name: `cleave serve --config-name` chooses these configs by it; None for those that are served by
            default.
        rules: that these configs keep besides those of `cleave.builders.triton.rules`.
        options: those of `cleave build` that have a meaning for it alone.
        prepare: from the options to what compiles the engines of a cut; None where graphs are served as they are. It
            is called before anything slow is begun, and raises BuilderError where this machine cannot compile them.
        runner_from_file: from the file of an engine to what runs it, which `cleave verify` compares with ONNX Runtime;
            None where there is no engine.
    """

    name: str
    help: str
    configs: Callable[[Cut], ModelConfigs]
    config_name: str | None = None
    rules: Callable[[], Sequence[Rule]] = tuple
    options: tuple[Option, ...] = ()
    prepare: Callable[[Given], Callable[[Cut], Built]] | None = None
    runner_from_file: Callable[[Path], EngineRunner] | None = None

    @property
    def config_file(self) -> str:
        """The config in the folder of each model."""
        return CONFIG_FILE if self.config_name is None else named_config_file(self.config_name)


@dataclass(frozen=True)
class CheckReport:
    """What came of compiling a cut for hardware that need not be here."""

    table: str
    """As Markdown."""
    rows: Sequence[Mapping[str, Any]]
    """The same as JSON."""
    refusals: Sequence[str]
    """Why there is no engine; empty where every part compiles."""


@dataclass(frozen=True)
class CompileCheck:
    """Compiles the graphs of a cut for hardware that need not be here, and writes no repository.

    Args:
        name, help, options: as of a `Target`.
        check: from a cut, its precision and the options to what came of it.
    """

    name: str
    help: str
    check: Callable[[Cut, str, Given], CheckReport]
    options: tuple[Option, ...] = ()
