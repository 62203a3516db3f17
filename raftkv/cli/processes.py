"""Processes that outlive the command which started them: pid files that cannot lie.

Owns the pid file and the question whether the process in it is still the one
that was started. A number alone is not enough: after a crash or a reboot the
system gives it to somebody else, and `raftkv down` must never end a stranger.

The identity is the start time of the process together with the boot it belongs
to (Linux), or the start time that `ps` prints (elsewhere).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# Fields of /proc/<pid>/stat behind the name in parentheses.
_STATE_FIELD = 0
_START_FIELD = 19


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """A process that was started: its number and what makes it recognisable."""

    pid: int
    identity: str

    def is_alive(self) -> bool:
        """Whether that very process still runs."""
        return bool(self.identity) and identity_of(self.pid) == self.identity

    def send(self, signal_number: int) -> bool:
        """Send a signal, only to that very process; False if it is gone."""
        if not self.is_alive():
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal_number)
            return True
        return False

    def terminate(self) -> bool:
        """Ask the process to stop."""
        return self.send(signal.SIGTERM)

    def kill(self) -> bool:
        """End the process without asking."""
        return self.send(signal.SIGKILL)


def identity_of(pid: int) -> str:
    """Return what tells this process from a later one of that number; empty if it is gone."""
    if _BOOT_ID.exists():
        return _identity_from_proc(pid)
    listed = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    words = listed.stdout.split()
    return "" if not words or words[0].startswith("Z") else " ".join(words[1:])


def _identity_from_proc(pid: int) -> str:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        boot = _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""
    # The name may hold spaces and parentheses itself.
    fields = text.rpartition(")")[2].split()
    if fields[_STATE_FIELD] in ("Z", "X"):
        return ""
    return f"{boot} {fields[_START_FIELD]}"


def save_record(path: Path, record: ProcessRecord) -> None:
    """Write a pid file at once or not at all."""
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(
        json.dumps({"pid": record.pid, "identity": record.identity}) + "\n", encoding="utf-8"
    )
    temporary.replace(path)


def load_record(path: Path) -> ProcessRecord | None:
    """Read a pid file; None where there is none or it cannot be understood."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        return ProcessRecord(int(said["pid"]), str(said["identity"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
