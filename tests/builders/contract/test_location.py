from __future__ import annotations

from pathlib import Path

import pytest

from cleave.builders.contract.location import SizesError, parse_sizes, repository_folder


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("layers=3", {"layers": 3}),
        ("layers=3, width = 128,dropout=0.2,", {"layers": 3, "width": 128, "dropout": 0.2}),
    ],
)
def test_sizes_as_text(text: str, expected: dict[str, float]) -> None:
    assert parse_sizes(text) == expected
    assert [type(value) for value in parse_sizes(text).values()] == [type(value) for value in expected.values()]


@pytest.mark.parametrize("text", ["layers", "layers=", "layers=three", "layers=3;width=4"])
def test_sizes_that_are_no_numbers(text: str) -> None:
    with pytest.raises(SizesError, match="--size: expected name=number pairs like layers=3,width=128, got"):
        parse_sizes(text)


def test_models_of_other_sizes_have_folders_of_their_own() -> None:
    assert repository_folder("append", {}) == Path("model_repository")
    assert repository_folder("append", {"width": 128, "layers": 3}) == Path(
        ".cleave/repositories/append-layers3-width128"
    )
