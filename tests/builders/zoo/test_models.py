"""The properties of papers.md, section 5, and what else the system takes for granted, on every model of the zoo."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cleave.builders.onnx_graph.random_inputs import draw_inputs, repeated_for_candidates
from cleave.builders.spec import Ranker
from cleave.builders.zoo import BASELINES, ZOO
from cleave.builders.zoo.movielens import MovieLensModel
from tests.builders.zoo.negative import self_attention_append
from tests.zoo_cuts import randomized

Inputs = dict[str, Tensor]

NUM_ITEMS = 50
TOLERANCE = 1e-5
MAX_WEIGHTS_BYTES = 1_000_000

every_model = pytest.mark.parametrize("name", [*ZOO, *BASELINES])
every_served_model = pytest.mark.parametrize("name", ZOO)
sizes = pytest.mark.parametrize(("batch", "events", "candidates"), [(1, 1, 1), (2, 7, 5), (3, 40, 13)])


def small(name: str) -> Ranker:
    return randomized({**ZOO, **BASELINES}[name](num_items=NUM_ITEMS, width=16))


def draw(ranker: Ranker, batch: int, events: int, candidates: int, padded: bool = False) -> Inputs:
    shape = {"history": events, "candidates": candidates}
    arrays = draw_inputs(ranker, shape, batch, np.random.default_rng(events + candidates), padded=padded)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def scores(ranker: Ranker, inputs: Inputs) -> Tensor:
    with torch.inference_mode():
        result: Tensor = ranker.module(**inputs)
    return result


def one_by_one(ranker: Ranker, inputs: Inputs) -> Tensor:
    """Scores [B, M] of each candidate of each user alone."""
    rows = []
    for user in range(len(inputs["history_items"])):
        alone = {name: tensor[user : user + 1].numpy() for name, tensor in inputs.items()}
        single = {name: torch.from_numpy(array) for name, array in repeated_for_candidates(ranker, alone).items()}
        rows.append(scores(ranker, single)[:, 0])
    return torch.stack(rows)


def assert_close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=TOLERANCE)


@every_model
@sizes
def test_scores_together_equal_scores_one_by_one(name: str, batch: int, events: int, candidates: int) -> None:
    ranker = small(name)
    inputs = draw(ranker, batch, events, candidates, padded=True)
    assert_close(scores(ranker, inputs), one_by_one(ranker, inputs))


@pytest.mark.parametrize("diagonal", [False, True])
def test_self_attention_append_needs_a_diagonal_mask_to_score_together(diagonal: bool) -> None:
    ranker = randomized(self_attention_append(NUM_ITEMS, diagonal=diagonal))
    inputs = draw(ranker, batch=2, events=7, candidates=5, padded=True)
    difference = (scores(ranker, inputs) - one_by_one(ranker, inputs)).abs().max()
    assert bool(difference < TOLERANCE) == diagonal
    assert diagonal or difference > 100 * TOLERANCE


@every_model
@sizes
def test_permuting_candidates_permutes_scores(name: str, batch: int, events: int, candidates: int) -> None:
    ranker = small(name)
    inputs = draw(ranker, batch, events, candidates)
    order = torch.randperm(candidates)
    permuted = {key: tensor[:, order] if key.startswith("candidate") else tensor for key, tensor in inputs.items()}
    assert_close(scores(ranker, permuted), scores(ranker, inputs)[:, order])


@every_model
def test_replacing_one_candidate_changes_no_other_score(name: str) -> None:
    ranker = small(name)
    inputs = draw(ranker, batch=2, events=7, candidates=5)
    before = scores(ranker, inputs)
    inputs["candidate_items"][:, 2] = inputs["candidate_items"][:, 2] % NUM_ITEMS + 1
    inputs["candidate_genres"][:, 2] += 1
    changed = (scores(ranker, inputs) - before).abs() > TOLERANCE
    assert changed[:, 2].all()
    assert not changed[:, [0, 1, 3, 4]].any()


@every_model
@sizes
def test_padding_history_and_candidates_changes_no_score(name: str, batch: int, events: int, candidates: int) -> None:
    ranker = small(name)
    inputs = draw(ranker, batch, events, candidates)
    padded = {
        **inputs,
        "history_items": functional.pad(inputs["history_items"], (0, 9)),
        # What is rated is padding, so the rating must not matter.
        "history_ratings": functional.pad(inputs["history_ratings"], (0, 9), value=3),
        "candidate_items": functional.pad(inputs["candidate_items"], (0, 4)),
        "candidate_genres": functional.pad(inputs["candidate_genres"], (0, 0, 0, 4)),
    }
    assert_close(scores(ranker, padded)[:, :candidates], scores(ranker, inputs))


@every_model
def test_an_empty_history_is_any_amount_of_padding(name: str) -> None:
    ranker = small(name)
    inputs = draw(ranker, batch=2, events=12, candidates=5)
    inputs["history_items"] = torch.zeros_like(inputs["history_items"])
    empty = scores(ranker, inputs)
    assert empty.isfinite().all()
    for key in ("history_items", "history_ratings"):
        inputs[key] = inputs[key][:, :1]
    assert_close(scores(ranker, inputs), empty)


@every_model
def test_a_user_scores_the_same_alone_and_in_a_batch(name: str) -> None:
    ranker = small(name)
    inputs = draw(ranker, batch=4, events=20, candidates=5, padded=True)
    alone = [scores(ranker, {key: tensor[user : user + 1] for key, tensor in inputs.items()}) for user in range(4)]
    assert_close(torch.cat(alone), scores(ranker, inputs))


@every_served_model
def test_every_part_of_the_history_is_read(name: str) -> None:
    ranker = small(name)
    inputs = draw(ranker, batch=1, events=6, candidates=5)
    inputs["history_items"] = torch.tensor([[3, 1, 4, 1, 5, 9]])
    inputs["history_ratings"] = torch.tensor([[2, 7, 1, 8, 2, 8]])
    before = scores(ranker, inputs)
    for key in ("history_items", "history_ratings"):
        for place in range(6):
            other = inputs[key].clone()
            other[0, place] = 10
            assert (scores(ranker, {**inputs, key: other}) - before).abs().max() > TOLERANCE
    backwards = {key: tensor.flip(1) if key.startswith("history") else tensor for key, tensor in inputs.items()}
    assert (scores(ranker, backwards) - before).abs().max() > TOLERANCE


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_reads_no_history(name: str) -> None:
    ranker = small(name)
    inputs = draw(ranker, batch=2, events=7, candidates=5)
    other = {**inputs, "history_items": inputs["history_items"].flip(1)}
    assert torch.equal(scores(ranker, inputs), scores(ranker, other))


@every_model
@pytest.mark.parametrize(
    "input_name", ["history_items", "history_ratings", "candidate_items", "request_hour", "user_age", "user_gender"]
)
def test_ids_out_of_range_read_the_unknown_row(name: str, input_name: str) -> None:
    ranker = small(name)
    inputs = draw(ranker, batch=2, events=7, candidates=5)
    high = next(tensor.high for tensor in ranker.inputs if tensor.name == input_name)
    assert high is not None
    results = []
    for unknown in (high, high + 1, 2**40, -1, -high, -(2**63)):
        inputs[input_name] = torch.full_like(inputs[input_name], unknown)
        results.append(scores(ranker, inputs))
    assert results[0].isfinite().all()
    for result in results[1:]:
        assert torch.equal(result, results[0])


@every_model
def test_demo_weights_are_small(name: str) -> None:
    ranker = {**ZOO, **BASELINES}[name]()
    assert sum(tensor.nbytes for tensor in ranker.module.state_dict().values()) <= MAX_WEIGHTS_BYTES


@every_model
def test_the_gradient_reaches_every_parameter(name: str) -> None:
    ranker = small(name)
    module = ranker.module
    assert isinstance(module, MovieLensModel)
    inputs = draw(ranker, batch=4, events=12, candidates=6)
    loss = functional.binary_cross_entropy_with_logits(module.logits(**inputs), torch.rand(4, 6))
    torch.autograd.backward(loss + module.auxiliary_loss(**inputs))
    for parameter_name, parameter in module.named_parameters():
        assert parameter.grad is not None, parameter_name
        # A bias of all keys adds the same to every key's weight before the softmax, which takes it away again.
        assert parameter.grad.abs().max() > 1e-8 or parameter_name.endswith("key.bias"), parameter_name


@every_served_model
def test_a_width_that_heads_do_not_divide_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="width 16 is not a multiple of heads 3; change either"):
        ZOO[name](num_items=NUM_ITEMS, width=16, heads=3)


class LargestTensor(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Watches how many elements the largest tensor has that is made."""

    num_elements: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        made = [leaf.numel() for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
        self.num_elements = max([self.num_elements, *made])
        return output


def largest_tensor(ranker: Ranker, events: int, candidates: int) -> int:
    inputs = draw(ranker, 1, events, candidates)
    with LargestTensor() as watch:  # type: ignore[no-untyped-call]
        scores(ranker, inputs)
    largest: int = watch.num_elements
    return largest


@pytest.mark.parametrize(
    ("name", "expected"),
    [("append", 4), ("hstu", 4), ("concat", 4), ("vista", 2), ("lime_mha", 2), ("lime_xor", 2), ("no_history", 1)],
)
def test_memory_by_events(name: str, expected: int) -> None:
    ranker = small(name)
    growth = largest_tensor(ranker, 1024, 2) / largest_tensor(ranker, 512, 2)
    assert growth == pytest.approx(expected, rel=0.1)


@every_model
def test_memory_is_linear_in_candidates(name: str) -> None:
    ranker = small(name)
    assert largest_tensor(ranker, 2, 1024) / largest_tensor(ranker, 2, 512) == pytest.approx(2, rel=0.1)


def test_memory_is_not_linear_where_candidates_read_each_other() -> None:
    ranker = randomized(self_attention_append())
    assert largest_tensor(ranker, 2, 1024) / largest_tensor(ranker, 2, 512) > 3
