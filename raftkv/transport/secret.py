"""The file that holds what all members of a cluster share and nobody else knows.

Owns its format - one line of text, surrounding white space ignored - and the
rules that keep it secret: made with mode 0600, refused when others may read it.
Does not keep the secret, and never puts it into a message or a log.

Who calls: `node` at start, `cli` for `raftkv init` and `raftkv up`.
"""

from __future__ import annotations

import os
import secrets
import stat
from typing import Final

from raftkv.errors import ConfigError

# 128 bits of hexadecimal text: less than that can be guessed off line from one
# recorded handshake.
SECRET_BYTES_MIN: Final = 32
SECRET_BYTES_MAX: Final = 4096
_SETTING: Final = "security.peer_secret_file"


def load_secret(path: str) -> bytes:
    """Read the peer secret.

    Args:
        path: As in the config; empty means that there is none.

    Returns:
        The secret without surrounding white space; empty for an empty path.

    Raises:
        ConfigError: The file is missing, unreadable, too short or too long, not
            a regular file, or readable by group or others.
    """
    if not path:
        return b""
    try:
        # Nonblocking, so that a pipe in its place does not hang the start.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise _refused(path, "is not a regular file")
            if os.name == "posix" and status.st_mode & 0o077:
                mode = stat.S_IMODE(status.st_mode)
                raise _refused(
                    path, f"has mode {mode:04o}, so others may use it; run `chmod 600 {path}`"
                )
            secret = file.read(SECRET_BYTES_MAX + 1).strip()
    except OSError as error:
        raise _refused(path, f"cannot be read: {error.strerror or error}") from error
    if len(secret) < SECRET_BYTES_MIN:
        raise _refused(path, f"holds {len(secret)} bytes; a secret has at least {SECRET_BYTES_MIN}")
    if len(secret) > SECRET_BYTES_MAX:
        raise _refused(path, f"holds more than {SECRET_BYTES_MAX} bytes")
    return secret


def create_secret(path: str) -> None:
    """Write a new random secret, durable on return.

    Missing directories are made with mode 0700.

    Args:
        path: Must not exist: a secret that is in use is never replaced.

    Raises:
        FileExistsError: There is one already.
        OSError: It could not be written; nothing is left behind.
    """
    directory = os.path.dirname(path)
    if directory:
        os.makedirs(directory, mode=0o700, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(secrets.token_hex(32).encode() + b"\n")
            file.flush()
            os.fsync(descriptor)
    except OSError:
        os.unlink(path)
        raise


def _refused(path: str, why: str) -> ConfigError:
    return ConfigError([f"{_SETTING}: {path} {why}"])
