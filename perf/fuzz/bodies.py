"""Mutations of what Triton takes over HTTP: JSON, and JSON with bytes behind it."""

from __future__ import annotations

import contextlib
import copy
import http.client
import json
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

from tritonclient.utils import np_to_triton_dtype, serialize_byte_tensor

from cleave.clients.validation import Array
from cleave.perf.fuzz.messages import SIZES, TYPES, WORDS, Rng, mutated_bytes, pick
from cleave.perf.fuzz.originals import Original
from cleave.perf.fuzz.tried import TIMEOUT_S, Tried

LENGTH_HEADER = "Inference-Header-Content-Length"
UNREADABLE = ("parse the request JSON", "Unable to parse", "failed to get request params")
"""What Triton says of a body that it cannot read; it says so with status 500."""
LARGEST_SIZE = 4097
"""Triton 2.51 makes room for the shape that a body in JSON declares before it reads what is in it, and ends by SIGSEGV
or `std::bad_alloc` where it gets none (docs/bad_input.md). Over gRPC, where it does not, all sizes are sent."""
VALUES: tuple[Any, ...] = (
    *(size for size in SIZES if abs(size) <= LARGEST_SIZE),
    *TYPES,
    *WORDS,
    None,
    True,
    1.5,
    1e400,
    [],
    {},
    [[]],
    {"a": {}},
)


def _value(document: Any, rng: Rng) -> Any:
    """Put another value in a random place."""
    parent: Any = None
    place: Any = None
    node = document
    while isinstance(node, dict | list) and node and (parent is None or rng.random() < 0.8):
        parent, place = node, pick(rng, tuple(node) if isinstance(node, dict) else range(len(node)))
        node = node[place]
    parent[place] = pick(rng, VALUES)
    return document


def _without(document: Any, rng: Rng) -> Any:
    """Leave a key of the document or of an input out."""
    node = pick(rng, (document, pick(rng, document["inputs"])))
    node.pop(pick(rng, tuple(node)))
    return document


def _twice(document: Any, rng: Rng) -> Any:
    document["inputs"].append(copy.deepcopy(pick(rng, document["inputs"])))
    return document


def _parameter(document: Any, rng: Rng) -> Any:
    node = pick(rng, (document, pick(rng, document["inputs"])))
    name = pick(
        rng, ("forget", "binary_data_size", "binary_data_output", "priority", "timeout", "shared_memory_region")
    )
    node.setdefault("parameters", {})[name] = pick(rng, VALUES)
    return document


def _deep(document: Any, rng: Rng) -> Any:
    """Lists in lists, more than any model has axes."""
    nested: Any = 1
    for _ in range(int(rng.integers(10, 500))):
        nested = [nested]
    pick(rng, document["inputs"])["data"] = nested
    return document


MUTATIONS: dict[str, Callable[[Any, Rng], Any]] = {
    "value": _value,
    "key left out": _without,
    "input twice": _twice,
    "parameter": _parameter,
    "depth": _deep,
}


class BodyFuzzer:
    """Sends mutated bodies over one connection."""

    way = "HTTP"

    def __init__(self, host: str, originals: Sequence[Original]) -> None:
        self._host = host
        self._originals = originals
        self._connection = http.client.HTTPConnection(host, timeout=TIMEOUT_S)

    def try_one(self, rng: Rng) -> Tried:
        """Send one body, JSON or with bytes, with one mutation."""
        original = pick(rng, self._originals)
        with_bytes = bool(rng.integers(2))
        document, content = _document(original, with_bytes)
        mutation = pick(rng, (*MUTATIONS, "text", "bytes", "length"))
        if mutation in MUTATIONS:
            document = MUTATIONS[mutation](document, rng)
        text = json.dumps(document).encode()
        length = len(text)
        if mutation == "text":
            text = mutated_bytes(rng, text)
        elif mutation == "bytes":
            content = mutated_bytes(rng, content)
        elif mutation == "length":
            length = pick(rng, (0, 1, length - 1, length + 1, 2**31, 2**63, -1))
        headers = {LENGTH_HEADER: str(length)} if with_bytes or mutation == "length" else {}
        model = pick(rng, (*WORDS, original.model)) if rng.random() < 0.02 else original.model
        return self._sent(mutation, f"/v2/models/{quote(model[:2000], safe='')}/infer", text + content, headers)

    def close(self) -> None:
        self._connection.close()

    def _sent(self, mutation: str, path: str, body: bytes, headers: dict[str, str]) -> Tried:
        try:
            self._connection.request("POST", path, body, headers)
            response = self._connection.getresponse()
            words = response.read()[:500].decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            return Tried(self.way, mutation, type(error).__name__, False, str(error))
        if response.status < http.HTTPStatus.INTERNAL_SERVER_ERROR:
            return Tried(self.way, mutation, str(response.status), True)
        if any(unreadable in words for unreadable in UNREADABLE):
            return Tried(self.way, mutation, f"{response.status}, unreadable", True)
        return Tried(self.way, mutation, str(response.status), False, words)


def _document(original: Original, with_bytes: bool) -> tuple[Any, bytes]:
    """The request as JSON and what follows it, as Triton's extension for binary data says."""
    document: dict[str, Any] = {"id": "fuzz", "inputs": [], "parameters": dict.fromkeys(original.flags, True)}
    contents = []
    for name, array in original.arrays.items():
        shape = array.shape if array.ndim > 1 else (len(array), 1)
        entry = {"name": name, "shape": list(shape), "datatype": np_to_triton_dtype(array.dtype)}
        if with_bytes:
            contents.append(serialize_byte_tensor(array).item() if array.dtype.hasobject else array.tobytes())
            entry["parameters"] = {"binary_data_size": len(contents[-1])}
        else:
            entry["data"] = _json_values(array)
        document["inputs"].append(entry)
    return document, b"".join(contents)


def _json_values(array: Array) -> list[Any]:
    values = array.reshape(-1).tolist()
    with contextlib.suppress(AttributeError):
        return [value.decode() for value in values]
    return list(values)
