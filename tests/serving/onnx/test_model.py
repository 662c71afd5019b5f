from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from cleave.builders.contract import manifest
from cleave.builders.contract.manifest import ManifestError
from cleave.serving.checked_files import checked_variable
from cleave.serving.errors import InputError, ModelError, RequestFailedError
from cleave.serving.onnx.model import OnnxAnswer, OnnxModel, OnnxRequest
from tests.serving import toy


@pytest.fixture(scope="module")
def whole(repository: Path) -> OnnxModel:
    return _load(repository, "toy_whole")


def _load(repository: Path, model: str) -> OnnxModel:
    return OnnxModel(repository / model, toy.triton_config(toy.config(model)))


def _request(arrays: toy.Arrays) -> OnnxRequest:
    return OnnxRequest(toy.graph_inputs(arrays), ["scores"])


def _scores(answer: OnnxAnswer) -> Any:
    assert isinstance(answer, dict), answer
    return answer["scores"]


def test_a_batch_equals_its_requests_alone(whole: OnnxModel, rng: np.random.Generator) -> None:
    requests = [_request(toy.request(rng, users=users)) for users in (1, 3, 2)]
    together = whole.run(requests)
    for request, answer in zip(requests, together, strict=True):
        (alone,) = whole.run([request])
        np.testing.assert_allclose(_scores(answer), _scores(alone), atol=1e-6)
        assert _scores(answer).shape == (len(request.inputs["request_hour"]), 8)


def test_encoder_then_scorer_equals_the_whole(whole: OnnxModel, repository: Path, rng: np.random.Generator) -> None:
    inputs = toy.graph_inputs(toy.request(rng, users=2))
    encoder, scorer = (_load(repository, f"toy_{part}") for part in ("history_encoder", "candidate_scorer"))
    user = {name: array for name, array in inputs.items() if name.startswith("history")}
    rest = {name: array for name, array in inputs.items() if name not in user}
    (summary,) = encoder.run([OnnxRequest(user, ["history_sum", "history_mask"])])
    assert isinstance(summary, dict)
    (answer,) = scorer.run([OnnxRequest({**summary, **rest}, ["scores"])])
    (expected,) = whole.run([OnnxRequest(inputs, ["scores"])])
    np.testing.assert_array_equal(_scores(answer), _scores(expected))


def test_only_the_outputs_asked_for_are_given(repository: Path, rng: np.random.Generator) -> None:
    encoder = _load(repository, "toy_history_encoder")
    user = {name: array for name, array in toy.request(rng).items() if name.startswith("history")}
    answers = encoder.run([OnnxRequest(user, ["history_mask"]), OnnxRequest(user, ["history_sum", "history_mask"])])
    assert [set(answer) for answer in answers if isinstance(answer, dict)] == [
        {"history_mask"},
        {"history_sum", "history_mask"},
    ]


def test_a_request_that_the_graph_refuses_fails_alone(whole: OnnxModel, rng: np.random.Generator) -> None:
    requests = toy.parts_of(toy.request(rng, users=3))
    requests[1]["candidate_items"][0, 3] = 99
    first, second, third = whole.run([_request(request) for request in requests])
    assert isinstance(second, InputError)
    assert str(second).startswith("model 'toy_whole': input 'candidate_items': expected ids from -50 to 49, got 99;")
    for answer, request in ((first, requests[0]), (third, requests[2])):
        np.testing.assert_allclose(_scores(answer), _scores(whole.run([_request(request)])[0]), atol=1e-6)


def test_a_request_against_the_rules_fails_alone(whole: OnnxModel, rng: np.random.Generator) -> None:
    requests = toy.parts_of(toy.request(rng, users=3))
    requests[0]["candidate_tags"][:] = np.nan
    answers = whole.run([_request(request) for request in requests])
    assert isinstance(answers[0], InputError)
    assert str(answers[0]).startswith("model 'toy_whole': input 'candidate_tags': expected finite numbers, got nan at")
    assert [_scores(answer).shape for answer in answers[1:]] == [(1, 8), (1, 8)]


def test_requests_that_cannot_be_joined_are_run_alone(whole: OnnxModel, rng: np.random.Generator) -> None:
    answers = whole.run([_request(toy.request(rng, history=history)) for history in (4, 6)])
    assert [_scores(answer).shape for answer in answers] == [(1, 8), (1, 8)]


