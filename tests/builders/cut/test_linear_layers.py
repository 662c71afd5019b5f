"""Linear layers of concatenated features are taken apart: the same scores, and never more work for a request."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from cleave.builders.cost.flops import Flops
from cleave.builders.cut.cut import Cut, split
from cleave.builders.cut.linear_layers import split_linear_layers
from cleave.builders.onnx_graph.operators import operator
from tests.builders.graphs import WIDTH, analyzed, assert_equal_graphs, assert_parts_equal_whole, graph, ranker

UNITS = 8
OPT = ranker().sizes("opt")

PAIRS = """
    n = Shape<start=1,end=2>(events)
    m = Shape<start=1,end=2>(features)
    b = Shape<start=0,end=1>(events)
    pairs = Concat<axis=0>(b, m, n, four)
    user = Unsqueeze(events, one)
    item = Unsqueeze(features, two)
"""
"""The user's events as `user` [B, 1, N, 4] and the candidates as `item` [B, M, 1, 4]; `pairs` is the shape of both."""
COPIES = "h = Expand(user, pairs) c = Expand(item, pairs)"
SCORES = """
    active = Tanh(layer)
    summed = ReduceSum<keepdims=0>(active, two)
    scores = ReduceSum<keepdims=0>(summed, last)
"""


def layer_of(features: str, width: int, layer: str = "product = MatMul(x, kernel) layer = Add(product, bias)") -> Cut:
    """The cut of a layer of `x` [B, M, N, width], whose parts are equal to the whole."""
    rng = np.random.default_rng(7)
    whole = graph(
        PAIRS + features + layer + SCORES,
        four=np.array([WIDTH]),
        kernel=rng.standard_normal((width, UNITS)).astype(np.float32),
        bias=rng.standard_normal(UNITS).astype(np.float32),
        gain=rng.standard_normal(WIDTH).astype(np.float32),
        third=np.array(3, np.float32),
        second=rng.standard_normal((UNITS + WIDTH, UNITS)).astype(np.float32),
    )
    cut = split(whole, ranker())
    assert_parts_equal_whole(cut)
    assert_equal_graphs(whole, cut.analysis.model)
    return cut


def products(model: onnx.ModelProto) -> int:
    return sum(operator(node.op_type).is_product for node in model.graph.node)


def products_of_pairs(cut: Cut) -> list[int]:
    """The FLOPs at `opt` of each product that has a row for every pair."""
    probe = cut.analysis.probe
    return [
        Flops.of([node], probe).at(OPT)
        for node in cut.analysis.model.graph.node
        if operator(node.op_type).is_product
        and {"history", "candidates"} <= {size.axis for size in probe.shape(node.output[0]) or ()}
    ]


def test_the_layer_of_din_is_one_of_the_user_one_of_the_candidate_and_one_of_their_product() -> None:
    cut = layer_of(f"{COPIES} d = Sub(h, c) p = Mul(h, c) x = Concat<axis=-1>(h, c, d, p)", 4 * WIDTH)
    assert products(cut.history_encoder) == 1
    assert products(cut.candidate_scorer) == 2
    assert products_of_pairs(cut) == [2 * WIDTH * UNITS * OPT["history"] * OPT["candidates"]]  # of h * c alone


WITHOUT_PRODUCTS_OF_PAIRS = {
    "concatenated": ("x = Concat<axis=3>(h, c)", 2),
    "subtracted": ("d = Sub(h, c) x = Concat<axis=-1>(h, c, d)", 3),
    "added": ("x = Add(h, c)", 1),
    "scaled": ("s = Mul(c, gain) t = Div(h, third) u = Neg(h) x = Concat<axis=-1>(s, t, u)", 3),
    "shifted": ("s = Add(gain, c) t = Sub(gain, h) x = Concat<axis=-1>(s, t)", 2),
    "nested": ("a = Concat<axis=-1>(h, c) s = Concat<axis=-1>(c, h) d = Sub(a, s) x = Concat<axis=-1>(d, h)", 3),
    "turned": ("j = Concat<axis=-1>(h, c) t = Transpose<perm=[0,2,1,3]>(j) x = Transpose<perm=[0,2,1,3]>(t)", 2),
}


