from __future__ import annotations

import numpy as np

from cleave.serving.summary.summary_format import SummaryFormat, TensorFormat
from tests.serving.summary.summaries import FORMAT


def test_it_is_read_from_the_outputs_of_the_cache() -> None:
    outputs = [
        {"name": "sums", "data_type": "TYPE_FP32", "dims": ["2"]},
        {"name": "mask", "data_type": "TYPE_BOOL", "dims": ["1", "-1"]},
        {"name": "summary_status", "data_type": "TYPE_STRING", "dims": ["1"]},
    ]
    assert SummaryFormat.from_config({"name": "toy_summary_cache", "output": outputs}) == FORMAT


def test_a_summary_fits_by_names_types_and_fixed_sizes() -> None:
    tensors = {"sums": np.zeros(2, np.float32), "mask": np.zeros((1, 7), bool)}
    assert FORMAT.fits(tensors)
    assert not FORMAT.fits({"sums": tensors["sums"]})
    assert not FORMAT.fits(tensors | {"mask": np.zeros((2, 7), bool)})
    assert not TensorFormat(np.dtype("float32"), (2,)).fits(np.dtype("float16"), (2,))
