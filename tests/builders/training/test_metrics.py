"""The metrics are what their docstrings say."""

from __future__ import annotations

import numpy as np
import pytest

from cleave.builders.training.metrics import CLIP, MetricsError, metrics_of


@pytest.mark.parametrize("decimals", [1, 2, 15])
def test_metrics_are_those_of_their_definitions(decimals: int) -> None:
    rng = np.random.default_rng(decimals)
    labels = (rng.random(500) < 0.4).astype(np.float64)
    scores = np.round(np.clip(rng.random(500) + 0.2 * labels, 0, 1), decimals)  # few decimals give ties
    found = metrics_of(labels, scores)
    liked, others = scores[labels == 1][:, None], scores[labels == 0]
    assert found.auc == pytest.approx(np.mean((liked > others) + 0.5 * (liked == others)), abs=1e-12)
    clipped = np.clip(scores, CLIP, 1 - CLIP)
    likelihood = np.where(labels == 1, clipped, 1 - clipped)
    assert found.log_loss == pytest.approx(-np.mean(np.log(likelihood)), abs=1e-12)
    rate = labels.mean()
    entropy = -rate * np.log(rate) - (1 - rate) * np.log(1 - rate)
    assert found.normalized_entropy == pytest.approx(found.log_loss / entropy, abs=1e-12)
    assert found.num_examples == 500


def test_normalized_entropy_of_the_base_rate_is_one() -> None:
    labels = np.array([1.0, 0, 0, 1, 0])
    found = metrics_of(labels, np.full(5, 0.4))
    assert found.normalized_entropy == pytest.approx(1)
    assert found.auc == 0.5


def test_certainty_that_is_wrong_has_a_finite_loss() -> None:
    assert metrics_of(np.array([1.0, 0]), np.array([0.0, 1.0])).log_loss == pytest.approx(-np.log(CLIP))


@pytest.mark.parametrize("labels", [[], [0.0, 0], [1.0]])
def test_labels_of_one_kind(labels: list[float]) -> None:
    with pytest.raises(MetricsError, match=f"expected labels of both kinds, got {len(labels)} labels"):
        metrics_of(np.array(labels), np.zeros(len(labels)))
