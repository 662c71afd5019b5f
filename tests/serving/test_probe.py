from __future__ import annotations

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import valkey

from cleave.cli import main
from cleave.clients import RankerClient
from cleave.serving.probe import probe_inputs
from cleave.serving.server.triton import TritonServer
from cleave.serving.store.embedded import EmbeddedStore
from tests.clients.fake_triton import FakeTriton


def _runs(server: TritonServer) -> list[int]:
    with grpcclient.InferenceServerClient(server.grpc_url) as client:
        models = ("toy_history_encoder", "toy_candidate_scorer", "toy_whole", "toy_summary_cache")
        stats = [client.get_inference_statistics(model).model_stats[0].inference_stats for model in models]
    return [each.success.count + each.fail.count for each in stats]


def test_a_probe_lets_every_process_work_and_keeps_nothing(
    cached_server: TritonServer, cached_store: EmbeddedStore, capsys: pytest.CaptureFixture[str]
) -> None:
    before = _runs(cached_server)
    with valkey.Valkey.from_url(cached_store.url) as store:
        kept = set(store.keys())
        assert main(["probe", "toy", "toy_whole", "--url", cached_server.grpc_url]) == 0
        assert set(store.keys()) == kept
    assert all(after > count for after, count in zip(_runs(cached_server), before, strict=True))
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["toy at 127.0.0.1", "toy_whole at 127.0.0.1"]


def test_the_inputs_of_a_probe_are_events_of_the_smallest_served_size(triton: FakeTriton) -> None:
    with RankerClient(triton.url, triton.model) as client:
        inputs = probe_inputs(client.signature())
    shapes = {name: array.shape for name, array in inputs.items()}
    assert shapes == {"visits": (1, 16), "visit_weights": (1, 16), "hour": (1,), "items": (1, 4), "features": (1, 4, 3)}
    for name, array in inputs.items():
        assert not (array == triton.tensors["inputs"][name]["pad"]).any()


def test_a_server_that_fails_or_does_not_answer_in_time_is_not_ready(
    triton: FakeTriton, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["probe", triton.model, "--url", triton.url, "--timeout", "0.5"]
    assert main(asked) == 0
    triton.infer = lambda inputs, _: {"scores": np.zeros((1, 1), np.float32)}
    assert main(asked) == 1
    assert "output scores: expected float32 [1, 4], got" in capsys.readouterr().err
    triton.infer = triton.hang
    assert main(asked) == 1
    assert "no answer within the deadline" in capsys.readouterr().err
    assert main(["probe", "other", "--url", triton.url]) == 1
    assert "Request for unknown model: 'other' is not found" in capsys.readouterr().err
