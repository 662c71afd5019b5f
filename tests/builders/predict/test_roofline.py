"""Predictions against times worked out by hand on a machine of round figures."""

from __future__ import annotations

import dataclasses

import pytest

from cleave.builders.cost.kernels import Kernel, KernelSet
from cleave.builders.cut.cut import Cut
from cleave.builders.onnx_graph.sizes import Size
from cleave.builders.predict.arms import PER_CANDIDATE_ROWS, TRITON_ARMS, flops_of_arms, network_bytes
from cleave.builders.predict.processors import GPUS, Processor, ProcessorError, gpu
from cleave.builders.predict.roofline import Time, predict, time_of_part
from tests.zoo_cuts import zoo_cut

SIZES = {"history": 6, "candidates": 5}
ROUND = Processor("round", {"float32": 1e6, "float16": 4e6}, 1e3, 1e4, 1e5, 7.0, "this test")
N = Size.of("n")


def kernel(matrix: int = 0, vector: int = 0, floats: int = 0, other: int = 0, weights: int = 0) -> Kernel:
    of_matrices, of_vectors, elements, others = (Size.of(count) * N for count in (matrix, vector, floats, other))
    return Kernel(("node",), of_matrices, of_vectors, elements, others, weights)


def part(*kernels: Kernel) -> KernelSet:
    return KernelSet(kernels, kernels, (), 0)


def test_a_kernel_takes_what_bounds_it_and_its_launch() -> None:
    bound_by_flops = kernel(matrix=500, vector=1, floats=1)
    bound_by_bytes = kernel(matrix=500, floats=10, other=10, weights=100)
    time = time_of_part(part(bound_by_flops, bound_by_bytes), ROUND, "float32", {"n": 10})
    assert time.compute_ms == pytest.approx(5000 / 1e6 * 1e3 + 10 / 1e3 * 1e3)
    assert time.memory_ms == pytest.approx((4 * 10 * 10 + 10 * 10 + 4 * 100) / 1e4 * 1e3)
    assert time.launch_ms == pytest.approx(2 * 7e-3)
    assert time.total_ms == pytest.approx(time.limit_ms + time.launch_ms)


def test_half_precision_halves_bytes_of_floats_and_raises_the_peak() -> None:
    halved = part(kernel(floats=10, other=10, weights=100), kernel(matrix=500))
    time = time_of_part(halved, ROUND, "float16", {"n": 10})
    assert time.memory_ms == pytest.approx((2 * 100 + 100 + 200) / 1e4 * 1e3)
    assert time.compute_ms == pytest.approx(5000 / 4e6 * 1e3)


def test_arms_are_made_of_the_parts(small_cut: Cut) -> None:
    arms = predict(small_cut, ROUND, SIZES)
    at = {"batch": 1, **SIZES}
    encoder, scorer, whole = (
        time_of_part(small_cut.parts[part].kernels, ROUND, "float32", at)
        for part in ("history_encoder", "candidate_scorer", "whole")
    )
    assert arms["single_pass"].time.compute_ms == pytest.approx(whole.compute_ms)
    assert arms["uncached"].time.memory_ms == pytest.approx(encoder.memory_ms + scorer.memory_ms)
    assert arms["cached"].time.launch_ms == pytest.approx(scorer.launch_ms)
    assert arms["cached"].flops == flops_of_arms(small_cut, SIZES)["cached"]
    assert arms["cached"].kernels == len(small_cut.parts["candidate_scorer"].kernels.spelled_out)


def test_the_history_is_repeated_per_candidate_in_calls_of_so_many_rows(small_cut: Cut) -> None:
    many = {"history": 6, "candidates": 2 * PER_CANDIDATE_ROWS + 3}
    arm = predict(small_cut, ROUND, {**many, "candidates": 12})["per_candidate"]
    assert arm.kernels == len(small_cut.parts["whole"].kernels.spelled_out)
    arm = predict(small_cut, ROUND, many)["per_candidate"]
    assert arm.kernels == 3 * len(small_cut.parts["whole"].kernels.spelled_out)
    rows = {"history": 6, "candidates": 1, "batch": PER_CANDIDATE_ROWS}
    last = {**rows, "batch": 3}
    whole = small_cut.parts["whole"].kernels
    full, rest = (time_of_part(whole, ROUND, "float32", at) for at in (rows, last))
    assert arm.time.memory_ms == pytest.approx(2 * full.memory_ms + rest.memory_ms)


