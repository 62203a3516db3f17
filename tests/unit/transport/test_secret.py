"""The secret is read only where nobody else can."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from raftkv.cluster_files import ensure_peer_secret
from raftkv.errors import ConfigError
from raftkv.transport.secret import SECRET_BYTES_MAX, SECRET_BYTES_MIN, load_secret


def write(path: Path, content: bytes, mode: int = 0o600) -> str:
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


def test_no_path_is_no_secret() -> None:
    assert load_secret("") == b""


def test_the_secret_that_a_new_cluster_gets_can_be_read(tmp_path: Path) -> None:
    ensure_peer_secret(tmp_path / "peer.secret")
    secret = load_secret(str(tmp_path / "peer.secret"))
    assert len(secret) == 64
    assert secret == (tmp_path / "peer.secret").read_bytes().strip()


def test_white_space_around_it_is_ignored(tmp_path: Path) -> None:
    """An editor that adds a line end must not split a cluster."""
    plain = write(tmp_path / "plain", b"s" * 40)
    padded = write(tmp_path / "padded", b"  " + b"s" * 40 + b"\r\n\n")
    assert load_secret(plain) == load_secret(padded) == b"s" * 40


@pytest.mark.parametrize(
    ("size", "accepted"),
    [
        (0, False),
        (SECRET_BYTES_MIN - 1, False),
        (SECRET_BYTES_MIN, True),
        (SECRET_BYTES_MAX, True),
        (SECRET_BYTES_MAX + 1, False),
        (10 * SECRET_BYTES_MAX, False),
    ],
)
def test_its_length_is_bounded(tmp_path: Path, size: int, accepted: bool) -> None:
    path = write(tmp_path / "secret", b"s" * size)
    if accepted:
        assert load_secret(path) == b"s" * size
    else:
        with pytest.raises(ConfigError, match=r"peer_secret_file: .* bytes"):
            load_secret(path)


@pytest.mark.skipif(os.name != "posix", reason="modes are those of POSIX")
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o604, 0o602, 0o610])
def test_a_secret_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "secret", b"s" * 64, mode)
    with pytest.raises(ConfigError, match=f"mode {mode:04o}.*chmod 600") as caught:
        load_secret(path)
    assert "ssss" not in str(caught.value)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_secret(str(tmp_path / "missing"))
    with pytest.raises(ConfigError):
        load_secret(str(tmp_path))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_its_place_does_not_hang_the_start(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(ConfigError, match="not a regular file"):
        load_secret(str(tmp_path / "pipe"))
