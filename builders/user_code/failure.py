"""Says what went wrong in the user's code: in one sentence, with his file and line, and where the traceback is."""

from __future__ import annotations

import contextlib
import os
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

import cleave
from cleave.builders.errors import BuilderError
from cleave.builders.files import write_text

TRACEBACK = Path(".cleave", "logs", "traceback.txt")
"""Where the traceback of the last error in a user's code is."""

LONGEST_REASON = 400
"""Characters of an error's text that are shown; some list every weight of a model."""

_INSTALLED = {"site-packages", "dist-packages"}
_NOT_HIS = tuple(Path(path) for path in (cleave.__path__[0], *map(sysconfig.get_path, ("stdlib", "platstdlib"))))


class UserCodeError(BuilderError):
    """The user's own code fails: when it is imported, or when his module is called."""


def user_code_error(error: BaseException, where: str, remedy: str) -> UserCodeError:
    """What is said instead of a traceback: `<his file>:<line>: <what>; <remedy>`.

    Args:
        error: raised by code of the user's. Its traceback is written to `TRACEBACK`, where that can be written.
        where: what is said for want of a line of his.
        remedy: an error of cleave's own says what to do itself.
    """
    said = f"{own_line(error) or where}: {_reason(error)}"
    if isinstance(error, BuilderError):
        return UserCodeError(said)
    with contextlib.suppress(OSError):
        write_text(TRACEBACK, "".join(traceback.format_exception(error)))
        remedy = f"{remedy} (traceback: {TRACEBACK})"
    return UserCodeError(f"{said}; {remedy}")


def own_line(error: BaseException) -> str:
    """`file:line` of the innermost code that is the user's, of the error or of what caused it; empty if there is none.

    The user's is what belongs neither to Python, nor to an installed package, nor to cleave.
    """
    for each in _with_causes(error):
        if isinstance(each, SyntaxError) and each.filename and _is_his(each.filename):
            return f"{_shown(each.filename)}:{each.lineno}"
        if line := own_frame(traceback.extract_tb(each.__traceback__)):
            return line
    return ""


def own_frame(stack: traceback.StackSummary) -> str:
    """`file:line` of the innermost frame that is the user's; empty if there is none."""
    frames = (frame for frame in reversed(stack) if _is_his(frame.filename))
    return next((f"{_shown(frame.filename)}:{frame.lineno}" for frame in frames), "")


def _with_causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _is_his(file: str) -> bool:
    path = Path(file)
    installed = _INSTALLED & set(path.parts) or any(path.is_relative_to(folder) for folder in _NOT_HIS)
    return not installed and path.is_file()  # what is generated has no file


def _shown(file: str) -> str:
    relative = os.path.relpath(file)
    return file if relative.startswith(os.pardir) else relative


def _reason(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"it ends the process with {error.code!r}"
    text = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    if len(text) > LONGEST_REASON:
        text = f"{text[:LONGEST_REASON]} ..."
    if isinstance(error, BuilderError):
        return text
    return ": ".join(filter(None, (type(error).__name__, text)))
