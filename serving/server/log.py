"""Says in a sentence why a Triton server did not start, or died, from what it wrote."""

from __future__ import annotations

import re
import signal
from pathlib import Path

TAIL_LINES = 15

_FAILED_MODEL = re.compile(
    r"(?:failed to load|Poll failed for model directory) '(?P<model>[^']+)'(?: version \d+)?: (?P<reason>.*)"
)
_CONFIG_ERROR = re.compile(r"Error parsing text-format inference\.ModelConfig: (?P<reason>.*)")
_FATAL = re.compile(r"^error: (?P<reason>.*)", re.MULTILINE)
_PREFIXES = re.compile(r"^(?:(?:creating server|Internal|Invalid argument|Not found|TritonModelException)(?: -|:) )+")
_PYTHON_PLACE = re.compile(r"(?:\\n|\s)*At:(?:\\n|\s).*")
_TABLE = re.compile(r"^[+|]")


def failure_from_log(log: Path | None, exit_code: int | None) -> str:
    """The models that failed and why; failing that, how the server ended and its last lines.

    Args:
        log: None where nobody keeps what the server wrote.
    """
    text = log.read_text(errors="replace") if log is not None and log.is_file() else ""
    failed = {match["model"]: _clean(match["reason"]) for match in _FAILED_MODEL.finditer(text)}
    if failed:
        details = [match["reason"] for match in _CONFIG_ERROR.finditer(text)]
        return "; ".join([*(_sentence(model, reason) for model, reason in failed.items()), *details])
    if exit_code is not None and exit_code < 0:
        return f"tritonserver: ended by {signal.Signals(-exit_code).name}; {last_lines(log)}"
    if fatal := _FATAL.search(text):
        return f"tritonserver: {_clean(fatal['reason'])}"
    return f"tritonserver: ended with code {exit_code}; {last_lines(log)}"


def last_lines(log: Path | None) -> str:
    """The end of a message: the last lines of the log, or where to look for them."""
    return "its log says why" if log is None else f"its last lines:\n{tail(log)}"


def tail(log: Path | None) -> str:
    """The last lines of a log that say something."""
    lines = log.read_text(errors="replace").splitlines() if log is not None and log.is_file() else []
    return "\n".join([line for line in lines if line.strip() and not _TABLE.match(line)][-TAIL_LINES:])


def _sentence(model: str, reason: str) -> str:
    """Our own backends name the model, or a file of it, themselves."""
    return reason if repr(model) in reason or f"/{model}/" in reason else f"model {model!r}: {reason}"


def _clean(reason: str) -> str:
    reason = _PYTHON_PLACE.sub("", reason.strip().removesuffix('"'))
    return _PREFIXES.sub("", reason).replace("\\n", " ").strip().rstrip(";")
