from __future__ import annotations

import pytest

from cleave.perf.errors import PerfError
from cleave.perf.workload.thresholds import threshold_from_text


@pytest.mark.parametrize("text", ["p50 <= 1.2.3 ms", "cached >= . x single_pass", "p50 < 3", 5])
def test_what_is_no_threshold_is_refused(text: object) -> None:
    with pytest.raises(PerfError, match="test: expected a line such as 'cached >= 500 x per_candidate'"):
        threshold_from_text("test", text)
