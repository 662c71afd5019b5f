"""The torch modules that the nodes of an exported graph come from."""

from __future__ import annotations

import onnx


def scope_of(node: onnx.NodeProto) -> str:
    """The path of the torch module that a node comes from (`blocks.0.key`): what its name begins with."""
    return node.name.split("/")[0]


def is_within(scope: str, path: str) -> bool:
    """Whether a module path is `path` or below it."""
    return scope == path or scope.startswith(f"{path}.")