@pytest.mark.parametrize("way", WITHOUT_PRODUCTS_OF_PAIRS)
def test_no_product_is_left_for_the_pair(way: str) -> None:
    features, num_blocks = WITHOUT_PRODUCTS_OF_PAIRS[way]
    cut = layer_of(f"{COPIES} {features}", num_blocks * WIDTH)
    assert products_of_pairs(cut) == []
    assert (products(cut.history_encoder), products(cut.candidate_scorer)) == (1, 1)


def test_a_bias_is_the_users() -> None:
    cut = layer_of(f"{COPIES} x = Concat<axis=-1>(h, c)", 2 * WIDTH)
    assert "Add" in {node.op_type for node in cut.history_encoder.graph.node}


def test_a_layer_that_is_read_before_its_bias_keeps_both() -> None:
    layer = "product = MatMul(x, kernel) sum = Add(product, bias) layer = Mul(sum, product)"
    cut = layer_of(f"{COPIES} x = Concat<axis=-1>(h, c)", 2 * WIDTH, layer)
    assert products_of_pairs(cut) == []


def test_a_layer_that_reads_another_keeps_its_bias() -> None:
    layer = """
        product = MatMul(x, kernel)
        inner = Add(product, bias)
        both = Concat<axis=-1>(inner, h)
        layer = MatMul(both, second)
    """
    cut = layer_of(f"{COPIES} x = Concat<axis=-1>(h, c)", 2 * WIDTH, layer)
    assert len(products_of_pairs(cut)) == 1


def test_a_layer_of_a_matrix_is_taken_apart() -> None:
    """Gemm: the request and the user, in one vector each."""
    weights = np.random.default_rng(0).standard_normal((UNITS, 2 * WIDTH)).astype(np.float32)
    bias = np.ones(UNITS, np.float32)
    whole = graph(
        """
        x = Concat<axis=-1>(profile, hour)
        layer = Gemm<transB=1>(x, kernel, bias)
        row = Unsqueeze(layer, one)
        wide = MatMul(features, wide_kernel)
        joined = Mul(wide, row)
        scores = ReduceSum<keepdims=0>(joined, last)
        """,
        kernel=weights,
        bias=bias,
        wide_kernel=weights[:, :WIDTH].T.copy(),
    )
    assert_equal_graphs(whole, split_linear_layers(whole, *analyzed(whole), {**OPT, "history": 1}))


@pytest.mark.parametrize("features", ["x = Mul(h, c)", "x = Max(h, c)", "s = Add(h, c) x = Tanh(s)"])
def test_what_is_not_linear_is_left(features: str) -> None:
    whole = graph(
        f"{PAIRS} {COPIES} {features} layer = MatMul(x, w) {SCORES}",
        four=np.array([WIDTH]),
    )
    assert split_linear_layers(whole, *analyzed(whole), OPT) is whole


def test_the_difference_of_single_numbers_is_left() -> None:
    """Times in seconds: their difference has digits that neither of them has after a product."""
    whole = graph(
        f"""
        {PAIRS}
        u = ReduceSum<keepdims=1>(user, last)
        i = ReduceSum<keepdims=1>(item, last)
        gap = Sub(i, u)
        layer = MatMul(gap, row)
        {SCORES}
        """,
        four=np.array([WIDTH]),
        row=np.ones((1, UNITS), np.float32),
    )
    assert split_linear_layers(whole, *analyzed(whole), OPT) is whole


