from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cleave.builders.contract.signature import ServedAxis, ServedTensor, Signature
from cleave.builders.names import SIGNATURE_PARAMETER
from cleave.clients.errors import InvalidRequestError, SignatureError
from cleave.clients.signature import ServedModel, signature_from_served
from tests.clients.fake_triton import MAX_BATCH, SIGNATURE, VISIT_PAD
from tests.clients.toy import served, signature


def test_what_is_published_is_learned_with_the_types_that_triton_says() -> None:
    history, candidates = ServedAxis(1, 100, 128, (16, 128)), ServedAxis(2, 8, 40, (16, 32, 40))
    published = Signature(
        {"history": history, "candidates": candidates},
        {
            "events": ServedTensor(("history", 2), "user", -1),
            "hour": ServedTensor((), "request"),
            "items": ServedTensor(("candidates",), "candidate"),
        },
        {"scores": ServedTensor(("candidates",))},
    )
    learned = signature_from_served(
        "m",
        ServedModel(
            4,
            {
                "events": (np.dtype("int64"), (-1, 2)),
                "hour": (np.dtype("int8"), (1,)),
                "items": (np.dtype("int32"), (-1,)),
            },
            {"scores": (np.dtype("float16"), (-1,))},
            {SIGNATURE_PARAMETER: published.to_json()},
        ),
    )
    assert learned.max_batch_size == 4
    assert [(tensor.role, tensor.pad, tensor.axis_names) for tensor in learned.inputs.values()] == [
        ("user", -1, "[history, 2]"),
        ("request", 0, "[]"),
        ("candidate", 0, "[candidates]"),
    ]
    assert (learned.candidate_axis.name, learned.candidate_axis.buckets) == ("candidates", candidates.buckets)
    assert [learned.candidate_axis.bucket(size) for size in (1, 17, 40)] == [16, 32, 40]
    assert learned.outputs["scores"].dtype == np.float16


def test_inputs_of_a_role() -> None:
    assert list(signature().inputs_of("user")) == ["visits", "visit_weights"]
    assert signature().inputs["visits"].pad == VISIT_PAD


def edited(edit: Callable[[dict[str, Any]], Any]) -> ServedModel:
    published = copy.deepcopy(SIGNATURE)
    edit(published)
    return served(published)


def without(model: ServedModel, **changes: Any) -> ServedModel:
    return dataclasses.replace(model, **changes)


WRONG: dict[str, tuple[ServedModel, str]] = {
    "not ours": (
        without(served(), parameters={}),
        r"toy: its config has no parameter 'cleave_signature', so it was not built by cleave; build it with",
    ),
    "no batches": (without(served(), max_batch_size=0), r"toy: max_batch_size: expected at least 1, got 0; build it"),
    "no JSON": (
        without(served(), parameters={SIGNATURE_PARAMETER: "{"}),
        r"toy: its parameter 'cleave_signature' cannot be read \(expected JSON, got '{' .*\); build the model with the",
    ),
    "no object": (
        without(served(), parameters={SIGNATURE_PARAMETER: "[]"}),
        r"read \(the text: expected an object, got \[\]\); build",
    ),
    "no axes": (
        edited(lambda published: published.pop("axes")),
        r"cannot be read \(axes: expected it, got none\); build",
    ),
    "unknown axis": (
        edited(lambda published: published["axes"].pop("history")),
        r"toy: tensor visits: axis 'history': expected one that it publishes \(candidates\); ask the ranker, NAME_unc",
    ),
    "buckets below max": (
        edited(lambda published: published["axes"]["history"].update(buckets=[16])),
        r"cannot be read \(axes.history: expected buckets that rise to max=64, got \[16\]\); build",
    ),
    "other tensors": (
        edited(lambda published: published["inputs"].pop("hour")),
        r"toy: expected the tensors of 'cleave_signature' \(visits, visit_weights, items, features\), "
        r"got those of the config \(visits, visit_weights, hour, items, features\); build it again",
    ),
    "other dims": (
        edited(lambda published: published["inputs"]["features"].update(axes=["candidates", 4])),
        r"toy: tensor features: expected numbers of dims \[-1, 4\], got float32 of dims \[-1, 3\] in the config; build",
    ),
    "texts": (
        without(served(), outputs=dict(served().outputs) | {"scores": (np.dtype(object), (-1,))}),
        r"toy: tensor scores: expected numbers of dims \[-1\], got object of dims \[-1\] in the config; build",
    ),
}


@pytest.mark.parametrize(("model", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_signature_that_cannot_be_used(model: ServedModel, message: str) -> None:
    with pytest.raises(SignatureError, match=message):
        signature_from_served("toy", model)


def test_a_part_does_not_rank() -> None:
    published = {
        "axes": {"candidates": {"min": 1, "opt": 4, "max": 4, "buckets": [4]}},
        "inputs": {
            "state": {"role": "summary", "axes": [2, 16], "pad": 0},
            "items": {"role": "candidate", "axes": ["candidates"], "pad": 0},
        },
        "outputs": {"scores": {"axes": ["candidates"]}},
    }
    scorer = signature_from_served(
        "toy_candidate_scorer",
        ServedModel(
            MAX_BATCH,
            {"state": (np.dtype("float32"), (2, 16)), "items": (np.dtype("int64"), (-1,))},
            {"scores": (np.dtype("float32"), (-1,))},
            {SIGNATURE_PARAMETER: json.dumps(published)},
        ),
    )
    with pytest.raises(InvalidRequestError, match=r"toy_candidate_scorer: rank needs .* inputs state, items; name the"):
        _ = scorer.candidate_axis
