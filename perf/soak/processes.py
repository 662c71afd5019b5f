"""Finds the processes of a server by what they inherited, and what each of them holds, as proc(5) tells it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")


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
    try:
        return _process(Path("/proc", str(pid)))
    except (OSError, IndexError):
        return None


def processes_in(folder: Path) -> list[Process]:
    """Processes of this user whose folder of temporary files is this one, or that work inside of it."""
    found = []
    for place in Path("/proc").iterdir():
        if place.name.isdigit() and int(place.name) != os.getpid():
            try:
                if _is_in(place, folder):
                    found.append(_process(place))
            except (OSError, IndexError):
                continue  # ended meanwhile, or another user's
    return found


def _is_in(place: Path, folder: Path) -> bool:
    variable = f"TMPDIR={folder}".encode()
    if variable in (place / "environ").read_bytes().split(b"\0"):
        return True
    return folder in (place / "cwd").readlink().parents


def _process(place: Path) -> Process:
    # The name is in parentheses and may hold any character; the 20th field behind it is the time of the start.
    stat = (place / "stat").read_text().rpartition(")")[2].split()
    if stat[0] == "Z":
        raise ProcessLookupError(f"{place} has ended")
    arguments = (place / "cmdline").read_bytes().decode(errors="replace").split("\0")
    return Process(int(place.name), int(stat[19]), (place / "comm").read_text().strip(), tuple(arguments))


def held_by(process: Process) -> Held | None:
    """What a process holds, or None if it has ended."""
    place = Path("/proc", str(process.pid))
    try:
        memory = (place / "smaps_rollup").read_text().splitlines()
        private = next(int(line.split()[1]) for line in memory if line.startswith("Private_Dirty:"))
        maps = (place / "maps").read_text().splitlines()
        regions = frozenset(Path(line.split()[5]) for line in maps if f" {SHARED_MEMORY}/" in line)
        status = (place / "status").read_text().splitlines()
        threads = next(int(line.split()[1]) for line in status if line.startswith("Threads:"))
        return Held(private * 1024, len(list((place / "fd").iterdir())), threads, regions)
    except (OSError, StopIteration):
        return None
