"""Fuzz one target with coverage guidance: `python -m tests.fuzz.guided TARGET --seconds N`.

Needs atheris (`pip install atheris`), which is not part of the test extra: it is
not built for every platform and Python. Inputs that break a promise are kept in
the directory that `--output` names; put them, made small and as `.bin`, into
tests/fuzz/found once they are understood.

Exit codes: 0 nothing found, 1 something found, 2 wrong usage, 77 no atheris.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SKIPPED = 77
# Set for the process that fuzzes: libFuzzer ends its process, so it gets one of its own.
_CHILD = "RAFTKV_FUZZ_TARGET"
# An input that takes longer is reported as found.
_INPUT_S_MAX = 10
_MEMORY_MB_MAX = 1024


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz.guided",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("target", help="name of a target, or `all`, or `list`")
    parser.add_argument("--seconds", type=int, default=60, help="time for each target")
    parser.add_argument("--seed", type=int, default=0, help="of libFuzzer; 0 chooses one")
    parser.add_argument(
        "--corpus", type=Path, help="directory of inputs to start from and to extend"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("fuzz-output"), help="for what is found"
    )
    options = parser.parse_args(arguments)
    names = _names()
    if options.target == "list":
        print("\n".join(names))
        return 0
    if options.target != "all" and options.target not in names:
        parser.error(f"no target {options.target!r}; there are {', '.join(names)}")
    try:
        import atheris  # noqa: F401
    except ImportError:
        print("skipped: atheris is not installed (pip install atheris)")
        return SKIPPED
    chosen = names if options.target == "all" else [options.target]
    broken = [name for name in chosen if not _fuzz(name, options)]
    print(f"{len(chosen)} targets, {len(broken)} with findings: {', '.join(broken) or 'none'}")
    return 1 if broken else 0


def _names() -> list[str]:
    from tests.fuzz.targets import TARGETS

    return list(TARGETS)


def _fuzz(name: str, options: argparse.Namespace) -> bool:
    """Fuzz one target in a process of its own; returns whether nothing was found."""
    output = options.output / name
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        corpus = Path(temporary) / "corpus" if options.corpus is None else options.corpus / name
        corpus.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable, "-m", "tests.fuzz.guided", "child",
            f"-max_total_time={options.seconds}", f"-timeout={_INPUT_S_MAX}",
            f"-rss_limit_mb={_MEMORY_MB_MAX}", f"-artifact_prefix={output}/", "-max_len=8192",
            "-print_final_stats=1", f"-seed={options.seed}", str(corpus),
        ]  # fmt: skip
        environment = {**os.environ, _CHILD: name}
        ended = subprocess.run(command, cwd=ROOT, env=environment, check=False, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
    runs = [line.split()[-1] for line in ended.stdout.splitlines() if "number_of_executed" in line]
    if ended.returncode == 0:
        print(f"{name}: {runs[0] if runs else '?'} inputs, nothing found", flush=True)
        return True
    print(ended.stdout[-6000:])
    print(f"{name}: found something; the input is in {output}", flush=True)
    return False


def _child() -> None:
    """Run libFuzzer in this process; does not return."""
    import atheris

    with atheris.instrument_imports(include=["raftkv"]):
        from tests.fuzz.targets import TARGETS
    target = TARGETS[os.environ[_CHILD]]
    corpus = Path(sys.argv[-1])
    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    atheris.Setup([sys.argv[0], *sys.argv[2:]], target.run)
    atheris.Fuzz()


if __name__ == "__main__":
    if os.environ.get(_CHILD) and sys.argv[1:2] == ["child"]:
        _child()
    sys.exit(main(sys.argv[1:]))
