from __future__ import annotations

from cleave.perf.claims.claim import Claim


def test_a_claim_says_whether_it_holds() -> None:
    assert str(Claim("time", 1.5, 2, True, "so")) == "holds  time: 1.5 (target: 2)\n       so"
    assert str(Claim("time", 2.5, 2, False, "so")).startswith("FAILS  time: 2.5 (target: 2)")
