"""The chaos scripts' own parts: what a power cut leaves, what an answer means, what a gap is."""

from __future__ import annotations

import random
from pathlib import Path

import hiredis
import pytest

from raftkv.errors import DiskFailedError
from tests.chaos.failover import gap_ms
from tests.chaos.faults import FaultPage
from tests.chaos.load import Recorder, is_read, judge, now_us, request, result_of
from tests.chaos.node_with_faults import FaultyClock
from tests.chaos.platter import SECTOR_BYTES, FaultyDisk, cut_power
from tests.linearizability.checker import check
from tests.linearizability.history import History, Outcome


class Machine:
    """A data directory, its platter, and a disk that can be started again."""

    def __init__(self, directory: Path) -> None:
        self.data_dir = directory / "data"
        self.platter = directory / "platter"
        self.page = FaultPage(directory / "page")
        self.disk = self.start()

    def start(self) -> FaultyDisk:
        self.disk = FaultyDisk(str(self.data_dir), self.platter, self.page)
        return self.disk

    def cut_power(self, torn: random.Random | None = None) -> int:
        return cut_power(self.data_dir, self.platter, torn=torn)

    def write(self, name: str, data: bytes, *, sync: bool) -> None:
        file = self.disk.open(name, create=not self.disk.exists(name))
        file.write(data, 0)
        if sync:
            file.sync()
        file.close()

    def read(self, name: str) -> bytes:
        return (self.data_dir / name).read_bytes()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_what_was_synced_survives_a_power_cut(machine: Machine) -> None:
    machine.write("file", b"kept", sync=True)
    machine.disk.sync_directory("")
    machine.write("file", b"lost", sync=False)
    assert machine.cut_power() > 0
    assert machine.read("file") == b"kept"


def test_a_kill_while_the_platter_is_made_loses_nothing(machine: Machine) -> None:
    machine.write("file", b"kept", sync=True)
    machine.disk.sync_directory("")
    assert machine.cut_power() == 0
    machine.start()
    # As if killed before the last act of making it.
    (machine.platter / "tree").rename(machine.platter / "making")
    assert machine.cut_power() == 0
    machine.start()
    assert machine.read("file") == b"kept"
    assert machine.cut_power() == 0
    assert machine.read("file") == b"kept"


def test_a_name_survives_only_with_its_directory(machine: Machine) -> None:
    machine.write("file", b"kept", sync=True)
    machine.cut_power()
    assert not (machine.data_dir / "file").exists()


def test_a_synced_name_of_an_unsynced_file_is_an_empty_file(machine: Machine) -> None:
    machine.write("file", b"lost", sync=False)
    machine.disk.sync_directory("")
    machine.cut_power()
    assert machine.read("file") == b""


def test_a_rename_is_undone_with_the_bytes_it_replaced(machine: Machine) -> None:
    machine.write("file", b"old", sync=True)
    machine.disk.sync_directory("")
    machine.write("file.new", b"new", sync=True)
    machine.disk.rename("file.new", "file")
    machine.cut_power(torn=random.Random(1))
    assert machine.read("file") == b"old"


def test_a_synced_rename_stays(machine: Machine) -> None:
    machine.write("file", b"old", sync=True)
    machine.write("file.new", b"new", sync=True)
    machine.disk.rename("file.new", "file")
    machine.disk.sync_directory("")
    machine.cut_power()
    assert machine.read("file") == b"new"


def test_a_removed_file_is_back_unless_that_was_synced(machine: Machine) -> None:
    machine.write("file", b"kept", sync=True)
    machine.disk.sync_directory("")
    machine.disk.remove("file")
    machine.cut_power()
    assert machine.read("file") == b"kept"


def test_what_a_killed_process_left_unsynced_is_lost_later(machine: Machine) -> None:
    machine.write("file", b"kept", sync=True)
    machine.disk.sync_directory("")
    machine.write("file", b"read", sync=False)
    machine.start()
    assert machine.read("file") == b"read"
    machine.cut_power()
    assert machine.read("file") == b"kept"


def test_the_next_process_can_sync_what_was_left(machine: Machine) -> None:
    machine.write("file", b"kept", sync=True)
    machine.disk.sync_directory("")
    machine.write("file", b"read", sync=False)
    machine.start()
    file = machine.disk.open("file")
    file.sync()
    machine.cut_power()
    assert machine.read("file") == b"read"


