"""The metrics against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics

from cleave.builders.training.metrics import MetricsError, auc, log_loss, metrics_of


@pytest.mark.parametrize("decimals", [1, 2, 15])
def test_they_are_scikit_learns(decimals: int) -> None:
    rng = np.random.default_rng(decimals)
    labels = (rng.random(500) < 0.4).astype(np.float64)
    probabilities = np.round(np.clip(rng.random(500) + 0.2 * labels, 0.05, 0.95), decimals)  # few decimals give ties
    assert auc(labels, probabilities) == pytest.approx(sklearn.metrics.roc_auc_score(labels, probabilities))
    probabilities = np.clip(probabilities, 0.05, 0.95)
    assert log_loss(labels, probabilities) == pytest.approx(sklearn.metrics.log_loss(labels, probabilities))


def test_normalized_entropy_of_the_base_rate_is_one() -> None:
    labels = np.array([1.0, 0, 0, 1, 0])
    found = metrics_of(labels, np.full(5, 0.4))
    assert found.normalized_entropy == pytest.approx(1)
    assert found.auc == 0.5
    assert found.num_examples == 5


def test_certainty_that_is_wrong_has_a_finite_loss() -> None:
    assert np.isfinite(log_loss(np.array([1.0, 0]), np.array([0.0, 1.0])))


@pytest.mark.parametrize("labels", [[], [0.0, 0], [1.0]])
def test_labels_of_one_kind(labels: list[float]) -> None:
    with pytest.raises(MetricsError, match=f"expected labels of both kinds, got {len(labels)} labels"):
        metrics_of(np.array(labels), np.zeros(len(labels)))
