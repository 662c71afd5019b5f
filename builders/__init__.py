"""From a PyTorch ranker to the artifacts of a Triton model repository."""

from builders.errors import BuilderError, SpecError
from builders.spec import Axis, Ranker, Tensor

__all__ = ["Axis", "BuilderError", "Ranker", "SpecError", "Tensor"]
