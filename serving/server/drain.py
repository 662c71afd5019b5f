"""Waits until a server has answered what was under way when it was told to stop; new requests are refused meanwhile."""

from __future__ import annotations

import re
import time
import urllib.request
from pathlib import Path

from cleave.builders.names import CANDIDATE_SCORER
from cleave.serving.gate import close_gate, is_anything_under_way

ARRIVAL_S = 0.05
"""For what was sent before: the network and Triton's front end have taken it to a queue by then."""

QUIET_S = 0.25
"""Nothing is under way if nothing was for so long: between its steps a request is in no process and no queue."""

POLL_S = 0.02

_QUEUED = re.compile(
    r'^nv_inference_pending_request_count\{.*?model="(?P<model>[^"]+)".*?\} (?P<count>\S+)', re.MULTILINE
)


def drain(folder: Path, metrics_url: str, timeout_s: float) -> bool:
    """Close the gate and wait until every request is answered; whether that was so in time.

    Args:
        folder: of the gate; see `cleave.serving.gate`.
    """
    deadline = time.monotonic() + timeout_s
    time.sleep(min(ARRIVAL_S, timeout_s))
    # A scorer takes everything: what comes to it are the last steps of requests that were let in.
    queued = {model: count for model, count in _queued(metrics_url).items() if not model.endswith(CANDIDATE_SCORER)}
    close_gate(folder, queued)
    quiet_since = time.monotonic()
    while (now := time.monotonic()) < deadline:
        if is_anything_under_way(folder) or any(_queued(metrics_url).values()):
            quiet_since = time.monotonic()
        elif now - quiet_since >= QUIET_S:
            return True
        time.sleep(POLL_S)
    return False


def _queued(metrics_url: str) -> dict[str, int]:
    """The requests that wait for each model; none of a server that answers no more."""
    try:
        with urllib.request.urlopen(metrics_url, timeout=1) as answer:
            text = answer.read().decode()
    except OSError:
        return {}
    return {match["model"]: int(float(match["count"])) for match in _QUEUED.finditer(text)}
