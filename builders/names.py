"""The names that builders, servers and clients share: models, files, config parameters, tensors, roles and statuses.

Whoever reads or writes one of these takes it from here. Servers and clients import this file, so it imports nothing.
"""

from __future__ import annotations

from typing import Final, Literal

BATCH = "batch"
"""Name of the axis that is first in every tensor and written in none."""

# Parts of a cut, and models of the repository

WHOLE, HISTORY_ENCODER, CANDIDATE_SCORER = "whole", "history_encoder", "candidate_scorer"
"""The graphs of a cut: of the whole model, and of its parts. Each is a model of the repository."""

UNCACHED, SUMMARY_CACHE = "uncached", "summary_cache"
"""Models of the repository that have no graph."""

_MODELS = ("", UNCACHED, WHOLE, HISTORY_ENCODER, CANDIDATE_SCORER, SUMMARY_CACHE)


def model_name(ranker: str, model: str) -> str:
    """What a model of a ranker is called in the repository.

    Args:
        model: one of the names above; the empty one is the model to use, which is called as the ranker is.
    """
    return f"{ranker}_{model}" if model else ranker


def model_names(ranker: str) -> list[str]:
    """The models that a ranker becomes; a folder called so is a model of the ranker even before it was built."""
    return [model_name(ranker, model) for model in _MODELS]


def ranker_of(model: str) -> str:
    """The ranker that a model of this name belongs to: no ranker's own name ends as those of its models do."""
    return next((model.removesuffix(end) for end in model_names("")[1:] if model.endswith(end)), model)


# Files of the repository

MODEL_REPOSITORY = "model_repository"
"""The folder that `cleave build` writes and `cleave serve` reads where no other is named."""

CONFIG_FILE = "config.pbtxt"
"""In a model's folder: the config that Triton takes unless it is told the name of another."""

CONFIGS_FOLDER = "configs"
"""In a model's folder: the configs that Triton takes when it is told their name."""

TENSORRT_CONFIG = "tensorrt"
"""`cleave serve --config-name` takes the configs of engines by this name."""

VERSION_FOLDER = "1"
"""The one version of each model that a build makes; it holds the three files below."""

MANIFEST_FILE = "manifest.json"
ONNX_FILE, PLAN_FILE = "model.onnx", "model.plan"
"""The graph of a model and its TensorRT engine; Triton's names where a config gives none."""

PLAN_PLATFORM = "tensorrt_plan"
"""`platform` of the config of an engine."""


def named_config_file(config_name: str) -> str:
    """In a model's folder: the config that `--model-config-name` chooses by this name."""
    return f"{CONFIGS_FOLDER}/{config_name}.pbtxt"


# Dimensions and parameters of a model's config

VARIABLE: Final = -1
"""How Triton writes a dimension whose size varies."""

SIGNATURE_PARAMETER = "cleave_signature"
"""Publishes the signature of the model, as JSON, to clients and backends: see `cleave.builders.contract.signature`."""

NICE_PARAMETER = "cleave_nice"
"""Says how far a model's process yields the CPU to others, from 0 to 19 as `nice` does."""

ENCODER_PARAMETER = "cleave_encoder"
"""Names the history encoder of a summary cache."""

MAX_AGE_PARAMETER = "cleave_max_age_s"
"""Says how old a summary may be, in seconds, for a user who is named by id alone."""

PROFILES_PARAMETER = "cleave_profiles"
"""Says what sizes each optimization profile of an engine takes: `[{axis: [min, max]}]`."""

# Tensors of served models, and the roles of tensors

USER_ID: Final = "user_id"
"""Input of the models that keep summaries: names the user whose summary it is, one string a user."""

SUMMARY_STATUS: Final = "summary_status"
"""Output of the models that keep summaries: how each user's summary was obtained, one `Status` a user."""

USER: Final = "user"
REQUEST: Final = "request"
CANDIDATE: Final = "candidate"
SUMMARY: Final = "summary"
OUTPUT: Final = "output"

Role = Literal["user", "request", "candidate", "summary", "output"]

PaddingSide = Literal["left", "right"]
LEFT: Final = "left"
RIGHT: Final = "right"
PADDING_SIDES: tuple[PaddingSide, ...] = (LEFT, RIGHT)
"""Where the padding of an axis stands: in front of the rows of a user, or behind them."""
"""What a tensor is to a ranker: kept across requests, sent with each of them, one row per candidate, kept by the
summary cache, or computed."""

# Requests to a summary cache, and its answers

FORGET = "forget"
"""Parameter of a request: delete the summaries of the user."""

QUEUE_FULL = "Exceeds maximum queue size"
"""Triton's words, with the status UNAVAILABLE, for a request that is refused as too many others wait; a summary cache
says the same, as its status cannot be RESOURCE_EXHAUSTED."""

HIT: Final = "hit"
STALE: Final = "stale"
MISS: Final = "miss"
CORRUPT: Final = "corrupt"
FOREIGN: Final = "foreign"
STORE_ERROR: Final = "store_error"
OFF: Final = "off"

Flaw = Literal["corrupt", "foreign"]
"""Why a kept summary cannot be used: it is damaged, or it is of another program, format or build."""

Absence = Flaw | Literal["miss", "store_error", "off"]
"""Why no summary was found: none is kept, the store failed, nothing is ever kept, or what is kept cannot be used."""

Status = Absence | Literal["hit", "stale"]
"""How a summary was obtained. `hit` is a kept one; all others were encoded: `stale` as the kept one is of another
history, otherwise because none could be used."""
