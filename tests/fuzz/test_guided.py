"""The script for coverage-guided fuzzing: what it says where it cannot run, and a short run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.fuzz import guided
from tests.fuzz.targets import TARGETS


def test_without_atheris_it_skips_by_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "atheris", None)
    assert guided.main(["identity"]) == guided.SKIPPED
    assert "skipped: atheris is not installed" in capsys.readouterr().out


def test_a_target_that_is_not_there_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        guided.main(["identities"])
    assert ended.value.code == 2
    assert "identity" in capsys.readouterr().err


def test_the_list_names_every_target(capsys: pytest.CaptureFixture[str]) -> None:
    assert guided.main(["list"]) == 0
    assert capsys.readouterr().out.split() == list(TARGETS)


@pytest.mark.slow
def test_a_second_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("atheris")
    code = guided.main(["identity", "--seconds", "1", "--seed", "1", "--output", str(tmp_path)])
    assert code == 0, capsys.readouterr().out
    assert "identity: " in capsys.readouterr().out
