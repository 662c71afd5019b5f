"""What counts as equal: the rounding of float32 does, a thousandth of the spread of the scores does not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor as Values
from torch import nn

from cleave.builders import Axis, Ranker, Tensor
from cleave.builders.cut.proof.agreement import LEAST, MOST, ParityError, Referee
from cleave.builders.cut.proof.double import DoubleModule
from cleave.builders.cut.proof.truth import torch_outputs
from cleave.builders.errors import BuilderError
from cleave.builders.onnx_graph.random_inputs import AnyArray, Arrays, draw_inputs

WIDTH, NUM_ITEMS = 16, 100
HISTORY, CANDIDATES = Axis("history", min=1, opt=32, max=256), Axis("candidates", min=1, opt=32, max=64)
SEEDS = range(21)


class SumPooled(nn.Module):
    """Scores of sums over the history: of weighted items, or of a tanh of item and hour; far from zero, or tiny."""

    def __init__(self, seed: int, scale: float = 1.0, offset: float = 0.0, squashed: bool = False) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.items = nn.Embedding(NUM_ITEMS, WIDTH, padding_idx=0)
        self.hours = nn.Embedding(24, WIDTH)
        self.scale, self.offset, self.squashed = scale, offset, squashed

    def forward(self, history: Values, hour: Values, candidates: Values) -> Values:
        rows = self.items(history) + self.hours(hour)[:, None]
        rows = torch.tanh(rows) if self.squashed else rows * 3
        pooled = (rows * (history > 0).unsqueeze(-1)).sum(1)
        scores: Values = (self.items(candidates) * pooled[:, None]).sum(-1) * self.scale + self.offset
        return scores


def ranker(module: nn.Module) -> Ranker:
    return Ranker(
        name="pooled",
        module=module,
        user=(Tensor("history", "int64", (HISTORY,), high=NUM_ITEMS),),
        request=(Tensor("hour", "int64", (), high=24),),
        candidate=(Tensor("candidates", "int64", (CANDIDATES,), high=NUM_ITEMS),),
        output=(Tensor("scores", "float32", (CANDIDATES,)),),
    )


def case(of: Ranker, batch: int = 3, candidates: int = 40) -> tuple[Arrays, Arrays]:
    inputs = draw_inputs(of, {"history": 256, "candidates": candidates}, batch, np.random.default_rng(0))
    return inputs, torch_outputs(of, inputs)


def in_another_order(of: Ranker, inputs: Arrays) -> Arrays:
    """The same sums, whose float32 is rounded elsewhere."""
    return torch_outputs(of, inputs | {"history": np.ascontiguousarray(inputs["history"][:, ::-1])})


def off_by(expected: Arrays, share: float) -> Arrays:
    """One score is off by so much of the spread."""
    scores = expected["scores"].astype(np.float64)
    scores[-1, -1] += share * scores.std()
    return {"scores": scores.astype(np.float32)}


@pytest.mark.parametrize("squashed", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_sums_in_another_order_agree_and_a_thousandth_of_the_spread_does_not(seed: int, squashed: bool) -> None:
    of = ranker(SumPooled(seed, squashed=squashed))
    inputs, expected = case(of)
    referee = Referee(of)
    assert referee.agreement(inputs, expected, in_another_order(of, inputs)).disagreement is None
    found = referee.agreement(inputs, expected, off_by(expected, 1e-3))
    assert found.disagreement is not None
    assert found.difference == pytest.approx(1e-3, rel=0.1)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_scale_of_scores_does_not_matter(scale: float) -> None:
    of = ranker(SumPooled(0, scale=scale))
    inputs, expected = case(of)
    referee = Referee(of)
    assert referee.agreement(inputs, expected, in_another_order(of, inputs)).disagreement is None
    assert referee.agreement(inputs, expected, off_by(expected, 1e-3)).disagreement is not None


def test_scores_far_from_zero_lose_digits_as_torch_does() -> None:
    """Spread by less than a thousandth of their size: what float32 leaves out of them is above 1e-5 of the spread."""
    of = ranker(SumPooled(0, scale=1e-2, offset=1e5))
    inputs, expected = case(of)
    spread = expected["scores"].astype(np.float64).std()
    neighbours = {"scores": np.nextafter(expected["scores"], np.float32(np.inf))}
    assert np.abs(neighbours["scores"] - expected["scores"]).max() > LEAST * spread
    assert Referee(of).agreement(inputs, expected, neighbours).disagreement is None
    assert Referee(of).agreement(inputs, expected, off_by(expected, 0.1)).disagreement is not None


def test_constant_scores_agree_up_to_their_last_digits() -> None:
    of = ranker(SumPooled(0, scale=0.0, offset=0.5))
    inputs, expected = case(of)
    referee = Referee(of)
    for change, agrees in ((0.0, True), (1e-7, True), (1e-5, False)):
        got = {"scores": expected["scores"] + np.float32(change)}
        assert (referee.agreement(inputs, expected, got).disagreement is None) is agrees


def test_one_score_alone_is_measured_by_the_usual_spread() -> None:
    of = ranker(SumPooled(0))
    inputs, expected = case(of, batch=1, candidates=1)
    referee = Referee(of)
    assert referee.agreement(inputs, expected, in_another_order(of, inputs)).disagreement is None
    assert referee.agreement(inputs, expected, {"scores": expected["scores"] + 1}).disagreement is not None


class Bucketed(nn.Module):
    """The whole part of a number multiplied and divided by 0.7, of which float32 and float64 think differently."""

    def forward(self, history: Values, hour: Values, candidates: Values) -> Values:
        nothing = history.sum(1, keepdim=True) * 0 + hour.unsqueeze(1) * 0
        return torch.floor(candidates.float() * 0.7 / 0.7) + nothing


def test_on_the_edge_of_a_bucket_either_side_is_right() -> None:
    of = ranker(Bucketed())
    inputs, expected = case(of, candidates=64)
    exact = DoubleModule(of)(inputs)
    assert exact is not None
    other = exact["scores"].astype(np.float32)
    on_an_edge = other != expected["scores"]
    assert 0 < on_an_edge.mean() < 0.5
    referee = Referee(of)
    assert referee.agreement(inputs, expected, {"scores": other}).disagreement is None
    neither = {"scores": np.where(on_an_edge, other + 5, expected["scores"])}
    assert referee.agreement(inputs, expected, neither).disagreement is not None


class OfOneType(SumPooled):
    """Runs in float32 and in nothing else."""

    def forward(self, history: Values, hour: Values, candidates: Values) -> Values:
        if self.items.weight.dtype != torch.float32:
            raise TypeError("weights have to be float32")
        return super().forward(history, hour, candidates)


def test_a_module_that_does_not_run_in_float64_gets_the_most_and_the_message_says_so() -> None:
    of = ranker(OfOneType(0))
    inputs, expected = case(of)
    referee = Referee(of)
    assert referee.agreement(inputs, expected, off_by(expected, 0.9 * MOST)).disagreement is None
    assert referee.refusal == "TypeError: weights have to be float32"
    with pytest.raises(ParityError) as raised:
        referee.check(inputs, expected, off_by(expected, 1e-3), "here", "do that")
    assert str(raised.value).startswith("here: output 'scores' at [2, 39]: expected ")
    assert str(raised.value).endswith(
        "where 0.0003 is allowed (the module does not run in float64: TypeError: weights have to be float32); do that"
    )


def test_a_module_that_names_float32_in_its_code_runs_in_float64() -> None:
    class Casting(SumPooled):
        def forward(self, history: Values, hour: Values, candidates: Values) -> Values:
            weight = torch.ones(history.shape, dtype=torch.float32) / 3
            scores = super().forward(history, hour, candidates) * weight.mean(1, keepdim=True)
            return scores.to(torch.float32) + torch.linspace(0, 1, 7).sum().float() + torch.tensor(0.1)

    module = Casting(0)
    of = ranker(module)
    inputs, expected = case(of)
    exact = DoubleModule(of)(inputs)
    assert exact is not None
    assert exact["scores"].dtype == np.float64
    assert 0 < np.abs(exact["scores"] - expected["scores"]).max() < 1e-3
    assert torch.get_default_dtype() == torch.float32
    assert module.items.weight.dtype == torch.float32


class Narrow(SumPooled):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__(0)
        self.to(dtype)

    def forward(self, history: Values, hour: Values, candidates: Values) -> Values:
        return super().forward(history, hour, candidates).float()


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_a_module_of_16_bits_is_refused_for_its_own_rounding(precision: str) -> None:
    of = ranker(Narrow(getattr(torch, precision)))
    with pytest.raises(ParityError) as raised:
        Referee(of, precision).check_precision()
    assert str(raised.value).startswith(
        f"ranker 'pooled': the module computes in {precision}: expected scores of torch within 0.0003 of their spread"
    )
    assert f"keep the module in float32 (module.float()), and let --precision {precision} write" in str(raised.value)
    Referee(of, precision, tolerance=0.1).check_precision()
    Referee(ranker(SumPooled(0))).check_precision()


def test_a_tolerance_replaces_the_rule() -> None:
    of = ranker(SumPooled(0))
    inputs, expected = case(of)
    referee = Referee(of, tolerance=0.01)
    assert referee.agreement(inputs, expected, off_by(expected, 0.009)).disagreement is None
    assert referee.agreement(inputs, expected, off_by(expected, 0.011)).disagreement is not None
    assert referee.most_allowed == 0.01
    assert referee.largest == pytest.approx(0.009, rel=1e-3)


@pytest.mark.parametrize("tolerance", [0.0, -1.0, float("nan"), float("inf")])
def test_a_tolerance_is_a_positive_number(tolerance: float) -> None:
    with pytest.raises(BuilderError, match=r"^--tolerance: expected a positive share of the spread of the scores, got"):
        Referee(ranker(SumPooled(0)), tolerance=tolerance)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_score_that_is_not_finite_never_agrees_with_one_that_is(value: float) -> None:
    of = ranker(SumPooled(0))
    inputs, expected = case(of)
    got = {"scores": expected["scores"].copy()}
    got["scores"][1, 2] = value
    found = Referee(of, tolerance=100.0).agreement(inputs, expected, got)
    assert found.difference == np.inf
    assert "at [1, 2]" in (found.disagreement or "")


def test_where_torch_is_not_finite_nothing_is_compared() -> None:
    class Undefined(SumPooled):
        def forward(self, history: Values, hour: Values, candidates: Values) -> Values:
            scores = super().forward(history, hour, candidates)
            return torch.where(candidates % 7 == 0, torch.log(-scores.abs()), scores)

    of = ranker(Undefined(0))
    inputs, expected = case(of)
    undefined = np.isnan(expected["scores"])
    assert undefined.any()
    got = {"scores": np.where(undefined, np.float32(3), expected["scores"])}
    assert Referee(of).agreement(inputs, expected, got).disagreement is None


def test_another_shape() -> None:
    of = ranker(SumPooled(0))
    inputs, expected = case(of)
    found = Referee(of).agreement(inputs, expected, {"scores": expected["scores"][:, 1:]})
    assert found.disagreement == "output 'scores': expected shape (3, 40), got (3, 39)"


@pytest.mark.parametrize("scramble", [lambda scores: scores[:, ::-1], lambda scores: scores[::-1], np.zeros_like])
def test_scores_of_somebody_else(scramble: Callable[[AnyArray], AnyArray]) -> None:
    of = ranker(SumPooled(3))
    inputs, expected = case(of)
    found = Referee(of).agreement(inputs, expected, {"scores": scramble(expected["scores"])})
    assert found.difference > 1
    assert found.disagreement is not None
