"""What `raftkv lab` says, without a cluster."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from raftkv.cli.lab import _plan
from raftkv.cli.lab_load import LabLoad
from raftkv.cli.lab_run import LabRun, Result
from raftkv.cli.lab_scenarios import SCENARIOS
from raftkv.cli.lab_verdict import Check
from raftkv.cli.lab_view import JsonView, LinesView, View, pulse
from raftkv.cli.main import command

PAGE = Path(__file__).resolve().parents[3] / "docs" / "howto" / "lab.md"
RESULT = Result("kill-leader", 0.5, 700, 2, 1, (1, 2))
CHECKS = [Check("nothing is lost", ()), Check("no read is stale", ("a read gave 1 after 2",))]


def told(view: View) -> None:
    """Tell a whole story."""
    view.chapter(1, 2, SCENARIOS["kill-leader"])
    view.tell("hurt", "n1 is killed")
    view.explain("The others miss its heartbeats. " * 6)
    view.result(RESULT)
    view.verdict([RESULT], CHECKS)
    view.end("A promise was broken.", good=False)


def test_the_lines_fit_and_say_everything(capsys: pytest.CaptureFixture[str]) -> None:
    told(LinesView())
    output = capsys.readouterr().out
    assert all(len(line) <= 100 for line in output.splitlines())
    words = re.sub(r"\s+", " ", output)
    for text in (
        "== 1 of 2: kill-leader: kill -9 of the leader",
        "s hurt n1 is killed",
        "0.50 s at most without an acknowledged write; 700 acknowledged, 2 unknown, 1 refused; "
        "term 1 to 2",
        "kept nothing is lost",
        "BROKEN no read is stale a read gave 1 after 2",
    ):
        assert text in words


def test_json_has_one_event_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    told(JsonView())
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["event"] for one in events] == [
        "scenario", "hurt", "why", "result", "promise", "promise", "end",
    ]  # fmt: skip
    assert events[3]["gap_s"] == 0.5
    assert [one["kept"] for one in events[4:6]] == [True, False]
    assert events[-1]["ok"] is False


def test_the_pulse_shows_every_silence() -> None:
    assert pulse([0, 0, 0]) == "   "
    assert pulse([8, 0, 1, 4]) == "█ ▁▄"


def test_each_scenario_comes_once_or_until_the_time_is_over() -> None:
    chosen = list(SCENARIOS.values())
    once = list(_plan(chosen, random.Random(1), None))
    assert [scenario for _, _, scenario in once] == chosen
    endless = list(itertools.islice(_plan(chosen, random.Random(1), 1e9), 3 * len(chosen)))
    assert [number for number, _, _ in endless] == list(range(1, 3 * len(chosen) + 1))
    assert {one.name for _, _, one in endless[: len(chosen)]} == set(SCENARIOS)
    again = list(itertools.islice(_plan(chosen, random.Random(1), 1e9), 3 * len(chosen)))
    assert again == endless
    assert len(list(_plan(chosen, random.Random(1), 0.0))) == 1


class SlowElection:
    """A cluster whose next leader is heard of at the tenth question only."""

    failure = ""

    def __init__(self) -> None:
        self.questions = 0

    @property
    def leader(self) -> SimpleNamespace:
        self.questions += 1
        return SimpleNamespace(status=SimpleNamespace(term=0 if self.questions < 10 else 1))


def test_what_needs_an_election_hurts_until_there_was_one() -> None:
    cluster: Any = SlowElection()
    source = random.Random(1)
    load = LabLoad(["127.0.0.1:1"], clients=1, source=source, think_s=0.0)
    run = LabRun(cluster, load, LinesView(), source=source, hold_s=0.0)
    asyncio.run(run.hold_until_elected())
    assert cluster.questions == 10


def test_who_wants_it_to_end_waits_for_no_election() -> None:
    cluster: Any = SlowElection()
    source = random.Random(1)
    load = LabLoad(["127.0.0.1:1"], clients=1, source=source, think_s=0.0)
    run = LabRun(cluster, load, LinesView(), source=source, hold_s=60.0)
    run.is_ending = True
    asyncio.run(run.hold_until_elected())
    assert cluster.questions == 0


def test_gaps_and_rates_are_those_of_acknowledged_writes() -> None:
    load = LabLoad(["127.0.0.1:1"], clients=1, source=random.Random(1), think_s=0.0)
    assert load.longest_gap(0, 1_000_000) == 0.0
    load._acknowledged_us += [1_000_000, 1_100_000, 2_000_000, 2_050_000]
    assert load.longest_gap(1_500_000, 2_100_000) == 0.9
    assert load.longest_gap(2_000_001, 5_050_000) == 3.0
    assert load.rates(3, 100_000, 2_199_999) == [0, 0, 2]


def test_the_help_and_the_page_name_every_scenario() -> None:
    output = CliRunner().invoke(command, ["lab", "--help"]).output
    page = PAGE.read_text(encoding="utf-8")
    for scenario in SCENARIOS.values():
        assert f"{scenario.name} " in output
        assert f"| `{scenario.name}` |" in page


def test_an_unknown_scenario_is_wrong_usage() -> None:
    result = CliRunner().invoke(command, ["lab", "drop-table"])
    assert result.exit_code == 2
    assert "kill-leader" in result.output
