"""The targets, by name. Another one is a folder beside the others and an entry here."""

from __future__ import annotations

from cleave.builders.targets.onnxruntime.target import onnxruntime_target
from cleave.builders.targets.target import CompileCheck, Target
from cleave.builders.targets.tensorrt.target import TENSORRT, TENSORRT_CHECK

DEFAULT = onnxruntime_target("cpu")
"""Of a build that is told no other."""

TARGETS: dict[str, Target] = {target.name: target for target in (DEFAULT, TENSORRT)}

CHECKS: dict[str, CompileCheck] = {check.name: check for check in (TENSORRT_CHECK,)}
"""What `cleave build --target` takes besides: it compiles, and writes nothing."""
