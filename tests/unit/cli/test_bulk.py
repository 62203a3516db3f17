"""`raftkv export` and `raftkv import` as commands: files, failures, going on."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from raftkv.cli import bulk, bulk_import
from raftkv.cli.bulk_format import encode_command
from raftkv.client.sync_client import Client
from tests.unit.cli.conftest import Run
from tests.unit.client.fake_cluster import FakeCluster


@pytest.fixture(autouse=True)
def _keys(cluster: FakeCluster) -> None:
    cluster.keys.update({b"a": b"1", b"b": b"\xff", b"c": b"text"})


def keys_of(text: str) -> list[object]:
    return [json.loads(line)["key"] for line in text.splitlines()]


def test_an_export_goes_to_standard_output_or_to_a_file(run: Run, tmp_path: Path) -> None:
    result = run("export")
    assert keys_of(result.stdout) == ["a", "b", "c"]
    assert result.stderr == "exported 3 keys\n"
    file = tmp_path / "keys.jsonl"
    result = run("export", str(file))
    assert (result.stdout, result.stderr, result.exit_code) == ("exported 3 keys\n", "", 0)
    assert file.read_text() == run("export").stdout
    assert list(tmp_path.iterdir()) == [file]


def test_an_export_replaces_nothing_unasked(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "keys.jsonl"
    file.write_text("precious")
    result = run("export", str(file))
    assert result.exit_code == 2
    assert "--force" in result.stderr
    assert file.read_text() == "precious"
    assert run("export", str(file), "--force", "--json").stdout == '{"keys": 3}\n'


def test_an_import_sets_the_keys(run: Run, cluster: FakeCluster, tmp_path: Path) -> None:
    file = tmp_path / "keys.jsonl"
    run("export", str(file))
    cluster.keys.clear()
    result = run("import", str(file))
    assert (result.stdout, result.exit_code) == ("imported 3 keys\n", 0)
    assert cluster.keys == {b"a": b"1", b"b": b"\xff", b"c": b"text"}
    cluster.keys[b"a"] = b"newer"
    result = run("import", str(file), "--keep-existing", "--json")
    assert json.loads(result.stdout) == {
        "done": 0, "kept": 3, "expired": 0, "empty": 0, "failed": 0,
    }  # fmt: skip
    assert cluster.keys[b"a"] == b"newer"
    assert run("import", stdin=file.read_bytes()).stdout == "imported 3 keys\n"
    assert cluster.keys[b"a"] == b"1"


def test_resp_files_hold_commands(run: Run, cluster: FakeCluster, tmp_path: Path) -> None:
    file = tmp_path / "keys.resp"
    run("export", str(file))
    assert file.read_bytes().startswith(encode_command((b"SET", b"a", b"1")))
    cluster.keys.clear()
    assert run("import", str(file)).stdout == "imported 3 commands\n"
    assert cluster.keys == {b"a": b"1", b"b": b"\xff", b"c": b"text"}


def test_an_interrupted_export_goes_on(
    run: Run, cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.keys.clear()
    cluster.keys.update({b"k%02d" % number: b"v" for number in range(40)})
    monkeypatch.setattr(bulk, "_PAGE_KEYS", 10)
    file = tmp_path / "keys.jsonl"
    real_page_done = bulk._Output.page_done

    def die_behind_page_2(self: bulk._Output, cursor: int) -> None:
        real_page_done(self, cursor)
        if cursor == 20:
            self.write(b"half a li")
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(bulk._Output, "page_done", die_behind_page_2)
    result = run("export", str(file))
    assert result.exit_code == 1
    assert "No space left" in result.stderr
    assert not file.exists()
    monkeypatch.undo()
    monkeypatch.setattr(bulk, "_PAGE_KEYS", 10)
    cluster.executed.clear()

    assert run("export", str(file), "--match", "k*").exit_code == 1  # other options
    result = run("export", str(file))
    assert result.exit_code == 0
    assert "going on behind 20 keys" in result.stderr
    assert keys_of(file.read_text()) == [f"k{number:02d}" for number in range(40)]
    assert (b"SCAN", b"0", b"COUNT", b"10") not in [words for _, words in cluster.executed]
    assert list(tmp_path.iterdir()) == [file]


def test_an_import_of_keys_repeats_what_is_unknown(
    run: Run, cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "keys.jsonl"
    run("export", str(file))
    cluster.keys.clear()
    cluster.sessions.is_known = False
    monkeypatch.setattr(bulk_import, "_BATCH_COMMANDS", 2)
    cluster.nodes[0].acts += ["", "UNKNOWN timeout"]
    assert run("import", str(file)).stdout == "imported 3 keys\n"
    assert cluster.keys == {b"a": b"1", b"b": b"\xff", b"c": b"text"}


@pytest.mark.slow
def test_an_import_of_keys_repeats_what_was_fenced_at_the_end_of_the_deadline(
    run: Run, cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "keys.jsonl"
    run("export", str(file))
    cluster.keys.clear()
    monkeypatch.setattr(bulk_import, "_BATCH_COMMANDS", 1)
    cluster.nodes[0].acts += ["", "hang"]
    assert run("import", str(file), "--deadline", "0.5").output == "imported 3 keys\n"
    assert cluster.keys == {b"a": b"1", b"b": b"\xff", b"c": b"text"}
    assert b"OUTCOME" in [words[1] for words in cluster.sessions.asked]


def test_an_import_that_keeps_failing_says_where_to_go_on(
    run: Run, cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "keys.jsonl"
    run("export", str(file))
    second = file.read_bytes().index(b"\n") + 1
    cluster.keys.clear()
    cluster.sessions.is_known = False
    monkeypatch.setattr(bulk_import, "_BATCH_COMMANDS", 1)
    cluster.nodes[0].acts += ["", *["UNKNOWN timeout"] * 5]
    result = run("import", str(file))
    assert result.exit_code == 5
    assert f"1 key done; go on with --offset {second}" in result.stderr
    assert run("import", str(file), "--offset", str(second)).stdout == "imported 2 keys\n"
    assert cluster.keys == {b"a": b"1", b"b": b"\xff", b"c": b"text"}


def test_commands_are_sent_until_they_have_taken_effect_once(
    run: Run, cluster: FakeCluster, tmp_path: Path
) -> None:
    file = tmp_path / "counts.resp"
    file.write_bytes(encode_command((b"INCR", b"n")) * 5)
    cluster.nodes[0].acts += ["", "drop after", "UNKNOWN timeout", "drop before"]
    assert run("import", str(file)).output == "imported 5 commands\n"
    assert cluster.keys[b"n"] == b"5"


def test_commands_without_a_number_are_never_sent_twice(
    run: Run, cluster: FakeCluster, tmp_path: Path
) -> None:
    cluster.sessions.is_known = False
    file = tmp_path / "counts.resp"
    incr = encode_command((b"INCR", b"n"))
    file.write_bytes(incr * 3)
    cluster.nodes[0].acts += ["", "drop after"]
    result = run("import", str(file))
    assert result.exit_code == 5
    assert f"--offset {len(incr)}" in result.stderr
    assert cluster.keys[b"n"] == b"2"


def test_failed_commands_are_counted_and_shown(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "wrong.resp"
    file.write_bytes(encode_command((b"INCR", b"c")) * 7 + encode_command((b"SET", b"d", b"1")))
    result = run("import", str(file))
    assert result.exit_code == 1
    assert result.stdout == "imported 1 command, 7 failed\n"
    assert result.stderr.count("not an integer") == bulk_import.FAILURES_SHOWN


WRONG_FILES = [
    (b"nonsense\n", "byte 0: not a key"),
    (b'{"key": "a", "type": "string", "value": "2"}\n\n', "byte 45: an empty line"),
    (b'{"key": "a", "type": "list", "value": ["x"], "part": 1}\n', "byte 0: not the next part"),
    (b'{"key": "a", "type": "string", "value": "2", "more": true}\n', "a string has one part"),
    (b'{"key": "l", "type": "list", "value": ["x"], "more": true}\n', "ends within a key"),
    (
        b'{"key": "l", "type": "list", "value": ["x"], "more": true}\n'
        b'{"key": "m", "type": "list", "value": ["x"]}\n',
        "byte 59: not the next part",
    ),
    (b"*1\r\n$4\r\nPING\r\n*1\r\nrest", "byte 14: not a command"),
    (b"*1\r\n$5\r\nMULTI\r\n", "MULTI changes its connection"),
    (b"*2\r\n$6\r\nSELECT\r\n$1\r\n1\r\n", "SELECT changes its connection"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "reason"), WRONG_FILES, ids=[reason for _, reason in WRONG_FILES])
def test_a_wrong_file_says_where_and_why(
    run: Run, tmp_path: Path, data: bytes, reason: str
) -> None:
    file = tmp_path / "wrong"
    file.write_bytes(data)
    result = run("import", str(file))
    assert result.exit_code == 1
    assert reason in result.stderr


def test_an_empty_or_missing_file(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    result = run("import", str(file))
    assert result.exit_code == 1
    assert "No such file" in result.stderr
    file.touch()
    assert run("import", str(file)).stdout == "imported 0 keys\n"
    assert run("import", "--offset", "5", stdin=b"").exit_code == 2


def test_an_interrupted_import_has_an_unknown_outcome(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "keys"
    run("export", str(file))

    def interrupt(*_: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "converse", interrupt)
    result = run("import", str(file))
    assert result.exit_code == 5
    assert "interrupted" in result.stderr
    assert "--offset 0" in result.stderr
    result = run("import", "-", stdin=file.read_bytes())
    assert result.exit_code == 5
    assert "--offset" not in result.stderr
    assert "0 keys done; go on behind the first 0 bytes (tail -c +1)" in result.stderr


@pytest.mark.parametrize("file", ["keys", "-"])
def test_an_import_interrupted_before_it_began_has_done_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    def interrupt(*_: object, **__: object) -> object:
        raise KeyboardInterrupt

    (tmp_path / "keys").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bulk_import.Importer, "__init__", interrupt)
    result = run("import", file, stdin=b"")
    assert (result.exit_code, result.stderr) == (1, "error: interrupted\nnothing was imported\n")


def test_an_interrupted_export_says_how_to_go_on(
    run: Run, cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "_PAGE_KEYS", 1)
    real_page_done = bulk._Output.page_done

    def interrupt_behind_page_1(self: bulk._Output, cursor: int) -> None:
        real_page_done(self, cursor)
        raise KeyboardInterrupt

    monkeypatch.setattr(bulk._Output, "page_done", interrupt_behind_page_1)
    file = str(tmp_path / "keys.jsonl")
    result = run("export", file)
    assert result.exit_code == 1
    assert result.stderr == "error: interrupted\nthe same command goes on\n"
    result = run("export", file, "--restart")
    assert "the same command without --restart goes on" in result.stderr
    result = run("export")
    assert (result.exit_code, keys_of(result.stdout)) == (1, ["a"])
    assert result.stderr == "error: interrupted\nwhat was written is not all\n"
    monkeypatch.setattr(bulk._Output, "page_done", real_page_done)
    result = run("export", file)
    assert (result.exit_code, result.stderr) == (0, "going on behind 1 key\n")


def test_an_offset_behind_the_end_is_wrong_usage(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    run("export", str(file))
    size = file.stat().st_size
    result = run("import", str(file), "--offset", str(size + 1))
    assert result.exit_code == 2
    assert f"FILE has {size} bytes" in result.stderr
    assert run("import", str(file), "--offset", str(size)).stdout == "imported 0 keys\n"


def test_a_pipe_may_be_named_as_a_file(run: Run, cluster: FakeCluster, tmp_path: Path) -> None:
    data = run("export").stdout.encode()
    cluster.keys.clear()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(data,))
    writer.start()
    result = run("import", str(pipe))
    writer.join()
    assert (result.stdout, len(cluster.keys)) == ("imported 3 keys\n", 3)