def test_all_requests_may_be_refused(whole: OnnxModel, rng: np.random.Generator) -> None:
    answers = whole.run([_request(toy.request(rng, candidates=0))] * 2)
    assert all(isinstance(answer, InputError) for answer in answers)


def test_an_output_that_has_no_row_for_each_user_is_an_error_in_words(tmp_path: Path) -> None:
    graph = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 20]> g (int64[batch, n] ids, float[batch, n] factors)'
        " => (float[four] found) { found = ReduceSum <keepdims = 0> (factors, first) }"
    )
    graph.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0]), "first"))
    config = toy.config("lookup_whole")
    config.output[0].ClearField("dims")
    config.output[0].dims.append(1)
    config.output[0].reshape.SetInParent()
    toy.write_model(tmp_path, "lookup_whole", config, graph)
    model = OnnxModel(tmp_path / "lookup_whole", toy.triton_config(config))
    inputs: toy.Arrays = {"ids": np.zeros((2, 3), np.int64), "factors": np.ones((2, 3), np.float32)}
    (answer,) = model.run([OnnxRequest(inputs, ["found"])])
    assert isinstance(answer, RequestFailedError)
    assert "output 'found': expected 2 rows as the inputs have, got shape [3]" in str(answer)


def test_whatever_else_goes_wrong_is_an_answer(whole: OnnxModel, rng: np.random.Generator) -> None:
    (answer,) = whole.run(
        [OnnxRequest(toy.graph_inputs(toy.request(rng)) | {"history_items": np.array([["a"] * 4])}, ["scores"])]
    )
    assert isinstance(answer, InputError | RequestFailedError)
    assert str(answer).startswith("model 'toy_whole': ")


def _alter(folder: Path) -> None:
    with (folder / "1" / "model.onnx").open("ab") as file:
        file.write(b"\0")


def _remove(folder: Path) -> None:
    (folder / "1" / "model.onnx").unlink()


def _remove_manifest(folder: Path) -> None:
    (folder / "1" / "manifest.json").unlink()


def _rename(folder: Path) -> None:
    file = folder / "1" / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model": "other_whole"}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_alter, "toy_whole/1/model.onnx: not the file its manifest describes .*; run `cleave build toy --out "),
        (_remove, "toy_whole/1/model.onnx: no such file; run `cleave build toy --out "),
        (_remove_manifest, "toy_whole/1/manifest.json: no such file"),
        (_rename, "expected model 'toy_whole', got 'other_whole'; run `cleave build toy --out "),
    ],
)
def test_an_artifact_that_is_not_what_was_built_is_refused(
    change: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    toy.write(tmp_path, ["toy_whole"])
    change(tmp_path / "toy_whole")
    with pytest.raises(ManifestError, match=message):
        _load(tmp_path, "toy_whole")


@pytest.mark.parametrize(("file", "version"), [("other.onnx", "1"), ("model.onnx", "2")])
def test_a_file_that_the_manifest_does_not_speak_of_is_refused(file: str, version: str, repository: Path) -> None:
    config = toy.triton_config(toy.config("toy_whole")) | {"default_model_filename": file}
    with pytest.raises(
        ModelError,
        match=f"'toy_whole': expected 1/model.onnx .*, got {version}/{file} .*; run `cleave build toy --out ",
    ):
        OnnxModel(repository / "toy_whole", config, version)


@pytest.fixture
def checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model whose artifact was checked before the server was started."""
    toy.write(tmp_path, ["toy_whole"])
    for name, value in checked_variable([tmp_path / "toy_whole" / "1" / "model.onnx"]).items():
        monkeypatch.setenv(name, value)
    return tmp_path / "toy_whole"


def test_an_artifact_that_the_server_has_checked_is_not_read_again(
    checked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "sha256_of", lambda file: pytest.fail(f"{file} is read"))
    _load(checked.parent, "toy_whole")


def _exchange(folder: Path) -> None:
    """For a file of the same size, with the time of the other."""
    file = folder / "1" / "model.onnx"
    times = file.stat()
    other = file.with_name("other")
    other.write_bytes(file.read_bytes()[::-1])
    other.replace(file)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("change", [_alter, _remove, _exchange])
def test_what_changes_between_the_check_and_the_load_is_refused(change: Callable[[Path], None], checked: Path) -> None:
    change(checked)
    with pytest.raises(ManifestError, match=r"model.onnx: .*; run `cleave build toy --out "):
        _load(checked.parent, "toy_whole")
