"""A plain alternative to Triton: the whole torch model behind LitServe, a Python server; run as a module."""

from __future__ import annotations

import argparse

import litserve
import torch

from cleave.builders.contract.location import parse_sizes
from cleave.builders.load import load_ranker


class WholeModel(litserve.LitAPI):  # type: ignore[misc]
    """Scores one request at a time, all candidates in one pass: from JSON lists by input to a list of scores."""

    def __init__(self, name: str, size: str) -> None:
        super().__init__()
        self.name, self.size = name, size

    def setup(self, device: str) -> None:
        self.ranker = load_ranker(self.name, parse_sizes(self.size))

    # LitServe validates requests and answers against the annotations of these two methods. Without annotations, as in
    # its documentation, JSON passes through unchanged.
    def decode_request(self, request):  # type: ignore[no-untyped-def]
        return {
            tensor.name: torch.tensor(request[tensor.name], dtype=getattr(torch, tensor.dtype)).unsqueeze(0)
            for tensor in self.ranker.inputs
        }

    @torch.inference_mode()
    def predict(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        outputs = self.ranker.module(**inputs)
        first: torch.Tensor = outputs[0] if isinstance(outputs, tuple) else outputs
        return first[0]

    def encode_response(self, scores):  # type: ignore[no-untyped-def]
        return scores.tolist()


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--size", default="")
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    server = litserve.LitServer(WholeModel(options.name, options.size), accelerator="cpu", timeout=False)
    server.run(host="127.0.0.1", port=options.port, num_api_servers=1, log_level="warning", generate_client_file=False)


if __name__ == "__main__":
    main()
