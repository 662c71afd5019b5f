"""Which files whoever starts a server has just read and found unaltered, so that no backend reads them again.

A backend trusts the check as long as the file is the same by inode, size and times; what was exchanged or written since
is read again, and refused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from cleave.serving.variables import CHECKED_VARIABLE


def checked_variable(files: Iterable[Path]) -> dict[str, str]:
    """The variable that tells the backends of a server which files were just checked."""
    return {CHECKED_VARIABLE: json.dumps({str(file.resolve()): _state(file) for file in files})}


def is_checked(file: Path, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the file was checked before this server was started, and has not changed since."""
    checked: dict[str, list[int]] = json.loads(environment.get(CHECKED_VARIABLE, "{}"))
    return file.is_file() and checked.get(str(file.resolve())) == _state(file)


def _state(file: Path) -> list[int]:
    """Changes with every write, and cannot be set back without privileges: the kernel sets the last of the times."""
    state = file.stat()
    return [state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns]