@dataclass
class Features:
    """Random features of pairs, made of each other; `lines` is the body of a graph."""

    draw: st.DrawFn
    lines: list[str] = field(default_factory=list)
    widths: dict[str, int] = field(default_factory=lambda: {"user": 4, "item": 4, "h": 4, "c": 4, "p": 4, "r": 4})

    def make(self, expression: str, width: int) -> None:
        name = f"feature_{len(self.lines)}"
        self.lines.append(f"{name} = {expression}")
        self.widths[name] = width

    def step(self) -> None:
        one, other = (self.draw(st.sampled_from(list(self.widths))) for _ in range(2))
        width = self.widths[one]
        ways = ["Neg", "third", "turn", "Tanh"]
        if self.widths[other] == width:
            ways += ["Add", "Sub", "Mul"] * 2
        if width == WIDTH:
            ways += ["gain"]
        way = self.draw(st.sampled_from(ways))
        if way in ("Add", "Sub", "Mul"):
            self.make(f"{way}({one}, {other})", width)
        elif way in ("third", "gain"):
            operands = self.draw(st.permutations([one, way]))
            self.make(f"{self.draw(st.sampled_from(['Mul', 'Add', 'Sub']))}({', '.join(operands)})", width)
        elif way == "turn":
            self.make(f"Transpose<perm=[0,1,2,3]>({one})", width)
        else:
            self.make(f"{way}({one})", width)

    def join(self) -> None:
        """Side by side, as copies: a Concat does not broadcast."""
        wide = [name for name in self.widths if name not in ("user", "item", "p", "r")]
        chosen = self.draw(st.lists(st.sampled_from(wide), min_size=1, max_size=4))
        copies = []
        for name in chosen:
            width = self.widths[name]
            self.make(f"Expand({name}, pairs_{width})", width)
            copies.append(list(self.widths)[-1])
        self.make(f"Concat<axis=-1>({', '.join(copies)})", sum(self.widths[name] for name in copies))


@st.composite
def layers(draw: st.DrawFn) -> onnx.ModelProto:
    """A layer of random features of user, request, candidate and pair."""
    features = Features(draw)
    for _ in range(draw(st.integers(1, 3))):
        for _ in range(draw(st.integers(0, 3))):
            features.step()
        if max(features.widths.values()) < 32:
            features.join()
    last = list(features.widths)[-1]
    width, shapes = features.widths[last], sorted(set(features.widths.values()))
    rng = np.random.default_rng(draw(st.integers(0, 3)))
    body = [PAIRS, COPIES, "hours = Unsqueeze(hour, one_two) r = Identity(hours)"]
    body += ["profiles = Unsqueeze(profile, one_two) p = Identity(profiles)"]
    body += [f"pairs_{size} = Concat<axis=0>(b, m, n, size_{size})" for size in shapes]
    body += [*features.lines, f"whole_x = Expand({last}, pairs_{width})", "layer = MatMul(whole_x, kernel)"]
    return graph(
        " ".join(body) + SCORES,
        four=np.array([WIDTH]),
        one_two=np.array([1, 2]),
        kernel=(rng.standard_normal((width, draw(st.integers(1, UNITS)))) / width).astype(np.float32),
        gain=rng.standard_normal(WIDTH).astype(np.float32),
        third=np.array(3, np.float32),
        **{f"size_{size}": np.array([size]) for size in shapes},
    )


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(layers())
def test_any_layer_stays_what_it_was_and_costs_no_more(whole: onnx.ModelProto) -> None:
    probe, labels = analyzed(whole)
    apart = split_linear_layers(whole, probe, labels, OPT)
    event(f"taken apart: {apart is not whole}")
    if apart is whole:
        return
    onnx.checker.check_model(apart, full_check=True)
    assert_equal_graphs(whole, apart)
    assert flops_of_request(apart) < flops_of_request(whole)


def flops_of_request(model: onnx.ModelProto) -> int:
    """The FLOPs at `opt` of the products that are not the user's alone."""
    probe, labels = analyzed(model)
    nodes = [node for node in model.graph.node if operator(node.op_type).is_product]
    return Flops.of([node for node in nodes if not labels.is_only("user", node.output[0])], probe).at(OPT)
