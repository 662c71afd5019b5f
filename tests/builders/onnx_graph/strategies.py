"""Random sizes for tests of what is computed with them."""

from __future__ import annotations

from hypothesis import strategies as st

from cleave.builders.onnx_graph.sizes import Size, product

AXES = ("batch", "history", "candidates")


@st.composite
def sizes(draw: st.DrawFn) -> Size:
    """A sum of up to three products."""
    total = Size.of(0)
    for _ in range(draw(st.integers(0, 3))):
        axes = draw(st.lists(st.sampled_from(AXES), unique=True))
        total = total + product([Size.of(draw(st.integers(-3, 5))), *map(Size.of, axes)])
    return total
