"""Random graphs of int64: hashes, times, buckets and guards, and the values that tell them apart."""

from __future__ import annotations

import numpy as np
import onnx
from hypothesis import strategies as st

from cleave.builders.onnx_graph.random_inputs import Arrays
from tests.builders.graphs import draw, graph

SMALL = (0, 1, -1, 7, 9, 10)
TIMES = (1_700_000_000, 1_698_000_000_000, 1_700_000_000_000)
POWERS = (2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 2**32 - 1, 2**32, 2**32 + 5, 2**40, -(2**40), 2**53 + 1)
ENDS = (2**62, -(2**62), 2**63 - 1, -(2**63) + 1)
EDGES = np.array((*SMALL, *TIMES, *POWERS, *ENDS))
"""Ids of tables, times in seconds and in milliseconds, hashes, and what is next to the ends of int32 and float64."""

CONSTANTS = (1, 3, 7, 10, 1000, 2**31, 2654435761, 2**40 + 1, -5)
STEPS = (
    "{y} = Add({x}, c{c})",
    "{y} = Sub({x}, {z})",
    "{y} = Mul({x}, c{c})",
    "{y} = Mod({x}, c{p})",
    "{y} = Div({x}, c{p})",
    "{y} = Max({x}, {z})",
    "{y} = Min({x}, c{c})",
    "{y} = Clip({x}, c0, c{p})",
    "{y} = Clip({x}, c{c})",
    "{y} = Sign({x})",
    "{y} = Abs({x})",
    "{y} = Neg({x})",
    "{y} = BitwiseAnd({x}, c{p})",
    "{y} = BitwiseXor({x}, {z})",
    "{y} = CumSum({x}, c1)",
    "{y} = ReduceMax<keepdims=1>({x}, last)",
    "{y} = ReduceMin<keepdims=1>({x}, last)",
    "{y} = ReduceSum<keepdims=1>({x}, last)",
    "{y}_is = Equal({x}, c{c}) {y} = Cast<to=7>({y}_is)",
    "{y}_low = Less({x}, c0) {y}_high = GreaterOrEqual({x}, c{p}) {y}_out = Or({y}_low, {y}_high) "
    "{y} = Where({y}_out, c{p}, {x})",
    "{y}_low = LessOrEqual({x}, c{p}) {y}_high = Greater({x}, c0) {y}_in = And({y}_low, {y}_high) "
    "{y} = Where({y}_in, {x}, {z})",
    "{y}_not = Less(c{p}, {x}) {y}_in = Not({y}_not) {y} = Where({y}_in, {x}, c1)",
    "{y}_row = Unsqueeze({x}, one) {y}_two = Concat<axis=1>({y}_row, {y}_row) "
    "{y} = ReduceMax<keepdims=0>({y}_two, one)",
    "{y}_low = BitwiseAnd({x}, c{p}) {y}_more = Add({y}_low, c1) {y}_floats = Cast<to=1>({y}_more) "
    "{y}_log = Log({y}_floats) {y}_floor = Floor({y}_log) {y}_all = Cast<to=7>({y}_floor) "
    "{y} = Clip({y}_all, c0, c{p})",
)


@st.composite
def integer_graphs(draw_from: st.DrawFn) -> onnx.ModelProto:
    """A graph whose scores read rows of a table, chosen by whatever became of the ids."""
    lines = ["x0 = Identity(ids)"]
    for place in range(draw_from(st.integers(1, 6))):
        step = draw_from(st.sampled_from(STEPS))
        x, z = (f"x{draw_from(st.integers(max(0, place - 1), place))}" for _ in range(2))
        values = {"y": f"x{place + 1}", "x": x, "z": z, "c": draw_from(st.sampled_from(CONSTANTS))}
        lines.append(
            step.format(**values, p=draw_from(st.sampled_from([c for c in CONSTANTS if c > 1]))).replace("c-", "cm")
        )
    last = f"x{len(lines) - 1}"
    body = f"""
        {" ".join(lines)}
        row = Mod({last}, ten)
        found = Gather<axis=0>(table, row)
        weight = Add(found, found)
        vector = ReduceSum<keepdims=1>(weight, one)
        joined = Mul(features, vector)
        scores = ReduceSum<keepdims=0>(joined, last)
    """
    constants = {f"c{value}".replace("c-", "cm"): np.array(value) for value in (0, *CONSTANTS)}
    return graph(body, ten=np.array(10), **constants)


def edge_inputs(seed: int, batch: int = 4, history: int = 12) -> Arrays:
    """Inputs whose ids and items are `EDGES`, and numbers between them."""
    inputs, rng = draw(batch, history, 5), np.random.default_rng(seed)
    for name in ("ids", "items"):
        shape = inputs[name].shape
        far = rng.integers(-(2**62), 2**62, shape) >> rng.integers(0, 62, shape)
        inputs[name] = np.where(rng.random(shape) < 0.7, rng.choice(EDGES, shape), far)
    return inputs
