from __future__ import annotations

import grpc
import numpy as np
import pytest

from cleave.clients import OverloadedError, RankerError, UnavailableError
from cleave.clients.transport import error_from_status, infer_message

QUEUE_FULL = "in ensemble 'toy', [request id: <id_unknown>] Exceeds maximum queue size"


def test_a_full_queue_is_an_error_of_its_own_that_may_be_repeated() -> None:
    error = error_from_status("toy", grpc.StatusCode.UNAVAILABLE, QUEUE_FULL)
    assert type(error) is OverloadedError
    assert isinstance(error, UnavailableError)
    assert "RESOURCE_EXHAUSTED: too many requests wait there; send fewer at a time" in str(error)
    assert type(error_from_status("toy", grpc.StatusCode.UNAVAILABLE, "Socket closed")) is UnavailableError
    assert not isinstance(error_from_status("toy", grpc.StatusCode.INVALID_ARGUMENT, QUEUE_FULL), OverloadedError)


@pytest.mark.parametrize("code", list(grpc.StatusCode))
def test_every_status_is_an_error_of_ours(code: grpc.StatusCode) -> None:
    assert isinstance(error_from_status("toy", code, "words"), RankerError)


@pytest.mark.parametrize(("timeout", "microseconds"), [(2.5, 2_500_000), (1e-9, 1)])
def test_a_request_says_how_long_its_answer_is_waited_for(timeout: float, microseconds: int) -> None:
    """The server takes 0 for ever."""
    arrays = {"x": np.zeros((1, 2), np.float32)}
    assert infer_message("toy", "", arrays, (), (), timeout).parameters["timeout"].int64_param == microseconds
    assert "timeout" not in infer_message("toy", "", arrays, ()).parameters
