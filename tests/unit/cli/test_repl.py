from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest
from prompt_toolkit.document import Document
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

import raftkv
from raftkv.cli.command_book import CommandBook, load_book
from raftkv.cli.options import Target
from raftkv.cli.prompt import CommandCompleter, open_history, prompt_loop
from raftkv.cli.repl import Shell
from raftkv.client.sync_client import Client
from raftkv.errors import CommandError
from tests.unit.cli.conftest import Run
from tests.unit.client.fake_cluster import Failing, FakeCluster


def test_commands_from_a_pipe_answer_raw(run: Run, cluster: FakeCluster) -> None:
    result = run(
        "cli", stdin='SET "a b" \'x y\'\n\n# a comment\nGET "a b"\nGET none\nexit\nGET x\n'
    )
    assert result.exit_code == 0
    assert result.stdout == "OK\nx y\n\n"
    assert cluster.names() == [b"SET", b"GET", b"GET"]


def test_bytes_of_a_pipe_are_kept(run: Run, cluster: FakeCluster) -> None:
    run("cli", stdin=b'SET k\xff "\\x00\xfe"\n')
    assert cluster.keys == {b"k\xff": b"\x00\xfe"}


def test_eval_answers_typed_on_demand(run: Run) -> None:
    result = run("cli", "--typed", "-e", "SET a 1", "-e", "INCR a", "-e", "MGET a none")
    assert result.stdout == 'OK\n(integer) 2\n1) "2"\n2) (nil)\n'


def test_one_failure_does_not_stop_the_others(run: Run) -> None:
    result = run("cli", stdin='NONSENSE\nGET "a\nSUBSCRIBE x\nSET a 1\n')
    assert result.exit_code == 1
    assert result.stdout == "OK\n"
    assert "ERR unknown command" in result.stderr
    assert "quote" in result.stderr
    assert "SUBSCRIBE is not supported" in result.stderr


def test_a_transaction_is_one_request_wherever_the_leader_is(
    run: Run, cluster: FakeCluster
) -> None:
    cluster.leader = cluster.nodes[2]
    lines = "WATCH a b\nMULTI\nSET a 1\nINCR a\nincr a\nEXEC\nMULTI\nEXEC\nGET a\n"
    result = run("cli", "--json", stdin=lines)
    assert result.exit_code == 0
    replies = [json.loads(line) for line in result.stdout.splitlines()]
    queued = ["QUEUED"] * 3
    assert replies == ["OK", "OK", *queued, ["OK", 2, 3], "OK", [], "3"]
    assert cluster.names() == [b"KV", b"KV", b"KV", b"GET"]


def test_a_transaction_that_is_refused_discarded_or_unknown(run: Run, cluster: FakeCluster) -> None:
    result = run("cli", stdin="EXEC\nDISCARD\nMULTI\nMULTI\nWATCH a\nSET a 1\nDISCARD\nEXEC\n")
    assert result.exit_code == 1
    assert cluster.names() == []
    for text in ("EXEC without MULTI", "DISCARD without MULTI", "nested", "WATCH inside MULTI"):
        assert text in result.stderr
    cluster.nodes[0].acts.append("UNKNOWN timeout")
    assert run("cli", stdin="MULTI\nSET a 1\nEXEC\n").exit_code == 5


def test_the_worst_outcome_is_the_exit_code(run: Run, cluster: FakeCluster) -> None:
    cluster.nodes[0].acts.append("UNKNOWN timeout")
    result = run("cli", "--typed", "-e", "INCR a", "-e", "NONSENSE")
    assert result.exit_code == 5
    assert "(error) OutcomeUnknown: timeout" in result.stdout


def test_json_answers_one_line_each(run: Run) -> None:
    result = run("cli", "--json", "-e", "SET a 1", "-e", "MGET a b", "-e", "NONSENSE")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert lines[:2] == ["OK", ["1", None]]
    assert lines[2]["type"] == "CommandError"


def test_a_connection_keeps_its_state(run: Run, cluster: FakeCluster) -> None:
    run("cli", "-n", cluster.addresses[0], "-e", "SELECT 0", "-e", "READONLY", "-e", "SET a 1")
    assert cluster.nodes[0].connections == 1