def test_bytes_on_the_network_and_over_the_link(small_cut: Cut) -> None:
    user, request, pairs = 6 * 8 + 6 * 4 * 4 + 4 * 4, 4 * 4, 5 * 8 + 5 * 4 * 4 + 5 * 4
    sent = {name: network_bytes(arm, small_cut.ranker, SIZES) for name, arm in TRITON_ARMS.items()}
    assert sent == {
        "per_candidate": 5 * (user + request) + pairs,
        "single_pass": user + request + pairs,
        "uncached": user + request + pairs,
        "cached": request + pairs,
    }
    arms = predict(small_cut, ROUND, SIZES)
    assert arms["uncached"].time.link_ms == pytest.approx(sent["uncached"] / 1e5 * 1e3)
    assert arms["cached"].time.link_ms == pytest.approx((sent["cached"] + 106) / 1e5 * 1e3)
    assert (arms["single_pass"].summary_bytes, arms["cached"].summary_bytes) == (0, 106)
    host = predict(small_cut, dataclasses.replace(ROUND, link_bytes_per_s=None), SIZES)
    assert host["cached"].time.link_ms == 0


def test_throughput_is_of_the_busier_of_device_and_link(small_cut: Cut) -> None:
    arm = predict(small_cut, ROUND, SIZES)["cached"]
    computing = dataclasses.replace(arm, time=Time(compute_ms=3, memory_ms=1, launch_ms=5, link_ms=2))
    assert (computing.latency_ms, computing.busy_ms, computing.candidates_per_s) == (11, 4, 1250)
    linked = dataclasses.replace(arm, time=Time(compute_ms=1, link_ms=10))
    assert (linked.latency_ms, linked.candidates_per_s) == (11, 500)


def test_what_is_known_of_gpus() -> None:
    """Half precision is twice TF32 on all of them, unless a sparse figure was taken for a dense one."""
    assert set(GPUS) == {"A10", "L4", "L40S", "A100", "H100"}
    for machine in GPUS.values():
        peaks = machine.matrix_flops_per_s
        assert peaks["float16"] == pytest.approx(2 * peaks["tf32"], rel=0.02)
        assert peaks["float32"] < peaks["tf32"]
        assert machine.precision == "tf32"
        assert "data sheet" in machine.source
        assert not machine.measured


def test_half_precision_has_a_kernel_for_attention() -> None:
    """Its scores, an element for every head, candidate and event, are not written to memory."""
    cut = zoo_cut("append")
    sizes = {"history": 1024, "candidates": 512}
    (spelled_out, fused) = (predict(cut, GPUS["H100"], sizes, precision)["cached"] for precision in ("tf32", "float16"))
    assert fused.kernels == spelled_out.kernels - 2 * 2
    scores = 2 * 1024 * 512
    assert spelled_out.activation_bytes - 2 * fused.activation_bytes == pytest.approx(2 * 4 * scores * 4, rel=0.01)
    assert fused.flops == spelled_out.flops


def test_unknown_machines_and_precisions(small_cut: Cut) -> None:
    assert gpu("h100") is GPUS["H100"]
    with pytest.raises(ProcessorError, match=r"--gpu: expected one of A10, L4, L40S, A100, H100, got 'B200'"):
        gpu("B200")
    with pytest.raises(ProcessorError, match=r"--precision: round: expected one of float32, float16, got 'fp8'"):
        predict(small_cut, ROUND, SIZES, "fp8")


@pytest.mark.parametrize("name", ["append", "concat", "hstu", "vista", "lime_mha", "lime_xor"])
def test_kernels_do_the_work_of_the_nodes(name: str) -> None:
    """All FLOPs are some kernel's, but for those of weights alone, which an engine does when it is built."""
    cut = zoo_cut(name)
    sizes = {"batch": 1, **cut.ranker.sizes("opt")}
    counted = {
        part: sum(
            (kernel.matrix_flops + kernel.vector_flops).at(sizes) for kernel in cut.parts[part].kernels.spelled_out
        )
        for part in cut.parts
    }
    arms = flops_of_arms(cut, sizes)
    assert counted["whole"] == pytest.approx(arms["single_pass"], rel=0.02)
    assert counted["candidate_scorer"] == pytest.approx(arms["cached"], rel=0.02)
    assert not any(part.kernels.uncounted for part in cut.parts.values())


def test_at_the_sizes_of_the_paper_amortization_pays_on_every_gpu() -> None:
    cut = zoo_cut("append")
    for machine in GPUS.values():
        arms = predict(cut, machine, {"history": 1024, "candidates": 512})
        assert arms["per_candidate"].latency_ms > 10 * arms["single_pass"].latency_ms
