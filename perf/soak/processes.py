"""Finds the processes of a server by what they inherited, and what each of them holds, as proc(5) tells it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from cleave.serving.server.processes import PROC, arguments_of, shared_memory_of, stat_of


@dataclass(frozen=True)
class Held:
    """What a process holds at one moment."""

    private_bytes: int
    """Memory that it wrote to and no other process has: a share of what many map would change when others start."""
    files: int
    """Open file descriptors."""
    threads: int
    regions: frozenset[Path]
    """Regions of shared memory."""


@dataclass(frozen=True)
class Process:
    """A process that runs."""

    pid: int
    started: int
    """In clock ticks: with the id it names a process for good."""
    name: str
    arguments: tuple[str, ...]


def process_of(pid: int) -> Process | None:
    """The process of this id, or None if it has ended."""
    stat = stat_of(pid)
    if stat is None or stat.has_ended:
        return None
    return Process(pid, stat.started, stat.name, tuple(arguments_of(pid)))


def processes_in(folder: Path) -> list[Process]:
    """Processes of this user whose folder of temporary files is this one, or that work inside of it."""
    found = []
    for place in PROC.glob("[0-9]*"):
        if int(place.name) != os.getpid():
            try:
                process = process_of(int(place.name)) if _is_in(place, folder) else None
            except OSError:
                continue  # ended meanwhile, or another user's
            if process is not None:
                found.append(process)
    return found


def _is_in(place: Path, folder: Path) -> bool:
    variable = f"TMPDIR={folder}".encode()
    if variable in (place / "environ").read_bytes().split(b"\0"):
        return True
    return folder in (place / "cwd").readlink().parents


def held_by(process: Process) -> Held | None:
    """What a process holds, or None if it has ended."""
    place = PROC / str(process.pid)
    try:
        memory = (place / "smaps_rollup").read_text().splitlines()
        private = next(int(line.split()[1]) for line in memory if line.startswith("Private_Dirty:"))
        regions = frozenset(shared_memory_of(process.pid))
        status = (place / "status").read_text().splitlines()
        threads = next(int(line.split()[1]) for line in status if line.startswith("Threads:"))
        return Held(private * 1024, len(list((place / "fd").iterdir())), threads, regions)
    except (OSError, StopIteration):
        return None
