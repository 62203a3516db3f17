"""What the chaos scripts share: options, a cluster in a directory, a summary, an exit code.

A script prints one line a step and one line of summary at the end, beginning with
`ok` or `FAILED`. It exits with 0 or 1; on 1 the directory with data and logs stays
and is named. SIGTERM and Ctrl-C end the processes it started, too.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.integration.cluster import Cluster


class Script:
    """One run of one script.

    Args:
        description: Docstring of the script; shown by --help.
        default_duration_s: Of --duration.

    Attributes:
        parser: For further options.
        arguments: Parsed options.
        random: Seeded by --seed.
        directory: Of data and logs; goes away when all is well.
        title: Name and seed.
    """

    def __init__(self, description: str | None, *, default_duration_s: float) -> None:
        self.parser = argparse.ArgumentParser(
            description=description, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        self.parser.add_argument("--seed", type=int, default=None, metavar="N",
                                 help="repeat the random choices of a run")  # fmt: skip
        self.parser.add_argument(
            "--duration", type=float, default=default_duration_s, metavar="SECONDS",
            help=f"how long at least, checks not counted ({default_duration_s:g})",
        )  # fmt: skip
        self.parser.add_argument("--nodes", type=int, default=3, metavar="N",
                                 help="size of the cluster, 3..5 (3)")  # fmt: skip
        self.parser.add_argument("--dir", type=Path, default=None, metavar="DIR",
                                 help="where the temporary directory is made")  # fmt: skip
        self.parser.add_argument("--keep", action="store_true",
                                 help="keep data and logs also when all is well")  # fmt: skip
        self.arguments = argparse.Namespace()
        self.random = random.Random()
        self._started_s = 0.0
        self.directory = Path()
        self.title = ""

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._started_s

    @property
    def is_over(self) -> bool:
        """Whether the duration has passed."""
        return self.elapsed_s >= float(self.arguments.duration)

    def say(self, text: str) -> None:
        print(f"{self.elapsed_s:7.1f} s  {text}", flush=True)

    @contextlib.contextmanager
    def cluster(self, *overrides: str) -> Iterator[Cluster]:
        """Give a cluster that is not started; ends its processes."""
        with Cluster(self.directory, size=self.arguments.nodes, overrides=overrides) as cluster:
            yield cluster

    def main(self, run: Callable[[Script], str], arguments: Sequence[str] | None) -> int:
        """Parse, run, print the summary that `run` returns; return the exit code."""
        self.arguments = self.parser.parse_args(arguments)
        if not 3 <= self.arguments.nodes <= 5:
            self.parser.error("--nodes is 3..5")
        seed = self.arguments.seed
        if seed is None:
            seed = random.SystemRandom().getrandbits(32)
        self.random = random.Random(seed)
        name = Path(sys.modules[run.__module__].__file__ or "chaos").stem
        self.directory = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.arguments.dir))
        self.title = f"{name} --seed {seed}"
        self._started_s = time.monotonic()
        self.say(f"{self.title} in {self.directory}")
        try:
            with _ended_by_sigterm():
                summary = run(self)
        except Exception as error:
            traceback.print_exc()
            first = (str(error) or repr(error)).splitlines()[0]
            print(f"FAILED {self.title}: {first}; data and logs: {self.directory}")
            return 1
        except BaseException:
            shutil.rmtree(self.directory, ignore_errors=True)
            raise
        if not self.arguments.keep:
            shutil.rmtree(self.directory, ignore_errors=True)
        print(f"ok {self.title}: {summary}; {self.elapsed_s:.0f} s in all", flush=True)
        return 0


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Turn SIGTERM into an exception, so that what was started is ended."""

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