def test_a_torn_file_has_whole_sectors_of_both(machine: Machine) -> None:
    count = 40
    machine.write("file", b"a" * SECTOR_BYTES * count, sync=True)
    machine.disk.sync_directory("")
    machine.write("file", b"b" * SECTOR_BYTES * count, sync=False)
    machine.cut_power(torn=random.Random(1))
    data = machine.read("file")
    sectors = {data[at : at + SECTOR_BYTES] for at in range(0, len(data), SECTOR_BYTES)}
    assert sectors == {b"a" * SECTOR_BYTES, b"b" * SECTOR_BYTES}


def test_what_a_failed_sync_was_to_save_is_not_on_the_platter(machine: Machine) -> None:
    machine.write("file", b"kept", sync=True)
    machine.disk.sync_directory("")
    machine.page.sync_fails = 1
    with pytest.raises(DiskFailedError):
        machine.write("file", b"lost", sync=True)
    assert machine.page.syncs_failed == 1
    machine.cut_power()
    assert machine.read("file") == b"kept"


def test_a_write_fails_on_demand(machine: Machine) -> None:
    machine.page.write_fails = 1
    with pytest.raises(DiskFailedError):
        machine.write("file", b"x", sync=False)


def test_two_processes_see_one_page(tmp_path: Path) -> None:
    script, node = FaultPage(tmp_path / "page"), FaultPage(tmp_path / "page")
    script.wall_offset_ms = -5000
    clock = FaultyClock(node)
    before_ms = clock.now_ms()
    script.boot_offset_ms = 60_000
    assert clock.now_ms() - before_ms >= 60_000
    assert node.wall_offset_ms == -5000
    clock.wall_ms()
    assert script.clock_reads == 1
    script.clear()
    assert (node.wall_offset_ms, node.boot_offset_ms) == (0, 60_000)


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (None, Outcome.OK),
        (b"value", Outcome.OK),
        (hiredis.ReplyError("MOVED 1 10.0.0.1:7001"), Outcome.REFUSED),
        (hiredis.ReplyError("NOTAPPLIED disk full"), Outcome.REFUSED),
        (hiredis.ReplyError("CLUSTERDOWN no leader elected"), Outcome.REFUSED),
        (hiredis.ReplyError("UNKNOWN timeout"), Outcome.UNKNOWN),
        (hiredis.ReplyError("ERR internal error"), None),
    ],
)
def test_an_answer_is_what_the_manual_says(reply: object, outcome: Outcome | None) -> None:
    assert judge(reply) is outcome


def test_a_conditional_set_is_told_as_the_models_know_it() -> None:
    assert request("setxx", "k", ("v",)).endswith(b"$2\r\nXX\r\n")
    assert result_of("setxx", b"OK") == 1
    assert result_of("setxx", None) == 0
    assert result_of("get", b"v") == "v"


def test_a_couple_of_keys_is_written_and_read_as_one() -> None:
    assert request("pairmove", "k", ("v",)) == bytes(hiredis.pack_command(
        ("KV", "EXEC", "0", "2", "2", "GETDEL", "k", "3", "SET", "k'", "v")
    ))  # fmt: skip
    recorder = Recorder()
    for kind, arguments, result in (
        ("pairset", ("v",), ("OK", "OK")), ("pairget", (), ("v", "v")), ("get", (), "v"),
    ):  # fmt: skip
        recorder.add("c", kind, "k", arguments, now_us(), Outcome.OK, result)
    assert [is_read(one) for one in recorder.operations] == [False, True, True]
    history = History(operations=tuple(recorder.operations), model="store")
    assert check(history).is_ok
    # Half of it is seen.
    recorder.add("c", "pairget", "k", (), now_us(), Outcome.OK, ("v", None))
    history = History(operations=tuple(recorder.operations), model="store")
    assert not check(history).is_ok


def test_a_gap_is_the_longest_time_around_a_kill() -> None:
    acknowledged_us = [0, 5_000_000, 5_100_000, 5_900_000, 6_000_000]
    assert gap_ms(acknowledged_us, 5_150_000, 6_100_000) == pytest.approx(800)
    # Nothing after the kill: the gap lasts until the end.
    assert gap_ms(acknowledged_us[:3], 5_150_000, 9_100_000) == pytest.approx(4000)
