"""Finds the input that made a graph fail: ONNX Runtime names a node, whoever sent the request knows inputs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from cleave.serving.arrays import Arrays

_NODE = re.compile(r"while running (?P<op>\w+) node\. Name:'(?P<name>[^']*)' Status Message: (?P<reason>.*)", re.DOTALL)
_INDEX = re.compile(r"idx=(?P<got>-?\d+) must be within the inclusive range \[(?P<least>-?\d+),(?P<most>-?\d+)\]")
_INPUT = re.compile(r"for input: (?P<name>\S+)")
_OUT_OF_MEMORY = re.compile(r"alloc", re.IGNORECASE)


class GraphInputs:
    """What each node of a graph reads, directly or not."""

    def __init__(self, file: Path) -> None:
        import onnx  # noqa: PLC0415 - only needed once a request fails

        graph = onnx.load(str(file), load_external_data=False).graph
        weights = {tensor.name for tensor in graph.initializer}
        self._inputs = [tensor.name for tensor in graph.input if tensor.name not in weights]
        self._nodes = list(graph.node)
        self._makers = {output: node for node in graph.node for output in node.output}

    def explain(self, message: str, inputs: Arrays) -> str | None:
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
        ids = _places_of_ids(op)
        blamed = [tensor for node in failed for place, tensor in enumerate(node.input) if not ids or place in ids]
        return self._upstream(blamed) or self._inputs

    def _upstream(self, tensors: Iterable[str]) -> list[str]:
        waiting, seen = list(tensors), set(tensors)
        while waiting:
            maker = self._makers.get(waiting.pop())
            fresh = set(maker.input) - seen if maker else set()
            seen |= fresh
            waiting += fresh
        return [name for name in self._inputs if name in seen]


def _places_of_ids(op: str) -> set[int]:
    """The operands of an operator that hold ids to look up, which ONNX calls `indices`; empty where it has none."""
    import onnx  # noqa: PLC0415 - only needed once a request fails

    formals = onnx.defs.get_schema(op).inputs if onnx.defs.has(op) else []
    return {place for place, formal in enumerate(formals) if formal.name == "indices"}


def _quoted(names: list[str]) -> str:
    return f"input {' or '.join(map(repr, names))}"


def _sentence(text: str) -> str:
    return " ".join(text.split()).rstrip(".")
