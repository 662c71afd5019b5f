"""`cleave bench --claims`: measures what the papers claim of their models."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from tqdm import tqdm

from cleave.builders.cut.cut import Cut, cut_ranker
from cleave.builders.cut.item_table import id_tensor, with_item_table
from cleave.builders.cut.summary_dtype import with_summary_dtype
from cleave.builders.load import load_ranker
from cleave.builders.onnx_graph.random_inputs import Arrays, draw_inputs
from cleave.builders.onnx_graph.session import OnnxRunner
from cleave.builders.repository import write_repository
from cleave.builders.training.build_auc import aucs_on_test_part
from cleave.builders.zoo import ZOO
from cleave.clients import RankerClient
from cleave.perf.arms import request_from_arrays
from cleave.perf.claims.claim import Claim
from cleave.perf.run.server import server_with_store
from cleave.perf.timing import round_medians_ms

MICRO_BATCHES = (512, 1_024, 2_048, 4_096, 8_192)
WIDTH = 64
"""The width of every model that is timed, whatever its trained weights have: costs are compared at equal width."""
CALLS = 9
"""The number of calls whose median is reported."""
MIB = 1 << 20
CATALOGUE_ITEMS = 1682
"""Rows of the item table: as many as MovieLens-100k has films."""


def check_claims() -> Iterator[Claim]:
    """Each claim, as soon as it is measured."""
    checks: Sequence[Callable[[], Claim]] = (
        _vista_scoring,
        _vista_encoding_time,
        _vista_encoding_memory,
        _vista_int8_bytes,
        _int8_auc,
        _lime_slope,
        _lime_xor_encoding,
        _micro_batches_exact,
    )
    with tqdm(checks, file=sys.stderr, leave=False, disable=None) as progress:
        for check in progress:
            progress.set_description(check.__name__.strip("_"))
            yield check()


@cache
def _cut(name: str, **sizes: int) -> Cut:
    cut = cut_ranker(load_ranker(name, sizes))
    return cut


def _inputs(cut: Cut, history: int, candidates: int) -> Arrays:
    sizes = {"history": history, "candidates": candidates}
    return draw_inputs(cut.ranker, sizes, 1, np.random.default_rng(0))


def _medians(calls: Mapping[int, Callable[[], object]], count: int = CALLS) -> dict[int, float]:
    """The median milliseconds of each call: they take turns, after a warm-up of each."""
    for call in calls.values():
        call()
    return {key: float(np.median(times)) for key, times in round_medians_ms(calls, count).items()}


def _at(times: Mapping[int, float], of: str) -> str:
    return ", ".join(f"{value:,.2f} ms at {of} = {key:,}" for key, value in times.items())


def _vista_scoring() -> Claim:
    cut = _cut("vista", width=WIDTH)
    encoder, scorer = OnnxRunner(cut.history_encoder), OnnxRunner(cut.candidate_scorer)
    requests = {n: _inputs(cut, n, 512) for n in (1_000, 1_000_000)}
    kept = {n: {**inputs, **encoder(inputs)} for n, inputs in requests.items()}
    times = _medians({n: partial(scorer, inputs) for n, inputs in kept.items()}, 401)
    short, long = times.values()
    difference = abs(long / short - 1)
    return Claim(
        "VISTA, summary kept, m = 512: change of the score time from 1,000 to 1,000,000 events",
        difference, 0.05, difference < 0.05, _at(times, "n"),
    )  # fmt: skip


def _vista_encoding_time() -> Claim:
    cut = _cut("vista", width=WIDTH)
    encoder = OnnxRunner(cut.history_encoder)
    requests = {n: _inputs(cut, n, 1) for n in (100_000, 1_000_000)}
    times = _medians({n: partial(encoder, inputs) for n, inputs in requests.items()}, 3)
    ratio = times[1_000_000] / times[100_000]
    return Claim("VISTA: time to encode 1,000,000 events over 100,000", ratio, 11, ratio < 11, _at(times, "n"))


def _vista_encoding_memory() -> Claim:
    cut = _cut("vista", width=WIDTH)
    with TemporaryDirectory() as folder:
        file = Path(folder, "encoder.onnx")
        file.write_bytes(cut.history_encoder.SerializeToString())
        context = multiprocessing.get_context("spawn")
        with context.Pool(1) as pool:
            idle, peak = pool.apply(_peak_memory, (file, _inputs(cut, 1_000_000, 1)))
    return Claim(
        "VISTA: memory to encode 1,000,000 events, MiB above idle", (peak - idle) / MIB, 4096,
        peak - idle < 4096 * MIB, f"{idle / MIB:,.0f} MiB idle, {peak / MIB:,.0f} MiB at the peak",
    )  # fmt: skip


def _peak_memory(file: Path, inputs: Arrays) -> tuple[int, int]:
    """Bytes in use before and at the peak of one run, in a process of its own."""
    encoder = OnnxRunner(onnx.load(file))
    idle = _memory("VmRSS")
    encoder(inputs)
    return idle, _memory("VmHWM")


def _memory(field: str) -> int:
    """Bytes of this process by /proc: `getrusage` would count the peak of the process that started this one."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def _vista_int8_bytes() -> Claim:
    cut = with_summary_dtype(_cut("vista", seeds=128, width=WIDTH), "int8")
    count = cut.summary_bytes(cut.ranker.sizes("opt"))
    names = ", ".join(f"{tensor.name} {tensor.dtype}" for tensor in cut.summary)
    return Claim(f"VISTA: bytes of a summary of 128 tokens of width {WIDTH} in int8", count, 9216, count <= 9216, names)