def complete(text: str) -> list[str]:
    book = CommandBook({"NEWCOMER": "Does something new"})
    completer = CommandCompleter(book)
    return [one.text for one in completer.get_completions(Document(text), None)]  # type: ignore[arg-type]


def test_completion() -> None:
    assert complete("GETD") == ["GETDEL"]
    assert complete("getd") == ["getdel"]
    assert complete("new") == ["newcomer"]
    assert complete("raft s") == ["status", "snapshot"]
    assert complete("CONFIG ") == ["GET", "SET", "RESETSTAT"]
    assert complete("help exp") == ["expire", "expireat", "expiretime"]
    assert complete("GET k") == []
    assert complete("SET a b") == []


def test_hints_tell_arguments_and_meaning() -> None:
    book = CommandBook({"GET": "Return the string at a key"})
    assert book.hint("get ") == "GET key   Return the string at a key"
    assert book.hint("APPEND x") == "APPEND key value"
    assert book.hint("") == book.hint("unheard of") == ""


@pytest.mark.parametrize(
    "documents",
    [
        {b"get": {b"summary": b"Says it"}},
        [b"get", [b"summary", b"Says it", b"group", b"string"]],
    ],
)
def test_the_server_explains_its_commands(cluster: FakeCluster, documents: object) -> None:
    cluster.canned[b"COMMAND"] = documents
    with Client(cluster.addresses) as client:
        assert load_book(client).summaries == {"GET": "Says it"}


def test_a_server_without_explanations_is_fine(cluster: FakeCluster) -> None:
    cluster.canned[b"COMMAND"] = Failing("ERR unknown command")
    with Client(cluster.addresses) as client:
        assert "GET" in load_book(client).names


def test_the_history_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "history"
    monkeypatch.setenv("RAFTKV_HISTORY", str(path))
    history = open_history()
    for line in ("SET a 1", "AUTH secret", "hello 3 auth user secret"):
        history.append_string(line)
    assert path.stat().st_mode & 0o077 == 0
    assert "SET a 1" in path.read_text()
    assert "secret" not in path.read_text()


def test_without_a_place_for_it_the_history_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAFTKV_HISTORY", os.devnull + "/none")
    open_history().append_string("SET a 1")


def test_a_prompt_runs_lines_until_the_end(
    cluster: FakeCluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RAFTKV_HISTORY", str(tmp_path / "history"))
    cluster.canned[b"COMMAND"] = {b"get": {b"summary": b"Says it"}}
    target = Target(addresses=tuple(cluster.addresses), json=False, deadline_s=5)
    with target.open(keep_state=True) as client, create_pipe_input() as typed:
        shell = Shell(client, target, typed=True)
        typed.send_text("set a 1\rget a\rhelp get\rhelp\rnonsense\rquit\r")
        prompt_loop(shell, client, input=typed, output=DummyOutput())
    printed = capsys.readouterr().out
    assert 'OK\n"1"\nGET key\nSays it\nType any command' in printed
    assert "(error) ERR unknown command" in printed
    assert shell.exit_code == 1


@pytest.mark.slow
def test_leaving_a_prompt_is_no_failure_whatever_was_typed(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    ours, theirs = os.openpty()
    environment = {
        **os.environ,
        "RAFTKV_NODES": ",".join(cluster.addresses),
        "RAFTKV_HISTORY": str(tmp_path / "history"),
        "TERM": "dumb",
    }
    with subprocess.Popen(
        [sys.executable, "-m", "raftkv", "cli"],
        stdin=theirs, stdout=theirs, stderr=theirs, env=environment,
        cwd=Path(raftkv.__file__).parents[1],
    ) as shell:  # fmt: skip
        os.close(theirs)
        os.write(ours, b"nonsense\rexit\r")
        shown = b""
        while select.select([ours], [], [], 20)[0]:
            try:
                piece = os.read(ours, 4096)
            except OSError:
                break  # Linux: the other end is closed.
            if not piece:
                break
            shown += piece
        assert shell.wait(20) == 0
    os.close(ours)
    assert b"ERR unknown command" in shown


def test_an_error_object_is_json() -> None:
    from raftkv.cli.terminal import as_json

    assert as_json([CommandError("ERR x")]) == [
        {"error": "ERR x", "type": "CommandError", "definite": True}
    ]
