"""The processes of Triton's Python backends: where one ends, Triton says "ready" for good and answers nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cleave.serving.server.installation import STUB
from cleave.serving.server.processes import PROC, arguments_of, stat_of


@dataclass(frozen=True)
class BackendProcess:
    """A process that runs one instance of a model."""

    pid: int
    started: int
    """When, in the kernel's ticks: another process may get the same id later."""
    model: str

    def has_ended(self) -> bool:
        """Whether it is gone, or dead and not yet taken note of by Triton."""
        stat = stat_of(self.pid)
        return stat is None or stat.has_ended or stat.started != self.started


def backend_processes(server: int, models: Path) -> list[BackendProcess]:
    """The processes that a server has started for its models.

    Args:
        server: the process id of tritonserver.
        models: the model repository as it was told to the server; the command of each process names a file in it.
    """
    found = []
    for folder in PROC.glob("[0-9]*"):
        pid = int(folder.name)
        stat = stat_of(pid)
        if stat is None or stat.parent != server:
            continue
        command = arguments_of(pid)
        if len(command) > 1 and Path(command[0]).name == STUB and Path(command[1]).is_relative_to(models):
            model = Path(command[1]).relative_to(models).parts[0]
            found.append(BackendProcess(pid, stat.started, model))
    return found
