"""Narrows a cut: graphs that compute in 16 bits, and a summary of fewer bytes."""

from __future__ import annotations

from cleave.builders.contract.dtypes import SUMMARY_DTYPES
from cleave.builders.cut.cut import Cut
from cleave.builders.cut.summary_dtype import with_summary_dtype
from cleave.builders.onnx_graph.edit import applied
from cleave.builders.passes import in_precision
from cleave.builders.passes.precision import check_precision
from cleave.builders.passes.rounding import rounded


def narrowed(cut: Cut, precision: str, summary_dtype: str | None = None) -> Cut:
    """A cut in this precision and with this type of summary; itself where both are float32.

    Args:
        summary_dtype: by default the precision, if summaries may be kept in it, and else float16. A summary of bfloat16
            is kept as float16, which has as many bytes and three more bits of each number: numpy, and so the summary
            cache, has no bfloat16.

    Raises:
        PrecisionError, SummaryDtypeError: an unknown precision or type.
    """
    default = precision if precision in SUMMARY_DTYPES else "float16"
    return with_summary_dtype(cut_with_precision(cut, precision), summary_dtype or default)


def cut_with_precision(cut: Cut, precision: str) -> Cut:
    """The cut whose graphs compute in `precision`, with constants folded before that; the summary keeps its type.

    Raises:
        PrecisionError: an unknown precision.
    """
    check_precision(precision)
    if precision == "float32":
        return cut
    scores = [tensor.name for tensor in cut.ranker.output]
    return cut.with_graphs(
        {name: applied(in_precision(precision, part.probe, scores), part.graph) for name, part in cut.parts.items()}
    )


def rounded_cut(cut: Cut) -> Cut:
    """The cut as a CPU measures it: every result of 16 bits computed in float32 and rounded, as `rounded` says."""
    return cut.with_graphs({name: rounded(part.graph) for name, part in cut.parts.items()})
