"""Modules under proof without an export: what is served is the module itself, on padded batches of lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cleave.builders.cut.proof.agreement import Referee
from cleave.builders.cut.proof.subject import WHOLE, Subject
from cleave.builders.cut.proof.truth import torch_outputs
from cleave.builders.cut.proof.users import draw_user
from cleave.builders.onnx_graph.random_inputs import Arrays
from cleave.builders.spec import Ranker

TRACED_LENGTHS = (3, 5)


class _Constants(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Collects the whole numbers that operators are given."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[Any], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, int | float) and leaf == int(leaf):
                self.found.add(abs(int(leaf)))
        return func(*args, **(kwargs or {}))


def subject_of_module(ranker: Ranker) -> Subject:
    """The module against itself, with the numbers that its operators are given at two sizes alike."""
    found = []
    for length in TRACED_LENGTHS:
        user = draw_user(ranker, {axis.name: length for axis in ranker.axes})
        with _Constants() as constants:
            run(ranker, user)
        found.append(constants.found)
    return Subject(
        ranker,
        served={WHOLE: lambda inputs: run(ranker, inputs)},
        referee=Referee(ranker),
        constants=tuple(sorted(found[0] & found[1])),
        work=lambda sizes: float(sum(sizes.values()) ** 2),
    )


def run(ranker: Ranker, inputs: Arrays) -> Arrays:
    """The outputs of a small module, on one thread: several that wait for each other take longer on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return torch_outputs(ranker, inputs)
    finally:
        torch.set_num_threads(threads)
