"""Random graphs of rankers, in the pieces that exporters make them of, for tests of the cut."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from cleave.builders import Axis, Ranker, Tensor
from cleave.builders.export.torch_export import OPSET
from cleave.builders.names import Role

Dim = str | int
"""An axis by name, or a fixed size."""

NUM_IDS = 10
WIDTH = 4
HEADS = 2
MASKED = -3e38
BATCH, HISTORY, CONTEXT, CANDIDATES, JOINT = "batch", "history", "context", "candidates", "joint"
ONNX_TYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "bool": TensorProto.BOOL}


@dataclass(frozen=True)
class Value:
    """A tensor of the graph."""

    name: str
    dims: tuple[Dim, ...]
    """With the batch; `JOINT` is the number of rows of history and candidates together."""
    dtype: str = "float32"


@dataclass
class GraphMaker:
    """Appends nodes to a graph; `draw` is Hypothesis' and chooses wherever there is more than one way."""

    draw: st.DrawFn
    rng: np.random.Generator
    inputs: list[Value] = field(default_factory=list)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def node(
        self, op: str, inputs: list[str], dims: tuple[Dim, ...], dtype: str = "float32", **attributes: Any
    ) -> Value:
        name = f"tensor_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], f"module_{len(self.nodes)}/{op}", **attributes))
        return Value(name, dims, dtype)

    def constant(self, values: NDArray[Any] | list[int] | float) -> str:
        array = np.asarray(values)
        array = array.astype(np.float32) if array.dtype.kind == "f" else array
        self.constants.append(numpy_helper.from_array(array, f"constant_{len(self.constants)}"))
        return self.constants[-1].name

    def weight(self, *shape: int) -> str:
        return self.constant(self.rng.standard_normal(shape) * 0.5)

    def choose(self, options: list[Any]) -> Any:
        return self.draw(st.sampled_from(options))

    # Sizes

    def size(self, axis: str) -> str:
        """An int64 tensor [1] with the size of an axis, read from any input that has it, in any of the usual ways."""
        if axis == JOINT:
            return self.node("Add", [self.size(HISTORY), self.size(CANDIDATES)], (1,), "int64").name
        source = self.choose([value for value in self.inputs if axis in value.dims])
        place = source.dims.index(axis)
        way = self.choose(["attributes", "gather", "gather scalar", "slice", "cast"])
        if way == "attributes":
            return self.node("Shape", [source.name], (1,), "int64", start=place, end=place + 1).name
        shape = self.node("Shape", [source.name], (len(source.dims),), "int64").name
        if way == "slice":
            bounds = [self.constant([place]), self.constant([place + 1])]
            return self.node("Slice", [shape, *bounds, self.constant([0])], (1,), "int64").name
        if way == "gather scalar":
            scalar = self.node("Gather", [shape, self.constant(np.array(place))], (), "int64").name
            return self.node("Unsqueeze", [scalar, self.constant([0])], (1,), "int64").name
        gathered = self.node("Gather", [shape, self.constant([place])], (1,), "int64").name
        if way == "gather":
            return gathered
        narrow = self.node("Cast", [gathered], (1,), "int32", to=TensorProto.INT32).name
        return self.node("Cast", [narrow], (1,), "int64", to=TensorProto.INT64).name

    def shape(self, dims: tuple[Dim, ...], open_place: int | None = None) -> str:
        """An int64 tensor with the sizes of `dims`; -1 at `open_place`."""
        if open_place is not None:
            dims = (*dims[:open_place], -1, *dims[open_place + 1 :])
        parts = [self.constant([dim]) if isinstance(dim, int) else self.size(dim) for dim in dims]
        return self.node("Concat", parts, (len(dims),), "int64", axis=0).name

    def reshape(self, value: Value, dims: tuple[Dim, ...], target: tuple[Dim, ...] | None = None) -> Value:
        target = target or dims
        open_place = self.draw(st.none() | st.integers(0, len(target) - 1))
        return self.node("Reshape", [value.name, self.shape(target, open_place)], dims, value.dtype, allowzero=0)

    # Row by row

    def rowwise(self, rows: Value) -> Value:
        """Rows [B, S, D] through operators that treat them apart."""
        ways: list[Callable[[Value], Value]] = [
            self._unary,
            self._layer_norm,
            self._layer,
            self._residual,
            self._columns,
            self._sequence_first,
            self._flat,
            lambda rows: self._merge_heads(self._split_heads(rows)),
            lambda rows: self.node("Softmax", [rows.name], rows.dims, axis=-1),
            lambda rows: self.node(self.choose(["Mul", "Sub", "Max"]), [rows.name, self.constant(0.5)], rows.dims),
        ]
        return self.draw(st.sampled_from(ways))(rows)

    def _unary(self, rows: Value) -> Value:
        return self.node(self.choose(["Tanh", "Sigmoid", "Relu", "Gelu", "Identity"]), [rows.name], rows.dims)

    def _layer_norm(self, rows: Value) -> Value:
        inputs = [rows.name, self.weight(WIDTH), self.weight(WIDTH)]
        return self.node("LayerNormalization", inputs, rows.dims, axis=self.choose([-1, 2]))

    def _layer(self, rows: Value) -> Value:
        return self.node("Add", [self._linear(rows).name, self.weight(WIDTH)], rows.dims)

    def _residual(self, rows: Value) -> Value:
        changed = self.node("Tanh", [rows.name], rows.dims)
        return self.node("Add", self.draw(st.permutations([rows.name, changed.name])), rows.dims)

    def _columns(self, rows: Value) -> Value:
        batch, axis, width = rows.dims
        columns = self.node("Transpose", [rows.name], (batch, width, axis), perm=[0, 2, 1])
        changed = self.node("Tanh", [columns.name], columns.dims)
        return self.node("Transpose", [changed.name], rows.dims, perm=[0, 2, 1])

    def _sequence_first(self, rows: Value) -> Value:
        """[B, S, D] as [S, B, D] through a layer, as modules of the older kind have it."""
        batch, axis, width = rows.dims
        turned = self.node("Transpose", [rows.name], (axis, batch, width), perm=[1, 0, 2])
        return self.node("Transpose", [self._layer(turned).name], rows.dims, perm=[1, 0, 2])

    def _flat(self, rows: Value) -> Value:
        """[B, S, D] as [B * S, D] through a product, as layers for matrices have it."""
        count = self.node("Mul", [self.size(str(rows.dims[0])), self.size(str(rows.dims[1]))], (1,), "int64").name
        target = self.node("Concat", [count, self.constant([WIDTH])], (2,), "int64", axis=0).name
        flat = self.node("Reshape", [rows.name, target], ("flat", WIDTH), allowzero=0)
        return self.reshape(self._linear(flat), rows.dims)

    def _split_heads(self, rows: Value) -> Value:
        batch, axis, _ = rows.dims
        apart = self.reshape(rows, (batch, axis, HEADS, WIDTH // HEADS))
        return self.node("Transpose", [apart.name], (batch, HEADS, axis, WIDTH // HEADS), perm=[0, 2, 1, 3])

    def _merge_heads(self, heads: Value) -> Value:
        batch, num_heads, axis, width = heads.dims
        apart = self.node("Transpose", [heads.name], (batch, axis, num_heads, width), perm=[0, 2, 1, 3])
        return self.reshape(apart, (batch, axis, WIDTH))

    # From rows to rows

    def attention(self, queries: Value, keys: Value, mask: Value | None) -> Value:
        """Queries [B, Q, D] read keys [B, K, D], where mask [B, K] is true."""
        query, key, value = (self._split_heads(self._linear(rows)) for rows in (queries, keys, keys))
        weights_dims = (*query.dims[:3], key.dims[2])
        transposed = self.node("Transpose", [key.name], (*key.dims[:2], key.dims[3], key.dims[2]), perm=[0, 1, 3, 2])
        weights = self.node("MatMul", [query.name, transposed.name], weights_dims)
        if mask is not None:
            readable = self.node("Unsqueeze", [mask.name, self.constant([1, 2])], (BATCH, 1, 1, mask.dims[1]), "bool")
            operands = [readable.name, weights.name, self.constant(MASKED)]
            weights = self.node("Where", operands, weights_dims)
        read = self.node("Softmax", [weights.name], weights_dims, axis=-1)
        return self._merge_heads(self.node("MatMul", [read.name, value.name], query.dims))

    def _linear(self, rows: Value) -> Value:
        return self.node("MatMul", [rows.name, self.weight(WIDTH, WIDTH)], rows.dims)

    def expand(self, vector: Value, axis: str) -> Value:
        """[B, D] to [B, axis, D], with sizes that other inputs have."""
        row = self.node("Unsqueeze", [vector.name, self.constant([1])], (BATCH, 1, WIDTH))
        dims = (BATCH, axis, WIDTH)
        return self.node("Expand", [row.name, self.shape(dims)], dims)

    def masked_rows(self, rows: Value, mask: Value) -> Value:
        column = self.node("Unsqueeze", [mask.name, self.constant([-1])], (*mask.dims, 1), "bool")
        if self.draw(st.booleans()):
            return self.node("Where", [column.name, rows.name, self.constant(0.0)], rows.dims)
        factor = self.node("Cast", [column.name], column.dims, to=TensorProto.FLOAT)
        return self.node("Mul", [rows.name, factor.name], rows.dims)

    def pooled(self, rows: Value) -> Value:
        """[B, S, D] to [B, D]."""
        op = self.choose(["ReduceSum", "ReduceMax", "ReduceMean"])
        if op == "ReduceMean" and rows.dims[1] != CANDIDATES:
            op = "ReduceSum"
        return self.node(op, [rows.name, self.constant([1])], (BATCH, WIDTH), keepdims=0)

    def one_row(self, rows: Value) -> Value:
        """The first or the last of [B, S, D]: [B, D]."""
        return self.node("Gather", [rows.name, self.constant(np.array(self.choose([0, -1])))], (BATCH, WIDTH), axis=1)

    def truncated(self, rows: Value) -> Value:
        """The sum of the first or last three of [B, S, D], or of as many as there are: [B, D]."""
        start, end = self.choose([(0, 3), (-3, int(np.iinfo(np.int64).max))])
        few = self.node("Slice", [rows.name, *map(self.constant, ([start], [end], [1]))], (BATCH, "few", WIDTH))
        mapped = self._linear(few)
        return self.node("ReduceSum", [mapped.name, self.constant([1])], (BATCH, WIDTH), keepdims=0)

    def model(self, output: Value) -> onnx.ModelProto:
        def info(value: Value, name: str) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(name, ONNX_TYPES[value.dtype], list(value.dims))

        self.nodes.append(helper.make_node("Identity", [output.name], ["scores"], "module/scores"))
        graph = helper.make_graph(
            self.nodes, "random", [info(v, v.name) for v in self.inputs], [info(output, "scores")], self.constants
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
        onnx.checker.check_model(model, full_check=True)
        return model


AXES = {
    HISTORY: Axis(HISTORY, min=1, opt=6, max=12),
    CONTEXT: Axis(CONTEXT, min=1, opt=4, max=12),
    CANDIDATES: Axis(CANDIDATES, min=1, opt=5, max=12),
}


@dataclass
class Pool:
    """What has been made so far, by what it can be used for."""

    rows: list[Value]
    """[B, axis, D]"""
    vectors: list[Value]
    """[B, D]"""
    masks: list[Value]
    """[B, axis] of bool"""

    def rows_along(self, *axes: str) -> list[Value]:
        return [value for value in self.rows if value.dims[1] in axes]

    def mask_along(self, axis: Dim) -> list[Value | None]:
        return [None, *(value for value in self.masks if value.dims[1] == axis)]


@st.composite
def rankers(draw: st.DrawFn, joint: bool = False) -> tuple[onnx.ModelProto, Ranker]:
    """A graph and the ranker it belongs to: inputs of random roles, and scores that depend on the user.

    Args:
        joint: one sequence of history and candidates goes through row-wise operators, and is taken apart.
    """
    maker = GraphMaker(draw, np.random.default_rng(draw(st.integers(0, 5))))
    roles = _inputs(maker)
    pool = _first_values(maker)
    for _ in range(draw(st.integers(1, 6))):
        _step(maker, pool)
    if joint:
        for _ in range(draw(st.integers(1, 2))):
            _joint_sequence(maker, pool)
    output = _scores(maker, pool)
    tensors = {
        role: tuple(_tensor(value) for value in maker.inputs if roles[value.name] == role)
        for role in ("user", "request", "candidate")
    }
    ranker = Ranker(
        name="random",
        module=nn.Identity(),
        user=tensors["user"],
        request=tensors["request"],
        candidate=tensors["candidate"],
        output=(Tensor("scores", "float32", (AXES[CANDIDATES],)),),
    )
    return maker.model(output), ranker


def _tensor(value: Value) -> Tensor:
    axes = tuple(AXES[dim] if isinstance(dim, str) else dim for dim in value.dims[1:])
    return Tensor(value.name, value.dtype, axes, high=NUM_IDS if value.dtype == "int64" else None)


def _inputs(maker: GraphMaker) -> dict[str, Role]:
    """Add the inputs and give each a role."""
    either: list[Role] = ["user", "request"]
    inputs: list[tuple[Value, Role]] = [
        (Value("history_ids", (BATCH, HISTORY), "int64"), "user"),
        (Value("history_values", (BATCH, HISTORY, WIDTH)), "user"),
        (Value("context_ids", (BATCH, CONTEXT), "int64"), maker.choose(either)),
        (Value("features", (BATCH, WIDTH)), maker.choose(either)),
        (Value("kind", (BATCH,), "int64"), maker.choose(either)),
        (Value("candidate_ids", (BATCH, CANDIDATES), "int64"), "candidate"),
        (Value("candidate_values", (BATCH, CANDIDATES, WIDTH)), "candidate"),
    ]
    maker.inputs = [value for value, _ in inputs]
    return {value.name: role for value, role in inputs}


def _first_values(maker: GraphMaker) -> Pool:
    pool = Pool([], [], [])
    for value in maker.inputs:
        if value.dtype == "int64":
            table = maker.weight(NUM_IDS, WIDTH)
            looked_up = maker.node("Gather", [table, value.name], (*value.dims, WIDTH), axis=0)
            (pool.rows if len(value.dims) == 2 else pool.vectors).append(looked_up)
            if len(value.dims) == 2:
                real = maker.node("Greater", [value.name, maker.constant(np.array(2))], value.dims, "bool")
                pool.masks.append(real)
        else:
            (pool.rows if len(value.dims) == 3 else pool.vectors).append(value)
    return pool


def _step(maker: GraphMaker, pool: Pool) -> None:
    """Make one more value of some that there are."""
    rows = maker.choose(pool.rows)
    same_axis = [mask for mask in pool.masks if mask.dims[1] == rows.dims[1]]

    def attention(keys: Value) -> None:
        pool.rows.append(maker.attention(rows, keys, maker.choose(pool.mask_along(keys.dims[1]))))

    def mix() -> None:
        other = maker.choose(pool.rows_along(str(rows.dims[1])))
        pool.rows.append(maker.node(maker.choose(["Add", "Mul"]), [rows.name, other.name], rows.dims))

    def vector() -> None:
        left, right = maker.choose(pool.vectors), maker.choose(pool.vectors)
        both = maker.node("Concat", [left.name, right.name], (BATCH, 2 * WIDTH), axis=-1)
        pool.vectors.append(maker.node("MatMul", [both.name, maker.weight(2 * WIDTH, WIDTH)], (BATCH, WIDTH)))

    def spread() -> None:
        wide = maker.expand(maker.choose(pool.vectors), str(rows.dims[1]))
        pool.rows.append(maker.node("Add", [rows.name, wide.name], rows.dims))

    ways: list[Callable[[], None]] = [
        lambda: pool.rows.append(maker.rowwise(rows)),
        lambda: pool.rows.append(maker.rowwise(rows)),
        lambda: pool.rows.append(maker.masked_rows(rows, maker.choose(same_axis))),
        lambda: pool.vectors.append(maker.pooled(rows)),
        lambda: pool.vectors.append(maker.one_row(rows)),
        lambda: pool.vectors.append(maker.truncated(rows)),
        lambda: attention(maker.choose(pool.rows)),
        lambda: attention(rows),
        mix,
        vector,
        spread,
    ]
    maker.draw(st.sampled_from(ways))()


def _joint_sequence(maker: GraphMaker, pool: Pool) -> None:
    """[H_1 .. H_n, C_1 .. C_m] through operators on rows, with masks over both, then taken apart."""
    parts = [maker.choose(pool.rows_along(axis)) for axis in (HISTORY, CANDIDATES)]
    masks = [maker.choose([m for m in pool.masks if m.dims[1] == axis]) for axis in (HISTORY, CANDIDATES)]
    if maker.draw(st.booleans()):
        ids = maker.node("Concat", ["history_ids", "candidate_ids"], (BATCH, JOINT), "int64", axis=1)
        rows = maker.node("Gather", [maker.weight(NUM_IDS, WIDTH), ids.name], (BATCH, JOINT, WIDTH), axis=0)
    else:
        rows = maker.node("Concat", [part.name for part in parts], (BATCH, JOINT, WIDTH), axis=maker.choose([1, -2]))
    mask = maker.node("Concat", [entry.name for entry in masks], (BATCH, JOINT), "bool", axis=1)
    for _ in range(maker.draw(st.integers(1, 5))):
        rows = _joint_step(maker, rows, parts[0], mask, masks[0])
    taken = maker.choose(["slice", "slice", "negative slice", "split", "together"])
    history, candidates = (BATCH, HISTORY, WIDTH), (BATCH, CANDIDATES, WIDTH)
    if taken == "split":
        sizes = maker.node("Concat", [maker.size(HISTORY), maker.size(CANDIDATES)], (2,), "int64", axis=0)
        first, second = Value("", history), Value("", candidates)
        name = f"tensor_{len(maker.nodes)}"
        names = [f"{name}_first", f"{name}_second"]
        maker.nodes.append(helper.make_node("Split", [rows.name, sizes.name], names, f"module/{name}/Split", axis=1))
        first, second = (Value(entry, dims) for entry, dims in zip(names, (history, candidates), strict=True))
        pool.rows += [first, second]
        return
    if taken == "together":
        pool.vectors.append(maker.pooled(rows))
    pool.rows.append(_slice_rows(maker, rows, candidates, taken))
    if maker.draw(st.booleans()):
        pool.rows.append(_slice_rows(maker, rows, history, taken))


def _slice_rows(maker: GraphMaker, rows: Value, dims: tuple[Dim, ...], way: str) -> Value:
    if dims[1] == HISTORY:
        start, end = maker.constant([0]), maker.size(HISTORY)
        if way == "negative slice":
            end = maker.node("Neg", [maker.size(CANDIDATES)], (1,), "int64").name
    else:
        start, end = maker.size(HISTORY), maker.constant([np.iinfo(np.int64).max])
        if way == "negative slice":
            start = maker.node("Neg", [maker.size(CANDIDATES)], (1,), "int64").name
    return maker.node("Slice", [rows.name, start, end, maker.constant([1])], dims)


def _joint_step(maker: GraphMaker, rows: Value, history: Value, mask: Value, history_mask: Value) -> Value:
    def read_own_history() -> Value:
        keys = _slice_rows(maker, rows, (BATCH, HISTORY, WIDTH), "slice")
        return maker.node("Add", [rows.name, maker.attention(rows, keys, history_mask).name], rows.dims)

    ways: list[Callable[[], Value]] = [
        lambda: maker.rowwise(rows),
        lambda: maker.rowwise(rows),
        lambda: maker.masked_rows(rows, mask),
        lambda: maker.attention(rows, history, history_mask),
        read_own_history,
        lambda: maker.attention(rows, rows, maker.choose([None, mask])),
        lambda: _split_product(maker, rows),
        lambda: _selected_product(maker, rows),
    ]
    return maker.draw(st.sampled_from(ways))()


def _split_product(maker: GraphMaker, rows: Value) -> Value:
    """Two halves of one product, taken apart by Split."""
    wide = maker.node("MatMul", [rows.name, maker.weight(WIDTH, 2 * WIDTH)], (*rows.dims[:2], 2 * WIDTH))
    name = f"tensor_{len(maker.nodes)}"
    names = [f"{name}_gate", f"{name}_value"]
    maker.nodes.append(helper.make_node("Split", [wide.name], names, f"{name}/Split", axis=-1, num_outputs=2))
    return maker.node("Mul", names, rows.dims)


def _selected_product(maker: GraphMaker, rows: Value) -> Value:
    """One half of one product, taken by Gather."""
    wide = maker.node("MatMul", [rows.name, maker.weight(WIDTH, 2 * WIDTH)], (*rows.dims[:2], 2 * WIDTH))
    apart = maker.reshape(wide, (*rows.dims[:2], 2, WIDTH))
    return maker.node("Gather", [apart.name, maker.constant(np.array(1))], rows.dims, axis=2)


def _scores(maker: GraphMaker, pool: Pool) -> Value:
    """[B, M] from rows of the candidates and whatever else there is, the user's in any case."""
    rows = pool.rows_along(CANDIDATES)[-1]
    history = maker.choose(pool.rows_along(HISTORY))
    vector = maker.choose(pool.vectors)
    read = maker.attention(rows, history, maker.choose(pool.mask_along(HISTORY)))
    mixed = maker.node("Add", [read.name, maker.expand(vector, CANDIDATES).name], rows.dims)
    joined = maker.node("Mul", [mixed.name, rows.name], rows.dims)
    return maker.node("ReduceSum", [joined.name, maker.constant([-1])], (BATCH, CANDIDATES), keepdims=0)
