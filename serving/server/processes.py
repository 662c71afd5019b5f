"""What Linux tells of the processes of this machine; see proc(5)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
_SHARED_MEMORY = re.compile(r"/dev/shm/\S+")


@dataclass(frozen=True)
class Stat:
    """A process at one moment."""

    name: str
    letter: str
    """Of its state."""
    parent: int
    started: int
    """When, in the kernel's ticks: with the id it names a process for good."""

    @property
    def has_ended(self) -> bool:
        """Whether it is dead and its parent has not yet taken note."""
        return self.letter in "ZX"


def stat_of(pid: int) -> Stat | None:
    """None where there is no such process; see proc_pid_stat(5)."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The name is in parentheses and may hold any character.
    names, _, fields = text.rpartition(") ")
    values = fields.split()
    return Stat(names.partition("(")[2], values[0], int(values[1]), int(values[19]))


def arguments_of(pid: int) -> list[str]:
    """The command line of a process; nothing of one that has ended."""
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def shared_memory_of(pid: int) -> set[Path]:
    """The regions of shared memory that a process has mapped. Raises: OSError: there is no such process."""
    return {Path(region) for region in _SHARED_MEMORY.findall((PROC / str(pid) / "maps").read_text())}
