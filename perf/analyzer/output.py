"""Reads what perf_analyzer writes: a CSV of averages for each model, and the times of every request."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cleave.perf.errors import PerfError

_COLUMNS = {
    "client_send_us": "Client Send",
    "client_recv_us": "Client Recv",
    "queue_us": "Server Queue",
    "input_us": "Server Compute Input",
    "compute_us": "Server Compute Infer",
    "output_us": "Server Compute Output",
}


class Stages(NamedTuple):
    """Mean microseconds that a request of one model spent in each stage; those of a client are 0 inside an ensemble."""

    client_send_us: float
    client_recv_us: float
    queue_us: float
    input_us: float
    compute_us: float
    output_us: float

    @property
    def server_us(self) -> float:
        """The sum of the stages at the server."""
        return self.queue_us + self.input_us + self.compute_us + self.output_us


class Sent(NamedTuple):
    """When a request was sent and answered, in nanoseconds of one clock."""

    sent_ns: int
    answered_ns: int


@dataclass(frozen=True)
class AnalyzerOutput:
    """What one run of perf_analyzer measured of a model, and of the models that it is composed of, by name."""

    model: Stages
    composing: Mapping[str, Stages]
    requests: tuple[Sent, ...]
    """The times of every request, in the order in which they were sent."""


def read_output(csv_file: Path, export_file: Path) -> AnalyzerOutput:
    """What was measured by the run that wrote these files; the CSVs of composing models lie beside the first.

    Raises:
        PerfError: a file is missing or is not what perf_analyzer writes.
    """
    composing = {
        match[1]: read_stages(file)
        for file in sorted(csv_file.parent.glob(f"*_v*.{csv_file.name}"))
        if (match := re.fullmatch(rf"(.+)_v-?\d+\.{re.escape(csv_file.name)}", file.name))
    }
    return AnalyzerOutput(read_stages(csv_file), composing, read_requests(export_file))


def read_stages(file: Path) -> Stages:
    """The stages in a CSV of one load.

    Raises:
        PerfError: there is no such file, or it has other columns or more than one row.
    """
    try:
        with file.open(newline="") as opened:
            rows = list(csv.DictReader(opened))
        (row,) = rows
        return Stages(**{name: float(row[column]) for name, column in _COLUMNS.items()})
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise PerfError(
            f"{file.name}: expected one row with {', '.join(_COLUMNS.values())}, got {type(error).__name__}: {error}; "
            "use perf_analyzer 2.51 or a later one"
        ) from error


def read_requests(file: Path) -> tuple[Sent, ...]:
    """The times of every request in a profile export, in the order in which they were sent.

    Raises:
        PerfError: there is no such file, it is not of one load, or a request was not answered once.
    """
    try:
        (experiment,) = json.loads(file.read_text())["experiments"]
        requests = []
        for request in experiment["requests"]:
            (answered,) = request["response_timestamps"]
            requests.append(Sent(int(request["timestamp"]), int(answered)))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise PerfError(
            f"{file.name}: expected one experiment whose requests have one answer each, got {type(error).__name__}: "
            f"{error}; see the server's log"
        ) from error
    return tuple(sorted(requests))
