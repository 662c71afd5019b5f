"""Finds the input that made a graph fail: ONNX Runtime names a node, whoever sent the request knows inputs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

_NODE = re.compile(r"while running (?P<op>\w+) node\. Name:'(?P<name>[^']*)' Status Message: (?P<reason>.*)", re.DOTALL)
_INDEX = re.compile(r"idx=(?P<got>-?\d+) must be within the inclusive range \[(?P<least>-?\d+),(?P<most>-?\d+)\]")
_INPUT = re.compile(r"for input: (?P<name>\S+)")
_OUT_OF_MEMORY = re.compile(r"alloc", re.IGNORECASE)

_INDICES = {"Gather": 1, "GatherElements": 1, "GatherND": 1, "ScatterElements": 1, "ScatterND": 1}
"""Which operand of an op holds the ids it looks up."""


class GraphInputs:
    """What each node of a graph reads, directly or not."""

    def __init__(self, file: Path) -> None:
        import onnx  # noqa: PLC0415 - only needed once a request fails

        graph = onnx.load(str(file), load_external_data=False).graph
        weights = {tensor.name for tensor in graph.initializer}
        self._inputs = [tensor.name for tensor in graph.input if tensor.name not in weights]
        self._nodes = list(graph.node)
        self._makers = {output: node for node in graph.node for output in node.output}

    def explain(self, message: str, inputs: Mapping[str, NDArray[Any]]) -> str | None:
        """What is wrong with which input, or None where ONNX Runtime's `message` does not blame the inputs."""
        if named := _INPUT.search(message):
            return f"input {named['name']!r}: {_sentence(message)}; send what the model's metadata says"
        failed = _NODE.search(message)
        if failed is None or _OUT_OF_MEMORY.search(failed["reason"]):
            return None
        names = self._behind(failed["op"], failed["name"])
        index = _INDEX.search(failed["reason"])
        if index is None:
            return f"{_quoted(names)}: {_sentence(failed['reason'])}; send what the model's metadata says"
        guilty = [name for name in names if name in inputs and (inputs[name] == int(index["got"])).any()]
        return (
            f"{_quoted(guilty or names)}: expected ids from {index['least']} to {index['most']}, got {index['got']}; "
            "send ids that the model knows"
        )

    def _behind(self, op: str, name: str) -> list[str]:
        """The inputs that reach the failed node; where its name is not in the graph, any node of its kind."""
        failed = [node for node in self._nodes if name and node.name == name]
        failed = failed or [node for node in self._nodes if node.op_type == op]
        operands = slice(_INDICES[op], _INDICES[op] + 1) if op in _INDICES else slice(None)
        return self._upstream([tensor for node in failed for tensor in node.input[operands]]) or self._inputs

    def _upstream(self, tensors: Iterable[str]) -> list[str]:
        waiting, seen = list(tensors), set(tensors)
        while waiting:
            maker = self._makers.get(waiting.pop())
            fresh = set(maker.input) - seen if maker else set()
            seen |= fresh
            waiting += fresh
        return [name for name in self._inputs if name in seen]


def _quoted(names: list[str]) -> str:
    return f"input {' or '.join(map(repr, names))}"


def _sentence(text: str) -> str:
    return " ".join(text.split()).rstrip(".")
