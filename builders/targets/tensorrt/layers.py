"""What TensorRT says of the layers of an engine: which kernels there are and which ONNX nodes went into each.

On a machine without a GPU an engine cannot be opened, so its layers are read from the log of the build, where TensorRT
writes the same list that its engine inspector gives.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

_LIST = "Layers:\n"
_LAYER = re.compile(r"^Name: (?P<name>.*?), LayerType: (?P<kind>\w+),.*?, Metadata: (?P<metadata>.*)$")
_ONNX_NODE = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
_ATTENTION = re.compile(r"(^|_)f?mha(_|$)")
"""In the name of TensorRT's fused attention kernels, as in `_gemm_mha_v2_myl0_4`."""
_ACTIVATIONS = re.compile(r"Total Activation Memory: (\d+)")


@dataclass(frozen=True)
class Layer:
    """One layer of an engine: one kernel or copy at run time."""

    name: str
    kind: str
    onnx_nodes: tuple[str, ...]
    """Names of the ONNX nodes that it computes, wholly or in part."""

    @property
    def is_fused_attention(self) -> bool:
        """Whether it computes products, mask and softmax of an attention without writing its weights."""
        return _ATTENTION.search(self.name) is not None


def layers_from_log(messages: Iterable[str]) -> tuple[Layer, ...]:
    """The layers that a build with detailed profiling verbosity lists in its log; none if it lists none."""
    listed = next((message for message in messages if message.startswith(_LIST)), "")
    return tuple(
        Layer(match["name"], match["kind"], tuple(dict.fromkeys(_ONNX_NODE.findall(match["metadata"]))))
        for match in map(_LAYER.match, listed.splitlines())
        if match
    )


def activation_bytes(messages: Iterable[str]) -> int | None:
    """What the log of a build says that the largest of its profiles needs to run; None if it says nothing."""
    return max((int(found) for message in messages for found in _ACTIVATIONS.findall(message)), default=None)


def fused_attentions(layers: Iterable[Layer], num_profiles: int) -> tuple[tuple[str, ...], ...]:
    """The ONNX nodes of each attention that is one kernel in every profile; each profile has kernels of its own."""
    times = Counter(layer.onnx_nodes for layer in layers if layer.is_fused_attention)
    return tuple(nodes for nodes, count in times.items() if count >= num_profiles)
