"""What one request moves over PCIe where engines run on a GPU, read off the configs that say what crosses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tritonclient.grpc import model_config_pb2
from tritonclient.utils import triton_to_np_dtype

from cleave.builders.contract.location import DEFAULT_FOLDER
from cleave.builders.files import write_text
from cleave.builders.formatting import byte_quantity, markdown_table
from cleave.builders.names import (
    CANDIDATE_SCORER,
    HISTORY_ENCODER,
    TENSORRT_CONFIG,
    UNCACHED,
    WHOLE,
    model_name,
    named_config_file,
)
from cleave.builders.onnx_graph.sizes import Size
from cleave.builders.triton.configs import signature_of
from cleave.builders.triton.rules import Configs
from tests.configs import configs_of

ROOT = Path(__file__).parents[2]

COLUMNS = (
    "served model",
    "history to the GPU",
    "summary from it",
    "summary to it",
    "request and candidates to it",
    "scores from it",
    "in all",
)


@dataclass(frozen=True)
class Transfers:
    """Bytes of one request of one user."""

    model: str
    history: int
    summary_out: int
    """From the encoder to the summary cache, which is in the host's memory."""
    summary_in: int
    rest: int
    scores: int

    @property
    def cells(self) -> tuple[str, ...]:
        """As a row of a table with `COLUMNS`."""
        counts = (self.history, self.summary_out, self.summary_in, self.rest, self.scores)
        return (self.model, *(byte_quantity(count) if count else "" for count in counts), byte_quantity(sum(counts)))


def transfers(configs: Configs, ranker: str) -> list[Transfers]:
    """Of a hit, a miss and a request that is not cached, at the sizes that axes are tuned for, padded.

    On a hit the history stays in the host's memory, where it is only compared. Between the two engines of
    `NAME_uncached` the summary stays on the GPU.
    """
    encoder, scorer = (configs[model_name(ranker, part)] for part in (HISTORY_ENCODER, CANDIDATE_SCORER))
    roles = {name: entry.role for name, entry in signature_of(scorer).inputs.items()}
    sizes = {
        name: axis.bucket(axis.opt) for name, axis in signature_of(configs[model_name(ranker, WHOLE)]).axes.items()
    }
    history = sum(_input_bytes(encoder, sizes).values())
    inputs = _input_bytes(scorer, sizes)
    summary = sum(count for name, count in inputs.items() if roles[name] == "summary")
    rest = sum(inputs.values()) - summary
    scores = sum(_bytes(entry, signature_of(scorer).outputs[entry.name].axes, sizes) for entry in scorer.output)
    return [
        Transfers(f"{ranker}, hit", 0, 0, summary, rest, scores),
        Transfers(f"{ranker}, miss", history, summary, summary, rest, scores),
        Transfers(model_name(ranker, UNCACHED), history, 0, 0, rest, scores),
    ]


def _input_bytes(config: Any, sizes: Mapping[str, int]) -> dict[str, int]:
    axes = {name: entry.axes for name, entry in signature_of(config).inputs.items()}
    return {entry.name: _bytes(entry, axes[entry.name], sizes) for entry in config.input}


def _bytes(entry: Any, axes: Sequence[str | int], sizes: Mapping[str, int]) -> int:
    kind = model_config_pb2.DataType.Name(entry.data_type).removeprefix("TYPE_")
    elements = math.prod(Size.parse(axis).at(sizes) for axis in axes)
    return elements * np.dtype(triton_to_np_dtype(kind)).itemsize


PAGE = """# What crosses PCIe

Bytes of one request of one user, at the sizes that the axes are tuned for, with the committed configs in float32; in
16 bits a summary has half of them. Written by `python -m tests.docs.transfers`; a test compares it with the configs.

{}
"""


def transfer_table(configs: Configs) -> str:
    """The transfers of every ranker that has a whole set of models, as a Markdown table."""
    suffix = f"_{WHOLE}"
    rankers = [name.removesuffix(suffix) for name in configs if name.endswith(suffix)]
    return markdown_table(COLUMNS, (each.cells for ranker in rankers for each in transfers(configs, ranker)))


def transfer_page() -> str:
    """`docs/gpu_transfers.md`, of the committed configs."""
    return PAGE.format(transfer_table(configs_of(ROOT / DEFAULT_FOLDER, named_config_file(TENSORRT_CONFIG))))


if __name__ == "__main__":
    write_text(ROOT / "docs" / "gpu_transfers.md", transfer_page())
