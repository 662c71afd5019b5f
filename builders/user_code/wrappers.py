"""Takes the user's module out of what it was wrapped in for training, which computes the same and hides its code."""

from __future__ import annotations

import dataclasses

import torch

from cleave.builders.spec import Ranker


def unwrapped(ranker: Ranker) -> Ranker:
    """The ranker with the module itself; paths of its boundary begin there, too."""
    from torch._dynamo import OptimizedModule  # noqa: PLC0415 - slow to import, and the zoo needs none of it

    wrappers: dict[type[torch.nn.Module], str] = {
        OptimizedModule: "_orig_mod",  # of torch.compile
        torch.nn.DataParallel: "module",
        torch.nn.parallel.DistributedDataParallel: "module",
    }
    for wrapper, attribute in wrappers.items():
        if isinstance(ranker.module, wrapper):
            boundary = tuple(path.removeprefix(f"{attribute}.") for path in ranker.boundary)
            module = getattr(ranker.module, attribute)
            return unwrapped(dataclasses.replace(ranker, module=module, boundary=boundary))
    return ranker
