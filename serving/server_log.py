"""Says in a sentence why a Triton server did not start, or died, from what it wrote."""

from __future__ import annotations

import re
import signal
from pathlib import Path

TAIL_LINES = 15

_FAILED_MODEL = re.compile(r"failed to load '(?P<model>[^']+)' version \d+: (?P<reason>.*)")
_FATAL = re.compile(r"^(?:error: |E\d{4} [^\]]*\] )(?P<reason>.*)")
_STATUS = re.compile(r"^(?:Internal|Invalid argument|Not found|Unavailable|Unsupported)(?: -|:) ")
_PYTHON_PLACE = re.compile(r"(?:\\n|\s)*At:(?:\\n|\s).*")
_TABLE = re.compile(r"^[+|]")


def failure_from_log(log: Path, exit_code: int | None) -> str:
    """The models that failed and why; failing that, how the server ended and its last lines."""
    text = log.read_text(errors="replace") if log.is_file() else ""
    failed = {match["model"]: _clean(match["reason"]) for match in _FAILED_MODEL.finditer(text)}
    if failed:
        return "; ".join(_sentence(model, reason) for model, reason in failed.items())
    fatal = [match["reason"] for line in text.splitlines() if (match := _FATAL.match(line))]
    if exit_code is not None and exit_code < 0:
        return f"tritonserver: ended by {signal.Signals(-exit_code).name}; its last lines:\n{tail(log)}"
    if fatal:
        return f"tritonserver: {_clean(fatal[-1])}"
    return f"tritonserver: ended with code {exit_code}; its last lines:\n{tail(log)}"


def tail(log: Path) -> str:
    """The last lines of a log that say something."""
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    return "\n".join([line for line in lines if line.strip() and not _TABLE.match(line)][-TAIL_LINES:])


def _sentence(model: str, reason: str) -> str:
    """Our own backends name the model themselves."""
    return reason if repr(model) in reason or f"/{model}/" in reason else f"model {model!r}: {reason}"


def _clean(reason: str) -> str:
    reason = _PYTHON_PLACE.sub("", reason.strip().removesuffix('"'))
    return _STATUS.sub("", reason).replace("\\n", " ").strip().rstrip(";")