def _int8_auc() -> Claim:
    """The change is measured with the trained weights, as the accuracy of random ones says nothing."""
    changes = {}
    for name in ZOO:
        cut = _cut(name)
        before, after = aucs_on_test_part(cut, with_summary_dtype(cut, "int8"))
        changes[name] = after - before
    worst = max(map(abs, changes.values()))
    details = ", ".join(f"{name} {change:+.5f}" for name, change in changes.items())
    return Claim("int8 summaries: largest change of test AUC on MovieLens-100k", worst, 0.001, worst <= 0.001, details)


def _lime_slope() -> Claim:
    slopes = {}
    for name in ("lime_xor", "append"):
        cut = _cut(name, width=WIDTH)
        if name == "lime_xor":
            cut = with_item_table(cut, _catalogue(cut))
        encoder, scorer = OnnxRunner(cut.history_encoder), OnnxRunner(cut.candidate_scorer)
        calls = {}
        for m in (1_024, 32_768):
            inputs = _inputs(cut, 1_024, m)
            inputs |= {key: values[None, np.arange(m) % CATALOGUE_ITEMS] for key, values in _catalogue(cut).items()}
            calls[m] = partial(scorer, {**inputs, **encoder(inputs)})
        times = _medians(calls, 5)
        slopes[name] = (times[32_768] - times[1_024]) / (32_768 - 1_024) * 1e6
    share = slopes["lime_xor"] / slopes["append"]
    details = ", ".join(f"{name} {slope:,.0f} ns a candidate" for name, slope in slopes.items())
    return Claim(
        "LIME with the item table, n = 1024: cost of one more candidate over append's", share, 1 / 20,
        share <= 1 / 20, details,
    )  # fmt: skip


def _catalogue(cut: Cut) -> Arrays:
    """Random items, each id once."""
    sizes = {axis.name: axis.min for axis in cut.ranker.axes} | {cut.ranker.candidate_axis.name: CATALOGUE_ITEMS}
    inputs = draw_inputs(cut.ranker, sizes, 1, np.random.default_rng(1))
    items = {tensor.name: inputs[tensor.name][0] for tensor in cut.ranker.candidate}
    return items | {id_tensor(cut.ranker).name: np.arange(1, CATALOGUE_ITEMS + 1)}


def _lime_xor_encoding() -> Claim:
    cut = _cut("lime_xor", width=WIDTH)
    encoder = OnnxRunner(cut.history_encoder)
    requests = {2**power: _inputs(cut, 2**power, 1) for power in (10, 12, 14, 16)}
    times = _medians({n: partial(encoder, inputs) for n, inputs in requests.items()})
    counts = np.log(list(times))
    slope = float(np.polyfit(counts, np.log(list(times.values())), 1)[0])
    return Claim(
        "LIME-XOR: exponent of the encoding time in n, from 2^10 to 2^16", slope, 1.1, slope <= 1.1, _at(times, "n")
    )


def _micro_batches_exact() -> Claim:
    """M-FALCON: 16,384 candidates in micro-batches against one kept summary, through the server, and what each costs.

    Twice as many as one request takes, so that even the largest micro-batch is not alone.
    """
    cut = _cut("hstu", width=WIDTH)
    axis = cut.ranker.candidate_axis
    total = 2 * axis.max
    inputs = _inputs(cut, 1_024, total)
    one_pass = OnnxRunner(cut.candidate_scorer)({**inputs, **OnnxRunner(cut.history_encoder)(inputs)})
    expected = one_pass[cut.ranker.output[0].name][0]
    asked = request_from_arrays(cut.ranker, {name: array[0] for name, array in inputs.items()})
    with TemporaryDirectory() as folder, ExitStack() as stack:
        write_repository(cut, Path(folder), "cleave bench --claims")
        server = stack.enter_context(server_with_store(Path(folder), cut.ranker.name))
        calls = {}
        for size in MICRO_BATCHES:
            client = stack.enter_context(RankerClient(server.grpc_url, cut.ranker.name, size))
            calls[size] = partial(
                client.rank, asked.candidates, user_id=asked.user_id, history=asked.history, request=asked.request
            )
        difference = max(float(np.abs(call().scores - expected).max()) for call in calls.values())
        times = _medians(calls)
    return Claim(
        f"HSTU, m = {total:,}: largest difference between served micro-batches and one pass in process",
        difference, 1e-5, difference <= 1e-5, _at(times, "micro-batch"),
    )  # fmt: skip
