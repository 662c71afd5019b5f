from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cleave.builders.contract.build_version import build_of_version, version_of_build

FINGERPRINTS = st.text("0123456789abcdef", min_size=64, max_size=64)
SIGNATURES = st.dictionaries(st.sampled_from(["a", "a_whole", "a_uncached"]), st.text(max_size=5), max_size=3)
LARGEST = 2**63 - 1


@given(FINGERPRINTS, SIGNATURES)
def test_a_version_is_a_number_of_triton_and_says_the_build(fingerprint: str, signatures: dict[str, str]) -> None:
    version = version_of_build(fingerprint, signatures)
    assert 1 < int(version) <= LARGEST
    assert version == str(int(version))
    build = build_of_version(version)
    assert build is not None
    assert build.startswith(f"{fingerprint[:8]}.")
    assert version == version_of_build(fingerprint, dict(reversed(signatures.items())))


@given(FINGERPRINTS, SIGNATURES, FINGERPRINTS, SIGNATURES)
def test_other_weights_or_another_signature_are_another_version(
    fingerprint: str, signatures: dict[str, str], other: str, others: dict[str, str]
) -> None:
    same = version_of_build(fingerprint, signatures) == version_of_build(other, others)
    assert same == (fingerprint[:8] == other[:8] and signatures == others)


def test_a_server_that_was_not_started_by_cleave_says_no_build() -> None:
    assert build_of_version("1") is None
    assert build_of_version("") is None
