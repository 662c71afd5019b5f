"""The processes of Triton's Python backends: where one ends, Triton says "ready" for good and answers nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cleave.serving.server.installation import STUB

_PROC = Path("/proc")


@dataclass(frozen=True)
class BackendProcess:
    """A process that runs one instance of a model."""

    pid: int
    started: str
    """When, in the kernel's ticks: another process may get the same id later."""
    model: str

    def has_ended(self) -> bool:
        """Whether it is gone, or dead and not yet taken note of by Triton."""
        state = _state(self.pid)
        return state is None or state.letter in "ZX" or state.started != self.started


def backend_processes(server: int, models: Path) -> list[BackendProcess]:
    """The processes that a server has started for its models.

    Args:
        server: the process id of tritonserver.
        models: the model repository as it was told to the server; the command of each process names a file in it.
    """
    found = []
    for folder in _PROC.glob("[0-9]*"):
        state = _state(int(folder.name))
        if state is None or state.parent != server:
            continue
        command = _command(folder)
        if len(command) > 1 and Path(command[0]).name == STUB and Path(command[1]).is_relative_to(models):
            model = Path(command[1]).relative_to(models).parts[0]
            found.append(BackendProcess(int(folder.name), state.started, model))
    return found


@dataclass(frozen=True)
class _State:
    letter: str
    parent: int
    started: str


def _state(pid: int) -> _State | None:
    """None where there is no such process; see proc_pid_stat(5)."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return None
    return _State(fields[0], int(fields[1]), fields[19])


def _command(folder: Path) -> list[str]:
    try:
        return (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:  # ended meanwhile
        return []
