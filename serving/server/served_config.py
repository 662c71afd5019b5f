"""The configs that Triton serves by: those of the repository, and what this server was told of its limits."""

from __future__ import annotations

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from cleave.serving.limits import Limits


def served_text(built: str, limits: Limits) -> str:
    """The text of a model's config with the limits in it; one that cannot be read stays, for Triton to say why."""
    try:
        config = text_format.Parse(built, model_config_pb2.ModelConfig())
    except text_format.ParseError:
        return built
    if config.HasField("dynamic_batching"):
        policy = config.dynamic_batching.default_queue_policy
        policy.max_queue_size = limits.max_queue
        # A request whose time is over is refused as soon as its turn comes.
        policy.timeout_action = model_config_pb2.ModelQueuePolicy.REJECT
        policy.allow_timeout_override = True
    return str(text_format.MessageToString(config))
