"""The models of the papers, by name: each a function from sizes to a `Ranker` with random weights."""

from __future__ import annotations

from collections.abc import Callable

from builders.spec import Ranker
from builders.zoo.append import append
from builders.zoo.concat import concat

ZOO: dict[str, Callable[..., Ranker]] = {function.__name__: function for function in (append, concat)}
