"""The models of the papers, by name: each a function from sizes to a `Ranker` with random weights."""

from __future__ import annotations

from collections.abc import Callable

from cleave.builders.spec import Ranker
from cleave.builders.zoo.append import append
from cleave.builders.zoo.concat import concat
from cleave.builders.zoo.hstu import hstu
from cleave.builders.zoo.lime import lime_mha, lime_xor
from cleave.builders.zoo.no_history import no_history
from cleave.builders.zoo.vista import vista

ZOO: dict[str, Callable[..., Ranker]] = {
    function.__name__: function for function in (append, concat, hstu, vista, lime_mha, lime_xor)
}
"""Every model that is cut and served."""

BASELINES: dict[str, Callable[..., Ranker]] = {no_history.__name__: no_history}
"""Models to be compared with by accuracy only: they read no history, so the cut refuses them."""
