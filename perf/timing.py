"""Times calls against each other in one process; `cleave bench` measures servers with perf_analyzer."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np
from tqdm import tqdm

Key = TypeVar("Key")
Call = Callable[[], object]


def milliseconds_of(call: Call) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1000


def round_medians_ms(
    calls: Mapping[Key, Call], rounds: int, seconds: float = 0.0, least_calls: int = 1, title: str | None = None
) -> dict[Key, list[float]]:
    """The median milliseconds of each call in each round.

    In a round the calls take turns, in every other round in reverse order, so that none profits from its place.

    Args:
        seconds: in each round a call is repeated until this time is over.
        least_calls: in each round a call is made at least so often.
        title: the title of a progress bar, which is shown on terminals; None for no bar.
    """
    medians: dict[Key, list[float]] = {key: [] for key in calls}
    quiet = True if title is None else None  # None: a bar on terminals only
    with tqdm(total=rounds * len(calls), desc=title, file=sys.stderr, leave=False, disable=quiet) as progress:
        for number in range(rounds):
            for key, call in list(calls.items())[:: -1 if number % 2 else 1]:
                times: list[float] = []
                while len(times) < least_calls or sum(times) < seconds * 1000:
                    times.append(milliseconds_of(call))
                medians[key].append(float(np.median(times)))
                progress.update()
    return medians
