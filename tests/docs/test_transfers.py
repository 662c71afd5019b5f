"""What crosses PCIe is what the cut says, and the docs say it of the committed configs."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from cleave.builders.contract.location import DEFAULT_FOLDER
from cleave.builders.names import TENSORRT_CONFIG_FILE
from cleave.builders.targets.tensorrt.config import tensorrt_configs
from cleave.builders.zoo import ZOO
from tests.configs import configs_of
from tests.docs.transfers import transfer_table, transfers
from tests.tables import markdown_rows
from tests.zoo_cuts import zoo_cut

ROOT = Path(__file__).parents[2]


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


def test_the_docs_have_the_table_of_the_committed_configs() -> None:
    expected = markdown_rows(transfer_table(configs_of(ROOT / DEFAULT_FOLDER, TENSORRT_CONFIG_FILE)))
    written = markdown_rows((ROOT / "docs/gpu.md").read_text())
    start = written.index(expected[0])
    assert written[start : start + len(expected)] == expected
