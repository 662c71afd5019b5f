"""Measures how well probabilities predict labels: AUC, log loss and normalized entropy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cleave.builders.errors import BuilderError

Values = NDArray[np.floating[Any]]

CLIP = 1e-7
"""Probabilities are kept this far from 0 and 1, where one wrong certainty would make the log loss infinite."""


class MetricsError(BuilderError):
    """No metric is defined for these labels."""


@dataclass(frozen=True)
class Metrics:
    """The metrics over all examples of a part together, not user by user."""

    auc: float
    """The share of pairs of a liked and another example in which the liked one scores higher; a tie counts half."""
    log_loss: float
    """The mean of `-log p(label)`, in nats."""
    normalized_entropy: float
    """Log loss over that of the best constant, which is the base rate of the same examples (He et al., 2014, section
    3): below 1 is better than knowing nothing but that rate."""
    num_examples: int


def metrics_of(labels: Values, probabilities: Values) -> Metrics:
    """The metrics of labels [E], 0 or 1, and probabilities [E].

    Raises:
        MetricsError: the labels are all the same, so that there is nothing to order.
    """
    from sklearn.metrics import log_loss, roc_auc_score  # noqa: PLC0415 - slow to import

    base_rate = float(np.mean(labels)) if len(labels) else 0.0
    if not 0 < base_rate < 1:
        raise MetricsError(
            f"metrics: expected labels of both kinds, got {len(labels)} labels with a mean of {base_rate:g}; "
            "give a data set with at least 10 ratings a user, liked and not"
        )
    clipped = np.clip(probabilities.astype(np.float64), CLIP, 1 - CLIP)
    loss, entropy = (float(log_loss(labels, values)) for values in (clipped, np.full(len(labels), base_rate)))
    return Metrics(float(roc_auc_score(labels, probabilities)), loss, loss / entropy, len(labels))
