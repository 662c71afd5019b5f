"""The build of a ranker as a version of Triton: a request asks for it, and an answer names it.

A client pads with values, sizes and names that it learned once. Behind its address there may be another build at any
time: after a restart, behind a proxy, or on one of two servers during a rollout. So `cleave serve` gives each model a
version number that is made of its build. A request names the version that it was made for, which Triton compares before
it reads a tensor, and an answer the version that it comes from. That needs nothing of a config, a graph or a backend,
NVIDIA's own included, holds through ensembles, and costs neither a byte of a tensor nor a round trip.

Rejected: a parameter or an output of the answer (NVIDIA's backends set no parameters; an output would be in every graph
and config), a parameter of the request (they ignore it), a client that learns anew when its connection broke (a proxy
hides that, and two servers behind one address break none), and a question before each call (a round trip).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

_FINGERPRINT_DIGITS, _SIGNATURE_DIGITS = 8, 6
_DIGITS = _FINGERPRINT_DIGITS + _SIGNATURE_DIGITS


def version_of_build(fingerprint: str, signatures: Mapping[str, str]) -> str:
    """The version, a positive 64-bit integer in decimal digits, of all models of a build.

    Args:
        fingerprint: that of the manifests, which names weights and graphs.
        signatures: what each model publishes of sizes, names and padding, by model; a build may change it alone.
    """
    digest = hashlib.sha256(repr(sorted(signatures.items())).encode()).hexdigest()
    digits = fingerprint[:_FINGERPRINT_DIGITS] + digest[:_SIGNATURE_DIGITS]
    return str(int(f"1{digits}", 16))  # the 1 keeps zeros in front


def build_of_version(version: str) -> str | None:
    """How a build is called: the first digits of its fingerprint, a dot, and those of the digest of its signatures.

    None for a version that is of no build: a server that was not started by `cleave serve` has the version 1 of all.
    """
    digits = f"{int(version or 0):x}"
    if len(digits) != _DIGITS + 1:
        return None
    return f"{digits[1 : _FINGERPRINT_DIGITS + 1]}.{digits[_FINGERPRINT_DIGITS + 1 :]}"
