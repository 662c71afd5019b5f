"""Optimization profiles follow from the axes, and cover every size that is served."""

from __future__ import annotations

import math

import pytest

from builders.artifacts import artifacts_of
from builders.configs import MAX_BATCH_SIZE
from builders.profiles import OPT_BATCH, Profile, Range, profiles_of, ranges_of
from builders.sizes import Probe, Size
from builders.spec import BATCH, Axis
from builders.split import Cut
from builders.tensorrt_parts import MOST_ELEMENTS, TensorRTPart, max_batch_of, tensorrt_parts
from builders.zoo import ZOO
from tests.zoo_cuts import zoo_cut

AXES = [
    Axis("history", min=1, opt=256, max=4096),
    Axis("history", min=3, opt=200, max=5000),
    Axis("history", min=1, opt=4096, max=4096),
    Axis("history", min=40, opt=50, max=60),
    Axis("history", min=1, opt=1, max=2),
]


@pytest.mark.parametrize("axis", AXES, ids=str)
def test_ranges_cover_every_size_once_and_are_tuned_at_a_bucket(axis: Axis) -> None:
    ranges = ranges_of(axis)
    covered = [size for sizes in ranges for size in range(sizes.min, sizes.max + 1)]
    assert covered == list(range(axis.min, axis.max + 1))
    assert axis.opt in ranges[0]
    for sizes in ranges:
        assert sizes.opt in sizes
        assert sizes.opt in axis.buckets


def test_the_first_range_ends_with_the_bucket_that_holds_opt() -> None:
    assert ranges_of(AXES[0]) == (Range(1, 256, 256), Range(257, 4096, 4096))
    assert ranges_of(AXES[1]) == (Range(3, 256, 256), Range(257, 5000, 5000))
    assert ranges_of(AXES[2]) == (Range(1, 4096, 4096),)


def test_there_is_a_profile_for_every_combination_of_what_a_part_reads() -> None:
    cut = zoo_cut("append")
    numbers = {part.name: len(part.profiles) for part in tensorrt_parts(cut)}
    assert numbers == {"append_whole": 4, "append_history_encoder": 2, "append_candidate_scorer": 4}
    (encoder,) = (part for part in tensorrt_parts(cut) if part.name == "append_history_encoder")
    assert [profile.ranges for profile in encoder.profiles] == [
        {BATCH: Range(1, OPT_BATCH, encoder.max_batch), "history": sizes} for sizes in ranges_of(AXES[0])
    ]


def test_the_shapes_of_a_tensor_follow_from_its_dims() -> None:
    profile = Profile({BATCH: Range(1, 8, 64), "history": Range(1, 16, 32)})
    assert profile.shapes([BATCH, 3, "history + 2", "2*history"]) == ((1, 3, 3, 2), (8, 3, 18, 32), (64, 3, 34, 64))


@pytest.mark.parametrize("size", [Size.of(0), Size.of(7), Size.of("a"), Size.of(3) * Size.of("a") + Size.of("b")])
def test_a_size_is_read_as_it_is_written(size: Size) -> None:
    assert Size.parse(size.symbol) == size


def largest_tensor(part: TensorRTPart, probe: Probe, sizes: dict[str, int]) -> int:
    shapes = (probe.shape(name) for node in part.models[0].graph.node for name in node.output)
    return max(math.prod(size.at(sizes) for size in shape) for shape in shapes if shape is not None)


@pytest.mark.parametrize("name", ZOO)
def test_the_batch_is_as_large_as_the_longest_requests_allow(name: str) -> None:
    cut = zoo_cut(name)
    longest = cut.ranker.sizes("max")
    for part in tensorrt_parts(cut):
        probe = cut.whole_probe if part.name.endswith("_whole") else cut.analysis.probe
        at_limit, beyond = (largest_tensor(part, probe, {BATCH: n * part.max_batch, **longest}) for n in (1, 2))
        assert part.max_batch == 1 or at_limit <= MOST_ELEMENTS
        assert part.max_batch == MAX_BATCH_SIZE or beyond > MOST_ELEMENTS


def test_small_models_take_the_whole_batch(small_cut: Cut) -> None:
    for model in artifacts_of(small_cut).values():
        if model is not None:
            assert max_batch_of(model, small_cut.whole_probe, small_cut.ranker) == MAX_BATCH_SIZE
            for profile in profiles_of(model, small_cut.ranker.axes, 4):
                assert profile.ranges[BATCH] == Range(1, 4, 4)
