from __future__ import annotations

import struct

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from cleave.serving.summary.summary_format import SummaryFormat, TensorFormat
from cleave.serving.summary.wire_format import KeptSummary, UnusableValueError, kept_from_value, value_from_kept
from tests.serving.summary.summaries import BUILD, FORMAT, OTHER_BUILD, USER_INPUTS, history, summary_of

HEADER_BYTES = 88
KEPT = KeptSummary(summary_of(history([3, 4], padded_to=5)), USER_INPUTS.digest(history([3, 4])), 12.5)
VALUE = value_from_kept(KEPT, BUILD)


def resealed(value: bytes) -> bytes:
    """With the checksum of what it says now, as another program could write it."""
    return value[:8] + struct.pack("<Q", xxh3_64_intdigest(value[16:])) + value[16:]


def flaw_of(value: bytes, build: bytes = BUILD, summary_format: SummaryFormat = FORMAT) -> str:
    with pytest.raises(UnusableValueError, match=r"kept summary: .*; it is encoded anew") as caught:
        kept_from_value(value, build, summary_format)
    return caught.value.flaw


def test_a_value_is_read_as_it_was_kept() -> None:
    read = kept_from_value(VALUE, BUILD, FORMAT)
    assert (read.digest, read.encoded_at) == (KEPT.digest, KEPT.encoded_at)
    assert read.tensors.keys() == KEPT.tensors.keys()
    for name, tensor in KEPT.tensors.items():
        np.testing.assert_array_equal(read.tensors[name], tensor)
        assert read.tensors[name].dtype == tensor.dtype


def test_behind_the_header_is_plain_safetensors() -> None:
    tensors = safetensors.numpy.load(VALUE[HEADER_BYTES:])
    np.testing.assert_array_equal(tensors["sums"], KEPT.tensors["sums"])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint8", "int32", "int64", "bool"])
def test_every_type_of_summary(dtype: str) -> None:
    tensor = np.arange(6).reshape(2, 3).astype(dtype)
    summary_format = SummaryFormat({"kept": TensorFormat(np.dtype(dtype), (2, -1))})
    value = value_from_kept(KeptSummary({"kept": tensor}, KEPT.digest, 0.0), BUILD)
    np.testing.assert_array_equal(kept_from_value(value, BUILD, summary_format).tensors["kept"], tensor)


@given(st.integers(0, len(VALUE) - 1), st.integers(1, 255))
def test_no_changed_byte_goes_unnoticed(place: int, change: int) -> None:
    damaged = bytearray(VALUE)
    damaged[place] ^= change
    assert flaw_of(bytes(damaged)) in ("corrupt", "foreign")


@given(st.integers(0, len(VALUE) - 1))
def test_a_cut_value_is_refused(length: int) -> None:
    assert flaw_of(VALUE[:length]) == ("corrupt" if length >= 4 else "foreign")


@given(st.binary(max_size=200))
def test_the_value_of_another_program_is_refused(value: bytes) -> None:
    assert flaw_of(value) == ("corrupt" if value.startswith(VALUE[:4]) else "foreign")


def test_another_format_is_foreign() -> None:
    assert flaw_of(VALUE[:4] + struct.pack("<I", 2) + VALUE[8:]) == "foreign"


def test_another_build_is_foreign() -> None:
    assert flaw_of(VALUE, build=OTHER_BUILD) == "foreign"


def test_other_tensors_are_foreign() -> None:
    for tensors in (
        {"sums": KEPT.tensors["sums"]},
        {**KEPT.tensors, "more": np.zeros(1, np.float32)},
        {**KEPT.tensors, "sums": np.zeros(3, np.float32)},
        {**KEPT.tensors, "sums": np.zeros((2, 1), np.float32)},
        {**KEPT.tensors, "sums": np.zeros(2, np.float64)},
    ):
        assert flaw_of(value_from_kept(KeptSummary(tensors, KEPT.digest, 0.0), BUILD)) == "foreign"


@pytest.mark.parametrize(
    "header",
    [
        b"{",
        b"[]",
        b'{"sums": 1}',
        b'{"sums": {"dtype": "F32", "shape": [2], "data_offsets": [0, 800]}}',
        b'{"sums": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}}',
        b'{"sums": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}',
        b'{"sums": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 8]}}',
        b'{"sums": {"dtype": "F31", "shape": [2], "data_offsets": [0, 8]}}',
        b'{"sums": {"dtype": "F32", "shape": "2", "data_offsets": [0, 8]}}',
    ],
)
def test_safetensors_that_lie_are_refused(header: bytes) -> None:
    for length in (len(header), 2**60):
        body = struct.pack("<Q", length) + header + bytes(8)
        assert flaw_of(resealed(VALUE[:HEADER_BYTES] + body)) in ("corrupt", "foreign")
