"""What crosses PCIe is what the cut says, and the docs say it of the committed configs."""

from __future__ import annotations

import math

import pytest

from cleave.builders.targets.tensorrt.config import tensorrt_configs
from cleave.builders.zoo import ZOO
from tests.docs.transfers import ROOT, transfer_page, transfers
from tests.zoo_cuts import zoo_cut


@pytest.mark.parametrize("name", ZOO)
def test_bytes_are_those_of_the_tensors_of_the_cut(name: str) -> None:
    cut = zoo_cut(name)
    ranker = cut.ranker
    hit, miss, uncached = transfers({config.name: config for config in tensorrt_configs(cut)}, ranker.name)
    sizes = ranker.sizes("opt")  # which are buckets in the zoo

    def nbytes(*roles: str) -> int:
        tensors = [tensor for role, tensor in ranker.tensors() if role in roles]
        return sum(math.prod(tensor.shape(sizes)) * tensor.numpy_dtype.itemsize for tensor in tensors)

    assert (hit.history, hit.summary_in, hit.summary_out) == (0, cut.summary_bytes(sizes), 0)
    assert (miss.history, miss.summary_in, miss.summary_out) == (nbytes("user"), hit.summary_in, hit.summary_in)
    assert (uncached.history, uncached.summary_in, uncached.summary_out) == (nbytes("user"), 0, 0)
    for each in (hit, miss, uncached):
        assert (each.rest, each.scores) == (nbytes("request", "candidate"), nbytes("output"))


def test_the_page_is_that_of_the_committed_configs() -> None:
    assert (ROOT / "docs" / "gpu_transfers.md").read_text() == transfer_page()
