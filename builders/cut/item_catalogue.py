"""Reads and writes catalogues: parquet files with one row per item and one column per candidate input."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from cleave.builders.errors import BuilderError
from cleave.builders.onnx_graph.random_inputs import AnyArray, Arrays
from cleave.builders.spec import Ranker, Tensor


class CatalogueError(BuilderError):
    """A catalogue that does not fit the ranker."""


def read_catalogue(file: Path, ranker: Ranker, id_name: str) -> Arrays:
    """Every candidate input of a ranker for the items of a catalogue, `[items, ...]`.

    Args:
        file: parquet; a column of numbers, or of lists of one length, for each candidate input. Others are ignored.
        id_name: the candidate input that holds the ids.

    Raises:
        CatalogueError: no such file, a column that is missing or does not fit, or ids that are negative or repeated.
    """
    where = f"catalogue {str(file)!r}"
    try:
        frame = pl.read_parquet(file)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise CatalogueError(f"{where}: cannot be read as parquet: {error}; give a parquet file") from error
    if frame.is_empty():
        raise CatalogueError(f"{where}: expected at least one item, got none; fill it")
    items = {tensor.name: _column(frame, tensor, where) for tensor in ranker.candidate}
    ids = items[id_name]
    if ids.min() < 0:
        raise CatalogueError(f"{where}: {id_name}: expected ids from 0, got {ids.min()}; number the items from 0")
    distinct, counts = np.unique(ids, return_counts=True)
    if len(distinct) < len(ids):
        twice = distinct[counts > 1][0]
        raise CatalogueError(f"{where}: {id_name}: expected each id once, got {twice} again; remove the duplicates")
    return items


def _column(frame: pl.DataFrame, tensor: Tensor, where: str) -> AnyArray:
    if tensor.name not in frame.columns:
        raise CatalogueError(
            f"{where}: expected a column {tensor.name!r}, got {', '.join(frame.columns)}; name the columns after the "
            "candidate inputs"
        )
    column = frame[tensor.name]
    shape = tensor.axes[1:]
    if not all(isinstance(axis, int) for axis in shape):
        raise CatalogueError(
            f"{where}: {tensor.name!r} has another variable axis besides the candidates, expected fixed sizes; such "
            "an input has no row per item"
        )
    try:
        values = np.array(column.to_list()) if shape else column.to_numpy()
        values = values.reshape(len(frame), *shape)
    except ValueError:
        raise CatalogueError(
            f"{where}: column {tensor.name!r}: expected {list(shape)} numbers an item, got {column.dtype} of other "
            "lengths; write lists of that length"
        ) from None
    if column.null_count() or (values.dtype.kind == "f" and not np.isfinite(values).all()):
        raise CatalogueError(f"{where}: column {tensor.name!r}: expected a number in every row, got null or NaN; fill")
    if not np.can_cast(values.dtype, tensor.numpy_dtype, "same_kind") and not _fits(values, tensor):
        raise CatalogueError(
            f"{where}: column {tensor.name!r}: expected {tensor.dtype}, got {column.dtype}; convert it"
        )
    return values.astype(tensor.numpy_dtype)


def _fits(values: AnyArray, tensor: Tensor) -> bool:
    """Whether a column holds what an input takes. Whole numbers may stand for floats, as genres of 0 and 1 do."""
    return values.dtype.kind in "iub" and tensor.dtype.startswith("float")


def write_catalogue(file: Path, items: Mapping[str, AnyArray]) -> None:
    """Write items, `[items, ...]` by candidate input, so that `read_catalogue` reads them again."""
    file.parent.mkdir(parents=True, exist_ok=True)
    columns = {name: pl.Series(name, values.tolist() if values.ndim > 1 else values) for name, values in items.items()}
    pl.DataFrame(columns).write_parquet(file)
