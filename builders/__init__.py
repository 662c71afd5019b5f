"""From a PyTorch ranker to the artifacts of a Triton model repository."""

from cleave.builders.errors import BuilderError, SpecError
from cleave.builders.spec import Axis, Ranker, Tensor

__all__ = ["Axis", "BuilderError", "Ranker", "SpecError", "Tensor"]
