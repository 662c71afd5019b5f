from __future__ import annotations

from collections import Counter
from itertools import count

import pytest

from cleave.perf.errors import PerfError
from cleave.perf.run import counters
from cleave.perf.run.counters import Counters


def test_a_server_that_others_use_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = count()
    monkeypatch.setattr(Counters, "lookups", lambda self, ranker: Counter(hit=next(numbers)))
    monkeypatch.setattr(counters, "PATIENCE_S", 0.05)
    monkeypatch.setattr(counters, "POLL_S", 0.001)
    with pytest.raises(PerfError, match=r"^append_summary_cache: expected no lookups .*; see that nobody else uses"):
        Counters("host:8001", "http://host:8002/metrics").settled_lookups("append")
