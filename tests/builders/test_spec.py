"""The spec: what contradicts itself is refused where it is written; everything else follows from it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from torch import nn

from cleave.builders import Axis, Ranker, Tensor
from cleave.builders.errors import BuilderError, SpecError

HISTORY = Axis("history", min=1, opt=256, max=4096)
CANDIDATES = Axis("candidates", min=1, opt=512, max=8192)
LISTED = dataclasses.replace(CANDIDATES, padding_side="left")
EVENTS = Tensor("events", "int64", (HISTORY,))
ITEMS = Tensor("items", "int64", (CANDIDATES,))
SCORES = Tensor("scores", "float32", (CANDIDATES,))


def ranker(**changes: Any) -> Ranker:
    arguments: dict[str, Any] = {
        "name": "model",
        "module": nn.Sequential(nn.Linear(2, 2)),
        "user": (EVENTS,),
        "candidate": (ITEMS,),
        "output": (SCORES,),
    }
    return Ranker(**{**arguments, **changes})


def axis(**changes: Any) -> Axis:
    return Axis(**{"name": "history", "min": 1, "opt": 2, "max": 3, **changes})


def tensor(**changes: Any) -> Tensor:
    return Tensor(**{"name": "events", "dtype": "int64", "axes": (HISTORY,), **changes})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: axis(min=4), "Axis 'history'.min: expected at most max=3, got 4; swap min and max"),
        (lambda: axis(opt=4), "Axis 'history'.opt: expected between min=1 and max=3, got 4; move it inside"),
        (lambda: axis(min=2, opt=1), "Axis 'history'.opt: expected between min=2 and max=3, got 1; move it inside"),
        (lambda: axis(min=0), "Axis 'history'.min: expected a whole number of at least 1, got 0; correct the number"),
        (lambda: axis(max=2.5), "Axis 'history'.max: expected a whole number of at least 1, got 2.5; correct"),
        (lambda: axis(opt=True), "Axis 'history'.opt: expected a whole number of at least 1, got True; correct"),
        (lambda: axis(padding_side="front"), "Axis 'history'.padding_side: expected one of left, right, got 'front'; "),
        (lambda: axis(min_real=-1), "Axis 'history'.min_real: expected a whole number of at least 0, got -1; correct"),
        (lambda: axis(min_real=4), "Axis 'history'.min_real: expected at most max=3, got 4; lower it"),
        (lambda: axis(name="my axis"), "Axis.name: expected an identifier, got 'my axis'; use letters, digits and"),
        (lambda: axis(name="batch"), "Axis 'batch'.name: 'batch' is the axis that is never written; choose another"),
        (lambda: tensor(name="2nd"), "Tensor.name: expected an identifier, got '2nd'; use letters, digits and"),
        (lambda: tensor(name=3), "Tensor.name: expected an identifier, got 3; use letters"),
        (lambda: tensor(dtype="long"), "Tensor 'events'.dtype: expected one of float32, float16, int64, int32, int8, "),
        (lambda: tensor(axes=HISTORY), "Tensor 'events'.axes: expected a tuple, got Axis(name='history'"),
        (lambda: tensor(axes=HISTORY), "; write (history,) with the comma"),
        (lambda: tensor(axes=(HISTORY, 0)), "Tensor 'events'.axes[1]: expected a whole number of at least 1, got 0"),
        (
            lambda: tensor(axes=("history",)),
            "Tensor 'events'.axes[0]: expected a whole number of at least 1, got 'hist",
        ),
        (lambda: tensor(high=0), "Tensor 'events'.high: expected at least 1, got 0; raise high or lower low"),
        (lambda: tensor(low=7, high=7), "Tensor 'events'.high: expected at least 8, got 7; raise high or lower low"),
        (lambda: tensor(low=7), "Tensor 'events': expected low and high, got one alone; write both"),
        (lambda: tensor(high=2.0), "Tensor 'events'.high: expected a whole number, got 2.0; correct it"),
        (lambda: tensor(high=True), "Tensor 'events'.high: expected a whole number, got True; correct it"),
        (
            lambda: tensor(dtype="int8", high=300),
            "Tensor 'events': expected low and high - 1 to be values of int8, got",
        ),
        (lambda: tensor(dtype="uint8", low=-1, high=3), "Tensor 'events': expected low and high - 1 to be values of"),
        (lambda: tensor(dtype="float32", high=5), "Tensor 'events': expected low and high, got one alone; write both"),
        (lambda: tensor(dtype="float32", low=1, high=0), "Tensor 'events'.high: expected no less than low=1, got 0; "),
        (
            lambda: tensor(dtype="float32", low=float("-inf"), high=0),
            "Tensor 'events'.low: expected a finite number, got -inf; correct it",
        ),
        (lambda: tensor(dtype="bool", high=1), "Tensor 'events': expected no low and no high of dtype bool, got one; "),
        (
            lambda: tensor(pad=float("nan")),
            "Tensor 'events'.pad: expected a finite number, got nan; choose one the model",
        ),
        (lambda: tensor(pad="0"), "Tensor 'events'.pad: expected a finite number, got '0'"),
        (lambda: tensor(pad=0.5), "Tensor 'events'.pad: expected a value of int64, got 0.5; choose one"),
        (lambda: tensor(dtype="uint8", pad=-1), "Tensor 'events'.pad: expected a value of uint8, got -1; choose one"),
        (lambda: tensor(dtype="int8", pad=128), "Tensor 'events'.pad: expected a value of int8, got 128; choose one"),
        (lambda: tensor(dtype="bool", pad=2), "Tensor 'events'.pad: expected a value of bool, got 2; choose one"),
    ],
)
def test_wrong_axes_and_tensors_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(SpecError, match=re.escape(message)):
        make()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "my-model"}, "Ranker.name: expected an identifier, got 'my-model'; use letters, digits and"),
        (
            {"name": "pair_whole"},
            "Ranker 'pair_whole'.name: expected a name of its own, got that of a model that a ranker 'pair' becomes; "
            "choose one that does not end in '_whole'",
        ),
        ({"user": ()}, "Ranker 'model'.user: expected at least one Tensor, got none; name the user tensors"),
        ({"candidate": ()}, "Ranker 'model'.candidate: expected at least one Tensor, got none; name the candidate"),
        ({"output": ()}, "Ranker 'model'.output: expected at least one Tensor, got none; name the output tensors"),
        ({"user": EVENTS}, "Ranker 'model'.user: expected a tuple of Tensor, got Tensor(name='events'"),
        (
            {"request": ["hour"]},
            "Ranker 'model'.request: expected a tuple of Tensor, got ['hour']; write (request_tensor,)",
        ),
        ({"module": nn.Linear}, "Ranker 'model'.module: expected a torch.nn.Module, got <class"),
        (
            {"request": (tensor(axes=()),)},
            "Ranker 'model'.request: two tensors of the name 'events' (the other is in user); rename one",
        ),
        (
            {"output": (tensor(name="items", dtype="float32", axes=(CANDIDATES,)),)},
            "Ranker 'model'.output: two tensors of the name 'items' (the other is in candidate); rename one",
        ),
        ({"user": (tensor(name="user_id"),)}, "'user_id' is a name that served models use themselves; rename"),
        (
            {"output": (tensor(name="scores", axes=()),)},
            "Ranker 'model'.output: tensor 'scores' has axes (), expected the candidate axis first; put the Axis that",
        ),
        (
            {"candidate": (tensor(name="items", axes=(5,)),)},
            "tensor 'items' has axes (5,), expected the candidate axis",
        ),
        (
            {"candidate": (ITEMS, tensor(name="features", axes=(20, CANDIDATES)))},
            "Ranker 'model'.candidate: tensor 'features' has axes (20, Axis(",
        ),
        (
            {"user": (EVENTS, tensor(name="ratings", axes=(axis(),)))},
            "Ranker 'model'.user: tensor 'ratings' has another axis 'history' (Axis(name='history', min=1,",
        ),
        (
            {"request": (tensor(name="context"),)},
            "Ranker 'model'.request: tensor 'context' shares axis 'history' with a user tensor, expected an axis of",
        ),
        (
            {"candidate": (tensor(name="items", axes=(LISTED,)),), "output": (tensor(name="scores", axes=(LISTED,)),)},
            "Ranker 'model'.candidate: axis 'candidates': padding_side: expected 'right', as this axis counts "
            "candidates, got 'left'; leave it out",
        ),
        ({"boundary": ("1",)}, "Ranker 'model'.boundary: no submodule '1'; its submodules are 0; name one of them"),
        ({"boundary": "0"}, "Ranker 'model'.boundary: expected a tuple, got '0'; write (name,) with the comma"),
    ],
)
def test_wrong_rankers_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=re.escape(message)):
        ranker(**changes)


def test_errors_of_the_spec_are_value_errors() -> None:
    assert issubclass(SpecError, BuilderError)
    assert issubclass(BuilderError, ValueError)


def test_specs_are_frozen() -> None:
    for spec in (HISTORY, EVENTS, ranker()):
        with pytest.raises(dataclasses.FrozenInstanceError):
            spec.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ((1, 256, 4096), (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)),
        ((1, 1, 1), (1,)),
        ((1, 8, 16), (16,)),
        ((1, 8, 17), (16, 17)),
        ((20, 20, 100), (32, 64, 100)),
        ((100, 100, 100), (100,)),
    ],
)
def test_buckets(bounds: tuple[int, int, int], expected: tuple[int, ...]) -> None:
    assert Axis("history", *bounds).buckets == expected


@pytest.mark.parametrize("bounds", [(1, 256, 4096), (3, 10, 50), (17, 18, 1000), (1, 1, 1)])
def test_every_size_has_a_bucket_that_is_not_twice_as_long(bounds: tuple[int, int, int]) -> None:
    chosen = Axis("history", *bounds)
    for size in range(chosen.min, chosen.max + 1):
        bucket = min(bucket for bucket in chosen.buckets if bucket >= size)
        assert chosen.min <= bucket <= chosen.max
        assert bucket <= max(16, 2 * size)


def test_raising_the_longest_history_touches_one_line() -> None:
    longer = dataclasses.replace(HISTORY, max=8192)
    before = ranker()
    after = ranker(user=(tensor(axes=(longer,)),))
    assert before.sizes("max") == {"history": 4096, "candidates": 8192}
    assert after.sizes("max") == {"history": 8192, "candidates": 8192}
    assert (after.sizes("min"), after.sizes("opt")) == (before.sizes("min"), before.sizes("opt"))
    with pytest.raises(SpecError):
        before.sizes("opt", history=5000)
    assert after.sizes("opt", history=5000)["history"] == 5000
    assert longer.buckets == (*HISTORY.buckets, 8192)


def test_sizes_of_single_axes() -> None:
    assert ranker().sizes("opt", candidates=3) == {"history": 256, "candidates": 3}
    with pytest.raises(SpecError, match=re.escape("no axis 'length'; its axes are history, candidates")):
        ranker().sizes("opt", length=3)
    message = "Ranker 'model': axis 'history': expected 1 to 4096, got 4097; choose a size inside, or widen the Axis"
    with pytest.raises(SpecError, match=re.escape(message)):
        ranker().sizes("opt", history=4097)


def test_what_follows_from_the_tensors() -> None:
    features = tensor(name="features", dtype="float32", axes=(CANDIDATES, 20))
    hour = tensor(name="hour", axes=())
    spec = ranker(request=(hour,), candidate=(ITEMS, features))
    assert [entry.name for entry in spec.inputs] == ["events", "hour", "items", "features"]
    assert spec.candidate_axis == CANDIDATES
    assert spec.axes == (HISTORY, CANDIDATES)
    assert spec.axis_roles == {"history": "user", "candidates": "candidate"}
    assert features.shape({"candidates": 7}) == (7, 20)
    assert hour.shape({}) == ()
    assert features.numpy_dtype == np.float32
