"""Runs in a container beside the server: ranks random users, and compares every score with the torch module's.

    python container_client.py THREADS REQUESTS

Each thread sends so many requests, or stops at its first error. Prints a line when it begins, and then a JSON list of
all calls: when each began and ended, on the clock that all processes of a machine share, and its largest difference and
summary status, or the error.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from cleave.builders.load import load_ranker
from cleave.builders.onnx_graph.random_inputs import Arrays, draw_inputs
from cleave.clients import RankerClient
from cleave.clients.errors import RankerError
from cleave.perf.arms import RankRequest, request_from_arrays

MODEL = "append"
URL = "127.0.0.1:8001"
SIZES = {"history": 100, "candidates": 200}
USERS = 4
DEADLINE_S = 60

Call = dict[str, Any]


def main(threads: int, requests: int) -> None:
    users = [_user(seed) for seed in range(USERS)]
    with RankerClient(URL, MODEL) as client, ThreadPoolExecutor(threads) as pool:
        print("asking", flush=True)
        asked = pool.map(lambda thread: _ask(client, users, thread, requests), range(threads))
        print(json.dumps(list(itertools.chain.from_iterable(asked))))


def _user(seed: int) -> tuple[RankRequest, Any]:
    """A user's request and the scores that are right."""
    ranker = load_ranker(MODEL)
    drawn = draw_inputs(ranker, SIZES, 1, np.random.default_rng(seed))
    inputs: Arrays = {name: array[0] for name, array in drawn.items()}
    with torch.inference_mode():
        scores = ranker.module(**{name: torch.from_numpy(array) for name, array in drawn.items()})
    return request_from_arrays(ranker, inputs), scores[0].numpy()


def _ask(client: RankerClient, users: list[tuple[RankRequest, Any]], thread: int, requests: int) -> list[Call]:
    calls: list[Call] = []
    for number in range(requests):
        place = (thread + number) % len(users)
        request, expected = users[place]
        call: Call = {"began": time.monotonic()}
        calls.append(call)
        try:
            ranking = client.rank(
                request.candidates,
                user_id=f"user {place}",
                history=request.history,
                request=request.request,
                deadline=60,
            )
        except RankerError as error:
            call |= {"error": type(error).__name__, "words": str(error)}
            break
        finally:
            call["ended"] = time.monotonic()
        call |= {"difference": float(np.abs(ranking.scores - expected).max()), "status": ranking.summary_status}
    return calls


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
